//! One file on its way to disk.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

/// How often a random name may be taken before something is wrong.
const ATTEMPTS: usize = 16;

/// A name that nobody else uses: `.blob-` and 16 hexadecimal digits.
pub(crate) fn random_name() -> String {
    // The standard library seeds its hash maps from the system's random numbers; each state has its own keys.
    format!(".blob-{:016x}", RandomState::new().build_hasher().finish())
}

/// Runs `make` with random names until one is free.
pub(in crate::extract) fn with_random_name<T>(
    mut make: impl FnMut(&str) -> rustix::io::Result<T>,
) -> rustix::io::Result<(String, T)> {
    for _ in 0..ATTEMPTS {
        let name = random_name();
        match make(&name) {
            Ok(made) => return Ok((name, made)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

/// How a file gets its final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::extract) enum Publish {
    /// It has it from the start: the whole tree is still hidden.
    Direct,
    /// Through a temporary name, provided that nothing has the final one.
    New,
    /// Through a temporary name, in place of what has the final one.
    Replace,
}

/// What [`OutFile::finish`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::extract) enum Finished {
    /// The file stands under its name.
    Written,
    /// Something else has come to stand there meanwhile, and stayed.
    Occupied,
}

/// A file that is being written. Dropped unfinished, it is removed.
#[derive(Debug)]
pub(in crate::extract) struct OutFile<'d> {
    file: File,
    dir: BorrowedFd<'d>,
    name: &'d [u8],
    publish: Publish,
    /// What the file is called now, when that is not its final name.
    temporary: Option<String>,
    /// Whether it is somebody else's file as well, whose times are not to be changed.
    linked: bool,
    done: bool,
}

impl<'d> OutFile<'d> {
    /// Creates the file `name` in `dir`; the umask applies to `mode`.
    pub(in crate::extract) fn create(
        dir: &'d OwnedFd,
        name: &'d [u8],
        mode: u32,
        publish: Publish,
    ) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o777);
        let (temporary, fd) = if publish == Publish::Direct {
            (None, fs::openat(dir, name, flags, mode)?)
        } else {
            let (temporary, fd) = with_random_name(|temporary| fs::openat(dir, temporary, flags, mode))?;
            (Some(temporary), fd)
        };
        Ok(Self { file: fd.into(), dir: dir.as_fd(), name, publish, temporary, linked: false, done: false })
    }

    /// Makes `name` in `dir` another name of the open file `from`.
    pub(in crate::extract) fn link(
        dir: &'d OwnedFd,
        name: &'d [u8],
        from: &File,
        publish: Publish,
    ) -> io::Result<Self> {
        let file = from.try_clone()?;
        // A link to an open file by its number needs a privilege; its name below /proc does not.
        let open = format!("/proc/self/fd/{}", from.as_fd().as_raw_fd());
        let link = |name: &[u8]| fs::linkat(fs::CWD, &open, dir, name, AtFlags::SYMLINK_FOLLOW);
        let temporary = if publish == Publish::Direct {
            link(name)?;
            None
        } else {
            Some(with_random_name(|temporary| link(temporary.as_bytes()))?.0)
        };
        Ok(Self { file, dir: dir.as_fd(), name, publish, temporary, linked: true, done: false })
    }

    pub(in crate::extract) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Has the file share the blocks of `from`, whole; the answer is whether the file system could.
    pub(in crate::extract) fn share(&self, from: &File) -> bool {
        #[cfg(target_os = "linux")]
        return fs::ioctl_ficlone(&self.file, from).is_ok();
        #[cfg(not(target_os = "linux"))]
        return {
            let _ = from;
            false
        };
    }

    /// What was written so far, to be read.
    pub(in crate::extract) fn content(&self) -> &File {
        &self.file
    }

    /// Sets the times, waits for the disk if asked, and gives the file its name.
    pub(in crate::extract) fn finish(mut self, mtime_ns: Option<i64>, fsync: bool) -> io::Result<Finished> {
        if let Some(mtime_ns) = mtime_ns.filter(|_| !self.linked) {
            fs::futimens(&self.file, &timestamps(mtime_ns))?;
        }
        // In a hidden tree one call for the whole file system comes before the tree is shown.
        if fsync && self.publish != Publish::Direct {
            self.file.sync_data()?;
        }
        let finished = match (&self.temporary, self.publish) {
            (Some(temporary), Publish::New) => rename_new(self.dir, temporary.as_bytes(), self.dir, self.name)?,
            (Some(temporary), _) => {
                fs::renameat(self.dir, temporary.as_str(), self.dir, self.name)?;
                if self.linked {
                    // Renaming does nothing when both names are one file already.
                    let _ = fs::unlinkat(self.dir, temporary.as_str(), AtFlags::empty());
                }
                Finished::Written
            }
            (None, _) => Finished::Written,
        };
        // Dropping an occupied one removes the temporary file.
        self.done = finished == Finished::Written;
        Ok(finished)
    }
}

impl Drop for OutFile<'_> {
    fn drop(&mut self) {
        if !self.done {
            let name = self.temporary.as_deref().map_or(self.name, str::as_bytes);
            // Nothing more can be done about a file that cannot be removed; its name tells what it is.
            let _ = fs::unlinkat(self.dir, name, AtFlags::empty());
        }
    }
}

/// Renames, unless something has the new name.
pub(in crate::extract) fn rename_new(
    from: BorrowedFd<'_>,
    old: &[u8],
    to: BorrowedFd<'_>,
    new: &[u8],
) -> rustix::io::Result<Finished> {
    let result = match fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // Some file systems cannot; a hard link refuses to replace as well.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::linkat(from, old, to, new, AtFlags::empty()).and_then(|()| fs::unlinkat(from, old, AtFlags::empty()))
        }
        other => other,
    };
    match result {
        Ok(()) => Ok(Finished::Written),
        Err(Errno::EXIST) => Ok(Finished::Occupied),
        Err(error) => Err(error),
    }
}

/// Access and modification time; every `i64` of nanoseconds is a valid time, and file systems clamp to what they have.
pub(super) fn timestamps(mtime_ns: i64) -> Timestamps {
    const SECOND: i64 = 1_000_000_000;
    let time = Timespec { tv_sec: mtime_ns.div_euclid(SECOND), tv_nsec: mtime_ns.rem_euclid(SECOND) };
    Timestamps { last_access: time, last_modification: time }
}
