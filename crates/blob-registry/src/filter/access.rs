//! A function decides about every call.

use super::prelude::*;

/// What a call wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    /// Read content that is named: manifests, tags, blobs.
    Read,
    /// Push, upload, mount, tag.
    Write,
    /// Delete a manifest, a blob or a tag.
    Delete,
    /// List tags, referrers or repositories.
    List,
}

type Check = dyn Fn(AccessKind, Option<&Repository>) -> Result<()> + Send + Sync;

/// A registry in front of which a function decides: what it answers for a call is what the caller gets, if it is an
/// error.
///
/// It is asked with the repository, or with `None` about all of them: `List` of all is the list of repositories, `Read`
/// of all a mount from wherever the blob may be. A mount needs `Write` here and `Read` there; without the latter it
/// opens an upload session.
///
/// Every method of the trait has its kind here; none is let through unasked.
///
/// ```
/// use std::sync::Arc;
/// use blob_registry::filter::{Access, AccessKind};
/// use blob_registry::{ErrorCode, MemoryRegistry, RegistryError};
///
/// let writers_only_in_team = Access::new(Arc::new(MemoryRegistry::new()), |kind, repository| match kind {
///     AccessKind::Read | AccessKind::List => Ok(()),
///     _ if repository.is_some_and(|name| name.as_str().starts_with("team/")) => Ok(()),
///     _ => Err(RegistryError::code("asking the rules", ErrorCode::Denied)),
/// });
/// ```
#[derive(Clone)]
pub struct Access {
    inner: Arc<dyn Registry>,
    check: Arc<Check>,
}

impl Access {
    /// Asks `check` before every call to `inner`. It is called often, and must not block.
    pub fn new(
        inner: Arc<dyn Registry>,
        check: impl Fn(AccessKind, Option<&Repository>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, check: Arc::new(check) }
    }

    fn ask(&self, kind: AccessKind, repository: &Repository) -> Result<()> {
        (self.check)(kind, Some(repository))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Access {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.ask(AccessKind::Read, repository)?;
        self.inner.resolve(repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.ask(AccessKind::Read, repository)?;
        self.inner.manifest(repository, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        self.ask(AccessKind::Read, repository)?;
        self.inner.stat_blob(repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        self.ask(AccessKind::Read, repository)?;
        self.inner.read_blob(repository, digest, range).await
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        self.ask(AccessKind::Read, repository)?;
        self.inner.local_blob(repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, mut blob: PushBlob) -> Result<PushedBlob> {
        self.ask(AccessKind::Write, repository)?;
        blob.mount_from.retain(|from| self.ask(AccessKind::Read, from).is_ok());
        self.inner.push_blob(repository, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        self.ask(AccessKind::Write, repository)?;
        self.inner.start_upload(repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        self.ask(AccessKind::Write, repository)?;
        self.inner.resume_upload(repository, id).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        self.ask(AccessKind::Write, repository)?;
        if (self.check)(AccessKind::Read, from).is_ok() {
            return self.inner.mount_blob(repository, digest, from).await;
        }
        Ok(Mount::Session(self.inner.start_upload(repository).await?))
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        self.ask(AccessKind::Write, repository)?;
        self.inner.push_manifest(repository, manifest).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.ask(AccessKind::Delete, repository)?;
        self.inner.delete_manifest(repository, digest).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.ask(AccessKind::Delete, repository)?;
        self.inner.delete_blob(repository, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.ask(AccessKind::Delete, repository)?;
        self.inner.delete_tag(repository, tag).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.ask(AccessKind::List, repository)?;
        self.inner.tags(repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        self.ask(AccessKind::List, repository)?;
        self.inner.referrers(repository, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        (self.check)(AccessKind::List, None)?;
        self.inner.repositories(page).await
    }
}
