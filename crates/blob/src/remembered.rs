//! The data of an archive that a tag named when it was last asked, which may be a while ago.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, ByteStream, Local, SourceError, SourceId};
use blob_registry::Reference;

use crate::caches::Caches;

/// A source that may be gone, since the tag may have moved on. When it is, the tag is forgotten, so that whoever tries
/// once more gets what it names now.
#[derive(Debug)]
pub(crate) struct Remembered {
    inner: Arc<dyn ByteSource>,
    reference: Reference,
    caches: Caches,
}

impl Remembered {
    pub(crate) fn new(inner: Arc<dyn ByteSource>, reference: Reference, caches: Caches) -> Self {
        Self { inner, reference, caches }
    }

    async fn gone(&self, error: SourceError) -> SourceError {
        match error {
            SourceError::Backend { id, kind, source } if kind == blob_core::FailureKind::NotFound => {
                self.caches.forget_tag(&self.reference).await;
                let source = Box::new(Outdated { reference: self.reference.clone(), source });
                SourceError::Backend { id, kind, source }
            }
            other => other,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ByteSource for Remembered {
    fn id(&self) -> &SourceId {
        self.inner.id()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        self.inner.local()
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        match self.inner.open(range).await {
            Err(error) => Err(self.gone(error).await),
            opened => opened,
        }
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        self.inner.keeps(range)
    }

    async fn forget(&self, range: Range<u64>) -> Option<Arc<dyn ByteSource>> {
        self.inner.forget(range).await
    }
}

/// What a tag named is gone.
#[derive(Debug)]
struct Outdated {
    reference: Reference,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = &self.reference;
        write!(f, "what {reference} named when it was last asked for is gone; that is forgotten now, so try once more")
    }
}

impl Error for Outdated {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
