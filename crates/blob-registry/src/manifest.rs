//! OCI image manifests and indexes: strict reading, canonical writing.
//!
//! Reading refuses what different parsers read differently: duplicate members, documents that are both a manifest and
//! an index, a `mediaType` that contradicts the one it came under. Writing prints compact JSON with the members in the
//! order of the Go image-spec types and with Go's escapes, so equal manifests have equal digests in both worlds.

use std::collections::{BTreeMap, HashSet};

use blob_core::Digest;
use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, media_type};

mod strict;

use strict::{Member, Shape};

/// An OCI image manifest (image-spec, "manifest.md"), which is what artifacts are stored as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// Always [`media_type::IMAGE_MANIFEST`] in what we write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration blob; the empty descriptor for most artifacts.
    pub config: Descriptor,
    /// The content.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An OCI image index (image-spec, "image-index.md").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// Always [`media_type::IMAGE_INDEX`] in what we write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A document that is not the manifest it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, a duplicate member, a member of the wrong type or a required one missing.
    #[error("the manifest is malformed")]
    Json(#[from] serde_json::Error),
    /// JSON, but not this kind of document.
    #[error("not {expected}: {detail}")]
    Kind {
        /// What was expected: "an image manifest", "an image index".
        expected: &'static str,
        /// What was found.
        detail: String,
    },
}

impl ImageManifest {
    /// A manifest for an artifact without configuration.
    pub fn artifact(artifact_type: impl Into<String>, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::IMAGE_MANIFEST.into()),
            artifact_type: Some(artifact_type.into()),
            config: Descriptor::empty(),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Makes it say something about `subject`: a registry lists it as a referrer then.
    #[must_use]
    pub fn with_subject(mut self, subject: Descriptor) -> Self {
        // What the subject says of itself is in the subject: three members name it.
        self.subject = Some(Descriptor::new(subject.media_type, subject.digest, subject.size));
        self
    }

    /// Adds an annotation, replacing an earlier one of this name.
    #[must_use]
    pub fn with_annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// Adds a layer behind the others.
    #[must_use]
    pub fn with_layer(mut self, layer: Descriptor) -> Self {
        self.layers.push(layer);
        self
    }

    /// Gives it a configuration; artifacts without one have the empty descriptor.
    #[must_use]
    pub fn with_config(mut self, config: Descriptor) -> Self {
        self.config = config;
        self
    }

    /// Reads a manifest strictly.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        check_kind(&strict::check(bytes)?, "an image manifest", media_type::IMAGE_MANIFEST, "manifests")?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        strict::print(self)
    }
}

impl ImageIndex {
    /// An index of `manifests`.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::IMAGE_INDEX.into()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads an index strictly.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        check_kind(&strict::check(bytes)?, "an image index", media_type::IMAGE_INDEX, "layers")?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        strict::print(self)
    }
}

/// What a registry needs of any manifest: what it refers to. Reads manifests and indexes, OCI's and Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The `mediaType` member, if there is one.
    pub media_type: Option<String>,
    /// The `artifactType` member, else the media type of the configuration.
    pub artifact_type: Option<String>,
    /// Blobs: configuration, layers, and the blobs of older artifact manifests.
    pub blobs: Vec<Descriptor>,
    /// The layers of a Docker manifest of the first schema (`fsLayers`), which does not say how large they are. An
    /// empty layer occurs many times in one image; each digest is here once. Its `history` names no content.
    pub fs_layers: Vec<Digest>,
    /// Manifests of an index.
    pub manifests: Vec<Descriptor>,
    /// The subject.
    pub subject: Option<Descriptor>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Outline {
    /// Reads any manifest strictly.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct FsLayer {
            blob_sum: Digest,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Loose {
            media_type: Option<String>,
            artifact_type: Option<String>,
            config: Option<Descriptor>,
            #[serde(default)]
            layers: Vec<Descriptor>,
            /// As in the artifact manifests that came before OCI 1.1, which are still in registries.
            #[serde(default)]
            blobs: Vec<Descriptor>,
            #[serde(default)]
            fs_layers: Vec<FsLayer>,
            #[serde(default)]
            manifests: Vec<Descriptor>,
            subject: Option<Descriptor>,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
        }
        let shape = strict::check(bytes)?;
        if shape.has("manifests") && ["layers", "config", "fsLayers"].into_iter().any(|name| shape.has(name)) {
            let detail = "it has the members of an image manifest and of an image index".into();
            return Err(ManifestError::Kind { expected: "a manifest", detail });
        }
        let loose: Loose = serde_json::from_slice(bytes)?;
        let mut seen = HashSet::new();
        let fs_layers = loose.fs_layers.into_iter().map(|layer| layer.blob_sum);
        let of_config = loose.config.as_ref().map(|config| config.media_type.clone());
        Ok(Self {
            media_type: loose.media_type,
            artifact_type: loose.artifact_type.or(of_config),
            blobs: loose.config.into_iter().chain(loose.layers).chain(loose.blobs).collect(),
            fs_layers: fs_layers.filter(|layer| seen.insert(*layer)).collect(),
            manifests: loose.manifests,
            subject: loose.subject,
            annotations: loose.annotations,
        })
    }
}

/// Refuses documents of another kind, and those that are two kinds at once (CVE-2021-41190).
fn check_kind(shape: &Shape, expected: &'static str, media_type: &str, foreign: &str) -> Result<(), ManifestError> {
    let fail = |detail: String| Err(ManifestError::Kind { expected, detail });
    match &shape.media_type {
        Member::Text(named) if named == media_type => {}
        Member::Text(named) => return fail(format!("its media type is {named:?}")),
        Member::Absent => {}
        Member::Number(_) | Member::Other => return fail("its media type is not a string".into()),
    }
    if shape.has(foreign) {
        return fail(format!("it has a {foreign:?} member"));
    }
    match shape.schema_version {
        Member::Number(2) => Ok(()),
        Member::Number(other) => fail(format!("its schemaVersion is {other}")),
        _ => fail("its schemaVersion is missing".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference vector of the format: a Go program prints these very bytes.
    const VECTOR: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.meigma.blob.v1","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.meigma.blob.index.v1+flatbuffers","digest":"sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6","size":5},{"mediaType":"application/vnd.meigma.blob.data.v1","digest":"sha256:3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7","size":4}],"annotations":{"org.opencontainers.image.created":"2024-01-15T10:30:00Z"}}"#;

    #[test]
    fn canonical_bytes_equal_the_reference_vector() {
        let mut manifest = ImageManifest::artifact(
            "application/vnd.meigma.blob.v1",
            vec![
                Descriptor::of("application/vnd.meigma.blob.index.v1+flatbuffers", b"index"),
                Descriptor::of("application/vnd.meigma.blob.data.v1", b"data"),
            ],
        );
        manifest.annotations.insert("org.opencontainers.image.created".into(), "2024-01-15T10:30:00Z".into());
        assert_eq!(String::from_utf8(manifest.to_bytes()).expect("text"), VECTOR);
        assert_eq!(
            Digest::sha256_of(VECTOR.as_bytes()).to_string(),
            "sha256:82a12167803fc982fa210c0d4c2c0782edb1111611af01014250a784c9cfd920"
        );
        assert_eq!(ImageManifest::parse(VECTOR.as_bytes()).expect("vector"), manifest);
    }

    #[test]
    fn escapes_are_gos() {
        let mut manifest = ImageManifest::artifact("a/b", vec![]);
        manifest.annotations.insert("k".into(), "<&>\u{2028}\u{7f}\u{1}\n\u{8}\u{c}é".into());
        let text = String::from_utf8(manifest.to_bytes()).expect("text");
        assert!(text.contains(r#""k":"\u003c\u0026\u003e\u2028"#), "{text}");
        assert!(text.contains("\u{7f}\\u0001\\n\\b\\fé\""), "{text}");
        assert_eq!(ImageManifest::parse(text.as_bytes()).expect("own output"), manifest);
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        let refused = |text: &str| {
            assert!(ImageManifest::parse(text.as_bytes()).is_err(), "{text}");
            text.to_owned()
        };
        refused("");
        refused("{}");
        refused(&VECTOR.replace("\"schemaVersion\":2", "\"schemaVersion\":1"));
        refused(&VECTOR.replace("\"schemaVersion\":2", "\"schemaVersion\":2,\"schemaVersion\":2"));
        refused(&VECTOR.replace("\"size\":5", "\"size\":5,\"size\":5"));
        refused(&VECTOR.replace("\"size\":5", "\"size\":-5"));
        refused(&VECTOR.replace("image.manifest.v1", "image.index.v1"));
        refused(&VECTOR.replace("sha256:1bc0", "sha256:1BC0"));
        let both = refused(&VECTOR.replace("\"layers\"", "\"manifests\":[],\"layers\""));
        assert!(Outline::parse(both.as_bytes()).is_err());
        refused(&format!("{VECTOR}x"));
    }
}
