//! The contract of [`Cache`], clause by clause. Every clause wants an empty cache that takes entries up to 2 MiB.
//!
//! [`cache_conformance!`](crate::cache_conformance) makes one test of each clause.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::cache::{Cache, CacheError, CacheWriter};
use crate::digest::{Algorithm, Digest};
use crate::source::{ByteSource, ByteSourceExt as _, Local};

/// Bytes without a pattern that a cache could get right by accident.
fn content(seed: u8, length: usize) -> Bytes {
    let mut state = u32::from(seed) | 0x9e37_0000;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(step).collect::<Vec<u8>>().into()
}

async fn begin(cache: &dyn Cache, digest: &Digest, size: u64) -> Box<dyn CacheWriter> {
    cache.begin(digest, size).await.unwrap().expect("an empty cache wants small content")
}

async fn store(cache: &dyn Cache, bytes: &Bytes) -> Digest {
    let digest = Digest::sha256_of(bytes);
    let mut writer = begin(cache, &digest, bytes.len() as u64).await;
    writer.write(bytes.clone()).await.unwrap();
    writer.commit().await.unwrap();
    digest
}

async fn assert_absent(cache: &dyn Cache, digest: &Digest, why: &str) {
    assert!(cache.get(digest).await.unwrap().is_none(), "{why}");
}

/// What `local()` lends, as bytes.
fn local_bytes(source: &Arc<dyn ByteSource>) -> Option<Vec<u8>> {
    match source.local()? {
        Local::Bytes(bytes) => Some(bytes.to_vec()),
        #[cfg(unix)]
        Local::File { file, offset } => {
            let mut bytes = vec![0; source.size() as usize];
            std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, offset).unwrap();
            Some(bytes)
        }
    }
}

/// What was never stored is absent.
pub async fn absent_is_none(cache: &dyn Cache) {
    assert_absent(cache, &Digest::sha256_of(b"never stored"), "the cache invents content").await;
    let neighbour = store(cache, &content(1, 100)).await;
    assert_absent(cache, &Digest::of(Algorithm::Sha512, &content(1, 100)), "digests of two algorithms are two").await;
    assert!(cache.get(&neighbour).await.unwrap().is_some(), "the cache forgets at once");
}

/// What was stored comes back, under either algorithm, empty or not, in one piece or many, and more than once.
pub async fn roundtrip(cache: &dyn Cache) {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for (length, piece) in [(0, 1), (1, 1), (1000, 7), (65_536, 65_536), (1_500_000, 100_000)] {
            let bytes = content(2, length);
            let digest = Digest::of(algorithm, &bytes);
            let mut writer = begin(cache, &digest, length as u64).await;
            for piece in bytes.chunks(piece) {
                writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            writer.commit().await.unwrap();
            for _ in 0..2 {
                let hit = cache.get(&digest).await.unwrap().expect("stored content is there");
                assert_eq!(hit.size(), length as u64);
                assert!(hit.read(0..hit.size()).await.unwrap() == bytes, "{length} bytes came back as others");
            }
        }
    }
}

/// Nothing is stored before the commit, and nothing at all when the writer is dropped.
pub async fn dropping_the_writer_stores_nothing(cache: &dyn Cache) {
    for length in [10, 1_500_000] {
        let bytes = content(3, length);
        let digest = Digest::sha256_of(&bytes);
        let mut writer = begin(cache, &digest, length as u64).await;
        writer.write(bytes).await.unwrap();
        assert_absent(cache, &digest, "content is visible before its commit").await;
        drop(writer);
        assert_absent(cache, &digest, "an abandoned writer stored its content").await;
    }
}

/// Content with another digest than announced is a mismatch, and is stored under neither.
pub async fn other_content_is_refused(cache: &dyn Cache) {
    for length in [0, 10, 1_500_000] {
        let (bytes, announced) = (content(4, length), Digest::sha256_of(b"something else"));
        let mut writer = begin(cache, &announced, length as u64).await;
        writer.write(bytes.clone()).await.unwrap();
        let error = writer.commit().await.expect_err("content with another digest was taken");
        assert!(matches!(error, CacheError::Mismatch { .. }), "{error:?}");
        assert_absent(cache, &announced, "content with another digest was stored").await;
        assert_absent(cache, &Digest::sha256_of(&bytes), "refused content was stored under its own digest").await;
    }
}

/// Content of another size than announced is a mismatch, and is not stored, even if its digest is right.
pub async fn other_sizes_are_refused(cache: &dyn Cache) {
    let bytes = content(5, 1000);
    let digest = Digest::sha256_of(&bytes);
    for announced in [0, 999, 1001, 2000] {
        let mut writer = begin(cache, &digest, announced).await;
        let outcome = match writer.write(bytes.clone()).await {
            Ok(()) => writer.commit().await,
            refused => refused,
        };
        let error = outcome.expect_err("content of another size was taken");
        assert!(matches!(error, CacheError::Mismatch { .. }), "{error:?}");
        assert_absent(cache, &digest, "content of another size was stored").await;
    }
}

/// What was removed is absent, its neighbours are not, removing again is fine, and storing again works.
pub async fn remove_is_idempotent(cache: &dyn Cache) {
    let (gone, stays) = (content(6, 100), store(cache, &content(7, 100)).await);
    for _ in 0..2 {
        let digest = store(cache, &gone).await;
        for _ in 0..2 {
            cache.remove(&digest).await.unwrap();
            assert_absent(cache, &digest, "removed content is still there").await;
        }
    }
    assert!(cache.get(&stays).await.unwrap().is_some(), "removing took a neighbour along");
}

/// Storing what is there already is fine, whether the cache wants it or not.
pub async fn storing_twice_is_fine(cache: &dyn Cache) {
    let bytes = content(8, 5000);
    let digest = store(cache, &bytes).await;
    if let Some(mut writer) = cache.begin(&digest, 5000).await.unwrap() {
        writer.write(bytes.clone()).await.unwrap();
        writer.commit().await.unwrap();
    }
    let hit = cache.get(&digest).await.unwrap().expect("stored content is there");
    assert_eq!(hit.read(0..5000).await.unwrap(), bytes);
}

/// A hit is a sound source: what it lends locally, its stream and its ranges are the same bytes, and its id is the
/// digest.
pub async fn hits_read_the_same_every_way(cache: &dyn Cache) {
    let bytes = content(9, 1_200_000);
    let digest = store(cache, &bytes).await;
    let hit = cache.get(&digest).await.unwrap().expect("stored content is there");
    assert_eq!(hit.id().as_str(), digest.to_string(), "the id of a hit is its digest");
    if let Some(local) = local_bytes(&hit) {
        assert!(bytes == local, "what the hit lends locally is something else");
    }
    let chunks: Vec<Bytes> = hit.open(0..hit.size()).await.unwrap().try_collect().await.unwrap();
    assert!(chunks.concat() == bytes, "the stream of a hit is something else");
    for range in [0..0, 0..1, 77..4096, 1_048_570..1_048_590, 1_199_999..1_200_000, 1_200_000..1_200_000] {
        let expected = bytes.slice(range.start as usize..range.end as usize);
        assert!(hit.read(range.clone()).await.unwrap() == expected, "{range:?} of a hit is something else");
    }
    assert!(hit.open(0..1_200_001).await.is_err(), "a range beyond the end was not refused");
}

/// A hit that is held stays readable after its entry was removed.
pub async fn held_hits_survive_removal(cache: &dyn Cache) {
    let bytes = content(10, 100_000);
    let digest = store(cache, &bytes).await;
    let hit = cache.get(&digest).await.unwrap().expect("stored content is there");
    cache.remove(&digest).await.unwrap();
    assert!(hit.read(0..100_000).await.unwrap() == bytes);
}

/// Makes a module of tests, one per clause. The expression makes an empty cache, with whatever keeps it alive:
/// `cache_conformance!(memory, || (MemoryCache::default(), ()));`
#[macro_export]
macro_rules! cache_conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::cache_conformance!(
                @each $make => absent_is_none roundtrip dropping_the_writer_stores_nothing other_content_is_refused
                other_sizes_are_refused remove_is_idempotent storing_twice_is_fine hits_read_the_same_every_way
                held_hits_survive_removal
            );
        }
    };
    (@each $make:expr => $($clause:ident)*) => {
        $(#[test]
        fn $clause() {
            let (cache, _keep) = ($make)();
            $crate::conformance::block_on($crate::conformance::cache::$clause(&cache));
        })*
    };
}
