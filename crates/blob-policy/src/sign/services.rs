//! The services that give a signature its evidence: a certificate authority, transparency logs, time-stamp authorities.

mod config;
mod fulcio;
mod http;
mod rekor;
mod tsa;

use std::fmt;
use std::time::Duration;

use sigstore_types::bundle::{Rfc3161Timestamp, TimestampVerificationData, VerificationMaterial};
use sigstore_types::{SignatureContent, TimestampToken, TransparencyLogEntry};
use url::Url;

pub use self::config::{LogVersion, MAX_SIGNING_CONFIG_BYTES, SigningConfigError};
pub(super) use self::fulcio::certificate;
pub(super) use self::http::{Http, Question, address};
pub use self::http::{MAX_ANSWER_BYTES, ServiceError};
pub(super) use self::rekor::Verifier;
use super::error::SignError;
use super::key::KeyKind;
use crate::sigstore::{Thresholds, TrustRoot};

/// The most logs, and the most time-stamp authorities, of one signature.
const MAX_EACH: usize = 8;

/// A transparency log, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LogService {
    url: Url,
    version: LogVersion,
}

/// Which services are asked, all of them for every signature.
///
/// Addresses are `https`, or `http` on this machine; redirects are not followed, since a request can carry a token.
/// Answers are read up to [`MAX_ANSWER_BYTES`]. What a service answers is not believed: the bundle is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    fulcio: Option<Url>,
    logs: Vec<LogService>,
    stamps: Vec<Url>,
    issuer: Option<Url>,
    timeout: Duration,
    attempts: u32,
}

/// What was asked, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceKind {
    /// Fulcio.
    CertificateAuthority,
    /// Rekor.
    TransparencyLog,
    /// An RFC 3161 authority.
    TimeStampAuthority,
    /// Who gives out identity tokens.
    TokenIssuer,
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CertificateAuthority => "certificate authority",
            Self::TransparencyLog => "transparency log",
            Self::TimeStampAuthority => "time-stamp authority",
            Self::TokenIssuer => "token issuer",
        })
    }
}

impl Default for Services {
    fn default() -> Self {
        let none = (Vec::new(), Vec::new());
        Self { fulcio: None, logs: none.0, stamps: none.1, issuer: None, timeout: Duration::from_secs(30), attempts: 3 }
    }
}

impl Services {
    /// No services yet: 30 seconds for each answer, three attempts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks this authority for certificates.
    ///
    /// # Errors
    /// [`ServiceError::Address`].
    pub fn certificate_authority(mut self, url: &str) -> Result<Self, ServiceError> {
        self.fulcio = Some(address(url)?);
        Ok(self)
    }

    /// Enters every signature in this log as well.
    ///
    /// # Errors
    /// [`ServiceError::Address`].
    pub fn log(mut self, url: &str, version: LogVersion) -> Result<Self, ServiceError> {
        if self.logs.len() >= MAX_EACH {
            return Err(ServiceError::TooMany { limit: MAX_EACH });
        }
        self.logs.push(LogService { url: address(url)?, version });
        Ok(self)
    }

    /// Has every signature stamped by this authority as well.
    ///
    /// # Errors
    /// [`ServiceError::Address`].
    pub fn time_stamp_authority(mut self, url: &str) -> Result<Self, ServiceError> {
        if self.stamps.len() >= MAX_EACH {
            return Err(ServiceError::TooMany { limit: MAX_EACH });
        }
        self.stamps.push(address(url)?);
        Ok(self)
    }

    /// How long one answer may take, whole.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a service is asked that is busy or cannot be reached: at least once.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Where people log in, as a signing configuration says.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_ref().map(Url::as_str)
    }

    /// Whether signatures are entered in any log.
    pub fn has_log(&self) -> bool {
        !self.logs.is_empty()
    }

    /// Whether there is an authority that stamps signatures.
    pub fn has_time_stamps(&self) -> bool {
        !self.stamps.is_empty()
    }

    /// Whether there is an authority for certificates.
    pub fn has_certificate_authority(&self) -> bool {
        self.fulcio.is_some()
    }

    /// Everybody who is asked for a signature of an identity, and their addresses, without what a query may hold.
    pub fn asked(&self) -> Vec<(ServiceKind, String)> {
        let authority = self.fulcio.iter().map(|url| (ServiceKind::CertificateAuthority, http::shown(url)));
        authority.chain(self.asked_of_keys()).collect()
    }

    /// The same for a signature with a key, which needs no certificate.
    pub fn asked_of_keys(&self) -> Vec<(ServiceKind, String)> {
        let logs = self.logs.iter().map(|log| (ServiceKind::TransparencyLog, &log.url));
        let stamps = self.stamps.iter().map(|url| (ServiceKind::TimeStampAuthority, url));
        logs.chain(stamps).map(|(kind, url)| (kind, http::shown(url))).collect()
    }

    /// The evidence that a signature has at the least, for the check of a bundle that was just made: two addresses may be
    /// those of one log.
    pub(super) fn least_evidence(&self, root: &TrustRoot) -> Thresholds {
        Thresholds {
            log_entries: usize::from(self.has_log()),
            certificate_transparency: root.has_certificate_transparency(),
            time_stamps: usize::from(self.has_time_stamps()),
        }
    }

    /// The evidence that a signature gets: from every log, and from every authority. Two addresses may be those of one log.
    pub(super) fn evidence(&self, root: &TrustRoot) -> Thresholds {
        let log_entries = root.logs_behind(self.logs.iter().map(|log| log.url.as_str()));
        Thresholds { log_entries, time_stamps: self.stamps.len(), ..self.least_evidence(root) }
    }

    pub(super) fn fulcio(&self) -> Result<&Url, SignError> {
        let missing = || SignError::Options("no certificate authority is named".into());
        self.fulcio.as_ref().ok_or_else(missing)
    }

    pub(super) fn http(&self) -> Result<Http, ServiceError> {
        Http::new(self.timeout, self.attempts)
    }

    /// Refuses, before anything is sent, what could not become a bundle that verifies.
    pub(super) fn check(&self, kind: KeyKind, message: bool) -> Result<(), SignError> {
        let v2 = self.logs.iter().any(|log| log.version == LogVersion::V2);
        if v2 && kind != KeyKind::EcdsaP256 {
            let text = format!("a log of version 2 takes ECDSA P-256 keys alone, and the key is {kind}");
            return Err(SignError::Options(text));
        }
        if v2 && self.stamps.is_empty() {
            return Err(SignError::Options(
                "a log of version 2 says no time, so a time-stamp authority is needed".into(),
            ));
        }
        if self.has_log() && message && !kind.signs_sha256() {
            let text = format!("a signature of content by an {kind} key cannot be entered in a log: sign a statement");
            return Err(SignError::Options(text));
        }
        Ok(())
    }

    /// Puts what logs and authorities say of a signature into `material`.
    pub(super) async fn witness(
        &self,
        http: &Http,
        mut material: VerificationMaterial,
        content: &SignatureContent,
        verifier: &Verifier,
    ) -> Result<VerificationMaterial, SignError> {
        for log in &self.logs {
            let entry = rekor::enter(http, &log.url, log.version, content, verifier).await;
            let entry = entry.map_err(|e| failed(ServiceKind::TransparencyLog, &log.url, e))?;
            // A log that has two addresses answers with what it has.
            let known = |other: &TransparencyLogEntry| {
                other.log_id == entry.log_id && other.log_index.get() == entry.log_index.get()
            };
            if !material.tlog_entries.iter().any(known) {
                material.tlog_entries.push(entry);
            }
        }
        let signature = match content {
            SignatureContent::MessageSignature(message) => message.signature.as_bytes(),
            SignatureContent::DsseEnvelope(envelope) => envelope.signature.sig.as_bytes(),
            _ => return Err(SignError::Bundle("unknown kind of content".into())),
        };
        let mut stamps = Vec::new();
        for url in &self.stamps {
            let stamp = tsa::stamp(http, url, signature).await;
            let stamp = stamp.map_err(|e| failed(ServiceKind::TimeStampAuthority, url, e))?;
            stamps.push(Rfc3161Timestamp::new(TimestampToken::new(stamp)));
        }
        Ok(material.with_timestamp_verification_data(TimestampVerificationData::new(stamps)))
    }
}

/// A service failed, named without what a query may hold.
pub(super) fn failed(kind: ServiceKind, url: &Url, source: ServiceError) -> SignError {
    SignError::Service { kind, url: http::shown(url), source }
}
