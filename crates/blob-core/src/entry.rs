//! What an archive holds: files, symbolic links, empty directories.

use std::fmt;
use std::ops::Range;

use crate::digest::Digest;
use crate::index::wire::Table;
use crate::path::Shown;

/// How a file's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// As they are.
    None,
    /// As Zstandard frames (RFC 8878): any number, skippable ones among them, no dictionary.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Zstd => "zstd",
        })
    }
}

/// The slots of the tables, which are the field ids of `schema/index.fbs`.
pub(crate) mod slot {
    pub(crate) mod entry {
        pub(crate) const PATH: u16 = 0;
        pub(crate) const DATA_OFFSET: u16 = 1;
        pub(crate) const DATA_SIZE: u16 = 2;
        pub(crate) const ORIGINAL_SIZE: u16 = 3;
        pub(crate) const HASH: u16 = 4;
        pub(crate) const MODE: u16 = 5;
        pub(crate) const UID: u16 = 6;
        pub(crate) const GID: u16 = 7;
        pub(crate) const MTIME_NS: u16 = 8;
        pub(crate) const COMPRESSION: u16 = 9;
    }
    pub(crate) mod symlink {
        pub(crate) const PATH: u16 = 0;
        pub(crate) const TARGET: u16 = 1;
        pub(crate) const MTIME_NS: u16 = 2;
    }
    pub(crate) mod empty_dir {
        pub(crate) const PATH: u16 = 0;
        pub(crate) const MODE: u16 = 1;
        pub(crate) const MTIME_NS: u16 = 2;
    }
}

/// A file, as the index describes it: a view that borrows the index and copies nothing.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub(crate) table: Table<'a>,
    pub(crate) path: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The path in the archive.
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    /// Where the stored bytes begin in the data blob.
    pub fn data_offset(&self) -> u64 {
        self.table.u64(slot::entry::DATA_OFFSET)
    }

    /// How many bytes are stored.
    pub fn data_size(&self) -> u64 {
        self.table.u64(slot::entry::DATA_SIZE)
    }

    /// The stored bytes in the data blob; within its bounds, once the archive is open.
    pub fn range(&self) -> Range<u64> {
        let start = self.data_offset();
        start..start + self.data_size()
    }

    /// How many bytes the file has.
    pub fn original_size(&self) -> u64 {
        self.table.u64(slot::entry::ORIGINAL_SIZE)
    }

    /// The SHA-256 digest of the file's bytes.
    pub fn digest(&self) -> Digest {
        let hash = self.table.bytes(slot::entry::HASH).and_then(|hash| hash.try_into().ok());
        Digest::Sha256(hash.expect("the length of every hash is checked when the index is parsed"))
    }

    /// The permission bits, `0o000` to `0o777`; whatever else the field holds is dropped.
    pub fn mode(&self) -> u32 {
        self.table.u32(slot::entry::MODE, 0) & 0o777
    }

    /// The owner's number; informative, never restored.
    pub fn uid(&self) -> u32 {
        self.table.u32(slot::entry::UID, 0)
    }

    /// The group's number; informative, never restored.
    pub fn gid(&self) -> u32 {
        self.table.u32(slot::entry::GID, 0)
    }

    /// The modification time, in nanoseconds since 1970-01-01T00:00:00Z.
    pub fn mtime_ns(&self) -> i64 {
        self.table.i64(slot::entry::MTIME_NS)
    }

    /// How the bytes are stored.
    pub fn compression(&self) -> Compression {
        match self.table.i8(slot::entry::COMPRESSION) {
            0 => Compression::None,
            _ => Compression::Zstd,
        }
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("path", &format_args!("\"{}\"", Shown(self.path)))
            .field("range", &self.range())
            .field("original_size", &self.original_size())
            .field("compression", &self.compression())
            .finish_non_exhaustive()
    }
}

/// A symbolic link.
#[derive(Clone, Copy)]
pub struct Symlink<'a> {
    pub(crate) table: Table<'a>,
    pub(crate) path: &'a [u8],
}

impl<'a> Symlink<'a> {
    /// The path in the archive.
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    /// What it points at, as it was read: not empty, without NUL, at most 4,095 bytes; it may lead anywhere.
    pub fn target(&self) -> &'a [u8] {
        self.table.bytes(slot::symlink::TARGET).unwrap_or_default()
    }

    /// The modification time of the link itself, in nanoseconds since 1970-01-01T00:00:00Z.
    pub fn mtime_ns(&self) -> i64 {
        self.table.i64(slot::symlink::MTIME_NS)
    }
}

impl fmt::Debug for Symlink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Symlink(\"{}\" -> \"{}\")", Shown(self.path), Shown(self.target()))
    }
}

/// A directory with nothing in it. (Other directories follow from the paths of what they hold.)
#[derive(Clone, Copy)]
pub struct EmptyDir<'a> {
    pub(crate) table: Table<'a>,
    pub(crate) path: &'a [u8],
}

impl<'a> EmptyDir<'a> {
    /// The path in the archive.
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    /// The permission bits, `0o000` to `0o777`.
    pub fn mode(&self) -> u32 {
        self.table.u32(slot::empty_dir::MODE, 0) & 0o777
    }

    /// The modification time, in nanoseconds since 1970-01-01T00:00:00Z.
    pub fn mtime_ns(&self) -> i64 {
        self.table.i64(slot::empty_dir::MTIME_NS)
    }
}

impl fmt::Debug for EmptyDir<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmptyDir(\"{}\")", Shown(self.path))
    }
}
