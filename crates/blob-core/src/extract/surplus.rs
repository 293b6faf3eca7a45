//! What stands at a destination and is not in the archive, and taking it away.

use std::collections::HashSet;
use std::fmt;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::run::{Extraction, aside};
use super::select::Tree;
use super::sink::{Destination, Root, io_error, root};
use super::{ExtractError, ExtractOptions, Order};
use crate::archive::Archive;

/// Something at the destination that the archive does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Its path below the destination.
    pub path: Box<[u8]>,
    /// Whether it is a directory, which goes with everything in it.
    pub is_dir: bool,
    /// Whether it stands in the way: the archive has something of another kind there, or a directory.
    pub obstructs: bool,
}

/// What was found at a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurplusReport {
    /// What the archive does not have, sorted by path.
    pub surplus: Vec<Surplus>,
    /// How many things at the destination the archive has as well, directories counted.
    pub common: u64,
}

/// Whether something at the destination is looked at: its path below it, and whether it is a directory.
pub type Considered = dyn Fn(&[u8], bool) -> bool + Send + Sync;

/// What of a destination is looked at.
#[derive(Clone)]
pub struct SurplusOptions {
    /// What it is false for stays, directories with everything in them.
    pub considered: Arc<Considered>,
    /// Whether a directory that the archive does not have is one surplus thing. Otherwise directories are never named,
    /// only what is in them: something that is to stay may be there as well.
    pub whole_dirs: bool,
}

impl fmt::Debug for SurplusOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SurplusOptions").field("whole_dirs", &self.whole_dirs).finish_non_exhaustive()
    }
}

/// Looks through the destination of an order.
pub(crate) async fn surplus(
    archive: &Archive,
    order: Order,
    how: SurplusOptions,
) -> Result<SurplusReport, ExtractError> {
    let options = ExtractOptions { allow_external_symlinks: true, ..ExtractOptions::default() };
    aside(Extraction::idle(archive, order, &options), move |job| job.surplus(&how)).await
}

/// Where something of the archive goes.
struct Places {
    dirs: HashSet<Box<[u8]>>,
    others: HashSet<Vec<u8>>,
}

impl Places {
    fn of(tree: &Tree) -> Self {
        let empty = tree.empty_dirs.iter().map(|&placed| tree.target(placed).into_boxed_slice());
        Self {
            dirs: tree.dirs.iter().map(|dir| dir.path.clone()).chain(empty).collect(),
            others: tree.files.iter().chain(&tree.links).map(|&placed| tree.target(placed)).collect(),
        }
    }
}

impl Extraction {
    fn surplus(&self, how: &SurplusOptions) -> Result<SurplusReport, ExtractError> {
        let places = Places::of(&self.tree()?);
        let mut report = SurplusReport::default();
        let Some(root) = Destination::look(&self.order.dest)? else { return Ok(report) };
        let mut open: Vec<Vec<u8>> = vec![Vec::new()];
        while let Some(dir) = open.pop() {
            if self.link.is_cancelled() {
                return Err(ExtractError::Cancelled);
            }
            for (name, is_dir) in list(&root, &dir)? {
                let path = if dir.is_empty() { name } else { [dir.as_slice(), &name].join(&b'/') };
                if !(how.considered)(&path, is_dir) {
                    continue;
                }
                let (as_dir, as_other) = (places.dirs.contains(path.as_slice()), places.others.contains(&path));
                if (is_dir && as_dir) || (!is_dir && as_other) {
                    report.common += 1;
                    if is_dir {
                        open.push(path);
                    }
                    continue;
                }
                if is_dir && !how.whole_dirs {
                    open.push(path);
                    continue;
                }
                report.surplus.push(Surplus { path: path.into(), is_dir, obstructs: as_dir || as_other });
            }
        }
        report.surplus.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(report)
    }
}

/// The names in a directory below `root`, and whether each is a directory itself. No link is followed.
fn list(root: &Root, dir: &[u8]) -> Result<Vec<(Vec<u8>, bool)>, ExtractError> {
    let failed = |error: Errno| io_error("listing the directory", root.path(dir), error);
    let handle = root.dir(dir).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = fs::openat(&handle, ".", flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in Dir::new(readable).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let is_dir = match entry.file_type() {
            FileType::Unknown => root::stat(handle.as_fd(), name)
                .map_err(failed)?
                .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            known => known == FileType::Directory,
        };
        names.push((name.to_vec(), is_dir));
    }
    Ok(names)
}

/// Removes `surplus` below the directory `dest`, directories with everything in them. Symbolic links are removed, never
/// followed. What is gone already is fine.
///
/// This blocks: call it from a thread that may wait.
///
/// # Errors
/// [`ExtractError::Io`] for the first thing that cannot be removed; those before it are gone.
pub fn remove_surplus(dest: &Path, surplus: &[Surplus]) -> Result<u64, ExtractError> {
    let Some(root) = Destination::look(dest)? else { return Ok(0) };
    let mut removed = 0;
    for thing in surplus {
        let failed = |error: std::io::Error| io_error("removing", root.path(&thing.path), error);
        let (parent, name) = match thing.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&thing.path[..slash], &thing.path[slash + 1..]),
            None => (&b""[..], &thing.path[..]),
        };
        let parent = match root.dir(parent) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(|error| failed(error.into()))?,
        };
        let result = if thing.is_dir {
            remove_dir(&parent, name)
        } else {
            fs::unlinkat(&parent, name, AtFlags::empty()).map_err(Into::into)
        };
        match result {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(removed)
}

/// Removes a directory with everything in it, reached through its open parent so that no link on the way matters.
#[cfg(target_os = "linux")]
fn remove_dir(parent: &std::os::fd::OwnedFd, name: &[u8]) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let parent = format!("/proc/self/fd/{}", parent.as_raw_fd());
    std::fs::remove_dir_all(Path::new(&parent).join(std::ffi::OsStr::from_bytes(name)))
}

#[cfg(not(target_os = "linux"))]
fn remove_dir(parent: &std::os::fd::OwnedFd, name: &[u8]) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Directories in directories, the deepest last: they are opened one by one, and no link is followed.
    let dir = fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let inner = entry.file_name().to_bytes();
        if matches!(inner, b"." | b"..") {
            continue;
        }
        match fs::unlinkat(&dir, inner, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => remove_dir(&dir, inner)?,
            other => other?,
        }
    }
    Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}
