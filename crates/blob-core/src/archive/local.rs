//! Archives in local files, and their files as `Read + Seek`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Archive, ReadOptions};
use crate::codec::{DecodeError, Decoder, Expected, SMALL, StreamDecoder};
use crate::entry::Compression;
use crate::error::ReadError;
use crate::index::{ArchiveIndex, IndexError};
use crate::path;
use crate::source::{ByteSource, FileSource, Local, SourceError};

/// How much is read from disk at once: 256 KiB.
const STEP: u64 = 256 << 10;

impl Archive {
    /// Opens an archive from the two files that [`save`](Self::save) and [`create_blob`](crate::create_blob) write.
    /// Blocks while the index is read.
    ///
    /// The pair has nothing above it: files are checked against the index, and nobody says that the index is the right
    /// one. The index's digest for the data, if it records one, becomes the source's id.
    ///
    /// # Errors
    /// [`ReadError::Io`]; [`ReadError::Index`] when the index is corrupt, over
    /// [`limits`](super::ReadLimits::index), or belongs to data of another size.
    pub fn open_file(index: impl AsRef<Path>, data: impl AsRef<Path>, options: ReadOptions) -> Result<Self, ReadError> {
        let (index, data) = (index.as_ref(), data.as_ref());
        let failed = |action, path: &Path, source| ReadError::Io { action, path: path.to_path_buf(), source };
        let limit = options.limits.index.max_bytes;
        let mut bytes = Vec::new();
        let file = File::open(index).map_err(|error| failed("opening the index", index, error))?;
        // One byte more than allowed tells a file that is too large from one that just fits.
        let got = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        got.map_err(|error| failed("reading the index", index, error))?;
        if bytes.len() as u64 > limit {
            return Err(IndexError::TooLarge { got: bytes.len() as u64, unit: "bytes", limit }.into());
        }
        let index = ArchiveIndex::parse(bytes, &options.limits.index)?;
        let mut source = FileSource::open(data).map_err(|error| failed("opening the data", data, error))?;
        if let Some(digest) = index.data_digest() {
            index.check_data(&digest, source.size())?;
            source = source.with_id(digest.into());
        }
        Self::open(Arc::new(index), Arc::new(source), options)
    }

    /// Opens the file at `path` for reading and seeking, when the data is at hand as memory or file. The whole content
    /// is verified before this returns, in bounded memory; it blocks meanwhile. The data must not change afterwards.
    ///
    /// # Errors
    /// [`ReadError::NotLocal`] for other sources; else as [`read`](Self::read), without its limit.
    pub fn open_local(&self, path: impl AsRef<[u8]>) -> Result<LocalFile, ReadError> {
        let path = path::normalize(path.as_ref());
        let entry = self.file(&path)?;
        if self.source().local().is_none() {
            return Err(ReadError::NotLocal { path: path.into() });
        }
        let expected = Expected::from(&entry);
        let stored = Stored { source: Arc::clone(self.source()), range: entry.range() };
        let failed = |error| match error {
            Failed::Decode(source) => ReadError::Decode { path: entry.path().into(), source },
            Failed::Source(source) => ReadError::Source { path: entry.path().into(), source },
        };
        let limits = self.options().limits.decode;
        let content =
            if expected.compression == Compression::Zstd && expected.original_size.max(expected.data_size) <= SMALL {
                let mut content = Vec::new();
                let packed = stored.read(0, expected.data_size as usize).map_err(|error| failed(error.into()))?;
                let decoded = Decoder::new(limits).decode(&expected, &packed, &mut content);
                decoded.map_err(|error| failed(error.into()))?;
                Content::Memory(content.into())
            } else {
                let make = move || StreamDecoder::new(expected, limits);
                let mut unpacker =
                    Unpacker { decoder: make().map_err(|error| failed(error.into()))?, fed: 0, chunk: Bytes::new() };
                while unpacker.step(&stored, |_| ()).map_err(failed)? {}
                unpacker.decoder.finish().map_err(|error| failed(error.into()))?;
                match expected.compression {
                    Compression::None => Content::Stored(stored),
                    Compression::Zstd => Content::Packed(Box::new(Packed {
                        stored,
                        unpacker: None,
                        make: Box::new(make),
                        content: Vec::new(),
                        start: 0,
                    })),
                }
            };
        Ok(LocalFile { content, size: expected.original_size, at: 0 })
    }
}

/// A verified file of a local archive. Stored files are read in place; compressed ones are decoded from their start
/// again when the position goes back, up to 8 MiB from memory.
#[derive(Debug)]
pub struct LocalFile {
    content: Content,
    size: u64,
    at: u64,
}

#[derive(Debug)]
enum Content {
    Memory(Bytes),
    Stored(Stored),
    Packed(Box<Packed>),
}

impl LocalFile {
    /// The size of the content in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for LocalFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let got = match &mut self.content {
            Content::Memory(content) => {
                let start = self.at as usize;
                buffer[..wanted].copy_from_slice(&content[start..start + wanted]);
                wanted
            }
            Content::Stored(stored) => {
                stored.read_into(self.at, &mut buffer[..wanted]).map_err(io::Error::other)?;
                wanted
            }
            Content::Packed(packed) => packed.read(self.at, &mut buffer[..wanted])?,
        };
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for LocalFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Why verifying failed.
enum Failed {
    Decode(DecodeError),
    Source(SourceError),
}

impl From<DecodeError> for Failed {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Decode(error) => Self::new(io::ErrorKind::InvalidData, error),
            Failed::Source(error) => Self::other(error),
        }
    }
}

/// The stored bytes of a file in a local source.
#[derive(Debug)]
struct Stored {
    source: Arc<dyn ByteSource>,
    range: Range<u64>,
}

impl Stored {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Reads `length` bytes at `at`, without a copy where they are in memory.
    fn read(&self, at: u64, length: usize) -> Result<Bytes, SourceError> {
        if let Some(Local::Bytes(bytes)) = self.source.local() {
            let start = (self.range.start + at) as usize;
            return Ok(bytes.slice(start..start + length));
        }
        let mut buffer = vec![0; length];
        self.read_into(at, &mut buffer)?;
        Ok(buffer.into())
    }

    fn read_into(&self, at: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let id = || self.source.id().clone();
        match self.source.local() {
            Some(Local::Bytes(bytes)) => {
                let start = (self.range.start + at) as usize;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
            Some(Local::File { file, offset }) => {
                let start = self.range.start + at;
                let failed = |source| SourceError::Io { id: id(), offset: start, source };
                file.read_exact_at(buffer, offset + start).map_err(failed)
            }
            None => Err(SourceError::Changed { id: id(), detail: "it was local and is not any more".into() }),
        }
    }
}

/// Decodes stored bytes step by step.
#[derive(Debug)]
struct Unpacker {
    decoder: StreamDecoder,
    /// How many stored bytes were read.
    fed: u64,
    chunk: Bytes,
}

impl Unpacker {
    /// Decodes at most 256 KiB; the answer is whether there may be more.
    fn step(&mut self, stored: &Stored, take: impl FnOnce(&[u8])) -> Result<bool, Failed> {
        if self.chunk.is_empty() {
            let length = STEP.min(stored.len() - self.fed);
            self.chunk = stored.read(self.fed, length as usize)?;
            self.fed += length;
        }
        let step = self.decoder.step(&self.chunk)?;
        take(step.content);
        let (consumed, drained) = (step.consumed, step.drained);
        let _ = self.chunk.split_to(consumed);
        Ok(!drained || self.fed < stored.len())
    }
}

type MakeDecoder = Box<dyn Fn() -> Result<StreamDecoder, DecodeError> + Send + Sync>;

/// A large compressed file: what was decoded last, and the means to go on or to begin again.
struct Packed {
    stored: Stored,
    unpacker: Option<Unpacker>,
    make: MakeDecoder,
    content: Vec<u8>,
    /// Where `content` begins in the file.
    start: u64,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed").field("stored", &self.stored).field("start", &self.start).finish_non_exhaustive()
    }
}

impl Packed {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if at < self.start {
            self.unpacker = None;
        }
        while self.unpacker.is_none() || at >= self.start + self.content.len() as u64 {
            let unpacker = match &mut self.unpacker {
                Some(unpacker) => unpacker,
                none => {
                    self.content.clear();
                    self.start = 0;
                    let decoder = (self.make)().map_err(Failed::from)?;
                    none.insert(Unpacker { decoder, fed: 0, chunk: Bytes::new() })
                }
            };
            self.start += self.content.len() as u64;
            self.content.clear();
            let content = &mut self.content;
            let more = unpacker.step(&self.stored, |step| content.extend_from_slice(step))?;
            if !more && at >= self.start + self.content.len() as u64 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let content = &self.content[(at - self.start) as usize..];
        let length = content.len().min(buffer.len());
        buffer[..length].copy_from_slice(&content[..length]);
        Ok(length)
    }
}
