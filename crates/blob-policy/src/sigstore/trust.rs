//! Trust roots: the authorities and logs that bundles are checked against.

use std::error::Error;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::{Digest, plain};
use sigstore_trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_tsa::TsaAuthority;
use sigstore_verify::Verifier;

use super::logs::Logs;

/// The largest trust root that is read: 4 MiB.
pub const MAX_TRUST_ROOT_BYTES: u64 = 4 << 20;

/// Certificate authorities, logs and time-stamp authorities, checked when made; cheap to clone.
#[derive(Clone)]
pub struct TrustRoot {
    verifier: Arc<Verifier>,
    digest: Digest,
    stamps_time: bool,
    authorities: Arc<[TsaAuthority]>,
    has_transparency: bool,
    logs: Arc<Logs>,
}

/// A trust root could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRootError {
    /// The file could not be read.
    #[error("reading the trust root {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is larger than is looked at.
    #[error("the trust root has more than {MAX_TRUST_ROOT_BYTES} bytes")]
    TooLarge,
    /// It could not be refreshed, and there is no last known one.
    #[error("refreshing the trust root of {repository}")]
    Refresh {
        /// The repository.
        repository: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is not a trust root, or names keys and certificates that cannot be used.
    #[error("the trust root is not usable")]
    Malformed(#[source] Box<dyn Error + Send + Sync>),
}

impl TrustRoot {
    /// The public-good instance, as it was when this crate was built. Logs and authorities that came later are not in it.
    ///
    /// # Errors
    /// [`TrustRootError::Malformed`].
    pub fn production() -> Result<Self, TrustRootError> {
        Self::from_json(SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes())
    }

    /// A `trusted_root.json` of at most [`MAX_TRUST_ROOT_BYTES`].
    ///
    /// # Errors
    /// [`TrustRootError::TooLarge`], [`TrustRootError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, TrustRootError> {
        fn malformed(error: impl Into<Box<dyn Error + Send + Sync>>) -> TrustRootError {
            TrustRootError::Malformed(error.into())
        }
        if bytes.len() as u64 > MAX_TRUST_ROOT_BYTES {
            return Err(TrustRootError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(malformed)?;
        let root = TrustedRoot::from_json(text).map_err(malformed)?;
        let verifier = Arc::new(Verifier::new(&root).map_err(malformed)?);
        let stamps_time = !root.timestamp_authorities.is_empty();
        let authorities = root.tsa_authorities().into();
        let has_transparency = !root.ctlogs.is_empty();
        let (digest, logs) = (Digest::sha256_of(bytes), Arc::new(Logs::of(&root)));
        Ok(Self { verifier, digest, stamps_time, authorities, has_transparency, logs })
    }

    /// Reads the file at `path`; blocks.
    ///
    /// # Errors
    /// [`TrustRootError`].
    pub fn from_file(path: &Path) -> Result<Self, TrustRootError> {
        let read = |source| TrustRootError::Read { path: path.to_owned(), source };
        // One byte more than it may have, so that its own limit is what is said.
        let mut bytes = Vec::new();
        plain::open(path).and_then(|file| file.take(MAX_TRUST_ROOT_BYTES + 1).read_to_end(&mut bytes)).map_err(read)?;
        Self::from_json(&bytes)
    }

    /// SHA-256 of the JSON: equal roots verify alike, so this can key a cache of results.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether there is any certificate transparency log in it.
    pub fn has_certificate_transparency(&self) -> bool {
        self.has_transparency
    }

    /// Whether there is any time-stamp authority in it.
    pub(super) fn stamps_time(&self) -> bool {
        self.stamps_time
    }

    /// The time-stamp authorities whose time has begun.
    pub(super) fn time_stamp_authorities(&self) -> &[TsaAuthority] {
        &self.authorities
    }

    /// The transparency logs.
    pub(super) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// How many different logs certainly are behind these addresses.
    #[cfg(feature = "sign")]
    pub(crate) fn logs_behind<'a>(&self, urls: impl Iterator<Item = &'a str>) -> usize {
        self.logs.behind(urls)
    }

    pub(super) fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustRoot").field("digest", &self.digest).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_embedded_root_is_usable_and_junk_is_not() {
        let root = TrustRoot::production().unwrap();
        assert_eq!(root.digest(), TrustRoot::production().unwrap().digest());
        assert!(matches!(TrustRoot::from_json(b"[]"), Err(TrustRootError::Malformed(_))));
        assert!(matches!(TrustRoot::from_json(&vec![b' '; (4 << 20) + 1]), Err(TrustRootError::TooLarge)));
        assert!(matches!(TrustRoot::from_file(Path::new("/nowhere")), Err(TrustRootError::Read { .. })));
    }
}
