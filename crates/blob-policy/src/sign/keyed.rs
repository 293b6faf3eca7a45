//! Bundles signed with a key.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blob_core::Digest;
use bytes::Bytes;
use sigstore_types::bundle::{
    MediaType, MessageDigest, MessageSignature, PublicKeyIdentifier, VerificationMaterial, VerificationMaterialContent,
};
use sigstore_types::{
    DsseEnvelope, DsseSignature, HashAlgorithm, KeyId, PayloadBytes, SignatureBytes, SignatureContent,
};

use super::bundle::{SignedBundle, Signer};
use super::equivalence::Equivalence;
use super::error::SignError;
use super::key::{KeyKind, KeySigner};
use super::services::{Services, Verifier};
use super::statement::Statement;
use crate::sigstore::{
    Artifact, Bundle, KeyRing, Trust, TrustRoot, TrustedKey, verify_with_key_at, verify_with_key_without_log,
};

/// The media type of a statement in an envelope.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Signs with a key. Without further services nothing but the key vouches for a bundle, and nobody knows when it was
/// made: verifiers say so with `KeyPolicy::without_transparency_log`.
#[derive(Clone, Debug)]
pub struct KeyedSigner {
    key: Arc<dyn KeySigner>,
    witnesses: Option<(Services, TrustRoot)>,
}

impl KeyedSigner {
    /// Signs with `key`, offline.
    pub fn new(key: Arc<dyn KeySigner>) -> Self {
        Self { key, witnesses: None }
    }

    /// Enters signatures in the logs of `services`, and has them stamped; what these say is believed as far as `root`
    /// does. A log of the public-good instance shows to everybody what is signed when.
    #[must_use]
    pub fn with_services(mut self, services: Services, root: TrustRoot) -> Self {
        self.witnesses =
            Some((services, root)).filter(|(services, _)| services.has_log() || services.has_time_stamps());
        self
    }

    async fn finish(
        &self,
        content: SignatureContent,
        artifact: Artifact<'_>,
        digest: Option<Digest>,
    ) -> Result<SignedBundle, SignError> {
        let public = self.key.public_key();
        let fingerprint = Digest::sha256_of(public.to_der());
        let hint = PublicKeyIdentifier::new(BASE64_STANDARD.encode(fingerprint.as_bytes()));
        let mut material = VerificationMaterial::new(VerificationMaterialContent::PublicKey(hint));
        if let Some((services, _)) = &self.witnesses {
            let http = services.http().map_err(|source| SignError::Bundle(source.into()))?;
            material = services.witness(&http, material, &content, &Verifier::key(public, digest)).await?;
        }
        let (bytes, bundle) = printed(material, content)?;
        let checked = match &self.witnesses {
            None => verify_with_key_without_log(public, &bundle, artifact),
            Some((services, root)) => {
                verify_with_key_at(root, &services.least_evidence(root), public, &bundle, artifact)
            }
        };
        checked.map_err(SignError::SelfCheck)?;
        SignedBundle::read(bytes).map_err(SignError::SelfCheck)
    }
}

/// A bundle as bytes, and as those bytes read: what is checked is what was printed, not what was meant.
pub(super) fn printed(material: VerificationMaterial, content: SignatureContent) -> Result<(Bytes, Bundle), SignError> {
    let bundle = sigstore_types::Bundle::new(MediaType::Bundle0_3, material, content);
    let bytes: Bytes = bundle.to_json().map_err(|source| SignError::Bundle(source.into()))?.into();
    let read = Bundle::parse(&bytes).map_err(SignError::SelfCheck)?;
    Ok((bytes, read))
}

#[async_trait]
impl Signer for KeyedSigner {
    async fn sign(&self, statement: &Statement) -> Result<SignedBundle, SignError> {
        self.check(false)?;
        let envelope = envelope(self.key.as_ref(), &statement.to_bytes()).await?;
        let artifact = Artifact::Digest(statement.subject());
        self.finish(SignatureContent::DsseEnvelope(envelope), artifact, None).await
    }

    async fn sign_message(&self, message: &Bytes) -> Result<SignedBundle, SignError> {
        self.check(true)?;
        let signed = message_signature(self.key.as_ref(), message).await?;
        let digest = Digest::sha256_of(message);
        self.finish(SignatureContent::MessageSignature(signed), Artifact::Content(message), Some(digest)).await
    }

    async fn equivalence(&self) -> Result<Option<Equivalence>, SignError> {
        let key = TrustedKey::new(self.key.public_key().clone());
        let Some(ring) = KeyRing::new(vec![key]).map(Arc::new) else { return Ok(None) };
        let trust = match &self.witnesses {
            None => Trust::UnloggedKeys(ring),
            Some((services, root)) => Trust::KeysAt(root.clone(), ring, services.evidence(root)),
        };
        Ok(Some(Equivalence::verified_by(trust)))
    }

    fn check(&self, message: bool) -> Result<(), SignError> {
        self.witnesses.as_ref().map_or(Ok(()), |(services, _)| services.check(self.key.kind(), message))
    }
}

/// Signs `payload` as a statement.
pub(super) async fn envelope(key: &dyn KeySigner, payload: &Bytes) -> Result<DsseEnvelope, SignError> {
    let envelope = |signature: Vec<u8>| {
        let signature = DsseSignature::new(SignatureBytes::new(signature), KeyId::default());
        DsseEnvelope::new(IN_TOTO, PayloadBytes::new(payload.to_vec()), signature)
    };
    let signature = raw(key, &envelope(Vec::new()).pae()).await?;
    Ok(envelope(signature))
}

/// Signs the bytes of `message`.
pub(super) async fn message_signature(key: &dyn KeySigner, message: &[u8]) -> Result<MessageSignature, SignError> {
    let signed = MessageSignature::new(SignatureBytes::new(raw(key, message).await?));
    // The digest is a hint for verifiers, and says which hash was signed: only where that is SHA-256 may it stand there.
    let hinted = key.kind().signs_sha256() || key.kind() == KeyKind::Ed25519;
    if !hinted {
        return Ok(signed);
    }
    let digest = Digest::sha256_of(message).as_bytes().to_vec();
    Ok(signed.with_message_digest(MessageDigest::new(HashAlgorithm::Sha2256, digest.into())))
}

pub(super) async fn raw(key: &dyn KeySigner, message: &[u8]) -> Result<Vec<u8>, SignError> {
    let signed = key.sign(message).await;
    signed.map_err(|source| SignError::Key { id: key.public_key().id().into(), source })
}
