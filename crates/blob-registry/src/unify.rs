//! Several registries as one: mirrors, fallbacks, and caches that fill themselves.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use blob_core::{ByteSource, Digest};

use crate::descriptor::Descriptor;
use crate::error::RegistryError;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{
    BlobReader, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob, PushedManifest, Registry,
    Upload, UploadId,
};

mod fill;
mod health;
mod list;
mod progress;
mod read;
mod upload;
mod write;

use fill::Filling;
use health::Health;

type Result<T> = std::result::Result<T, RegistryError>;

/// In which order the registries are asked for content by digest, which is the same wherever it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadPolicy {
    /// One after the other, in their order, until one has it.
    #[default]
    Sequential,
    /// All at once; the first answer counts and the others are dropped.
    Race,
    /// One after the other, beginning anywhere, so that they share the load.
    Random,
}

/// Whose word counts for what a tag points at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagPolicy {
    /// The first registry's that knows the tag.
    #[default]
    First,
    /// The last registry's that knows the tag: for a cache in front of its origin, whose own tags may be old.
    Last,
    /// The first registry's that knows the tag; one that cannot be asked is an error, not a reason to ask the next: for
    /// registries of different people.
    Strict,
    /// All that know it must agree; else [`RegistryError::Conflict`].
    Agree,
}

/// Where writes and deletions go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WritePolicy {
    /// To the first registry only.
    #[default]
    First,
    /// To all. If only some take it, that is [`RegistryError::Partial`]; doing it again completes it.
    All,
}

/// How a [`Unify`] works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnifyOptions {
    /// The order of reads by digest.
    pub read: ReadPolicy,
    /// Whose tags count.
    pub tags: TagPolicy,
    /// Where writes go.
    pub write: WritePolicy,
    /// Copy what is read from a later registry into the first.
    ///
    /// A blob goes in while it is read from beginning to end, and appears there if it has its digest; a manifest as
    /// soon as the blobs that it names are there. Under [`TagPolicy::Last`] the tag that it was read by goes with it. What
    /// cannot be copied is read all the same. Reads of a part of a blob copy nothing.
    pub fill: bool,
    /// How long a registry that failed for the moment is asked last: 1 s, doubled with each failure up to 64 times
    /// that.
    pub back_off: Duration,
}

impl Default for UnifyOptions {
    fn default() -> Self {
        Self {
            read: ReadPolicy::default(),
            tags: TagPolicy::default(),
            write: WritePolicy::default(),
            fill: false,
            back_off: Duration::from_secs(1),
        }
    }
}

impl UnifyOptions {
    /// A cache in front of its origin: content is copied into the first registry as it is read, tags are the last
    /// registry's while that can be asked.
    pub fn cache() -> Self {
        Self { tags: TagPolicy::Last, fill: true, ..Self::default() }
    }
}

/// Several registries as one.
///
/// Something is there if one of them has it. A registry that fails for the moment is asked last for a while, and its
/// failure shows only if no other has an answer. Nothing is "not found" unless all say so: if one of them refused to
/// tell, or could not, that is the error.
///
/// Lists are those of all registries together, without duplicates; a registry that cannot be asked is left out of them
/// with a warning as long as another answers. Referrers are not left out: whoever decides by them must not take a
/// registry that cannot be asked for one that has none. They have no order to merge them by, so all of a subject are
/// read for each page, at most 10,000 of them.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use std::sync::Arc;
/// use blob_registry::{MemoryRegistry, PushBlob, Registry, Repository, Unify, UnifyOptions};
/// use blob_core::{Digest, MemorySource};
///
/// let (mine, theirs) = (Arc::new(MemoryRegistry::new()), Arc::new(MemoryRegistry::new()));
/// let both = Unify::new(vec![mine, theirs.clone()], UnifyOptions::default());
/// let (repository, digest) = (Repository::new("team/assets")?, Digest::sha256_of(b"hello"));
/// theirs.push_blob(&repository, PushBlob::new(digest, Arc::new(MemorySource::new("hello")))).await?;
/// assert_eq!(both.stat_blob(&repository, &digest).await?, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Unify {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    members: Vec<Member>,
    options: UnifyOptions,
    filling: Filling,
}

#[derive(Debug)]
struct Member {
    registry: Arc<dyn Registry>,
    health: Health,
}

impl Unify {
    /// Makes one registry of `members`, in this order. Without members every call is unsupported.
    pub fn new(members: Vec<Arc<dyn Registry>>, options: UnifyOptions) -> Self {
        let member = |registry| Member { registry, health: Health::new(options.back_off) };
        let members = members.into_iter().map(member).collect();
        Self { shared: Arc::new(Shared { members, options, filling: Filling::default() }) }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Unify {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.shared.resolve(repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.shared.manifest(repository, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let action = || format!("looking for blob {repository}@{digest}");
        let call = |registry: Arc<dyn Registry>| async move { registry.stat_blob(repository, digest).await };
        Ok(self.shared.first(self.shared.for_content(), action, call).await?.1)
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        let action = || format!("reading blob {repository}@{digest}");
        let call = |registry: Arc<dyn Registry>| {
            let range = range.clone();
            async move { registry.read_blob(repository, digest, range).await }
        };
        let (at, reader) = self.shared.first(self.shared.for_content(), action, call).await?;
        Ok(fill::blob(&self.shared, at, (repository, digest), reader).await)
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        self.shared.local_blob(repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        self.shared.push_blob(repository, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        self.shared.start_upload(repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        self.shared.resume_upload(repository, id).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        self.shared.mount_blob(repository, digest, from).await
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        self.shared.push_manifest(repository, manifest).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let action = format!("deleting manifest {repository}@{digest}");
        let call = |registry: Arc<dyn Registry>| async move { registry.delete_manifest(repository, digest).await };
        self.shared.delete(action, call).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let action = format!("deleting blob {repository}@{digest}");
        let call = |registry: Arc<dyn Registry>| async move { registry.delete_blob(repository, digest).await };
        self.shared.delete(action, call).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        let action = format!("deleting tag {repository}:{tag}");
        let call = |registry: Arc<dyn Registry>| async move { registry.delete_tag(repository, tag).await };
        self.shared.delete(action, call).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        let action = format!("listing the tags of {repository}");
        let call = |registry: Arc<dyn Registry>, request| async move { registry.tags(repository, &request).await };
        self.shared.merged(action, page, call).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let action = format!("listing the referrers of {repository}@{subject}");
        let call = |registry: Arc<dyn Registry>, request| async move {
            registry.referrers(repository, subject, artifact_type, &request).await
        };
        self.shared.referrers(action, page, call).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        let call = |registry: Arc<dyn Registry>, request| async move { registry.repositories(&request).await };
        self.shared.merged("listing repositories".into(), page, call).await
    }
}
