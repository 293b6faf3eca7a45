//! Bundles as referrers of the manifest that they are about.

use std::sync::Arc;

use blob_core::{ByteSource, Digest, MemorySource};
use blob_registry::{
    Descriptor, EMPTY_JSON, ImageManifest, PushBlob, PushManifest, Registry, RegistryError, Repository, media_type,
};
use bytes::Bytes;
use jiff::Timestamp;

use super::bundle::SignedBundle;
use super::error::AttachError;
use crate::sigstore::BUNDLE_ARTIFACT_TYPE;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// The manifest that carries the bundle.
    pub manifest: Digest,
    /// The bundle.
    pub bundle: Digest,
}

/// Attaches `bundle` to `subject`, which is in `repository`: a manifest by digest alone, with the annotations that
/// cosign writes. A registry that does not list referrers gets the fallback tag.
///
/// # Errors
/// [`AttachError`].
///
/// # Cancellation
/// What was uploaded stays, and does no harm: the manifest comes last.
pub async fn attach(
    registry: &dyn Registry,
    repository: &Repository,
    subject: &Descriptor,
    bundle: &SignedBundle,
) -> Result<Attached, AttachError> {
    if let Some(got) = bundle.subject().filter(|got| **got != subject.digest) {
        return Err(AttachError::Subject { expected: subject.digest, got: *got });
    }
    let layer = Descriptor::of(BUNDLE_ARTIFACT_TYPE, bundle.bytes());
    let digest = layer.digest;
    push(registry, repository, "the bundle", bundle.bytes().clone()).await?;
    push(registry, repository, "the empty configuration", Bytes::from_static(EMPTY_JSON)).await?;
    let mut manifest = ImageManifest::artifact(BUNDLE_ARTIFACT_TYPE, vec![layer]);
    // Only what identifies the subject: annotations of where it was listed are no part of it.
    manifest.subject = Some(Descriptor::new(&subject.media_type, subject.digest, subject.size));
    let mut annotate = |name: &str, value: String| manifest.annotations.insert(name.into(), value);
    annotate("org.opencontainers.image.created", created());
    match bundle.predicate_type() {
        Some(predicate_type) => {
            annotate("dev.sigstore.bundle.content", "dsse-envelope".into());
            annotate("dev.sigstore.bundle.predicateType", predicate_type.into())
        }
        None => annotate("dev.sigstore.bundle.content", "message-signature".into()),
    };
    let pushed = registry
        .push_manifest(repository, PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()))
        .await
        .map_err(|source| failed(repository, "the manifest of the bundle", source))?;
    Ok(Attached { manifest: pushed.digest, bundle: digest })
}

async fn push(registry: &dyn Registry, repository: &Repository, what: &str, bytes: Bytes) -> Result<(), AttachError> {
    let digest = Digest::sha256_of(&bytes);
    let source: Arc<dyn ByteSource> = Arc::new(MemorySource::new(bytes));
    let pushed = registry.push_blob(repository, PushBlob::new(digest, source)).await;
    pushed.map(drop).map_err(|source| failed(repository, what, source))
}

fn failed(repository: &Repository, what: &str, source: RegistryError) -> AttachError {
    AttachError::Registry { action: format!("pushing {what} to {repository}"), source }
}

/// Now, in whole seconds.
fn created() -> String {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
