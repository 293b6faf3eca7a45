//! What several tests need.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use blob_cache::{CacheDir, CacheOptions};
use blob_core::{
    ByteSource, ByteSourceExt as _, ByteStream, Cache, CacheError, Digest, Local, MemorySource, SourceError, SourceId,
};
use bytes::Bytes;

/// Bytes that differ with `seed`.
pub(crate) fn content(seed: u64, length: usize) -> Bytes {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..length).map(|_| (random.next() >> 32) as u8).collect::<Vec<u8>>().into()
}

/// Numbers without order (xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(crate) fn open(root: &Path, max_bytes: u64) -> CacheDir {
    CacheDir::open(root, CacheOptions { max_bytes, ..CacheOptions::default() }).unwrap()
}

/// Stores `bytes`; `false` when the cache did not want them.
pub(crate) async fn put(cache: &dyn Cache, bytes: &Bytes) -> Result<bool, CacheError> {
    let digest = Digest::sha256_of(bytes);
    let Some(mut writer) = cache.begin(&digest, bytes.len() as u64).await? else { return Ok(false) };
    writer.write(bytes.clone()).await?;
    writer.commit().await?;
    Ok(true)
}

/// A hit, read whole; failures of reading count as a miss, as they do for readers.
pub(crate) async fn read(cache: &dyn Cache, digest: &Digest) -> Option<Bytes> {
    let hit = cache.get(digest).await.ok()??;
    hit.read(0..hit.size()).await.ok()
}

/// Every file below `root` with a name of at least 64 characters, and whatever took the place of one.
pub(crate) fn entries(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().len() >= 64 {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
        }
    }
    found
}

/// Sets access and modification time of `path` to `age` ago.
pub(crate) fn age(path: &Path, age: Duration) {
    let then = SystemTime::now() - age;
    let times = std::fs::FileTimes::new().set_accessed(then).set_modified(then);
    std::fs::File::open(path).unwrap().set_times(times).unwrap();
}

/// A remote source that counts what is asked of it.
#[derive(Debug)]
pub(crate) struct Counting {
    inner: MemorySource,
    pub(crate) requests: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Counting {
    pub(crate) fn new(bytes: Bytes) -> Arc<Self> {
        Arc::new(Self { inner: MemorySource::new(bytes), requests: AtomicU64::new(0), bytes: AtomicU64::new(0) })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl ByteSource for Counting {
    fn id(&self) -> &SourceId {
        self.inner.id()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(range.end - range.start, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.inner.open(range).await
    }
}
