//! Other people's caches that fail or lie, each seam by itself: no operation fails, no answer changes, and each of them
//! costs one warning.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use blob::cache::{BlockKey, BlockStore, MemoryBlockStore, MemoryTagCache, TagCache, TagEntry};
use blob::core::extract::ExtractOptions;
use blob::core::{ByteSource, ByteSourceExt as _, Cache, CacheError, CacheWriter, Digest, Entry, MemorySource};
use blob::registry::server::ServerHandle;
use blob::{Client, ClientBuilder, Location, PullOptions, PushOptions};
use bytes::Bytes;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::support::{at, client, serve, tree};

/// Keeps the warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 = format!("{} {field}={value:?}", self.0);
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Warnings {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Fails whatever it is asked.
#[derive(Debug)]
struct Failing;

fn refused() -> CacheError {
    CacheError::Backend { action: "talking to the store".into(), source: "connection refused".into() }
}

#[async_trait]
impl Cache for Failing {
    async fn get(&self, _: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        Err(refused())
    }
    async fn begin(&self, _: &Digest, _: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        Err(refused())
    }
    async fn remove(&self, _: &Digest) -> Result<(), CacheError> {
        Err(refused())
    }
}

#[async_trait]
impl BlockStore for Failing {
    async fn get(&self, _: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        Err(refused())
    }
    async fn put(&self, _: &BlockKey, _: Bytes) -> Result<(), CacheError> {
        Err(refused())
    }
    async fn remove(&self, _: &BlockKey) -> Result<(), CacheError> {
        Err(refused())
    }
}

#[async_trait]
impl TagCache for Failing {
    async fn get(&self, _: &str) -> Result<Option<TagEntry>, CacheError> {
        Err(refused())
    }
    async fn put(&self, _: &str, _: &TagEntry) -> Result<(), CacheError> {
        Err(refused())
    }
    async fn remove(&self, _: &str) -> Result<(), CacheError> {
        Err(refused())
    }
}

/// Has everything that was ever announced to it, in the right size or not, and says that it was hashed.
#[derive(Debug, Default)]
struct Forger {
    sizes: Mutex<HashMap<Digest, u64>>,
    longer: u64,
}

#[async_trait]
impl Cache for Forger {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        let Some(size) = self.sizes.lock().unwrap().get(digest).copied() else { return Ok(None) };
        let forged = Bytes::from(vec![0x20; (size + self.longer) as usize]);
        Ok(Some(Arc::new(MemorySource::with_id(forged, (*digest).into()))))
    }
    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        self.sizes.lock().unwrap().insert(*digest, size);
        Ok(None)
    }
    fn verifies(&self) -> bool {
        true
    }
    async fn remove(&self, _: &Digest) -> Result<(), CacheError> {
        Ok(())
    }
}

/// Gives blocks with one bit flipped, and keeps them.
#[derive(Debug)]
struct Flipper(MemoryBlockStore);

#[async_trait]
impl BlockStore for Flipper {
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        let Some(value) = self.0.get(key).await? else { return Ok(None) };
        let mut value = value.to_vec();
        value[40] ^= 1;
        Ok(Some(value.into()))
    }
    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError> {
        self.0.put(key, value).await
    }
    async fn remove(&self, _: &BlockKey) -> Result<(), CacheError> {
        Ok(())
    }
}

/// Says of every tag that it is the same, and cannot be talked out of it.
#[derive(Debug)]
struct Stubborn {
    digest: Digest,
    ahead: Duration,
}

#[async_trait]
impl TagCache for Stubborn {
    async fn get(&self, _: &str) -> Result<Option<TagEntry>, CacheError> {
        Ok(Some(TagEntry { digest: self.digest, resolved_at: SystemTime::now() + self.ahead }))
    }
    async fn put(&self, _: &str, _: &TagEntry) -> Result<(), CacheError> {
        Ok(())
    }
    async fn remove(&self, _: &str) -> Result<(), CacheError> {
        Ok(())
    }
}

struct Place {
    server: ServerHandle,
    warnings: Warnings,
    _listening: tracing::subscriber::DefaultGuard,
}

impl Place {
    /// An archive of some hundred files, the index of which is not embedded.
    async fn new(seed: u64) -> Self {
        let (server, source) = (serve().await, tree(seed, 700));
        client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
        let warnings = Warnings::default();
        let listening = tracing::subscriber::set_default(warnings.clone());
        Self { server, warnings, _listening: listening }
    }

    fn location(&self) -> Location {
        at(self.server.local_addr(), "v1")
    }

    /// Reads in every way, often; the answer is what was warned of.
    async fn read(&self, client: Client) -> Vec<String> {
        for _ in 0..2 {
            let archive = client.pull(&self.location(), &PullOptions::default()).await.unwrap();
            // Twice: the first time a cache may have nothing to lie about.
            for entry in archive.entries().take(30).chain(archive.entries().take(30)) {
                assert!(entry.digest().matches(&archive.read(entry.path()).await.unwrap()));
            }
            for start in 0..20 {
                archive.source().read(start * 10..start * 10 + 5).await.unwrap();
            }
            client.inspect(&self.location(), &PullOptions::default()).await.unwrap();
        }
        // Last, since what its threads would warn of is not heard here.
        let archive = client.pull(&self.location(), &PullOptions::default()).await.unwrap();
        let (out, paths): (_, Vec<_>) = (tempfile::tempdir().unwrap(), archive.entries().take(40).collect());
        archive.copy_to(paths.iter().map(Entry::path), out.path(), &ExtractOptions::default()).await.unwrap();
        for entry in paths {
            let path = out.path().join(str::from_utf8(entry.path()).unwrap());
            assert!(entry.digest().matches(&std::fs::read(path).unwrap()));
        }
        drop(client);
        self.warnings.take()
    }

    async fn warns_once(&self, what: &str, builder: ClientBuilder) {
        let warnings = self.read(builder.build().unwrap()).await;
        assert_eq!(warnings.len(), 1, "{what}: {warnings:#?}");
    }
}

#[tokio::test]
async fn a_cache_that_fails_costs_one_warning_however_much_is_read() {
    let place = Place::new(70).await;
    place.warns_once("contents", Client::builder().content_cache(Arc::new(Failing))).await;
    place.warns_once("behind memory", Client::builder().content_cache(Arc::new(Failing)).memory_cache(1 << 20)).await;
    place.warns_once("blocks", Client::builder().block_cache(Arc::new(Failing))).await;
    place.warns_once("tags", Client::builder().tag_cache(Arc::new(Failing))).await;
    place.warns_once("manifests", Client::builder().manifest_cache(Arc::new(Failing))).await;
    place.warns_once("indexes", Client::builder().index_cache(Arc::new(Failing))).await;
    let all = Client::builder()
        .content_cache(Arc::new(Failing))
        .block_cache(Arc::new(Failing))
        .tag_cache(Arc::new(Failing))
        .manifest_cache(Arc::new(Failing))
        .index_cache(Arc::new(Failing));
    assert_eq!(place.read(all.build().unwrap()).await.len(), 5, "one for each");
    assert!(place.read(client()).await.is_empty(), "nothing is warned of where nothing fails");
}

#[tokio::test]
async fn a_cache_that_lies_costs_one_warning_and_changes_no_answer() {
    let place = Place::new(71).await;
    for longer in [0, 1] {
        let forger = || Arc::new(Forger { longer, ..Forger::default() });
        let contents = forger();
        place.warns_once("contents", Client::builder().content_cache(Arc::clone(&contents) as _)).await;
        // Now it has something to lie about before memory has anything.
        place.warns_once("behind memory", Client::builder().content_cache(contents).memory_cache(1 << 20)).await;
        // The client holds indexes that it has parsed, so one that is asked for again is asked for by another client.
        let (manifests, indexes) = (forger(), forger());
        for _ in 0..2 {
            let tags = Arc::new(MemoryTagCache::new(Duration::from_mins(5), 10));
            let builder = Client::builder().tag_cache(tags).manifest_cache(Arc::clone(&manifests) as Arc<dyn Cache>);
            place.warns_once("manifests", builder).await;
        }
        assert!(place.read(Client::builder().index_cache(Arc::clone(&indexes) as _).build().unwrap()).await.is_empty());
        place.warns_once("indexes", Client::builder().index_cache(indexes)).await;
    }
    place.warns_once("blocks", Client::builder().block_cache(Arc::new(Flipper(MemoryBlockStore::new(64 << 20))))).await;
}

#[tokio::test]
async fn a_tag_cache_that_names_what_cannot_be_is_found_out() {
    let place = Place::new(72).await;
    let (location, options) = (place.location(), PullOptions::default());
    let digest = *client().fetch(&location).await.unwrap().digest();
    let elsewhere: Location = format!("{}/other/project:v1", place.server.local_addr()).parse().unwrap();
    let other = tree(73, 700);
    client().push(&elsewhere, other.path(), &PushOptions::default()).await.unwrap();
    let small: Location = format!("{}/other/small:v1", place.server.local_addr()).parse().unwrap();
    client().push(&small, tree(74, 3).path(), &PushOptions::default()).await.unwrap();
    let small_elsewhere = *client().fetch(&small).await.unwrap().digest();
    let no_archive = no_archive(&place).await;
    let archive_elsewhere = *client().fetch(&elsewhere).await.unwrap().digest();

    let hour = Duration::from_hours(1);
    // What it names, how far in the future that is, and whether that can be noticed for more than a miss.
    for (what, named, ahead, noticed) in [
        ("nothing", Digest::sha256_of(b"nothing"), Duration::ZERO, 0),
        ("something of another kind", no_archive, Duration::ZERO, 1),
        ("an archive of another repository", archive_elsewhere, Duration::ZERO, 0),
        ("a small one, whose index is in its manifest", small_elsewhere, Duration::ZERO, 0),
        ("what is right, in an hour", digest, hour, 0),
        ("another kind, in an hour", no_archive, hour, 0),
    ] {
        let manifests = Arc::new(blob::cache::MemoryCache::new(blob::cache::MemoryOptions::default()));
        let filling = Client::builder().manifest_cache(Arc::clone(&manifests) as Arc<dyn Cache>);
        let tags = Arc::new(MemoryTagCache::new(Duration::from_mins(5), 10));
        let filling = filling.tag_cache(tags).build().unwrap();
        filling.fetch(&elsewhere).await.unwrap();
        filling.fetch(&small).await.unwrap();
        filling.fetch(&at(place.server.local_addr(), "none")).await.unwrap_err();
        let tags = Arc::new(Stubborn { digest: named, ahead });
        let client = Client::builder().tag_cache(tags).manifest_cache(manifests).build().unwrap();
        assert_eq!(client.pull(&location, &options).await.unwrap().manifest().digest(), &digest, "{what}");
        let inspected = client.inspect(&location, &options).await.unwrap();
        assert_eq!(inspected.manifest().digest(), &digest, "{what}");
        let warnings = place.read(client).await;
        assert_eq!(warnings.len(), noticed, "{what}: {warnings:#?}");
    }
}

#[tokio::test]
async fn a_tag_whose_data_is_gone_is_asked_for_anew() {
    let (server, options) = (serve().await, PullOptions::default());
    let location = at(server.local_addr(), "v1");
    client().push(&location, tree(75, 3).path(), &PushOptions::default()).await.unwrap();
    let manifests = Arc::new(blob::cache::MemoryCache::new(blob::cache::MemoryOptions::default()));
    let tags = Arc::new(MemoryTagCache::new(Duration::from_mins(5), 10));
    let caching = || {
        let builder = Client::builder().tag_cache(Arc::clone(&tags) as Arc<dyn TagCache>);
        builder.manifest_cache(Arc::clone(&manifests) as Arc<dyn Cache>).build().unwrap()
    };
    let before = caching().fetch(&location).await.unwrap();
    // Somebody else moves the tag, and what it named is cleared away.
    let pushed = client().push(&location, tree(76, 3).path(), &PushOptions::default()).await.unwrap();
    assert_ne!(before.digest(), pushed.digest());
    let (registry, repository) = client().registry(&location).await.unwrap();
    registry.delete_manifest(&repository, before.digest()).await.unwrap();
    registry.delete_blob(&repository, &before.data().digest).await.unwrap();

    let archive = caching().pull(&location, &options).await.unwrap();
    assert_eq!(archive.manifest().digest(), before.digest(), "remembered");
    let path = archive.entries().next().unwrap().path().to_vec();
    let error = archive.read(&path).await.unwrap_err();
    let said = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let said: Vec<_> = said.map(ToString::to_string).collect();
    assert!(said.iter().any(|said| said.ends_with("try once more")), "{said:#?}");
    assert_eq!(blob::Error::from(error).kind(), blob::ErrorKind::NotFound);
    let archive = caching().pull(&location, &options).await.unwrap();
    assert_eq!(archive.manifest().digest(), pushed.digest(), "asked for once more");
    archive.read(archive.entries().next().unwrap().path()).await.unwrap();
}

/// Puts something into the repository that is no archive, under the tag `none`.
async fn no_archive(place: &Place) -> Digest {
    let location = at(place.server.local_addr(), "none");
    let (registry, repository) = client().registry(&location).await.unwrap();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[]}}"#);
    let manifest = blob::registry::PushManifest::new(media_type, index).with_tags(["none".parse().unwrap()]);
    let digest = manifest.digest;
    registry.push_manifest(&repository, manifest).await.unwrap();
    // That it is none is an error wherever the tag really names it.
    let tags = Arc::new(MemoryTagCache::new(Duration::from_mins(5), 10));
    let manifests = Arc::new(blob::cache::MemoryCache::new(blob::cache::MemoryOptions::default()));
    let cached = Client::builder().tag_cache(tags).manifest_cache(manifests).build().unwrap();
    for _ in 0..2 {
        let error = cached.pull(&location, &PullOptions::default()).await.unwrap_err();
        assert!(matches!(error, blob::Error::Manifest { .. }), "{error:?}");
    }
    assert!(place.warnings.take().is_empty());
    digest
}
