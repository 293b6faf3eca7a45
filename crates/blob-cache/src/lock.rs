//! Locks between processes: `flock` on small files, held by an open file, so that they vanish with their process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::files::{discard, is_wrong_kind};
use crate::layout::TMP;
use crate::marker;

/// How often a lock that is taken is tried again.
const STEP: Duration = Duration::from_millis(2);

/// An exclusive lock. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct FileLock(File);

impl FileLock {
    /// Locks the file at `path`, which is created when missing, waiting up to `patience` for others. Waiting is
    /// bounded since the holder may be a stopped process. Where the file system knows no locks the file is opened
    /// and nothing else: what locks protect here is economy and counters, never the truth of an entry.
    ///
    /// What is no file at all is removed, at the root of a cache that bears our marker.
    ///
    /// # Errors
    /// `WouldBlock` when patience ran out; whatever opening yields.
    pub(crate) fn acquire(path: &Path, patience: Duration) -> io::Result<Self> {
        match Self::try_acquire(path, patience) {
            Err(error) if is_wrong_kind(&error) => {
                let root = path.parent().ok_or(error)?;
                marker::require(root)?;
                tracing::warn!(path = %path.display(), "removing what stands in the place of a file of the cache");
                discard(path, &root.join(TMP))?;
                Self::try_acquire(path, patience)
            }
            other => other,
        }
    }

    fn try_acquire(path: &Path, patience: Duration) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            // A pipe can be opened for both.
            return Err(rustix::io::Errno::NXIO.into());
        }
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if started.elapsed() < patience => std::thread::sleep(STEP),
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Self(file)),
            }
        }
    }

    /// The locked file.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

/// Whether anybody holds a lock on `file`; `None` where the file system knows no locks.
pub(crate) fn is_held(file: &File) -> Option<bool> {
    match file.try_lock() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}
