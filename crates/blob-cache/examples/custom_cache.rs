//! An own cache: contents of files in Redis, shared by every machine that reaches it.
//!
//! ```text
//! cargo run --example custom_cache -- redis://127.0.0.1:6379/ FILE…
//! ```
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use blob_cache::{Simple, SimpleCache};
use blob_core::{Cache, CacheError, Digest};
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Client, RedisError};

/// Larger contents are not kept: Redis holds everything in memory.
const MAX_ENTRY_BYTES: u64 = 8 << 20;

/// How long a content that nobody stores again is kept, in seconds: a day.
const KEPT: u64 = 24 * 60 * 60;

/// A [`SimpleCache`] over one connection that all callers share.
#[derive(Clone)]
pub struct Redis(MultiplexedConnection);

impl Redis {
    /// Connects to `url`.
    ///
    /// # Errors
    /// The URL is none, or nobody answers.
    pub async fn connect(url: &str) -> Result<Self, RedisError> {
        Ok(Self(Client::open(url)?.get_multiplexed_async_connection().await?))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis")
    }
}

fn key(digest: &Digest) -> String {
    format!("blob:content:{digest}")
}

fn failed(action: &str, digest: &Digest, source: RedisError) -> CacheError {
    CacheError::Backend { action: format!("{action} {digest} in Redis"), source: Box::new(source) }
}

#[async_trait]
impl SimpleCache for Redis {
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, CacheError> {
        let found: Result<Option<Vec<u8>>, _> = self.0.clone().get(key(digest)).await;
        Ok(found.map_err(|source| failed("looking up", digest, source))?.map(Bytes::from))
    }

    async fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), CacheError> {
        let stored: Result<(), _> = self.0.clone().set_ex(key(digest), &bytes[..], KEPT).await;
        stored.map_err(|source| failed("storing", digest, source))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        let removed: Result<(), _> = self.0.clone().del(key(digest)).await;
        removed.map_err(|source| failed("removing", digest, source))
    }
}

/// As a [`Cache`], which checks what comes back: `Client::builder().content_cache(…)` takes it.
pub fn cache(redis: Redis) -> impl Cache {
    Simple::new(redis, MAX_ENTRY_BYTES)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let cache = cache(Redis::connect(&url).await?);
    for path in args {
        let bytes = Bytes::from(std::fs::read(&path)?);
        let digest = Digest::sha256_of(&bytes);
        let known = cache.get(&digest).await?.is_some();
        if !known && let Some(mut writer) = cache.begin(&digest, bytes.len() as u64).await? {
            writer.write(bytes).await?;
            writer.commit().await?;
        }
        println!("{digest} {} {path}", if known { "hit" } else { "stored" });
    }
    Ok(())
}
