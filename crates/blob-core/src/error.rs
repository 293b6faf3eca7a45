//! What can go wrong when archives are read and extracted.

#[cfg(feature = "fs")]
use std::path::Path;
use std::path::PathBuf;

use crate::codec::DecodeError;
use crate::index::IndexError;
use crate::path::{PathError, Shown};
use crate::source::{FailureKind, SourceError};

/// Reading from an archive failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing stands at the path.
    #[error("\"{}\" is not in the archive", Shown(path))]
    NotFound {
        /// The path, normalised.
        path: Box<[u8]>,
    },
    /// A file was asked for, and this is a directory.
    #[error("\"{}\" is a directory", Shown(path))]
    IsDirectory {
        /// The path, normalised.
        path: Box<[u8]>,
    },
    /// A file was asked for, and this is a symbolic link, which is never followed.
    #[error("\"{}\" is a symbolic link, not a file", Shown(path))]
    NotAFile {
        /// The path, normalised.
        path: Box<[u8]>,
    },
    /// A directory was asked for, and this is a file or link.
    #[error("\"{}\" is not a directory", Shown(path))]
    NotADirectory {
        /// The path, normalised.
        path: Box<[u8]>,
    },
    /// No archive can hold the path.
    #[error(transparent)]
    InvalidPath(#[from] PathError),
    /// The file is over the caller's limit.
    #[error("\"{}\" has {size} bytes, over the limit of {limit}; raise the limit or stream it", Shown(path))]
    TooLarge {
        /// The path.
        path: Box<[u8]>,
        /// Its size or stored size in bytes, whichever is over the limit.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The stored bytes do not become the file that the index promises.
    #[error("reading \"{}\"", Shown(path))]
    Decode {
        /// The path.
        path: Box<[u8]>,
        /// What is wrong with the bytes.
        source: DecodeError,
    },
    /// The stored bytes could not be had.
    #[error("reading \"{}\"", Shown(path))]
    Source {
        /// The path.
        path: Box<[u8]>,
        /// The cause.
        source: SourceError,
    },
    /// The index cannot be used, or does not belong to the data.
    #[error("opening the archive")]
    Index(#[from] IndexError),
    /// The data is not at hand as memory or file of this process.
    #[error("\"{}\" cannot be opened for seeking: its data is not local", Shown(path))]
    NotLocal {
        /// The path.
        path: Box<[u8]>,
    },
    /// The data blob as a whole could not be read.
    #[error("reading the data of the archive")]
    Data(#[source] SourceError),
    /// The data blob as a whole is not what the index promises.
    #[error("the data of the archive does not match its digest: expected {expected}, got {got}")]
    DataMismatch {
        /// What the index says.
        expected: crate::digest::Digest,
        /// What the data has.
        got: crate::digest::Digest,
    },
    /// The operating system failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl ReadError {
    /// Whether only this one file is wrong, and others of the archive may well be read: what is stored for it is not what
    /// the index promises, or it is over a limit.
    pub fn is_about_one_file(&self) -> bool {
        matches!(self, Self::Decode { .. } | Self::TooLarge { .. })
    }

    /// Whether nothing stands at the path; also for a data blob that does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Source { source, .. } | Self::Data(source) => source.is_not_found(),
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the bytes came whole, but are not the ones that the digest promises.
    pub fn is_hash_mismatch(&self) -> bool {
        match self {
            Self::Decode { source, .. } => source.is_hash_mismatch(),
            Self::DataMismatch { .. } => true,
            Self::Source { .. } | Self::Data(_) => self.source_kind() == Some(FailureKind::Integrity),
            _ => false,
        }
    }

    /// Whether the archive itself is at fault: damaged data, or an index that contradicts it.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Decode { .. } | Self::DataMismatch { .. } | Self::Index(_))
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        self.source_kind() == Some(FailureKind::Network)
    }

    /// The kind of failure, when the source of the bytes failed.
    pub fn source_kind(&self) -> Option<FailureKind> {
        match self {
            Self::Source { source, .. } | Self::Data(source) => Some(source.kind()),
            _ => None,
        }
    }

    /// The path in the archive that the error is about.
    pub fn path(&self) -> Option<&[u8]> {
        match self {
            Self::NotFound { path }
            | Self::IsDirectory { path }
            | Self::NotAFile { path }
            | Self::NotADirectory { path }
            | Self::TooLarge { path, .. }
            | Self::Decode { path, .. }
            | Self::Source { path, .. }
            | Self::NotLocal { path } => Some(path),
            Self::InvalidPath(error) => Some(&error.path),
            Self::Index(_) | Self::Data(_) | Self::DataMismatch { .. } | Self::Io { .. } => None,
        }
    }
}

/// Extracting from an archive failed. Nothing half-written stands under a final name, and temporary files are gone.
#[cfg(feature = "fs")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The archive could not be read, or does not hold what was asked for.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The operating system failed.
    #[error("{action} {}", shown(path))]
    Io {
        /// What was being done: "writing", "creating the directory" …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Files at the destination differ from those in the archive; nothing was written.
    #[error("{} exist already and differ from the archive: {}", count(*total, "file"), list(paths, *total))]
    Exists {
        /// The first of them, at most 1,000, in path order.
        paths: Vec<PathBuf>,
        /// How many there are.
        total: u64,
    },
    /// Something of another kind stands where a file or directory has to go.
    #[error("{} is {found}, where the archive has {wanted}", shown(path))]
    Obstructed {
        /// Where.
        path: PathBuf,
        /// What stands there: "a symbolic link or a file", "a directory".
        found: &'static str,
        /// What the archive has: "a directory", "a file".
        wanted: &'static str,
    },
    /// Symbolic links lead out of the destination; nothing was written.
    #[error("the symbolic link \"{}\" leads out of the destination, to \"{}\"{}", Shown(path), Shown(target), others(*total))]
    Escapes {
        /// The first link's path in the archive.
        path: Box<[u8]>,
        /// What it points at.
        target: Box<[u8]>,
        /// The paths of all that do, at most 1,000 of them.
        paths: Vec<Box<[u8]>>,
        /// How many there are.
        total: u64,
    },
    /// Two things would land in one place; nothing was written.
    #[error("\"{}\" and \"{}\" would be written to one place", Shown(a), Shown(b))]
    Collision {
        /// One path.
        a: Box<[u8]>,
        /// The other path.
        b: Box<[u8]>,
    },
    /// Nothing of what was selected has a name behind those that the layout takes away; nothing was written.
    #[error("nothing is left without the first {} of each path", count(*components as u64, "name"))]
    NothingLeft {
        /// How many names are taken away.
        components: usize,
    },
    /// A name is longer than file systems allow; nothing was written.
    #[error("a name in \"{}\" is longer than {limit} bytes", Shown(path))]
    NameTooLong {
        /// The path in the archive.
        path: Box<[u8]>,
        /// The limit in bytes.
        limit: usize,
    },
    /// The selection is over a limit; nothing was written.
    #[error("the selection has {got} {what}, over the limit of {limit}; raise the limit to extract it")]
    Limit {
        /// What is counted: "files", "bytes".
        what: &'static str,
        /// How many, when counting stopped.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The file system has not the room for what is to be written; nothing was written.
    #[error("{} has room for {available} bytes, and {needed} are to be written", shown(path))]
    NoRoom {
        /// The destination.
        path: PathBuf,
        /// How many bytes are to be written, less those of files that are replaced.
        needed: u64,
        /// How many bytes there is room for.
        available: u64,
    },
    /// The destination cannot be replaced as a whole; nothing was written.
    #[error("{} cannot be replaced: {why}", shown(path))]
    CannotReplace {
        /// The destination.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The caller's [`Progress`](crate::Progress) said to stop.
    #[error("the extraction was cancelled")]
    Cancelled,
}

#[cfg(feature = "fs")]
impl ExtractError {
    /// Whether what was asked for is not in the archive.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read(error) if error.is_not_found())
    }

    /// Whether stored bytes came whole, but are not the ones that the digest promises.
    pub fn is_hash_mismatch(&self) -> bool {
        matches!(self, Self::Read(error) if error.is_hash_mismatch())
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Read(error) if error.is_transient())
    }
}

/// Of links that are not named by themselves.
fn others(total: u64) -> String {
    match total {
        0 | 1 => String::new(),
        2 => ", and so does another one".into(),
        total => format!(", and so do {} others", total - 1),
    }
}

/// A path of the file system for people: quoted, control characters escaped.
#[cfg(feature = "fs")]
fn shown(path: &Path) -> String {
    format!("\"{}\"", Shown(path.as_os_str().as_encoded_bytes()))
}

#[cfg(feature = "fs")]
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The first few paths, and how many more there are.
#[cfg(feature = "fs")]
fn list(paths: &[PathBuf], total: u64) -> String {
    const FEW: usize = 5;
    let mut text: Vec<String> = paths.iter().take(FEW).map(|path| shown(path)).collect();
    let more = total.saturating_sub(text.len() as u64);
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    text.join(", ")
}
