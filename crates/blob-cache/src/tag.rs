//! What tags pointed at a moment ago.
//!
//! Tags move, so an entry is believed for a limited time. A put replaces what was there; that a tag does not exist is
//! never remembered. An entry from the future, after a clock was set back, is not believed.

mod disk;
mod memory;

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use blob_core::{CacheError, Digest};

pub use disk::DiskTagCache;
pub(crate) use disk::check_file;
pub use memory::MemoryTagCache;

/// What a tag pointed at, and when that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// The digest of the manifest.
    pub digest: Digest,
    /// When a registry said so.
    pub resolved_at: SystemTime,
}

impl TagEntry {
    /// `digest`, as said just now.
    pub fn now(digest: Digest) -> Self {
        Self { digest, resolved_at: SystemTime::now() }
    }

    /// Whether the entry is younger than `ttl` at the time `now`.
    fn is_fresh(&self, ttl: Duration, now: SystemTime) -> bool {
        now.duration_since(self.resolved_at).is_ok_and(|age| age < ttl)
    }
}

/// Remembers tags. Keys are references in full, `registry/repository:tag`.
///
/// `conformance::tag` (feature `conformance`) checks an implementation.
///
/// # Errors
/// Callers treat them as misses, with a warning.
#[async_trait]
pub trait TagCache: fmt::Debug + Send + Sync {
    /// What `key` points at, if that is known and recent.
    async fn get(&self, key: &str) -> Result<Option<TagEntry>, CacheError>;

    /// Remembers `entry` for `key`, in place of what was there. Pushing and tagging call this too.
    async fn put(&self, key: &str, entry: &TagEntry) -> Result<(), CacheError>;

    /// Forgets `key`; absent is fine.
    async fn remove(&self, key: &str) -> Result<(), CacheError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_believed_for_their_time_only() {
        let now = SystemTime::now();
        let ttl = Duration::from_mins(5);
        let age = |seconds| Duration::from_secs(seconds);
        for (resolved_at, expect) in [
            (now, true),
            (now - age(299), true),
            (now - age(300), false),
            (now + age(1), false),
            (SystemTime::UNIX_EPOCH, false),
        ] {
            let entry = TagEntry { digest: Digest::sha256_of(b"m"), resolved_at };
            assert_eq!(entry.is_fresh(ttl, now), expect, "{resolved_at:?}");
            assert!(!entry.is_fresh(Duration::ZERO, now));
        }
    }
}
