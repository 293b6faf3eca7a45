//! What a registry may leave out, found out by trying.

use std::collections::BTreeSet;

use blob_core::Digest;

use super::{all, artifact, push_of, put, sibling, supported, tag};
use crate::reference::Repository;
use crate::registry::Registry;

/// Something that an implementation of [`Registry`] may answer with
/// [`RegistryError::is_unsupported`](crate::RegistryError::is_unsupported).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// [`Registry::start_upload`].
    Uploads,
    /// [`Registry::resume_upload`].
    ResumedUploads,
    /// [`Registry::mount_blob`] from a named repository that has the blob.
    Mounts,
    /// Conditional pushes of manifests (`PushManifest::if_match`).
    Conditions,
    /// [`Registry::delete_tag`].
    TagDeletion,
    /// [`Registry::delete_manifest`].
    ManifestDeletion,
    /// [`Registry::delete_blob`].
    BlobDeletion,
    /// [`Registry::referrers`].
    Referrers,
    /// [`Registry::repositories`].
    Repositories,
}

impl Capability {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Uploads,
        Self::ResumedUploads,
        Self::Mounts,
        Self::Conditions,
        Self::TagDeletion,
        Self::ManifestDeletion,
        Self::BlobDeletion,
        Self::Referrers,
        Self::Repositories,
    ];
}

/// What `registry` can do. A test compares this with what its implementation promises: the clauses ask nothing of what
/// is not supported, so that a capability that got lost would not show there.
///
/// # Panics
/// When something that is tried neither succeeds nor is unsupported.
pub async fn capabilities(registry: &dyn Registry, repository: &Repository) -> BTreeSet<Capability> {
    let mut found = BTreeSet::new();
    let mut note = |capability, has: bool| {
        if has {
            found.insert(capability);
        }
    };
    let digest = put(registry, repository, b"content").await;
    let upload = supported(registry.start_upload(repository).await);
    note(Capability::Uploads, upload.is_some());
    if let Some(upload) = upload {
        let resumed = supported(registry.resume_upload(repository, &upload.id()).await);
        note(Capability::ResumedUploads, resumed.is_some());
    }
    let mounted = registry.mount_blob(&sibling(repository), &digest, Some(repository)).await;
    note(Capability::Mounts, supported(mounted).is_some());
    let push = push_of(&artifact(registry, repository, "1").await).with_tags([tag("a"), tag("b")]);
    registry.push_manifest(repository, push.clone()).await.expect("a good manifest is taken");
    let mut conditional = push.clone();
    conditional.if_match = Some(push.digest);
    note(Capability::Conditions, supported(registry.push_manifest(repository, conditional).await).is_some());
    let referrers = registry.referrers(repository, &Digest::sha256_of(b"a subject"), None, &all()).await;
    note(Capability::Referrers, supported(referrers).is_some());
    note(Capability::Repositories, supported(registry.repositories(&all()).await).is_some());
    note(Capability::TagDeletion, supported(registry.delete_tag(repository, &tag("a")).await).is_some());
    note(Capability::ManifestDeletion, supported(registry.delete_manifest(repository, &push.digest).await).is_some());
    note(Capability::BlobDeletion, supported(registry.delete_blob(repository, &digest).await).is_some());
    found
}
