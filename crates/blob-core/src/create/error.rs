//! Why an archive could not be made.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::report::Listed;
use crate::codec::DecodeError;
use crate::index::IndexError;
use crate::path::Shown;

/// An archive that was not made. Paths are those in the archive, beneath the directory; a path shown as `.` is the
/// directory itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is no such directory.
    #[error("there is no directory {}", path.display())]
    NotFound {
        /// The directory that was to be archived.
        path: PathBuf,
    },
    /// What was to be archived is something else than a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// What was to be archived.
        path: PathBuf,
    },
    /// The directory, or something in it, cannot be read.
    #[error("could not {doing} \"{}\"", Shown(path))]
    Read {
        /// What could not be read.
        path: Box<[u8]>,
        /// What was being done: "open", "list", "read".
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file did not stay the same while it was archived.
    #[error("\"{}\" changed while it was archived: {change}", Shown(path))]
    Changed {
        /// The file.
        path: Box<[u8]>,
        /// How it changed.
        change: Change,
    },
    /// The tree holds more than is allowed.
    #[error("there are more than {limit} files, links and empty directories; raise the limit to archive them")]
    TooManyFiles {
        /// The limit.
        limit: u64,
    },
    /// The tree holds more bytes than are allowed.
    #[error("there are {bytes} bytes of content, over the limit of {limit}; raise the limit to archive them")]
    TooLarge {
        /// How many there are, names of one file counted once.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Some names cannot be stored: they are not UTF-8, or would be unsafe elsewhere.
    #[error("{} cannot be stored (not UTF-8, or not portable): {names}", counted(names.count, "name", "names"))]
    Names {
        /// The names, as paths.
        names: Listed,
    },
    /// The archive would hold less than the directory, and that was not wanted.
    #[error("{} would be left out: {left_out}", counted(left_out.count, "special file or name", "special files or names"))]
    Loss {
        /// Special files and names that cannot be stored.
        left_out: Listed,
    },
    /// Nothing is taken, and an empty archive is not wanted.
    #[error("nothing of it is taken")]
    Empty,
    /// A symbolic link's target is empty or longer than 4,095 bytes.
    #[error("the symbolic link \"{}\" has a target of {length} bytes, expected 1 to 4095", Shown(path))]
    Target {
        /// The link.
        path: Box<[u8]>,
        /// The length of its target.
        length: usize,
    },
    /// A symbolic link was to be followed, and cannot be.
    #[error("the symbolic link \"{}\" to \"{}\" cannot be followed: it {problem}", Shown(path), Shown(target))]
    Link {
        /// The link.
        path: Box<[u8]>,
        /// What it points at, as it says.
        target: Box<[u8]>,
        /// Why not.
        problem: LinkProblem,
    },
    /// The writer that was given refused the archive's bytes.
    #[error("could not write the archive's {what}")]
    Write {
        /// Which part: "data", "index".
        what: &'static str,
        /// What the writer said.
        source: io::Error,
    },
    /// A file of the archive could not be made.
    #[error("could not {doing} {}", path.display())]
    Output {
        /// The file or directory.
        path: PathBuf,
        /// What was being done: "create", "write", "sync", "rename".
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The names given for the archive's files are not names, or not different.
    #[error("\"{name}\" cannot be the name of one of the archive's files: {problem}")]
    OutputName {
        /// The name.
        name: String,
        /// Why not.
        problem: &'static str,
    },
    /// The index cannot be written.
    #[error("could not make the index")]
    Index(#[from] IndexError),
    /// Compression failed.
    #[error("could not compress \"{}\"", Shown(path))]
    Codec {
        /// The file.
        path: Box<[u8]>,
        /// Why.
        source: Box<DecodeError>,
    },
    /// The operating system gives no thread.
    #[error("could not start a thread")]
    Threads(#[source] io::Error),
    /// The caller's [`Progress`](crate::Progress) said so.
    #[error("cancelled")]
    Cancelled,
}

impl CreateError {
    /// Whether the caller's [`Progress`](crate::Progress) stopped it.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Whether trying again may help, because a file was being written to meanwhile.
    pub fn is_changed(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }

    pub(super) fn read(path: &[u8], doing: &'static str, source: impl Into<io::Error>) -> Self {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        Self::Read { path: path.into(), doing, source: source.into() }
    }

    pub(super) fn changed(path: &[u8], change: Change) -> Self {
        Self::Changed { path: path.into(), change }
    }

    pub(super) fn link(path: &[u8], target: &[u8], problem: LinkProblem) -> Self {
        Self::Link { path: path.into(), target: target.into(), problem }
    }
}

/// Why a symbolic link cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkProblem {
    /// There is nothing where it leads to.
    Nowhere,
    /// It leads out of the directory that is archived, and only what is in there was to be taken.
    Outside,
    /// It leads to a directory that it is in itself.
    Circle,
    /// More than 40 links, this one included, are on the way.
    TooManyLinks,
    /// It is no link of a directory, but of a tar stream, say.
    NoDirectory,
}

impl fmt::Display for LinkProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nowhere => "leads nowhere",
            Self::Outside => "leads out of the directory",
            Self::Circle => "leads to a directory that it is in itself",
            Self::TooManyLinks => "leads over more than 40 links",
            Self::NoDirectory => "is not in a directory that can be read",
        })
    }
}

/// How a file changed between being listed and being read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is gone.
    Vanished,
    /// Another file, or something that is no regular file, has taken its place.
    Replaced,
    /// It has more bytes.
    Grew {
        /// Bytes when it was listed.
        from: u64,
        /// Bytes now, at least.
        to: u64,
    },
    /// It has fewer bytes.
    Shrank {
        /// Bytes when it was listed.
        from: u64,
        /// Bytes now.
        to: u64,
    },
    /// Its content or its status was written anew: its times of modification or change differ.
    Rewritten,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vanished => f.write_str("it vanished"),
            Self::Replaced => f.write_str("something else took its place"),
            Self::Grew { from, to } => write!(f, "it grew from {from} to {to} bytes"),
            Self::Shrank { from, to } => write!(f, "it shrank from {from} to {to} bytes"),
            Self::Rewritten => f.write_str("it was written to"),
        }
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
