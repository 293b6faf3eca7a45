//! Blocks in memory.

use async_trait::async_trait;
use blob_core::CacheError;
use bytes::Bytes;

use super::{BlockKey, BlockStore};

/// What a block costs besides its bytes, roughly.
const OVERHEAD: usize = 192;

/// Keeps blocks in memory, those in frequent use longest. Clones share their content.
#[derive(Clone, Debug)]
pub struct MemoryBlockStore {
    blocks: moka::sync::Cache<BlockKey, Bytes>,
}

impl MemoryBlockStore {
    /// Keeps up to `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        let blocks = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, value: &Bytes| u32::try_from(value.len() + OVERHEAD).unwrap_or(u32::MAX))
            .build();
        Self { blocks }
    }
}

#[async_trait]
impl BlockStore for MemoryBlockStore {
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        Ok(self.blocks.get(key))
    }

    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError> {
        self.blocks.insert(*key, value);
        Ok(())
    }

    async fn remove(&self, key: &BlockKey) -> Result<(), CacheError> {
        self.blocks.invalidate(key);
        Ok(())
    }
}
