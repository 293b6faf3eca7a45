//! Tags in memory.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use blob_core::CacheError;

use super::{TagCache, TagEntry};

/// Remembers tags in memory. Clones share their content.
#[derive(Clone, Debug)]
pub struct MemoryTagCache {
    tags: moka::sync::Cache<String, TagEntry>,
    ttl: Duration,
}

impl MemoryTagCache {
    /// Remembers up to `max_entries` tags, each for `ttl`.
    pub fn new(ttl: Duration, max_entries: u64) -> Self {
        Self { tags: moka::sync::Cache::new(max_entries), ttl }
    }
}

#[async_trait]
impl TagCache for MemoryTagCache {
    async fn get(&self, key: &str) -> Result<Option<TagEntry>, CacheError> {
        Ok(self.tags.get(key).filter(|entry| entry.is_fresh(self.ttl, SystemTime::now())))
    }

    async fn put(&self, key: &str, entry: &TagEntry) -> Result<(), CacheError> {
        self.tags.insert(key.to_owned(), *entry);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), CacheError> {
        self.tags.invalidate(key);
        Ok(())
    }
}
