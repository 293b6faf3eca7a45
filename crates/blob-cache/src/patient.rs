//! Patience with other people's caches: one that neither answers nor fails must not hold up a read.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use blob_core::{
    ByteSource, ByteStream, Cache, CacheError, CacheWriter, Digest, FailureKind, Local, SourceError, SourceId,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::block::{BlockKey, BlockStore};
use crate::tag::{TagCache, TagEntry};

/// How long a cache that did not answer in time is left alone: 30 seconds.
const PAUSE: Duration = Duration::from_secs(30);

/// A cache, block store or tag cache that is waited for only so long.
///
/// A call that takes longer fails; the cache then is not asked for half a minute, in which it knows nothing and wants
/// nothing. Time is that of tokio, so a runtime needs its clock
/// (`enable_time`); outside of one there is no limit. Readers hash what comes out of it, whatever it says of itself. An implementation that blocks its thread cannot be helped.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use blob_cache::{MemoryCache, MemoryOptions, Patient};
/// use blob_core::Cache;
///
/// let slow: Arc<dyn Cache> = Arc::new(MemoryCache::new(MemoryOptions::default()));
/// let cache: Arc<dyn Cache> = Arc::new(Patient::new(slow, Duration::from_secs(5)));
/// # let _ = cache;
/// ```
pub struct Patient<T: ?Sized> {
    inner: Arc<T>,
    clock: Arc<Clock>,
}

#[derive(Debug)]
struct Clock {
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    resting_until: Option<Instant>,
}

/// The cache gave no answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {limit:?}; it is left alone for half a minute")]
struct TooSlow {
    limit: Duration,
}

impl<T: ?Sized> Patient<T> {
    /// `inner`, each call of which may take `limit`.
    pub fn new(inner: Arc<T>, limit: Duration) -> Self {
        Self { inner, clock: Arc::new(Clock { limit, state: Mutex::default() }) }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Patient<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patient").field("inner", &self.inner).field("limit", &self.clock.limit).finish()
    }
}

impl Clock {
    /// Whether the cache is left alone now.
    fn rests(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.resting_until.is_some_and(|until| Instant::now() < until)
    }

    /// Waits for `call` as long as that is allowed.
    async fn wait<T>(&self, call: impl Future<Output = T>) -> Result<T, TooSlow> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Ok(call.await);
        }
        tokio::time::timeout(self.limit, call).await.map_err(|_| {
            let limit = self.limit;
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.resting_until = Some(Instant::now() + PAUSE);
            TooSlow { limit }
        })
    }

    /// The answer of `call`, or `otherwise` while the cache rests.
    async fn ask<T>(
        &self,
        action: &'static str,
        otherwise: T,
        call: impl Future<Output = Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        if self.rests() {
            return Ok(otherwise);
        }
        let slow = |source: TooSlow| CacheError::Backend { action: action.to_owned(), source: source.into() };
        self.wait(call).await.map_err(slow)?
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Cache + ?Sized> Cache for Patient<T> {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        let found = self.clock.ask("asking a cache", None, self.inner.get(digest)).await?;
        Ok(found.map(|inner| {
            let clock = Arc::clone(&self.clock);
            Arc::new(PatientSource { inner, clock }) as Arc<dyn ByteSource>
        }))
    }

    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        let writer = self.clock.ask("storing in a cache", None, self.inner.begin(digest, size)).await?;
        Ok(writer.map(|inner| {
            let clock = Arc::clone(&self.clock);
            Box::new(PatientWriter { inner, clock }) as Box<dyn CacheWriter>
        }))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.clock.ask("removing from a cache", (), self.inner.remove(digest)).await
    }

    /// What somebody else's cache says of itself is not believed: its hits are hashed by who reads them.
    fn verifies(&self) -> bool {
        false
    }
}

/// Content on its way into a cache that may stop to take it.
struct PatientWriter {
    inner: Box<dyn CacheWriter>,
    clock: Arc<Clock>,
}

impl PatientWriter {
    fn slow(source: TooSlow) -> CacheError {
        CacheError::Backend { action: "storing in a cache".to_owned(), source: source.into() }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheWriter for PatientWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError> {
        self.clock.wait(self.inner.write(bytes)).await.map_err(Self::slow)?
    }

    async fn commit(self: Box<Self>) -> Result<(), CacheError> {
        self.clock.wait(self.inner.commit()).await.map_err(Self::slow)?
    }
}

/// A hit that may stop to give bytes. The limit is for each step.
#[derive(Debug)]
struct PatientSource {
    inner: Arc<dyn ByteSource>,
    clock: Arc<Clock>,
}

fn stalled(id: &SourceId, source: TooSlow) -> SourceError {
    SourceError::Backend { id: id.clone(), kind: FailureKind::Other, source: Box::new(source) }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ByteSource for PatientSource {
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
        let id = self.inner.id().clone();
        let opened = self.clock.wait(self.inner.open(range)).await;
        let bytes = opened.map_err(|slow| stalled(&id, slow))??;
        let steps = stream::unfold(Some((bytes, Arc::clone(&self.clock), id)), |state| async move {
            let (mut bytes, clock, id) = state?;
            match clock.wait(bytes.next()).await {
                Ok(Some(chunk)) => Some((chunk, Some((bytes, clock, id)))),
                Ok(None) => None,
                Err(slow) => Some((Err(stalled(&id, slow)), None)),
            }
        });
        Ok(steps.boxed())
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        self.inner.keeps(range)
    }

    async fn forget(&self, range: Range<u64>) -> Option<Arc<dyn ByteSource>> {
        let inner = self.clock.wait(self.inner.forget(range)).await.ok()??;
        Some(Arc::new(Self { inner, clock: Arc::clone(&self.clock) }))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: BlockStore + ?Sized> BlockStore for Patient<T> {
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        self.clock.ask("asking a block store", None, self.inner.get(key)).await
    }

    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError> {
        self.clock.ask("storing in a block store", (), self.inner.put(key, value)).await
    }

    async fn remove(&self, key: &BlockKey) -> Result<(), CacheError> {
        self.clock.ask("removing from a block store", (), self.inner.remove(key)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: TagCache + ?Sized> TagCache for Patient<T> {
    async fn get(&self, key: &str) -> Result<Option<TagEntry>, CacheError> {
        self.clock.ask("asking a tag cache", None, self.inner.get(key)).await
    }

    async fn put(&self, key: &str, entry: &TagEntry) -> Result<(), CacheError> {
        self.clock.ask("storing in a tag cache", (), self.inner.put(key, entry)).await
    }

    async fn remove(&self, key: &str) -> Result<(), CacheError> {
        self.clock.ask("removing from a tag cache", (), self.inner.remove(key)).await
    }
}
