//! TLS for the server: certificates and keys from PEM files, which are read again when they change.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// Larger PEM files are refused, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file holds nothing of the kind it should.
    #[error("{}: expected {expected} in PEM form", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// The cause, if it is malformed.
        source: Option<rustls_pki_types::pem::Error>,
    },
    /// Certificate and key do not work together, or are of a kind that is not supported.
    #[error("using the certificate of {} with the key of {}", certificate.display(), key.display())]
    Pair {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// The authorities of clients cannot be used.
    #[error("using the client authorities of {}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// TLS 1.2 and 1.3, for HTTP/1.1 and HTTP/2.
///
/// While the server runs, the files are looked at every ten seconds and read again when one has changed; connections
/// that are open stay as they are. Files that cannot be used are left alone, with a warning: the server goes on with
/// what it has. Replace both files, then wait; a certificate that meets the key of another is not used.
pub struct Tls {
    files: Files,
    current: RwLock<(TlsAcceptor, Stamps)>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

type Stamps = Vec<Option<(SystemTime, u64)>>;

impl Tls {
    /// The certificate chain, leaf first, and its private key (PKCS #8, PKCS #1 or SEC1). This blocks.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_pem_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        Self::read(Files { certificate: certificate.into(), key: key.into(), client_ca: None })
    }

    /// The same, and clients must have a certificate of one of the authorities in `client_ca`. This blocks.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn with_client_ca(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        client_ca: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let client_ca = Some(client_ca.into());
        Self::read(Files { certificate: certificate.into(), key: key.into(), client_ca })
    }

    fn read(files: Files) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let acceptor = files.acceptor()?;
        Ok(Self { files, current: RwLock::new((acceptor, stamps)) })
    }

    /// What the next connection is accepted with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Reads the files again if one of them has changed. This blocks. True if they were taken.
    pub(super) fn reload(&self) -> bool {
        let stamps = self.files.stamps();
        if self.current.read().unwrap_or_else(PoisonError::into_inner).1 == stamps {
            return false;
        }
        let read = self.files.acceptor();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Files that cannot be used are not tried again until they change once more.
        current.1 = stamps;
        match read {
            Ok(acceptor) => {
                current.0 = acceptor;
                tracing::info!(certificate = %self.files.certificate.display(), "certificate and key were read again");
                true
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the changed certificate or key is not used");
                false
            }
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Files {
    fn stamps(&self) -> Stamps {
        let paths = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let stamp = |path: &PathBuf| fs::metadata(path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        paths.into_iter().flatten().map(stamp).collect()
    }

    fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        let key = key.map_err(|source| TlsError::Content {
            path: self.key.clone(),
            expected: "an unencrypted private key",
            source: Some(source),
        })?;
        let pair = |source| TlsError::Pair { certificate: self.certificate.clone(), key: self.key.clone(), source };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(pair)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let unusable = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::ClientCa {
                    path: path.clone(),
                    source,
                };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(error.into()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| unusable(error.into()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Content { path: path.to_owned(), expected: "certificates", source };
    let read = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read).collect();
    let found = found.map_err(|source| wrong(Some(source)))?;
    if found.is_empty() { Err(wrong(None)) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    blob_core::plain::read(path, MAX_BYTES).map_err(|source| TlsError::Io { path: path.to_owned(), source })
}
