//! Blocks of remote data: a decorator for sources, over a small store.
//!
//! Reads are expanded to whole blocks, which are kept; what is missing is fetched with one request, from the first
//! missing block to the last. Reads of more blocks than
//! [`max_blocks_per_read`](BlockOptions::max_blocks_per_read) go straight to the source. So a read never costs more
//! than the one request that it would cost without the cache.
//!
//! Every block carries a seal, a BLAKE3 hash over its key and bytes, that is checked when it comes back: a store may
//! return anything. What fails is removed and fetched again. That finds damage; it is not a defence against an
//! attacker who can write to the store, for which the digests of the content are checked above.

mod disk;
mod memory;
mod source;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, CacheError, SourceId};
use bytes::{Bytes, BytesMut};

pub use disk::DiskBlockStore;
pub(crate) use disk::check_pack;
pub use memory::MemoryBlockStore;
use source::{BlockSource, Shared};

/// How long a seal is, in bytes.
pub(crate) const SEAL: usize = 32;
/// The smallest and the largest block, in bytes.
const SIZES: std::ops::RangeInclusive<u32> = 64..=16 << 20;

/// How a source is cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// The size of a block in bytes, from 64 to 16 MiB (other values are moved there); 64 KiB by default.
    pub block_size: u32,
    /// Reads that touch more blocks pass by the cache; 4 by default, at least 1. A read holds up to this many blocks
    /// in memory.
    pub max_blocks_per_read: u32,
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self { block_size: 64 * 1024, max_blocks_per_read: 4 }
    }
}

/// Names a block: which source, cut how, which of its blocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockKey {
    source: [u8; 32],
    block_size: u32,
    index: u64,
}

impl BlockKey {
    /// Block `index` of the source `id`, cut into blocks of `block_size` bytes.
    pub fn new(id: &SourceId, block_size: u32, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&block_size.to_le_bytes()).update(id.as_str().as_bytes());
        Self { source: *hasher.finalize().as_bytes(), block_size, index }
    }

    /// Another block of the same source.
    #[must_use]
    pub fn with_index(self, index: u64) -> Self {
        Self { index, ..self }
    }

    /// A hash of the source's id and the block size.
    pub fn source(&self) -> &[u8; 32] {
        &self.source
    }

    /// Bytes per block.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Which block, counted from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The longest value that is ever stored under this key, in bytes: a block and its seal.
    pub fn max_value_len(&self) -> usize {
        self.block_size as usize + SEAL
    }

    fn seal_of(&self, data: &[u8]) -> blake3::Hash {
        blake3::Hasher::new().update(&self.source).update(&self.index.to_le_bytes()).update(data).finalize()
    }

    /// The value to store for `data`.
    pub(crate) fn seal(&self, data: &[u8]) -> Bytes {
        let mut value = BytesMut::with_capacity(SEAL + data.len());
        value.extend_from_slice(self.seal_of(data).as_bytes());
        value.extend_from_slice(data);
        value.freeze()
    }

    /// The data in a stored value, if it is the value of this key.
    pub(crate) fn unseal(&self, value: &Bytes) -> Option<Bytes> {
        let seal: [u8; SEAL] = *value.first_chunk()?;
        let data = value.slice(SEAL..);
        (self.seal_of(&data) == seal).then_some(data)
    }
}

impl fmt::Display for BlockKey {
    /// A text that can serve as key elsewhere: hexadecimal digits, `-`, the block's number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", blake3::Hash::from_bytes(self.source).to_hex(), self.index)
    }
}

impl fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Keeps blocks. Values are opaque and carry their own check: a store may lose them and need not check them.
///
/// `conformance::block` (feature `conformance`) checks an implementation.
///
/// # Errors
/// Whatever fails costs a warning and a request to the source, never a read.
#[async_trait]
pub trait BlockStore: fmt::Debug + Send + Sync {
    /// The value under `key`.
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError>;

    /// Stores `value`, which has at most [`BlockKey::max_value_len`] bytes, under `key`, in place of what was there.
    /// A store may decline silently.
    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError>;

    /// Forgets `key`; absent is fine.
    async fn remove(&self, key: &BlockKey) -> Result<(), CacheError>;
}

/// Keeps blocks of sources in a [`BlockStore`]. Clones share everything.
#[derive(Clone, Debug)]
pub struct BlockCache(Arc<Shared>);

impl BlockCache {
    /// Keeps blocks in `store`.
    pub fn new(store: Arc<dyn BlockStore>) -> Self {
        Self(Arc::new(Shared::new(store)))
    }

    /// `source`, read through the cache. A source that is local is returned as it is.
    #[must_use]
    pub fn wrap(&self, source: Arc<dyn ByteSource>, options: BlockOptions) -> Arc<dyn ByteSource> {
        if source.local().is_some() {
            return source;
        }
        let block_size = options.block_size.clamp(*SIZES.start(), *SIZES.end());
        let options = BlockOptions { block_size, max_blocks_per_read: options.max_blocks_per_read.max(1) };
        Arc::new(BlockSource::new(Arc::clone(&self.0), source, options))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_seal_binds_bytes_and_key() {
        let key = BlockKey::new(&SourceId::new("a"), 64, 3);
        let value = key.seal(b"some bytes");
        assert_eq!(key.unseal(&value).unwrap(), "some bytes");
        for other in [BlockKey::new(&SourceId::new("b"), 64, 3), BlockKey::new(&SourceId::new("a"), 128, 3)] {
            assert_eq!(other.unseal(&value), None);
        }
        assert_eq!(key.with_index(4).unseal(&value), None);
        assert_eq!(key.unseal(&value.slice(..value.len() - 1)), None);
        assert_eq!(key.unseal(&Bytes::new()), None);
        for position in 0..value.len() {
            let mut bad = value.to_vec();
            bad[position] ^= 0x10;
            assert_eq!(key.unseal(&bad.into()), None, "byte {position}");
        }
    }
}
