//! Some repositories are not there.

use super::catalog::{self, Verdict};
use super::prelude::*;

/// A registry of which some repositories are hidden.
///
/// A hidden repository is unknown to whoever reads, lists or deletes ([`ErrorCode::NameUnknown`]), denied to whoever
/// writes ([`ErrorCode::Denied`]), left out of the list of repositories, and no source of mounts: a mount from it, or
/// from anywhere, opens an upload session instead.
#[derive(Clone)]
pub struct Select {
    inner: Arc<dyn Registry>,
    visible: Arc<dyn Fn(&Repository) -> bool + Send + Sync>,
}

impl Select {
    /// Shows the repositories of `inner` for which `visible` holds. It is called often, and must not block.
    pub fn new(inner: Arc<dyn Registry>, visible: impl Fn(&Repository) -> bool + Send + Sync + 'static) -> Self {
        Self { inner, visible: Arc::new(visible) }
    }

    fn known(&self, repository: &Repository) -> Result<()> {
        if (self.visible)(repository) {
            return Ok(());
        }
        Err(RegistryError::code(format!("looking for {repository}"), ErrorCode::NameUnknown))
    }

    fn writable(&self, repository: &Repository) -> Result<()> {
        if (self.visible)(repository) {
            return Ok(());
        }
        Err(RegistryError::code(format!("writing to {repository}"), ErrorCode::Denied))
    }
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Select {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.known(repository)?;
        self.inner.resolve(repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.known(repository)?;
        self.inner.manifest(repository, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        self.known(repository)?;
        self.inner.stat_blob(repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        self.known(repository)?;
        self.inner.read_blob(repository, digest, range).await
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        self.known(repository)?;
        self.inner.local_blob(repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, mut blob: PushBlob) -> Result<PushedBlob> {
        self.writable(repository)?;
        blob.mount_from.retain(|from| (self.visible)(from));
        self.inner.push_blob(repository, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        self.writable(repository)?;
        self.inner.start_upload(repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        self.writable(repository)?;
        self.inner.resume_upload(repository, id).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        self.writable(repository)?;
        match from.filter(|from| (self.visible)(from)) {
            Some(from) => self.inner.mount_blob(repository, digest, Some(from)).await,
            None => Ok(Mount::Session(self.inner.start_upload(repository).await?)),
        }
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        self.writable(repository)?;
        self.inner.push_manifest(repository, manifest).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.known(repository)?;
        self.inner.delete_manifest(repository, digest).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.known(repository)?;
        self.inner.delete_blob(repository, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.known(repository)?;
        self.inner.delete_tag(repository, tag).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.known(repository)?;
        self.inner.tags(repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        self.known(repository)?;
        self.inner.referrers(repository, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        catalog::scan(&*self.inner, page.limit, page.after.clone(), |repository| {
            if (self.visible)(&repository) { Verdict::Keep(repository) } else { Verdict::Skip }
        })
        .await
    }
}
