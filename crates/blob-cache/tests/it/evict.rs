//! The cap, who goes first, and what is never touched.

use std::time::Duration;

use blob_cache::{CacheAdmin, CacheDir, CacheOptions, OpenError, TagCache, TagEntry};
use blob_core::{Cache, Digest};

use crate::support::{age, content, entries, open, put, read};

/// Bytes on disk, by whole pages.
fn held(root: &std::path::Path) -> u64 {
    entries(root).iter().map(|path| path.metadata().unwrap().len().div_ceil(4096) * 4096).sum()
}

#[tokio::test]
async fn the_cap_holds_after_every_store() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 200_000);
    for seed in 0..200 {
        put(&dir.contents(), &content(seed, 1 + (seed as usize * 997) % 30_000)).await.unwrap();
        assert!(held(place.path()) <= 200_000, "after {seed}");
    }
    let usage = dir.usage().await.unwrap();
    assert_eq!(usage.bytes, held(place.path()));
    assert_eq!(usage.entries, entries(place.path()).len() as u64);
    assert!(usage.bytes > 100_000, "an eviction takes about a tenth, not everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cap_holds_for_concurrent_stores() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 400_000);
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let cache = dir.contents();
            tokio::spawn(async move {
                for seed in 0..60 {
                    // Losing a store to the crowd is fine, exceeding the cap is not.
                    let _ = put(&cache, &content(task * 1000 + seed, 9000)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(held(place.path()) <= 400_000, "{}", held(place.path()));
    assert!(entries(place.path()).len() > 10);
}

#[tokio::test]
async fn what_was_unused_for_longest_goes_first() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 20);
    let cache = dir.contents();
    for seed in 0..10 {
        put(&cache, &content(seed, 4000)).await.unwrap();
    }
    for (number, path) in entries(place.path()).iter().enumerate() {
        age(path, Duration::from_hours(24 + number as u64));
    }
    // Reading what is oldest makes it the newest, however often the disk is told.
    let oldest = (0..10).map(|seed| Digest::sha256_of(&content(seed, 4000)));
    let names: Vec<String> = entries(place.path()).iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let oldest = oldest.into_iter().find(|digest| names[9].ends_with(&digest.hex())).unwrap();
    assert!(read(&cache, &oldest).await.is_some());
    assert_eq!(dir.prune(3 * 4096).await.unwrap(), 7 * 4096);
    let left: Vec<String> = entries(place.path()).iter().map(|path| path.to_string_lossy().into_owned()).collect();
    assert_eq!(left.len(), 3);
    for name in [&names[9], &names[0], &names[1]] {
        assert!(left.contains(name));
    }
}

#[tokio::test]
async fn what_was_unused_for_so_long_goes_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 30);
    for seed in 0..6 {
        put(&dir.contents(), &content(seed, 5000)).await.unwrap();
        put(&dir.manifests(), &content(100 + seed, 100)).await.unwrap();
    }
    // Beyond ninety days eviction tells ages no longer apart, and this does.
    let days = |days: u64| Duration::from_hours(24 * days);
    for (number, path) in entries(place.path()).iter().enumerate() {
        age(path, days(40 * number as u64) + Duration::from_mins(1));
    }
    for (older_than, left) in [(days(1000), 12), (days(440), 11), (days(201), 6), (days(40), 1), (Duration::ZERO, 0)] {
        let (before, planned) = (dir.usage().await.unwrap(), dir.unused(older_than).await.unwrap());
        assert_eq!(dir.prune_unused(older_than).await.unwrap(), planned.bytes, "{older_than:?}");
        let usage = dir.usage().await.unwrap();
        assert_eq!((usage.entries, usage.entries + planned.entries), (left, before.entries), "{older_than:?}");
        assert_eq!((usage.bytes, entries(place.path()).len() as u64), (held(place.path()), left));
    }
}

#[tokio::test]
async fn one_cap_covers_all_buckets_and_buckets_have_their_own() {
    let place = tempfile::tempdir().unwrap();
    let options = CacheOptions { max_bytes: 100_000, manifests_max_bytes: Some(20_000), ..CacheOptions::default() };
    let dir = CacheDir::open(place.path(), options).unwrap();
    for seed in 0..20 {
        put(&dir.manifests(), &content(seed, 4000)).await.unwrap();
        assert!(dir.manifests().usage().await.unwrap().bytes <= 20_000);
    }
    assert!(!put(&dir.manifests(), &content(1, 20_481)).await.unwrap(), "larger than the bucket's cap");
    assert!(!put(&dir.contents(), &content(1, 102_400)).await.unwrap(), "larger than the cap");
    for seed in 0..40 {
        put(&dir.contents(), &content(seed, 4000)).await.unwrap();
        put(&dir.indexes(), &content(seed, 4000)).await.unwrap();
        dir.tags().put(&format!("r.io/a:{seed}"), &TagEntry::now(Digest::sha256_of(b"m"))).await.unwrap();
        assert!(dir.usage().await.unwrap().bytes <= 100_000);
    }
    dir.indexes().clear().await.unwrap();
    assert_eq!(dir.indexes().usage().await.unwrap().entries, 0);
    assert!(dir.contents().usage().await.unwrap().entries > 0);
    dir.clear().await.unwrap();
    assert_eq!((dir.usage().await.unwrap().bytes, entries(place.path()).len()), (0, 0));
    put(&dir.contents(), &content(1, 10)).await.unwrap();
}

#[tokio::test]
async fn a_lost_or_damaged_counter_is_put_right() {
    for damage in [&b""[..], b"nonsense", &[0; 104]] {
        let place = tempfile::tempdir().unwrap();
        let dir = open(place.path(), 100_000);
        for seed in 0..10 {
            put(&dir.contents(), &content(seed, 4000)).await.unwrap();
        }
        std::fs::write(place.path().join("usage-v1"), damage).unwrap();
        put(&dir.contents(), &content(11, 4000)).await.unwrap();
        assert_eq!(dir.usage().await.unwrap().entries, 11);
        assert_eq!(dir.usage().await.unwrap().bytes, 11 * 4096);
    }
}

#[tokio::test]
async fn a_directory_without_our_marker_is_never_pruned() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("thesis.tex"), "precious").unwrap();
    assert!(matches!(CacheDir::open(place.path(), CacheOptions::default()), Err(OpenError::Foreign { .. })));

    let root = place.path().join("cache");
    let dir = open(&root, 1 << 20);
    put(&dir.contents(), &content(1, 4000)).await.unwrap();
    // The directory is swapped for another under a running program.
    std::fs::remove_file(root.join("blob-cache.json")).unwrap();
    for outcome in [dir.prune(0).await.map(|_| ()), dir.clear().await, dir.verify().await.map(|_| ())] {
        let error = outcome.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("is not a cache of ours"), "{cause}");
    }
    assert_eq!(entries(&root).len(), 1);
}

#[tokio::test]
async fn files_of_others_in_the_tree_stay() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 20);
    put(&dir.contents(), &content(1, 4000)).await.unwrap();
    let hex = "ab".repeat(32);
    let outside = place.path().join("outside").join("sha256").join("ab");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join(&hex), "x").unwrap();
    std::fs::create_dir_all(place.path().join("content-v2/sha256/ab")).unwrap();
    for name in ["content-v2/sha256/ab/note", "content-v1/sha256/holiday.jpg", "notes.txt"] {
        std::fs::write(place.path().join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink(place.path().join("outside"), place.path().join("manifests-v1")).unwrap();
    std::os::unix::fs::symlink(&outside, place.path().join("content-v1/sha256/zz")).unwrap();
    dir.clear().await.unwrap();
    assert_eq!(entries(place.path()), [outside.join(&hex)]);
    for name in ["content-v2/sha256/ab/note", "content-v1/sha256/holiday.jpg", "notes.txt"] {
        assert!(place.path().join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn a_reader_keeps_what_is_evicted() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 20);
    let bytes = content(1, 100_000);
    put(&dir.contents(), &bytes).await.unwrap();
    let hit = dir.contents().get(&Digest::sha256_of(&bytes)).await.unwrap().unwrap();
    dir.clear().await.unwrap();
    assert!(blob_core::ByteSourceExt::read(&*hit, 0..100_000).await.unwrap() == bytes);
}
