//! Verified bytes by digest, in memory.

use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, Cache, CacheError, CacheWriter, Digest, MemorySource};
use bytes::{Bytes, BytesMut};

use crate::admin::{CacheAdmin, Usage, Verified};
use crate::blocking;

/// What an entry costs besides its bytes, roughly.
const OVERHEAD: usize = 256;
/// More than this is hashed on a thread of its own: 256 KiB take a fifth of a millisecond.
const HASHED_IN_PLACE: usize = 256 * 1024;

/// How much a [`MemoryCache`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// The most that all entries together may take, in bytes; 64 MiB by default.
    pub max_bytes: u64,
    /// The largest entry that is kept, in bytes; 1 MiB by default.
    pub max_entry_bytes: u64,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_entry_bytes: 1 << 20 }
    }
}

/// A content-addressed cache in memory that keeps what is used often. Clones share their content.
#[derive(Clone, Debug)]
pub struct MemoryCache {
    entries: moka::sync::Cache<Digest, Bytes>,
    options: MemoryOptions,
}

impl MemoryCache {
    /// An empty cache.
    pub fn new(options: MemoryOptions) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(options.max_bytes)
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len() + OVERHEAD).unwrap_or(u32::MAX))
            .build();
        Self { entries, options }
    }

    /// Whether an entry of `size` bytes is kept at all.
    pub(crate) fn wants(&self, size: u64) -> bool {
        size <= self.options.max_entry_bytes && size.saturating_add(OVERHEAD as u64) <= self.options.max_bytes
    }

    /// The bytes with `digest`.
    pub(crate) fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.entries.get(digest)
    }

    /// Keeps bytes whose digest was checked, if they are wanted.
    pub(crate) fn insert(&self, digest: Digest, bytes: Bytes) {
        if self.wants(bytes.len() as u64) {
            self.entries.insert(digest, bytes);
        }
    }
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::new(MemoryOptions::default())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Cache for MemoryCache {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        let hit = self.bytes(digest).map(|bytes| MemorySource::with_id(bytes, (*digest).into()));
        Ok(hit.map(|source| Arc::new(source) as Arc<dyn ByteSource>))
    }

    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        if !self.wants(size) {
            return Ok(None);
        }
        let gathered = Gathered::new(*digest, size);
        Ok(Some(Box::new(MemoryWriter { cache: self.clone(), gathered })))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.entries.invalidate(digest);
        Ok(())
    }

    /// What was taken in was hashed, and memory of this process stays what it is.
    fn verifies(&self) -> bool {
        true
    }
}

#[async_trait]
impl CacheAdmin for MemoryCache {
    async fn usage(&self) -> Result<Usage, CacheError> {
        self.entries.run_pending_tasks();
        Ok(Usage::new(self.entries.entry_count(), self.entries.weighted_size(), self.options.max_bytes))
    }

    async fn prune(&self, target_bytes: u64) -> Result<u64, CacheError> {
        self.entries.run_pending_tasks();
        let before = self.entries.weighted_size();
        let mut left = before;
        // The policy keeps its order of eviction to itself, so which entries go is arbitrary here.
        for (digest, bytes) in &self.entries {
            if left <= target_bytes {
                break;
            }
            self.entries.invalidate(&*digest);
            left = left.saturating_sub((bytes.len() + OVERHEAD) as u64);
        }
        self.entries.run_pending_tasks();
        Ok(before.saturating_sub(self.entries.weighted_size()))
    }

    async fn clear(&self) -> Result<(), CacheError> {
        self.entries.invalidate_all();
        self.entries.run_pending_tasks();
        Ok(())
    }

    async fn verify(&self) -> Result<Verified, CacheError> {
        let mut verified = Verified::default();
        for (digest, bytes) in &self.entries {
            verified.checked += 1;
            if !matches(*digest, bytes).await? {
                self.entries.invalidate(&*digest);
                verified.dropped += 1;
            }
        }
        Ok(verified)
    }
}

/// Whether `bytes` have `digest`; hashed elsewhere when that takes long.
pub(crate) async fn matches(digest: Digest, bytes: Bytes) -> Result<bool, CacheError> {
    if bytes.len() <= HASHED_IN_PLACE {
        return Ok(digest.matches(&bytes));
    }
    blocking::run(move || Ok(digest.matches(&bytes))).await
}

/// Content that is gathered in memory before it is checked: no more than was announced.
pub(crate) struct Gathered {
    digest: Digest,
    size: u64,
    bytes: BytesMut,
}

impl Gathered {
    /// `size` was bounded by the caller.
    pub(crate) fn new(digest: Digest, size: u64) -> Self {
        Self { digest, size, bytes: BytesMut::with_capacity(size as usize) }
    }

    /// Copies `bytes` in, since they may be a small part of a large buffer.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        let got = self.bytes.len() as u64 + bytes.len() as u64;
        if got > self.size {
            let detail = format!("expected {} bytes, got at least {got}", self.size);
            return Err(CacheError::Mismatch { digest: self.digest, detail });
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The bytes, if they are what was announced.
    pub(crate) async fn finish(self) -> Result<(Digest, Bytes), CacheError> {
        let (digest, got) = (self.digest, self.bytes.len());
        if got as u64 != self.size {
            return Err(CacheError::Mismatch { digest, detail: format!("expected {} bytes, got {got}", self.size) });
        }
        let bytes = self.bytes.freeze();
        if !matches(digest, bytes.clone()).await? {
            let detail = "the bytes have another digest".to_owned();
            return Err(CacheError::Mismatch { digest, detail });
        }
        Ok((digest, bytes))
    }
}

struct MemoryWriter {
    cache: MemoryCache,
    gathered: Gathered,
}

#[async_trait]
impl CacheWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError> {
        self.gathered.push(&bytes)
    }

    async fn commit(self: Box<Self>) -> Result<(), CacheError> {
        let (digest, bytes) = self.gathered.finish().await?;
        self.cache.insert(digest, bytes);
        Ok(())
    }
}
