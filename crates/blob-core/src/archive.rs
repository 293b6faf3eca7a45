//! Reading an archive: an index and a source of its data, wherever that is.
//!
//! Listing costs no read; a file costs one ranged read and is verified before it is returned. Paths are taken as
//! people type them ([`crate::path::normalize`]): leading, trailing and doubled slashes do not matter, and the empty
//! path or `.` is the root. Extraction is in [`crate::extract`].

#[cfg(feature = "tokio")]
mod async_read;
#[cfg(feature = "fs")]
mod copy;
mod flight;
mod large;
#[cfg(feature = "fs")]
mod local;
mod read;
#[cfg(feature = "fs")]
mod save;
mod sequence;
mod stats;
mod stream;

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::cache::{Alarm, Cache, Turns};
use crate::codec::{DecodeLimits, Decoder};
use crate::entry::Entry;
use crate::error::ReadError;
use crate::index::{ArchiveIndex, DirEntry, IndexLimits, Node};
use crate::path;
use crate::source::ByteSource;

#[cfg(feature = "tokio")]
pub use async_read::EntryReader;
pub use flight::Flights;
#[cfg(feature = "fs")]
pub use local::LocalFile;
pub use stats::{DirStats, FileKind, Metadata};
pub use stream::EntryStream;

/// What reading may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadLimits {
    /// What decoding may cost.
    pub decode: DecodeLimits,
    /// How large an index may be that [`Archive::open_file`] reads.
    pub index: IndexLimits,
    /// The largest file that [`Archive::read`] takes to memory, in bytes: 256 MiB by default. Streams and extraction
    /// have bounded memory and do not ask for it.
    pub max_file_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { decode: DecodeLimits::default(), index: IndexLimits::default(), max_file_bytes: 256 << 20 }
    }
}

/// How an archive is read.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Keeps the contents of files by their digest; consulted and filled by [`Archive::read`],
    /// [`Archive::stream`] and, when the data is not local, extraction. A cache that fails or lies costs a warning, never a read.
    pub cache: Option<Arc<dyn Cache>>,
    /// Asked before an extraction fetches what the cache lacks, so that of several processes one does.
    pub turns: Option<Arc<dyn Turns>>,
    /// What reading may cost.
    pub limits: ReadLimits,
    /// Tells when [`cache`](Self::cache) fails or lies. Archives that share this are warned of one cache once; by default
    /// each warns for itself.
    pub alarm: Alarm,
    /// Reads that are under way, so that concurrent [`Archive::read`]s of one content cost one request. Archives that
    /// share this share their reads; by default each has its own.
    pub flights: Flights,
}

/// An open archive. Clones share everything and are cheap.
///
/// ```
/// use std::sync::Arc;
/// use blob_core::{Archive, ArchivePath, Compression, Digest, IndexBuilder, MemorySource, NewFile, ReadOptions};
///
/// let mut builder = IndexBuilder::new();
/// builder.file(NewFile {
///     path: ArchivePath::new("greetings/hello.txt")?,
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
/// let archive = Archive::open(Arc::new(index), Arc::new(MemorySource::new("hello")), ReadOptions::default())?;
///
/// assert!(archive.is_dir("/greetings/"));
/// let content = futures_executor::block_on(archive.read("greetings/hello.txt"))?;
/// assert_eq!(content, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Archive(Arc<Inner>);

struct Inner {
    index: Arc<ArchiveIndex>,
    source: Arc<dyn ByteSource>,
    options: ReadOptions,
    /// Decoders at rest: their contexts are dear to make.
    decoders: Mutex<Vec<Decoder>>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("index", &self.0.index).field("source", &self.0.source).finish_non_exhaustive()
    }
}

impl Archive {
    /// Puts an index and its data together. Nothing is read.
    ///
    /// What is read later is checked against the index; that the index is the right one is the caller's to know, from
    /// the manifest that names its digest.
    ///
    /// # Errors
    /// [`ReadError::Index`] when a file lies beyond the end of `source`.
    pub fn open(
        index: Arc<ArchiveIndex>,
        source: Arc<dyn ByteSource>,
        options: ReadOptions,
    ) -> Result<Self, ReadError> {
        index.check_end(source.size())?;
        Ok(Self(Arc::new(Inner { index, source, options, decoders: Mutex::default() })))
    }

    /// The index.
    pub fn index(&self) -> &Arc<ArchiveIndex> {
        &self.0.index
    }

    /// Where the data comes from.
    pub fn source(&self) -> &Arc<dyn ByteSource> {
        &self.0.source
    }

    /// How this archive is read.
    pub fn options(&self) -> &ReadOptions {
        &self.0.options
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.0.index.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.0.index.is_empty()
    }

    /// The file at `path`.
    pub fn entry(&self, path: impl AsRef<[u8]>) -> Option<Entry<'_>> {
        self.0.index.entry(path::normalize(path.as_ref()))
    }

    /// All files, sorted by path bytes.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.0.index.entries()
    }

    /// The files whose path begins with these bytes, taken as they are: `assets` matches `assets/x` and `assets2`.
    pub fn entries_with_prefix(&self, prefix: impl AsRef<[u8]>) -> impl Iterator<Item = Entry<'_>> {
        self.0.index.entries_with_prefix(prefix)
    }

    /// What the directory at `path` holds, sorted by name.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], [`ReadError::InvalidPath`], [`ReadError::NotADirectory`].
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<Vec<DirEntry<'_>>, ReadError> {
        let path = path::normalize(path.as_ref());
        match self.node(&path)? {
            Node::Directory(dir) => Ok(dir.entries()),
            Node::EmptyDir(_) => Ok(Vec::new()),
            Node::File(_) | Node::Symlink(_) => Err(ReadError::NotADirectory { path: path.into() }),
        }
    }

    /// What stands at `path`, which is normalised.
    pub(crate) fn node(&self, path: &[u8]) -> Result<Node<'_>, ReadError> {
        if let Some(node) = self.0.index.lookup(path) {
            return Ok(node);
        }
        path::check(path).map_err(|problem| path::PathError { path: path.into(), problem })?;
        Err(ReadError::NotFound { path: path.into() })
    }

    /// The file at `path`, which is normalised, or why there is none.
    pub(crate) fn file(&self, path: &[u8]) -> Result<Entry<'_>, ReadError> {
        match self.node(path)? {
            Node::File(entry) => Ok(entry),
            Node::Symlink(_) => Err(ReadError::NotAFile { path: path.into() }),
            Node::Directory(_) | Node::EmptyDir(_) => Err(ReadError::IsDirectory { path: path.into() }),
        }
    }
}
