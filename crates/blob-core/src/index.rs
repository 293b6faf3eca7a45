//! The archive index: which files there are, where their bytes lie, and what digest each must have.
//!
//! An index is parsed and checked whole, once; after that a look-up cannot fail or panic, and
//! allocates nothing but, once, a table when there are many. The wire format is
//! FlatBuffers (`schema/index.fbs`); `docs/format.md` is normative.

mod build;
mod by_path;
mod check;
mod diff;
mod follow;
mod id;
#[cfg(test)]
mod tests;
mod view;
pub(crate) mod wire;

// Made by `cargo xtask codegen`; writing goes through it, reading through `wire`, and tests compare the two.
#[rustfmt::skip]
#[allow(
    clippy::all, clippy::pedantic, clippy::restriction, missing_docs, unreachable_pub, unsafe_code, unused,
    unsafe_op_in_unsafe_fn, mismatched_lifetime_syntaxes, reason = "generated code"
)]
mod index_generated;

use std::fmt;

use bytes::Bytes;

use self::by_path::ByPath;
use crate::digest::Digest;
use crate::path::{Brief, PathError};

pub use build::{IndexBuilder, NewDirectory, NewFile, NewSymlink};
pub use diff::{Changes, Difference, diff};
pub use follow::FollowError;
pub use id::NodeId;
pub use view::{DirEntry, Directory, Node};

/// How large an index may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexLimits {
    /// Bytes of the index: 256 MiB by default, 2 GiB at most.
    pub max_bytes: u64,
    /// Files, links and empty directories together: 16 million by default.
    pub max_entries: usize,
    /// Directories that follow from the paths, 16 bytes of memory each: 4 million by default.
    pub max_directories: usize,
}

impl Default for IndexLimits {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_entries: 16 << 20, max_directories: 4 << 20 }
    }
}

/// A checked index.
pub struct ArchiveIndex {
    bytes: Bytes,
    /// Everything, sorted by path bytes.
    nodes: Vec<Slot>,
    by_path: ByPath,
    /// Directories in the order in which their first node comes, outer ones first; the root is the first.
    dirs: Vec<Dir>,
    files: usize,
    summary: Summary,
}

/// What the check found out about the whole.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    sorted: bool,
    data_digest: Option<Digest>,
    data_size: u64,
    data_end: u64,
    original_bytes: u64,
    stored_bytes: u64,
}

/// A file, link or empty directory: where its table and its path stand in the bytes.
#[derive(Clone, Copy)]
struct Slot {
    table: u32,
    path: u32,
    /// Length of the path in the low 30 bits, [`Kind`] in the high 2.
    length_and_kind: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File = 0,
    Symlink = 1,
    EmptyDir = 2,
}

impl Slot {
    const MAX_PATH: usize = (1 << 30) - 1;

    fn new(kind: Kind, table: u32, path: u32, length: usize) -> Self {
        Self { table, path, length_and_kind: length as u32 | (kind as u32) << 30 }
    }

    fn kind(self) -> Kind {
        match self.length_and_kind >> 30 {
            0 => Kind::File,
            1 => Kind::Symlink,
            _ => Kind::EmptyDir,
        }
    }

    fn path(self, bytes: &[u8]) -> &[u8] {
        let start = self.path as usize;
        bytes.get(start..start + (self.length_and_kind & Self::MAX_PATH as u32) as usize).unwrap_or_default()
    }
}

/// A directory: a run of `nodes`. Its path is the first `length` bytes of its first node's path.
#[derive(Clone, Copy, Debug)]
struct Dir {
    first: u32,
    end: u32,
    length: u32,
    /// The next directory that is not inside this one, as a position in `dirs`.
    next: u32,
}

impl fmt::Debug for ArchiveIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveIndex")
            .field("files", &self.files)
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

/// An index that cannot be used. It is the archive that is wrong, not the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Not a FlatBuffer of this schema.
    #[error("the index is corrupt: {what} (byte {at})")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where, in bytes from its start.
        at: usize,
    },
    /// The index uses something that this version does not know.
    #[error("the archive was written by a newer version: {what} is {got}; update to read it")]
    Newer {
        /// The field.
        what: &'static str,
        /// Its value.
        got: i64,
    },
    /// A path breaks the rules of the format.
    #[error("the index is corrupt")]
    Path(#[from] PathError),
    /// A path occurs twice.
    #[error("the index is corrupt: \"{}\" occurs twice", Brief(path))]
    Duplicate {
        /// The path.
        path: Box<[u8]>,
    },
    /// A path is a file or link, and a directory too.
    #[error("the index is corrupt: \"{}\" is a file and a directory", Brief(path))]
    FileAndDirectory {
        /// The path.
        path: Box<[u8]>,
    },
    /// An entry contradicts itself or another.
    #[error("the index is corrupt: \"{}\": {problem}", Brief(path))]
    Entry {
        /// Its path.
        path: Box<[u8]>,
        /// What is wrong, expected and got.
        problem: String,
    },
    /// The index is over a limit.
    #[error("the index has {got} {unit}, over the limit of {limit}; raise the limit to open it")]
    TooLarge {
        /// How many.
        got: u64,
        /// Of what: "bytes", "entries".
        unit: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The index does not belong to the data blob.
    #[error("the index does not belong to this data: {what}: expected {expected}, got {got}")]
    Data {
        /// What differs.
        what: &'static str,
        /// What the data blob has.
        expected: String,
        /// What the index says.
        got: String,
    },
}
