//! The small seam for key-value stores.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{Alarm, ByteSource, Cache, CacheError, CacheWriter, Digest, MemorySource};
use bytes::Bytes;

use crate::memory::{Gathered, matches};

/// A key-value store that can be a cache: what it takes to use Redis, memcached or a table.
///
/// The store need not check anything: [`Simple`] does, on the way in and on the way out.
#[async_trait]
pub trait SimpleCache: fmt::Debug + Send + Sync {
    /// The bytes that were stored under `digest`.
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, CacheError>;

    /// Stores `bytes` under `digest`, all or nothing.
    async fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), CacheError>;

    /// Forgets what is stored under `digest`; absent is fine.
    async fn remove(&self, digest: &Digest) -> Result<(), CacheError>;
}

/// Makes a [`SimpleCache`] a [`Cache`]. Every hit is hashed; other content than was asked for is removed from the store
/// and reported as absent, with a warning for the first one.
#[derive(Clone, Debug)]
pub struct Simple<S> {
    store: Arc<S>,
    max_entry_bytes: u64,
    alarm: Alarm,
}

impl<S: SimpleCache> Simple<S> {
    /// Uses `store` for entries up to `max_entry_bytes`, each of which is held in memory as a whole.
    pub fn new(store: S, max_entry_bytes: u64) -> Self {
        Self { store: Arc::new(store), max_entry_bytes, alarm: Alarm::default() }
    }

    /// Tells by `alarm` that the store gives something else than was asked for; by default by one of its own.
    #[must_use]
    pub fn with_alarm(mut self, alarm: Alarm) -> Self {
        self.alarm = alarm;
        self
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SimpleCache + 'static> Cache for Simple<S> {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        let Some(bytes) = self.store.get(digest).await? else { return Ok(None) };
        if matches(*digest, bytes.clone()).await? {
            return Ok(Some(Arc::new(MemorySource::with_id(bytes, (*digest).into()))));
        }
        self.alarm.raise(format_args!("a cache gave something else for {digest}"), "its content has another digest");
        if let Err(error) = self.store.remove(digest).await {
            self.alarm.failed(format_args!("removing what a cache had for {digest} failed"), &error);
        }
        Ok(None)
    }

    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        if size > self.max_entry_bytes {
            return Ok(None);
        }
        let gathered = Gathered::new(*digest, size);
        Ok(Some(Box::new(SimpleWriter { store: Arc::clone(&self.store), gathered })))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.store.remove(digest).await
    }

    /// Every hit is hashed.
    fn verifies(&self) -> bool {
        true
    }
}

struct SimpleWriter<S> {
    store: Arc<S>,
    gathered: Gathered,
}

#[async_trait]
impl<S: SimpleCache + 'static> CacheWriter for SimpleWriter<S> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError> {
        self.gathered.push(&bytes)
    }

    async fn commit(self: Box<Self>) -> Result<(), CacheError> {
        let (digest, bytes) = self.gathered.finish().await?;
        self.store.put(&digest, bytes).await
    }
}
