//! Making an archive from a directory.
//!
//! The tree is listed first, whole; names that cannot be stored and trees that are too large are refused before a byte
//! is written. Then threads read, hash and compress the files while the calling thread writes what they hand over, in
//! the order of the paths: the same tree gives the same bytes, however many threads there are. Every content is stored
//! once. Links are kept as links and not followed, not even where one takes the place of a directory meanwhile, unless
//! [`CreateOptions::symlinks`] asks for what they lead to.
//!
//! Kept are content, the nine permission bits, owner numbers, modification times, link targets and empty directories.
//! Hard links become equal files. Special files are left out and counted; extended attributes and the holes of sparse
//! files are not looked at.
//!
//! Memory is bounded by [`CreateOptions::memory`], 20 to 50 MiB for a large file on its way (more at levels from 16), and
//! what is known about each file: some 300 bytes and its path.
//!
//! ```
//! use blob_core::create::{CreateOptions, create};
//!
//! let dir = tempfile::tempdir()?;
//! std::fs::write(dir.path().join("hello.txt"), "hello")?;
//!
//! let mut data = Vec::new();
//! let created = create(dir.path(), &mut data, &CreateOptions::default())?;
//! assert_eq!(created.report.files, 1);
//! let entry = created.index.entry("hello.txt").expect("it was archived");
//! assert_eq!(&data[..5], b"hello");
//! # assert_eq!(entry.range(), 0..5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blob;
mod commit;
mod content;
mod encode;
mod error;
mod follow;
mod idle;
mod local;
mod opened;
mod options;
mod parts;
mod queue;
mod report;
mod skip;
mod walk;

use std::io::Write;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub use blob::{CreateBlobOptions, ManifestOutput, create_blob};
pub use error::{Change, CreateError, LinkProblem};
pub use options::{ChangeDetection, CreateOptions, EntryKind, Filter, Links, Presence, Reproducible, UnstorableNames};
pub use parts::{Member, MemberKind, Parts, create_from_parts};
pub use report::{CreateReport, Listed};
pub use skip::{COMPRESSED_EXTENSIONS, DEFAULT_MIN_SIZE, SkipCompression};

use crate::digest::Digest;
use crate::index::{ArchiveIndex, IndexBuilder, NewFile};
use commit::{Committed, Placement, Stop};
use encode::{Job, Origin};
use follow::{Follow, Source};
use queue::StopOnDrop;
use walk::{Found, Tree};

/// An archive whose data has been written.
#[derive(Debug)]
#[non_exhaustive]
pub struct Created {
    /// The index; [`ArchiveIndex::as_bytes`] is what to store.
    pub index: ArchiveIndex,
    /// The size of the data blob in bytes: 1 at least.
    pub data_size: u64,
    /// The SHA-256 of the data blob.
    pub data_digest: Digest,
    /// What came into the archive, and what did not.
    pub report: CreateReport,
}

/// Archives the directory `dir`: writes the data blob to `data`, and returns the index. `dir` itself may be a symbolic
/// link. The threads that it starts have ended when it returns.
///
/// # Errors
/// [`CreateError`]. What was written to `data` is then of no use.
///
/// # Panics
/// With the panic of a filter, predicate, progress watcher or writer of the caller, after all threads have ended.
pub fn create(dir: &Path, data: &mut dyn Write, options: &CreateOptions) -> Result<Created, CreateError> {
    let root = open_root(dir)?;
    let outside = options.symlinks == Links::FollowOutside;
    let follow = options.symlinks.are_followed().then(|| Follow::new(dir, root.as_fd(), outside)).transpose()?;
    let source = Source { root: root.as_fd(), follow: follow.as_ref() };
    let tree = walk::walk(source, options)?;
    assemble(Origin::Directory(source), tree, data, options)
}

/// Writes what a tree holds, and the index of it.
fn assemble(
    origin: Origin<'_>,
    tree: Tree,
    data: &mut dyn Write,
    options: &CreateOptions,
) -> Result<Created, CreateError> {
    check_size(&tree, options)?;
    if options.refuse_empty && tree.files.is_empty() && tree.symlinks.is_empty() && tree.empty_dirs.is_empty() {
        return Err(CreateError::Empty);
    }
    let mut report = report_of(&tree);
    let committed = {
        let job = Job::new(origin, &tree.files, options);
        run(&job, data, &mut report)?
    };
    let Committed { placements, data_size, data_digest } = committed;
    let mut builder = IndexBuilder::new();
    for (found, placement) in tree.files.into_iter().zip(placements) {
        builder.file(new_file(found, &placement, options));
    }
    tree.symlinks.into_iter().for_each(|link| builder.symlink(link));
    tree.empty_dirs.into_iter().for_each(|dir| builder.empty_dir(dir));
    let index = builder.finish(data_size, &data_digest)?;
    Ok(Created { index, data_size, data_digest, report })
}

/// Refuses trees that hold too much, before anything of them is read.
fn check_size(tree: &Tree, options: &CreateOptions) -> Result<(), CreateError> {
    let mut names = std::collections::HashSet::new();
    let first = |file: &&Found| !file.linked || names.insert((file.stamp.dev, file.stamp.ino));
    let bytes = tree.files.iter().filter(first).map(|file| file.stamp.size).fold(0, u64::saturating_add);
    let limit = options.max_bytes;
    if bytes > limit { Err(CreateError::TooLarge { bytes, limit }) } else { Ok(()) }
}

/// Archives the directory `dir` to two writers. The index is written at the end, in one write.
///
/// # Errors
/// As [`create`]. Nothing has been written to `index` then, unless it is the index that could not be written.
pub fn create_to(
    dir: &Path,
    index: &mut dyn Write,
    data: &mut dyn Write,
    options: &CreateOptions,
) -> Result<Created, CreateError> {
    let created = create(dir, data, options)?;
    let written = index.write_all(created.index.as_bytes()).and_then(|()| index.flush());
    written.map_err(|source| CreateError::Write { what: "index", source })?;
    Ok(created)
}

fn open_root(dir: &Path) -> Result<OwnedFd, CreateError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => CreateError::NotFound { path: dir.into() },
        Errno::NOTDIR => CreateError::NotADirectory { path: dir.into() },
        other => CreateError::read(dir.as_os_str().as_bytes(), "open", other),
    })
}

/// Runs the threads, and writes what they hand over.
fn run(job: &Job<'_>, data: &mut dyn Write, report: &mut CreateReport) -> Result<Committed, CreateError> {
    let result = thread::scope(|scope| {
        let stop = StopOnDrop(&job.queue);
        let mut threads = Vec::new();
        for number in 0..job.options.thread_count().min(job.files.len()) {
            let thread = thread::Builder::new().name(format!("blob-create-{number}"));
            match thread.spawn_scoped(scope, || job.work()) {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => return Err(Stop::Failed(CreateError::Threads(error))),
                // Those that there are do.
                Err(_) => break,
            }
        }
        let result = commit::commit(job, data, report);
        drop(stop);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        result
    });
    result.map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Elsewhere => job.queue.failure().expect("a thread that stops the others says why, or panics"),
    })
}

fn report_of(tree: &Tree) -> CreateReport {
    CreateReport {
        files: tree.files.len() as u64,
        symlinks: tree.symlinks.len() as u64,
        empty_dirs: tree.empty_dirs.len() as u64,
        followed_symlinks: tree.followed,
        skipped_symlinks: tree.skipped_symlinks,
        skipped_empty_dirs: tree.skipped_empty_dirs,
        special: tree.special.clone(),
        skipped_names: tree.names.clone(),
        original_bytes: tree.files.iter().map(|file| file.stamp.size).sum(),
        ..CreateReport::default()
    }
}

fn new_file(found: Found, placement: &Placement, options: &CreateOptions) -> NewFile {
    let anonymous = options.reproducible.is_some();
    NewFile {
        data_offset: placement.offset,
        data_size: placement.size,
        original_size: found.stamp.size,
        hash: placement.digest,
        mode: found.mode,
        uid: if anonymous { 0 } else { found.uid },
        gid: if anonymous { 0 } else { found.gid },
        mtime_ns: options.mtime(found.stamp.mtime),
        compression: placement.compression,
        path: found.path,
    }
}
