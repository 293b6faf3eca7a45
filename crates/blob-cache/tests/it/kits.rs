//! Every implementation keeps its contract.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use blob_cache::{
    CacheDir, CacheOptions, DiskCache, MemoryBlockStore, MemoryCache, MemoryOptions, MemoryTagCache, Simple,
    SimpleCache, Tiered,
};
use blob_cache::{block_store_conformance, tag_cache_conformance};
use blob_core::{CacheError, Digest, cache_conformance};
use bytes::Bytes;
use tempfile::TempDir;

fn dir(options: CacheOptions) -> (CacheDir, TempDir) {
    let place = tempfile::tempdir().unwrap();
    (CacheDir::open(place.path().join("cache"), options).unwrap(), place)
}

fn disk(options: CacheOptions) -> (DiskCache, TempDir) {
    let (dir, place) = dir(options);
    (dir.contents(), place)
}

fn memory() -> MemoryCache {
    MemoryCache::new(MemoryOptions { max_bytes: 64 << 20, max_entry_bytes: 2 << 20 })
}

/// What a Redis client would be.
#[derive(Debug, Default)]
struct Table(Mutex<HashMap<Digest, Bytes>>);

#[async_trait]
impl SimpleCache for Table {
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, CacheError> {
        Ok(self.0.lock().unwrap().get(digest).cloned())
    }

    async fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), CacheError> {
        self.0.lock().unwrap().insert(*digest, bytes);
        Ok(())
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.0.lock().unwrap().remove(digest);
        Ok(())
    }
}

cache_conformance!(disk_contents, || disk(CacheOptions::default()));
cache_conformance!(disk_verified_every_time, || disk(CacheOptions { verify_every_time: true, ..Default::default() }));
cache_conformance!(disk_manifests, || {
    let (dir, place) = dir(CacheOptions::default());
    (dir.manifests(), place)
});
cache_conformance!(in_memory, || (memory(), ()));
cache_conformance!(small_memory_over_disk, || {
    let (disk, place) = disk(CacheOptions::default());
    let memory = MemoryCache::new(MemoryOptions { max_bytes: 1 << 20, max_entry_bytes: 64 << 10 });
    (Tiered::new(memory, Arc::new(disk)), place)
});
cache_conformance!(memory_over_table, || {
    let behind = Simple::new(Table::default(), 2 << 20);
    (Tiered::new(memory(), Arc::new(behind)), ())
});
cache_conformance!(simple_table, || (Simple::new(Table::default(), 2 << 20), ()));

block_store_conformance!(disk_blocks, || {
    let (dir, place) = dir(CacheOptions::default());
    (dir.blocks(), place)
});
block_store_conformance!(memory_blocks, || (MemoryBlockStore::new(8 << 20), ()));

tag_cache_conformance!(disk_tags, || {
    let (dir, place) = dir(CacheOptions::default());
    (dir.tags(), place)
});
tag_cache_conformance!(memory_tags, || (MemoryTagCache::new(std::time::Duration::from_mins(5), 100), ()));

mod in_a_runtime {
    use super::*;
    use blob_core::conformance::cache;

    /// The clauses run without a runtime above; here the same work changes threads.
    #[tokio::test]
    async fn disk_work_on_other_threads_keeps_the_contract() {
        for verify_every_time in [false, true] {
            let fresh = || disk(CacheOptions { verify_every_time, ..CacheOptions::default() });
            cache::roundtrip(&fresh().0).await;
            cache::dropping_the_writer_stores_nothing(&fresh().0).await;
            cache::other_content_is_refused(&fresh().0).await;
            cache::other_sizes_are_refused(&fresh().0).await;
            cache::hits_read_the_same_every_way(&fresh().0).await;
        }
    }
}
