//! Trouble of one reader or cache that others must not have.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use blob_core::{
    Archive, ArchivePath, ByteSource, ByteStream, Cache, CacheError, CacheWriter, Compression, Digest, ExtractOptions,
    FailureKind, Flights, IndexBuilder, Local, MemorySource, NewFile, ReadError, ReadOptions, SourceError, SourceId,
};
use bytes::Bytes;
use futures_executor::block_on;
use futures_util::future::{FutureExt as _, join_all};
use futures_util::{StreamExt as _, stream};

use crate::support::{Far, Pair, Remote, noise};

/// An archive of one file that claims `digest` for whatever it stores.
fn claiming(digest: Digest, stored: &[u8], flights: &Flights) -> (Archive, Arc<Remote>) {
    let mut builder = IndexBuilder::new();
    builder.file(NewFile {
        path: ArchivePath::new("file").unwrap(),
        data_offset: 0,
        data_size: stored.len() as u64,
        original_size: stored.len() as u64,
        hash: digest.as_bytes().try_into().unwrap(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime_ns: 0,
        compression: Compression::None,
    });
    let index = builder.finish(stored.len() as u64, &Digest::sha256_of(stored)).unwrap();
    let remote = Remote::new(stored.to_vec());
    let mut options = ReadOptions::default();
    options.flights = flights.clone();
    (Archive::open(Arc::new(index), Arc::new(Far(Arc::clone(&remote))), options).unwrap(), remote)
}

#[test]
fn an_archive_that_claims_the_content_of_another_fails_alone() {
    let (content, flights) = (noise(5000, 1), Flights::default());
    let digest = Digest::sha256_of(&content);
    let (hostile, lies) = claiming(digest, &noise(5000, 2), &flights);
    let (healthy, remote) = claiming(digest, &content, &flights);
    let mut leaders: Vec<_> = (0..3).map(|_| Box::pin(hostile.read("file"))).collect();
    let mut waiters: Vec<_> = (0..5).map(|_| Box::pin(healthy.read("file"))).collect();
    // The hostile one reads, everybody else waits for it.
    for read in leaders.iter_mut().chain(&mut waiters) {
        assert!(read.as_mut().now_or_never().is_none());
    }
    for result in block_on(join_all(leaders)) {
        assert!(matches!(result, Err(ReadError::Decode { .. })), "{result:?}");
    }
    for result in block_on(join_all(waiters)) {
        assert_eq!(result.unwrap(), content);
    }
    assert_eq!((lies.requests(), remote.requests()), (1, 1), "those with the same source still share one read");
}

#[test]
fn nobody_joins_a_failure_that_is_over() {
    let (content, flights) = (noise(5000, 3), Flights::default());
    let (archive, remote) = claiming(Digest::sha256_of(b"something else"), &content, &flights);
    let mut first = Box::pin(archive.read("file"));
    let mut waiting = Box::pin(archive.read("file"));
    assert!(first.as_mut().now_or_never().is_none() && waiting.as_mut().now_or_never().is_none());
    assert!(block_on(first).is_err());
    // The one that waits has not come to look yet, and who comes now reads anew.
    assert!(block_on(archive.read("file")).is_err());
    assert_eq!(remote.requests(), 2);
    assert!(block_on(waiting).is_err());
    assert_eq!(remote.requests(), 2);
}

/// A hit that breaks when it is read for the second time.
#[derive(Debug)]
struct Breaking {
    content: MemorySource,
    opened: AtomicU64,
    how: Break,
}

#[derive(Clone, Copy, Debug)]
enum Break {
    Open,
    Middle(usize),
    End(usize),
    /// Other bytes, then an error.
    Other(usize),
    /// Other bytes, as many as it has.
    Lies,
    /// Other bytes without end.
    Endless,
    /// Chunks without bytes, without end.
    Empty,
}

#[async_trait]
impl ByteSource for Breaking {
    fn id(&self) -> &SourceId {
        self.content.id()
    }

    fn size(&self) -> u64 {
        self.content.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        let id = self.id().clone();
        let source = "input/output error".into();
        let error = SourceError::Backend { id, kind: FailureKind::Other, source };
        if self.opened.fetch_add(1, Ordering::SeqCst) == 0 {
            return self.content.open(range).await;
        }
        let Some(Local::Bytes(bytes)) = self.content.local() else { unreachable!("it is in memory") };
        let part = |length: usize| bytes.slice(..length).chunks(100_000).map(Bytes::copy_from_slice).map(Ok).collect();
        if let Break::Endless = self.how {
            let more = stream::repeat_with(|| Ok(Bytes::from_static(&[7; 4096])));
            return Ok(more.boxed());
        }
        if let Break::Empty = self.how {
            return Ok(stream::repeat_with(|| Ok(Bytes::new())).boxed());
        }
        let chunks: Vec<Result<Bytes, SourceError>> = match self.how {
            Break::Open => return Err(error),
            Break::Middle(length) => Vec::into_iter(part(length)).chain([Err(error)]).collect(),
            Break::End(length) => part(length),
            Break::Other(length) => vec![Ok(vec![7; length].into()), Err(error)],
            Break::Lies => vec![Ok(vec![7; bytes.len()].into())],
            Break::Endless | Break::Empty => unreachable!("it was answered"),
        };
        Ok(stream::iter(chunks).boxed())
    }
}

/// A cache that has one content.
#[derive(Debug)]
struct Having(Arc<Breaking>, bool);

#[async_trait]
impl Cache for Having {
    async fn get(&self, _: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        Ok(Some(Arc::clone(&self.0) as Arc<dyn ByteSource>))
    }

    async fn begin(&self, _: &Digest, _: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        Ok(None)
    }

    fn verifies(&self) -> bool {
        self.1
    }

    async fn remove(&self, _: &Digest) -> Result<(), CacheError> {
        Ok(())
    }
}

#[test]
fn a_cache_that_breaks_in_the_middle_of_a_large_file_does_not_fail_the_read() {
    let content = noise(9 << 20, 4);
    for pair in [Pair::new().plain("large", &content), Pair::new().zstd("large", &content)] {
        for verifies in [false, true] {
            for how in [
                Break::Open,
                Break::Middle(0),
                Break::Middle(3 << 20),
                Break::End(100_000),
                Break::End(0),
                Break::Lies,
                Break::Endless,
                Break::Empty,
            ] {
                let hit = MemorySource::new(content.clone());
                // A cache that verifies is not read through first.
                let opened = AtomicU64::new(u64::from(verifies));
                let hit = Arc::new(Breaking { content: hit, opened, how });
                let mut options = ReadOptions::default();
                options.cache = Some(Arc::new(Having(hit, verifies)));
                let remote = pair.remote();
                let source = Arc::new(Far(Arc::clone(&remote)));
                let archive = Archive::open(pair.index(), source, options).unwrap();
                assert!(block_on(archive.read("large")).unwrap() == content, "{how:?}, verifies: {verifies}");
                assert_eq!(remote.requests(), 1, "{how:?}");
            }
        }
    }
}

#[test]
fn a_hit_that_does_not_end_is_left_and_what_was_asked_for_fetched() {
    for (size, seed) in [(5000, 7), (300_000, 8), (9 << 20, 9)] {
        let content = noise(size, seed);
        let pair = Pair::new().plain("file", &content);
        for (verifies, how) in
            [(false, Break::Endless), (true, Break::Endless), (false, Break::Empty), (true, Break::Empty)]
        {
            let options = || {
                let hit = MemorySource::new(content.clone());
                // From the first time on.
                let hit = Arc::new(Breaking { content: hit, opened: AtomicU64::new(1), how });
                let mut options = ReadOptions::default();
                options.cache = Some(Arc::new(Having(hit, verifies)));
                options
            };
            let open = || Archive::open(pair.index(), Arc::new(Far(pair.remote())), options()).unwrap();
            assert!(block_on(open().read("file")).unwrap() == content, "{size}, {how:?}, verifies: {verifies}");
            let place = tempfile::tempdir().unwrap();
            let dest = place.path().join("out");
            let report = block_on(open().copy_dir("", &dest, &ExtractOptions::default())).unwrap();
            assert_eq!(report.cached, 0, "{size}, {how:?}, verifies: {verifies}");
            assert!(std::fs::read(dest.join("file")).unwrap() == content, "{size}, {how:?}, verifies: {verifies}");
        }
    }
}

#[test]
fn what_a_cache_gave_away_before_it_broke_is_compared_with_the_source() {
    let content = noise(9 << 20, 5);
    let pair = Pair::new().plain("large", &content);
    let hit = MemorySource::new(content);
    let hit = Arc::new(Breaking { content: hit, opened: AtomicU64::new(0), how: Break::Other(300_000) });
    let mut options = ReadOptions::default();
    options.cache = Some(Arc::new(Having(hit, false)));
    let archive = Archive::open(pair.index(), Arc::new(Far(pair.remote())), options).unwrap();
    let mut stream = block_on(archive.stream("large")).unwrap();
    let error = loop {
        match block_on(stream.next()) {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("other bytes were handed out, and nobody said so"),
        }
    };
    assert!(matches!(&error, ReadError::Decode { source, .. } if source.is_hash_mismatch()), "{error:?}");
}

/// Counts how often its hits are read, and says that they need not be hashed.
#[test]
fn hits_of_a_cache_that_verifies_are_read_once_and_others_twice() {
    let content = noise(9 << 20, 6);
    let pair = Pair::new().plain("large", &content);
    for (verifies, reads) in [(true, 1), (false, 2)] {
        let content = MemorySource::new(content.clone());
        let size = content.size() as usize;
        let hit = Arc::new(Breaking { content, opened: AtomicU64::new(0), how: Break::End(size) });
        let mut options = ReadOptions::default();
        options.cache = Some(Arc::new(Having(Arc::clone(&hit), verifies)));
        let archive = Archive::open(pair.index(), Arc::new(Far(pair.remote())), options).unwrap();
        block_on(archive.read("large")).unwrap();
        assert_eq!(hit.opened.load(Ordering::SeqCst), reads);
    }
}
