//! What is pushed, and the temporary file in which it becomes an archive.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use blob_core::create::{CreateError, CreateOptions, Created, Links, create};
use blob_core::room;
use blob_core::source::FileSource;

use crate::error::Error;
use crate::location::Location;
use crate::tarball::spool_tar;

/// The path below `dir` of the layout that `location` is in, if it lies there: while it is written, it cannot be read.
pub(super) fn layout_within(location: &Location, dir: &Path) -> Result<Option<Vec<u8>>, Error> {
    let (Location::Layout { dir: layout, .. } | Location::LayoutFile { file: layout, .. }) = location else {
        return Ok(None);
    };
    let real = |path: &Path| {
        path.canonicalize().ok().or_else(|| {
            // It need not exist yet.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(parent.canonicalize().ok()?.join(path.file_name()?))
        })
    };
    let (Some(layout), Some(root)) = (real(layout), real(dir)) else { return Ok(None) };
    match layout.strip_prefix(&root) {
        Ok(below) if below.as_os_str().is_empty() => {
            Err(Error::Options(format!("{} is the layout that is pushed to", dir.display())))
        }
        Ok(below) => Ok(Some(below.as_os_str().as_encoded_bytes().to_vec())),
        Err(_) => Ok(None),
    }
}

/// Keeps the layout that `location` is in out of an archive that links may lead into it.
pub(super) fn without_layout(location: &Location, options: &mut CreateOptions) {
    let (Location::Layout { dir: layout, .. } | Location::LayoutFile { file: layout, .. }) = location else { return };
    if let (Links::Follow | Links::FollowOutside, Ok(found)) = (options.symlinks, std::fs::metadata(layout)) {
        options.exclude_inodes.push((found.dev(), found.ino()));
    }
}

/// What an archive is made of.
pub(crate) enum Input {
    Directory(PathBuf),
    Tar(Box<dyn std::io::Read + Send>),
}

impl Input {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Directory(dir) => dir.display().to_string(),
            Self::Tar(_) => "the tar stream".into(),
        }
    }

    /// Makes the archive in an unnamed temporary file, which vanishes with its last handle.
    pub(super) fn spool(self, spool: &Spool, options: &CreateOptions) -> Result<(Created, FileSource), Error> {
        let dir = match self {
            Self::Directory(dir) => dir,
            Self::Tar(input) => return spool_tar(input, spool, options),
        };
        let mut file = spool.file()?;
        let room = spool.room();
        let mut options = options.clone();
        options.max_bytes = options.max_bytes.min(room);
        let created = create(&dir, &mut file, &options).map_err(|source| match source {
            CreateError::TooLarge { bytes, limit } if limit == room => {
                spool.full(&dir.display().to_string(), bytes, room)
            }
            source => Error::Create { dir, source },
        })?;
        Ok((created, spool.source(file)?))
    }
}

/// Where large temporary files go.
pub(crate) struct Spool {
    dir: PathBuf,
    skip_room_check: bool,
}

impl Spool {
    pub(super) fn new(dir: PathBuf, skip_room_check: bool) -> Self {
        Self { dir, skip_room_check }
    }

    /// An unnamed temporary file.
    pub(crate) fn file(&self) -> Result<File, Error> {
        let failed =
            |source| Error::Io { action: format!("making a temporary file in {}", self.dir.display()), source };
        tempfile::tempfile_in(&self.dir).map_err(failed)
    }

    /// A finished file, to be read.
    pub(crate) fn source(&self, file: File) -> Result<FileSource, Error> {
        let failed =
            |source| Error::Io { action: format!("reading a temporary file in {}", self.dir.display()), source };
        FileSource::from_file(file).map_err(failed)
    }

    /// How many bytes may be written, as far as is known and asked for.
    pub(crate) fn room(&self) -> u64 {
        if self.skip_room_check { u64::MAX } else { room::available(&self.dir).unwrap_or(u64::MAX) }
    }

    /// There is not the room for an archive of `what`.
    pub(crate) fn full(&self, what: &str, needed: u64, available: u64) -> Error {
        Error::NoRoom { dir: self.dir.clone(), what: format!("an archive of {what}"), needed, available }
    }
}

/// Where large temporary files go: `$TMPDIR` if it is set, else `/var/tmp`, since `/tmp` may be memory.
pub(super) fn temporary_dir_from_env() -> PathBuf {
    let large = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none() && large.is_dir() { large.to_owned() } else { std::env::temp_dir() }
}
