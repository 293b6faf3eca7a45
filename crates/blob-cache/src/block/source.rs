//! The decorator: a source that is read through a block cache.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::source::check_range;
use blob_core::{Alarm, ByteSource, ByteSourceExt as _, ByteStream, CacheError, Local, SourceError, SourceId};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::{BlockKey, BlockOptions, BlockStore};
use crate::flights::Flights;

/// What all sources of a cache share.
#[derive(Debug)]
pub(super) struct Shared {
    store: Arc<dyn BlockStore>,
    /// Fetches by their first block and byte range.
    flights: Flights<(BlockKey, u64), Bytes, SourceError>,
    alarm: Alarm,
}

impl Shared {
    pub(super) fn new(store: Arc<dyn BlockStore>) -> Self {
        Self { store, flights: Flights::new(), alarm: Alarm::default() }
    }

    /// The data of a block of `expected` bytes, if the store has it whole.
    async fn load(&self, key: BlockKey, expected: u64) -> Option<Bytes> {
        let value = match self.store.get(&key).await {
            Ok(value) => value?,
            Err(error) => {
                self.note(&error);
                return None;
            }
        };
        if let Some(data) = key.unseal(&value)
            && data.len() as u64 == expected
        {
            return Some(data);
        }
        self.alarm.raise(format_args!("dropped the damaged block {key}"), "its seal is another");
        if let Err(error) = self.store.remove(&key).await {
            self.note(&error);
        }
        None
    }

    async fn keep(&self, key: BlockKey, data: Bytes) {
        if let Err(error) = self.store.put(&key, key.seal(&data)).await {
            self.note(&error);
        }
    }

    fn wrong(&self, range: &Range<u64>, id: &SourceId) {
        let what = format_args!("bytes {}..{} of {id} were wrong", range.start, range.end);
        self.alarm.raise(what, "the block store or the far side gave others; they are fetched past the store");
    }

    fn note(&self, error: &CacheError) {
        self.alarm.failed("the block store failed", error);
    }
}

/// A source whose short reads go through the cache.
#[derive(Debug)]
pub(super) struct BlockSource {
    shared: Arc<Shared>,
    inner: Arc<dyn ByteSource>,
    /// Block 0.
    key: BlockKey,
    options: BlockOptions,
}

impl BlockSource {
    pub(super) fn new(shared: Arc<Shared>, inner: Arc<dyn ByteSource>, options: BlockOptions) -> Self {
        let key = BlockKey::new(inner.id(), options.block_size, 0);
        Self { shared, inner, key, options }
    }

    /// The bytes of block `index`; the last one is short.
    fn extent(&self, index: u64) -> Range<u64> {
        let size = u64::from(self.options.block_size);
        index * size..self.inner.size().min((index + 1).saturating_mul(size))
    }

    /// The blocks that hold `range`, unless it is so long that it passes by.
    fn kept(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let size = u64::from(self.options.block_size);
        let end = range.end.min(self.inner.size());
        let blocks = range.start / size..end.div_ceil(size);
        let few = range.start < end && blocks.end - blocks.start <= u64::from(self.options.max_blocks_per_read);
        few.then_some(blocks)
    }

    /// The blocks `wanted`, from the store or with one request.
    async fn blocks(&self, wanted: Range<u64>) -> Result<Vec<Bytes>, SourceError> {
        let loads = wanted.clone().map(|index| {
            let extent = self.extent(index);
            self.shared.load(self.key.with_index(index), extent.end - extent.start)
        });
        let mut blocks = join_all(loads).await;
        let missing = |block: &Option<Bytes>| block.is_none();
        let (Some(first), Some(last)) = (blocks.iter().position(missing), blocks.iter().rposition(missing)) else {
            return Ok(blocks.into_iter().flatten().collect());
        };
        let absent: Vec<bool> = blocks.iter().map(missing).collect();
        let span = self.extent(wanted.start + first as u64).start..self.extent(wanted.start + last as u64).end;
        let bytes = self.fetch(wanted.start, &absent, span.clone()).await?;
        for (block, index) in blocks.iter_mut().zip(wanted).take(last + 1).skip(first) {
            let extent = self.extent(index);
            let (start, end) = (extent.start - span.start, extent.end - span.start);
            *block = Some(bytes.slice(start as usize..end as usize));
        }
        Ok(blocks.into_iter().flatten().collect())
    }

    /// Fetches `span` once for everybody who wants just that, and keeps the blocks marked in `absent`, the first of
    /// which is block `start` of the source.
    async fn fetch(&self, start: u64, absent: &[bool], span: Range<u64>) -> Result<Bytes, SourceError> {
        let flight = (self.key.with_index(span.start / u64::from(self.options.block_size)), span.end);
        let outcome = self.shared.flights.fetch_once(flight, || async {
            let bytes = self.inner.read(span.clone()).await?;
            let kept = absent.iter().zip(start..).filter(|(absent, _)| **absent).map(|(_, index)| {
                let extent = self.extent(index);
                let data = bytes.slice((extent.start - span.start) as usize..(extent.end - span.start) as usize);
                self.shared.keep(self.key.with_index(index), data)
            });
            join_all(kept).await;
            Ok(bytes)
        });
        outcome.await.map_err(|error| match Arc::try_unwrap(error) {
            Ok(error) => error,
            Err(shared) => {
                let (id, kind) = (self.inner.id().clone(), shared.kind());
                SourceError::Backend { id, kind, source: Box::new(SharedFailure(shared)) }
            }
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ByteSource for BlockSource {
    fn id(&self) -> &SourceId {
        self.inner.id()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        self.inner.local()
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        check_range(self.inner.id(), &range, self.inner.size())?;
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let size = u64::from(self.options.block_size);
        let wanted = range.start / size..(range.end - 1) / size + 1;
        if wanted.end - wanted.start > u64::from(self.options.max_blocks_per_read) {
            return self.inner.open(range).await;
        }
        let blocks = self.blocks(wanted.clone()).await?;
        let chunks: Vec<_> = blocks
            .into_iter()
            .zip(wanted)
            .map(|(block, index)| {
                let extent = self.extent(index);
                let start = range.start.max(extent.start) - extent.start;
                let end = range.end.min(extent.end) - extent.start;
                Ok(block.slice(start as usize..end as usize))
            })
            .collect();
        Ok(stream::iter(chunks).boxed())
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        self.kept(range).is_some() || self.inner.keeps(range)
    }

    async fn forget(&self, range: Range<u64>) -> Option<Arc<dyn ByteSource>> {
        let deeper = self.inner.forget(range.clone()).await;
        let Some(blocks) = self.kept(&range) else { return deeper };
        self.shared.wrong(&range, self.inner.id());
        for index in blocks {
            if let Err(error) = self.shared.store.remove(&self.key.with_index(index)).await {
                self.shared.note(&error);
            }
        }
        Some(deeper.unwrap_or_else(|| Arc::clone(&self.inner)))
    }
}

/// A failure that several readers share.
#[derive(Debug)]
struct SharedFailure(Arc<SourceError>);

impl fmt::Display for SharedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for SharedFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
