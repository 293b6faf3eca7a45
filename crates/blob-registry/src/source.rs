//! A registry blob as a [`ByteSource`].

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::source::check_range;
use blob_core::{ByteSource, ByteSourceExt as _, ByteStream, Digest, Local, SourceError, SourceId};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::error::RegistryError;
use crate::reference::Repository;
use crate::registry::Registry;

/// A blob whose digest and size are known, read from its registry in ranges: one request per [`open`](Self::open).
///
/// Its id is its digest. A range is not checked against the digest, since only the whole blob could be;
/// [`read_whole`](Self::read_whole) is.
#[derive(Clone, Debug)]
pub struct BlobSource {
    registry: Arc<dyn Registry>,
    repository: Repository,
    digest: Digest,
    size: u64,
    id: SourceId,
}

impl BlobSource {
    /// The blob `digest` of `size` bytes, as a digest-checked descriptor says. Asks nothing of the registry.
    pub fn new(registry: Arc<dyn Registry>, repository: Repository, digest: Digest, size: u64) -> Self {
        Self { registry, repository, digest, size, id: digest.into() }
    }

    /// The blob as the registry's own memory or file if it has one of this size, else as a `BlobSource`.
    ///
    /// # Errors
    /// Those of [`Registry::local_blob`], and [`RegistryError::SizeMismatch`].
    pub async fn locate(
        registry: Arc<dyn Registry>,
        repository: Repository,
        digest: Digest,
        size: u64,
    ) -> Result<Arc<dyn ByteSource>, RegistryError> {
        match registry.local_blob(&repository, &digest).await? {
            Some(local) if local.size() == size => Ok(local),
            Some(local) => Err(RegistryError::SizeMismatch {
                action: format!("opening blob {repository}@{digest}"),
                expected: size,
                got: local.size(),
            }),
            None => Ok(Arc::new(Self::new(registry, repository, digest, size))),
        }
    }

    /// The digest of the whole blob.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Reads the whole blob, at most `limit` bytes, and checks its digest.
    ///
    /// # Errors
    /// [`RegistryError::TooLarge`] before anything is read, [`RegistryError::DigestMismatch`], and those of reading.
    pub async fn read_whole(&self, limit: u64) -> Result<Bytes, RegistryError> {
        let action = format!("reading blob {}@{}", self.repository, self.digest);
        if self.size > limit {
            return Err(RegistryError::TooLarge { action, size: self.size, limit });
        }
        let read = self.read(0..self.size).await;
        let bytes = read.map_err(|source| RegistryError::Source { action: action.clone(), source })?;
        let got = Digest::of(self.digest.algorithm(), &bytes);
        if got == self.digest {
            return Ok(bytes);
        }
        Err(RegistryError::DigestMismatch { action, expected: self.digest, got })
    }
}

#[async_trait]
impl ByteSource for BlobSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        check_range(&self.id, &range, self.size)?;
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let read = self.registry.read_blob(&self.repository, &self.digest, Some(range.clone())).await;
        let reader = read.map_err(|error| error.into_source_error(self.id.clone()))?;
        if reader.size != self.size {
            let detail = format!("expected {} bytes in all, the registry has {}", self.size, reader.size);
            return Err(SourceError::Changed { id: self.id.clone(), detail });
        }
        if reader.range != range {
            let detail = format!("asked for bytes {range:?}, the registry sends {:?}", reader.range);
            return Err(SourceError::Changed { id: self.id.clone(), detail });
        }
        Ok(exactly(reader.stream, self.id.clone(), range.end - range.start))
    }
}

/// `stream`, ending in an error if it has more or fewer bytes than `expected`.
fn exactly(stream: ByteStream, id: SourceId, expected: u64) -> ByteStream {
    let state = (stream, 0_u64);
    let checked = stream::try_unfold(state, move |(mut stream, got)| {
        let id = id.clone();
        async move {
            loop {
                let Some(chunk) = stream.next().await.transpose()? else {
                    let whole = got == expected;
                    return if whole { Ok(None) } else { Err(SourceError::Truncated { id, expected, got }) };
                };
                let sum = got + chunk.len() as u64;
                if sum > expected {
                    let detail = format!("asked for {expected} bytes, the registry sends more");
                    return Err(SourceError::Changed { id, detail });
                }
                if !chunk.is_empty() {
                    return Ok(Some((chunk, (stream, sum))));
                }
            }
        }
    });
    checked.boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::TryStreamExt as _;

    #[tokio::test]
    async fn streams_of_another_length_end_in_an_error() {
        for (chunks, expected, fine) in [
            (vec!["ab", "c"], 3, true),
            (vec!["", "abc"], 3, true),
            (vec![], 0, true),
            (vec!["ab"], 3, false),
            (vec!["ab", "cd"], 3, false),
        ] {
            let given = stream::iter(chunks.clone().into_iter().map(|chunk| Ok(Bytes::from(chunk)))).boxed();
            let read: Result<Vec<Bytes>, _> = exactly(given, SourceId::new("x"), expected).try_collect().await;
            assert_eq!(read.is_ok(), fine, "{chunks:?}");
        }
    }
}
