//! The contract of [`ByteSource`], clause by clause. Every clause makes its own sources from bytes of its choosing.
//!
//! [`byte_source_conformance!`](crate::byte_source_conformance) makes one test of each clause.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::source::{ByteSource, ByteSourceExt as _, Local, SourceError};

/// Bytes without a pattern that a source could get right by accident; many enough for several chunks.
pub fn sample() -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..2_500_003).map(step).collect::<Vec<u8>>().into()
}

async fn collect(source: &dyn ByteSource, range: std::ops::Range<u64>) -> Vec<u8> {
    let chunks: Vec<Bytes> = source.open(range).await.unwrap().try_collect().await.unwrap();
    assert!(chunks.iter().all(|chunk| !chunk.is_empty()), "a stream yields no empty chunks");
    chunks.concat()
}

/// Every range comes out exactly, in order, as often as it is asked for.
pub async fn ranges_are_exact(make: impl AsyncFn(Bytes) -> Arc<dyn ByteSource>) {
    let bytes = sample();
    let source = make(bytes.clone()).await;
    let size = source.size();
    assert_eq!(size, bytes.len() as u64);
    for range in [0..size, 0..1, size - 1..size, 1000..1001, 65_535..65_537, 1_000_000..2_200_000, 0..size] {
        let expected = &bytes[range.start as usize..range.end as usize];
        assert!(collect(&*source, range.clone()).await == expected, "bytes {range:?} came out as others");
        assert!(source.read(range.clone()).await.unwrap() == expected, "bytes {range:?} came out as others");
    }
}

/// Empty ranges yield nothing, also at the very end.
pub async fn empty_ranges_yield_nothing(make: impl AsyncFn(Bytes) -> Arc<dyn ByteSource>) {
    let source = make(sample()).await;
    for at in [0, 1, source.size()] {
        assert!(collect(&*source, at..at).await.is_empty());
    }
}

/// A source of no bytes is a source.
pub async fn no_bytes_are_fine(make: impl AsyncFn(Bytes) -> Arc<dyn ByteSource>) {
    let source = make(Bytes::new()).await;
    assert_eq!(source.size(), 0);
    assert!(collect(&*source, 0..0).await.is_empty());
    assert!(matches!(source.open(0..1).await.map(drop), Err(SourceError::OutOfBounds { .. })));
}

/// Ranges that leave the source, or run backwards, are refused at once.
pub async fn ranges_outside_are_refused(make: impl AsyncFn(Bytes) -> Arc<dyn ByteSource>) {
    let source = make(sample()).await;
    let size = source.size();
    #[allow(clippy::reversed_empty_ranges, reason = "what callers get wrong")]
    for range in [0..size + 1, size..size + 1, size + 1..size + 1, 0..u64::MAX, u64::MAX..u64::MAX, 10..5] {
        let opened = source.open(range.clone()).await.map(drop);
        assert!(matches!(opened, Err(SourceError::OutOfBounds { .. })), "{range:?}: {opened:?}");
    }
}

/// The id stays the same, and other bytes have another one.
pub async fn ids_pin_the_bytes(make: impl AsyncFn(Bytes) -> Arc<dyn ByteSource>) {
    let bytes = sample();
    let source = make(bytes.clone()).await;
    let before = source.id().clone();
    assert!(!before.as_str().is_empty());
    collect(&*source, 0..100).await;
    assert_eq!(*source.id(), before);
    let mut other = bytes.to_vec();
    other[1_000_000] ^= 1;
    assert_ne!(*make(other.into()).await.id(), before, "other bytes go by the same id");
}

/// What a source lends of itself is what its streams say.
pub async fn local_bytes_are_the_same(make: impl AsyncFn(Bytes) -> Arc<dyn ByteSource>) {
    let bytes = sample();
    let source = make(bytes.clone()).await;
    match source.local() {
        None => {}
        Some(Local::Bytes(local)) => assert!(*local == bytes, "the memory holds other bytes"),
        #[cfg(unix)]
        Some(Local::File { file, offset }) => {
            let mut local = vec![0; bytes.len()];
            std::os::unix::fs::FileExt::read_exact_at(file, &mut local, offset).unwrap();
            assert!(local == bytes, "the file holds other bytes");
        }
    }
}

/// Streams do not disturb one another, and a dropped one disturbs nobody.
pub async fn streams_are_independent(make: impl AsyncFn(Bytes) -> Arc<dyn ByteSource>) {
    let bytes = sample();
    let source = make(bytes.clone()).await;
    let size = source.size();
    let (mut a, mut b) = (source.open(0..size).await.unwrap(), source.open(5..size).await.unwrap());
    let (mut got_a, mut got_b) = (Vec::new(), Vec::new());
    let mut dropped = source.open(0..size).await.unwrap();
    dropped.try_next().await.unwrap();
    drop(dropped);
    loop {
        let (next_a, next_b) = (a.try_next().await.unwrap(), b.try_next().await.unwrap());
        if next_a.is_none() && next_b.is_none() {
            break;
        }
        got_a.extend_from_slice(&next_a.unwrap_or_default());
        got_b.extend_from_slice(&next_b.unwrap_or_default());
    }
    assert!(got_a == bytes && got_b == bytes[5..], "two streams at a time disturb each other");
}

/// Makes a module of tests, one per clause. The second argument makes a source of given bytes; a third one runs a future
/// to its end, for sources that want a runtime of their own.
///
/// ```
/// # use std::sync::Arc;
/// use blob_core::{ByteSource, MemorySource};
///
/// blob_core::byte_source_conformance!(memory, async |bytes| Arc::new(MemorySource::new(bytes)) as Arc<dyn ByteSource>);
/// ```
#[macro_export]
macro_rules! byte_source_conformance {
    ($name:ident, $make:expr) => {
        $crate::byte_source_conformance!($name, $make, $crate::conformance::block_on);
    };
    ($name:ident, $make:expr, $block_on:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::byte_source_conformance!(
                @each $make, $block_on => ranges_are_exact empty_ranges_yield_nothing no_bytes_are_fine
                ranges_outside_are_refused ids_pin_the_bytes local_bytes_are_the_same streams_are_independent
            );
        }
    };
    (@each $make:expr, $block_on:expr => $($clause:ident)*) => {
        $(#[test]
        fn $clause() {
            let run = $block_on;
            run($crate::conformance::source::$clause($make));
        })*
    };
}
