//! One file to memory: from the content cache, else with one ranged read; verified before it is returned.

use std::error::Error;
use std::fmt::Display;
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};

use super::Archive;
use crate::codec::{self, DecodeError, Decoder, Expected, SMALL};
use crate::digest::Digest;
use crate::entry::{Compression, Entry};
use crate::error::ReadError;
use crate::path::{self, Shown};
#[cfg(unix)]
use crate::source::Local;
use crate::source::{ByteSource, ByteSourceExt as _, SourceError, read_again};
use crate::threads::offload;

/// Up to this size, 256 KiB, decoding and hashing take less time than a hop to another thread and back is worth.
pub(super) const INLINE: u64 = 256 << 10;

/// How many decoders rest between reads.
const SPARE_DECODERS: usize = 4;

impl Archive {
    /// The content of the file at `path`, whole and verified. It costs one ranged read, or none when the cache has it.
    ///
    /// # Errors
    /// [`ReadError`]: not a file; over [`max_file_bytes`](super::ReadLimits::max_file_bytes); the source's failures;
    /// content that is not what the index promises.
    ///
    /// # Cancellation
    /// Dropping the future stops the read; nothing half-read is kept.
    pub async fn read(&self, path: impl AsRef<[u8]>) -> Result<Bytes, ReadError> {
        let path = path::normalize(path.as_ref());
        let entry = self.file(&path)?;
        let limit = self.options().limits.max_file_bytes;
        let size = entry.original_size().max(entry.data_size());
        if size > limit {
            return Err(ReadError::TooLarge { path: entry.path().into(), size, limit });
        }
        // Both sizes count: a small file may claim many stored bytes.
        if size <= SMALL {
            return self.read_small(entry).await;
        }
        self.once(entry, || async move {
            let stream = self.stream_entry(entry).await?;
            let from_cache = stream.is_from_cache();
            match stream.collect().await {
                Err(ReadError::Decode { path, source }) if source.is_about_bytes() => {
                    // Nobody has seen the content yet, so a better one can take its place.
                    if from_cache {
                        return self.stream_from(self.source(), entry).await?.collect().await;
                    }
                    match self.source().forget(entry.range()).await {
                        Some(behind) => self.stream_from(&behind, entry).await?.collect().await,
                        None => Err(ReadError::Decode { path, source }),
                    }
                }
                done => done,
            }
        })
        .await
    }

    /// Reads a content by `read`, or waits for who reads it already.
    async fn once<F>(&self, entry: Entry<'_>, read: impl FnOnce() -> F) -> Result<Bytes, ReadError>
    where
        F: Future<Output = Result<Bytes, ReadError>>,
    {
        if self.options().cache.is_none() && self.source().local().is_some() {
            // Reading takes less time than finding out whether somebody else does.
            return read().await;
        }
        self.options().flights.once(&entry, self.source(), read).await
    }

    /// A file of at most [`SMALL`] bytes, stored and original: cache, else source; the cache is filled.
    pub(super) async fn read_small(&self, entry: Entry<'_>) -> Result<Bytes, ReadError> {
        self.once(entry, || self.read_alone(entry)).await
    }

    async fn read_alone(&self, entry: Entry<'_>) -> Result<Bytes, ReadError> {
        let expected = Expected::from(&entry);
        if let Some(content) = self.cached(&expected, entry.path()).await {
            return Ok(content);
        }
        let stored = self.stored(entry).await?;
        let decoded = match self.decode_aside(expected, stored).await {
            Err(error) => self.decode_again(entry, error).await,
            decoded => decoded,
        };
        let content = decoded.map_err(|source| ReadError::Decode { path: entry.path().into(), source })?;
        self.keep(&expected, entry.path(), &content).await;
        Ok(content)
    }

    /// Decodes here or on another thread, by what takes less time.
    async fn decode_aside(&self, expected: Expected, stored: Bytes) -> Result<Bytes, DecodeError> {
        if expected.original_size <= INLINE {
            return self.decode(&expected, stored);
        }
        let archive = self.clone();
        offload(move || archive.decode(&expected, stored)).await
    }

    /// Once more with what the source itself has, if a cache of blocks was in between; otherwise `error` stands.
    pub(super) async fn decode_again(&self, entry: Entry<'_>, error: DecodeError) -> Result<Bytes, DecodeError> {
        if !error.is_about_bytes() {
            return Err(error);
        }
        match read_again(&**self.source(), entry.range()).await {
            Some(stored) => self.decode_aside(Expected::from(&entry), stored).await,
            None => Err(error),
        }
    }

    /// The stored bytes of a small file.
    async fn stored(&self, entry: Entry<'_>) -> Result<Bytes, ReadError> {
        let range = entry.range();
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        #[cfg(unix)]
        if let Some(Local::File { file, offset }) = self.source().local()
            && entry.data_size() <= INLINE
        {
            // The bytes are most likely in the page cache: reading them here costs less than asking a thread to.
            use std::os::unix::fs::FileExt as _;
            let mut stored = BytesMut::zeroed(entry.data_size() as usize);
            return match file.read_exact_at(&mut stored, offset + range.start) {
                Ok(()) => Ok(stored.freeze()),
                Err(source) => {
                    let id = self.source().id().clone();
                    let source = SourceError::Io { id, offset: range.start, source };
                    Err(ReadError::Source { path: entry.path().into(), source })
                }
            };
        }
        self.source().read(range).await.map_err(|source| ReadError::Source { path: entry.path().into(), source })
    }

    pub(super) fn decode(&self, expected: &Expected, stored: Bytes) -> Result<Bytes, DecodeError> {
        if expected.compression == Compression::None {
            codec::verify(expected, &stored)?;
            return Ok(stored);
        }
        let spare = || self.0.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut decoder = spare().pop().unwrap_or_else(|| Decoder::new(self.options().limits.decode));
        let mut content = Vec::new();
        let result = decoder.decode(expected, &stored, &mut content);
        let mut resting = spare();
        if resting.len() < SPARE_DECODERS {
            resting.push(decoder);
        }
        result.map(|()| content.into())
    }

    /// A small content from the cache, if it is there and right. What is wrong is thrown out.
    async fn cached(&self, expected: &Expected, path: &[u8]) -> Option<Bytes> {
        let source = self.cached_source(expected, path).await?;
        let content = match source.read(0..source.size()).await {
            Ok(content) => content,
            Err(error) => {
                self.cache_failed("reading it from", path, &error);
                if error.is_about_length() {
                    self.forget(&expected.digest, path).await;
                }
                return None;
            }
        };
        if self.trusts_cache() {
            return Some(content);
        }
        let plain = Expected { compression: Compression::None, ..*expected };
        let (checked, copy) = (content.clone(), plain);
        let result = if plain.original_size <= INLINE {
            codec::verify(&plain, &content)
        } else {
            offload(move || codec::verify(&copy, &checked)).await
        };
        match result {
            Ok(()) => Some(content),
            Err(error) => {
                self.cache_lied(path, &error);
                self.forget(&expected.digest, path).await;
                None
            }
        }
    }

    /// Tells that the content cache failed.
    pub(super) fn cache_failed(&self, doing: &str, path: &[u8], error: &(dyn Error + 'static)) {
        self.options().alarm.failed(format_args!("{}: {doing} the content cache failed", Shown(path)), error);
    }

    /// Tells that the content cache gave something else than was asked for.
    pub(super) fn cache_lied(&self, path: &[u8], why: &dyn Display) {
        self.options().alarm.raise(format_args!("{}: the content cache cannot be used", Shown(path)), why);
    }

    /// Whether hits are right as they come.
    pub(super) fn trusts_cache(&self) -> bool {
        self.options().cache.as_ref().is_some_and(|cache| cache.verifies())
    }

    /// What the cache has for a content, if its size is right.
    pub(super) async fn cached_source(&self, expected: &Expected, path: &[u8]) -> Option<Arc<dyn ByteSource>> {
        let cache = self.options().cache.as_ref()?;
        match cache.get(&expected.digest).await {
            Ok(Some(source)) if source.size() == expected.original_size => Some(source),
            Ok(Some(source)) => {
                let (expected_size, got) = (expected.original_size, source.size());
                self.cache_lied(path, &format!("it has {got} bytes rather than {expected_size}"));
                self.forget(&expected.digest, path).await;
                None
            }
            Ok(None) => None,
            Err(error) => {
                self.cache_failed("asking for it in", path, &error);
                None
            }
        }
    }

    /// Removes damaged content from the cache.
    pub(super) async fn forget(&self, digest: &Digest, path: &[u8]) {
        let Some(cache) = &self.options().cache else { return };
        if let Err(error) = cache.remove(digest).await {
            self.cache_failed("removing it from", path, &error);
        }
    }

    /// Stores verified content in the cache.
    async fn keep(&self, expected: &Expected, path: &[u8], content: &Bytes) {
        let Some(cache) = &self.options().cache else { return };
        let stored = async {
            let Some(mut writer) = cache.begin(&expected.digest, expected.original_size).await? else { return Ok(()) };
            if !content.is_empty() {
                writer.write(content.clone()).await?;
            }
            writer.commit().await
        };
        if let Err(error) = stored.await {
            self.cache_failed("storing it in", path, &error);
        }
    }
}
