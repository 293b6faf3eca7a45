//! Where things are written: a hidden sibling that becomes the destination in the end, or the destination itself.

mod file;
mod handles;
mod place;
pub(super) mod root;
mod scan;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::ExtractError;

pub(crate) use file::random_name;
pub(super) use file::{Finished, OutFile, Publish, rename_new, with_random_name};
pub(super) use handles::Handles;
pub(super) use place::{Placing, folds_case, make_dirs};
pub(super) use root::Root;
pub(super) use scan::{Scan, Standing};

pub(super) fn io_error(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> ExtractError {
    ExtractError::Io { action, path: path.into(), source: source.into() }
}

/// A name in an open directory: where the destination is or will be.
#[derive(Debug)]
struct Spot {
    parent: OwnedFd,
    parent_path: PathBuf,
    /// Empty for the root of the file system, which has no name.
    name: OsString,
    existing: Option<Stat>,
}

impl Spot {
    /// Finds `dest`, following links on the way, since the caller named it; then `beneath`, following none. Parents are
    /// created.
    fn find(dest: &Path, beneath: &[u8]) -> Result<Self, ExtractError> {
        let real = match dest.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::absent(dest, error)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(obstructed(dest, "below a file", "a directory"));
            }
            Err(error) => return Err(io_error("finding", dest, error)),
        };
        if beneath.is_empty() {
            let Some(name) = real.file_name() else {
                let parent = open_parent(&real)?;
                let existing = fs::fstat(&parent).map_err(|error| io_error("looking at", &real, error))?;
                return Ok(Self { parent, parent_path: real, name: OsString::new(), existing: Some(existing) });
            };
            let parent_path = real.parent().unwrap_or(Path::new("/")).to_path_buf();
            return Self::at(open_parent(&parent_path)?, parent_path, name.to_os_string());
        }
        std::fs::create_dir_all(&real).map_err(|error| io_error("creating the directory", &real, error))?;
        let root = Root::open(&real).map_err(|error| io_error("opening", &real, error))?;
        let (parents, name) = match beneath.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&beneath[..at], &beneath[at + 1..]),
            None => (&b""[..], beneath),
        };
        place::make_path(&root, parents)?;
        let parent_path = root.path(parents);
        let parent = root.dir(parents).map_err(|error| io_error("opening", &parent_path, error))?;
        Self::at(parent, parent_path, OsStr::from_bytes(name).to_os_string())
    }

    /// The real path of a destination that does not exist.
    fn absent(dest: &Path, error: io::Error) -> Result<PathBuf, ExtractError> {
        if dest.symlink_metadata().is_ok() {
            return Err(obstructed(dest, "a symbolic link to nothing", "a directory"));
        }
        let Some(name) = dest.file_name() else { return Err(io_error("finding", dest, error)) };
        let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|error| io_error("creating the directory", parent, error))?;
        let parent = parent.canonicalize().map_err(|error| io_error("finding", parent, error))?;
        Ok(parent.join(name))
    }

    fn at(parent: OwnedFd, parent_path: PathBuf, name: OsString) -> Result<Self, ExtractError> {
        let path = parent_path.join(&name);
        let existing =
            root::stat(parent.as_fd(), name.as_bytes()).map_err(|error| io_error("looking at", &path, error))?;
        if existing.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory) {
            return Err(obstructed(&path, "a symbolic link or a file", "a directory"));
        }
        Ok(Self { parent, parent_path, name, existing })
    }

    fn path(&self) -> PathBuf {
        self.parent_path.join(&self.name)
    }

    fn open(&self) -> Result<Root, ExtractError> {
        let path = self.path();
        let name = if self.name.is_empty() { b"." } else { self.name.as_bytes() };
        Root::open_at(self.parent.as_fd(), name, path.clone()).map_err(|error| io_error("opening", path, error))
    }

    /// Why the directory that stands here cannot be renamed away, if so.
    fn pinned(&self, stat: &Stat) -> Option<&'static str> {
        let here = |path: &str| fs::stat(path).is_ok_and(|dir| (dir.st_dev, dir.st_ino) == (stat.st_dev, stat.st_ino));
        let mounted = || {
            let parent = fs::fstat(&self.parent).map(|parent| parent.st_dev);
            parent != Ok(stat.st_dev) || is_mount_point(&self.parent, self.name.as_bytes())
        };
        match () {
            () if self.name.is_empty() => Some("it is the root of the file system"),
            () if here(".") => Some("it is the current directory"),
            () if mounted() => Some("it is a mount point"),
            () => None,
        }
    }
}

fn obstructed(path: &Path, found: &'static str, wanted: &'static str) -> ExtractError {
    ExtractError::Obstructed { path: path.to_path_buf(), found, wanted }
}

fn open_parent(path: &Path) -> Result<OwnedFd, ExtractError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).map_err(|error| io_error("opening", path, error))
}

/// Also true for a directory mounted over another of the same file system, which device numbers do not show.
#[cfg(target_os = "linux")]
fn is_mount_point(parent: &OwnedFd, name: &[u8]) -> bool {
    use rustix::fs::{StatxAttributes, StatxFlags};
    let stat = fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(_: &OwnedFd, _: &[u8]) -> bool {
    false
}

/// An open destination.
#[derive(Debug)]
pub(super) struct Destination {
    root: Root,
    spot: Spot,
    staging: Option<Staging>,
}

/// A hidden sibling of the destination, removed with everything in it unless it is committed.
#[derive(Debug)]
struct Staging {
    path: PathBuf,
    name: OsString,
    /// Whether what stands at the destination goes.
    replace: bool,
    armed: bool,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(path = %self.path.display(), error, "removing a temporary directory failed");
        }
    }
}

/// Whether a hidden tree took its place.
#[derive(Debug)]
pub(super) enum Committed {
    Done,
    /// Somebody filled the destination meanwhile: this is it, and the hidden tree must be merged into it.
    Filled(Root),
}

impl Destination {
    /// Opens `dest`, or the directory `beneath` it; `clean` replaces what stands there.
    pub(super) fn open(dest: &Path, beneath: &[u8], clean: bool) -> Result<Self, ExtractError> {
        let spot = Spot::find(dest, beneath)?;
        let Some(stat) = spot.existing else {
            let staging = Staging::create(&spot, Mode::from_raw_mode(0o777), clean)?;
            return Self::staged(spot, staging);
        };
        match spot.pinned(&stat) {
            Some(why) if clean => return Err(ExtractError::CannotReplace { path: spot.path(), why }),
            None if clean => {
                let staging = Staging::create(&spot, Mode::RWXU, true)?;
                return Self::staged(spot, staging);
            }
            // A parent that may not be written to is no failure: the directory itself may be.
            None if is_empty(&spot.path()) => {
                if let Ok(staging) = Staging::create(&spot, Mode::RWXU, false)
                    && same_owner(&staging.path, &stat)
                {
                    return Self::staged(spot, staging);
                }
            }
            Some(_) | None => {}
        }
        Ok(Self { root: spot.open()?, spot, staging: None })
    }

    /// Opens `dest` to write in place, whatever it holds.
    pub(super) fn in_place(dest: &Path) -> Result<Self, ExtractError> {
        std::fs::create_dir_all(dest).map_err(|error| io_error("creating the directory", dest, error))?;
        let spot = Spot::find(dest, b"")?;
        Ok(Self { root: spot.open()?, spot, staging: None })
    }

    /// Opens `dest` to look at it; `None` when it does not exist.
    pub(super) fn look(dest: &Path) -> Result<Option<Root>, ExtractError> {
        match Root::open(dest) {
            Ok(root) => Ok(Some(root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(obstructed(dest, "a file", "a directory"))
            }
            Err(error) => Err(io_error("opening", dest, error)),
        }
    }

    fn staged(spot: Spot, staging: Staging) -> Result<Self, ExtractError> {
        let opened = Root::open_at(spot.parent.as_fd(), staging.name.as_bytes(), staging.path.clone());
        let root = opened.map_err(|error| io_error("opening", &staging.path, error))?;
        Ok(Self { root, spot, staging: Some(staging) })
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// Whether nobody sees what is written until [`commit`](Self::commit).
    pub(super) fn is_hidden(&self) -> bool {
        self.staging.is_some()
    }

    /// Shows a hidden tree under its name.
    pub(super) fn commit(&mut self, fsync: bool) -> Result<Committed, ExtractError> {
        let path = self.spot.path();
        if fsync {
            sync(&self.root).map_err(|error| io_error("waiting for the disk to write", &path, error))?;
        }
        let Some(staging) = &mut self.staging else { return Ok(Committed::Done) };
        if let Some(stat) = self.spot.existing {
            fs::fchmod(self.root.fd(), Mode::from_raw_mode(stat.st_mode & 0o7777))
                .map_err(|error| io_error("setting the mode of", &staging.path, error))?;
        }
        let (parent, name) = (&self.spot.parent, &self.spot.name);
        match swap(parent, &staging.name, name, staging.replace) {
            Ok(Swapped::Moved) => staging.armed = false,
            // The hidden name now has what stood there before: the staging removes it.
            Ok(Swapped::Exchanged) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let filled = Root::open_at(parent.as_fd(), name.as_bytes(), path.clone());
                return filled.map(Committed::Filled).map_err(|error| io_error("opening", path, error));
            }
            Err(error) => return Err(io_error("giving the extracted directory its name", path, error)),
        }
        if fsync {
            let synced = open_parent(&self.spot.parent_path).map(fs::fsync);
            synced?.map_err(|error| io_error("waiting for the disk to write", &self.spot.parent_path, error))?;
        }
        Ok(Committed::Done)
    }
}

enum Swapped {
    Moved,
    Exchanged,
}

fn swap(parent: &OwnedFd, staged: &OsStr, name: &OsStr, replace: bool) -> rustix::io::Result<Swapped> {
    if replace {
        match fs::renameat_with(parent, staged, parent, name, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(Swapped::Exchanged),
            Err(Errno::NOENT) => {}
            // A file system that cannot exchange: for a moment nothing has the name.
            Err(Errno::INVAL | Errno::NOSYS) => {
                let (aside, ()) = with_random_name(|aside| fs::renameat(parent, name, parent, aside))?;
                fs::renameat(parent, staged, parent, name)?;
                fs::renameat(parent, aside, parent, staged)?;
                return Ok(Swapped::Exchanged);
            }
            Err(error) => return Err(error),
        }
    }
    fs::renameat(parent, staged, parent, name).map(|()| Swapped::Moved)
}

#[cfg(target_os = "linux")]
fn sync(root: &Root) -> rustix::io::Result<()> {
    fs::syncfs(root.fd())
}

#[cfg(not(target_os = "linux"))]
fn sync(_: &Root) -> rustix::io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn same_owner(path: &Path, other: &Stat) -> bool {
    fs::lstat(path).is_ok_and(|own| (own.st_uid, own.st_gid) == (other.st_uid, other.st_gid))
}

impl Staging {
    fn create(spot: &Spot, mode: Mode, replace: bool) -> Result<Self, ExtractError> {
        let shown = spot.path();
        let full = |random: &str| {
            // Long names are cut, so that the hidden one is still a name.
            let name = spot.name.as_bytes();
            OsString::from_vec([b".", &name[..name.len().min(200)], random.as_bytes()].concat())
        };
        let made = with_random_name(|random| fs::mkdirat(&spot.parent, full(random), mode));
        let (random, ()) = made.map_err(|error| io_error("creating a temporary directory beside", shown, error))?;
        let name = full(&random);
        Ok(Self { path: spot.parent_path.join(&name), name, replace, armed: true })
    }
}
