//! Nothing over a size comes in.

use bytes::Bytes;

use super::prelude::*;
use crate::registry::MAX_MANIFEST_BYTES;

/// The largest things that may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Largest blob in bytes; no limit by default.
    pub blob: u64,
    /// Largest manifest in bytes; [`MAX_MANIFEST_BYTES`] by default.
    pub manifest: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { blob: u64::MAX, manifest: MAX_MANIFEST_BYTES }
    }
}

/// A registry that takes nothing over a size: [`RegistryError::TooLarge`] before the bytes go through. What is there,
/// and what is mounted, may be larger.
#[derive(Clone, Debug)]
pub struct Limit {
    inner: Arc<dyn Registry>,
    sizes: Sizes,
}

impl Limit {
    /// Lets nothing over `sizes` in to `inner`.
    pub fn new(inner: Arc<dyn Registry>, sizes: Sizes) -> Self {
        Self { inner, sizes }
    }

    fn bounded(&self, repository: &Repository, inner: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(Bounded { inner, repository: repository.clone(), limit: self.sizes.blob })
    }
}

fn check(action: impl FnOnce() -> String, size: u64, limit: u64) -> Result<()> {
    if size <= limit { Ok(()) } else { Err(RegistryError::TooLarge { action: action(), size, limit }) }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Limit {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.inner.resolve(repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.inner.manifest(repository, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        self.inner.stat_blob(repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        self.inner.read_blob(repository, digest, range).await
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        self.inner.local_blob(repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        let action = || format!("pushing blob {repository}@{}", blob.digest);
        check(action, blob.source.size(), self.sizes.blob)?;
        self.inner.push_blob(repository, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        Ok(self.bounded(repository, self.inner.start_upload(repository).await?))
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        Ok(self.bounded(repository, self.inner.resume_upload(repository, id).await?))
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        Ok(match self.inner.mount_blob(repository, digest, from).await? {
            Mount::Mounted => Mount::Mounted,
            Mount::Session(upload) => Mount::Session(self.bounded(repository, upload)),
        })
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        let action = || format!("pushing manifest {repository}@{}", manifest.digest);
        check(action, manifest.bytes.len() as u64, self.sizes.manifest)?;
        self.inner.push_manifest(repository, manifest).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.inner.delete_manifest(repository, digest).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.inner.delete_blob(repository, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.inner.delete_tag(repository, tag).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.inner.tags(repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        self.inner.referrers(repository, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        self.inner.repositories(page).await
    }
}

/// An upload session that stops at the limit.
struct Bounded {
    inner: Box<dyn Upload>,
    repository: Repository,
    limit: u64,
}

#[async_trait]
impl Upload for Bounded {
    fn id(&self) -> UploadId {
        self.inner.id()
    }

    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let size = self.inner.offset().saturating_add(bytes.len() as u64);
        check(|| format!("uploading to {}", self.repository), size, self.limit)?;
        self.inner.append(bytes).await
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<()> {
        // A session may have been opened without this limit.
        check(|| format!("uploading to {}", self.repository), self.inner.offset(), self.limit)?;
        self.inner.commit(digest).await
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.inner.cancel().await
    }
}
