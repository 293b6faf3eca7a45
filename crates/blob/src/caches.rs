//! What a client remembers between operations, and between runs if it is given a directory.
//!
//! A cache never fails an operation: what it cannot give is fetched, what it cannot keep is not kept, and one warning
//! for each cache says so. Whatever comes out of one is hashed before it is used.

mod counted;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use blob_cache::{BlockCache, BlockOptions, BlockStore, CacheDir, DiskCache, Patient, TagCache, TagEntry};
use blob_core::{Alarm, ByteSource, ByteSourceExt as _, Cache, CacheError, Digest, SourceError, Turn, Turns};
use blob_registry::Reference;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::sync::{Mutex, OwnedMutexGuard};

pub use counted::CacheUse;
use counted::{Counted, Counter};

/// So many tags are known to be outdated at a time.
const MOST_OUTDATED: usize = 1000;

/// The layers; each may be absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caches {
    pub(crate) contents: Option<Arc<dyn Cache>>,
    pub(crate) manifests: Option<Keeper>,
    pub(crate) indexes: Option<Keeper>,
    pub(crate) blocks: Option<Arc<dyn BlockStore>>,
    pub(crate) tags: Option<Arc<dyn TagCache>>,
    /// Whether `tags` are ours: they are believed then, those of others only about what was in the repository.
    tags_are_ours: bool,
    /// The cache over `blocks`, which all archives share, so that they fetch a block once between them.
    block_cache: Option<BlockCache>,
    /// Tells of the cache for contents.
    pub(crate) alarm: Alarm,
    /// Tells of the cache for tags.
    tag_alarm: Alarm,
    /// Held while a tag is compared and replaced.
    tag_writes: TagWrites,
    /// Tags that were found to name what is gone: the cache is not believed when it says that once more.
    outdated: Arc<std::sync::Mutex<HashMap<String, Digest>>>,
    /// Who fetches what the directory lacks.
    pub(crate) turns: Option<Arc<dyn Turns>>,
    /// What they gave.
    counter: Counter,
}

/// A cache of what is used as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    cache: Arc<dyn Cache>,
    /// The same cache, if it is ours: it can leave the hashing to us, and its hits need not be hashed again.
    ours: Option<DiskCache>,
    /// Tells of it.
    alarm: Alarm,
}

impl Keeper {
    /// A cache of somebody else's.
    pub(crate) fn other(cache: Arc<dyn Cache>) -> Self {
        Self { cache, ours: None, alarm: Alarm::default() }
    }

    /// One of our own.
    fn ours(cache: DiskCache) -> Self {
        Self { cache: Arc::new(cache.clone()), ours: Some(cache), alarm: Alarm::default() }
    }

    /// A hit of at most `limit` bytes. What cannot be read or cannot be right is dropped.
    async fn get(&self, digest: &Digest, limit: u64) -> Option<Bytes> {
        let found = match self.cache.get(digest).await {
            Ok(found) => found?,
            Err(error) => return self.failed("reading", digest, &error),
        };
        if found.size() > limit {
            let why = format!("it has {} bytes, and {limit} are the most that were stored", found.size());
            self.alarm.raise(format_args!("the cache held something else for {digest}"), why);
            self.remove(digest).await;
            return None;
        }
        match found.read(0..found.size()).await {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.failed::<()>("reading", digest, &error);
                self.remove(digest).await;
                None
            }
        }
    }

    async fn remove(&self, digest: &Digest) {
        if let Err(error) = self.cache.remove(digest).await {
            self.failed::<()>("dropping", digest, &error);
        }
    }

    fn failed<T>(&self, doing: &str, digest: &Digest, error: &(dyn Error + 'static)) -> Option<T> {
        self.alarm.failed(format_args!("{doing} {digest} in the cache failed"), error);
        None
    }
}

impl Caches {
    /// Waits for the layers that are set only so long: they are other people's.
    pub(crate) fn limit_waiting(&mut self, limit: Duration) {
        let patient = |cache: Arc<dyn Cache>| Arc::new(Patient::new(cache, limit)) as Arc<dyn Cache>;
        self.contents = self.contents.take().map(patient);
        for keeper in [&mut self.manifests, &mut self.indexes].into_iter().flatten() {
            keeper.cache = patient(Arc::clone(&keeper.cache));
        }
        self.blocks = self.blocks.take().map(|store| Arc::new(Patient::new(store, limit)) as Arc<dyn BlockStore>);
        self.tags = self.tags.take().map(|tags| Arc::new(Patient::new(tags, limit)) as Arc<dyn TagCache>);
    }

    /// Every layer that is not set yet, from `dir`.
    pub(crate) fn fill_from(&mut self, dir: &CacheDir) {
        self.contents.get_or_insert_with(|| Arc::new(dir.contents()));
        self.manifests.get_or_insert_with(|| Keeper::ours(dir.manifests()));
        self.indexes.get_or_insert_with(|| Keeper::ours(dir.indexes()));
        self.blocks.get_or_insert_with(|| Arc::new(dir.blocks()));
        self.tags_are_ours |= self.tags.is_none();
        self.tags.get_or_insert_with(|| Arc::new(dir.tags()));
        self.turns = Some(Arc::new(dir.clone()));
    }

    /// Counts from now on what the layers give.
    pub(crate) fn count(&mut self) {
        let counter = &self.counter;
        let counted = |cache: Arc<dyn Cache>| Arc::new(Counted::new(cache, counter)) as Arc<dyn Cache>;
        self.contents = self.contents.take().map(counted);
        for keeper in [&mut self.manifests, &mut self.indexes].into_iter().flatten() {
            keeper.cache = counted(Arc::clone(&keeper.cache));
        }
        self.blocks = self.blocks.take().map(|store| Arc::new(Counted::new(store, counter)) as Arc<dyn BlockStore>);
        self.block_cache = self.blocks.clone().map(BlockCache::new);
    }

    /// What they gave so far.
    pub(crate) fn used(&self) -> CacheUse {
        self.counter.read()
    }

    /// The turn to fetch the index with `digest`, if indexes are shared with other processes.
    pub(crate) async fn index_turn(&self, digest: &Digest) -> Option<Turn> {
        self.indexes.as_ref().filter(|keeper| keeper.ours.is_some())?;
        Some(self.turns.as_ref()?.turn(&(*digest).into()).await)
    }

    /// What `reference`'s tag pointed at a moment ago.
    pub(crate) async fn tag(&self, reference: &Reference) -> Option<Digest> {
        let (cache, key) = (self.tags.as_ref()?, tag_key(reference)?);
        match cache.get(&key).await {
            // Nobody asked in the future, whatever the cache says.
            Ok(entry) => {
                let digest = entry.filter(|entry| entry.resolved_at <= SystemTime::now())?.digest;
                let is_gone = self.outdated().get(&key) == Some(&digest);
                let believed = !is_gone && (self.tags_are_ours || self.was_there(reference, &digest).await);
                believed.then_some(digest)
            }
            Err(error) => {
                self.tag_failed("reading", &key, &error);
                None
            }
        }
    }

    fn outdated(&self) -> MutexGuard<'_, HashMap<String, Digest>> {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Believes no more that `reference`'s tag names `digest`, which is gone. Says whether the cache forgot it, too.
    pub(crate) async fn disbelieve_tag(&self, reference: &Reference, digest: &Digest) -> bool {
        let (Some(cache), Some(key)) = (&self.tags, tag_key(reference)) else { return true };
        {
            let mut outdated = self.outdated();
            if outdated.len() >= MOST_OUTDATED {
                outdated.clear();
            }
            outdated.insert(key.clone(), *digest);
        }
        let _turn = self.tag_writes.turn(&key).await;
        // It may have been set anew since.
        if cache.get(&key).await.is_ok_and(|known| known.is_none_or(|known| known.digest != *digest)) {
            return true;
        }
        let removed = cache.remove(&key).await;
        removed.map_err(|error| self.tag_failed("forgetting", &key, &error)).is_ok()
    }

    fn tag_failed(&self, doing: &str, key: &str, error: &CacheError) {
        self.tag_alarm.failed(format_args!("{doing} what {key} names in the cache failed"), error);
    }

    /// Takes note that what the cache said `reference`'s tag names is of no use.
    pub(crate) fn tag_lied(&self, reference: &Reference, said: &Digest, why: &(dyn Error + 'static)) {
        self.tag_alarm.failed(format_args!("the cache said that {reference} is {said}, which leads nowhere"), why);
    }

    /// Remembers what `reference`'s tag points at now.
    pub(crate) async fn set_tag(&self, reference: &Reference, digest: Digest) {
        let Some(key) = tag_key(reference) else { return };
        let _turn = self.tag_writes.turn(&key).await;
        self.put_tag(reference, &key, TagEntry::now(digest)).await;
    }

    /// Remembers what `reference`'s tag pointed at when that was asked, unless something newer is known: it may have been
    /// pushed while the answer was on its way.
    pub(crate) async fn saw_tag(&self, reference: &Reference, digest: Digest, asked_at: SystemTime) {
        let Some(key) = tag_key(reference) else { return };
        let _turn = self.tag_writes.turn(&key).await;
        if let Some(cache) = &self.tags
            && let Ok(Some(known)) = cache.get(&key).await
            && (asked_at..=SystemTime::now()).contains(&known.resolved_at)
        {
            return;
        }
        self.put_tag(reference, &key, TagEntry { digest, resolved_at: asked_at }).await;
    }

    async fn put_tag(&self, reference: &Reference, key: &str, entry: TagEntry) {
        let Some(cache) = &self.tags else { return };
        if !self.tags_are_ours {
            let note = Bytes::from(membership(reference, &entry.digest));
            store(self.manifests.as_ref(), &Digest::sha256_of(&note), &note).await;
        }
        if let Err(error) = cache.put(key, &entry).await {
            self.tag_failed("storing", key, &error);
        }
    }

    /// Whether the manifest with `digest` was seen in the repository of `reference`. Manifests are kept by digest alone, and
    /// a tag cache of somebody else's might name one of another repository, which its readers were never shown.
    async fn was_there(&self, reference: &Reference, digest: &Digest) -> bool {
        let note = membership(reference, digest);
        load(self.manifests.as_ref(), &Digest::sha256_of(note.as_bytes()), note.len() as u64).await.is_some()
    }

    /// Forgets what `reference`'s tag pointed at: it was deleted.
    pub(crate) async fn forget_tag(&self, reference: &Reference) {
        if let (Some(cache), Some(key)) = (&self.tags, tag_key(reference))
            && let Err(error) = cache.remove(&key).await
        {
            self.tag_failed("forgetting", &key, &error);
        }
    }

    /// `source`, read through the cache for blocks.
    pub(crate) fn wrap(&self, source: Arc<dyn ByteSource>) -> Arc<dyn ByteSource> {
        match &self.block_cache {
            Some(blocks) => blocks.wrap(source, BlockOptions::default()),
            None => source,
        }
    }
}

/// The note by which a manifest is known to have been in a repository. It is kept like any other content, by its digest,
/// so nobody can have it who was not given it.
fn membership(reference: &Reference, digest: &Digest) -> String {
    format!("in {}/{}: {digest}\n", reference.host(), reference.repository())
}

/// Lets those who change one tag do so one after the other.
#[derive(Clone, Debug, Default)]
struct TagWrites(Arc<std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>>);

impl TagWrites {
    /// Waits for whoever changes the tag `key`.
    async fn turn(&self, key: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(held.entry(key.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}

/// `host/repository:tag`; digests need no cache.
fn tag_key(reference: &Reference) -> Option<String> {
    let tag = reference.tag().filter(|_| reference.digest().is_none())?;
    Some(format!("{}/{}:{tag}", reference.host(), reference.repository()))
}

/// The content with `digest` from `keeper`, if it is there, whole and at most `limit` bytes.
pub(crate) async fn load(keeper: Option<&Keeper>, digest: &Digest, limit: u64) -> Option<Bytes> {
    let keeper = keeper?;
    let bytes = keeper.get(digest, limit).await?;
    if keeper.ours.is_some() || digest.matches(&bytes) {
        return Some(bytes);
    }
    drop_damaged(keeper, digest).await;
    None
}

/// What `keeper` has under `digest`, of at most `limit` bytes, and **not hashed**: see [`drop_damaged`].
pub(crate) async fn load_unverified(keeper: &Keeper, digest: &Digest, limit: u64) -> Option<Bytes> {
    match &keeper.ours {
        Some(cache) => {
            let read = cache.read_unverified(digest, limit).await;
            read.unwrap_or_else(|error| keeper.failed("reading", digest, &error))
        }
        None => keeper.get(digest, limit).await,
    }
}

/// Removes what turned out not to have `digest`, and says so.
pub(crate) async fn drop_damaged(keeper: &Keeper, digest: &Digest) {
    keeper.alarm.raise(format_args!("the cache held something else for {digest}"), "its content has another digest");
    keeper.remove(digest).await;
}

/// Fetches the content with `digest` from `source` into the cache, chunk by chunk. `false` when the cache does not take
/// it, or it turned out to be something else.
///
/// # Errors
/// The source's.
pub(crate) async fn fill(
    keeper: Option<&Keeper>,
    digest: &Digest,
    source: &dyn ByteSource,
) -> Result<bool, SourceError> {
    // The memory of somebody else is memory, too.
    let Some(keeper) = keeper.filter(|keeper| keeper.ours.is_some()) else { return Ok(false) };
    let not_stored = |error| keeper.failed::<()>("storing", digest, &error).is_some();
    let mut writer = match keeper.cache.begin(digest, source.size()).await {
        Ok(Some(writer)) => writer,
        Ok(None) => return Ok(false),
        Err(error) => return Ok(not_stored(error)),
    };
    let mut chunks = source.open(0..source.size()).await?;
    while let Some(chunk) = chunks.try_next().await? {
        if let Err(error) = writer.write(chunk).await {
            return Ok(not_stored(error));
        }
    }
    Ok(match writer.commit().await {
        Ok(()) => true,
        Err(error) => not_stored(error),
    })
}

/// Keeps `bytes`, whose digest was checked.
pub(crate) async fn store(keeper: Option<&Keeper>, digest: &Digest, bytes: &Bytes) {
    let Some(keeper) = keeper else { return };
    let stored = async {
        if let Some(mut writer) = keeper.cache.begin(digest, bytes.len() as u64).await? {
            writer.write(bytes.clone()).await?;
            writer.commit().await?;
        }
        Ok::<_, CacheError>(())
    };
    if let Err(error) = stored.await {
        keeper.failed::<()>("storing", digest, &error);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::ops::Range;
    use std::sync::atomic::{AtomicU64, Ordering};

    use blob_cache::{MemoryBlockStore, MemoryTagCache};
    use blob_core::{ByteStream, Local, MemorySource, SourceId};

    #[tokio::test]
    async fn a_slow_answer_does_not_replace_a_newer_one() {
        let tags: Arc<dyn TagCache> = Arc::new(MemoryTagCache::new(Duration::from_mins(5), 100));
        let caches = Caches { tags: Some(Arc::clone(&tags)), tags_are_ours: true, ..Caches::default() };
        let reference: Reference = "localhost:5000/team/project:v1".parse().unwrap();
        let [old, pushed, newer] = [&b"old"[..], b"pushed", b"newer"].map(Digest::sha256_of);
        let asked_at = SystemTime::now();
        // A push that begins later and ends before the answer is there.
        caches.set_tag(&reference, pushed).await;
        caches.saw_tag(&reference, old, asked_at).await;
        assert_eq!(caches.tag(&reference).await, Some(pushed));
        std::thread::sleep(Duration::from_millis(2));
        caches.saw_tag(&reference, newer, SystemTime::now()).await;
        assert_eq!(caches.tag(&reference).await, Some(newer), "what was asked later counts");
    }

    /// Far away: it answers at the second look.
    #[derive(Debug)]
    struct Far(MemorySource, Arc<AtomicU64>);

    #[async_trait::async_trait]
    impl ByteSource for Far {
        fn id(&self) -> &SourceId {
            self.0.id()
        }

        fn size(&self) -> u64 {
            self.0.size()
        }

        fn local(&self) -> Option<Local<'_>> {
            None
        }

        async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            self.0.open(range).await
        }
    }

    #[tokio::test]
    async fn archives_that_are_opened_twice_fetch_a_block_once() {
        let mut caches = Caches { blocks: Some(Arc::new(MemoryBlockStore::new(1 << 20))), ..Caches::default() };
        caches.count();
        let requests = Arc::new(AtomicU64::new(0));
        let opened = || caches.wrap(Arc::new(Far(MemorySource::new(vec![7; 50_000]), Arc::clone(&requests))));
        let (first, second) = (opened(), opened());
        let (first, second) = tokio::join!(first.read(0..100), second.read(200..300));
        assert_eq!((first.unwrap().len(), second.unwrap().len()), (100, 100));
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }
}
