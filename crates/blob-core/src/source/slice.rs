//! A part of another source.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::{ByteSource, ByteStream, Local, SourceError, SourceId, check_range};

/// A range of another source as a source of its own.
#[derive(Clone, Debug)]
pub struct SliceSource {
    id: SourceId,
    inner: Arc<dyn ByteSource>,
    range: Range<u64>,
}

impl SliceSource {
    /// The bytes `range` of `inner`.
    ///
    /// # Errors
    /// [`SourceError::OutOfBounds`] if `range` leaves `inner`.
    pub fn new(inner: Arc<dyn ByteSource>, range: Range<u64>) -> Result<Self, SourceError> {
        check_range(inner.id(), &range, inner.size())?;
        let id = SourceId::new(format!("{}#{}-{}", inner.id(), range.start, range.end));
        Ok(Self { id, inner, range })
    }

    /// Gives the slice another id, such as the digest of its content: it must name these very bytes.
    #[must_use]
    pub fn with_id(mut self, id: SourceId) -> Self {
        self.id = id;
        self
    }
}

#[async_trait]
impl ByteSource for SliceSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn local(&self) -> Option<Local<'_>> {
        match self.inner.local()? {
            // A slice of `Bytes` would have to be stored to be lent; streams of it share the memory all the same.
            Local::Bytes(_) => None,
            #[cfg(unix)]
            Local::File { file, offset } => Some(Local::File { file, offset: offset + self.range.start }),
        }
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        check_range(&self.id, &range, self.size())?;
        self.inner.open(self.range.start + range.start..self.range.start + range.end).await
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        check_range(&self.id, range, self.size()).is_ok()
            && self.inner.keeps(&(self.range.start + range.start..self.range.start + range.end))
    }

    async fn forget(&self, range: Range<u64>) -> Option<Arc<dyn ByteSource>> {
        check_range(&self.id, &range, self.size()).ok()?;
        let inner = self.inner.forget(self.range.start + range.start..self.range.start + range.end).await?;
        Some(Arc::new(Self { id: self.id.clone(), inner, range: self.range.clone() }))
    }
}
