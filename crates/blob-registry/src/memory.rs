//! A registry in memory: for tests, and for what need not outlive the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blob_core::source::SourceId;
use blob_core::{Algorithm, ByteSource, ByteSourceExt as _, ByteStream, Digest, MemorySource};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;

use crate::descriptor::Descriptor;
use crate::error::{ErrorCode, RegistryError};
use crate::manifest::Outline;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{
    BlobReader, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob, PushedManifest, Registry,
    Upload, UploadId,
};
use crate::store;

mod upload;

use upload::{MemoryUpload, Sessions};

/// A registry whose content lives in this process, shared by all clones.
///
/// Blobs are held as [`Bytes`]: mounts and reads copy nothing. At most 1,024 upload sessions are open;
/// another one is refused, unless some were left alone for an hour.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use std::sync::Arc;
/// use blob_core::{ByteSource, MemorySource, Digest};
/// use blob_registry::{MemoryRegistry, PushBlob, Registry, Repository};
///
/// let registry = MemoryRegistry::new();
/// let repository = Repository::new("team/assets")?;
/// let digest = Digest::sha256_of(b"hello");
/// registry.push_blob(&repository, PushBlob::new(digest, Arc::new(MemorySource::new("hello")))).await?;
/// assert_eq!(registry.stat_blob(&repository, &digest).await?, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryRegistry {
    state: Arc<Mutex<State>>,
    sparse: bool,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<Repository, Contents>,
    sessions: Sessions,
}

#[derive(Default)]
struct Contents {
    blobs: HashMap<Digest, Bytes>,
    manifests: HashMap<Digest, Stored>,
    tags: BTreeMap<Tag, Digest>,
    /// Which manifests have this subject, by digest.
    referrers: HashMap<Digest, BTreeSet<Digest>>,
}

struct Stored {
    manifest: Manifest,
    outline: Outline,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes manifests whose blobs are not here, or refuses them, which is the default. Counts for this handle of the
    /// registry and clones of it.
    #[must_use]
    pub fn with_sparse(mut self, sparse: bool) -> Self {
        self.sparse = sparse;
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is made under the lock by code that does not panic half-way, so the state is whole even if
        // another thread panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl crate::filter::Usage for MemoryRegistry {
    async fn used(&self, repository: Option<&Repository>) -> Result<u64, RegistryError> {
        let state = self.lock();
        let wanted = |name: &Repository| repository.is_none_or(|wanted| wanted == name);
        let contents = state.repositories.iter().filter(|(name, _)| wanted(name)).map(|(_, contents)| contents);
        let kept = contents.flat_map(|contents| {
            let manifests = contents.manifests.values().map(|stored| stored.manifest.bytes.len());
            contents.blobs.values().map(Bytes::len).chain(manifests)
        });
        let kept: u64 = kept.map(|length| length as u64).sum();
        Ok(kept + state.sessions.used(wanted))
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("MemoryRegistry").field("repositories", &state.repositories.len()).finish_non_exhaustive()
    }
}

impl State {
    fn contents(&self, repository: &Repository, action: impl FnOnce() -> String) -> Result<&Contents, RegistryError> {
        self.repositories.get(repository).ok_or_else(|| RegistryError::code(action(), ErrorCode::NameUnknown))
    }

    fn contents_mut(
        &mut self,
        repository: &Repository,
        action: impl FnOnce() -> String,
    ) -> Result<&mut Contents, RegistryError> {
        self.repositories.get_mut(repository).ok_or_else(|| RegistryError::code(action(), ErrorCode::NameUnknown))
    }

    fn blob(&self, repository: &Repository, digest: &Digest) -> Result<&Bytes, RegistryError> {
        let action = || format!("reading blob {repository}@{digest}");
        let contents = self.contents(repository, action)?;
        contents.blobs.get(digest).ok_or_else(|| RegistryError::code(action(), ErrorCode::BlobUnknown))
    }

    fn stored(&self, repository: &Repository, target: &Target) -> Result<&Stored, RegistryError> {
        let action = || match target {
            Target::Tag(tag) => format!("reading manifest {repository}:{tag}"),
            Target::Digest(digest) => format!("reading manifest {repository}@{digest}"),
        };
        let contents = self.contents(repository, action)?;
        let digest = match target {
            Target::Tag(tag) => contents.tags.get(tag),
            Target::Digest(digest) => Some(digest),
        };
        let stored = digest.and_then(|digest| contents.manifests.get(digest));
        stored.ok_or_else(|| RegistryError::code(action(), ErrorCode::ManifestUnknown))
    }

    fn insert_blob(&mut self, repository: &Repository, digest: Digest, bytes: Bytes) {
        self.repositories.entry(repository.clone()).or_default().blobs.insert(digest, bytes);
    }
}

impl Contents {
    fn insert_manifest(&mut self, manifest: PushManifest, outline: Outline) {
        let size = manifest.bytes.len() as u64;
        let descriptor = Descriptor::new(manifest.media_type, manifest.digest, size);
        if let Some(subject) = &outline.subject {
            self.referrers.entry(subject.digest).or_default().insert(manifest.digest);
        }
        for tag in manifest.tags {
            self.tags.insert(tag, manifest.digest);
        }
        let stored = Stored { manifest: Manifest { descriptor, bytes: manifest.bytes }, outline };
        self.manifests.insert(manifest.digest, stored);
    }
}

/// Content of more bytes than this is hashed on a thread of its own.
const HASHED_HERE: usize = 256 << 10;

/// The digest of `bytes`. Others of the runtime go on meanwhile.
async fn hash(algorithm: Algorithm, bytes: Bytes) -> Digest {
    if bytes.len() > HASHED_HERE
        && let Ok(runtime) = Handle::try_current()
    {
        let content = bytes.clone();
        if let Ok(digest) = runtime.spawn_blocking(move || Digest::of(algorithm, &content)).await {
            return digest;
        }
    }
    // It is little, there is no such runtime, or it is coming to its end.
    Digest::of(algorithm, &bytes)
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError> {
        Ok(self.lock().stored(repository, target)?.manifest.descriptor.clone())
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest, RegistryError> {
        Ok(self.lock().stored(repository, target)?.manifest.clone())
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        Ok(self.lock().blob(repository, digest)?.len() as u64)
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        let bytes = self.lock().blob(repository, digest)?.clone();
        let size = bytes.len() as u64;
        let range = range.unwrap_or(0..size);
        if !blob_core::range::fits(&range, size) {
            let action = format!("reading blob {repository}@{digest}");
            return Err(store::bad_range(action, range.start, range.end, size));
        }
        let part = bytes.slice(range.start as usize..range.end as usize);
        let stream: ByteStream = stream::iter((!part.is_empty()).then_some(Ok(part))).boxed();
        Ok(BlobReader { size, range, stream, ranged: true })
    }

    async fn local_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        let bytes = self.lock().blob(repository, digest)?.clone();
        Ok(Some(Arc::new(MemorySource::with_id(bytes, SourceId::from(*digest)))))
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob, RegistryError> {
        let action = format!("pushing blob {repository}@{}", blob.digest);
        let size = blob.source.size();
        if !blob.known_absent && self.lock().blob(repository, &blob.digest).is_ok() {
            store::report_existing(&blob, &action)?;
            return Ok(PushedBlob::Existing);
        }
        for from in &blob.mount_from {
            if let Ok(Mount::Mounted) = self.mount(repository, &blob.digest, Some(from)) {
                store::report_existing(&blob, &action)?;
                return Ok(PushedBlob::Mounted);
            }
        }
        let read = blob.source.read(0..size).await;
        let bytes = read.map_err(|source| RegistryError::Source { action: action.clone(), source })?;
        let got = hash(blob.digest.algorithm(), bytes.clone()).await;
        if got != blob.digest {
            return Err(RegistryError::DigestMismatch { action, expected: blob.digest, got });
        }
        store::report_sent(&blob, size, &action)?;
        self.lock().insert_blob(repository, blob.digest, bytes);
        Ok(PushedBlob::Uploaded)
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
        self.start(repository)
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>, RegistryError> {
        let action = || format!("resuming an upload to {repository}");
        let offset = self.lock().sessions.find(repository, id, action)?.len() as u64;
        Ok(Box::new(MemoryUpload::new(self.clone(), repository.clone(), id.clone(), offset)))
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<Mount, RegistryError> {
        self.mount(repository, digest, from)
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: PushManifest,
    ) -> Result<PushedManifest, RegistryError> {
        let outline = store::check_manifest(repository, &manifest)?;
        let empty = Contents::default();
        let mut state = self.lock();
        let contents = state.repositories.get(repository).unwrap_or(&empty);
        for needed in store::needed(&outline, self.sparse) {
            if !contents.blobs.contains_key(&needed) {
                return Err(store::missing(repository, &manifest.digest, &needed));
            }
        }
        for tag in &manifest.tags {
            store::check_condition(repository, tag, contents.tags.get(tag), &manifest)?;
        }
        let pushed = PushedManifest::new(manifest.digest, outline.subject.as_ref().map(|subject| subject.digest));
        state.repositories.entry(repository.clone()).or_default().insert_manifest(manifest, outline);
        Ok(pushed)
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let action = || format!("deleting manifest {repository}@{digest}");
        let mut state = self.lock();
        let contents = state.contents_mut(repository, action)?;
        let Some(stored) = contents.manifests.remove(digest) else {
            return Err(RegistryError::code(action(), ErrorCode::ManifestUnknown));
        };
        contents.tags.retain(|_, target| target != digest);
        if let Some(subject) = stored.outline.subject
            && let Some(list) = contents.referrers.get_mut(&subject.digest)
        {
            list.remove(digest);
            if list.is_empty() {
                contents.referrers.remove(&subject.digest);
            }
        }
        Ok(())
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let action = || format!("deleting blob {repository}@{digest}");
        let gone = self.lock().contents_mut(repository, action)?.blobs.remove(digest);
        gone.map(drop).ok_or_else(|| RegistryError::code(action(), ErrorCode::BlobUnknown))
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), RegistryError> {
        let action = || format!("deleting tag {repository}:{tag}");
        let gone = self.lock().contents_mut(repository, action)?.tags.remove(tag);
        gone.map(drop).ok_or_else(|| RegistryError::code(action(), ErrorCode::ManifestUnknown))
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>, RegistryError> {
        let state = self.lock();
        let contents = state.contents(repository, || format!("listing the tags of {repository}"))?;
        let page = store::page(contents.tags.keys(), page, ToString::to_string);
        Ok(Page::new(page.items.into_iter().cloned().collect(), page.next))
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>, RegistryError> {
        let state = self.lock();
        let Some(contents) = state.repositories.get(repository) else { return Ok(Page::new(Vec::new(), None)) };
        let found = contents.referrers.get(subject).into_iter().flatten().filter_map(|digest| {
            let stored = contents.manifests.get(digest)?;
            let wanted = artifact_type.is_none_or(|kind| stored.outline.artifact_type.as_deref() == Some(kind));
            wanted.then_some(stored)
        });
        let page = store::page(found, page, |stored| stored.manifest.descriptor.digest.to_string());
        let entry = |stored: &Stored| store::referrer(&stored.manifest.descriptor, stored.outline.clone());
        Ok(Page::new(page.items.into_iter().map(entry).collect(), page.next))
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>, RegistryError> {
        let state = self.lock();
        let page = store::page(state.repositories.keys(), page, ToString::to_string);
        Ok(Page::new(page.items.into_iter().cloned().collect(), page.next))
    }
}

impl MemoryRegistry {
    fn start(&self, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
        let id = self.lock().sessions.open(repository)?;
        Ok(Box::new(MemoryUpload::new(self.clone(), repository.clone(), id, 0)))
    }

    fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<Mount, RegistryError> {
        let mut state = self.lock();
        let found = match from {
            Some(from) => state.repositories.get(from).and_then(|contents| contents.blobs.get(digest)),
            None => state.repositories.values().find_map(|contents| contents.blobs.get(digest)),
        };
        if let Some(bytes) = found.cloned() {
            state.insert_blob(repository, *digest, bytes);
            return Ok(Mount::Mounted);
        }
        drop(state);
        Ok(Mount::Session(self.start(repository)?))
    }
}
