//! The repositories below a name, as if it were the root.

use super::catalog::{self, Verdict};
use super::prelude::*;

/// The part of a registry that is below a prefix: `Prefix` of `team` calls `team/assets` `assets`.
///
/// What is not below the prefix cannot be named, so it can neither be read nor mounted from. Errors name repositories
/// as the registry behind does, with the prefix.
#[derive(Clone, Debug)]
pub struct Prefix {
    inner: Arc<dyn Registry>,
    prefix: Repository,
}

impl Prefix {
    /// Shows what `inner` has below `prefix`.
    pub fn new(inner: Arc<dyn Registry>, prefix: Repository) -> Self {
        Self { inner, prefix }
    }

    fn whole(&self, repository: &Repository) -> Result<Repository> {
        let name = format!("{}/{repository}", self.prefix);
        Repository::new(&name).map_err(|error| {
            let action = format!("naming {repository} below {}", self.prefix);
            RegistryError::detailed(action, ErrorCode::NameInvalid, error.to_string())
        })
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Prefix {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.inner.resolve(&self.whole(repository)?, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.inner.manifest(&self.whole(repository)?, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        self.inner.stat_blob(&self.whole(repository)?, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        self.inner.read_blob(&self.whole(repository)?, digest, range).await
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        self.inner.local_blob(&self.whole(repository)?, digest).await
    }

    async fn push_blob(&self, repository: &Repository, mut blob: PushBlob) -> Result<PushedBlob> {
        // A name that is too long with the prefix holds nothing to mount.
        blob.mount_from = blob.mount_from.iter().filter_map(|from| self.whole(from).ok()).collect();
        self.inner.push_blob(&self.whole(repository)?, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        self.inner.start_upload(&self.whole(repository)?).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        self.inner.resume_upload(&self.whole(repository)?, id).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        let repository = self.whole(repository)?;
        let Some(from) = from else {
            // From anywhere would be from outside the prefix too.
            return Ok(Mount::Session(self.inner.start_upload(&repository).await?));
        };
        self.inner.mount_blob(&repository, digest, Some(&self.whole(from)?)).await
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        self.inner.push_manifest(&self.whole(repository)?, manifest).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.inner.delete_manifest(&self.whole(repository)?, digest).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        self.inner.delete_blob(&self.whole(repository)?, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.inner.delete_tag(&self.whole(repository)?, tag).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.inner.tags(&self.whole(repository)?, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        self.inner.referrers(&self.whole(repository)?, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        let below = format!("{}/", self.prefix);
        let after = format!("{below}{}", page.after.as_deref().unwrap_or_default());
        catalog::scan(&*self.inner, page.limit, Some(after), |repository| {
            match repository.as_str().strip_prefix(&below).map(Repository::new) {
                Some(Ok(name)) => Verdict::Keep(name),
                _ if *repository.as_str() > *below => Verdict::Stop,
                _ => Verdict::Skip,
            }
        })
        .await
    }
}
