//! Questions about paths that the index answers alone.

use super::Archive;
use crate::digest::Digest;
use crate::error::ReadError;
use crate::index::Node;
use crate::path::{self, ArchivePath};

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory, empty or not.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// What the index says about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// The size of a file in bytes, the length of a link's target, 0 for directories.
    pub size: u64,
    /// How many bytes are stored for a file, 0 for anything else.
    pub stored_size: u64,
    /// Permission bits, `0o000` to `0o777`; none are recorded for links and for directories that hold something.
    pub mode: Option<u32>,
    /// The modification time, in nanoseconds since 1970-01-01T00:00:00Z; not recorded for directories that hold
    /// something.
    pub mtime_ns: Option<i64>,
    /// The SHA-256 digest of a file's content.
    pub digest: Option<Digest>,
    /// What a link points at.
    pub target: Option<Box<[u8]>>,
}

impl Metadata {
    fn of(node: Node<'_>) -> Self {
        let nothing = Self {
            kind: FileKind::Directory,
            size: 0,
            stored_size: 0,
            mode: None,
            mtime_ns: None,
            digest: None,
            target: None,
        };
        match node {
            Node::File(entry) => Self {
                kind: FileKind::File,
                size: entry.original_size(),
                stored_size: entry.data_size(),
                mode: Some(entry.mode()),
                mtime_ns: Some(entry.mtime_ns()),
                digest: Some(entry.digest()),
                target: None,
            },
            Node::Symlink(link) => Self {
                kind: FileKind::Symlink,
                size: link.target().len() as u64,
                mtime_ns: Some(link.mtime_ns()),
                target: Some(link.target().into()),
                ..nothing
            },
            Node::EmptyDir(dir) => Self { mode: Some(dir.mode()), mtime_ns: Some(dir.mtime_ns()), ..nothing },
            Node::Directory(_) => nothing,
        }
    }
}

/// Sums over the files beneath a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirStats {
    /// How many files.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub original_bytes: u64,
    /// Their stored sizes together, in bytes; files that share stored bytes count each.
    pub stored_bytes: u64,
}

impl Archive {
    /// What the index says about `path`; links are not followed.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], [`ReadError::InvalidPath`].
    pub fn stat(&self, path: impl AsRef<[u8]>) -> Result<Metadata, ReadError> {
        self.node(&path::normalize(path.as_ref())).map(Metadata::of)
    }

    /// Whether anything stands at `path`.
    pub fn exists(&self, path: impl AsRef<[u8]>) -> bool {
        self.index().lookup(path::normalize(path.as_ref())).is_some()
    }

    /// Whether `path` is a directory; the root always is.
    pub fn is_dir(&self, path: impl AsRef<[u8]>) -> bool {
        self.index().lookup(path::normalize(path.as_ref())).is_some_and(|node| node.is_dir())
    }

    /// Whether `path` is a file.
    pub fn is_file(&self, path: impl AsRef<[u8]>) -> bool {
        self.entry(path).is_some()
    }

    /// Sums over the file at `path`, or over all files beneath the directory; zeros when nothing stands there.
    pub fn dir_stats(&self, path: impl AsRef<[u8]>) -> DirStats {
        let mut stats = DirStats::default();
        let mut add = |entry: crate::entry::Entry<'_>| {
            stats.files += 1;
            stats.original_bytes = stats.original_bytes.saturating_add(entry.original_size());
            stats.stored_bytes = stats.stored_bytes.saturating_add(entry.data_size());
        };
        match self.index().lookup(path::normalize(path.as_ref())) {
            Some(Node::File(entry)) => add(entry),
            Some(Node::Directory(dir)) => dir.files().for_each(add),
            Some(Node::Symlink(_) | Node::EmptyDir(_)) | None => {}
        }
        stats
    }

    /// The paths as archives write them, provided that all of them are files.
    ///
    /// # Errors
    /// For the first path that is not: [`ReadError::InvalidPath`], [`ReadError::NotFound`],
    /// [`ReadError::IsDirectory`], [`ReadError::NotAFile`].
    pub fn validate_files<P: AsRef<[u8]>>(
        &self,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Vec<ArchivePath>, ReadError> {
        let one = |path: P| {
            let path = path::normalize(path.as_ref());
            self.file(&path)?;
            Ok(ArchivePath::new(&path)?)
        };
        paths.into_iter().map(one).collect()
    }
}
