//! Files of the cache, opened with distrust and written so that nobody sees half of one.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::marker;

/// How precise "last used" is.
const TOUCH_AFTER_SECONDS: u64 = 3600;
/// A file changed less than this ago may change again without its time telling.
const SETTLED: Duration = Duration::from_millis(50);

/// Opens a regular file for reading, and tells what the system knows of it. `None` when something else lies there: a directory, a symbolic link, a pipe.
///
/// # Errors
/// `NotFound`, and whatever else the system says.
pub(crate) fn open_regular(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    open_with(OpenOptions::new().read(true), path)
}

/// As [`open_regular`], with the access that `options` name. Links are not followed and pipes not waited for.
pub(crate) fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match options.custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => {
            let meta = file.metadata()?;
            Ok(meta.is_file().then_some((file, meta)))
        }
        Err(error) if is_wrong_kind(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether opening failed because nothing is there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What opening a link, a socket or a directory says.
pub(crate) fn is_wrong_kind(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::LOOP, Errno::NXIO, Errno::ISDIR].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// What tells whether a file is still the one that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    dev: u64,
    ino: u64,
    pub(crate) size: u64,
    mtime: (i64, i64),
}

/// Whether nobody but this user can change the file: neither who owns it nor who else may write to it.
pub(crate) fn is_private(meta: &Metadata) -> bool {
    meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self { dev: meta.dev(), ino: meta.ino(), size: meta.size(), mtime: (meta.mtime(), meta.mtime_nsec()) }
    }

    /// Whether a change of the file after this moment is certain to show in its stamp: file times are coarse.
    pub(crate) fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = (u64::try_from(self.mtime.0), u32::try_from(self.mtime.1));
        match (seconds, nanos) {
            (Ok(seconds), Ok(nanos)) => Duration::new(seconds, nanos) + SETTLED < now,
            _ => false,
        }
    }
}

/// Notes that `file` was used, unless that was noted within the hour. Failing is fine: then it looks older.
pub(crate) fn touch(file: &File, meta: &Metadata) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if now.abs_diff(u64::try_from(meta.atime()).unwrap_or_default()) < TOUCH_AFTER_SECONDS {
        return;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    let _ = rustix::fs::futimens(file, &times);
}

/// Fills `buffer` from `offset` if that needs no waiting for the disk: the bytes are in the system's cache.
#[cfg(target_os = "linux")]
pub(crate) fn read_at_once(file: &File, buffer: &mut [u8], offset: u64) -> bool {
    let length = buffer.len();
    let mut buffers = [io::IoSliceMut::new(buffer)];
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    rustix::io::preadv2(file, &mut buffers, offset, flags).is_ok_and(|read| read == length)
}

/// Elsewhere there is no way to tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read_at_once(_: &File, _: &mut [u8], _: u64) -> bool {
    false
}

/// Creates a directory and its parents, for this user alone.
pub(crate) fn create_dirs(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates the directory `path` of the cache whose temporary directory is `tmp`, and its parents. What stands in the place
/// of one of them goes, if the cache bears our marker.
pub(crate) fn make_dirs(path: &Path, tmp: &Path) -> io::Result<()> {
    let error = match create_dirs(path) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let root = tmp.parent().unwrap_or(tmp);
    let mut below: Vec<&Path> = path.ancestors().take_while(|dir| *dir != root).collect();
    below.reverse();
    // A link to a directory is somebody's wish; one that leads nowhere, a file, a pipe are damage.
    let is_damage = |dir: &&Path| dir.symlink_metadata().is_ok() && !dir.is_dir();
    let Some(damaged) = below.into_iter().find(is_damage) else { return Err(error) };
    marker::require(root)?;
    tracing::warn!(path = %damaged.display(), "removing what stands in the place of a directory of the cache");
    match std::fs::remove_file(damaged) {
        // Somebody else was faster.
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => Err(error),
        _ => create_dirs(path),
    }
}

/// Removes whatever lies at `path`; a directory is moved below `tmp` first, so that the name is free at once.
/// Returns whether something was removed.
pub(crate) fn discard(path: &Path, tmp: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            if !std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
                return Err(error);
            }
        }
    }
    let aside = tmp.join(unique_name());
    create_dirs(tmp)?;
    std::fs::rename(path, &aside)?;
    // What was moved may be something else than what was looked at: a link, whose target is none of our business.
    if !std::fs::symlink_metadata(&aside)?.is_dir() {
        std::fs::remove_file(&aside)?;
        return Ok(true);
    }
    // Its mode may forbid to list it, for those who are not root. Nobody else knows its new name.
    let _ = std::fs::set_permissions(&aside, Permissions::from_mode(0o700));
    std::fs::remove_dir_all(&aside)?;
    Ok(true)
}

/// A name that no other process and no other call uses.
pub(crate) fn unique_name() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}-{}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether `name` is one of [`unique_name`].
pub(crate) fn is_unique_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(process, number)| {
        process.len() == 16
            && process.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A file under `tmp/`, locked while it lives. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct TempFile {
    file: File,
    path: PathBuf,
    published: bool,
}

impl TempFile {
    /// Creates one.
    ///
    /// # Errors
    /// `NotFound` when `tmp` is missing.
    pub(crate) fn create(tmp: &Path) -> io::Result<Self> {
        let path = tmp.join(unique_name());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        // Tells other processes that the writer lives; where locks are unknown, age has to tell.
        let _ = file.try_lock();
        Ok(Self { file, path, published: false })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Moves the file to `target`, in place of whatever file was there. Parents are created.
    pub(crate) fn publish(mut self, target: &Path, tmp: &Path) -> io::Result<()> {
        let mut outcome = std::fs::rename(&self.path, target);
        if let Err(error) = &outcome {
            let parent = target.parent().unwrap_or(target);
            match error.kind() {
                // The whole tree may be gone as well; then there is nothing to publish.
                io::ErrorKind::NotFound if self.path.exists() => make_dirs(parent, tmp)?,
                io::ErrorKind::IsADirectory => _ = discard(target, tmp)?,
                io::ErrorKind::NotADirectory => make_dirs(parent, tmp)?,
                _ => return outcome,
            }
            outcome = std::fs::rename(&self.path, target);
        }
        self.published = outcome.is_ok();
        outcome
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    #[test]
    fn only_regular_files_open() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, expect) in [("file", true), ("dir", false), ("link", false), ("pipe", false), ("socket", false)] {
            assert_eq!(open_regular(&at(name)).unwrap().is_some(), expect, "{name}");
            assert!(discard(&at(name), &at("tmp")).unwrap(), "{name}");
            assert!(!at(name).exists(), "{name}");
        }
        assert_eq!(open_regular(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!discard(&at("none"), &at("tmp")).unwrap());
    }

    #[test]
    fn names_of_ours_are_told_from_others() {
        assert!(is_unique_name(&unique_name()));
        for other in ["", "thesis", "0123456789abcdef", "0123456789abcdef-", "0123456789abcdef-x", "0123456789abcdeg-1"]
        {
            assert!(!is_unique_name(other), "{other}");
        }
    }

    #[test]
    fn temporaries_vanish_unless_published() {
        let dir = tempfile::tempdir().unwrap();
        let tmp = dir.path().join("tmp");
        assert_eq!(TempFile::create(&tmp).unwrap_err().kind(), io::ErrorKind::NotFound);
        create_dirs(&tmp).unwrap();
        drop(TempFile::create(&tmp).unwrap());
        let mut temp = TempFile::create(&tmp).unwrap();
        temp.file().write_all(b"kept").unwrap();
        let target = dir.path().join("a/b/c");
        temp.publish(&target, &tmp).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"kept");
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0);
    }
}
