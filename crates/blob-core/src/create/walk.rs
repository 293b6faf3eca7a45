//! Listing a tree: every file with its state, every link and empty directory, sorted by path bytes.
//!
//! Directories are listed by several threads from one stack, so depth costs neither stack space nor open files, and
//! each is opened from the root again, so that none can be swapped for a link. Nothing is read but names, states and
//! link targets. Links that are followed are replaced by what they lead to as they are met.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, fstat, readlinkat, statat};

use super::error::{Change, CreateError};
use super::follow::{Followed, Link, Source, Via, join, kind_of};
use super::local::{self, Stamp};
use super::options::{CreateOptions, EntryKind, Links, Presence, UnstorableNames};
use super::report::Listed;
use crate::index::{NewDirectory, NewSymlink};
use crate::path::ArchivePath;
use crate::progress::Event;

/// More threads than this do not list faster.
const MAX_THREADS: usize = 8;

/// The longest target of a link that the format holds, in bytes.
pub(super) const MAX_TARGET: usize = 4095;

/// A regular file, as it was when it was listed.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: ArchivePath,
    pub(super) stamp: Stamp,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether it has other names, or may have because links are followed.
    pub(super) linked: bool,
    /// The link by which it was reached, if it was.
    pub(super) via: Option<Arc<Via>>,
}

/// What a directory holds, each list sorted by path bytes.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<Found>,
    pub(super) symlinks: Vec<NewSymlink>,
    pub(super) empty_dirs: Vec<NewDirectory>,
    pub(super) special: Listed,
    /// Names that cannot be stored.
    pub(super) names: Listed,
    pub(super) skipped_symlinks: u64,
    pub(super) skipped_empty_dirs: u64,
    /// Links that were followed.
    pub(super) followed: u64,
}

/// Lists everything beneath the root of `source` that the options want.
pub(super) fn walk(source: Source<'_>, options: &CreateOptions) -> Result<Tree, CreateError> {
    let pending = Pending { dirs: vec![Directory::default()], active: 0, stopped: false, error: None };
    let (pending, wake) = (Mutex::new(pending), Condvar::new());
    let walk = Walk { source, options, pending, wake, found: AtomicU64::new(0), followed: AtomicU64::new(0) };
    let mut tree = thread::scope(|scope| {
        let more = options.thread_count().min(MAX_THREADS) - 1;
        // A thread that cannot be had is done without: the calling one lists too.
        let helpers: Vec<_> = (0..more)
            .map_while(|_| thread::Builder::new().name("blob-walk".into()).spawn_scoped(scope, || walk.work()).ok())
            .collect();
        let mut tree = walk.work();
        for helper in helpers {
            tree.merge(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        tree
    });
    if let Some(error) = walk.lock().error.take() {
        return Err(error);
    }
    tree.sort();
    tree.judge(options)?;
    Ok(tree)
}

impl Tree {
    fn merge(&mut self, mut other: Self) {
        self.files.append(&mut other.files);
        self.symlinks.append(&mut other.symlinks);
        self.empty_dirs.append(&mut other.empty_dirs);
        self.special.merge(other.special);
        self.names.merge(other.names);
        self.skipped_symlinks += other.skipped_symlinks;
        self.skipped_empty_dirs += other.skipped_empty_dirs;
        self.followed += other.followed;
    }

    fn sort(&mut self) {
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.symlinks.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.empty_dirs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    }

    /// Whether what cannot be stored is acceptable.
    pub(super) fn judge(&self, options: &CreateOptions) -> Result<(), CreateError> {
        if !self.names.is_empty() && options.unstorable_names == UnstorableNames::Refuse {
            return Err(CreateError::Names { names: self.names.clone() });
        }
        let mut left_out = self.special.clone();
        left_out.merge(self.names.clone());
        if options.strict_loss && !left_out.is_empty() {
            return Err(CreateError::Loss { left_out });
        }
        Ok(())
    }
}

/// The work that the threads share.
struct Walk<'a> {
    source: Source<'a>,
    options: &'a CreateOptions,
    pending: Mutex<Pending>,
    wake: Condvar,
    found: AtomicU64,
    followed: AtomicU64,
}

/// A directory that is to be listed.
#[derive(Default)]
struct Directory {
    path: Box<[u8]>,
    /// The link by which it was reached, if it was.
    via: Option<Arc<Via>>,
}

struct Pending {
    /// Directories to be listed, the last first.
    dirs: Vec<Directory>,
    /// Threads that are listing one, and may find more.
    active: usize,
    stopped: bool,
    error: Option<CreateError>,
}

/// A thread that panics must not leave the others waiting for it.
struct StopOnPanic<'a>(&'a Walk<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().stopped = true;
            self.0.wake.notify_all();
        }
    }
}

impl Walk<'_> {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists directories until there are none.
    fn work(&self) -> Tree {
        let _guard = StopOnPanic(self);
        let mut tree = Tree::default();
        while let Some(dir) = self.next() {
            let mut subdirs = Vec::new();
            let result = self.list(&dir, &mut tree, &mut subdirs);
            let mut pending = self.lock();
            pending.active -= 1;
            pending.dirs.append(&mut subdirs);
            if let Err(error) = result {
                pending.stopped = true;
                pending.error.get_or_insert(error);
            }
            drop(pending);
            self.wake.notify_all();
        }
        tree
    }

    fn next(&self) -> Option<Directory> {
        let mut pending = self.lock();
        loop {
            if pending.stopped || (pending.dirs.is_empty() && pending.active == 0) {
                return None;
            }
            if let Some(dir) = pending.dirs.pop() {
                pending.active += 1;
                return Some(dir);
            }
            pending = self.wake.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lists one directory. It is kept as empty when nothing directly in it is taken, so that every directory that the
    /// filter wants is there again after extraction.
    fn list(&self, dir: &Directory, tree: &mut Tree, subdirs: &mut Vec<Directory>) -> Result<(), CreateError> {
        let path = &dir.path;
        let opened = self.source.open(path, dir.via.as_deref(), OFlags::DIRECTORY);
        let fd = opened.map_err(|errno| local::open_error(path, errno))?;
        let unreadable = |errno| CreateError::read(path, "list", errno);
        let mut entries = Dir::new(fd).map_err(unreadable)?;
        let mut empty = true;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let fd = entries.fd().map_err(unreadable)?;
            let place = Place { dir: fd, name, path: join(path, name), via: dir.via.as_ref() };
            if self.take(place, entry.file_type(), tree, subdirs)? {
                empty = false;
            }
        }
        if empty && !path.is_empty() {
            self.keep_empty(path, entries.fd().map_err(unreadable)?, tree)?;
        }
        let found = self.found.load(Ordering::Relaxed);
        match self.options.progress.event(&Event::Scanning { found }) {
            std::ops::ControlFlow::Continue(()) => Ok(()),
            std::ops::ControlFlow::Break(()) => Err(CreateError::Cancelled),
        }
    }

    /// Takes one name; tells whether it is in the archive or, being a directory, will be.
    fn take(
        &self,
        place: Place<'_>,
        file_type: FileType,
        tree: &mut Tree,
        subdirs: &mut Vec<Directory>,
    ) -> Result<bool, CreateError> {
        let mut kind = match file_type {
            FileType::Unknown => kind_of(&place.stat()?),
            known => EntryKind::of(known),
        };
        let mut followed = None;
        if kind == EntryKind::Symlink {
            followed = self.source.follow(&place.link());
            kind = match &followed {
                None => kind,
                Some(Ok(followed)) => kind_of(&followed.stat),
                Some(Err(refused)) => refused.kind,
            };
        }
        if self.options.filter.as_ref().is_some_and(|wants| !wants(&place.path, kind)) {
            return Ok(false);
        }
        let path = match ArchivePath::new(&place.path) {
            Ok(path) if path.as_str().is_some() => path,
            _ => {
                tree.names.add(place.path.into());
                return Ok(false);
            }
        };
        let followed = followed.transpose().map_err(|refused| refused.error)?;
        let taken = match kind {
            EntryKind::File => self.take_file(&place, path, followed.as_ref(), tree)?,
            EntryKind::Symlink => return self.take_symlink(&place, path, tree),
            EntryKind::Directory => {
                if self.is_excluded(&place, followed.as_ref())? {
                    return Ok(false);
                }
                if let Some(followed) = &followed {
                    self.source.check_circle(&place.link(), followed)?;
                }
                let via = followed.as_ref().map(|followed| &followed.via).or(place.via).cloned();
                subdirs.push(Directory { path: place.path.into(), via });
                true
            }
            EntryKind::Special => {
                tree.special.add(place.path.into());
                false
            }
        };
        if taken && followed.is_some() {
            // Without a limit of its own, directories with many ways to each could be listed for ever.
            self.count(&self.followed)?;
            tree.followed += 1;
        }
        Ok(taken)
    }

    /// Whether a directory is one of those to be left out, which other paths than its own may lead to.
    fn is_excluded(&self, place: &Place<'_>, followed: Option<&Followed>) -> Result<bool, CreateError> {
        if self.source.follow.is_none() || self.options.exclude_inodes.is_empty() {
            return Ok(false);
        }
        let stamp = match followed {
            Some(followed) => Stamp::of(&followed.stat),
            None => Stamp::of(&place.stat()?),
        };
        Ok(self.options.exclude_inodes.contains(&(stamp.dev, stamp.ino)))
    }

    fn take_file(
        &self,
        place: &Place<'_>,
        path: ArchivePath,
        followed: Option<&Followed>,
        tree: &mut Tree,
    ) -> Result<bool, CreateError> {
        let stat = match followed {
            Some(followed) => followed.stat,
            None => place.stat()?,
        };
        let stamp = Stamp::of(&stat);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(CreateError::changed(&place.path, Change::Replaced));
        }
        if self.options.exclude_inodes.contains(&(stamp.dev, stamp.ino)) {
            return Ok(false);
        }
        self.count(&self.found)?;
        let mode = local::permissions(&stat);
        // A file that a link leads to has two paths in the archive, and may have one name alone.
        let linked = stat.st_nlink > 1 || self.source.follow.is_some();
        let via = followed.map(|followed| &followed.via).or(place.via).cloned();
        tree.files.push(Found { path, stamp, mode, uid: stat.st_uid, gid: stat.st_gid, linked, via });
        Ok(true)
    }

    fn take_symlink(&self, place: &Place<'_>, path: ArchivePath, tree: &mut Tree) -> Result<bool, CreateError> {
        if self.options.symlinks == Links::Skip {
            tree.skipped_symlinks += 1;
            return Ok(false);
        }
        let target = match readlinkat(place.dir, place.name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(rustix::io::Errno::INVAL) => return Err(CreateError::changed(&place.path, Change::Replaced)),
            Err(errno) => return Err(local::open_error(&place.path, errno)),
        };
        if target.is_empty() || target.len() > MAX_TARGET {
            return Err(CreateError::Target { path: place.path.as_slice().into(), length: target.len() });
        }
        let mtime_ns = self.options.mtime(Stamp::of(&place.stat()?).mtime);
        self.count(&self.found)?;
        tree.symlinks.push(NewSymlink { path, target, mtime_ns });
        Ok(true)
    }

    fn keep_empty(&self, dir: &[u8], fd: BorrowedFd<'_>, tree: &mut Tree) -> Result<(), CreateError> {
        if self.options.empty_dirs == Presence::Skip {
            tree.skipped_empty_dirs += 1;
            return Ok(());
        }
        let stat = fstat(fd).map_err(|errno| CreateError::read(dir, "list", errno))?;
        self.count(&self.found)?;
        let path = ArchivePath::new(dir).expect("directories are checked before they are listed");
        let mtime_ns = self.options.mtime(Stamp::of(&stat).mtime);
        tree.empty_dirs.push(NewDirectory { path, mode: local::permissions(&stat), mtime_ns });
        Ok(())
    }

    /// Counts something that goes into the archive, or is followed.
    fn count(&self, counter: &AtomicU64) -> Result<(), CreateError> {
        let limit = self.options.max_files;
        if counter.fetch_add(1, Ordering::Relaxed) < limit { Ok(()) } else { Err(CreateError::TooManyFiles { limit }) }
    }
}

/// A name in an open directory.
struct Place<'a> {
    dir: BorrowedFd<'a>,
    name: &'a [u8],
    path: Vec<u8>,
    /// The link by which the directory was reached, if it was.
    via: Option<&'a Arc<Via>>,
}

impl Place<'_> {
    fn link(&self) -> Link<'_> {
        Link { dir: self.dir, name: self.name, path: &self.path, via: self.via }
    }

    fn stat(&self) -> Result<Stat, CreateError> {
        statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| local::open_error(&self.path, errno))
    }
}
