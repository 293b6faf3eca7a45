//! Reading a file that was listed, and noticing when it is no longer the same.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FileType, OFlags, fstat};

use super::encode::Origin;
use super::error::{Change, CreateError};
use super::local::{self, Stamp};
use super::options::ChangeDetection;
use super::walk::Found;

/// How much of a large file is read at a time: 1 MiB.
pub(super) const CHUNK: usize = 1 << 20;

/// A file that is being read.
pub(super) struct Opened<'a> {
    found: &'a Found,
    content: Content<'a>,
    strict: bool,
}

/// Where its bytes come from.
enum Content<'a> {
    /// A file of its own.
    Own(File),
    /// A part of a file that nobody else writes to, and where the part begins.
    Part(&'a File, u64),
}

impl<'a> Opened<'a> {
    /// Opens what was found, and checks that it is still that.
    pub(super) fn new(origin: Origin<'a>, found: &'a Found, watch: ChangeDetection) -> Result<Self, CreateError> {
        let path = found.path.as_bytes();
        let source = match origin {
            Origin::Directory(source) => source,
            Origin::Spool(file) => {
                return Ok(Self { found, content: Content::Part(file, found.stamp.ino), strict: false });
            }
        };
        let opened = source.open(path, found.via.as_deref(), OFlags::empty());
        let fd = opened.map_err(|errno| local::open_error(path, errno))?;
        let strict = watch == ChangeDetection::Strict;
        let opened = Self { found, content: Content::Own(File::from(fd)), strict };
        opened.check()?;
        Ok(opened)
    }

    pub(super) fn path(&self) -> &'a [u8] {
        self.found.path.as_bytes()
    }

    /// Bytes when it was listed, which is what is read.
    pub(super) fn size(&self) -> u64 {
        self.found.stamp.size
    }

    fn check(&self) -> Result<(), CreateError> {
        let Content::Own(file) = &self.content else { return Ok(()) };
        let stat = fstat(file).map_err(|errno| CreateError::read(self.path(), "read", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(CreateError::changed(self.path(), Change::Replaced));
        }
        match self.found.stamp.change(&Stamp::of(&stat)) {
            Some(change) if self.strict => Err(CreateError::changed(self.path(), change)),
            _ => Ok(()),
        }
    }

    /// To be called when everything has been read: whether the file is still the one that was listed.
    pub(super) fn check_unchanged(&self) -> Result<(), CreateError> {
        if self.strict { self.check() } else { Ok(()) }
    }

    /// Fills `content` with the bytes from `offset` on.
    pub(super) fn read_at(&self, content: &mut [u8], offset: u64) -> Result<(), CreateError> {
        let mut done = 0;
        while done < content.len() {
            let (file, start) = match &self.content {
                Content::Own(file) => (file, 0),
                Content::Part(file, start) => (*file, *start),
            };
            match file.read_at(&mut content[done..], start + offset + done as u64) {
                Ok(0) => return Err(self.shrank(offset + done as u64)),
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CreateError::read(self.path(), "read", error)),
            }
        }
        Ok(())
    }

    /// Whether a file without a size has no content: some file systems make content up when it is read, and it would be
    /// lost without a word.
    pub(super) fn check_empty(&self) -> Result<(), CreateError> {
        let Content::Own(file) = &self.content else { return Ok(()) };
        match file.read_at(&mut [0], 0) {
            Ok(1) if self.strict => Err(CreateError::changed(self.path(), Change::Grew { from: 0, to: 1 })),
            Ok(_) => Ok(()),
            Err(error) => Err(CreateError::read(self.path(), "read", error)),
        }
    }

    fn shrank(&self, to: u64) -> CreateError {
        CreateError::changed(self.path(), Change::Shrank { from: self.size(), to })
    }

    /// The file in pieces of 1 MiB: offset and length of each.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let size = self.size();
        (0..size).step_by(CHUNK).map(move |offset| (offset, (size - offset).min(CHUNK as u64) as usize))
    }
}
