//! Counting what the caches give, so that what they save can be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use blob_cache::{BlockKey, BlockStore};
use blob_core::{ByteSource, Cache, CacheError, CacheWriter, Digest};
use bytes::Bytes;

/// What the caches of a client gave so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheUse {
    /// How many times a cache had what was asked for: a file, a block of data, a manifest or an index.
    pub hits: u64,
    /// How many bytes that was, uncompressed for files and as they are stored for everything else.
    pub bytes: u64,
}

/// The counters behind [`CacheUse`]; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<[AtomicU64; 2]>);

impl Counter {
    pub(crate) fn read(&self) -> CacheUse {
        let [hits, bytes] = &*self.0;
        CacheUse { hits: hits.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }

    fn add(&self, bytes: u64) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
        self.0[1].fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A cache or block store whose hits are counted.
#[derive(Debug)]
pub(super) struct Counted<T: ?Sized> {
    inner: Arc<T>,
    counter: Counter,
}

impl<T: ?Sized> Counted<T> {
    pub(super) fn new(inner: Arc<T>, counter: &Counter) -> Self {
        Self { inner, counter: counter.clone() }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Cache + ?Sized> Cache for Counted<T> {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        let found = self.inner.get(digest).await?;
        if let Some(source) = &found {
            self.counter.add(source.size());
        }
        Ok(found)
    }

    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        self.inner.begin(digest, size).await
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.inner.remove(digest).await
    }

    fn verifies(&self) -> bool {
        self.inner.verifies()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: BlockStore + ?Sized> BlockStore for Counted<T> {
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        let found = self.inner.get(key).await?;
        if let Some(block) = &found {
            self.counter.add(block.len() as u64);
        }
        Ok(found)
    }

    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError> {
        self.inner.put(key, value).await
    }

    async fn remove(&self, key: &BlockKey) -> Result<(), CacheError> {
        self.inner.remove(key).await
    }
}
