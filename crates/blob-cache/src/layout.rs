//! The tree on disk, drawn; names in it, and nothing else.
//!
//! ```text
//! <root>/
//!   CACHEDIR.TAG                       backup programs skip the tree
//!   blob-cache.json                    marker: {"format":"blob-cache","version":1}; without it nothing is ever deleted
//!   lock                               locked (flock) by the one process that evicts
//!   usage-v1                           104 bytes: entries and bytes per bucket, approximate (see below)
//!   tmp/<random>-<n>                   entries being written; each is locked (flock) while its writer lives
//!   tmp/turn-<32 hex>                  locked (flock) by the process that fetches something others want, too
//!   content-v1/sha256/ab/<64 hex>      verified bytes by digest; the name is the digest of the content
//!   content-v1/sha512/ab/<128 hex>
//!   manifests-v1/…  indexes-v1/…       the same, for manifests and archive indexes
//!   blocks-v1/ab/<64 hex>-<segment>    packs of blocks of one source
//!   tags-v1/ab/<64 hex>                one tag: key, digest, time, checksum
//!   uploads-v1/  verdicts-v1/          what programs keep beside the cache: how far uploads are, what policies admitted,
//!   tuf-v1/  locks/                    roots of trust, locks for lists of referrers. No part of the cap, and no bucket
//! ```
//!
//! `ab` are the first two digits of the name. A bucket's version stands in its name: programs of different versions
//! share a directory without reading each other's files. The marker's version covers the files at the root.
//!
//! **Publication** is "write under `tmp/`, rename": other processes see a whole entry or none. Nothing is flushed to
//! the disk, since a cache may forget; a power loss can therefore leave an entry that is short or full of zeros, which
//! the digest check on first use finds.
//!
//! **Recency** is the later of access and modification time. The access time is set explicitly, at most once an hour
//! (`noatime` mounts do not matter); the modification time stays what it was, so that it tells whether an entry was
//! written to since its digest was checked.
//!
//! **Packs.** A pack holds up to 512 blocks of one source, at fixed places, in a sparse file:
//!
//! ```text
//! 0      "blobpak1", block size (u32 LE), zeros to 4096
//! 4096   slot 0: "blk1", length of the record (u32 LE), zeros to 16; the record (BLAKE3 seal, data); zeros to the stride
//! …      slot n at 4096 + n × stride; stride = 16 + 32 + block size, rounded up to 64
//! ```
//!
//! A block's place follows from its number, so there is no table to keep in step and writers need no lock: two
//! processes that store one block write the same bytes. The record goes first and the slot's header after it; what a
//! crash leaves behind fails the seal. A pack is evicted whole; with blocks of 64 KiB that is 32 MiB at a time.
//!
//! **Usage** counts an entry as its size rounded up to 4 KiB, a pack as what it occupies. Stores add to the counter,
//! evictions walk the tree and put it right; one that is missing, damaged or a day old is put right by the next store.

use std::path::{Path, PathBuf};

use blob_core::Digest;

/// The directory of file contents below the root.
pub const CONTENTS: &str = "content-v1";
/// The directory of manifests below the root.
pub const MANIFESTS: &str = "manifests-v1";
/// The directory of archive indexes below the root.
pub const INDEXES: &str = "indexes-v1";
/// The directory of blocks below the root.
pub const BLOCKS: &str = "blocks-v1";
/// The directory of tags below the root.
pub const TAGS: &str = "tags-v1";

/// Names the directory as ours.
pub(crate) const MARKER: &str = "blob-cache.json";
/// The newest version of the files at the root.
pub(crate) const VERSION: u32 = 1;
/// See <https://bford.info/cachedir/>.
pub(crate) const CACHEDIR_TAG: &str = "CACHEDIR.TAG";
/// The first line is prescribed.
pub(crate) const CACHEDIR_TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory holds caches of blob; it can be deleted at any time.\n";
pub(crate) const LOCK: &str = "lock";
pub(crate) const USAGE: &str = "usage-v1";
pub(crate) const TMP: &str = "tmp";
/// What others keep beside the buckets: directories that the cache knows and leaves alone.
pub(crate) const BESIDE: [&str; 4] = ["uploads-v1", "verdicts-v1", "tuf-v1", "locks"];

/// What kind of entry a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bucket {
    Contents,
    Manifests,
    Indexes,
    Blocks,
    Tags,
}

/// How many buckets there are.
pub(crate) const BUCKETS: usize = 5;

impl Bucket {
    pub(crate) const ALL: [Self; BUCKETS] = [Self::Contents, Self::Manifests, Self::Indexes, Self::Blocks, Self::Tags];

    /// Its directory.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Contents => CONTENTS,
            Self::Manifests => MANIFESTS,
            Self::Indexes => INDEXES,
            Self::Blocks => BLOCKS,
            Self::Tags => TAGS,
        }
    }

    /// Its place in tables.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether its entries are named by the digest of their content.
    pub(crate) const fn is_addressed(self) -> bool {
        matches!(self, Self::Contents | Self::Manifests | Self::Indexes)
    }
}

/// Where the entry with `digest` lies.
pub(crate) fn content_path(root: &Path, bucket: Bucket, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    let algorithm = digest.algorithm().name();
    let mut path = PathBuf::with_capacity(root.as_os_str().len() + bucket.name().len() + hex.len() + 16);
    path.extend([root, Path::new(bucket.name()), Path::new(algorithm), Path::new(&hex[..2]), Path::new(&hex)]);
    path
}

/// Where the entry with a hexadecimal `name` of at least two digits lies.
pub(crate) fn keyed_path(root: &Path, bucket: Bucket, name: &str) -> PathBuf {
    root.join(bucket.name()).join(&name[..2]).join(name)
}

/// Whether `name` is one that an entry can have: 64 or 128 lower-case hexadecimal digits, packs with a number behind.
pub(crate) fn is_entry_name(bucket: Bucket, name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match bucket {
        Bucket::Blocks => pack_of_name(name).is_some(),
        Bucket::Tags => name.len() == 64 && hex(name),
        Bucket::Contents | Bucket::Manifests | Bucket::Indexes => matches!(name.len(), 64 | 128) && hex(name),
    }
}

/// The name of the pack `segment` of a source.
pub(crate) fn pack_name(source: &[u8; 32], segment: u64) -> String {
    format!("{}-{segment}", blake3::Hash::from_bytes(*source).to_hex())
}

/// The source and segment that a pack's name tells.
pub(crate) fn pack_of_name(name: &str) -> Option<([u8; 32], u64)> {
    let (hex, segment) = name.split_once('-')?;
    if hex.bytes().any(|byte| byte.is_ascii_uppercase()) || segment.bytes().any(|byte| !byte.is_ascii_digit()) {
        return None;
    }
    Some((*blake3::Hash::from_hex(hex).ok()?.as_bytes(), segment.parse().ok()?))
}

/// The digest that the path of a content entry tells.
pub(crate) fn digest_of_path(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    let algorithm = path.parent()?.parent()?.file_name()?.to_str()?;
    format!("{algorithm}:{name}").parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_and_paths_tell_each_other() {
        let digest = Digest::sha256_of(b"x");
        let path = content_path(Path::new("/c"), Bucket::Contents, &digest);
        assert_eq!(digest_of_path(&path), Some(digest));
        assert!(is_entry_name(Bucket::Contents, path.file_name().unwrap().to_str().unwrap()));
        let pack = pack_name(&[7; 32], 12);
        assert_eq!(pack_of_name(&pack), Some(([7; 32], 12)));
    }

    #[test]
    fn other_names_are_not_entries() {
        let hex = "0a".repeat(32);
        for (bucket, name, expect) in [
            (Bucket::Contents, hex.clone(), true),
            (Bucket::Contents, hex.to_uppercase(), false),
            (Bucket::Contents, format!("{hex}-1"), false),
            (Bucket::Contents, "holiday.jpg".into(), false),
            (Bucket::Blocks, hex.clone(), false),
            (Bucket::Blocks, format!("{hex}-"), false),
            (Bucket::Blocks, format!("{hex}-+1"), false),
            (Bucket::Blocks, format!("{hex}-1"), true),
            (Bucket::Tags, hex.repeat(2), false),
        ] {
            assert_eq!(is_entry_name(bucket, &name), expect, "{bucket:?} {name}");
        }
    }
}
