//! Comfort on top of [`ByteSource`]: bounded whole reads, many ranges at once, reading ahead, copying.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use futures_util::{TryStreamExt as _, stream};

use super::{Awaited, ByteSource, ByteStream, Local, SliceSource, SourceError};
use crate::range::coalesce;

/// How a stream reads ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAhead {
    /// Bytes per request.
    pub chunk: u64,
    /// How many requests may be in flight: memory is at most `chunk × window`.
    pub window: usize,
}

impl Default for ReadAhead {
    /// 4 requests of 4 MiB.
    fn default() -> Self {
        Self { chunk: 4 << 20, window: 4 }
    }
}

/// What every source can do besides.
#[async_trait]
pub trait ByteSourceExt: ByteSource {
    /// Reads `range` to memory: the caller bounds it.
    ///
    /// # Errors
    /// The source's; [`SourceError::Truncated`] and [`SourceError::Endless`] when it yields less or more than it promised.
    async fn read(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        if let Some(Local::Bytes(bytes)) = self.local() {
            super::check_range(self.id(), &range, self.size())?;
            return Ok(bytes.slice(range.start as usize..range.end as usize));
        }
        let expected = range.end.saturating_sub(range.start);
        let mut stream = self.open(range).await?;
        let mut awaited = Awaited::new(expected);
        let first = stream.try_next().await?.unwrap_or_default();
        awaited.came(self.id(), &first)?;
        let bytes = if first.len() as u64 == expected {
            first
        } else {
            let mut all = BytesMut::with_capacity(expected as usize);
            all.extend_from_slice(&first);
            while let Some(chunk) = stream.try_next().await? {
                awaited.came(self.id(), &chunk)?;
                all.extend_from_slice(&chunk);
            }
            all.freeze()
        };
        let got = bytes.len() as u64;
        if got != expected {
            return Err(SourceError::Truncated { id: self.id().clone(), expected, got });
        }
        Ok(bytes)
    }

    /// Reads several ranges, sorted by start, in as few requests as `max_gap` (bytes that may be read for nothing
    /// between two of them) allows. The results stand in the order of `ranges`.
    ///
    /// # Errors
    /// The source's.
    async fn read_ranges(&self, ranges: &[Range<u64>], max_gap: u64) -> Result<Vec<Bytes>, SourceError> {
        let mut parts = Vec::with_capacity(ranges.len());
        for run in coalesce(ranges, max_gap, u64::MAX) {
            let bytes = self.read(run.range.clone()).await?;
            for range in &ranges[run.members] {
                let start = range.start.saturating_sub(run.range.start).min(bytes.len() as u64) as usize;
                parts.push(bytes.slice(start..start + (range.end - range.start) as usize));
            }
        }
        Ok(parts)
    }

    /// Writes `range` to `writer`.
    ///
    /// # Errors
    /// The source's; the writer's as [`SourceError::Io`] at the offset reached.
    async fn copy_to(&self, range: Range<u64>, writer: &mut (dyn io::Write + Send)) -> Result<(), SourceError> {
        let mut offset = range.start;
        let mut stream = self.open(range).await?;
        while let Some(chunk) = stream.try_next().await? {
            writer.write_all(&chunk).map_err(|source| SourceError::Io { id: self.id().clone(), offset, source })?;
            offset += chunk.len() as u64;
        }
        Ok(())
    }
}

impl<S: ByteSource + ?Sized> ByteSourceExt for S {}

impl dyn ByteSource {
    /// The bytes `range` as a source of their own.
    ///
    /// # Errors
    /// [`SourceError::OutOfBounds`].
    pub fn slice(self: Arc<Self>, range: Range<u64>) -> Result<Arc<dyn ByteSource>, SourceError> {
        Ok(Arc::new(SliceSource::new(self, range)?))
    }

    /// Reads `range` with several requests in flight, in order.
    ///
    /// # Errors
    /// [`SourceError::OutOfBounds`] at once, everything else from the stream.
    pub fn read_ahead(self: Arc<Self>, range: Range<u64>, options: ReadAhead) -> Result<ByteStream, SourceError> {
        super::check_range(self.id(), &range, self.size())?;
        let chunk = options.chunk.max(1);
        let mut pending: VecDeque<Range<u64>> = VecDeque::new();
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start.saturating_add(chunk));
            pending.push_back(start..end);
            start = end;
        }
        let state = Ahead { source: self, pending, flying: FuturesOrdered::new(), window: options.window.max(1) };
        Ok(stream::try_unfold(state, Ahead::next).boxed())
    }
}

/// The state of a stream that reads ahead.
struct Ahead {
    source: Arc<dyn ByteSource>,
    pending: VecDeque<Range<u64>>,
    flying: FuturesOrdered<BoxFuture<'static, Result<Bytes, SourceError>>>,
    window: usize,
}

impl Ahead {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, SourceError> {
        while self.flying.len() < self.window {
            let Some(range) = self.pending.pop_front() else { break };
            let source = Arc::clone(&self.source);
            self.flying.push_back(Box::pin(async move { source.read(range).await }));
        }
        Ok(self.flying.try_next().await?.map(|bytes| (bytes, self)))
    }
}
