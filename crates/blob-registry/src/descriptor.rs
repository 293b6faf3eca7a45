//! Descriptors (OCI image-spec, "descriptor.md") and the media types that this crate knows.

use std::collections::BTreeMap;

use blob_core::Digest;
use serde::{Deserialize, Serialize};

/// Media types.
pub mod media_type {
    /// An OCI image manifest.
    pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index: a list of manifests.
    pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker manifest of the first schema, without signatures: still in old registries.
    pub const DOCKER_MANIFEST_1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// The same with signatures.
    pub const DOCKER_MANIFEST_1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// The empty descriptor: the two bytes `{}`.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// Bytes of no stated kind.
    pub const OCTET_STREAM: &str = "application/octet-stream";

    /// Whether a layer of this type is fetched from elsewhere, so that a registry need not have it.
    pub(crate) fn is_foreign(media_type: &str) -> bool {
        media_type.contains("nondistributable") || media_type.contains(".foreign.")
    }

    /// Whether `media_type` is that of a manifest or index, as opposed to a blob.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(
            media_type,
            IMAGE_MANIFEST
                | IMAGE_INDEX
                | DOCKER_MANIFEST
                | DOCKER_MANIFEST_LIST
                | DOCKER_MANIFEST_1
                | DOCKER_MANIFEST_1_SIGNED
        )
    }
}

/// The content of the empty descriptor.
pub const EMPTY_JSON: &[u8] = b"{}";

/// Names some content: what it is, its digest, its size.
///
/// Members are written in the order of the Go image-spec types, so that equal manifests have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// Bytes of the content. A document with more than 2^63 - 1, which is what the specification has room for, is refused.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Other places to get it from; never followed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, in standard padded base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What an image runs on; kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<serde_json::Value>,
    /// What kind of artifact a manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    let expected = "a size of at most 2^63 - 1 bytes";
    let refuse = |_| serde::de::Error::invalid_value(serde::de::Unexpected::Unsigned(size), &expected);
    i64::try_from(size).map(|_| size).map_err(refuse)
}

impl Descriptor {
    /// A descriptor with the three members that every one has.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of `bytes`, under SHA-256.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256_of(bytes), bytes.len() as u64)
    }

    /// The empty descriptor: media type [`media_type::EMPTY`], content `{}`.
    pub fn empty() -> Self {
        Self::of(media_type::EMPTY, EMPTY_JSON)
    }
}
