//! The manifest of an archive: an OCI image manifest with exactly an index layer and a data layer.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blob_core::{Algorithm, Digest};
use blob_policy::FromManifest;
use blob_registry::{Descriptor, ImageManifest, ManifestError, media_type};
use bytes::Bytes;
use jiff::Timestamp;

/// The `artifactType` of an archive.
pub const ARTIFACT_TYPE: &str = "application/vnd.meigma.blob.v1";
/// The media type of the index layer.
pub const INDEX_MEDIA_TYPE: &str = "application/vnd.meigma.blob.index.v1+flatbuffers";
/// The media type of the data layer.
pub const DATA_MEDIA_TYPE: &str = "application/vnd.meigma.blob.data.v1";
/// The annotation with the time of creation, RFC 3339.
pub const CREATED: &str = "org.opencontainers.image.created";

/// Indexes up to this size are embedded in the manifest: 64 KiB. A reader then needs one request less.
pub const MAX_EMBEDDED_INDEX: usize = 64 << 10;

/// What an archive's manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveManifest {
    digest: Digest,
    bytes: Bytes,
    config: Digest,
    index: Descriptor,
    data: Descriptor,
    embedded_index: Option<Bytes>,
    annotations: BTreeMap<String, String>,
}

/// A manifest that is not an archive's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveManifestError {
    /// Not an image manifest at all.
    #[error("not a blob archive")]
    Manifest(#[from] ManifestError),
    /// An artifact of another kind, such as a container image.
    #[error("not a blob archive: its artifact type is {got}, expected {ARTIFACT_TYPE}")]
    ArtifactType {
        /// What it is.
        got: String,
    },
    /// There is no index layer.
    #[error("not a usable blob archive: the index layer is missing")]
    MissingIndex,
    /// There is no data layer.
    #[error("not a usable blob archive: the data layer is missing")]
    MissingData,
    /// The layers are not one index and one data blob.
    #[error("not a usable blob archive: {0}")]
    Layers(String),
}

impl ArchiveManifest {
    /// Puts the manifest of an archive together. A small index is embedded.
    pub(crate) fn build(index: &Bytes, data: (Digest, u64), annotations: BTreeMap<String, String>) -> Self {
        let mut index_layer = Descriptor::of(INDEX_MEDIA_TYPE, index);
        if index.len() <= MAX_EMBEDDED_INDEX {
            index_layer.data = Some(STANDARD.encode(index));
        }
        let data_layer = Descriptor::new(DATA_MEDIA_TYPE, data.0, data.1);
        let mut manifest = ImageManifest::artifact(ARTIFACT_TYPE, vec![index_layer.clone(), data_layer.clone()]);
        manifest.annotations = annotations.clone();
        let bytes = Bytes::from(manifest.to_bytes());
        Self {
            digest: Digest::sha256_of(&bytes),
            bytes,
            config: manifest.config.digest,
            embedded_index: index_layer.data.is_some().then(|| index.clone()),
            index: index_layer,
            data: data_layer,
            annotations,
        }
    }

    /// The digest of the manifest, which pins the archive.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The manifest's bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The index blob.
    pub fn index(&self) -> &Descriptor {
        &self.index
    }

    /// The data blob.
    pub fn data(&self) -> &Descriptor {
        &self.data
    }

    /// The index, if the manifest carries it; its digest was checked.
    pub fn embedded_index(&self) -> Option<&Bytes> {
        self.embedded_index.as_ref()
    }

    /// All annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// When the archive was made, if it says so in RFC 3339.
    pub fn created(&self) -> Option<Timestamp> {
        self.annotations.get(CREATED)?.parse().ok()
    }

    /// Whether a repository that holds this manifest holds the blob `digest`, since the manifest needs it.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        [self.config, self.index.digest, self.data.digest].contains(digest)
    }

    /// Whether `other` holds the same files and says the same of them, the time of creation apart.
    pub(crate) fn same_but_for_created(&self, other: &Self) -> bool {
        let said = |manifest: &Self| {
            let mut annotations = manifest.annotations.clone();
            annotations.remove(CREATED);
            annotations
        };
        self.index.digest == other.index.digest && self.data.digest == other.data.digest && said(self) == said(other)
    }
}

impl FromManifest for ArchiveManifest {
    type Error = ArchiveManifestError;

    fn from_manifest(descriptor: &Descriptor, bytes: &Bytes) -> Result<Self, ArchiveManifestError> {
        let manifest = ImageManifest::parse(bytes)?;
        if manifest.media_type.as_deref() != Some(media_type::IMAGE_MANIFEST) {
            let problem = "the manifest does not state its media type".to_owned();
            return Err(ArchiveManifestError::Layers(problem));
        }
        if manifest.artifact_type.as_deref() != Some(ARTIFACT_TYPE) {
            let got = manifest.artifact_type.unwrap_or(manifest.config.media_type);
            return Err(ArchiveManifestError::ArtifactType { got: got.escape_debug().to_string() });
        }
        let one = |wanted: &str, missing| {
            let mut layers = manifest.layers.iter().filter(|layer| layer.media_type == wanted);
            match (layers.next(), layers.next()) {
                (Some(layer), None) => Ok(layer.clone()),
                (None, _) => Err(missing),
                (Some(_), Some(_)) => Err(ArchiveManifestError::Layers(format!("several layers of type {wanted}"))),
            }
        };
        let index = one(INDEX_MEDIA_TYPE, ArchiveManifestError::MissingIndex)?;
        let data = one(DATA_MEDIA_TYPE, ArchiveManifestError::MissingData)?;
        if manifest.layers.len() != 2 {
            let problem = format!("expected 2 layers, got {}", manifest.layers.len());
            return Err(ArchiveManifestError::Layers(problem));
        }
        for layer in [&index, &data] {
            if layer.digest.algorithm() != Algorithm::Sha256 {
                return Err(ArchiveManifestError::Layers(format!("a layer has the digest {}", layer.digest)));
            }
        }
        let embedded_index = embedded(&index)?;
        let annotations = manifest.annotations;
        let (digest, bytes, config) = (descriptor.digest, bytes.clone(), manifest.config.digest);
        Ok(Self { digest, bytes, config, index, data, embedded_index, annotations })
    }
}

/// The content that a descriptor carries, which must be what it describes.
fn embedded(descriptor: &Descriptor) -> Result<Option<Bytes>, ArchiveManifestError> {
    let Some(data) = &descriptor.data else { return Ok(None) };
    let wrong = |problem: &str| ArchiveManifestError::Layers(format!("the embedded index {problem}"));
    let bytes = STANDARD.decode(data).map_err(|_| wrong("is not base64"))?;
    if bytes.len() as u64 != descriptor.size || !descriptor.digest.matches(&bytes) {
        return Err(wrong("does not match its digest"));
    }
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> ArchiveManifest {
        let annotations = BTreeMap::from([(CREATED.to_owned(), "2024-01-15T10:30:00Z".to_owned())]);
        ArchiveManifest::build(&Bytes::from_static(b"index"), (Digest::sha256_of(b"data"), 4), annotations)
    }

    fn parse(text: &str) -> Result<ArchiveManifest, ArchiveManifestError> {
        let bytes = Bytes::from(text.to_owned());
        ArchiveManifest::from_manifest(&Descriptor::of(media_type::IMAGE_MANIFEST, &bytes), &bytes)
    }

    #[test]
    fn what_is_built_is_read_back() {
        let manifest = sample();
        let text = std::str::from_utf8(manifest.as_bytes()).unwrap();
        assert_eq!(parse(text).unwrap(), manifest);
        assert_eq!(manifest.embedded_index().unwrap(), &b"index"[..]);
        assert_eq!(manifest.created().unwrap().as_second(), 1_705_314_600);
        let large = ArchiveManifest::build(
            &vec![7; MAX_EMBEDDED_INDEX + 1].into(),
            (Digest::sha256_of(b""), 0),
            BTreeMap::new(),
        );
        assert!(large.embedded_index().is_none());
    }

    #[test]
    fn what_is_not_an_archive_says_why() {
        let text = String::from_utf8(sample().as_bytes().to_vec()).unwrap();
        let error = |text: String| parse(&text).unwrap_err().to_string();
        assert!(error(text.replace(ARTIFACT_TYPE, "a/b")).contains("its artifact type is a/b"));
        assert!(matches!(parse(&text.replace(INDEX_MEDIA_TYPE, "x/y")), Err(ArchiveManifestError::MissingIndex)));
        assert!(matches!(parse(&text.replace(DATA_MEDIA_TYPE, "x/y")), Err(ArchiveManifestError::MissingData)));
        assert!(error(text.replace(DATA_MEDIA_TYPE, INDEX_MEDIA_TYPE)).contains("several layers"));
        assert!(error(text.replace("aW5kZXg=", "aW5kZXY=")).contains("does not match its digest"));
        assert!(error(text.replace("aW5kZXg=", "aW5")).contains("base64"));
        assert!(parse(&text.replace("image.manifest", "image.index")).is_err());
        assert!(parse("{}").is_err());
    }

    #[test]
    fn only_the_time_of_creation_may_differ() {
        let manifest = sample();
        let build = |key: &str, value: &str| {
            let mut annotations = manifest.annotations.clone();
            annotations.insert(key.into(), value.into());
            ArchiveManifest::build(&Bytes::from_static(b"index"), (Digest::sha256_of(b"data"), 4), annotations)
        };
        assert!(manifest.same_but_for_created(&build(CREATED, "2025-01-15T10:30:00Z")));
        assert!(!manifest.same_but_for_created(&build("x", "y")));
    }
}
