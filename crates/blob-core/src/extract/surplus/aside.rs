//! Moving away what stands in the way of an extraction, so that it is back if the extraction fails.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, RenameFlags};
use rustix::io::Errno;

use super::remove::remove;
use super::{Surplus, split};
use crate::error::ExtractError;
use crate::extract::sink::{Destination, io_error, root, with_random_name};

/// How often something may be put where a thing is to come back to, before it is left under its other name.
const ATTEMPTS: usize = 16;

/// Things of a destination under other names, beside where they were: `.blob-` and 16 hexadecimal digits. Dropped, they
/// get their names back, in place of whatever an extraction has put there.
#[derive(Debug, Default)]
pub struct SetAside {
    moved: Vec<Moved>,
}

#[derive(Debug)]
struct Moved {
    /// Open, so that no link on the way matters.
    parent: OwnedFd,
    /// For messages.
    path: PathBuf,
    name: Vec<u8>,
    aside: String,
    is_dir: bool,
}

impl SetAside {
    /// Renames `surplus` below the directory `dest`. What is gone already is fine.
    ///
    /// This blocks: call it from a thread that may wait.
    ///
    /// # Errors
    /// [`ExtractError::Io`] for the first thing that cannot be renamed; those before it have their names again.
    pub fn begin(dest: &Path, surplus: &[Surplus]) -> Result<Self, ExtractError> {
        let mut aside = Self::default();
        let Some(root) = Destination::look(dest)? else { return Ok(aside) };
        for thing in surplus {
            let path = root.path(&thing.path);
            let failed = |error: Errno| io_error("moving out of the way", &path, error);
            let (parent, name) = split(&thing.path);
            let parent = match root.dir(parent) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(failed)?,
            };
            let renamed = with_random_name(|other| fs::renameat(&parent, name, &parent, other));
            let other = match renamed {
                Ok((other, ())) => other,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            aside.moved.push(Moved { parent, path, name: name.to_vec(), aside: other, is_dir: thing.is_dir });
        }
        Ok(aside)
    }

    /// How many things are set aside.
    pub fn len(&self) -> usize {
        self.moved.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.moved.is_empty()
    }

    /// Removes the things, directories with everything in them, and tells how many there were. The extraction has been
    /// successful: none comes back.
    ///
    /// This blocks: call it from a thread that may wait.
    ///
    /// # Errors
    /// [`ExtractError::Io`] for the first thing that cannot be removed; the others are removed all the same.
    pub fn remove(mut self) -> Result<u64, ExtractError> {
        let moved = std::mem::take(&mut self.moved);
        let (mut removed, mut failed) = (0, None);
        for thing in moved {
            match remove(&thing.parent, thing.aside.as_bytes(), thing.is_dir) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let path = thing.path.with_file_name(&thing.aside);
                    failed.get_or_insert_with(|| io_error("removing", path, error));
                }
            }
        }
        failed.map_or(Ok(removed), Err)
    }
}

impl Moved {
    /// Gives the thing its name back; what stands there is what an extraction has put there.
    fn restore(&self) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            match fs::renameat_with(&self.parent, &self.aside, &self.parent, &self.name, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
            let Some(stat) = root::stat(self.parent.as_fd(), &self.name)? else {
                // The file system cannot refuse to replace, and there is nothing to be replaced.
                return Ok(fs::renameat(&self.parent, &self.aside, &self.parent, &self.name)?);
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            match remove(&self.parent, &self.name, is_dir) {
                // Threads of the extraction that are not done yet may still fill a directory.
                Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => {}
                other => other?,
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        // The last one first: it may lie in a directory that was moved before it.
        for moved in self.moved.drain(..).rev() {
            if let Err(error) = moved.restore() {
                let error = &error as &dyn std::error::Error;
                let (path, aside) = (moved.path.display(), &moved.aside);
                tracing::warn!(%path, aside, error, "what was moved out of the way could not be moved back");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn thing(path: &str, is_dir: bool) -> Surplus {
        Surplus { path: path.as_bytes().into(), is_dir, obstructs: true }
    }

    /// A directory `d` where a file is to go, and a file `f` where a directory is to go.
    fn place() -> tempfile::TempDir {
        let dest = tempfile::tempdir().unwrap();
        fs::create_dir_all(dest.path().join("d/deep")).unwrap();
        fs::write(dest.path().join("d/deep/a"), "old").unwrap();
        fs::write(dest.path().join("f"), "old").unwrap();
        dest
    }

    #[test]
    fn things_are_back_in_place_of_what_was_written_meanwhile() {
        let dest = place();
        let aside = SetAside::begin(dest.path(), &[thing("d", true), thing("f", false), thing("gone", false)]).unwrap();
        assert_eq!(aside.len(), 2);
        fs::write(dest.path().join("d"), "new").unwrap();
        fs::create_dir(dest.path().join("f")).unwrap();
        fs::write(dest.path().join("f/x"), "new").unwrap();
        drop(aside);
        assert_eq!(fs::read_to_string(dest.path().join("d/deep/a")).unwrap(), "old");
        assert_eq!(fs::read_to_string(dest.path().join("f")).unwrap(), "old");
        assert_eq!(fs::read_dir(dest.path()).unwrap().count(), 2, "something was left");
    }

    #[test]
    fn things_that_are_not_wanted_any_more_go() {
        let dest = place();
        let aside = SetAside::begin(dest.path(), &[thing("d", true), thing("f", false)]).unwrap();
        assert_eq!(aside.remove().unwrap(), 2);
        assert_eq!(fs::read_dir(dest.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failure_half_way_moves_back_what_was_moved() {
        let dest = place();
        fs::create_dir(dest.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dest.path().join("link")).unwrap();
        SetAside::begin(dest.path(), &[thing("f", false), thing("link/x", false)]).unwrap_err();
        assert_eq!(fs::read_to_string(dest.path().join("f")).unwrap(), "old");
    }
}
