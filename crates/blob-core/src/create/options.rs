//! What the caller can choose.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use rustix::fs::FileType;

use super::skip::SkipCompression;
use crate::codec::DEFAULT_LEVEL;
use crate::entry::Compression;
use crate::progress::{NoProgress, Progress};

/// How an archive is made.
///
/// ```
/// use blob_core::create::{ChangeDetection, CreateOptions};
///
/// let mut options = CreateOptions::default();
/// options.level = 9;
/// options.change_detection = ChangeDetection::Off;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct CreateOptions {
    /// How files are stored: compressed by default. What compression does not make smaller is stored as it is.
    pub compression: Compression,
    /// The Zstandard level, 1 to 22: 3 by default. Levels from 20 need much memory per thread.
    pub level: i32,
    /// Which files are stored as they are without trying.
    pub skip_compression: SkipCompression,
    /// How carefully files are watched for changes while they are read.
    pub change_detection: ChangeDetection,
    /// How many files, links and empty directories there may be: 10 million by default, and as many links that are
    /// followed. Nothing is written when there are more.
    pub max_files: u64,
    /// How many bytes of file content there may be, names of one file counted once: 1 TiB by default, which is what an
    /// extraction takes by default. Nothing is written when there are more.
    pub max_bytes: u64,
    /// Symbolic links: kept by default, as links.
    pub symlinks: Links,
    /// Directories with nothing in them: kept by default.
    pub empty_dirs: Presence,
    /// Names that cannot be stored: refused by default, naming them.
    pub unstorable_names: UnstorableNames,
    /// Whether special files and skipped names are an error instead of being counted.
    pub strict_loss: bool,
    /// Whether a tree of which nothing is taken is an error: for who wants a part of one.
    pub refuse_empty: bool,
    /// Makes equal content give equal archives, whoever makes them and when.
    pub reproducible: Option<Reproducible>,
    /// Threads that read and compress; one for each core by default. The calling thread writes.
    pub threads: Option<NonZero<usize>>,
    /// Bytes of file content held in memory at a time: 48 MiB by default. A file that needs more is worked on alone.
    pub memory: u64,
    /// Watches the work, and may stop it.
    pub progress: Arc<dyn Progress>,
    /// Leaves out files, and whole directories, for which it is false.
    pub filter: Option<Arc<Filter>>,
    /// Files to leave out by device and inode, such as the archive's own; where links are followed, directories, too.
    pub exclude_inodes: Vec<(u64, u64)>,
}

/// Decides from a path in the archive, and what stands there, whether it is taken. It may be called from several
/// threads at once.
pub type Filter = dyn Fn(&[u8], EntryKind) -> bool + Send + Sync;

/// What a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link that is not followed.
    Symlink,
    /// A socket, FIFO or device.
    Special,
}

impl EntryKind {
    pub(super) fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            _ => Self::Special,
        }
    }
}

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Links {
    /// They are stored as links.
    #[default]
    Keep,
    /// They are left out and counted.
    Skip,
    /// What they lead to is stored in their place: a file, or a directory with all that is in it. One that leads out of
    /// the directory that is archived is an error, as are those that lead nowhere, or to a directory that they are in.
    /// Filters are told the kind of what a link leads to, and a link that they do not want is no error.
    Follow,
    /// As [`Follow`](Self::Follow), wherever they lead: whoever can make a link in the directory says which files of this
    /// machine come into the archive.
    FollowOutside,
}

impl Links {
    pub(super) fn are_followed(self) -> bool {
        matches!(self, Self::Follow | Self::FollowOutside)
    }
}

/// How carefully files are watched for changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangeDetection {
    /// Size, times, device and inode must be the same when the tree is listed and when a file has been read.
    #[default]
    Strict,
    /// Only a file with fewer bytes than when it was listed is an error; of one that grew, the first bytes are taken.
    Off,
}

/// Whether something is taken into the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It is taken.
    #[default]
    Keep,
    /// It is left out and counted.
    Skip,
}

/// What happens to names that an archive cannot store: those that are not UTF-8, and the few that are not safe
/// everywhere (`C:/x`, `..\x`, `\\host`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnstorableNames {
    /// No archive is made; the error names the first 20.
    #[default]
    Refuse,
    /// They are left out and counted.
    Skip,
}

/// What is left out so that equal content gives equal archives: owners become 0, and times as follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reproducible {
    /// Times later than this become this, in nanoseconds since 1970-01-01T00:00:00Z (as `SOURCE_DATE_EPOCH` asks); with
    /// `None` every time becomes 0.
    pub clamp_mtime_ns: Option<i64>,
}

impl CreateOptions {
    /// How many threads read and compress.
    pub(super) fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        self.threads.map_or_else(cores, NonZero::get)
    }

    /// The modification time to store.
    pub(super) fn mtime(&self, mtime_ns: i64) -> i64 {
        match self.reproducible {
            None => mtime_ns,
            Some(Reproducible { clamp_mtime_ns: Some(clamp) }) => mtime_ns.min(clamp),
            Some(Reproducible { clamp_mtime_ns: None }) => 0,
        }
    }

    /// Whether compressing the file is worth a try.
    pub(super) fn compresses(&self, path: &[u8], size: u64) -> bool {
        self.compression == Compression::Zstd && !self.skip_compression.skips(path, size)
    }
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Zstd,
            level: DEFAULT_LEVEL,
            skip_compression: SkipCompression::default(),
            change_detection: ChangeDetection::default(),
            max_files: 10_000_000,
            max_bytes: 1 << 40,
            symlinks: Links::default(),
            empty_dirs: Presence::default(),
            unstorable_names: UnstorableNames::default(),
            strict_loss: false,
            refuse_empty: false,
            reproducible: None,
            threads: None,
            memory: 48 << 20,
            progress: Arc::new(NoProgress),
            filter: None,
            exclude_inodes: Vec::new(),
        }
    }
}

impl fmt::Debug for CreateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateOptions")
            .field("compression", &self.compression)
            .field("level", &self.level)
            .field("skip_compression", &self.skip_compression)
            .field("change_detection", &self.change_detection)
            .field("max_files", &self.max_files)
            .field("max_bytes", &self.max_bytes)
            .field("symlinks", &self.symlinks)
            .field("empty_dirs", &self.empty_dirs)
            .field("unstorable_names", &self.unstorable_names)
            .field("strict_loss", &self.strict_loss)
            .field("refuse_empty", &self.refuse_empty)
            .field("reproducible", &self.reproducible)
            .field("threads", &self.threads)
            .field("memory", &self.memory)
            .field("filter", &self.filter.as_ref().map(|_| ".."))
            .field("exclude_inodes", &self.exclude_inodes)
            .finish_non_exhaustive()
    }
}
