//! A file of more than 8 MiB on its way: from the source, or from a cache with the source behind it.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Archive, EntryStream};
use crate::cache::CacheWriter;
use crate::codec::{DecodeError, Expected, StreamDecoder};
use crate::digest::{Digest, Hasher};
use crate::entry::{Compression, Entry};
use crate::error::ReadError;
use crate::source::{ByteStream, MOST_EMPTY, SourceError};

/// Where the bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The content cache: if it fails, the source goes on.
    Cache,
    /// The source of the archive.
    Source,
}

/// A large file on its way: each step decodes at most 256 KiB.
pub(super) struct Large {
    archive: Archive,
    path: Box<[u8]>,
    /// What the index says.
    entry: (Expected, Range<u64>),
    /// What the bytes have to become, which a cache has uncompressed.
    expected: Expected,
    pub(super) origin: Origin,
    decoder: StreamDecoder,
    stored: ByteStream,
    /// Stored bytes that came and are not decoded yet.
    chunk: Bytes,
    /// Whether the decoder has given all that it can without more input.
    drained: bool,
    received: u64,
    /// Chunks without a byte, one after the other.
    empty: u32,
    given: Option<Given>,
    pub(super) writer: Option<Box<dyn CacheWriter>>,
}

/// What was handed out before the source took over from the cache, and comes once more.
struct Given {
    left: u64,
    digest: Digest,
    hasher: Hasher,
}

impl Large {
    pub(super) fn new(
        archive: &Archive,
        entry: Entry<'_>,
        expected: Expected,
        stored: ByteStream,
    ) -> Result<Self, ReadError> {
        let path: Box<[u8]> = entry.path().into();
        let decoder = StreamDecoder::new(expected, archive.options().limits.decode)
            .map_err(|source| ReadError::Decode { path: path.clone(), source })?;
        Ok(Self {
            archive: archive.clone(),
            path,
            entry: (Expected::from(&entry), entry.range()),
            expected,
            origin: Origin::Source,
            decoder,
            stored,
            chunk: Bytes::new(),
            drained: true,
            received: 0,
            empty: 0,
            given: None,
            writer: None,
        })
    }

    pub(super) fn into_stream(self) -> EntryStream {
        let size = self.expected.original_size;
        EntryStream::provisional(stream::try_unfold(self, Self::next).boxed(), size)
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ReadError> {
        loop {
            while !self.drained {
                let content = match self.step() {
                    Ok(content) => content,
                    Err(error) => return Err(self.wrong(error).await),
                };
                if !content.is_empty() {
                    self.tee(&content).await;
                    return Ok(Some((content, self)));
                }
            }
            match self.stored.try_next().await {
                Ok(Some(chunk)) => {
                    self.received += chunk.len() as u64;
                    // Of bytes beyond the end the decoder tells.
                    self.empty = if chunk.is_empty() { self.empty + 1 } else { 0 };
                    if self.empty > MOST_EMPTY {
                        let (expected, got) = (self.expected.data_size, self.received);
                        let id = self.archive.source().id().clone();
                        self = self.failed(SourceError::Endless { id, expected, got }).await?;
                        continue;
                    }
                    self.chunk = chunk;
                    self.drained = false;
                }
                Ok(None) if self.received == self.expected.data_size => return self.finish().await.map(|()| None),
                Ok(None) => {
                    let (expected, got) = (self.expected.data_size, self.received);
                    let id = self.archive.source().id().clone();
                    self = self.failed(SourceError::Truncated { id, expected, got }).await?;
                }
                Err(error) => self = self.failed(error).await?,
            }
        }
    }

    fn step(&mut self) -> Result<Bytes, DecodeError> {
        let step = self.decoder.step(&self.chunk)?;
        let (consumed, drained) = (step.consumed, step.drained);
        let decoded = match self.expected.compression {
            Compression::None => None,
            Compression::Zstd => Some(Bytes::copy_from_slice(step.content)),
        };
        let taken = self.chunk.split_to(consumed);
        self.drained = drained;
        self.beyond(decoded.unwrap_or(taken))
    }

    /// What of `content` was not handed out before, if what was is the same.
    fn beyond(&mut self, mut content: Bytes) -> Result<Bytes, DecodeError> {
        let Some(given) = &mut self.given else { return Ok(content) };
        let again = content.split_to(content.len().min(usize::try_from(given.left).unwrap_or(usize::MAX)));
        given.hasher.update(&again);
        given.left -= again.len() as u64;
        if given.left == 0
            && let Some(Given { digest: got, hasher, .. }) = self.given.take()
        {
            let expected = hasher.finish();
            if got != expected {
                return Err(DecodeError::HashMismatch { expected, got });
            }
        }
        Ok(content)
    }

    /// The bytes did not come. If it was the cache that failed, the source goes on behind what was handed out.
    async fn failed(mut self, error: SourceError) -> Result<Self, ReadError> {
        if self.origin == Origin::Source {
            return Err(ReadError::Source { path: self.path, source: error });
        }
        self.archive.cache_failed("reading it from", &self.path, &error);
        let (expected, range) = self.entry.clone();
        let opened = self.archive.source().open(range).await;
        let stored = opened.map_err(|source| ReadError::Source { path: self.path.clone(), source })?;
        let decoder = StreamDecoder::new(expected, self.archive.options().limits.decode)
            .map_err(|source| ReadError::Decode { path: self.path.clone(), source })?;
        let before = std::mem::replace(&mut self.decoder, decoder);
        let left = before.position();
        self.given = (left > 0).then(|| Given {
            left,
            digest: before.into_digest(),
            hasher: Hasher::new(expected.digest.algorithm()),
        });
        let (origin, chunk) = (Origin::Source, Bytes::new());
        Ok(Self { origin, expected, stored, chunk, drained: true, received: 0, empty: 0, ..self })
    }

    /// The bytes were wrong, and some of them are out: whoever reads next must not get them again.
    async fn wrong(&mut self, source: DecodeError) -> ReadError {
        if source.is_about_bytes() {
            match self.origin {
                Origin::Cache => {
                    self.archive.cache_lied(&self.path, &source);
                    self.archive.forget(&self.expected.digest, &self.path).await;
                }
                Origin::Source => drop(self.archive.source().forget(self.entry.1.clone()).await),
            }
        }
        ReadError::Decode { path: self.path.clone(), source }
    }

    async fn tee(&mut self, content: &Bytes) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.write(content.clone()).await
        {
            self.archive.cache_failed("storing it in", &self.path, &error);
            self.writer = None;
        }
    }

    async fn finish(mut self) -> Result<(), ReadError> {
        if let Err(source) = self.decoder.check() {
            return Err(self.wrong(source).await);
        }
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.commit().await
        {
            self.archive.cache_failed("storing it in", &self.path, &error);
        }
        Ok(())
    }
}
