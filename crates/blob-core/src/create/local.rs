//! Opening things beneath a directory without ever leaving it, and telling whether a file is still the same.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use super::error::{Change, CreateError};

/// The longest path that one system call takes; longer ones are opened in steps.
const STEP: usize = 4095;

/// Opens `path` beneath `root` for reading; empty means the root itself. No element of the path may be a symbolic link,
/// and nothing here blocks: a FIFO that took a file's place opens at once.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    // A directory that is only passed through opens nothing that could block, and takes no other flags.
    let more = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let flags = if flags == PASS { PASS } else { flags | more };
    let (mut at, mut rest): (Option<OwnedFd>, &[u8]) = (None, if path.is_empty() { b"." } else { path });
    while rest.len() > STEP {
        let slash = rest[..STEP].iter().rposition(|&byte| byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let from = at.as_ref().map_or(root, |dir| dir.as_fd());
        at = Some(open_short(from, &rest[..slash], PASS)?);
        rest = &rest[slash + 1..];
    }
    open_short(at.as_ref().map_or(root, |dir| dir.as_fd()), rest, flags)
}

/// How directories on the way are opened.
#[cfg(target_os = "linux")]
pub(super) const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
pub(super) const PASS: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[cfg(target_os = "linux")]
fn open_short(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};

    // Kernels before 5.6 and some sandboxes do not have the call; asking them once is enough.
    static MISSING: AtomicBool = AtomicBool::new(false);
    if !MISSING.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => MISSING.store(true, Ordering::Relaxed),
            Err(Errno::PERM) => {}
            other => return other,
        }
    }
    open_by_element(root, path, flags)
}

#[cfg(not(target_os = "linux"))]
fn open_short(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    open_by_element(root, path, flags)
}

/// Opens one element after the other, each without following a link.
fn open_by_element(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let (mut at, mut rest): (Option<OwnedFd>, &[u8]) = (None, path);
    while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
        let from = at.as_ref().map_or(root, |dir| dir.as_fd());
        at = Some(openat(from, &rest[..slash], PASS, Mode::empty())?);
        rest = &rest[slash + 1..];
    }
    openat(at.as_ref().map_or(root, |dir| dir.as_fd()), rest, flags, Mode::empty())
}

/// The error for something that was listed and then could not be opened: where the tree changed meanwhile, that is what
/// it says.
pub(super) fn open_error(path: &[u8], errno: Errno) -> CreateError {
    match errno {
        Errno::NOENT if !path.is_empty() => CreateError::changed(path, Change::Vanished),
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::XDEV if !path.is_empty() => {
            CreateError::changed(path, Change::Replaced)
        }
        other => CreateError::read(path, "open", other),
    }
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// Bytes.
    pub(super) size: u64,
    /// Nanoseconds since 1970-01-01T00:00:00Z, as the next.
    pub(super) mtime: i64,
    pub(super) ctime: i64,
}

impl Stamp {
    #[allow(
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        clippy::unnecessary_cast,
        reason = "the types differ by system; sizes are never negative"
    )]
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// How the file changed from this state to `now`.
    pub(super) fn change(&self, now: &Self) -> Option<Change> {
        let (from, to) = (self.size, now.size);
        if (self.dev, self.ino) != (now.dev, now.ino) {
            Some(Change::Replaced)
        } else if from < to {
            Some(Change::Grew { from, to })
        } else if from > to {
            Some(Change::Shrank { from, to })
        } else {
            (self != now).then_some(Change::Rewritten)
        }
    }
}

/// The nine permission bits.
#[allow(clippy::unnecessary_cast, reason = "the type differs by system")]
pub(super) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode as u32 & 0o777
}

/// Times outside the years 1678 to 2262 become the nearest that the format can hold.
pub(super) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    type Open = fn(BorrowedFd<'_>, &[u8], OFlags) -> Result<OwnedFd, Errno>;

    #[test]
    fn links_are_followed_nowhere_either_way() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "x").unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        symlink("file", dir.path().join("a/b/link")).unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        let ways: [Open; 2] = [open, |root, path, flags| open_by_element(root, path, flags | OFlags::NOFOLLOW)];
        for open in ways {
            assert!(open(root.as_fd(), b"a/b/file", OFlags::empty()).is_ok());
            assert!(open(root.as_fd(), b"a/b", OFlags::DIRECTORY).is_ok());
            for path in [&b"link/b/file"[..], b"a/b/link", b"out/passwd", b"out"] {
                let error = open(root.as_fd(), path, OFlags::empty()).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{error:?}");
            }
            assert_eq!(open(root.as_fd(), b"a/missing", OFlags::empty()).unwrap_err(), Errno::NOENT);
        }
    }

    #[test]
    fn each_way_to_change_is_told_apart() {
        let stamp = Stamp { dev: 1, ino: 2, size: 3, mtime: 4, ctime: 5 };
        for (now, expected) in [
            (stamp, None),
            (Stamp { dev: 9, ..stamp }, Some(Change::Replaced)),
            (Stamp { ino: 9, size: 9, ..stamp }, Some(Change::Replaced)),
            (Stamp { size: 9, ..stamp }, Some(Change::Grew { from: 3, to: 9 })),
            (Stamp { size: 0, ..stamp }, Some(Change::Shrank { from: 3, to: 0 })),
            (Stamp { mtime: 9, ..stamp }, Some(Change::Rewritten)),
            (Stamp { ctime: 9, ..stamp }, Some(Change::Rewritten)),
        ] {
            assert_eq!(stamp.change(&now), expected);
        }
    }

    #[test]
    fn times_far_off_do_not_overflow() {
        assert_eq!(nanoseconds(1, 5), 1_000_000_005);
        assert_eq!(nanoseconds(-1, 5), -999_999_995);
        assert_eq!(nanoseconds(i64::MAX, 5), i64::MAX);
        assert_eq!(nanoseconds(i64::MIN, 5), i64::MIN + 5);
    }
}
