//! Directories, empty directories and symbolic links.

use std::os::fd::AsFd as _;

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::file::{rename_new, timestamps, with_random_name};
use super::{Finished, Handles, Publish, Root, io_error, obstructed, root};
use crate::entry::{EmptyDir, Symlink};
use crate::extract::ExtractError;
use crate::extract::select::{Placed, Tree};

/// Creates the directories of `tree` that are not `present`; the answer is how many.
pub(in crate::extract) fn make_dirs(tree: &Tree, root: &Root, present: &[bool]) -> Result<u64, ExtractError> {
    let mut handles = Handles::new(root, tree);
    let mut made = 0;
    for (at, dir) in tree.dirs.iter().enumerate().skip(1) {
        if present.get(at).copied().unwrap_or_default() {
            continue;
        }
        match fs::mkdirat(handles.get(dir.parent)?, dir.name(), Mode::from_raw_mode(0o777)) {
            Ok(()) => made += 1,
            // Somebody else made it, or put something else there, which opening it finds out.
            Err(Errno::EXIST) => drop(handles.get(at as u32)?),
            Err(error) => return Err(io_error("creating the directory", root.path(&dir.path), error)),
        }
    }
    Ok(made)
}

/// Creates the directories on the way to `path` and itself.
pub(super) fn make_path(root: &Root, path: &[u8]) -> Result<(), ExtractError> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut start = 0;
    for end in ends.chain((!path.is_empty()).then_some(path.len())) {
        let shown = root.path(&path[..end]);
        let parent = root.dir(&path[..start.max(1) - 1]).map_err(|error| {
            if root::is_obstacle(error) {
                obstructed(&shown, "below a symbolic link or a file", "a directory")
            } else {
                io_error("opening the directory above", &shown, error)
            }
        })?;
        match fs::mkdirat(&parent, &path[start..end], Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(io_error("creating the directory", shown, error)),
        }
        start = end + 1;
    }
    Ok(())
}

/// How links and empty directories are placed.
#[derive(Debug)]
pub(in crate::extract) struct Placing<'a> {
    pub(in crate::extract) tree: &'a Tree,
    pub(in crate::extract) root: &'a Root,
    pub(in crate::extract) publish: Publish,
    pub(in crate::extract) modes: bool,
    pub(in crate::extract) times: bool,
}

impl Placing<'_> {
    /// Creates an empty directory; one that stands there already is left as it is.
    pub(in crate::extract) fn empty_dir(
        &self,
        handles: &mut Handles<'_>,
        placed: Placed,
        dir: EmptyDir<'_>,
    ) -> Result<Finished, ExtractError> {
        let name = self.tree.name(placed);
        let failed =
            |error: Errno| io_error("creating the directory", self.root.path(&self.tree.target(placed)), error);
        let mode = if self.modes { dir.mode() } else { 0o777 };
        let parent = handles.get(placed.dir)?;
        match fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let standing = root::stat(parent.as_fd(), name).map_err(failed)?;
                if standing.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                    return Ok(Finished::Occupied);
                }
                let path = self.root.path(&self.tree.target(placed));
                return Err(obstructed(&path, "a symbolic link or a file", "a directory"));
            }
            Err(error) => return Err(failed(error)),
        }
        if self.times {
            let times = timestamps(dir.mtime_ns());
            fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        }
        Ok(Finished::Written)
    }

    /// Creates a symbolic link.
    pub(in crate::extract) fn link(
        &self,
        handles: &mut Handles<'_>,
        placed: Placed,
        link: Symlink<'_>,
    ) -> Result<Finished, ExtractError> {
        let name = self.tree.name(placed);
        let failed =
            |error: Errno| io_error("creating the symbolic link", self.root.path(&self.tree.target(placed)), error);
        let parent = handles.get(placed.dir)?;
        let times = self.times.then(|| timestamps(link.mtime_ns()));
        let set_times = |name: &[u8]| match &times {
            Some(times) => fs::utimensat(parent, name, times, AtFlags::SYMLINK_NOFOLLOW),
            None => Ok(()),
        };
        if self.publish == Publish::Direct {
            fs::symlinkat(link.target(), parent, name).and_then(|()| set_times(name)).map_err(failed)?;
            return Ok(Finished::Written);
        }
        let made = with_random_name(|temporary| fs::symlinkat(link.target(), parent, temporary));
        let (temporary, ()) = made.map_err(failed)?;
        let temporary = temporary.as_bytes();
        let named = set_times(temporary).and_then(|()| {
            if self.publish == Publish::New {
                return rename_new(parent.as_fd(), temporary, parent.as_fd(), name);
            }
            fs::renameat(parent, temporary, parent, name).map(|()| Finished::Written)
        });
        if named != Ok(Finished::Written) {
            let _ = fs::unlinkat(parent, temporary, AtFlags::empty());
        }
        named.map_err(failed)
    }
}

/// Whether the file system finds a name that differs in case.
pub(in crate::extract) fn folds_case(root: &Root) -> Result<bool, ExtractError> {
    let failed = |error: Errno| io_error("trying out names in", root.path(b""), error);
    let made = with_random_name(|name| fs::mkdirat(root.fd(), format!("{name}-case"), Mode::RWXU));
    let (name, ()) = made.map_err(failed)?;
    let name = format!("{name}-case");
    let found = root::stat(root.fd(), name.to_uppercase().as_bytes()).map(|stat| stat.is_some());
    fs::unlinkat(root.fd(), name, AtFlags::REMOVEDIR).map_err(failed)?;
    found.map_err(failed)
}
