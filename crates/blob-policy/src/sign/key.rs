//! What signs: a key here, or one that never leaves a service.

use std::fmt;

use async_trait::async_trait;

use super::error::KeyError;
use crate::sigstore::PublicKey;

/// A kind of key, with the one way in which it signs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA over P-256 with SHA-256; signatures in ASN.1.
    EcdsaP256,
    /// ECDSA over P-384 with SHA-384; signatures in ASN.1.
    EcdsaP384,
    /// Ed25519 over the whole message, not a digest of it.
    Ed25519,
    /// RSA of 2048 to 8192 bits, PKCS#1 v1.5 with SHA-256.
    Rsa,
}

impl KeyKind {
    /// Whether a signature is over the SHA-256 digest, so that a log can record it next to the digest.
    pub(super) fn signs_sha256(self) -> bool {
        matches!(self, Self::EcdsaP256 | Self::Rsa)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        })
    }
}

/// Something that holds a private key and signs with it: implement it for a key management service.
///
/// # Contract
/// - The public key does not change while the value lives, and `kind` is that of the public key.
/// - `sign` signs `message` itself, hashing it as [`kind`](Self::kind) says; messages are at most 8 MiB. A service that
///   signs digests is given the digest of `message`. ECDSA signatures are in ASN.1 (`SEQUENCE { r, s }`).
/// - A signature that does not verify is noticed and thrown away by the caller.
/// - `Debug` must not show the key, nor what opens it.
///
/// `LocalKey` is one; `crates/blob-policy/examples/kms.rs` has another.
#[async_trait]
pub trait KeySigner: fmt::Debug + Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// What kind of key it is, and so how it signs.
    fn kind(&self) -> KeyKind;

    /// Signs `message`.
    ///
    /// # Errors
    /// [`KeyError::Failed`] with the cause.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}
