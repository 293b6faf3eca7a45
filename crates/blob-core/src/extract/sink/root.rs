//! Directory handles beneath the destination. No call here follows a symbolic link below the root, whoever put it there
//! and whenever.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

/// For handles that only serve to reach what is in a directory; they need no permission to read it.
#[cfg(target_os = "linux")]
const REACH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const REACH: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open directory that everything is written beneath.
#[derive(Debug)]
pub(in crate::extract) struct Root {
    fd: OwnedFd,
    /// For messages.
    path: PathBuf,
}

impl Root {
    /// Opens the directory at `path`, following links on the way: the caller named it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// Opens the directory `name` in `parent`, which must not be a link.
    pub(super) fn open_at(parent: BorrowedFd<'_>, name: &[u8], path: PathBuf) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { fd: fs::openat(parent, name, flags, Mode::empty())?, path })
    }

    pub(in crate::extract) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The path of the root, or of something beneath it, for messages.
    pub(in crate::extract) fn path(&self, relative: &[u8]) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(relative))
    }

    /// Opens the directory at `relative`; empty is the root itself. Links on the way are an error: `ELOOP` or
    /// `ENOTDIR`.
    pub(in crate::extract) fn dir(&self, relative: &[u8]) -> rustix::io::Result<OwnedFd> {
        if relative.is_empty() {
            return fs::openat(&self.fd, ".", REACH, Mode::empty());
        }
        match beneath(self.fd(), relative) {
            Err(Errno::NOSYS | Errno::PERM) => walk(self.fd(), relative),
            other => other,
        }
    }
}

/// One call of the kernel that resolves the whole path.
#[cfg(target_os = "linux")]
fn beneath(root: BorrowedFd<'_>, relative: &[u8]) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(root, relative, REACH, Mode::empty(), resolve) {
            // Something on the way was renamed meanwhile: the kernel could not tell that it stayed beneath.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn beneath(_: BorrowedFd<'_>, _: &[u8]) -> rustix::io::Result<OwnedFd> {
    Err(Errno::NOSYS)
}

/// Element by element, for kernels and sandboxes without `openat2`.
fn walk(root: BorrowedFd<'_>, relative: &[u8]) -> rustix::io::Result<OwnedFd> {
    let mut dir: Option<OwnedFd> = None;
    for name in relative.split(|&byte| byte == b'/') {
        let parent = dir.as_ref().map_or(root, AsFd::as_fd);
        dir = Some(fs::openat(parent, name, REACH | OFlags::NOFOLLOW, Mode::empty())?);
    }
    dir.ok_or(Errno::NOENT)
}

/// What stands at `name` in `dir`, links not followed; `None` when nothing does.
pub(in crate::extract) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error of [`Root::dir`] means that something other than a directory is in the way.
pub(super) fn is_obstacle(error: Errno) -> bool {
    matches!(error, Errno::LOOP | Errno::NOTDIR | Errno::XDEV)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn both_ways_of_opening_refuse_links() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("root/a/b")).unwrap();
        std::fs::create_dir(temp.path().join("outside")).unwrap();
        std::fs::write(temp.path().join("root/file"), "").unwrap();
        for (link, target) in [("root/out", "../outside"), ("root/in", "a"), ("root/a/up", "..")] {
            std::os::unix::fs::symlink(target, temp.path().join(link)).unwrap();
        }
        let root = Root::open(&temp.path().join("root")).unwrap();
        for whole in [true, false] {
            let open = |path: &str| {
                let opened = if whole { beneath(root.fd(), path.as_bytes()) } else { walk(root.fd(), path.as_bytes()) };
                opened.map(drop)
            };
            assert_eq!(open("a/b"), Ok(()));
            assert_eq!(open("a/none"), Err(Errno::NOENT));
            for path in ["out", "in", "in/b", "a/up", "a/up/a", "file", "file/x"] {
                assert!(is_obstacle(open(path).unwrap_err()), "{path}");
            }
        }
        assert!(is_obstacle(beneath(root.fd(), b"..").unwrap_err()));
    }
}
