//! Extraction: many files of an archive to a directory, each verified before it gets its name.
//!
//! Bytes are read in offset order, near files together; threads decode, verify and write them. Data at hand is read by
//! the threads themselves; other data comes through a few requests at a time, within a bounded number of bytes. Nothing
//! is ever written outside the destination, whatever links stand there, and no half-written file has a final name.
//!
//! An archive that has a content cache and is not local asks it for every file first; only what it lacks is planned and
//! fetched, and then kept there. A cache that fails or lies costs a warning and a request, never the extraction.
//!
//! A destination that is absent or empty is filled in a hidden sibling and appears whole, with one rename.

mod again;
mod cached;
mod collide;
mod feed;
mod fill;
mod link;
mod links;
mod merge;
mod plan;
mod preview;
mod room;
mod run;
mod select;
mod sink;
mod surplus;
mod workers;

use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use crate::progress::Progress;

pub use crate::error::ExtractError;
pub(crate) use preview::preview;
pub use preview::{Action, Planned};
pub(crate) use run::{Order, conflicts, extract};
pub use select::Selection;
pub(crate) use sink::random_name;
pub(crate) use surplus::surplus;
pub use surplus::{Considered, SetAside, Surplus, SurplusOptions, SurplusReport, remove_surplus};

/// What happens to files that exist at the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// They stay, whatever they hold, and are counted as skipped.
    #[default]
    Skip,
    /// They stay if they hold what the archive has; otherwise the extraction is refused with
    /// [`ExtractError::Exists`] before anything is written.
    KeepEqual,
    /// They are replaced, one rename each.
    Overwrite,
    /// They stay if they hold what the archive has, with the times that they have and, unless
    /// [`compare_modes`](ExtractOptions::compare_modes) is set, the modes; others are replaced, one rename each. Nothing is
    /// fetched for those that stay.
    Update,
    /// As [`Update`](Self::Update), but what differs is replaced only if the archive has it with a later modification time;
    /// otherwise it stays, and is counted as skipped.
    UpdateOlder,
}

impl Existing {
    /// Whether files that differ are replaced.
    fn replaces(self) -> bool {
        matches!(self, Self::Overwrite | Self::Update | Self::UpdateOlder)
    }
}

/// Where things go below the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// To their path in the archive.
    #[default]
    Full,
    /// To their path below this one; what lies elsewhere keeps its path.
    Strip(Vec<u8>),
    /// To their path without so many of its first names, as `tar --strip-components` has it. What has no more names than
    /// that is left out, and counted; two things that come to one place are refused.
    StripComponents(usize),
    /// All to the destination itself, by their last name. Empty directories are left out. Two things with one name are
    /// refused.
    Flat,
}

/// What happens to symbolic links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symlinks {
    /// They are created.
    #[default]
    Keep,
    /// They are left out.
    Skip,
}

/// How a file comes out of the content cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FromCache {
    /// Its bytes are copied.
    #[default]
    Copy,
    /// It shares its blocks with the cache's file until one of them is written to, where the file system can do that
    /// (Btrfs, XFS, bcachefs; cache and destination on the same one); elsewhere its bytes are copied.
    Reflink,
    /// It is the cache's file, under another name: no bytes are copied, and it is hashed before it gets that name. It
    /// can be read only, whatever the archive says, and has the time at which it came into the cache. Who makes it
    /// writable and edits it in place edits the cache's entry as well; so this is for caches that check linked
    /// entries at every hit, as `blob-cache` does.
    ///
    /// Copied instead are files that are to be executable, those on another file system than the cache, those that
    /// have other permissions elsewhere already, and those whose links the file system will not count any further.
    HardLink,
}

/// How much may be extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtractLimits {
    /// Content bytes in all: 1 TiB by default. A small archive can hold a great deal, since files may share their
    /// bytes.
    pub max_bytes: u64,
    /// Files: 16 million by default.
    pub max_files: u64,
}

impl Default for ExtractLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 40, max_files: 16 << 20 }
    }
}

/// How an archive is extracted.
#[derive(Clone)]
#[non_exhaustive]
pub struct ExtractOptions {
    /// What happens to files that exist.
    pub existing: Existing,
    /// Whether files get the permission bits of the archive, less the umask; otherwise `0o666` less the umask. Set-id
    /// bits and owners are never restored.
    pub preserve_mode: bool,
    /// Whether a file with other permission bits than it would get is given these where files are updated, and
    /// `preserve_mode` is set: no by default. One that has other names is written anew, so that those keep theirs. Without effect where the system does not tell the umask (it does on Linux).
    pub compare_modes: bool,
    /// Whether files, links and empty directories get the modification time of the archive.
    pub preserve_times: bool,
    /// Whether what stands at the destination is replaced as a whole: the new tree is written beside it, and takes its
    /// place when it is complete. Without effect on single files.
    pub clean: bool,
    /// What happens to symbolic links.
    pub symlinks: Symlinks,
    /// Whether links may lead out of the destination; otherwise one that does refuses the extraction.
    pub allow_external_symlinks: bool,
    /// Whether empty directories are created.
    pub empty_dirs: bool,
    /// Where things go.
    pub layout: Layout,
    /// How many threads; by default as many as the system offers, at most 16.
    pub workers: Option<NonZero<usize>>,
    /// How many requests are in flight, when the data is not local: 4 by default.
    pub read_concurrency: usize,
    /// How many stored bytes are held between source and disk, when the data is not local: 32 MiB by default. A single
    /// request may be larger when nothing else is held.
    pub read_ahead_bytes: u64,
    /// How many bytes one request reads for files up to 8 MiB: 8 MiB by default. Larger files are one request each.
    pub chunk_bytes: u64,
    /// How many unwanted bytes one request may read between two files: 64 KiB by default.
    pub max_gap: u64,
    /// How files come out of the content cache of the archive, if it has one and its data is not local. Filling that
    /// cache takes up to 16 MiB of memory besides [`read_ahead_bytes`](Self::read_ahead_bytes).
    pub from_cache: FromCache,
    /// Whether everything is on disk when the extraction ends well.
    pub fsync: bool,
    /// Whether to begin although the file system says that it has not the room. By default that is refused before a byte
    /// is written; a file system that compresses may hold more than it says.
    pub skip_room_check: bool,
    /// How much may be extracted.
    pub limits: ExtractLimits,
    /// Watches, and may stop, the extraction; called by several threads.
    pub progress: Option<Arc<dyn Progress>>,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            existing: Existing::default(),
            preserve_mode: false,
            compare_modes: false,
            preserve_times: false,
            clean: false,
            symlinks: Symlinks::default(),
            allow_external_symlinks: false,
            empty_dirs: true,
            layout: Layout::default(),
            workers: None,
            read_concurrency: 4,
            read_ahead_bytes: 32 << 20,
            chunk_bytes: 8 << 20,
            max_gap: 64 << 10,
            from_cache: FromCache::default(),
            fsync: false,
            skip_room_check: false,
            limits: ExtractLimits::default(),
            progress: None,
        }
    }
}

impl fmt::Debug for ExtractOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractOptions")
            .field("existing", &self.existing)
            .field("preserve_mode", &self.preserve_mode)
            .field("preserve_times", &self.preserve_times)
            .field("clean", &self.clean)
            .field("symlinks", &self.symlinks)
            .field("layout", &self.layout)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What an extraction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtractReport {
    /// Files written.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// Those of the files whose content came from the content cache, without a request.
    pub cached: u64,
    /// Their sizes together, in bytes.
    pub cached_bytes: u64,
    /// Those of the files that are hard links to the cache's files.
    pub linked: u64,
    /// Files, links and empty directories that stood there as the archive has them.
    pub kept: u64,
    /// Those of them that were given other permission bits.
    pub modes: u64,
    /// Files and links that something else kept from being written.
    pub skipped: u64,
    /// The first of them, at most 100.
    pub skipped_paths: Vec<PathBuf>,
    /// Symbolic links created.
    pub symlinks: u64,
    /// Symbolic links that the options left out.
    pub links_left_out: u64,
    /// Files, links and empty directories that [`Layout::StripComponents`] left without a name.
    pub paths_left_out: u64,
    /// Directories created, the destination itself not counted.
    pub dirs: u64,
    /// The most stored bytes that were held between source and disk at a time; 0 when the data was local.
    pub peak_buffered_bytes: u64,
}

impl ExtractReport {
    /// How many skipped paths are named.
    const NAMED: usize = 100;

    fn skip(&mut self, path: impl FnOnce() -> PathBuf) {
        self.skipped += 1;
        if self.skipped_paths.len() < Self::NAMED {
            self.skipped_paths.push(path());
        }
    }
}
