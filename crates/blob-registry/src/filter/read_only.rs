//! Nothing is written or deleted.

use super::prelude::*;

/// A registry of which one may only read: everything else is [`ErrorCode::Unsupported`].
#[derive(Clone, Debug)]
pub struct ReadOnly {
    inner: Arc<dyn Registry>,
}

impl ReadOnly {
    /// Lets only reads through to `inner`.
    pub fn new(inner: Arc<dyn Registry>) -> Self {
        Self { inner }
    }
}

fn refused<T>(action: String) -> Result<T> {
    Err(RegistryError::detailed(action, ErrorCode::Unsupported, "this registry is read-only"))
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for ReadOnly {
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
        refused(format!("pushing blob {repository}@{}", blob.digest))
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        refused(format!("starting an upload to {repository}"))
    }

    async fn resume_upload(&self, repository: &Repository, _: &UploadId) -> Result<Box<dyn Upload>> {
        refused(format!("resuming an upload to {repository}"))
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, _: Option<&Repository>) -> Result<Mount> {
        refused(format!("mounting {digest} to {repository}"))
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        refused(format!("pushing manifest {repository}@{}", manifest.digest))
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        refused(format!("deleting manifest {repository}@{digest}"))
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        refused(format!("deleting blob {repository}@{digest}"))
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        refused(format!("deleting tag {repository}:{tag}"))
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
