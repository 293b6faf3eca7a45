//! How files come to be in a layout: whole, durable, and under their final names last of all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use blob_core::{Digest, Hasher};
use rustix::fs::OFlags;

use super::failed;
use crate::error::RegistryError;
use crate::token;

/// Temporary files and upload sessions that nobody touched for a day are leftovers.
pub(super) const LEFTOVER: Duration = Duration::from_hours(24);

/// A file that is removed unless it is published.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// A new file in `directory`, which is made if it is not there.
    pub(super) fn create(directory: &Path) -> Result<Self, RegistryError> {
        let path = directory.join(token::random()?);
        let create = || File::options().write(true).read(true).create_new(true).open(&path);
        let file = create().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            fs::create_dir_all(directory)?;
            create()
        });
        let file = file.map_err(failed(|| format!("creating a temporary file in {}", directory.display())))?;
        Ok(Self { path, file })
    }

    /// Makes the content durable and gives it its name, in place of what had it.
    pub(super) fn publish(self, target: &Path) -> Result<(), RegistryError> {
        publish(&self.file, &self.path, target).map_err(failed(|| format!("writing {}", target.display())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After publishing there is nothing under this name; a file that cannot be removed is a leftover for later.
        let _ = fs::remove_file(&self.path);
    }
}

/// Syncs `file`, renames it from `path` to `target`, and syncs the directory.
pub(super) fn publish(file: &File, path: &Path, target: &Path) -> io::Result<()> {
    file.sync_all()?;
    let directory = target.parent().unwrap_or(Path::new("."));
    match fs::rename(path, target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {
            fs::create_dir_all(directory)?;
            sync_directory(directory.parent().unwrap_or(directory))?;
            fs::rename(path, target)?;
        }
        other => other?,
    }
    sync_directory(directory)
}

/// As [`publish`], where nothing stands at `target`.
///
/// # Errors
/// `AlreadyExists` if something does by now.
pub(super) fn publish_new(file: &File, path: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(path, target) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Where there are no links, whoever is a moment later wins.
        Err(_) => publish(file, path, target),
        Ok(()) => {
            // One that cannot be removed is a leftover.
            let _ = fs::remove_file(path);
            sync_directory(target.parent().unwrap_or(Path::new(".")))
        }
    }
}

/// Makes `directory` with those above it that are not there, and the name of each durable, from the top.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    let new: Vec<&Path> = directory.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(directory)?;
    for made in new.iter().rev() {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes the names in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Replaces the file `target` by `content`.
pub(super) fn replace(temporaries: &Path, target: &Path, content: &[u8]) -> Result<(), RegistryError> {
    let mut temporary = Temporary::create(temporaries)?;
    let action = || format!("writing {}", target.display());
    temporary.file.write_all(content).map_err(failed(action))?;
    // The clock of the file system may stand still between two writes; who reads tells them apart by their times.
    temporary.file.set_modified(SystemTime::now()).map_err(failed(action))?;
    temporary.publish(target)
}

/// Content on its way to a digest.
#[derive(Debug)]
pub(super) struct Incoming {
    temporary: Temporary,
    hasher: Hasher,
    expected: Digest,
    written: u64,
}

impl Incoming {
    /// Content that will have the digest `expected`.
    pub(super) fn begin(temporaries: &Path, expected: Digest) -> Result<Self, RegistryError> {
        let temporary = Temporary::create(temporaries)?;
        Ok(Self { temporary, hasher: Hasher::new(expected.algorithm()), expected, written: 0 })
    }

    /// Takes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        let action = || format!("writing a temporary file for {}", self.expected);
        self.temporary.file.write_all(bytes).map_err(failed(action))
    }

    /// How many bytes were taken.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Publishes the content as `target`, if it has the digest.
    pub(super) fn finish(self, target: &Path, action: &str) -> Result<(), RegistryError> {
        let got = self.hasher.finish();
        if got != self.expected {
            return Err(RegistryError::DigestMismatch { action: action.into(), expected: self.expected, got });
        }
        self.temporary.publish(target)
    }
}

/// Removes files of ours in `directory` that are older than `limit`; returns how many that were. Other names, and what is
/// no file, are somebody else's. What cannot be listed or removed stays: that costs space, no more.
pub(super) fn reclaim(directory: &Path, limit: Duration) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let now = SystemTime::now();
    let mut count = 0;
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(token::is_wellformed) {
            continue;
        }
        // Of the link, where it is one.
        let Some(meta) = entry.metadata().ok().filter(fs::Metadata::is_file) else { continue };
        let age = meta.modified().ok().and_then(|time| now.duration_since(time).ok());
        if age.is_some_and(|age| age > limit) {
            let removed = fs::remove_file(entry.path());
            tracing::debug!(path = %entry.path().display(), ok = removed.is_ok(), "a leftover was reclaimed");
            count += usize::from(removed.is_ok());
        }
    }
    count
}

/// Opens a file for reading. Pipes are not waited for.
///
/// # Errors
/// `InvalidInput` for what is no file, and the operating system's.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}
