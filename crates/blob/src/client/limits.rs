//! How much a client takes on.

use blob_core::codec::DecodeLimits;
use blob_core::index::IndexLimits;
use blob_policy::EvidenceLimits;

/// How much a client takes on. Every number that comes from outside is held against one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of an index: 256 MiB by default.
    pub max_index_bytes: u64,
    /// Files, links and empty directories of an archive: 16 million by default.
    pub max_entries: usize,
    /// Bytes of a file that is read to memory as a whole: 256 MiB by default. Streams and extraction have no limit.
    pub max_file_bytes: u64,
    /// The largest Zstandard window, as a power of two: 27 by default.
    pub window_log: u32,
    /// How much evidence a policy looks at.
    pub evidence: EvidenceLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_index_bytes: 256 << 20,
            max_entries: 16 << 20,
            max_file_bytes: 256 << 20,
            window_log: 27,
            evidence: EvidenceLimits::default(),
        }
    }
}

impl Limits {
    pub(crate) fn index(&self) -> IndexLimits {
        let mut limits = IndexLimits::default();
        limits.max_bytes = self.max_index_bytes;
        limits.max_entries = self.max_entries;
        limits.max_directories = limits.max_directories.max(self.max_entries / 4);
        limits
    }

    pub(crate) fn decode(&self) -> DecodeLimits {
        let mut limits = DecodeLimits::default();
        limits.window_log = self.window_log;
        limits
    }
}
