//! A file of an archive as `Read + Seek`, wherever its bytes are.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use blob_core::archive::EntryStream;
use blob_core::codec::SMALL;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;

use crate::{Archive, Error};

/// A file of an archive, to read from and seek in.
///
/// Files up to 8 MiB are read and verified when they are opened. Larger ones are streamed: what is read is provisional
/// until the end was reached without an error, seeking forward reads what lies between, and seeking backward begins
/// again at the start.
pub struct File {
    archive: Archive,
    runtime: Arc<Runtime>,
    path: Box<[u8]>,
    size: u64,
    /// Where the next read begins.
    position: u64,
    /// What is at hand: `position` plus this, as long as `reached` is not behind `position`.
    chunk: Bytes,
    stream: Option<EntryStream>,
    /// Where the stream stands, behind `chunk`.
    reached: u64,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = blob_core::path::Shown(&self.path);
        f.debug_struct("File").field("path", &path).field("position", &self.position).finish_non_exhaustive()
    }
}

impl File {
    pub(super) fn open(archive: Archive, runtime: Arc<Runtime>, path: &[u8]) -> Result<Self, Error> {
        let size = archive.stat(path)?.size;
        let mut file = Self {
            path: path.into(),
            size,
            position: 0,
            chunk: Bytes::new(),
            stream: None,
            reached: 0,
            archive,
            runtime,
        };
        if size <= SMALL {
            file.chunk = file.runtime.block_on(file.archive.read(path))?;
            file.reached = size;
        }
        Ok(file)
    }

    /// Where `chunk` begins.
    fn chunk_start(&self) -> u64 {
        self.reached - self.chunk.len() as u64
    }

    /// Makes `chunk` hold the byte at `position`, which is not the end.
    fn fill(&mut self) -> io::Result<()> {
        if self.position < self.chunk_start() {
            (self.stream, self.chunk, self.reached) = (None, Bytes::new(), 0);
        }
        while self.reached <= self.position {
            if self.stream.is_none() {
                let opened = self.runtime.block_on(self.archive.stream(&self.path));
                self.stream = Some(opened.map_err(io::Error::other)?);
            }
            let next = self.stream.as_mut().map(|stream| self.runtime.block_on(stream.next()));
            match next.flatten() {
                Some(Ok(chunk)) => {
                    self.reached += chunk.len() as u64;
                    self.chunk = chunk;
                }
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(())
    }

    /// Reads the end of the stream, which is where it tells whether all of it was right.
    fn finish(&mut self) -> io::Result<()> {
        if let Some(mut stream) = self.stream.take().filter(|_| self.reached == self.size)
            && let Some(Err(error)) = self.runtime.block_on(stream.next())
        {
            return Err(io::Error::other(error));
        }
        Ok(())
    }
}

impl Read for File {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        if self.position >= self.size {
            return self.finish().map(|()| 0);
        }
        self.fill()?;
        let skip = (self.position - self.chunk_start()) as usize;
        let mut rest = self.chunk.slice(skip..);
        let length = rest.len().min(target.len());
        rest.copy_to_slice(&mut target[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.size.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        let before_start = || io::Error::new(io::ErrorKind::InvalidInput, "seeking to before the start of the file");
        self.position = target.ok_or_else(before_start)?;
        Ok(self.position)
    }
}
