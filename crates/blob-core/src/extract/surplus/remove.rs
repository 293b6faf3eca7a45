//! Taking away what is not in an archive.

use std::os::fd::OwnedFd;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{self, AtFlags};
#[cfg(not(target_os = "linux"))]
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::{Surplus, split};
use crate::error::ExtractError;
use crate::extract::sink::{Destination, io_error};

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
        let (parent, name) = split(&thing.path);
        let parent = match root.dir(parent) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(|error| failed(error.into()))?,
        };
        let result = remove(&parent, name, thing.is_dir);
        match result {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(removed)
}

/// Removes one thing, a directory with everything in it.
pub(super) fn remove(parent: &OwnedFd, name: &[u8], is_dir: bool) -> std::io::Result<()> {
    if is_dir { remove_dir(parent, name) } else { Ok(fs::unlinkat(parent, name, AtFlags::empty())?) }
}

/// Removes a directory with everything in it, reached through its open parent so that no link on the way matters.
#[cfg(target_os = "linux")]
fn remove_dir(parent: &OwnedFd, name: &[u8]) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let parent = format!("/proc/self/fd/{}", parent.as_raw_fd());
    std::fs::remove_dir_all(Path::new(&parent).join(std::ffi::OsStr::from_bytes(name)))
}

#[cfg(not(target_os = "linux"))]
fn remove_dir(parent: &OwnedFd, name: &[u8]) -> std::io::Result<()> {
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
