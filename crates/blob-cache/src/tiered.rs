//! Memory in front of another cache.

use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{Alarm, ByteSource, ByteSourceExt as _, Cache, CacheError, CacheWriter, Digest, MemorySource};
use bytes::Bytes;

use crate::memory::{MemoryCache, matches};

/// A [`MemoryCache`] in front of any other cache: small entries are served from memory, and the other cache is asked
/// and filled for everything. Whatever is taken into memory is hashed once more on its way.
#[derive(Clone, Debug)]
pub struct Tiered {
    memory: MemoryCache,
    behind: Arc<dyn Cache>,
    alarm: Alarm,
}

impl Tiered {
    /// `memory` in front of `behind`.
    pub fn new(memory: MemoryCache, behind: Arc<dyn Cache>) -> Self {
        Self { memory, behind, alarm: Alarm::default() }
    }

    /// Tells by `alarm` that the cache behind gives something else than was asked for; by default by one of its own.
    #[must_use]
    pub fn with_alarm(mut self, alarm: Alarm) -> Self {
        self.alarm = alarm;
        self
    }

    /// Takes a hit of the cache behind to memory. `None` if it turns out not to be the content.
    async fn promote(
        &self,
        digest: &Digest,
        source: Arc<dyn ByteSource>,
    ) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        let bytes = match source.read(0..source.size()).await {
            Ok(bytes) => bytes,
            Err(error) => {
                // It went bad between being found and being read.
                self.alarm.failed(format_args!("reading what a cache has for {digest} failed"), &error);
                return Ok(None);
            }
        };
        if !matches(*digest, bytes.clone()).await? {
            self.alarm
                .raise(format_args!("a cache gave something else for {digest}"), "its content has another digest");
            if let Err(error) = self.behind.remove(digest).await {
                self.alarm.failed(format_args!("removing what a cache had for {digest} failed"), &error);
            }
            return Ok(None);
        }
        self.memory.insert(*digest, bytes.clone());
        Ok(Some(Arc::new(MemorySource::with_id(bytes, (*digest).into()))))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Cache for Tiered {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        if let Some(hit) = self.memory.get(digest).await? {
            return Ok(Some(hit));
        }
        match self.behind.get(digest).await? {
            Some(source) if self.memory.wants(source.size()) => self.promote(digest, source).await,
            other => Ok(other),
        }
    }

    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        let memory = self.memory.begin(digest, size).await?;
        let behind = match self.behind.begin(digest, size).await {
            Err(error) if memory.is_none() => return Err(error),
            Err(error) => {
                self.alarm.failed(format_args!("{digest} is stored in memory only"), &error);
                None
            }
            Ok(writer) => writer,
        };
        if memory.is_none() && behind.is_none() {
            return Ok(None);
        }
        Ok(Some(Box::new(TieredWriter { memory, behind, failure: None })))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.memory.remove(digest).await?;
        self.behind.remove(digest).await
    }

    /// What is in memory was hashed; the rest comes from behind.
    fn verifies(&self) -> bool {
        self.behind.verifies()
    }
}

/// Writes to both. A failing cache behind does not keep the content out of memory.
struct TieredWriter {
    memory: Option<Box<dyn CacheWriter>>,
    behind: Option<Box<dyn CacheWriter>>,
    failure: Option<CacheError>,
}

#[async_trait]
impl CacheWriter for TieredWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError> {
        if let Some(memory) = &mut self.memory {
            memory.write(bytes.clone()).await?;
        }
        let Some(behind) = &mut self.behind else { return Ok(()) };
        if let Err(error) = behind.write(bytes).await {
            self.behind = None;
            if self.memory.is_none() {
                return Err(error);
            }
            self.failure = Some(error);
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), CacheError> {
        // Memory first: it tells wrong content before anything is published.
        if let Some(memory) = self.memory.take() {
            memory.commit().await?;
        }
        if let Some(behind) = self.behind.take() {
            behind.commit().await?;
        }
        self.failure.map_or(Ok(()), Err)
    }
}
