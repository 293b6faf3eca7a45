//! Managed public keys: several, each with a time in which it counts.

use jiff::Timestamp;
use sigstore_crypto::{KeyAlgorithm, verify_signature, verify_signature_prehashed};
use sigstore_types::bundle::MessageSignature;
use sigstore_types::{HashAlgorithm, SignatureContent};

use super::bundle::Bundle;
use super::error::BundleError;
use super::trust::TrustRoot;
use super::verify::{
    Artifact, PublicKey, Thresholds, VerifiedBundle, not_verified, require_key_made, unlogged, verify_with_key_at,
};

/// The most keys that are tried on a bundle.
pub const MAX_KEYS: usize = 32;

/// A key, and when its signatures count.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Signatures made earlier do not count.
    pub not_before: Option<Timestamp>,
    /// Signatures made later do not count.
    pub not_after: Option<Timestamp>,
}

impl TrustedKey {
    /// A key that counts at all times.
    pub fn new(key: PublicKey) -> Self {
        Self { key, not_before: None, not_after: None }
    }

    /// Counts from `time` on.
    #[must_use]
    pub fn not_before(mut self, time: Timestamp) -> Self {
        self.not_before = Some(time);
        self
    }

    /// Counts up to `time`.
    #[must_use]
    pub fn not_after(mut self, time: Timestamp) -> Self {
        self.not_after = Some(time);
        self
    }

    /// Whether the key counted at all of `times`; without any, nobody knows when it signed.
    fn counts_at(&self, times: &[Timestamp]) -> Result<(), BundleError> {
        if self.not_before.is_none() && self.not_after.is_none() {
            return Ok(());
        }
        if times.is_empty() {
            return Err(not_verified("the key is limited in time, and nothing says when it signed"));
        }
        let outside = |time: &&Timestamp| {
            self.not_before.is_some_and(|start| **time < start) || self.not_after.is_some_and(|end| **time > end)
        };
        match times.iter().find(outside) {
            Some(time) => Err(not_verified(format!("{time} is outside of the time in which the key counts"))),
            None => Ok(()),
        }
    }
}

/// Keys of which any may have signed: 1 to [`MAX_KEYS`].
#[derive(Clone, Debug)]
pub struct KeyRing(Vec<TrustedKey>);

impl KeyRing {
    /// These keys; `None` for no key, more than [`MAX_KEYS`], or the same key twice, in whatever form.
    pub fn new(keys: Vec<TrustedKey>) -> Option<Self> {
        let unique =
            keys.iter().enumerate().all(|(at, key)| keys[..at].iter().all(|other| !other.key.is_same(&key.key)));
        (unique && (1..=MAX_KEYS).contains(&keys.len())).then_some(Self(keys))
    }

    /// How many there are; never 0.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The keys.
    pub(super) fn keys(&self) -> &[TrustedKey] {
        &self.0
    }

    /// Verifies with the key that fits; with evidence by those in a root, if there is one.
    pub(super) fn verify(
        &self,
        evidence: Option<(&TrustRoot, &Thresholds)>,
        bundle: &Bundle,
        artifact: Artifact<'_>,
    ) -> Result<VerifiedBundle, BundleError> {
        let mut reasons = Vec::new();
        for trusted in &self.0 {
            let verified = match evidence {
                Some((root, thresholds)) => verify_with_key_at(root, thresholds, &trusted.key, bundle, artifact),
                None => verify_with_key_without_log(&trusted.key, bundle, artifact),
            };
            let checked = verified.and_then(|verified| {
                // Without a log nothing says when it signed: the key must count now.
                let now = [Timestamp::now()];
                trusted.counts_at(if evidence.is_some() { verified.times() } else { &now })?;
                Ok(verified)
            });
            match checked {
                Ok(verified) => return Ok(verified),
                Err(error) if self.0.len() == 1 => return Err(error),
                Err(error) => reasons.push(format!("key {:.16}: {}", trusted.key.id(), error.reason())),
            }
        }
        Err(not_verified(reasons.join(", ")))
    }
}

/// Verifies that `key` signed, and nothing else: no log, no time. Whoever holds the key, or ever held it, can make such
/// a bundle unseen.
///
/// # Errors
/// [`BundleError`].
pub fn verify_with_key_without_log(
    key: &PublicKey,
    bundle: &Bundle,
    artifact: Artifact<'_>,
) -> Result<VerifiedBundle, BundleError> {
    require_key_made(bundle)?;
    let algorithm = KeyAlgorithm::from_spki(key.der()).map_err(not_verified)?;
    match &bundle.0.content {
        SignatureContent::DsseEnvelope(envelope) => {
            let scheme = algorithm.default_signing_scheme();
            verify_signature(key.der(), &envelope.pae(), &envelope.signature.sig, scheme).map_err(not_verified)?;
        }
        SignatureContent::MessageSignature(message) => verify_message(key, algorithm, message, artifact)?,
        _ => return Err(BundleError::Malformed("unknown kind of content".into())),
    }
    unlogged(bundle, artifact, key)
}

fn verify_message(
    key: &PublicKey,
    algorithm: KeyAlgorithm,
    message: &MessageSignature,
    artifact: Artifact<'_>,
) -> Result<(), BundleError> {
    let sha256 = artifact.digest(blob_core::Algorithm::Sha256);
    let mut scheme = algorithm.default_signing_scheme();
    if let Some(named) = &message.message_digest {
        let ours = sha256.filter(|_| named.algorithm == HashAlgorithm::Sha2256);
        if ours.is_none_or(|ours| named.digest.as_bytes() != ours.as_bytes()) {
            return Err(not_verified("the signed digest is not that of the artifact"));
        }
        if algorithm != KeyAlgorithm::Ed25519 {
            scheme = algorithm.resolve_signing_scheme(named.algorithm).map_err(not_verified)?;
        }
    }
    match (artifact, sha256) {
        (Artifact::Content(content), _) => verify_signature(key.der(), content, &message.signature, scheme),
        (Artifact::Digest(_), Some(sha256)) => {
            verify_signature_prehashed(key.der(), sha256.as_bytes(), &message.signature, scheme)
        }
        (Artifact::Digest(digest), None) => return Err(BundleError::Algorithm(*digest)),
    }
    .map_err(not_verified)
}
