//! What a client remembers between operations, and between runs if it is given a directory.
//!
//! A cache never fails an operation: what it cannot give is fetched, what it cannot keep is not kept, and a warning
//! says so. Whatever comes out of one is hashed before it is used.

use std::sync::Arc;

use blob_cache::{BlockCache, BlockOptions, BlockStore, CacheDir, TagCache, TagEntry};
use blob_core::{ByteSource, ByteSourceExt as _, Cache, Digest};
use blob_registry::Reference;
use bytes::Bytes;

/// The layers; each may be absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caches {
    pub(crate) contents: Option<Arc<dyn Cache>>,
    pub(crate) manifests: Option<Arc<dyn Cache>>,
    pub(crate) indexes: Option<Arc<dyn Cache>>,
    pub(crate) blocks: Option<Arc<dyn BlockStore>>,
    pub(crate) tags: Option<Arc<dyn TagCache>>,
}

impl Caches {
    /// Every layer that is not set yet, from `dir`.
    pub(crate) fn fill_from(&mut self, dir: &CacheDir) {
        self.contents.get_or_insert_with(|| Arc::new(dir.contents()));
        self.manifests.get_or_insert_with(|| Arc::new(dir.manifests()));
        self.indexes.get_or_insert_with(|| Arc::new(dir.indexes()));
        self.blocks.get_or_insert_with(|| Arc::new(dir.blocks()));
        self.tags.get_or_insert_with(|| Arc::new(dir.tags()));
    }

    /// What `reference`'s tag pointed at a moment ago.
    pub(crate) async fn tag(&self, reference: &Reference) -> Option<Digest> {
        let (cache, key) = (self.tags.as_ref()?, tag_key(reference)?);
        match cache.get(&key).await {
            Ok(entry) => entry.map(|entry| entry.digest),
            Err(error) => warn("reading a tag", &error),
        }
    }

    /// Remembers what `reference`'s tag points at now.
    pub(crate) async fn set_tag(&self, reference: &Reference, digest: Digest) {
        if let (Some(cache), Some(key)) = (&self.tags, tag_key(reference))
            && let Err(error) = cache.put(&key, &TagEntry::now(digest)).await
        {
            warn::<()>("storing a tag", &error);
        }
    }

    /// `source`, read through the cache for blocks.
    pub(crate) fn wrap(&self, source: Arc<dyn ByteSource>) -> Arc<dyn ByteSource> {
        match &self.blocks {
            Some(store) => BlockCache::new(Arc::clone(store)).wrap(source, BlockOptions::default()),
            None => source,
        }
    }
}

/// `host/repository:tag`; digests need no cache.
fn tag_key(reference: &Reference) -> Option<String> {
    let tag = reference.tag().filter(|_| reference.digest().is_none())?;
    Some(format!("{}/{}:{tag}", reference.host(), reference.repository()))
}

/// The content with `digest` from `cache`, if it is there, whole and at most `limit` bytes.
pub(crate) async fn load(cache: Option<&Arc<dyn Cache>>, digest: &Digest, limit: u64) -> Option<Bytes> {
    let cache = cache?;
    let found = match cache.get(digest).await {
        Ok(found) => found.filter(|source| source.size() <= limit)?,
        Err(error) => return warn("reading", &error),
    };
    match found.read(0..found.size()).await {
        Ok(bytes) if digest.matches(&bytes) => return Some(bytes),
        Ok(_) => tracing::warn!(%digest, "the cache held something else; fetching it again"),
        Err(error) => {
            warn::<()>("reading", &error);
        }
    }
    if let Err(error) = cache.remove(digest).await {
        warn::<()>("dropping a damaged entry", &error);
    }
    None
}

/// Keeps `bytes`, whose digest was checked.
pub(crate) async fn store(cache: Option<&Arc<dyn Cache>>, digest: &Digest, bytes: &Bytes) {
    let Some(cache) = cache else { return };
    let stored = async {
        if let Some(mut writer) = cache.begin(digest, bytes.len() as u64).await? {
            writer.write(bytes.clone()).await?;
            writer.commit().await?;
        }
        Ok::<_, blob_core::CacheError>(())
    };
    if let Err(error) = stored.await {
        warn::<()>("storing", &error);
    }
}

fn warn<T>(doing: &str, error: &dyn std::error::Error) -> Option<T> {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::warn!(cause, "cache failed while {doing}: {error}");
    None
}
