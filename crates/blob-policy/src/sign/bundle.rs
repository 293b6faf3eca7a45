//! Bundles that were made, and who makes them.

use std::fmt;

use async_trait::async_trait;
use blob_core::Digest;
use bytes::Bytes;
use serde::Deserialize;
use sigstore_types::SignatureContent;

use super::equivalence::Equivalence;
use super::error::SignError;
use super::statement::Statement;
use crate::sigstore::{Bundle, BundleError};

/// Makes bundles: with a key, or with a certificate for an identity.
///
/// # Contract
/// A bundle that is returned is of version 0.3, is about what was given, and has been verified.
///
/// # Cancellation
/// Dropping the future stops the signing. An entry in a public log that was made by then stays there.
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync {
    /// Signs a statement, in a DSSE envelope: what cosign 3 does, and what all kinds of keys can.
    ///
    /// # Errors
    /// [`SignError`].
    async fn sign(&self, statement: &Statement) -> Result<SignedBundle, SignError>;

    /// Signs the bytes of a manifest themselves, for verifiers that know no statements.
    ///
    /// # Errors
    /// [`SignError`].
    async fn sign_message(&self, message: &Bytes) -> Result<SignedBundle, SignError>;

    /// Which bundles are as good as one that it would make now; `None` if that cannot be told, and by default. Who signs
    /// again then finds them, and adds nothing.
    ///
    /// # Errors
    /// [`SignError::Token`] when nobody says who would sign.
    async fn equivalence(&self) -> Result<Option<Equivalence>, SignError> {
        Ok(None)
    }

    /// This signer for one bundle, with everything that can be had before anything is published: for an identity, its
    /// certificate. Its [`equivalence`](Self::equivalence) may be known where that of the signer is not. `None`, the
    /// default, where nothing is to be had.
    ///
    /// # Errors
    /// [`SignError`].
    async fn prepared(&self) -> Result<Option<Box<dyn Signer>>, SignError> {
        Ok(None)
    }

    /// Whether it could sign at all, a statement or else the bytes of a `message`, as far as that is known without asking
    /// anybody. By default it could.
    ///
    /// # Errors
    /// [`SignError::Options`].
    fn check(&self, message: bool) -> Result<(), SignError> {
        let _ = message;
        Ok(())
    }
}

/// A bundle as bytes, with what one needs to know to attach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBundle {
    bytes: Bytes,
    subject: Option<Digest>,
    predicate_type: Option<String>,
}

impl SignedBundle {
    /// Reads a bundle that was made elsewhere. It is not verified: nothing in it is to be believed.
    ///
    /// # Errors
    /// [`BundleError::TooLarge`], [`BundleError::Malformed`], [`BundleError::Statement`] without a subject.
    pub fn read(bytes: Bytes) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Said {
            subject: Vec<About>,
            predicate_type: String,
        }
        #[derive(Deserialize)]
        struct About {
            digest: std::collections::BTreeMap<String, String>,
        }
        let bundle = Bundle::parse(&bytes)?;
        let SignatureContent::DsseEnvelope(envelope) = &bundle.0.content else {
            let digest = bundle.message_digest();
            return Ok(Self { bytes, subject: digest, predicate_type: None });
        };
        let said: Said = serde_json::from_slice(envelope.payload.as_bytes())
            .map_err(|error| BundleError::Statement(error.to_string()))?;
        let mut digests = said.subject.iter().flat_map(|about| &about.digest);
        let subject = digests.find_map(|(algorithm, hex)| format!("{algorithm}:{hex}").parse().ok());
        if subject.is_none() {
            return Err(BundleError::Statement("it names no digest of a manifest".into()));
        }
        Ok(Self { bytes, subject, predicate_type: Some(said.predicate_type) })
    }

    /// The JSON, as it is stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The first digest that it says to be about; `None` for a signature of bytes that does not name it.
    pub fn subject(&self) -> Option<&Digest> {
        self.subject.as_ref()
    }

    /// What kind of statement it signs; `None` for a signature of the bytes themselves.
    pub fn predicate_type(&self) -> Option<&str> {
        self.predicate_type.as_deref()
    }
}
