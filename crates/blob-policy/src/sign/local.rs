//! Private keys in memory.

use std::fmt;

use async_trait::async_trait;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use pkcs8::spki::ObjectIdentifier;
use zeroize::Zeroizing;

use super::error::KeyError;
use super::key::{KeyKind, KeySigner};
use crate::sigstore::PublicKey;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// What else people try, so that the message can name it.
const OTHERS: [(&str, &str); 9] = [
    ("1.3.132.0.35", "an ECDSA P-521 key"),
    ("1.3.132.0.10", "an ECDSA secp256k1 key"),
    ("1.3.101.110", "an X25519 key"),
    ("1.3.101.111", "an X448 key"),
    ("1.3.101.113", "an Ed448 key"),
    ("1.2.840.113549.1.1.10", "an RSA-PSS key"),
    ("1.2.840.10040.4.1", "a DSA key"),
    ("2.16.840.1.101.3.4.3.17", "an ML-DSA-44 key"),
    ("2.16.840.1.101.3.4.3.18", "an ML-DSA-65 key"),
];
const USE_INSTEAD: &str = "use an ECDSA P-256 or P-384, Ed25519 or RSA key of 2048 to 8192 bits";

/// A private key in memory: erased when dropped, never shown by `Debug`.
pub struct LocalKey {
    private: Private,
    public: PublicKey,
    kind: KeyKind,
}

enum Private {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl LocalKey {
    /// Makes a new key. RSA keys have 3072 bits, and take up to some seconds to make.
    ///
    /// # Errors
    /// [`KeyError::Failed`].
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let failed = |source: aws_lc_rs::error::Unspecified| KeyError::Failed {
            action: "generating a private key",
            source: source.into(),
        };
        let private = match kind {
            KeyKind::EcdsaP256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Private::Ecdsa),
            KeyKind::EcdsaP384 => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Private::Ecdsa),
            KeyKind::Ed25519 => Ed25519KeyPair::generate().map(Private::Ed25519),
            KeyKind::Rsa => RsaKeyPair::generate(KeySize::Rsa3072).map(Private::Rsa),
        };
        Self::new("generated", kind, private.map_err(failed)?)
    }

    /// A key from PKCS#8 `PrivateKeyInfo`, not encrypted.
    ///
    /// # Errors
    /// [`KeyError::Malformed`], [`KeyError::Unsupported`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::pkcs8("PRIVATE KEY", der)
    }

    pub(super) fn pkcs8(label: &str, der: &[u8]) -> Result<Self, KeyError> {
        let malformed = |source: aws_lc_rs::error::KeyRejected| KeyError::malformed(label, source);
        let info = pkcs8::PrivateKeyInfoRef::try_from(der).map_err(|e| KeyError::malformed(label, e))?;
        let parameters = info.algorithm.parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        match (info.algorithm.oid, parameters) {
            (EC, Some(P256)) => Self::ec(label, KeyKind::EcdsaP256, |a| EcdsaKeyPair::from_pkcs8(a, der)),
            (EC, Some(P384)) => Self::ec(label, KeyKind::EcdsaP384, |a| EcdsaKeyPair::from_pkcs8(a, der)),
            (ED25519, _) => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(malformed)?;
                Self::new(label, KeyKind::Ed25519, Private::Ed25519(pair))
            }
            (RSA, _) => Self::rsa(label, RsaKeyPair::from_pkcs8(der)),
            (EC, Some(oid)) | (oid, _) => Err(unsupported(&oid.to_string())),
        }
    }

    /// A key in the older form of its own kind: `EC PRIVATE KEY` (RFC 5915).
    pub(super) fn sec1(label: &str, der: &[u8]) -> Result<Self, KeyError> {
        let p256 = Self::ec(label, KeyKind::EcdsaP256, |a| EcdsaKeyPair::from_private_key_der(a, der));
        p256.or_else(|error| {
            Self::ec(label, KeyKind::EcdsaP384, |a| EcdsaKeyPair::from_private_key_der(a, der)).map_err(|_| {
                let curve = OTHERS[..2].iter().find(|(oid, _)| names(der, oid));
                curve.map_or(error, |(oid, _)| unsupported(oid))
            })
        })
    }

    /// A key in the older form of its own kind: `RSA PRIVATE KEY` (PKCS#1).
    pub(super) fn pkcs1(label: &str, der: &[u8]) -> Result<Self, KeyError> {
        Self::rsa(label, RsaKeyPair::from_der(der))
    }

    fn rsa(label: &str, read: Result<RsaKeyPair, aws_lc_rs::error::KeyRejected>) -> Result<Self, KeyError> {
        match read {
            Ok(pair) => Self::new(label, KeyKind::Rsa, Private::Rsa(pair)),
            Err(rejected) if rejected.to_string().contains("TooSmall") => {
                Err(KeyError::Unsupported { kind: "an RSA key of less than 2048 bits".into(), hint: USE_INSTEAD })
            }
            Err(rejected) if rejected.to_string().contains("TooLarge") => {
                Err(KeyError::Unsupported { kind: "an RSA key of more than 8192 bits".into(), hint: USE_INSTEAD })
            }
            Err(rejected) => Err(KeyError::malformed(label, rejected)),
        }
    }

    fn ec(
        label: &str,
        kind: KeyKind,
        read: impl FnOnce(&'static EcdsaSigningAlgorithm) -> Result<EcdsaKeyPair, aws_lc_rs::error::KeyRejected>,
    ) -> Result<Self, KeyError> {
        let algorithm = match kind {
            KeyKind::EcdsaP384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
            _ => &ECDSA_P256_SHA256_ASN1_SIGNING,
        };
        let pair = read(algorithm).map_err(|source| KeyError::malformed(label, source))?;
        Self::new(label, kind, Private::Ecdsa(pair))
    }

    fn new(label: &str, kind: KeyKind, private: Private) -> Result<Self, KeyError> {
        let der = match &private {
            Private::Ecdsa(pair) => pair.public_key().as_der(),
            Private::Ed25519(pair) => pair.public_key().as_der(),
            Private::Rsa(pair) => pair.public_key().as_der(),
        };
        let der = der.map_err(|source| KeyError::malformed(label, source))?;
        // Only what the verifier takes may sign: the rest could never be verified.
        let public = PublicKey::from_der(der.as_ref()).map_err(|source| KeyError::malformed(label, source))?;
        Ok(Self { private, public, kind })
    }

    /// The key as PKCS#8 `PrivateKeyInfo`, not encrypted.
    pub(super) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = match &self.private {
            Private::Ecdsa(pair) => pair.to_pkcs8v1(),
            Private::Ed25519(pair) => pair.to_pkcs8v1(),
            Private::Rsa(pair) => {
                return pair.as_der().map(|der| Zeroizing::new(der.as_ref().to_vec())).map_err(encoding);
            }
        };
        document.map(|document| Zeroizing::new(document.as_ref().to_vec())).map_err(encoding)
    }
}

fn encoding(source: aws_lc_rs::error::Unspecified) -> KeyError {
    KeyError::Failed { action: "encoding the private key", source: source.into() }
}

fn unsupported(oid: &str) -> KeyError {
    let known = OTHERS.iter().find(|(number, _)| *number == oid);
    let kind = known.map_or_else(|| format!("a key of algorithm {oid}"), |(_, name)| (*name).into());
    KeyError::Unsupported { kind, hint: USE_INSTEAD }
}

/// Whether a structure names this curve: enough for a better message, and used for nothing else.
fn names(der: &[u8], oid: &str) -> bool {
    let oid = ObjectIdentifier::new_unwrap(oid);
    der.windows(oid.as_bytes().len()).any(|window| window == oid.as_bytes())
}

#[async_trait]
impl KeySigner for LocalKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn kind(&self) -> KeyKind {
        self.kind
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        let signed = match &self.private {
            Private::Ecdsa(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Private::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
        };
        signed.map_err(|source| KeyError::Failed { action: "signing", source: source.into() })
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("kind", &self.kind).field("id", &self.public.id()).finish_non_exhaustive()
    }
}
