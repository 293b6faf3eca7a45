//! A source in a local file.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use super::{ByteSource, ByteStream, Local, SourceError, SourceId, check_range};
use crate::threads::offload;

/// How much one step of a stream reads: 1 MiB.
const CHUNK: u64 = 1 << 20;

/// A regular file, read with positioned reads. Its size is fixed when it is opened: a file that shrinks later is
/// reported as truncated.
#[derive(Clone, Debug)]
pub struct FileSource {
    id: SourceId,
    file: Arc<File>,
    size: u64,
}

impl FileSource {
    /// Opens `path`. The id is made of device, inode, size and times, so a file that is rewritten is another source.
    ///
    /// # Errors
    /// The operating system's, or `InvalidInput` when `path` is not a regular file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        // A pipe would have it wait for a writer; for files it means nothing.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        Self::from_file(OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?)
    }

    /// Takes an open file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let id = SourceId::new(format!(
            "file:{}:{}:{}:{}.{:09}:{}.{:09}",
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        ));
        Ok(Self { id, file: Arc::new(file), size: meta.size() })
    }

    /// Gives the source another id, such as the digest of its content: it must name these very bytes.
    #[must_use]
    pub fn with_id(mut self, id: SourceId) -> Self {
        self.id = id;
        self
    }
}

#[async_trait]
impl ByteSource for FileSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn local(&self) -> Option<Local<'_>> {
        Some(Local::File { file: &self.file, offset: 0 })
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        check_range(&self.id, &range, self.size)?;
        let (file, id) = (Arc::clone(&self.file), self.id.clone());
        let steps = stream::try_unfold(range.start, move |offset| {
            let (file, id, end) = (Arc::clone(&file), id.clone(), range.end);
            async move {
                if offset == end {
                    return Ok(None);
                }
                let length = CHUNK.min(end - offset);
                let chunk = offload(move || read_chunk(&file, &id, offset, length)).await?;
                Ok(Some((chunk, offset + length)))
            }
        });
        Ok(steps.boxed())
    }
}

/// Reads exactly `length` bytes at `offset`.
fn read_chunk(file: &File, id: &SourceId, offset: u64, length: u64) -> Result<Bytes, SourceError> {
    let mut chunk = BytesMut::zeroed(length as usize);
    match file.read_exact_at(&mut chunk, offset) {
        Ok(()) => Ok(chunk.freeze()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let detail = format!("it is shorter than byte {}, where it was opened with", offset + length);
            Err(SourceError::Changed { id: id.clone(), detail })
        }
        Err(source) => Err(SourceError::Io { id: id.clone(), offset, source }),
    }
}
