//! Content digests: `sha256:…` and `sha512:…` as small `Copy` values.
//!
//! Archive contents are SHA-256 always; SHA-512 is for references and manifests. The text form is the OCI one
//! (image-spec, "Digests"): `algorithm ":" lower-case hex`, nothing else is accepted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState as _;

/// The digest of some bytes.
///
/// ```
/// use blob_core::Digest;
///
/// let digest = Digest::sha256_of(b"hello");
/// assert_eq!(
///     digest.to_string(),
///     "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
/// );
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// assert!("sha256:2CF2".parse::<Digest>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Digest {
    /// SHA-256, 32 bytes.
    Sha256([u8; 32]),
    /// SHA-512, 64 bytes.
    Sha512([u8; 64]),
}

/// Names a digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256: 32 bytes, 64 hexadecimal digits.
    Sha256,
    /// SHA-512: 64 bytes, 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256_of(bytes: &[u8]) -> Self {
        Self::Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// The digest of `bytes` under `algorithm`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm that made this digest.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw bytes: 32 or 64.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The hexadecimal part of the text form, lower-case.
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Self::of(self.algorithm(), bytes) == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// There is no colon, or nothing before it.
    #[error("{0:?} is not a digest: expected sha256:<64 hex digits> or sha512:<128 hex digits>")]
    Form(String),
    /// The algorithm is none of ours.
    #[error("digest algorithm {0:?} is not supported: expected sha256 or sha512")]
    Algorithm(String),
    /// The part after the colon has the wrong length or characters.
    #[error("{algorithm} digest {encoded:?} is malformed: expected {expected} lower-case hexadecimal digits")]
    Encoded {
        /// What stands before the colon.
        algorithm: &'static str,
        /// What stands behind it, cut to 160 characters.
        encoded: String,
        /// How many digits it should have.
        expected: usize,
    },
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let shown = || text.chars().take(160).collect::<String>();
        let Some((name, encoded)) = text.split_once(':').filter(|(name, _)| !name.is_empty()) else {
            return Err(DigestError::Form(shown()));
        };
        match name {
            "sha256" => decode("sha256", encoded).map(Self::Sha256),
            "sha512" => decode("sha512", encoded).map(Self::Sha512),
            other => Err(DigestError::Algorithm(other.chars().take(160).collect())),
        }
    }
}

/// Decodes exactly `N` bytes of lower-case hexadecimal.
fn decode<const N: usize>(algorithm: &'static str, encoded: &str) -> Result<[u8; N], DigestError> {
    let mut bytes = [0; N];
    let lower = !encoded.bytes().any(|byte| byte.is_ascii_uppercase());
    if lower && hex::decode_to_slice(encoded, &mut bytes).is_ok() {
        return Ok(bytes);
    }
    let encoded = encoded.chars().take(160).collect();
    Err(DigestError::Encoded { algorithm, encoded, expected: 2 * N })
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes a stream of bytes.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// An empty hash under `algorithm`.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// An empty SHA-256 hash.
    pub fn sha256() -> Self {
        Self::new(Algorithm::Sha256)
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha512(hash) => hash.update(bytes),
        }
    }

    /// What it takes to go on hashing later, in another process: see [`from_state`](Self::from_state). The bytes depend on
    /// the version of this library, and on what was hashed.
    pub fn state(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(hash) => hash.serialize().to_vec(),
            State::Sha512(hash) => hash.serialize().to_vec(),
        }
    }

    /// A hash that goes on where [`state`](Self::state) was taken; `None` if `state` cannot be one under `algorithm`.
    pub fn from_state(algorithm: Algorithm, state: &[u8]) -> Option<Self> {
        Some(Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::deserialize(state.try_into().ok()?).ok()?),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::deserialize(state.try_into().ok()?).ok()?),
        }))
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hash) => Digest::Sha256(hash.finalize().into()),
            State::Sha512(hash) => Digest::Sha512(hash.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, ok: bool) {
        assert_eq!(text.parse::<Digest>().is_ok(), ok, "{text:?}");
    }

    #[test]
    fn parses_exactly_the_two_canonical_forms() {
        let hex = "0123456789abcdef".repeat(4);
        check(&format!("sha256:{hex}"), true);
        check(&format!("sha512:{hex}{hex}"), true);
        for bad in [
            String::new(),
            ":".into(),
            hex.clone(),
            format!(":{hex}"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha384:{hex}"),
            format!("md5:{}", &hex[..32]),
            format!("SHA256:{hex}"),
            "sha256:../../x".into(),
            format!("sha256:{hex}\0"),
            format!(" sha256:{hex}"),
        ] {
            check(&bad, false);
        }
    }

    #[test]
    fn hashing_goes_on_from_a_saved_state() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for length in [0, 1, 63, 64, 200] {
                let bytes = vec![7; length];
                let mut hasher = Hasher::new(algorithm);
                hasher.update(&bytes);
                let mut resumed = Hasher::from_state(algorithm, &hasher.state()).expect("a state");
                resumed.update(b"more");
                assert_eq!(resumed.finish(), Digest::of(algorithm, &[&bytes[..], b"more"].concat()));
                assert!(Hasher::from_state(algorithm, &hasher.state()[1..]).is_none());
            }
            assert!(Hasher::from_state(algorithm, &[0xff; 8]).is_none());
        }
    }

    #[test]
    fn hashing_in_pieces_equals_hashing_at_once() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"hel");
            hasher.update(b"lo");
            assert_eq!(hasher.finish(), Digest::of(algorithm, b"hello"));
            assert!(Digest::of(algorithm, b"hello").matches(b"hello"));
            assert!(!Digest::of(algorithm, b"hello").matches(b"hellp"));
        }
    }
}
