//! Writing archives as ZIP files, as a stream: the same archive gives the same bytes.
//!
//! Small files are compressed in memory, so that their sizes stand before them; larger ones have them behind (APPNOTE 4.3.9).
//! ZIP64 records are there where numbers need them. Modes and links are those of Unix, times are kept to the second in an
//! extra field. Directories that hold something are not recorded in archives and do not appear.
//!
//! It is written here because what stands around the contents is little, and libraries that write ZIP want to go back in the
//! file, or names that are strings, or a thread that waits.

mod record;

use std::io::{self, Write as _};

use blob_core::entry::{Compression, Entry};
use blob_core::path::Shown;
use blob_core::{EntryStream, Node, ReadError};
use bytes::Bytes;
use flate2::write::DeflateEncoder;
use flate2::{Compression as Level, Crc};
use futures_util::TryStreamExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter};

use crate::pull::Archive;
use crate::tarball::Exported;
use record::{Kind, Method, Record};

/// Bytes are gathered to writes of this size: 256 KiB.
const GATHER: usize = 256 << 10;

/// Files up to this size are compressed in memory: 8 MiB, as they are verified there.
const IN_MEMORY: u64 = 8 << 20;

/// Contents below this size are compressed where we are: 16 KiB.
const SMALL: usize = 16 << 10;

/// The longest name that the format holds, in bytes.
const MAX_NAME: usize = u16::MAX as usize;

/// An archive that was not written as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZipError {
    /// A file could not be read. What was written of it, if it is larger than 8 MiB, is not to be used.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream could not be written.
    #[error("writing the ZIP file")]
    Write(#[source] io::Error),
    /// A name that ZIP files cannot hold, so that every reader finds it again.
    #[error("a ZIP file cannot hold the name \"{}\": {problem}", Shown(path))]
    Name {
        /// The path.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Archive {
    /// Writes `nodes` to `out` as a ZIP file, in their order; nothing is sought. Files up to 8 MiB are verified before their
    /// first byte is written; larger ones end in an error if they were wrong. Near files are read by one request.
    ///
    /// Files that the archive holds compressed are compressed, the others are stored. Memory grows with the number of nodes,
    /// by their names and some 60 bytes each, since the directory of a ZIP file stands at its end.
    ///
    /// # Errors
    /// [`ZipError`]; names are checked before anything is written. What was written is incomplete, and has no directory.
    ///
    /// # Cancellation
    /// Dropping the future ends the requests; the file stays incomplete.
    pub async fn export_zip(
        &self,
        nodes: &[Node<'_>],
        out: impl AsyncWrite + Unpin + Send,
    ) -> Result<Exported, ZipError> {
        check_names(nodes)?;
        let files = nodes.iter().filter_map(|node| if let Node::File(file) = node { Some(*file) } else { None });
        let mut contents = self.contents(files.collect());
        let mut zip = Writer::new(out);
        for node in nodes {
            match node {
                Node::File(_) => {
                    let Some((file, content)) = contents.try_next().await? else { break };
                    zip.file(file, content).await?;
                }
                Node::Symlink(link) => {
                    let record = Record::new(Kind::Symlink, link.path(), 0o777, link.mtime_ns());
                    zip.whole(record, Bytes::copy_from_slice(link.target()), false).await?;
                    zip.done.symlinks += 1;
                }
                Node::EmptyDir(dir) => {
                    let record = Record::new(Kind::Directory, dir.path(), dir.mode(), dir.mtime_ns());
                    zip.whole(record, Bytes::new(), false).await?;
                    zip.done.empty_dirs += 1;
                }
                Node::Directory(_) => {}
            }
        }
        zip.end().await
    }
}

/// Whether a ZIP file can hold these nodes, which [`Archive::export_zip`] asks first.
///
/// # Errors
/// [`ZipError::Name`] about the first name that it cannot hold.
pub fn check_names(nodes: &[Node<'_>]) -> Result<(), ZipError> {
    nodes.iter().try_for_each(|node| check_name(node.path()))
}

fn check_name(path: &[u8]) -> Result<(), ZipError> {
    let refused = |problem| Err(ZipError::Name { path: path.to_vec(), problem });
    match path {
        path if path.len() >= MAX_NAME => refused("it is longer than 65534 bytes"),
        path if std::str::from_utf8(path).is_err() => refused("it is not UTF-8"),
        path if path.contains(&b'\\') => refused("some readers take its backslash for a directory"),
        _ => Ok(()),
    }
}

struct Writer<W> {
    out: BufWriter<W>,
    done: Exported,
    /// What the directory at the end says.
    directory: Vec<u8>,
    records: u64,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    fn new(out: W) -> Self {
        let out = BufWriter::with_capacity(GATHER, out);
        Self { out, done: Exported::default(), directory: Vec::new(), records: 0 }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ZipError> {
        self.done.bytes += bytes.len() as u64;
        self.out.write_all(bytes).await.map_err(ZipError::Write)
    }

    async fn file(&mut self, file: Entry<'_>, mut content: EntryStream) -> Result<(), ZipError> {
        let size = file.original_size();
        let compress = file.compression() != Compression::None;
        let record = Record::new(Kind::File, file.path(), file.mode(), file.mtime_ns());
        if size > IN_MEMORY {
            self.streamed(record, size, content, compress).await?;
        } else {
            let first = content.try_next().await?.unwrap_or_default();
            let whole = if first.len() as u64 == size {
                first
            } else {
                let mut whole = Vec::from(first);
                while let Some(chunk) = content.try_next().await? {
                    whole.extend_from_slice(&chunk);
                }
                whole.into()
            };
            self.whole(record, whole, compress).await?;
        }
        self.done.files += 1;
        self.done.content_bytes += size;
        Ok(())
    }

    /// A content that is in memory.
    async fn whole(&mut self, mut record: Record<'_>, content: Bytes, compress: bool) -> Result<(), ZipError> {
        record.size = content.len() as u64;
        // What is small is done before another thread would begin.
        let small = content.len() < SMALL;
        let work = move || {
            let mut crc = Crc::new();
            crc.update(&content);
            let mut deflated = None;
            if compress {
                let mut encoder = DeflateEncoder::new(Vec::with_capacity(content.len() / 2), Level::default());
                encoder.write_all(&content)?;
                deflated = Some(encoder.finish()?).filter(|deflated| deflated.len() < content.len());
            }
            let method = if deflated.is_some() { Method::Deflate } else { Method::Store };
            Ok((crc.sum(), method, deflated.map_or(content, Bytes::from)))
        };
        let (crc, method, stored) = if small { work().map_err(ZipError::Write)? } else { blocking(work).await? };
        (record.crc, record.method, record.stored) = (crc, method, stored.len() as u64);
        record.offset = self.done.bytes;
        self.write(&record.head()).await?;
        self.write(&stored).await?;
        self.list(&record);
        Ok(())
    }

    /// A content whose sizes are known at its end.
    async fn streamed(
        &mut self,
        mut record: Record<'_>,
        size: u64,
        mut content: EntryStream,
        compress: bool,
    ) -> Result<(), ZipError> {
        (record.method, record.size, record.offset) = (Method::Deflate, size, self.done.bytes);
        record.stream();
        self.write(&record.head()).await?;
        let start = self.done.bytes;
        // What is deflated tells where it ends; what is stored does not.
        let level = if compress { Level::default() } else { Level::none() };
        let mut state = (DeflateEncoder::new(Vec::new(), level), Crc::new());
        while let Some(chunk) = content.try_next().await? {
            let (mut encoder, mut crc) = state;
            state = blocking(move || {
                crc.update(&chunk);
                encoder.write_all(&chunk)?;
                Ok((encoder, crc))
            })
            .await?;
            let deflated = std::mem::take(state.0.get_mut());
            self.write(&deflated).await?;
        }
        let (encoder, crc) = state;
        self.write(&encoder.finish().map_err(ZipError::Write)?).await?;
        (record.crc, record.stored) = (crc.sum(), self.done.bytes - start);
        self.write(&record.descriptor()).await?;
        self.list(&record);
        Ok(())
    }

    fn list(&mut self, record: &Record<'_>) {
        self.directory.extend(record.listed());
        self.records += 1;
    }

    async fn end(mut self) -> Result<Exported, ZipError> {
        let (start, directory) = (self.done.bytes, std::mem::take(&mut self.directory));
        self.write(&directory).await?;
        self.write(&record::end(self.records, start, directory.len() as u64)).await?;
        self.out.flush().await.map_err(ZipError::Write)?;
        Ok(self.done)
    }
}

/// Compresses where that holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, ZipError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ZipError::Write(error.into()))?.map_err(ZipError::Write)
}
