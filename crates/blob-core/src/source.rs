//! "Bytes somewhere": the one shape of files, buffers, HTTP resources, registry blobs and cache hits.

mod ext;
#[cfg(feature = "fs")]
mod file;
mod memory;
mod slice;

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;

use crate::digest::Digest;

pub use ext::{ByteSourceExt, ReadAhead};
#[cfg(feature = "fs")]
pub use file::FileSource;
pub use memory::MemorySource;
pub use slice::SliceSource;

/// Immutable bytes of known size that can be read in ranges.
///
/// # Contract
/// - The same [`id`](Self::id) means the same bytes, for ever: block caches key on it.
/// - [`open`](Self::open) yields exactly the range, in order, or an error; a stream that ends early without an error
///   is a defect. An empty range yields nothing and costs nothing.
/// - Ranges beyond [`size`](Self::size) are refused with [`SourceError::OutOfBounds`] before anything is read.
///
/// `conformance::source` (feature `conformance`) checks an implementation against this contract.
///
/// # Cancellation
/// Dropping the future or the stream stops the read and releases what it held.
#[async_trait]
pub trait ByteSource: fmt::Debug + Send + Sync {
    /// What these bytes are.
    fn id(&self) -> &SourceId;

    /// How many bytes there are.
    fn size(&self) -> u64;

    /// The bytes as memory or file of this process, if they are: readers then need no stream, no thread and no copy.
    fn local(&self) -> Option<Local<'_>>;

    /// Reads `range`: one request where the far side allows it.
    ///
    /// # Errors
    /// [`SourceError::OutOfBounds`] at once; everything else here or from the stream.
    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError>;

    /// Whether bytes of `range` may come from something that keeps them on the way here rather than from the source
    /// itself, so that wrong ones can be [forgotten](Self::forget) and read again. Not so by default; a cache in front of a
    /// source says so, and wrappers ask what they wrap.
    fn keeps(&self, range: &Range<u64>) -> bool {
        let _ = range;
        false
    }

    /// Drops whatever is kept of `range`, since what came of it was not what its digest promises, and gives the source
    /// behind, which can be read once more in the same ranges. `None` when nothing is kept: reading again would give the
    /// same.
    async fn forget(&self, range: Range<u64>) -> Option<Arc<dyn ByteSource>> {
        let _ = range;
        None
    }
}

/// Reads `range` once more, past whatever kept wrong bytes of it; `None` if nothing did, or if it fails now.
pub(crate) async fn read_again(source: &dyn ByteSource, range: Range<u64>) -> Option<Bytes> {
    if range.is_empty() {
        return None;
    }
    let behind = source.forget(range.clone()).await?;
    tracing::debug!(source = %source.id(), ?range, "what was read turned out wrong; reading it again past the cache");
    match behind.read(range).await {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::debug!(source = %source.id(), error = &error as &dyn Error, "reading it again failed");
            None
        }
    }
}

/// So many chunks without a byte may come one after the other.
pub(crate) const MOST_EMPTY: u32 = 1000;

/// Counts the bytes of a stream, and tells when more come than it has: a source that does not end is one that lies.
pub(crate) struct Awaited {
    expected: u64,
    got: u64,
    empty: u32,
}

impl Awaited {
    pub(crate) fn new(expected: u64) -> Self {
        Self { expected, got: 0, empty: 0 }
    }

    /// Takes note of a chunk.
    pub(crate) fn came(&mut self, id: &SourceId, chunk: &Bytes) -> Result<(), SourceError> {
        self.got += chunk.len() as u64;
        self.empty = if chunk.is_empty() { self.empty + 1 } else { 0 };
        if self.got > self.expected || self.empty > MOST_EMPTY {
            return Err(SourceError::Endless { id: id.clone(), expected: self.expected, got: self.got });
        }
        Ok(())
    }
}

/// A stream of chunks, none of them empty.
pub type ByteStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// Bytes that are here already.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Local<'a> {
    /// In memory, whole.
    Bytes(&'a Bytes),
    /// In a file: the source's byte 0 is the file's byte `offset`.
    #[cfg(unix)]
    File {
        /// Open for reading; read it with positioned reads only.
        file: &'a std::fs::File,
        /// Where the source begins in it, in bytes.
        offset: u64,
    },
}

/// Names the bytes of a source: equal ids mean equal bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SourceId(Arc<str>);

impl SourceId {
    /// An id from any text that pins the content, such as a URL with an entity tag.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Digest> for SourceId {
    fn from(digest: Digest) -> Self {
        Self(digest.to_string().into())
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reading a source failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The caller asked for bytes that are not there.
    #[error("bytes {}..{} are outside {id}, which has {size} bytes", range.start, range.end)]
    OutOfBounds {
        /// The source.
        id: SourceId,
        /// What was asked for.
        range: Range<u64>,
        /// How many bytes there are.
        size: u64,
    },
    /// The bytes ended early.
    #[error("{id} ended after {got} of {expected} bytes")]
    Truncated {
        /// The source.
        id: SourceId,
        /// How many bytes the range has.
        expected: u64,
        /// How many came.
        got: u64,
    },
    /// More bytes came than there are, or chunks without any.
    #[error("{id} does not end: {got} bytes came where {expected} were expected")]
    Endless {
        /// The source.
        id: SourceId,
        /// How many bytes the range has.
        expected: u64,
        /// How many came until that was noticed.
        got: u64,
    },
    /// The bytes are not the ones that the source was opened for.
    #[error("{id} changed while it was read: {detail}")]
    Changed {
        /// The source.
        id: SourceId,
        /// What differs, expected and got.
        detail: String,
    },
    /// The operating system failed.
    #[error("reading {id} at byte {offset}")]
    Io {
        /// The source.
        id: SourceId,
        /// Where it failed.
        offset: u64,
        /// The cause.
        source: std::io::Error,
    },
    /// The far side, or the way to it, failed.
    #[error("reading {id}")]
    Backend {
        /// The source.
        id: SourceId,
        /// What kind of failure the cause is.
        kind: FailureKind,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Whose fault a failed read is, for retries and exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The object does not exist.
    NotFound,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The far side refuses, whatever the credentials.
    Denied,
    /// The network failed, or the far side is overloaded: trying again may help.
    Network,
    /// The far side broke its protocol.
    Protocol,
    /// The bytes are not the ones their digest promises.
    Integrity,
    /// Anything else.
    Other,
}

impl SourceError {
    /// The kind of failure.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::OutOfBounds { .. } | Self::Io { .. } => FailureKind::Other,
            Self::Truncated { .. } => FailureKind::Network,
            Self::Changed { .. } | Self::Endless { .. } => FailureKind::Integrity,
            Self::Backend { kind, .. } => *kind,
        }
    }

    /// Whether another number of bytes came than was promised.
    pub fn is_about_length(&self) -> bool {
        matches!(self, Self::Truncated { .. } | Self::Endless { .. })
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == FailureKind::NotFound
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        self.kind() == FailureKind::Network
    }
}

/// Refuses ranges that leave the source; implementers call this first in [`ByteSource::open`].
///
/// # Errors
/// [`SourceError::OutOfBounds`].
pub fn check_range(id: &SourceId, range: &Range<u64>, size: u64) -> Result<(), SourceError> {
    if crate::range::fits(range, size) {
        return Ok(());
    }
    Err(SourceError::OutOfBounds { id: id.clone(), range: range.clone(), size })
}
