//! The data of an archive that a tag named when it was last asked, which may be a while ago.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, ByteStream, Digest, FailureKind, Local, SourceError, SourceId};
use blob_registry::Reference;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::caches::Caches;

/// A source that may be gone, since the tag may have moved on. When it is, the tag is forgotten, so that whoever tries
/// once more gets what it names now.
#[derive(Debug)]
pub(crate) struct Remembered {
    inner: Arc<dyn ByteSource>,
    reference: Reference,
    /// The manifest that it named.
    named: Digest,
    caches: Caches,
}

impl Remembered {
    /// `source`, whose manifest `tag` named.
    pub(crate) fn new(inner: Arc<dyn ByteSource>, (tag, named): (&Reference, Digest), caches: Caches) -> Self {
        Self { inner, reference: tag.clone(), named, caches }
    }

    async fn open_inner(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        let opened = match self.inner.open(range).await {
            Ok(stream) => stream,
            Err(error) => return Err(gone(error, (&self.reference, &self.named), &self.caches).await),
        };
        // What was begun ahead tells later that there is nothing.
        let (reference, named, caches) = (self.reference.clone(), self.named, self.caches.clone());
        Ok(opened
            .or_else(move |error| {
                let (reference, caches) = (reference.clone(), caches.clone());
                async move { Err(gone(error, (&reference, &named), &caches).await) }
            })
            .boxed())
    }
}

/// The error that tells of it, if what failed is that nothing is there.
async fn gone(error: SourceError, (reference, named): (&Reference, &Digest), caches: &Caches) -> SourceError {
    match error {
        SourceError::Backend { id, kind, source } if kind == FailureKind::NotFound => {
            let forgotten = caches.disbelieve_tag(reference, named).await;
            let source = Box::new(Outdated { reference: reference.clone(), forgotten, source });
            SourceError::Backend { id, kind, source }
        }
        other => other,
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
        self.open_inner(range).await
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        self.inner.keeps(range)
    }

    async fn forget(&self, range: Range<u64>) -> Option<Arc<dyn ByteSource>> {
        self.inner.forget(range).await
    }
}

/// What a tag named when it was last asked for is gone. The tag is forgotten: opening the archive once more asks anew.
#[derive(Debug)]
pub struct Outdated {
    reference: Reference,
    /// Whether the cache forgot it as well, and not this client alone.
    forgotten: bool,
    source: Box<dyn Error + Send + Sync>,
}

impl Outdated {
    /// Whether the cache forgot the tag. If not, another client should leave the cache out.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }
}

impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = &self.reference;
        write!(f, "what {reference} named when it was last asked for is gone; ")?;
        if self.forgotten {
            f.write_str("that is forgotten now, so try once more")
        } else {
            f.write_str("the cache cannot be told, so try once more without it")
        }
    }
}

impl Error for Outdated {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
