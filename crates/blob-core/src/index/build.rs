//! Writing an index that every implementation of the format reads.

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};

use super::index_generated::blob as wire;
use super::{ArchiveIndex, IndexError, IndexLimits};
use crate::digest::Digest;
use crate::entry::Compression;
use crate::path::{ArchivePath, PathError, PathProblem};

/// A file to be written to an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Its path; writers store UTF-8 only.
    pub path: ArchivePath,
    /// Where its stored bytes begin in the data blob.
    pub data_offset: u64,
    /// How many bytes are stored.
    pub data_size: u64,
    /// How many bytes it has.
    pub original_size: u64,
    /// The SHA-256 of its bytes.
    pub hash: [u8; 32],
    /// Permission bits; masked to `0o777`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The modification time, in nanoseconds since 1970-01-01T00:00:00Z.
    pub mtime_ns: i64,
    /// How its bytes are stored.
    pub compression: Compression,
}

/// A symbolic link to be written to an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSymlink {
    /// Its path.
    pub path: ArchivePath,
    /// What it points at: 1 to 4,095 bytes without NUL.
    pub target: Vec<u8>,
    /// The modification time of the link, in nanoseconds since 1970-01-01T00:00:00Z.
    pub mtime_ns: i64,
}

/// An empty directory to be written to an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDirectory {
    /// Its path.
    pub path: ArchivePath,
    /// Permission bits; masked to `0o777`.
    pub mode: u32,
    /// The modification time, in nanoseconds since 1970-01-01T00:00:00Z.
    pub mtime_ns: i64,
}

/// Collects what an archive holds and writes its index.
///
/// ```
/// use blob_core::{ArchivePath, Compression, Digest, IndexBuilder, IndexLimits, ArchiveIndex, NewFile};
///
/// let mut builder = IndexBuilder::new();
/// builder.file(NewFile {
///     path: ArchivePath::new("hello.txt")?,
///     data_offset: 0,
///     data_size: 5,
///     original_size: 5,
///     hash: *Digest::sha256_of(b"hello").as_bytes().first_chunk().expect("32 bytes"),
///     mode: 0o644,
///     uid: 0,
///     gid: 0,
///     mtime_ns: 0,
///     compression: Compression::None,
/// });
/// let index = builder.finish(5, &Digest::sha256_of(b"hello"))?;
/// assert_eq!(index.entry("hello.txt").map(|entry| entry.range()), Some(0..5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct IndexBuilder {
    files: Vec<NewFile>,
    symlinks: Vec<NewSymlink>,
    empty_dirs: Vec<NewDirectory>,
}

impl IndexBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, in any order.
    pub fn file(&mut self, file: NewFile) {
        self.files.push(file);
    }

    /// Adds a symbolic link, in any order.
    pub fn symlink(&mut self, link: NewSymlink) {
        self.symlinks.push(link);
    }

    /// Adds an empty directory, in any order.
    pub fn empty_dir(&mut self, dir: NewDirectory) {
        self.empty_dirs.push(dir);
    }

    /// Sorts everything and writes the index for a data blob of `data_size` bytes with `data_digest`. What is written
    /// is parsed again, so an index that comes out of here opens.
    ///
    /// # Errors
    /// [`IndexError`]: a path twice, a file that is a directory too, a name that is not UTF-8, an entry that
    /// contradicts itself, or more than fits in 2 GiB.
    pub fn finish(mut self, data_size: u64, data_digest: &Digest) -> Result<ArchiveIndex, IndexError> {
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.symlinks.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.empty_dirs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let estimate = self.estimate();
        let limit = i32::MAX as usize;
        if estimate > limit {
            return Err(IndexError::TooLarge { got: estimate as u64, unit: "bytes", limit: limit as u64 });
        }
        let bytes = self.write(estimate, data_size, data_digest)?;
        // The tables were moved to the bytes: give their memory back before the index makes its own.
        drop(self);
        let limits = IndexLimits { max_bytes: limit as u64, max_entries: usize::MAX, max_directories: usize::MAX };
        let index = ArchiveIndex::parse(bytes, &limits)?;
        index.check_end(data_size)?;
        Ok(index)
    }

    /// An upper bound for the bytes of the index, so that the builder never has to double its buffer.
    fn estimate(&self) -> usize {
        let files: usize = self.files.iter().map(|file| 128 + file.path.as_bytes().len()).sum();
        let links: usize = self.symlinks.iter().map(|link| 64 + link.path.as_bytes().len() + link.target.len()).sum();
        let dirs: usize = self.empty_dirs.iter().map(|dir| 64 + dir.path.as_bytes().len()).sum();
        files + links + dirs + 1024
    }

    /// FlatBuffers are written from the end: the last file first, so that the first stands in front.
    fn write(&self, capacity: usize, data_size: u64, data_digest: &Digest) -> Result<Vec<u8>, IndexError> {
        let mut fbb = FlatBufferBuilder::with_capacity(capacity);
        let empty_dirs = write_all(&mut fbb, &self.empty_dirs, |fbb, dir| {
            let path = Some(string(fbb, &dir.path)?);
            let args = wire::EmptyDirArgs { path, mode: dir.mode & 0o777, mtime_ns: dir.mtime_ns };
            Ok(wire::EmptyDir::create(fbb, &args))
        })?;
        let symlinks = write_all(&mut fbb, &self.symlinks, |fbb, link| {
            let target = Some(fbb.create_vector(&link.target));
            let path = Some(string(fbb, &link.path)?);
            Ok(wire::Symlink::create(fbb, &wire::SymlinkArgs { path, target, mtime_ns: link.mtime_ns }))
        })?;
        let entries = write_all(&mut fbb, &self.files, |fbb, file| {
            let path = Some(string(fbb, &file.path)?);
            let hash = Some(fbb.create_vector(&file.hash));
            let args = wire::EntryArgs {
                path,
                data_offset: file.data_offset,
                data_size: file.data_size,
                original_size: file.original_size,
                hash,
                mode: file.mode & 0o777,
                uid: file.uid,
                gid: file.gid,
                mtime_ns: file.mtime_ns,
                compression: match file.compression {
                    Compression::None => wire::Compression::None,
                    Compression::Zstd => wire::Compression::Zstd,
                },
            };
            Ok(wire::Entry::create(fbb, &args))
        })?;
        let args = wire::IndexArgs {
            version: 1,
            hash_algorithm: wire::HashAlgorithm::Sha256,
            entries: Some(entries),
            data_size,
            data_hash: Some(fbb.create_vector(data_digest.as_bytes())),
            // Absent rather than empty, so that archives without links are the same bytes as ever.
            symlinks: (!self.symlinks.is_empty()).then_some(symlinks),
            empty_dirs: (!self.empty_dirs.is_empty()).then_some(empty_dirs),
        };
        let root = wire::Index::create(&mut fbb, &args);
        fbb.finish_minimal(root);
        let (buffer, start) = fbb.collapse();
        let mut buffer = buffer;
        buffer.drain(..start);
        Ok(buffer)
    }
}

/// A vector of tables, in the order of `items`.
fn write_all<'b, T, O>(
    fbb: &mut FlatBufferBuilder<'b>,
    items: &[T],
    mut one: impl FnMut(&mut FlatBufferBuilder<'b>, &T) -> Result<WIPOffset<O>, IndexError>,
) -> Result<WIPOffset<Vector<'b, ForwardsUOffset<O>>>, IndexError> {
    let mut offsets = Vec::with_capacity(items.len());
    for item in items.iter().rev() {
        offsets.push(one(fbb, item)?);
    }
    offsets.reverse();
    Ok(fbb.create_vector(&offsets))
}

/// A string, NUL-terminated, declared to the generated code as the bytes that it is on the wire.
fn string<'b>(fbb: &mut FlatBufferBuilder<'b>, path: &ArchivePath) -> Result<WIPOffset<Vector<'b, u8>>, IndexError> {
    let Some(text) = path.as_str() else {
        return Err(PathError { path: path.as_bytes().into(), problem: PathProblem::NotUtf8 }.into());
    };
    Ok(WIPOffset::new(fbb.create_string(text).value()))
}
