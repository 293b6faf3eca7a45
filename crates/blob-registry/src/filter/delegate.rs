//! Other registries below names of this one.

use super::prelude::*;

/// A registry in which the repositories below some names are those of other registries: the reverse of
/// [`Prefix`](super::Prefix). With `docker.io` for another registry, `docker.io/library/alpine` here is its
/// `library/alpine`; it is asked for nothing else, and nobody else is asked for that.
///
/// Mounts between two registries open an upload session; the list of repositories is that of the first registry. Errors name
/// repositories as the registry behind does.
#[derive(Clone, Debug)]
pub struct Delegate {
    rest: Arc<dyn Registry>,
    below: Vec<(Repository, Arc<dyn Registry>)>,
}

impl Delegate {
    /// Asks `rest` for everything.
    pub fn new(rest: Arc<dyn Registry>) -> Self {
        Self { rest, below: Vec::new() }
    }

    /// The same, asking `registry` for what is below `name`. Of names below one another the longest counts.
    #[must_use]
    pub fn with(mut self, name: Repository, registry: Arc<dyn Registry>) -> Self {
        self.below.push((name, registry));
        self.below.sort_by_key(|(name, _)| std::cmp::Reverse(name.as_str().len()));
        self
    }

    /// Whom to ask about `repository`, what it is called there, and which of the registries that is.
    fn of(&self, repository: &Repository) -> (&Arc<dyn Registry>, Repository, usize) {
        for (at, (name, registry)) in self.below.iter().enumerate() {
            let inside = repository.as_str().strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('/'));
            if let Some(Ok(inside)) = inside.map(Repository::new) {
                return (registry, inside, at + 1);
            }
        }
        (&self.rest, repository.clone(), 0)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Delegate {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        let (registry, repository, _) = self.of(repository);
        registry.resolve(&repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        let (registry, repository, _) = self.of(repository);
        registry.manifest(&repository, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let (registry, repository, _) = self.of(repository);
        registry.stat_blob(&repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        let (registry, repository, _) = self.of(repository);
        registry.read_blob(&repository, digest, range).await
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        let (registry, repository, _) = self.of(repository);
        registry.local_blob(&repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, mut blob: PushBlob) -> Result<PushedBlob> {
        let (registry, repository, place) = self.of(repository);
        let sources = std::mem::take(&mut blob.mount_from).into_iter().map(|from| self.of(&from));
        blob.mount_from = sources.filter(|(_, _, at)| *at == place).map(|(_, from, _)| from).collect();
        registry.push_blob(&repository, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        let (registry, repository, _) = self.of(repository);
        registry.start_upload(&repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        let (registry, repository, _) = self.of(repository);
        registry.resume_upload(&repository, id).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        let (registry, repository, place) = self.of(repository);
        match from.map(|from| self.of(from)) {
            Some((_, _, other)) if other != place => Ok(Mount::Session(registry.start_upload(&repository).await?)),
            Some((_, from, _)) => registry.mount_blob(&repository, digest, Some(&from)).await,
            None => registry.mount_blob(&repository, digest, None).await,
        }
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        let (registry, repository, _) = self.of(repository);
        registry.push_manifest(&repository, manifest).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let (registry, repository, _) = self.of(repository);
        registry.delete_manifest(&repository, digest).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let (registry, repository, _) = self.of(repository);
        registry.delete_blob(&repository, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        let (registry, repository, _) = self.of(repository);
        registry.delete_tag(&repository, tag).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        let (registry, repository, _) = self.of(repository);
        registry.tags(&repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let (registry, repository, _) = self.of(repository);
        registry.referrers(&repository, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        self.rest.repositories(page).await
    }
}
