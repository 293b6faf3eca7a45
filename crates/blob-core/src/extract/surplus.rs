//! What stands at a destination and is not in the archive, and taking it away.

mod aside;
mod remove;
mod same;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{self, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::run::{Extraction, aside};
use super::select::Tree;
use super::sink::{Destination, Root, io_error, root};
use super::{ExtractError, ExtractOptions, Order};
use crate::archive::Archive;

pub use aside::SetAside;
pub use remove::remove_surplus;
use same::{Name, aliases};

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

/// Where something of the archive goes: for each directory the names in it, and whether each is a directory.
struct Places(HashMap<Vec<u8>, HashMap<Vec<u8>, bool>>);

impl Places {
    fn of(tree: &Tree) -> Self {
        let mut places = Self(HashMap::new());
        tree.dirs.iter().skip(1).for_each(|dir| places.add(&dir.path, true));
        tree.empty_dirs.iter().for_each(|&placed| places.add(&tree.target(placed), true));
        tree.files.iter().chain(&tree.links).for_each(|&placed| places.add(&tree.target(placed), false));
        places
    }

    fn add(&mut self, path: &[u8], is_dir: bool) {
        let (parent, name) = split(path);
        self.0.entry(parent.to_vec()).or_default().insert(name.to_vec(), is_dir);
    }

    /// The names that the archive has in `dir`.
    fn within(&self, dir: &[u8]) -> Option<&HashMap<Vec<u8>, bool>> {
        self.0.get(dir)
    }
}

/// The directory of a path, and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, name].join(&b'/') }
}

/// A directory at the destination: its path there, and the one that the archive has for it. They differ where the file
/// system takes two names for one.
struct Open {
    there: Vec<u8>,
    ours: Vec<u8>,
}

impl Extraction {
    fn surplus(&self, how: &SurplusOptions) -> Result<SurplusReport, ExtractError> {
        let places = Places::of(&self.tree()?);
        let mut report = SurplusReport::default();
        let Some(root) = Destination::look(&self.order.dest)? else { return Ok(report) };
        let mut open = vec![Open { there: Vec::new(), ours: Vec::new() }];
        while let Some(dir) = open.pop() {
            if self.link.is_cancelled() {
                return Err(ExtractError::Cancelled);
            }
            let (handle, names) = list(&root, &dir.there)?;
            let wanted = places.within(&dir.ours);
            let aliases = wanted.map(|wanted| of_archive(&handle, &names, wanted)).unwrap_or_default();
            for (name, is_dir) in names {
                let ours = join(&dir.ours, aliases.get(&name).unwrap_or(&name));
                if !(how.considered)(&ours, is_dir) {
                    continue;
                }
                let (_, last) = split(&ours);
                let place = wanted.and_then(|wanted| wanted.get(last)).copied();
                let there = join(&dir.there, &name);
                if place == Some(is_dir) {
                    report.common += 1;
                    if is_dir {
                        open.push(Open { there, ours });
                    }
                } else if is_dir && !how.whole_dirs && !(place.is_some() && self.goes_whole(&root, &there, how)?) {
                    open.push(Open { there, ours });
                } else {
                    report.surplus.push(Surplus { path: there.into(), is_dir, obstructs: place.is_some() });
                }
            }
        }
        report.surplus.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(report)
    }

    /// Whether everything in a directory, which stands in the way of a file, is looked at, so that it may go as a whole. The
    /// archive has nothing below it.
    fn goes_whole(&self, root: &Root, dir: &[u8], how: &SurplusOptions) -> Result<bool, ExtractError> {
        let mut open = vec![dir.to_vec()];
        while let Some(dir) = open.pop() {
            if self.link.is_cancelled() {
                return Err(ExtractError::Cancelled);
            }
            for (name, is_dir) in list(root, &dir)?.1 {
                let path = join(&dir, &name);
                if !(how.considered)(&path, is_dir) {
                    return Ok(false);
                }
                if is_dir {
                    open.push(path);
                }
            }
        }
        Ok(true)
    }
}

/// Of the names in a directory those that the file system takes for one that the archive has, with the archive's.
fn of_archive(dir: &OwnedFd, names: &[(Vec<u8>, bool)], wanted: &HashMap<Vec<u8>, bool>) -> HashMap<Vec<u8>, Vec<u8>> {
    let unknown: Vec<&[u8]> =
        names.iter().map(|(name, _)| &**name).filter(|name| !wanted.contains_key(*name)).collect();
    if unknown.is_empty() {
        return HashMap::new();
    }
    let listed: HashSet<&[u8]> = names.iter().map(|(name, _)| &**name).collect();
    let missing = wanted.keys().map(|name| &**name).filter(|name| !listed.contains(name));
    aliases(unknown.into_iter(), missing, |name| {
        let found = root::stat(dir.as_fd(), name).ok().flatten()?;
        Some(Name { dev: found.st_dev, ino: found.st_ino })
    })
}

/// A directory below `root`, and the names in it with whether each is a directory itself.
type Listed = (OwnedFd, Vec<(Vec<u8>, bool)>);

/// Lists a directory below `root`. No link is followed.
fn list(root: &Root, dir: &[u8]) -> Result<Listed, ExtractError> {
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
    Ok((handle, names))
}
