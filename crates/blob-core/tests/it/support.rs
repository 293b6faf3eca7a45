//! What several tests need: archives made by hand, a source that is not local, a cache that can fail and lie.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use blob_core::codec::Encoder;
use blob_core::{
    Archive, ArchiveIndex, ArchivePath, ByteSource, ByteStream, Cache, CacheError, CacheWriter, Compression, Digest,
    FailureKind, IndexBuilder, IndexLimits, Local, MemorySource, NewDirectory, NewFile, NewSymlink, ReadOptions,
    SourceError, SourceId,
};
use bytes::Bytes;
use futures_util::StreamExt as _;

pub(crate) const MTIME: i64 = 1_700_000_000_123_456_789;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/go-archives")
}

/// Builds an index and its data.
#[derive(Default)]
pub(crate) struct Pair {
    pub(crate) builder: IndexBuilder,
    pub(crate) data: Vec<u8>,
    stored: BTreeMap<(Digest, bool), Range<u64>>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a file, stored as it is.
    pub(crate) fn plain(self, path: &str, content: &[u8]) -> Self {
        self.file(path, content, Compression::None, 0o644)
    }

    /// Adds a file, compressed; equal contents share their bytes.
    pub(crate) fn zstd(self, path: &str, content: &[u8]) -> Self {
        self.file(path, content, Compression::Zstd, 0o644)
    }

    pub(crate) fn file(mut self, path: &str, content: &[u8], compression: Compression, mode: u32) -> Self {
        let key = (Digest::sha256_of(content), compression == Compression::Zstd);
        let range = self.stored.get(&key).cloned().unwrap_or_else(|| {
            let start = self.data.len() as u64;
            if key.1 {
                let mut encoder = Encoder::new(3).unwrap();
                encoder.begin(content.len() as u64).unwrap();
                encoder.stream(content, true, &mut self.data).unwrap();
            } else {
                self.data.extend_from_slice(content);
            }
            start..self.data.len() as u64
        });
        self.stored.insert(key, range.clone());
        self.builder.file(NewFile {
            path: ArchivePath::new(path).unwrap(),
            data_offset: range.start,
            data_size: range.end - range.start,
            original_size: content.len() as u64,
            hash: key.0.as_bytes().try_into().unwrap(),
            mode,
            uid: 0,
            gid: 0,
            mtime_ns: MTIME,
            compression,
        });
        self
    }

    pub(crate) fn link(mut self, path: &str, target: &str) -> Self {
        let path = ArchivePath::new(path).unwrap();
        self.builder.symlink(NewSymlink { path, target: target.into(), mtime_ns: MTIME });
        self
    }

    pub(crate) fn dir(mut self, path: &str, mode: u32) -> Self {
        self.builder.empty_dir(NewDirectory { path: ArchivePath::new(path).unwrap(), mode, mtime_ns: MTIME });
        self
    }

    pub(crate) fn index(&self) -> Arc<ArchiveIndex> {
        let digest = Digest::sha256_of(&self.data);
        Arc::new(self.builder.clone().finish(self.data.len() as u64, &digest).unwrap())
    }

    /// The archive with its data in memory.
    pub(crate) fn local(&self) -> Archive {
        self.over(Arc::new(MemorySource::new(self.data.clone())))
    }

    /// The archive over another source.
    pub(crate) fn over(&self, source: Arc<dyn ByteSource>) -> Archive {
        Archive::open(self.index(), source, ReadOptions::default()).unwrap()
    }

    pub(crate) fn remote(&self) -> Arc<Remote> {
        Remote::new(self.data.clone())
    }
}

/// An archive of the Go program with its data in memory.
pub(crate) fn go_archive(name: &str) -> Archive {
    let dir = fixtures().join(name);
    let index = ArchiveIndex::parse(std::fs::read(dir.join("index.blob")).unwrap(), &IndexLimits::default()).unwrap();
    let data = MemorySource::new(std::fs::read(dir.join("data.blob")).unwrap());
    Archive::open(Arc::new(index), Arc::new(data), ReadOptions::default()).unwrap()
}

/// Bytes without a pattern that compression or a hash would forgive.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(step).collect()
}

/// What goes wrong at a byte of a [`Remote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Truncate,
    Fail,
    Stall,
    Flip,
}

/// A source that is not local, counts what it is asked for and what is held of it, and can fail.
#[derive(Debug)]
pub(crate) struct Remote {
    id: SourceId,
    data: Vec<u8>,
    pub(crate) piece: usize,
    pub(crate) fault: Option<(u64, Fault)>,
    pub(crate) opens: AtomicU64,
    pub(crate) streams: Arc<AtomicU64>,
    pub(crate) peak_streams: Arc<AtomicU64>,
    pub(crate) served: Arc<AtomicU64>,
    held: Arc<AtomicU64>,
    pub(crate) peak_held: Arc<AtomicU64>,
}

impl Remote {
    pub(crate) fn new(data: Vec<u8>) -> Arc<Self> {
        Arc::new(Self::plain(data))
    }

    pub(crate) fn faulty(data: Vec<u8>, at: u64, fault: Fault) -> Arc<Self> {
        Arc::new(Self { fault: Some((at, fault)), ..Self::plain(data) })
    }

    pub(crate) fn plain(data: Vec<u8>) -> Self {
        Self {
            id: SourceId::new("remote"),
            data,
            piece: 16 << 10,
            fault: None,
            opens: AtomicU64::new(0),
            streams: Arc::default(),
            peak_streams: Arc::default(),
            served: Arc::default(),
            held: Arc::default(),
            peak_held: Arc::default(),
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.opens.load(Ordering::SeqCst)
    }

    /// Bytes that someone still holds.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    fn chunk(&self, range: &Range<u64>) -> Bytes {
        let mut bytes = self.data[range.start as usize..range.end as usize].to_vec();
        if let Some((at, Fault::Flip)) = self.fault
            && range.contains(&at)
        {
            bytes[(at - range.start) as usize] ^= 1;
        }
        self.served.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        let held = self.held.fetch_add(bytes.len() as u64, Ordering::SeqCst) + bytes.len() as u64;
        self.peak_held.fetch_max(held, Ordering::SeqCst);
        Bytes::from_owner(Held { bytes, counter: Arc::clone(&self.held) })
    }
}

struct Held {
    bytes: Vec<u8>,
    counter: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes.len() as u64, Ordering::SeqCst);
    }
}

struct OpenStream(Arc<AtomicU64>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A [`Remote`] as a source.
#[derive(Clone, Debug)]
pub(crate) struct Far(pub(crate) Arc<Remote>);

#[async_trait]
impl ByteSource for Far {
    fn id(&self) -> &SourceId {
        &self.0.id
    }

    fn size(&self) -> u64 {
        self.0.data.len() as u64
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        blob_core::source::check_range(&self.0.id, &range, self.size())?;
        if range.is_empty() {
            return Ok(futures_util::stream::empty().boxed());
        }
        self.0.opens.fetch_add(1, Ordering::SeqCst);
        let open = self.0.streams.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.peak_streams.fetch_max(open, Ordering::SeqCst);
        let guard = OpenStream(Arc::clone(&self.0.streams));
        let state = (Arc::clone(&self.0), range, guard);
        let chunks = futures_util::stream::unfold(Some(state), |state| async move {
            let (remote, range, guard) = state?;
            if range.is_empty() {
                return None;
            }
            yield_once().await;
            let end = range.end.min(range.start + remote.piece as u64);
            let part = range.start..end;
            if let Some((at, fault)) = remote.fault
                && part.contains(&at)
            {
                match fault {
                    Fault::Truncate => return None,
                    Fault::Stall => std::future::pending::<()>().await,
                    Fault::Fail => {
                        let source = "connection reset".into();
                        let (id, kind) = (remote.id.clone(), FailureKind::Network);
                        return Some((Err(SourceError::Backend { id, kind, source }), None));
                    }
                    Fault::Flip => {}
                }
            }
            let chunk = remote.chunk(&part);
            Some((Ok(chunk), Some((remote, end..range.end, guard))))
        });
        Ok(chunks.boxed())
    }
}

/// Comes back at the next poll, as a network would.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// A content cache in memory.
#[derive(Debug, Default)]
pub(crate) struct MapCache {
    pub(crate) map: Mutex<BTreeMap<Digest, Bytes>>,
    /// Every call fails.
    pub(crate) broken: bool,
    pub(crate) removed: AtomicU64,
}

impl MapCache {
    fn check(&self) -> Result<(), CacheError> {
        if self.broken {
            return Err(CacheError::Backend { action: "asking the map".into(), source: "it is broken".into() });
        }
        Ok(())
    }
}

/// A [`MapCache`] that can be shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedCache(pub(crate) Arc<MapCache>);

#[async_trait]
impl Cache for SharedCache {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        self.0.check()?;
        let found = self.0.map.lock().unwrap().get(digest).cloned();
        Ok(found.map(|bytes| Arc::new(MemorySource::with_id(bytes, (*digest).into())) as Arc<dyn ByteSource>))
    }

    async fn begin(&self, digest: &Digest, _: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        self.0.check()?;
        Ok(Some(Box::new(MapWriter { cache: self.clone(), digest: *digest, bytes: Vec::new() })))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.0.check()?;
        self.0.removed.fetch_add(1, Ordering::SeqCst);
        self.0.map.lock().unwrap().remove(digest);
        Ok(())
    }
}

struct MapWriter {
    cache: SharedCache,
    digest: Digest,
    bytes: Vec<u8>,
}

#[async_trait]
impl CacheWriter for MapWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), CacheError> {
        assert!(self.digest.matches(&self.bytes), "readers store only what they verified");
        self.cache.0.map.lock().unwrap().insert(self.digest, self.bytes.into());
        Ok(())
    }
}
