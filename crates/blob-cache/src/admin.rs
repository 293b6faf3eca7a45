//! Housekeeping that every store offers: how full it is, making room, emptying, checking.

use std::fmt;

use async_trait::async_trait;
use blob_core::CacheError;

/// How full a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// How many entries it holds. A pack of blocks counts as one.
    pub entries: u64,
    /// Bytes held. On disk, entries count as their size rounded up to 4 KiB; other processes make it approximate.
    pub bytes: u64,
    /// The most it may hold, in bytes.
    pub max_bytes: u64,
}

impl Usage {
    pub(crate) fn new(entries: u64, bytes: u64, max_bytes: u64) -> Self {
        Self { entries, bytes, max_bytes }
    }
}

/// What [`CacheAdmin::verify`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Entries and blocks whose content was checked.
    pub checked: u64,
    /// How many of them were damaged, and are gone now.
    pub dropped: u64,
}

/// Housekeeping of a cache.
///
/// # Errors
/// Every method fails with [`CacheError::Backend`] when the store does; what was done until then stays done.
#[async_trait]
pub trait CacheAdmin: fmt::Debug + Send + Sync {
    /// How full the cache is. Does not walk it, unless the counters are lost.
    async fn usage(&self) -> Result<Usage, CacheError>;

    /// Evicts what was unused for longest until at most `target_bytes` are held. Returns the bytes freed.
    async fn prune(&self, target_bytes: u64) -> Result<u64, CacheError>;

    /// Forgets everything.
    async fn clear(&self) -> Result<(), CacheError>;

    /// Reads and checks everything, and drops what is damaged.
    async fn verify(&self) -> Result<Verified, CacheError>;
}
