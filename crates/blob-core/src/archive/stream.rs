//! One file as a stream of chunks, with bounded memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Archive;
use super::large::{Large, Origin};
use super::read::INLINE;
use crate::cache::CacheWriter;
use crate::codec::{DecodeError, Expected, SMALL, StreamDecoder};
use crate::digest::Hasher;
use crate::entry::{Compression, Entry};
use crate::error::ReadError;
use crate::path;
use crate::source::{Awaited, ByteSource, ByteSourceExt as _, ByteStream, SourceError, read_again};
use crate::threads::offload;

/// The content of a file as it comes. After an error the stream is over.
///
/// Content of at most 8 MiB is verified before the first chunk. Above that, the chunks are
/// [provisional](Self::is_provisional): the stream ends in an error if they were not the file that the index promises,
/// so act on them only when it has ended well.
pub struct EntryStream {
    chunks: BoxStream<'static, Result<Bytes, ReadError>>,
    size: u64,
    provisional: bool,
    from_cache: bool,
}

impl EntryStream {
    /// Content of `size` bytes that is verified at its end.
    pub(super) fn provisional(chunks: BoxStream<'static, Result<Bytes, ReadError>>, size: u64) -> Self {
        Self { chunks, size, provisional: true, from_cache: false }
    }

    /// The size of the content in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Content that was verified.
    pub(super) fn verified(content: Bytes) -> Self {
        let size = content.len() as u64;
        let chunks = stream::iter((!content.is_empty()).then_some(Ok(content))).boxed();
        Self { chunks, size, provisional: false, from_cache: false }
    }

    /// Whether the content cache gives it.
    pub(super) fn is_from_cache(&self) -> bool {
        self.from_cache
    }

    /// Whether chunks come before the whole is verified.
    pub fn is_provisional(&self) -> bool {
        self.provisional
    }

    /// The stream as a [`tokio::io::AsyncRead`] and [`tokio::io::AsyncBufRead`], for any runtime.
    #[cfg(feature = "tokio")]
    pub fn into_async_read(self) -> super::EntryReader {
        super::EntryReader::new(self)
    }
}

impl std::fmt::Debug for EntryStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryStream")
            .field("size", &self.size)
            .field("provisional", &self.provisional)
            .finish_non_exhaustive()
    }
}

impl EntryStream {
    /// All of it, in memory.
    pub(super) async fn collect(mut self) -> Result<Bytes, ReadError> {
        let mut content = BytesMut::new();
        while let Some(chunk) = self.try_next().await? {
            content.extend_from_slice(&chunk);
        }
        Ok(content.freeze())
    }
}

impl Stream for EntryStream {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.chunks.poll_next_unpin(cx));
        if !matches!(next, Some(Ok(_))) {
            self.chunks = stream::empty().boxed();
        }
        Poll::Ready(next)
    }
}

impl Archive {
    /// The content of the file at `path` as a stream, from one ranged read or from the cache. Memory is at most 16 MiB,
    /// and the Zstandard window for files of more than 8 MiB, whatever the size of the file.
    ///
    /// # Errors
    /// [`ReadError`]: not a file; the source's failures; for files of at most 8 MiB, content that is not what the index
    /// promises, which larger ones report at the end of the stream.
    ///
    /// # Cancellation
    /// Dropping the future or the stream stops the read.
    pub async fn stream(&self, path: impl AsRef<[u8]>) -> Result<EntryStream, ReadError> {
        let path = path::normalize(path.as_ref());
        self.stream_entry(self.file(&path)?).await
    }

    pub(super) async fn stream_entry(&self, entry: Entry<'_>) -> Result<EntryStream, ReadError> {
        let size = entry.original_size();
        if size.max(entry.data_size()) <= SMALL {
            return Ok(EntryStream::verified(self.read_small(entry).await?));
        }
        let expected = Expected::from(&entry);
        let Some(stored) = self.cached_large(&expected, entry.path()).await else {
            return match self.kept_and_right(entry).await? {
                Some(stored) => self.streamed(stream::iter([Ok(stored)]).boxed(), entry).await,
                None => self.stream_from(self.source(), entry).await,
            };
        };
        let plain = Expected { compression: Compression::None, data_size: size, ..expected };
        let mut large = Large::new(self, entry, plain, stored)?;
        large.origin = Origin::Cache;
        Ok(EntryStream { from_cache: true, ..large.into_stream() })
    }

    /// A large content from `source`: that of the archive, or one with the same bytes.
    pub(super) async fn stream_from(
        &self,
        source: &Arc<dyn ByteSource>,
        entry: Entry<'_>,
    ) -> Result<EntryStream, ReadError> {
        let opened = source.open(entry.range()).await;
        let stored = opened.map_err(|source| ReadError::Source { path: entry.path().into(), source })?;
        self.streamed(stored, entry).await
    }

    /// The stored bytes of a large file of which something on the way to its source keeps a copy: decoded once to know
    /// that they are right, for the same reason as [`cached_large`](Self::cached_large); if they are not, read past
    /// what kept them. `None` when nothing does.
    async fn kept_and_right(&self, entry: Entry<'_>) -> Result<Option<Bytes>, ReadError> {
        let range = entry.range();
        if entry.data_size() > SMALL || !self.source().keeps(&range) {
            return Ok(None);
        }
        let read = self.source().read(range.clone()).await;
        let stored = read.map_err(|source| ReadError::Source { path: entry.path().into(), source })?;
        let (expected, limits, copy) = (Expected::from(&entry), self.options().limits.decode, stored.clone());
        let decoded = offload(move || {
            let mut decoder = StreamDecoder::new(expected, limits)?;
            decoder.feed(&copy, |_| Ok::<_, DecodeError>(()))?;
            decoder.check()
        });
        if decoded.await.is_err_and(|error| error.is_about_bytes())
            && let Some(again) = read_again(&**self.source(), range).await
        {
            return Ok(Some(again));
        }
        Ok(Some(stored))
    }

    async fn streamed(&self, stored: ByteStream, entry: Entry<'_>) -> Result<EntryStream, ReadError> {
        let expected = Expected::from(&entry);
        let mut large = Large::new(self, entry, expected, stored)?;
        large.writer = self.cache_writer(&expected, entry.path()).await;
        Ok(large.into_stream())
    }

    /// A large content from the cache, read through once to know that it is right: bytes that were handed out cannot be
    /// taken back, and a damaged cache must not fail a read. One that verifies its hits has done that.
    async fn cached_large(&self, expected: &Expected, path: &[u8]) -> Option<ByteStream> {
        let source = self.cached_source(expected, path).await?;
        if self.trusts_cache()
            && let Ok(stream) = source.open(0..source.size()).await
        {
            return Some(stream);
        }
        let problem = match digest_of(&source, expected).await {
            Ok(got) if got == expected.digest => match source.open(0..source.size()).await {
                Ok(stream) => return Some(stream),
                Err(error) => error.to_string(),
            },
            Ok(got) => {
                self.forget(&expected.digest, path).await;
                format!("it has digest {got}")
            }
            Err(error) => {
                if error.is_about_length() {
                    self.forget(&expected.digest, path).await;
                }
                error.to_string()
            }
        };
        self.cache_lied(path, &problem);
        None
    }

    async fn cache_writer(&self, expected: &Expected, path: &[u8]) -> Option<Box<dyn CacheWriter>> {
        let cache = self.options().cache.as_ref()?;
        match cache.begin(&expected.digest, expected.original_size).await {
            Ok(writer) => writer,
            Err(error) => {
                self.cache_failed("storing it in", path, &error);
                None
            }
        }
    }
}

/// Hashes a source, chunk by chunk.
async fn digest_of(source: &Arc<dyn ByteSource>, expected: &Expected) -> Result<crate::digest::Digest, SourceError> {
    let mut hasher = Hasher::new(expected.digest.algorithm());
    let mut awaited = Awaited::new(source.size());
    let mut chunks = source.open(0..source.size()).await?;
    while let Some(chunk) = chunks.try_next().await? {
        awaited.came(source.id(), &chunk)?;
        if chunk.len() as u64 <= INLINE {
            hasher.update(&chunk);
        } else {
            hasher = offload(move || {
                hasher.update(&chunk);
                hasher
            })
            .await;
        }
    }
    Ok(hasher.finish())
}
