//! A registry behind the trait that lies about some of its content.
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blob_core::{ByteSource, ByteStream, Digest};
use blob_registry::{
    BlobReader, Descriptor, ErrorCode, Manifest, MemoryRegistry, Page, PageRequest, PushBlob, PushManifest, PushedBlob,
    PushedManifest, Registry, RegistryError, Repository, Tag, Target, Upload, UploadId,
};
use bytes::Bytes;

/// What a [`Hostile`] registry says when asked for referrers.
#[derive(Clone, Debug, Default)]
pub enum Referrers {
    /// What is so.
    #[default]
    Honest,
    /// These, whatever was asked.
    These(Vec<Descriptor>),
    /// So many of one, on pages of a thousand.
    Many(Box<Descriptor>, usize),
    /// A page after every page.
    Endless,
    /// An error.
    Fail(ErrorCode),
}

/// An honest registry behind lies. It has no API but the trait, so a server in front of it puts the lies on the wire.
#[derive(Debug, Default)]
pub struct Hostile {
    /// What it would say if it were honest; what is pushed goes there.
    pub inner: Arc<MemoryRegistry>,
    /// What it says when asked for referrers.
    pub referrers: Mutex<Referrers>,
    /// Manifests by digest, as they are served instead, from the given request on.
    pub manifests: Mutex<HashMap<Digest, (usize, Bytes)>>,
    /// Blobs by digest, as they are served instead.
    pub blobs: Mutex<HashMap<Digest, Bytes>>,
    /// How often each manifest was asked for.
    asked: Mutex<HashMap<Digest, usize>>,
}

#[async_trait]
impl Registry for Hostile {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError> {
        self.inner.resolve(repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest, RegistryError> {
        let mut manifest = self.inner.manifest(repository, target).await?;
        let digest = manifest.descriptor.digest;
        let times = {
            let mut asked = locked(&self.asked);
            let times = asked.entry(digest).or_default();
            *times += 1;
            *times
        };
        if let Some((from, bytes)) = locked(&self.manifests).get(&digest)
            && times >= *from
        {
            manifest.bytes = bytes.clone();
            manifest.descriptor.size = bytes.len() as u64;
        }
        Ok(manifest)
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        self.inner.stat_blob(repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        let lie = locked(&self.blobs).get(digest).cloned();
        let Some(bytes) = lie else { return self.inner.read_blob(repository, digest, range).await };
        let size = bytes.len() as u64;
        let range = range.unwrap_or(0..size);
        let range = range.start.min(size)..range.end.min(size);
        let slice = bytes.slice(range.start as usize..range.end as usize);
        let stream: ByteStream = Box::pin(futures_util::stream::iter([Ok(slice)]));
        Ok(BlobReader { size, range, stream, ranged: true })
    }

    async fn local_blob(&self, _: &Repository, _: &Digest) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        Ok(None)
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob, RegistryError> {
        self.inner.push_blob(repository, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
        self.inner.start_upload(repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>, RegistryError> {
        self.inner.resume_upload(repository, id).await
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: PushManifest,
    ) -> Result<PushedManifest, RegistryError> {
        self.inner.push_manifest(repository, manifest).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>, RegistryError> {
        self.inner.tags(repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>, RegistryError> {
        let lie = locked(&self.referrers).clone();
        let at: usize = page.after.as_deref().and_then(|token| token.parse().ok()).unwrap_or(0);
        Ok(match lie {
            Referrers::Honest => return self.inner.referrers(repository, subject, artifact_type, page).await,
            Referrers::These(items) => Page::new(items, None),
            Referrers::Many(one, count) => {
                let end = (at + 1000).min(count);
                Page::new(vec![*one; end - at], (end < count).then(|| end.to_string()))
            }
            Referrers::Endless => Page::new(Vec::new(), Some((at + 1).to_string())),
            Referrers::Fail(code) => return Err(RegistryError::code("listing referrers", code)),
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
