//! Conversions from and to the types of the `oci-spec` crate.
//!
//! All of them go by way of the JSON that both sides read and write, so each can fail where one side is stricter: ours
//! knows SHA-256 and SHA-512 only, theirs knows platforms in detail. Bytes that were pushed are never made anew from
//! converted manifests: digests are about bytes.
//!
//! ```
//! use blob_registry::{Descriptor, ImageManifest};
//!
//! let ours = ImageManifest::artifact("application/vnd.acme.note", vec![Descriptor::of("text/plain", b"hello")]);
//! let theirs = oci_spec::image::ImageManifest::try_from(&ours)?;
//! assert_eq!(theirs.layers()[0].size(), 5);
//! assert_eq!(ImageManifest::try_from(&theirs)?, ours);
//! # Ok::<(), blob_registry::ManifestError>(())
//! ```

use oci_spec::{distribution, image};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::descriptor::Descriptor;
use crate::manifest::{ImageIndex, ImageManifest, ManifestError};
use crate::reference::{Reference, ReferenceError, Repository, Tag};

fn through_json<A: Serialize, B: DeserializeOwned>(value: &A) -> Result<B, ManifestError> {
    Ok(serde_json::from_value(serde_json::to_value(value)?)?)
}

/// Both directions between two types with the same JSON.
macro_rules! same_json {
    ($($ours:ty = $theirs:ty),* $(,)?) => {$(
        impl TryFrom<&$ours> for $theirs {
            type Error = ManifestError;

            fn try_from(ours: &$ours) -> Result<Self, ManifestError> {
                through_json(ours)
            }
        }

        impl TryFrom<&$theirs> for $ours {
            type Error = ManifestError;

            fn try_from(theirs: &$theirs) -> Result<Self, ManifestError> {
                through_json(theirs)
            }
        }
    )*};
}

same_json! {
    Descriptor = image::Descriptor,
    ImageManifest = image::ImageManifest,
    ImageIndex = image::ImageIndex,
}

impl From<&Reference> for distribution::Reference {
    fn from(ours: &Reference) -> Self {
        let (host, name) = (ours.host().to_owned(), ours.repository().to_string());
        match (ours.tag(), ours.digest()) {
            (Some(tag), Some(digest)) => Self::with_tag_and_digest(host, name, tag.to_string(), digest.to_string()),
            (None, Some(digest)) => Self::with_digest(host, name, digest.to_string()),
            (Some(tag), None) => Self::with_tag(host, name, tag.to_string()),
            // Theirs always points at something.
            (None, None) => Self::with_tag(host, name, "latest".into()),
        }
    }
}

impl TryFrom<&distribution::Reference> for Reference {
    type Error = ReferenceError;

    fn try_from(theirs: &distribution::Reference) -> Result<Self, ReferenceError> {
        let tag = theirs.tag().map(Tag::new).transpose()?;
        let digest = theirs.digest().map(str::parse).transpose()?;
        Self::new(theirs.registry(), Repository::new(theirs.repository())?, tag, digest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::descriptor::media_type;

    #[test]
    fn documents_survive_both_ways() {
        let mut layer = Descriptor::of("text/plain", b"x");
        layer.annotations.insert("a".into(), "b".into());
        layer.artifact_type = Some("c/d".into());
        layer.urls.push("https://h/x".into());
        layer.platform = Some(serde_json::json!({ "architecture": "amd64", "os": "linux" }));
        let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"subject");
        let manifest =
            ImageManifest::artifact("a/b", vec![layer.clone()]).with_subject(subject).with_annotation("k", "v");
        let theirs = image::ImageManifest::try_from(&manifest).unwrap();
        assert_eq!(ImageManifest::try_from(&theirs).unwrap(), manifest);
        let index = ImageIndex::new(vec![layer.clone()]);
        let theirs = image::ImageIndex::try_from(&index).unwrap();
        assert_eq!(ImageIndex::try_from(&theirs).unwrap(), index);
        let theirs = image::Descriptor::try_from(&layer).unwrap();
        assert_eq!(Descriptor::try_from(&theirs).unwrap(), layer);
    }

    #[test]
    fn what_ours_does_not_know_is_refused() {
        let digest = format!("sha384:{}", "a".repeat(96));
        let theirs: image::Descriptor =
            serde_json::from_value(serde_json::json!({ "mediaType": "a/b", "size": 1, "digest": digest })).unwrap();
        assert!(Descriptor::try_from(&theirs).is_err());
    }

    #[test]
    fn references_are_converted() {
        let digest = blob_core::Digest::sha256_of(b"x");
        for text in [
            "h.example:5000/a/b:v1".to_owned(),
            format!("h.example/a@{digest}"),
            format!("localhost:1/a/b:v1@{digest}"),
        ] {
            let ours: Reference = text.parse().unwrap();
            let theirs = distribution::Reference::from(&ours);
            assert_eq!(theirs.whole(), text);
            assert_eq!(Reference::try_from(&theirs).unwrap(), ours);
        }
    }
}
