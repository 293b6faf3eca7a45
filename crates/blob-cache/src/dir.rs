//! A cache directory: one root, one cap, several buckets.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use blob_core::{CacheError, Digest};
use parking::Parking;

use crate::admin::{CacheAdmin, Usage, Verified};
use crate::block::DiskBlockStore;
use crate::check::Damage;
use crate::disk::DiskCache;
use crate::error::{OpenError, disk};
use crate::evict::{self, Scope};
use crate::files::{Stamp, TempFile, is_absent, make_dirs};
use crate::layout::{self, BUCKETS, Bucket};
use crate::tag::DiskTagCache;
use crate::usage::Tally;
use crate::{blocking, check, marker};

/// How many entries' checks a process remembers.
const REMEMBERED: u64 = 64 * 1024;

/// How a cache directory behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// The most that all buckets together may hold, in bytes; 5 GiB by default.
    pub max_bytes: u64,
    /// A lower cap for file contents.
    pub contents_max_bytes: Option<u64>,
    /// A lower cap for manifests.
    pub manifests_max_bytes: Option<u64>,
    /// A lower cap for archive indexes.
    pub indexes_max_bytes: Option<u64>,
    /// A lower cap for blocks of remote data.
    pub blocks_max_bytes: Option<u64>,
    /// A lower cap for tags.
    pub tags_max_bytes: Option<u64>,
    /// How long a tag is believed; 5 minutes by default.
    pub tag_ttl: Duration,
    /// Whether content is hashed on every hit rather than on the first one of each process. False by default.
    pub verify_every_time: bool,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            max_bytes: 5 << 30,
            contents_max_bytes: None,
            manifests_max_bytes: None,
            indexes_max_bytes: None,
            blocks_max_bytes: None,
            tags_max_bytes: None,
            tag_ttl: Duration::from_mins(5),
            verify_every_time: false,
        }
    }
}

impl CacheOptions {
    /// The cap of one bucket, in bytes.
    pub(crate) fn cap(&self, bucket: Bucket) -> u64 {
        let own = match bucket {
            Bucket::Contents => self.contents_max_bytes,
            Bucket::Manifests => self.manifests_max_bytes,
            Bucket::Indexes => self.indexes_max_bytes,
            Bucket::Blocks => self.blocks_max_bytes,
            Bucket::Tags => self.tags_max_bytes,
        };
        own.unwrap_or(self.max_bytes).min(self.max_bytes)
    }
}

/// A directory that holds caches, shared by any number of threads and processes.
///
/// The caches handed out share its cap: what was unused for longest goes first, whatever its bucket. Clones are the
/// same directory.
#[derive(Clone, Debug)]
pub struct CacheDir(Arc<Shared>);

/// What the caches of one directory share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) options: CacheOptions,
    /// Entries whose digest this process has checked, as they were then.
    pub(crate) checked: moka::sync::Cache<(Bucket, Digest), Checked>,
    /// What this process has counted and not yet published, by bucket.
    pub(crate) in_flight: Mutex<[Tally; BUCKETS]>,
    /// How many directory entries were looked at.
    pub(crate) visited: AtomicU64,
    parking: Parking,
}

/// An entry that was checked against its digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    pub(crate) stamp: Stamp,
    /// The BLAKE3 hash of the bytes that had the digest, for small entries that are checked again at every hit: as hard
    /// to forge as SHA-256, and made in a third of the time.
    pub(crate) seal: Option<blake3::Hash>,
}

impl CacheDir {
    /// Opens the cache at `root`, or makes one there if nothing or an empty directory is there. Costs a handful of
    /// system calls however much the cache holds; leftovers of writers that died are removed on the way.
    ///
    /// A cache that cannot be written (read-only, not ours to write) opens, and serves what it has.
    ///
    /// # Errors
    /// [`OpenError::Foreign`] for a directory with other things in it, [`OpenError::Version`] for a cache of a newer
    /// program, [`OpenError::Io`] when the directory can be neither read nor made.
    pub fn open(root: impl Into<PathBuf>, options: CacheOptions) -> Result<Self, OpenError> {
        let root = root.into();
        marker::ensure(&root)?;
        let shared = Shared {
            tmp: root.join(layout::TMP),
            root,
            options,
            checked: moka::sync::Cache::new(REMEMBERED),
            in_flight: Mutex::default(),
            visited: AtomicU64::new(0),
            parking: Parking::default(),
        };
        evict::reclaim(&shared);
        Ok(Self(Arc::new(shared)))
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Contents of files, by digest.
    pub fn contents(&self) -> DiskCache {
        DiskCache::new(Arc::clone(&self.0), Bucket::Contents)
    }

    /// Manifests, by digest.
    pub fn manifests(&self) -> DiskCache {
        DiskCache::new(Arc::clone(&self.0), Bucket::Manifests)
    }

    /// Archive indexes, by digest.
    pub fn indexes(&self) -> DiskCache {
        DiskCache::new(Arc::clone(&self.0), Bucket::Indexes)
    }

    /// Blocks of remote data, for a [`BlockCache`](crate::BlockCache).
    pub fn blocks(&self) -> DiskBlockStore {
        DiskBlockStore::new(Arc::clone(&self.0))
    }

    /// Evicts what was unused for at least `age`, whatever the cap. Returns the bytes freed. That an entry was used is noted
    /// once an hour at most.
    ///
    /// # Errors
    /// When the directory cannot be listed or changed; an entry that cannot be removed is passed over.
    pub async fn prune_unused(&self, age: Duration) -> Result<u64, CacheError> {
        let shared = Arc::clone(&self.0);
        blocking::run(move || {
            let freed = evict::prune_unused(&shared, Scope::All, age.as_secs());
            freed.map_err(|error| disk("pruning the cache", &shared.root, error))
        })
        .await
    }

    /// How much [`prune_unused`](Self::prune_unused) would evict.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub async fn unused(&self, age: Duration) -> Result<Usage, CacheError> {
        let shared = Arc::clone(&self.0);
        blocking::run(move || {
            let tally = evict::unused(&shared, Scope::All, age.as_secs());
            let tally = tally.map_err(|error| disk("measuring the cache", &shared.root, error))?;
            Ok(Usage::new(tally.entries, tally.bytes, shared.options.max_bytes))
        })
        .await
    }

    /// What tags point at.
    pub fn tags(&self) -> DiskTagCache {
        DiskTagCache::new(Arc::clone(&self.0))
    }

    /// Reads and checks everything, as [`CacheAdmin::verify`] does, and leaves it as it is: `dropped` counts what that
    /// would drop.
    ///
    /// # Errors
    /// [`CacheError::Backend`] when the directory cannot be listed.
    pub async fn verify_only(&self) -> Result<Verified, CacheError> {
        admin(&self.0, Scope::All).verify(Damage::Keep).await
    }
}

#[async_trait]
impl CacheAdmin for CacheDir {
    async fn usage(&self) -> Result<Usage, CacheError> {
        admin(&self.0, Scope::All).usage().await
    }

    async fn prune(&self, target_bytes: u64) -> Result<u64, CacheError> {
        admin(&self.0, Scope::All).prune(target_bytes).await
    }

    async fn clear(&self) -> Result<(), CacheError> {
        admin(&self.0, Scope::All).clear().await
    }

    async fn verify(&self) -> Result<Verified, CacheError> {
        admin(&self.0, Scope::All).verify(Damage::Drop).await
    }
}

/// Housekeeping of a directory or one of its buckets.
pub(crate) fn admin(shared: &Arc<Shared>, scope: Scope) -> ScopeAdmin {
    ScopeAdmin { shared: Arc::clone(shared), scope }
}

/// A directory or one bucket of it.
#[derive(Debug)]
pub(crate) struct ScopeAdmin {
    shared: Arc<Shared>,
    scope: Scope,
}

impl ScopeAdmin {
    pub(crate) async fn usage(self) -> Result<Usage, CacheError> {
        blocking::run(move || {
            let ledger = evict::ledger(&self.shared).map_err(|error| self.failed("measuring the cache", error))?;
            Ok(match self.scope {
                Scope::All => {
                    let entries = ledger.buckets.iter().map(|tally| tally.entries).sum();
                    Usage::new(entries, ledger.bytes(), self.shared.options.max_bytes)
                }
                Scope::One(bucket) => {
                    let tally = ledger.of(bucket);
                    Usage::new(tally.entries, tally.bytes, self.shared.options.cap(bucket))
                }
            })
        })
        .await
    }

    pub(crate) async fn prune(self, target_bytes: u64) -> Result<u64, CacheError> {
        blocking::run(move || {
            evict::prune(&self.shared, self.scope, target_bytes)
                .map_err(|error| self.failed("pruning the cache", error))
        })
        .await
    }

    pub(crate) async fn clear(self) -> Result<(), CacheError> {
        blocking::run(move || {
            self.shared.checked.invalidate_all();
            evict::prune(&self.shared, self.scope, 0).map_err(|error| self.failed("emptying the cache", error))?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn verify(self, damage: Damage) -> Result<Verified, CacheError> {
        blocking::run(move || {
            check::all(&self.shared, self.scope, damage).map_err(|error| self.failed("checking the cache", error))
        })
        .await
    }

    fn failed(&self, action: &str, error: std::io::Error) -> CacheError {
        disk(action, &self.shared.root, error)
    }
}

impl Shared {
    pub(crate) fn at_root(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether storing `bytes` in `bucket` makes sense now: they fit, and the directory takes writes.
    pub(crate) fn wants(&self, bucket: Bucket, bytes: u64) -> bool {
        if evict::charge(bytes) > self.options.cap(bucket) || self.parking.is_parked() {
            return false;
        }
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        match rustix::fs::access(&self.tmp, access) {
            // Missing is fine: see `temporary`.
            Ok(()) | Err(rustix::io::Errno::NOENT) => true,
            // So is something else in its place.
            Err(_) if std::fs::symlink_metadata(&self.tmp).is_ok_and(|meta| !meta.is_dir()) => true,
            Err(error) => {
                self.parking.park(&self.root, &error.into());
                self.parking.warn(&self.root, &error.into());
                false
            }
        }
    }

    /// A new file below `tmp/`. When somebody deleted the cache under us it is made anew, unless something else is in
    /// its place by now.
    pub(crate) fn temporary(&self) -> std::io::Result<TempFile> {
        match TempFile::create(&self.tmp) {
            Err(error) if is_absent(&error) => {
                marker::ensure(&self.root).map_err(std::io::Error::other)?;
                make_dirs(&self.tmp, &self.tmp)?;
                TempFile::create(&self.tmp)
            }
            other => other,
        }
    }

    /// Takes note of a failed write: after one that would only repeat itself nothing is stored for a minute. Whoever gets
    /// the error warns of it.
    pub(crate) fn note_failure(&self, error: &std::io::Error) {
        if crate::error::is_lasting(error) {
            self.parking.park(&self.root, error);
        }
    }

    /// Removes a damaged entry of `bytes` and says so, once for this entry.
    pub(crate) fn heal(&self, bucket: Bucket, path: &Path, bytes: u64, reason: &str) {
        match crate::files::discard(path, &self.tmp) {
            Ok(true) => {
                tracing::warn!(path = %path.display(), reason, "dropped a damaged cache entry");
                evict::uncount(self, bucket, bytes);
            }
            // Another process was faster.
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(path = %path.display(), reason, %error, "a damaged cache entry cannot be removed");
                self.note_failure(&error);
            }
        }
    }
}

mod parking {
    use super::{AtomicBool, Duration, Instant, Ordering, Path};
    use std::sync::{Mutex, PoisonError};

    /// How long nothing is stored after the disk was found full or forbidden.
    const PAUSE: Duration = Duration::from_mins(1);

    /// Remembers that writing is pointless for now.
    #[derive(Debug, Default)]
    pub(super) struct Parking {
        until: Mutex<Option<Instant>>,
        warned: AtomicBool,
    }

    impl Parking {
        pub(super) fn is_parked(&self) -> bool {
            let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
            until.is_some_and(|until| Instant::now() < until)
        }

        pub(super) fn park(&self, root: &Path, error: &std::io::Error) {
            tracing::debug!(root = %root.display(), %error, "nothing is stored in the cache for a minute");
            *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE);
        }

        /// Says once that nothing is stored.
        pub(super) fn warn(&self, root: &Path, error: &std::io::Error) {
            if !self.warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(root = %root.display(), %error, "the cache cannot be written; going on without storing");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn opening_does_not_walk() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("cache");
        drop(CacheDir::open(&root, CacheOptions::default()).unwrap());
        for number in 0..100_000_u32 {
            let digest = Digest::sha256_of(&number.to_le_bytes());
            let path = layout::content_path(&root, Bucket::Contents, &digest);
            if std::fs::File::create_new(&path).is_err() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::File::create_new(&path).unwrap();
            }
        }
        let cache = CacheDir::open(&root, CacheOptions::default()).unwrap();
        assert_eq!(cache.0.visited.load(Ordering::Relaxed), 0);
        // The counter does not know them yet, so this is what a walk looks like.
        std::fs::remove_file(root.join(layout::USAGE)).unwrap();
        let ledger = evict::ledger(&cache.0).unwrap();
        assert_eq!(ledger.of(Bucket::Contents).entries, 100_000);
        assert!(cache.0.visited.load(Ordering::Relaxed) >= 100_000);
    }
}
