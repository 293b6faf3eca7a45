//! Opening archives: manifest, verdict, index – and data only when a file is read.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use blob_core::{
    ArchiveIndex, ByteSource, ByteSourceExt as _, Digest, Event, NoProgress, Progress, ReadLimits, ReadOptions,
};
use blob_policy::{Policy, Trusted};
use blob_registry::{
    BlobSource, Descriptor, MAX_MANIFEST_BYTES, Manifest, Outline, Registry, RegistryError, Repository, Target,
};
use bytes::Bytes;

use crate::archive_manifest::ArchiveManifest;
use crate::caches::{Keeper, drop_damaged, fill, load, load_unverified, store};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::head_start::HeadStart;
use crate::indexes::{parse, parse_and_hash};
use crate::location::Location;
use crate::remembered::Remembered;
use crate::trust::Place;

/// An index above this size, 64 MiB, goes through the cache, whose file is then mapped, rather than through memory.
const LARGE_INDEX: u64 = 64 << 20;

/// How an archive is opened.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct PullOptions {
    /// Another policy than the client's.
    pub policy: Option<Arc<dyn Policy>>,
    /// Ask the registry whatever the caches say (unless the client is offline), and do not keep the contents of files. What is fetched still replaces
    /// what is remembered of the tag.
    pub skip_cache: bool,
    /// Whether all of the archive will be read, as far as that is known: when its index has to be fetched, the first of
    /// its data, 16 MiB at most, is then fetched at the same time and held in memory. What is not read after all was
    /// fetched in vain.
    pub reads_all: bool,
    /// Told of the manifest and the index as they are fetched.
    pub progress: Option<Arc<dyn Progress>>,
}

impl std::fmt::Debug for PullOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullOptions")
            .field("policy", &self.policy)
            .field("skip_cache", &self.skip_cache)
            .field("reads_all", &self.reads_all)
            .finish_non_exhaustive()
    }
}

/// An open archive: its manifest was admitted, its index is here, its files are read when they are asked for.
///
/// Everything that [`blob_core::Archive`] can do is at hand.
#[derive(Clone, Debug)]
pub struct Archive {
    inner: blob_core::Archive,
    manifest: Arc<Trusted<ArchiveManifest>>,
    location: Location,
}

impl Archive {
    /// The manifest, and whether a policy admitted it.
    pub fn manifest(&self) -> &Trusted<ArchiveManifest> {
        &self.manifest
    }

    /// Where it was opened from.
    pub fn location(&self) -> &Location {
        &self.location
    }
}

impl Deref for Archive {
    type Target = blob_core::Archive;

    fn deref(&self) -> &blob_core::Archive {
        &self.inner
    }
}

/// A manifest that was let in, and where it came from.
pub(crate) struct Fetched {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) repository: Repository,
    pub(crate) manifest: Trusted<ArchiveManifest>,
    /// Whether nobody but the cache says that this is what the tag names.
    by_tag_cache: bool,
    /// The data, if it is being read already.
    head: OnceLock<Arc<HeadStart>>,
}

impl Fetched {
    /// Begins to read the data, since it will be needed.
    fn start_reading(&self) {
        self.head.get_or_init(|| {
            let (data, registry) = (self.manifest.data(), Arc::clone(&self.registry));
            let source = BlobSource::new(registry, self.repository.clone(), data.digest, data.size);
            Arc::new(HeadStart::begin(Arc::new(source)))
        });
    }

    /// The data, wherever it is.
    async fn data(&self) -> Result<Arc<dyn ByteSource>, RegistryError> {
        if let Some(head) = self.head.get() {
            return Ok(Arc::clone(head) as Arc<dyn ByteSource>);
        }
        let (data, registry) = (self.manifest.data(), Arc::clone(&self.registry));
        BlobSource::locate(registry, self.repository.clone(), data.digest, data.size).await
    }
}

/// A manifest, and whether nobody but the cache says that it is what the tag names.
struct Found {
    manifest: Manifest,
    by_tag_cache: bool,
}

impl Client {
    /// Opens an archive: one request for the manifest, one for the index (none when the manifest carries it), and
    /// policies in between. File data is fetched when it is read.
    ///
    /// # Errors
    /// [`Error`]: not found, not an archive, policy violation, over a limit, or the registry fails.
    ///
    /// # Cancellation
    /// Dropping the future ends the requests.
    pub async fn pull(&self, location: &Location, options: &PullOptions) -> Result<Archive, Error> {
        let (fetched, index) = self.opened(location, options).await?;
        let action = || format!("opening the data of {location}");
        let source = fetched.data().await.map_err(|source| Error::Registry { action: action(), source })?;
        // What is on this machine anyway gains nothing from another copy of it.
        let remote = source.local().is_none() && !self.skips_cache(options);
        let source = match location.reference().filter(|_| fetched.by_tag_cache) {
            Some(tag) => {
                let named = (tag, *fetched.manifest.digest());
                Arc::new(Remembered::new(source, named, self.caches().clone())) as Arc<dyn ByteSource>
            }
            None => source,
        };
        let source = if remote { self.caches().wrap(source) } else { source };
        self.assemble(location, fetched.manifest, index, source, options)
    }

    /// Fetches and admits the manifest of an archive, and nothing else: one request.
    ///
    /// # Errors
    /// As [`pull`](Self::pull).
    pub async fn fetch(&self, location: &Location) -> Result<Trusted<ArchiveManifest>, Error> {
        Ok(self.fetch_with(location, &PullOptions::default()).await?.manifest)
    }

    /// The admitted manifest and the index.
    pub(crate) async fn opened(
        &self,
        location: &Location,
        options: &PullOptions,
    ) -> Result<(Fetched, Arc<ArchiveIndex>), Error> {
        let fetched = self.fetch_with(location, options).await?;
        match self.index(location, &fetched, options).await {
            Err(error) if fetched.by_tag_cache && self.leads_nowhere(&error) => {
                let said = *fetched.manifest.digest();
                let fetched = self.fetch_anew(location, options, (&said, error)).await?;
                let index = self.index(location, &fetched, options).await?;
                Ok((fetched, index))
            }
            index => Ok((fetched, index?)),
        }
    }

    async fn fetch_with(&self, location: &Location, options: &PullOptions) -> Result<Fetched, Error> {
        match self.fetch_once(location, options).await {
            Err((error, Some(said))) if self.leads_nowhere(&error) => {
                self.fetch_anew(location, options, (&said, error)).await
            }
            fetched => fetched.map_err(|(error, _)| error),
        }
    }

    /// Whether what a tag is said to name cannot be an archive that is there. Offline nobody knows better.
    fn leads_nowhere(&self, error: &Error) -> bool {
        let unusable = matches!(error, Error::Manifest { .. } | Error::Index { .. });
        (unusable || error.kind() == ErrorKind::NotFound) && !self.is_offline()
    }

    /// As the registry has it now, since what the cache said of the tag led nowhere: a cache never fails an operation.
    async fn fetch_anew(
        &self,
        location: &Location,
        options: &PullOptions,
        (said, why): (&Digest, Error),
    ) -> Result<Fetched, Error> {
        let anew = PullOptions { skip_cache: true, ..options.clone() };
        let fetched = self.fetch_once(location, &anew).await.map_err(|(error, _)| error)?;
        if fetched.manifest.digest() == said {
            return Err(why);
        }
        if let Some(reference) = location.reference() {
            self.caches().tag_lied(reference, said, &why);
        }
        Ok(fetched)
    }

    /// The admitted manifest. With an error comes what the cache, and nobody else, said that the tag names.
    async fn fetch_once(&self, location: &Location, options: &PullOptions) -> Result<Fetched, (Error, Option<Digest>)> {
        let (registry, repository) = self.registry(location).await.map_err(|error| (error, None))?;
        let found = self.manifest_from(location, &registry, &repository, options).await;
        let Found { manifest: fetched, by_tag_cache } = found.map_err(|error| (error, None))?;
        let place = Place { location, registry: &registry, repository: &repository, manifest: &fetched };
        let said = by_tag_cache.then_some(fetched.descriptor.digest);
        let manifest = self.admit(&place, options).await.map_err(|error| (error, said))?;
        Ok(Fetched { registry, repository, manifest, by_tag_cache, head: OnceLock::new() })
    }

    /// The manifest, which nobody judged yet, and where it is.
    pub(crate) async fn manifest_with(
        &self,
        location: &Location,
        options: &PullOptions,
    ) -> Result<(Arc<dyn Registry>, Repository, Manifest), Error> {
        let (registry, repository) = self.registry(location).await?;
        let found = self.manifest_from(location, &registry, &repository, options).await?;
        Ok((registry, repository, found.manifest))
    }

    /// The manifest at `location` in the registry as it has it itself, whatever mirrors say. Without network it must be
    /// named by its digest: what a tag was once is nothing to put a name under.
    pub(crate) async fn manifest_to_sign(
        &self,
        location: &Location,
    ) -> Result<(Arc<dyn Registry>, Repository, Manifest), Error> {
        if self.is_offline() && location.reference().is_some() && matches!(location.target(), Some(Target::Tag(_))) {
            let needs = "digest, which offline is all that can be believed";
            return Err(Error::Incomplete { location: location.to_string(), needs });
        }
        let options = PullOptions { skip_cache: true, ..PullOptions::default() };
        let (registry, repository) = self.registry_without_mirrors(location).await?;
        let found = self.manifest_from(location, &registry, &repository, &options).await?;
        Ok((registry, repository, found.manifest))
    }

    async fn manifest_from(
        &self,
        location: &Location,
        registry: &Arc<dyn Registry>,
        repository: &Repository,
        options: &PullOptions,
    ) -> Result<Found, Error> {
        let needs = "tag or digest";
        let target = location.target().ok_or_else(|| Error::Incomplete { location: location.to_string(), needs })?;
        match self.remembered(location, &target, options).await {
            Some(manifest) => Ok(Found { manifest, by_tag_cache: matches!(target, Target::Tag(_)) }),
            None if self.is_offline() && location.reference().is_some() => Err(offline(location, "manifest")),
            None => {
                let manifest = self.fetch_manifest(location, registry, repository, &target, options).await?;
                Ok(Found { manifest, by_tag_cache: false })
            }
        }
    }

    /// The manifest as the caches know it: of a digest always, of a tag as long as that is believed.
    async fn remembered(&self, location: &Location, target: &Target, options: &PullOptions) -> Option<Manifest> {
        let reference = location.reference().filter(|_| !self.skips_cache(options))?;
        let caches = self.caches();
        let digest = match target {
            Target::Digest(digest) => *digest,
            Target::Tag(_) => caches.tag(reference).await?,
        };
        let bytes = load(caches.manifests.as_ref(), &digest, MAX_MANIFEST_BYTES).await?;
        let media_type = Outline::parse(&bytes).ok()?.media_type?;
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        Some(Manifest { descriptor, bytes })
    }

    /// The manifest as the registry has it now; the caches are told.
    async fn fetch_manifest(
        &self,
        location: &Location,
        registry: &Arc<dyn Registry>,
        repository: &Repository,
        target: &Target,
        options: &PullOptions,
    ) -> Result<Manifest, Error> {
        note(options, "manifest");
        let asked_at = SystemTime::now();
        let fetched = registry.manifest(repository, target).await;
        let action = || format!("reading the manifest of {location}");
        let fetched = fetched.map_err(|source| Error::Registry { action: action(), source })?;
        if let Some(reference) = location.reference() {
            let caches = self.caches();
            store(caches.manifests.as_ref(), &fetched.descriptor.digest, &fetched.bytes).await;
            caches.saw_tag(reference, fetched.descriptor.digest, asked_at).await;
        }
        Ok(fetched)
    }

    /// The index: from the manifest if it is embedded, else fetched and checked against its digest.
    pub(crate) async fn index(
        &self,
        location: &Location,
        fetched: &Fetched,
        options: &PullOptions,
    ) -> Result<Arc<ArchiveIndex>, Error> {
        let layer = fetched.manifest.index();
        let limit = self.limits().max_index_bytes;
        if layer.size > limit {
            let source = RegistryError::TooLarge { action: "its index".into(), size: layer.size, limit };
            return Err(Error::Registry { action: format!("opening {location}"), source });
        }
        let held = self.indexes().find(&layer.digest).filter(|_| !self.skips_cache(options));
        let index = if let Some(index) = held {
            index
        } else {
            let index = Arc::new(self.parsed_index(location, fetched, options).await?);
            self.indexes().hold(layer.digest, &index);
            index
        };
        let data = fetched.manifest.data();
        let checked = index.check_data(&data.digest, data.size);
        checked.map_err(|source| Error::Index { location: location.to_string(), source })?;
        Ok(index)
    }

    /// The index, whose size was checked, and which has been parsed by nobody.
    async fn parsed_index(
        &self,
        location: &Location,
        fetched: &Fetched,
        options: &PullOptions,
    ) -> Result<ArchiveIndex, Error> {
        let layer = fetched.manifest.index();
        let action = || format!("reading the index of {location}");
        let cache = self.caches().indexes.as_ref().filter(|_| location.reference().is_some());
        let readable = cache.filter(|_| !self.skips_cache(options));
        if let Some(embedded) = fetched.manifest.embedded_index() {
            return self.parse(location, embedded.clone()).await;
        }
        if let Some(cached) = self.cached_index(location, readable, &layer.digest).await {
            return cached;
        }
        if self.is_offline() && location.reference().is_some() {
            return Err(offline(location, "index"));
        }
        let turn = if readable.is_some() { self.caches().index_turn(&layer.digest).await } else { None };
        if turn.as_ref().is_some_and(|turn| turn.waited)
            && let Some(cached) = self.cached_index(location, readable, &layer.digest).await
        {
            return cached;
        }
        note(options, "index");
        if options.reads_all && location.reference().is_some() {
            fetched.start_reading();
        }
        let (registry, repository) = (Arc::clone(&fetched.registry), fetched.repository.clone());
        let source = BlobSource::new(registry, repository, layer.digest, layer.size);
        let failed = |source| Error::Source { action: action(), source };
        if layer.size > LARGE_INDEX
            && fill(readable, &layer.digest, &source).await.map_err(failed)?
            && let Some(cached) = self.cached_index(location, readable, &layer.digest).await
        {
            return cached;
        }
        let bytes = source.read(0..layer.size).await.map_err(failed)?;
        let Some(parsed) = parse_and_hash(bytes.clone(), layer.digest, self.limits().index()).await else {
            let got = Digest::sha256_of(&bytes);
            let source = RegistryError::DigestMismatch { action: "its index".into(), expected: layer.digest, got };
            return Err(Error::Registry { action: format!("opening {location}"), source });
        };
        store(cache, &layer.digest, &bytes).await;
        drop(turn);
        parsed.map_err(|source| Error::Index { location: location.to_string(), source })
    }

    /// The index that `keeper` has under `digest`; `None` if it has none, or something else, which is dropped then.
    async fn cached_index(
        &self,
        location: &Location,
        keeper: Option<&Keeper>,
        digest: &Digest,
    ) -> Option<Result<ArchiveIndex, Error>> {
        let bytes = load_unverified(keeper?, digest, self.limits().max_index_bytes).await?;
        let Some(parsed) = parse_and_hash(bytes, *digest, self.limits().index()).await else {
            drop_damaged(keeper?, digest).await;
            return None;
        };
        Some(parsed.map_err(|source| Error::Index { location: location.to_string(), source }))
    }

    async fn parse(&self, location: &Location, bytes: Bytes) -> Result<ArchiveIndex, Error> {
        let index = parse(bytes, self.limits().index()).await;
        index.map_err(|source| Error::Index { location: location.to_string(), source })
    }

    /// Whether an operation asks the registry whatever the caches say. Offline there is nothing else to ask.
    fn skips_cache(&self, options: &PullOptions) -> bool {
        options.skip_cache && !self.is_offline()
    }

    fn assemble(
        &self,
        location: &Location,
        manifest: Trusted<ArchiveManifest>,
        index: Arc<ArchiveIndex>,
        source: Arc<dyn ByteSource>,
        options: &PullOptions,
    ) -> Result<Archive, Error> {
        let mut limits = ReadLimits::default();
        limits.decode = self.limits().decode();
        limits.max_file_bytes = self.limits().max_file_bytes;
        let mut read = ReadOptions::default();
        read.limits = limits;
        if !self.skips_cache(options) {
            read.alarm = self.caches().alarm.clone();
            read.cache.clone_from(&self.caches().contents);
            read.turns.clone_from(&self.caches().turns);
            read.flights = self.flights().clone();
        }
        let inner = blob_core::Archive::open(index, source, read)?;
        let location = location.clone();
        Ok(Archive { inner, manifest: Arc::new(manifest), location })
    }
}

fn offline(location: &Location, missing: &'static str) -> Error {
    Error::Offline { location: location.to_string(), missing }
}

/// Tells the watcher what is being fetched; cancelling is by dropping the future here.
fn note(options: &PullOptions, what: &str) {
    let progress: &dyn Progress = options.progress.as_deref().unwrap_or(&NoProgress);
    let _ = progress.event(&Event::Fetching { what });
}
