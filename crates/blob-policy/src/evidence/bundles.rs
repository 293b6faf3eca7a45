//! Bundles in files or memory as evidence, for verification without a registry.

use std::path::PathBuf;

use async_trait::async_trait;
use blob_core::{Digest, plain};
use blob_registry::{Descriptor, ImageManifest, RegistryError, media_type};
use bytes::Bytes;

use super::Evidence;
use crate::error::EvidenceError;
use crate::sigstore::{BUNDLE_ARTIFACT_TYPE, MAX_BUNDLE_BYTES, is_bundle_media_type};

/// Bundles that one has, as if a registry listed each as a referrer.
#[derive(Clone, Debug, Default)]
pub struct BundleEvidence {
    referrers: Vec<Descriptor>,
    contents: Vec<(Digest, Bytes)>,
}

impl BundleEvidence {
    /// These bundles, whatever they are about: verification finds out.
    pub fn new(bundles: impl IntoIterator<Item = Bytes>) -> Self {
        let mut evidence = Self::default();
        for bundle in bundles {
            let layer = Descriptor::of(BUNDLE_ARTIFACT_TYPE, &bundle);
            let manifest = Bytes::from(ImageManifest::artifact(BUNDLE_ARTIFACT_TYPE, vec![layer.clone()]).to_bytes());
            let referrer = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest);
            evidence.contents.extend([(layer.digest, bundle), (referrer.digest, manifest)]);
            evidence.referrers.push(referrer);
        }
        evidence
    }

    /// Reads the files at `paths`, each of at most [`MAX_BUNDLE_BYTES`]; blocks.
    ///
    /// # Errors
    /// [`EvidenceError::File`].
    pub fn read(paths: &[PathBuf]) -> Result<Self, EvidenceError> {
        let mut bundles = Vec::new();
        for path in paths {
            let read = plain::read(path, MAX_BUNDLE_BYTES);
            let bytes = read.map_err(|source| EvidenceError::File { path: path.clone(), source })?;
            bundles.push(Bytes::from(bytes));
        }
        Ok(Self::new(bundles))
    }
}

#[async_trait]
impl Evidence for BundleEvidence {
    async fn referrers(&self, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        let wanted = artifact_type.is_none_or(is_bundle_media_type);
        Ok(if wanted { self.referrers.clone() } else { Vec::new() })
    }

    async fn fetch(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Bytes, EvidenceError> {
        let subject = descriptor.digest;
        let found = self.contents.iter().find(|(digest, _)| *digest == subject).map(|(_, bytes)| bytes);
        match found {
            Some(bytes) if bytes.len() as u64 <= max_bytes => Ok(bytes.clone()),
            Some(bytes) => {
                let what = format!("{subject} has {} bytes, of {max_bytes}", bytes.len());
                Err(EvidenceError::Limit { subject, what })
            }
            None => {
                let source = RegistryError::unsupported(format!("reading {subject} without a registry"));
                Err(EvidenceError::Registry { subject, source })
            }
        }
    }
}
