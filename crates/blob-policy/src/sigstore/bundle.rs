//! Bundles as bytes: limits and syntax, no trust.

#[cfg(feature = "sign")]
use blob_core::Digest;
use sigstore_types::bundle::VerificationMaterialContent;
#[cfg(feature = "sign")]
use sigstore_types::{HashAlgorithm, Sha256Hash, SignatureContent};

use super::error::BundleError;

/// The largest bundle that is parsed: 4 MiB.
pub const MAX_BUNDLE_BYTES: u64 = 4 << 20;

/// A bundle that was parsed, and nothing more: nothing in it is to be believed.
#[derive(Clone, Debug)]
pub struct Bundle(pub(crate) sigstore_types::Bundle);

impl Bundle {
    /// Reads a bundle of version 0.1, 0.2 or 0.3 from JSON of at most [`MAX_BUNDLE_BYTES`].
    ///
    /// # Errors
    /// [`BundleError::TooLarge`], [`BundleError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() as u64 > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLarge { limit: MAX_BUNDLE_BYTES, got: bytes.len() as u64 });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| BundleError::Malformed(Box::new(e)))?;
        let parsed = sigstore_types::Bundle::from_json(text).map_err(|e| BundleError::Malformed(Box::new(e)))?;
        // Two kinds of content would leave it to the reader which one counts.
        let members: Members = serde_json::from_str(text).map_err(|e| BundleError::Malformed(Box::new(e)))?;
        if members.message_signature.is_some() && members.dsse_envelope.is_some() {
            return Err(BundleError::Malformed("both a message signature and a DSSE envelope".into()));
        }
        if members.media_type.is_none() {
            return Err(BundleError::Malformed("no media type".into()));
        }
        Ok(Self(parsed))
    }

    /// Whether it names a managed key instead of carrying a certificate.
    pub fn is_key_made(&self) -> bool {
        matches!(self.0.verification_material.content, VerificationMaterialContent::PublicKey(_))
    }

    /// The SHA-256 digest that a signature of content names: a hint until it is verified.
    #[cfg(feature = "sign")]
    pub(crate) fn message_digest(&self) -> Option<Digest> {
        let SignatureContent::MessageSignature(message) = &self.0.content else { return None };
        let named = message.message_digest.as_ref().filter(|named| named.algorithm == HashAlgorithm::Sha2256)?;
        let hash = Sha256Hash::try_from(named.digest.as_bytes()).ok()?;
        format!("sha256:{}", hash.to_hex()).parse().ok()
    }

    /// How many transparency log entries it carries.
    pub(super) fn log_entries(&self) -> usize {
        self.0.verification_material.tlog_entries.len()
    }
}

/// The members that decide how a bundle is read; a duplicate is an error.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    media_type: Option<serde::de::IgnoredAny>,
    message_signature: Option<serde::de::IgnoredAny>,
    dsse_envelope: Option<serde::de::IgnoredAny>,
}

/// Whether content of this media type is a bundle, in either spelling of any version.
pub fn is_bundle_media_type(media_type: &str) -> bool {
    let Some(rest) = media_type.strip_prefix("application/vnd.dev.sigstore.bundle") else { return false };
    matches!(rest, ".v0.1+json" | ".v0.2+json" | ".v0.3+json")
        || matches!(rest, "+json;version=0.1" | "+json;version=0.2" | "+json;version=0.3")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_spellings_of_the_media_type() {
        for (media_type, expect) in [
            ("application/vnd.dev.sigstore.bundle.v0.3+json", true),
            ("application/vnd.dev.sigstore.bundle+json;version=0.3", true),
            ("application/vnd.dev.sigstore.bundle+json;version=0.1", true),
            ("application/vnd.dev.sigstore.bundle.v0.4+json", false),
            ("application/vnd.dev.sigstore.bundle", false),
            ("application/vnd.in-toto+json", false),
        ] {
            assert_eq!(is_bundle_media_type(media_type), expect, "{media_type}");
        }
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        let content = r#""verificationMaterial":{"publicKey":{"hint":"k"}},"messageSignature":{"signature":"aGk="}"#;
        let envelope = r#""dsseEnvelope":{"payloadType":"t","payload":"aGk=","signatures":[{"sig":"aGk="}]}"#;
        let media_type = r#""mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json""#;
        assert!(Bundle::parse(format!("{{{media_type},{content}}}").as_bytes()).unwrap().is_key_made());
        for bad in [
            String::new(),
            "{}".into(),
            format!("{{{content}}}"),
            format!("{{{media_type},{content},{envelope}}}"),
            format!("{{{media_type},{media_type},{content}}}"),
            format!("{{{},{content}}}", media_type.replace("0.3", "0.9")),
        ] {
            assert!(matches!(Bundle::parse(bad.as_bytes()), Err(BundleError::Malformed(_))), "{bad}");
        }
        let huge = vec![b' '; MAX_BUNDLE_BYTES as usize + 1];
        assert!(matches!(Bundle::parse(&huge), Err(BundleError::TooLarge { .. })));
    }
}
