//! A source in memory.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::{ByteSource, ByteStream, Local, SourceError, SourceId, check_range};
use crate::digest::Digest;

/// Bytes in memory; its id is their SHA-256 digest.
#[derive(Clone, Debug)]
pub struct MemorySource {
    id: SourceId,
    bytes: Bytes,
}

impl MemorySource {
    /// Hashes `bytes` for their id and shares them.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { id: Digest::sha256_of(&bytes).into(), bytes }
    }

    /// Shares `bytes` whose digest is known: `id` must name these very bytes.
    pub fn with_id(bytes: impl Into<Bytes>, id: SourceId) -> Self {
        Self { id, bytes: bytes.into() }
    }
}

#[async_trait]
impl ByteSource for MemorySource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn local(&self) -> Option<Local<'_>> {
        Some(Local::Bytes(&self.bytes))
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        check_range(&self.id, &range, self.size())?;
        let chunk = self.bytes.slice(range.start as usize..range.end as usize);
        Ok(stream::iter((!chunk.is_empty()).then_some(Ok(chunk))).boxed())
    }
}
