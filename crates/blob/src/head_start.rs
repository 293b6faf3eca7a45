//! The first of an archive's data, fetched while its index is still on the way.
//!
//! Who reads everything needs these bytes whatever the index says. Asked for together with the index they cost no round
//! trip of their own, and keep the line busy while the index is read. They are handed out once and not kept: what is
//! read a second time, or was never asked for here, is fetched from behind.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blob_core::source::check_range;
use blob_core::{ByteSource, ByteStream, Local, SourceError, SourceId};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How much is fetched, and so held, before anybody reads: 16 MiB. At 1 Gbit/s that is 130 ms, in which an index is there,
/// and the answers to the requests that follow from it.
const HEAD: u64 = 16 << 20;

/// A source whose first bytes are on their way already.
#[derive(Debug)]
pub(crate) struct HeadStart {
    inner: Arc<dyn ByteSource>,
    head: Arc<Head>,
    fetch: AbortHandle,
}

/// What came, and was not read yet.
#[derive(Debug)]
struct Head {
    /// Where it ends.
    end: u64,
    /// By the position of their first byte.
    chunks: Mutex<BTreeMap<u64, Bytes>>,
    state: watch::Sender<State>,
}

/// How far the fetching is.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    came: u64,
    ended: bool,
}

impl HeadStart {
    /// Begins to fetch the first bytes of `inner`, one request, on the runtime of the caller.
    pub(crate) fn begin(inner: Arc<dyn ByteSource>) -> Self {
        Self::begin_with(inner, HEAD)
    }

    fn begin_with(inner: Arc<dyn ByteSource>, most: u64) -> Self {
        let state = watch::Sender::new(State::default());
        let head = Arc::new(Head { end: inner.size().min(most), chunks: Mutex::default(), state });
        let fetch = tokio::spawn(fetch(Arc::clone(&inner), Arc::clone(&head))).abort_handle();
        Self { inner, head, fetch }
    }
}

impl Drop for HeadStart {
    fn drop(&mut self) {
        self.fetch.abort();
    }
}

/// A failure ends it; who waits then asks the source, and is told.
async fn fetch(inner: Arc<dyn ByteSource>, head: Arc<Head>) {
    let _ended = Ended(&head);
    let Ok(mut chunks) = inner.open(0..head.end).await else { return };
    while let Ok(Some(chunk)) = chunks.try_next().await {
        head.add(chunk);
    }
}

/// Says that nothing more comes, however the fetching ended.
struct Ended<'a>(&'a Head);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.ended = true);
    }
}

impl Head {
    fn chunks(&self) -> MutexGuard<'_, BTreeMap<u64, Bytes>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, chunk: Bytes) {
        let at = self.state.borrow().came;
        let came = at + chunk.len() as u64;
        self.chunks().insert(at, chunk);
        self.state.send_modify(|state| state.came = came);
    }

    /// Takes out what is there from `range.start` on, as far as it is in one piece.
    fn take(&self, range: Range<u64>) -> Option<Bytes> {
        let mut chunks = self.chunks();
        let (&start, chunk) = chunks.range(..=range.start).next_back()?;
        let skipped = usize::try_from(range.start - start).ok().filter(|skipped| *skipped < chunk.len())?;
        let mut taken = chunks.remove(&start)?;
        let before = taken.split_to(skipped);
        if !before.is_empty() {
            chunks.insert(start, before);
        }
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        if taken.len() > wanted {
            chunks.insert(range.end, taken.split_off(wanted));
        }
        Some(taken)
    }

    /// The bytes from `range.start` on, as soon as they are there; `None` if they went to somebody else, or never come.
    async fn next(&self, range: Range<u64>) -> Option<Bytes> {
        if range.start >= self.end {
            return None;
        }
        let mut state = self.state.subscribe();
        // It cannot fail: the sender is `self`.
        let _ = state.wait_for(|state| state.ended || state.came > range.start).await;
        self.take(range)
    }
}

#[async_trait]
impl ByteSource for HeadStart {
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
        check_range(self.id(), &range, self.size())?;
        if range.start >= self.head.end || range.is_empty() {
            return self.inner.open(range).await;
        }
        let reading = (range, Arc::clone(&self.head), Arc::clone(&self.inner), None::<ByteStream>);
        let chunks = stream::try_unfold(reading, |(mut range, head, inner, mut rest)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            if rest.is_none() {
                match head.next(range.clone()).await {
                    Some(chunk) => {
                        range.start += chunk.len() as u64;
                        return Ok(Some((chunk, (range, head, inner, None))));
                    }
                    None => rest = Some(inner.open(range.clone()).await?),
                }
            }
            let chunk = match &mut rest {
                Some(rest) => rest.try_next().await?,
                None => None,
            };
            Ok(chunk.map(|chunk| (chunk, (range, head, inner, rest))))
        });
        Ok(chunks.boxed())
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        self.inner.keeps(range)
    }

    async fn forget(&self, range: Range<u64>) -> Option<Arc<dyn ByteSource>> {
        self.inner.forget(range).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use blob_core::{ByteSourceExt as _, MemorySource};

    /// Memory that is far away: it counts requests and may break off.
    #[derive(Debug)]
    struct Far {
        memory: MemorySource,
        requests: AtomicUsize,
        /// How many chunks of 1000 bytes come before the first request fails.
        breaks_after: usize,
    }

    impl Far {
        fn new(size: usize, breaks_after: usize) -> Arc<Self> {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            Arc::new(Self { memory: MemorySource::new(bytes), requests: AtomicUsize::new(0), breaks_after })
        }
    }

    #[async_trait]
    impl ByteSource for Far {
        fn id(&self) -> &SourceId {
            self.memory.id()
        }

        fn size(&self) -> u64 {
            self.memory.size()
        }

        fn local(&self) -> Option<Local<'_>> {
            None
        }

        async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
            let first = self.requests.fetch_add(1, Ordering::SeqCst) == 0;
            let bytes = self.memory.read(range).await?;
            let chunks = (0..bytes.len()).step_by(1000).map(|at| bytes.slice(at..bytes.len().min(at + 1000)));
            let truncated = SourceError::Truncated { id: self.id().clone(), expected: 1, got: 0 };
            let mut chunks: Vec<_> = chunks.map(Ok).collect();
            if first && chunks.len() > self.breaks_after {
                chunks.truncate(self.breaks_after);
                chunks.push(Err(truncated));
            }
            Ok(stream::iter(chunks)
                .then(async |chunk| {
                    tokio::task::yield_now().await;
                    chunk
                })
                .boxed())
        }
    }

    async fn read(source: &HeadStart, range: Range<u64>) -> Vec<u8> {
        source.open(range).await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
    }

    #[tokio::test]
    async fn bytes_come_exactly_whoever_fetched_them_and_however_that_ended() {
        for breaks_after in [usize::MAX, 0, 3, 7] {
            let far = Far::new(30_500, breaks_after);
            let all = far.memory.read(0..30_500).await.unwrap();
            let source = HeadStart::begin_with(Arc::clone(&far) as Arc<dyn ByteSource>, 10_000);
            // In order with gaps, across the end of the head, beyond it, and all of it again.
            for range in [0..10, 10..2500, 2700..2700, 2700..9000, 9001..12_000, 20_000..30_500, 5..11, 0..30_500] {
                let expected = &all[range.start as usize..range.end as usize];
                assert_eq!(read(&source, range.clone()).await, expected, "{range:?}, broken after {breaks_after}");
            }
            assert!(source.open(0..30_501).await.is_err());
        }
    }

    #[tokio::test]
    async fn who_reads_in_order_makes_no_request_for_the_head_and_nothing_is_kept() {
        let far = Far::new(30_000, usize::MAX);
        let source = HeadStart::begin_with(Arc::clone(&far) as Arc<dyn ByteSource>, 20_000);
        let (first, second) = tokio::join!(read(&source, 0..8000), read(&source, 8000..20_000));
        assert_eq!(first.len() + second.len(), 20_000);
        assert_eq!(far.requests.load(Ordering::SeqCst), 1);
        assert!(source.head.chunks().is_empty());
        read(&source, 20_000..30_000).await;
        assert_eq!(far.requests.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_source_below_the_head_is_one_request() {
        let far = Far::new(900, usize::MAX);
        let source = HeadStart::begin_with(Arc::clone(&far) as Arc<dyn ByteSource>, 20_000);
        assert_eq!(read(&source, 0..900).await.len(), 900);
        assert_eq!(far.requests.load(Ordering::SeqCst), 1);
    }
}
