//! The block cache: what it costs, and that it changes nothing but that.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_cache::{BlockCache, BlockKey, BlockOptions, BlockStore, CacheAdmin, MemoryBlockStore};
use blob_core::{ByteSource, ByteSourceExt as _, CacheError, MemorySource, SourceError};
use bytes::Bytes;
use proptest::prelude::*;

use crate::support::{Counting, Random, content, entries, open};

const KIB: u64 = 1024;

fn memory() -> BlockCache {
    BlockCache::new(Arc::new(MemoryBlockStore::new(64 << 20)))
}

/// Reads `ranges` through `cache` and without; returns the requests of both.
async fn compare(cache: &BlockCache, options: BlockOptions, bytes: &Bytes, ranges: &[Range<u64>]) -> (u64, u64) {
    let (plain, counted) = (Counting::new(bytes.clone()), Counting::new(bytes.clone()));
    let cached = cache.wrap(Arc::clone(&counted) as Arc<dyn ByteSource>, options);
    for range in ranges {
        let expected = plain.read(range.clone()).await.unwrap();
        assert!(cached.read(range.clone()).await.unwrap() == expected, "{range:?}");
    }
    (counted.requests(), plain.requests())
}

fn in_steps(size: u64, step: u64) -> Vec<Range<u64>> {
    (0..size.div_ceil(step)).map(|number| number * step..size.min((number + 1) * step)).collect()
}

#[tokio::test]
async fn sequential_reads_never_cost_more_requests() {
    let bytes = content(1, 3_000_001);
    for step in [1000, 4 * KIB, 60_000, 64 * KIB, 100_000, 200_000, 256 * KIB, 300_000, 1 << 20, 4 << 20] {
        let ranges = in_steps(bytes.len() as u64, step);
        let (cached, plain) = compare(&memory(), BlockOptions::default(), &bytes, &ranges).await;
        assert!(cached <= plain, "{cached} requests instead of {plain} in steps of {step}");
        if step < 32 * KIB {
            assert_eq!(cached, bytes.len().div_ceil(64 * 1024) as u64, "one request per block in steps of {step}");
        }
    }
}

#[tokio::test]
async fn holes_between_kept_blocks_cost_one_request() {
    let bytes = content(2, 4 * 64 * 1024);
    let block = |index: u64| index * 64 * KIB..(index + 1) * 64 * KIB;
    let ranges = [block(1), block(3), 0..256 * KIB, 0..256 * KIB];
    assert_eq!(compare(&memory(), BlockOptions::default(), &bytes, &ranges).await, (3, 4));
}

#[tokio::test]
async fn random_reads_cost_a_tenth() {
    let bytes = content(3, 4 << 20);
    let mut random = Random(7);
    let ranges: Vec<_> = (0..2000)
        .map(|_| {
            let start = random.below((4 << 20) - 4096);
            start..start + 1 + random.below(4096)
        })
        .collect();
    let place = tempfile::tempdir().unwrap();
    let disk = BlockCache::new(Arc::new(open(&place.path().join("cache"), 1 << 30).blocks()));
    for cache in [memory(), disk] {
        let (cached, plain) = compare(&cache, BlockOptions::default(), &bytes, &ranges).await;
        assert!(cached * 10 <= plain, "{cached} requests instead of {plain}");
    }
}

#[tokio::test]
async fn blocks_outlive_the_process_and_are_shared_by_source() {
    let place = tempfile::tempdir().unwrap();
    let bytes = content(4, 1 << 20);
    for round in 0..2 {
        let store = open(place.path(), 1 << 30).blocks();
        let ranges = in_steps(1 << 20, 16 * KIB);
        let (cached, _) = compare(&BlockCache::new(Arc::new(store)), BlockOptions::default(), &bytes, &ranges).await;
        assert_eq!(cached, if round == 0 { 16 } else { 0 });
    }
    assert_eq!(entries(place.path()).len(), 1, "sixteen blocks are one file");
}

#[tokio::test]
async fn concurrent_readers_of_one_block_fetch_it_once() {
    let counted = Counting::new(content(5, 200_000));
    let cached = memory().wrap(Arc::clone(&counted) as Arc<dyn ByteSource>, BlockOptions::default());
    let reads = (0..20_u64).map(|number| cached.read(number * 10..number * 10 + 5000));
    let all = futures_util::future::join_all(reads).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(counted.requests(), 1);
}

#[tokio::test]
async fn local_sources_are_left_alone_and_bounds_are_kept() {
    let local: Arc<dyn ByteSource> = Arc::new(MemorySource::new(content(6, 1000)));
    assert!(Arc::ptr_eq(&memory().wrap(Arc::clone(&local), BlockOptions::default()), &local));
    let counted = Counting::new(content(6, 1000));
    let cached = memory().wrap(Arc::clone(&counted) as Arc<dyn ByteSource>, BlockOptions::default());
    assert!(matches!(cached.open(0..1001).await, Err(SourceError::OutOfBounds { .. })));
    assert!(cached.read(500..500).await.unwrap().is_empty());
    assert_eq!(counted.requests(), 0);
}

#[tokio::test]
async fn damaged_blocks_are_fetched_again() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 30);
    let cache = BlockCache::new(Arc::new(dir.blocks()));
    let bytes = content(8, 1 << 20);
    let ranges = in_steps(1 << 20, 64 * KIB);
    compare(&cache, BlockOptions::default(), &bytes, &ranges).await;
    let pack = entries(place.path()).remove(0);
    let sound = std::fs::read(&pack).unwrap();
    // A flipped bit in every third block, then other kinds of damage to the whole file.
    let mut flipped = sound.clone();
    for block in (0..16).step_by(3) {
        flipped[4096 + block * 65_600 + 1000] ^= 4;
    }
    std::fs::write(&pack, flipped).unwrap();
    assert_eq!(compare(&cache, BlockOptions::default(), &bytes, &ranges).await.0, 6);
    assert_eq!(compare(&cache, BlockOptions::default(), &bytes, &ranges).await.0, 0);
    for length in [0, 3, 4096, 70_000, 500_000] {
        std::fs::write(&pack, &sound[..length]).unwrap();
        compare(&cache, BlockOptions::default(), &bytes, &ranges).await;
        assert_eq!(compare(&cache, BlockOptions::default(), &bytes, &ranges).await.0, 0, "cut to {length}");
    }
    std::fs::remove_file(&pack).unwrap();
    std::fs::create_dir(&pack).unwrap();
    compare(&cache, BlockOptions::default(), &bytes, &ranges).await;
    assert_eq!(compare(&cache, BlockOptions::default(), &bytes, &ranges).await.0, 0);
    let mut swapped = sound.clone();
    swapped[4096..4096 + 65_600].copy_from_slice(&sound[4096 + 65_600..4096 + 2 * 65_600]);
    std::fs::write(&pack, &swapped).unwrap();
    let looked = dir.verify_only().await.unwrap();
    assert_eq!((looked.checked, looked.dropped), (16, 1));
    assert!(std::fs::read(&pack).unwrap() == swapped, "looking changed the pack");
    let verified = dir.verify().await.unwrap();
    assert_eq!((verified.checked, verified.dropped), (16, 1), "a block in another's place is damage");
    assert_eq!(compare(&cache, BlockOptions::default(), &bytes, &ranges).await.0, 1);
}

/// A store that does not work.
#[derive(Debug)]
struct Broken;

fn broken() -> CacheError {
    CacheError::Backend { action: "talking to the store".into(), source: "connection refused".into() }
}

#[async_trait]
impl BlockStore for Broken {
    async fn get(&self, _: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        Err(broken())
    }

    async fn put(&self, _: &BlockKey, _: Bytes) -> Result<(), CacheError> {
        Err(broken())
    }

    async fn remove(&self, _: &BlockKey) -> Result<(), CacheError> {
        Err(broken())
    }
}

/// A store that returns other bytes than it was given.
#[derive(Debug)]
struct Garbler(MemoryBlockStore);

#[async_trait]
impl BlockStore for Garbler {
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        self.0.get(&key.with_index(key.index() ^ 1)).await
    }

    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError> {
        self.0.put(key, value).await
    }

    async fn remove(&self, key: &BlockKey) -> Result<(), CacheError> {
        self.0.remove(key).await
    }
}

#[tokio::test]
async fn a_failing_or_lying_store_never_fails_a_read() {
    let bytes = content(9, 1_000_000);
    let ranges = in_steps(1_000_000, 30_000);
    for store in [Arc::new(Broken) as Arc<dyn BlockStore>, Arc::new(Garbler(MemoryBlockStore::new(8 << 20)))] {
        let (cached, plain) = compare(&BlockCache::new(store), BlockOptions::default(), &bytes, &ranges).await;
        assert!(cached <= plain);
    }
}

#[tokio::test]
async fn failures_of_the_source_reach_every_reader_and_are_not_kept() {
    #[derive(Debug)]
    struct Flaky(Arc<Counting>);

    #[async_trait]
    impl ByteSource for Flaky {
        fn id(&self) -> &blob_core::SourceId {
            self.0.id()
        }

        fn size(&self) -> u64 {
            self.0.size()
        }

        fn local(&self) -> Option<blob_core::Local<'_>> {
            None
        }

        async fn open(&self, range: Range<u64>) -> Result<blob_core::ByteStream, SourceError> {
            let stream = self.0.open(range.clone()).await?;
            if self.0.requests() > 1 {
                return Ok(stream);
            }
            Err(SourceError::Truncated { id: self.0.id().clone(), expected: range.end, got: 0 })
        }
    }
    let counted = Counting::new(content(10, 1000));
    let cached = memory().wrap(Arc::new(Flaky(counted)), BlockOptions::default());
    let (a, b) = tokio::join!(cached.read(0..10), cached.read(5..10));
    assert!(a.unwrap_err().is_transient() && b.unwrap_err().is_transient());
    assert!(cached.read(0..10).await.is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_reads_equal_the_plain_source(
        size in 0_usize..5000,
        block_size in 64_u32..700,
        max_blocks_per_read in 0_u32..6,
        reads in prop::collection::vec((0_u64..=1000, 0_u64..=1000), 1..40),
        on_disk in any::<bool>(),
    ) {
        let bytes = content(size as u64, size);
        let place = tempfile::tempdir().unwrap();
        let cache = if on_disk {
            BlockCache::new(Arc::new(open(&place.path().join("cache"), 1 << 20).blocks()))
        } else {
            memory()
        };
        let ranges: Vec<_> = reads
            .into_iter()
            .map(|(a, b)| a.min(b) * size as u64 / 1000..a.max(b) * size as u64 / 1000)
            .collect();
        let options = BlockOptions { block_size, max_blocks_per_read };
        let (cached, plain) = futures_executor::block_on(compare(&cache, options, &bytes, &ranges));
        prop_assert!(cached <= plain);
    }
}
