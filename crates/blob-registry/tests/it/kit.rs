//! What the tests of wrappers share: content, and a registry that counts, fails and waits on command.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use blob_core::{ByteSource, Digest, MemorySource};
use blob_registry::{
    BlobReader, Descriptor, ErrorCode, ImageManifest, Manifest, MemoryRegistry, Mount, Page, PageRequest, PushBlob,
    PushManifest, PushedBlob, PushedManifest, Registry, RegistryError, Repository, Tag, Target, Upload, UploadId,
    media_type,
};
use futures_util::TryStreamExt as _;

pub(crate) type Result<T> = std::result::Result<T, RegistryError>;

pub(crate) fn repository(name: &str) -> Repository {
    Repository::new(name).unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

pub(crate) fn memory() -> Arc<dyn Registry> {
    Arc::new(MemoryRegistry::new())
}

/// A push of `content` as a blob.
pub(crate) fn blob(content: &str) -> PushBlob {
    PushBlob::new(Digest::sha256_of(content.as_bytes()), Arc::new(MemorySource::new(content.to_owned())))
}

/// Stores `content` as a blob.
pub(crate) async fn put(registry: &dyn Registry, name: &str, content: &str) -> Digest {
    let push = blob(content);
    let digest = push.digest;
    registry.push_blob(&repository(name), push).await.unwrap();
    digest
}

/// A push of a manifest with one layer.
pub(crate) fn artifact(layer: &str, subject: Option<&PushManifest>) -> PushManifest {
    let mut manifest =
        ImageManifest::artifact("application/vnd.test", vec![Descriptor::of("text/plain", layer.as_bytes())]);
    manifest.subject = subject.map(descriptor);
    PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes())
}

pub(crate) fn descriptor(push: &PushManifest) -> Descriptor {
    Descriptor::new(push.media_type.clone(), push.digest, push.bytes.len() as u64)
}

/// Stores an artifact with its blobs.
pub(crate) async fn put_artifact(registry: &dyn Registry, name: &str, layer: &str, tags: &[&str]) -> PushManifest {
    put(registry, name, "{}").await;
    put(registry, name, layer).await;
    let push = artifact(layer, None).with_tags(tags.iter().map(|text| tag(text)));
    registry.push_manifest(&repository(name), push.clone()).await.unwrap();
    push
}

pub(crate) async fn read(registry: &dyn Registry, name: &str, digest: &Digest) -> String {
    let reader = registry.read_blob(&repository(name), digest, None).await.unwrap();
    let bytes: Vec<u8> = reader.stream.try_collect::<Vec<_>>().await.unwrap().concat();
    String::from_utf8(bytes).unwrap()
}

/// Every repository, page by page.
pub(crate) async fn every_repository(registry: &dyn Registry, limit: Option<usize>) -> Vec<String> {
    let (mut all, mut request) = (Vec::new(), PageRequest::first());
    request.limit = limit;
    loop {
        let page = registry.repositories(&request).await.unwrap();
        assert!(limit.is_none_or(|limit| page.items.len() <= limit), "a page is no longer than its limit");
        all.extend(page.items.iter().map(ToString::to_string));
        let Some(next) = page.next else { return all };
        assert!(request.after.as_ref().is_none_or(|before| *before < next), "pages go on");
        request.after = Some(next);
    }
}

/// Every tag, page by page.
pub(crate) async fn every_tag(registry: &dyn Registry, name: &str, limit: Option<usize>) -> Vec<String> {
    let (mut all, mut request) = (Vec::new(), PageRequest::first());
    request.limit = limit;
    loop {
        let page = registry.tags(&repository(name), &request).await.unwrap();
        assert!(limit.is_none_or(|limit| page.items.len() <= limit), "a page is no longer than its limit");
        all.extend(page.items.iter().map(ToString::to_string));
        let Some(next) = page.next else { return all };
        request.after = Some(next);
    }
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().error_code()
}

/// A registry that counts its calls, and does on command what registries do at bad times.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    inner: Arc<dyn Registry>,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    calls: BTreeMap<&'static str, usize>,
    fails_with: Option<ErrorCode>,
    delays: BTreeMap<&'static str, Duration>,
    not_local: bool,
    pushes_left: Option<usize>,
    claims_blobs: bool,
    keeps_nothing: bool,
    claims_manifest: Option<Digest>,
    listed: Vec<Descriptor>,
}

impl Scripted {
    pub(crate) fn new(inner: Arc<dyn Registry>) -> Self {
        Self { inner, script: Arc::default() }
    }

    /// Like a registry far away: it has no local blobs.
    pub(crate) fn remote(inner: Arc<dyn Registry>) -> Self {
        let scripted = Self::new(inner);
        scripted.script.lock().unwrap().not_local = true;
        scripted
    }

    pub(crate) fn fail_with(&self, code: Option<ErrorCode>) {
        self.script.lock().unwrap().fails_with = code;
    }

    /// Says of every blob that it is there, unless it is sent without a question.
    pub(crate) fn claim_blobs(&self) {
        self.script.lock().unwrap().claims_blobs = true;
    }

    /// Takes each manifest at every third try alone, and says before that it lacks what is named.
    pub(crate) fn keep_nothing(&self) {
        self.script.lock().unwrap().keeps_nothing = true;
    }

    /// Says of this manifest that it is there.
    pub(crate) fn claim_manifest(&self, digest: Digest) {
        self.script.lock().unwrap().claims_manifest = Some(digest);
    }

    /// Lists this among all referrers.
    pub(crate) fn list_referrer(&self, listed: Descriptor) {
        self.script.lock().unwrap().listed.push(listed);
    }

    /// Lets this many more pushes of blobs and manifests through.
    pub(crate) fn fail_pushes_after(&self, count: Option<usize>) {
        self.script.lock().unwrap().pushes_left = count;
    }

    pub(crate) fn delay(&self, call: &'static str, by: Duration) {
        self.script.lock().unwrap().delays.insert(call, by);
    }

    /// How often `call` was called since the last time it was asked for.
    pub(crate) fn take(&self, call: &str) -> usize {
        self.script.lock().unwrap().calls.get_mut(call).map_or(0, std::mem::take)
    }

    /// How often anything was.
    pub(crate) fn take_all(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut self.script.lock().unwrap().calls)
    }

    async fn note(&self, call: &'static str) -> Result<()> {
        let (delay, failure) = {
            let mut script = self.script.lock().unwrap();
            *script.calls.entry(call).or_default() += 1;
            let mut failure = script.fails_with;
            if call.starts_with("push_")
                && let Some(left) = &mut script.pushes_left
            {
                match left.checked_sub(1) {
                    Some(fewer) => *left = fewer,
                    None => failure = Some(ErrorCode::TooManyRequests),
                }
            }
            (script.delays.get(call).copied(), failure)
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        failure.map_or(Ok(()), |code| Err(RegistryError::code(format!("scripted {call}"), code)))
    }
}

#[async_trait]
impl Registry for Scripted {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.note("resolve").await?;
        let claimed = self.script.lock().unwrap().claims_manifest;
        if let Some(digest) = claimed.filter(|digest| Target::Digest(*digest) == *target) {
            return Ok(Descriptor::new(media_type::IMAGE_MANIFEST, digest, 1));
        }
        self.inner.resolve(repository, target).await
    }
    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.note("manifest").await?;
        self.inner.manifest(repository, target).await
    }
    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        self.note("stat_blob").await?;
        self.inner.stat_blob(repository, digest).await
    }
    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        self.note("read_blob").await?;
        self.inner.read_blob(repository, digest, range).await
    }
    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        if self.script.lock().unwrap().not_local {
            return Ok(None);
        }
        self.note("local_blob").await?;
        self.inner.local_blob(repository, digest).await
    }
    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        self.note("push_blob").await?;
        if self.script.lock().unwrap().claims_blobs && !blob.known_absent {
            return Ok(PushedBlob::Existing);
        }
        self.inner.push_blob(repository, blob).await
    }
    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        self.note("start_upload").await?;
        self.inner.start_upload(repository).await
    }
    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        self.note("resume_upload").await?;
        self.inner.resume_upload(repository, id).await
    }
    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        self.note("mount_blob").await?;
        self.inner.mount_blob(repository, digest, from).await
    }
    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        self.note("push_manifest").await?;
        let refused = {
            let script = self.script.lock().unwrap();
            script.keeps_nothing && !script.calls["push_manifest"].is_multiple_of(3)
        };
        if refused {
            return Err(RegistryError::code("scripted push_manifest", ErrorCode::ManifestBlobUnknown));
        }
        self.inner.push_manifest(repository, manifest).await
    }
    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.note("delete_manifest").await?;
        self.inner.delete_manifest(repository, digest).await
    }
    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.note("delete_blob").await?;
        self.inner.delete_blob(repository, digest).await
    }
    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.note("delete_tag").await?;
        self.inner.delete_tag(repository, tag).await
    }
    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.note("tags").await?;
        self.inner.tags(repository, page).await
    }
    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        self.note("referrers").await?;
        let mut found = self.inner.referrers(repository, subject, artifact_type, page).await?;
        found.items.extend(self.script.lock().unwrap().listed.clone());
        Ok(found)
    }
    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        self.note("repositories").await?;
        self.inner.repositories(page).await
    }
}
