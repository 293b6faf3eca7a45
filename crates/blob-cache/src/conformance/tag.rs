//! The contract of [`TagCache`], clause by clause. Every clause wants an empty cache that believes entries for five
//! minutes.

use std::time::{Duration, SystemTime};

use blob_core::{Algorithm, Digest};

use crate::{TagCache, TagEntry};

const KEY: &str = "registry.example:5000/team/tool:v1";

fn entry(text: &str) -> TagEntry {
    TagEntry::now(Digest::sha256_of(text.as_bytes()))
}

/// What was never stored is absent.
pub async fn absent_is_none(cache: &dyn TagCache) {
    assert_eq!(cache.get(KEY).await.unwrap(), None, "a cache invents tags");
}

/// Digest and time come back as they were.
pub async fn entries_come_back(cache: &dyn TagCache) {
    let long = TagEntry::now(Digest::of(Algorithm::Sha512, b"m"));
    for (key, entry) in [(KEY, entry("m")), ("ghcr.io/a/b:v1", long)] {
        cache.put(key, &entry).await.unwrap();
        assert_eq!(cache.get(key).await.unwrap(), Some(entry));
    }
}

/// Keys that differ in one letter or in case are others.
pub async fn keys_are_told_apart(cache: &dyn TagCache) {
    let keys = ["r.io/a:1", "r.io/a:2", "r.io/b:1", "r.io/a:latest", "r.io/a:LATEST"];
    for key in keys {
        cache.put(key, &entry(key)).await.unwrap();
    }
    for key in keys {
        assert_eq!(cache.get(key).await.unwrap().map(|found| found.digest), Some(entry(key).digest), "{key}");
    }
}

/// The last put wins.
pub async fn put_replaces(cache: &dyn TagCache) {
    for text in ["first", "second", "first"] {
        cache.put(KEY, &entry(text)).await.unwrap();
        assert_eq!(cache.get(KEY).await.unwrap().map(|found| found.digest), Some(entry(text).digest));
    }
}

/// An entry is believed for its time, and not a moment before it was made.
pub async fn old_and_future_entries_are_absent(cache: &dyn TagCache) {
    let now = SystemTime::now();
    for (resolved_at, expect) in [
        (now - Duration::from_secs(200), true),
        (now - Duration::from_secs(400), false),
        (now + Duration::from_hours(1), false),
        (now + Duration::from_hours(10 * 365 * 24), false),
    ] {
        cache.put(KEY, &TagEntry { resolved_at, ..entry("m") }).await.unwrap();
        assert_eq!(cache.get(KEY).await.unwrap().is_some(), expect, "{resolved_at:?} at {now:?}");
    }
}

/// What was removed is absent, and removing again is fine.
pub async fn remove_is_idempotent(cache: &dyn TagCache) {
    cache.put(KEY, &entry("m")).await.unwrap();
    for _ in 0..2 {
        cache.remove(KEY).await.unwrap();
        assert_eq!(cache.get(KEY).await.unwrap(), None);
    }
}

/// Makes a module of tests, one per clause. The expression makes an empty cache, with whatever keeps it alive.
#[macro_export]
macro_rules! tag_cache_conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::tag_cache_conformance!(
                @each $make => absent_is_none entries_come_back keys_are_told_apart put_replaces
                old_and_future_entries_are_absent remove_is_idempotent
            );
        }
    };
    (@each $make:expr => $($clause:ident)*) => {
        $(#[test]
        fn $clause() {
            let (cache, _keep) = ($make)();
            $crate::conformance::block_on($crate::conformance::tag::$clause(&cache));
        })*
    };
}
