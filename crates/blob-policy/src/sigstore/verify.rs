//! From a bundle to what it proves.

use std::collections::{BTreeMap, BTreeSet};

use blob_core::{Algorithm, Digest};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use sigstore_tsa::{TsaAuthority, verify_timestamp_for_authority};
use sigstore_types::bundle::TimestampVerificationData;
use sigstore_types::{DerPublicKey, DsseEnvelope, Sha256Hash, SignatureContent};
use sigstore_verify::{PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult};

use super::bundle::Bundle;
use super::error::BundleError;
use super::signer::{CertificateSigner, Signer};
use super::trust::TrustRoot;

const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// What a bundle is to be about.
#[derive(Clone, Copy, Debug)]
pub enum Artifact<'a> {
    /// The signed content itself: every kind of signature can be checked.
    Content(&'a [u8]),
    /// Its SHA-256 digest: enough for everything but Ed25519 signatures of the content itself.
    Digest(&'a Digest),
}

/// A public key, with its identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    der: DerPublicKey,
    id: String,
}

/// What a bundle proved; made by verification alone.
#[derive(Clone, Debug)]
pub struct VerifiedBundle {
    signer: Signer,
    times: Vec<Timestamp>,
    logged: bool,
    statement: Option<Statement>,
}

/// A verified in-toto statement about our artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    bytes: Bytes,
    predicate_type: String,
    predicate: serde_json::Value,
}

impl VerifiedBundle {
    /// Who signed.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// When, as authenticated by a log or a time-stamp authority; empty if nobody did.
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }

    /// Whether inclusion in a transparency log was verified.
    pub fn is_logged(&self) -> bool {
        self.logged
    }

    /// The signed statement; `None` for a signature of the artifact itself.
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }
}

impl Statement {
    /// The bytes that were signed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What kind of predicate it makes.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The predicate.
    pub fn predicate(&self) -> &serde_json::Value {
        &self.predicate
    }
}

impl PublicKey {
    /// Reads a `PUBLIC KEY` block: ECDSA P-256 or P-384, Ed25519, RSA of 2048 to 8192 bits.
    ///
    /// # Errors
    /// [`BundleError::Malformed`].
    pub fn from_pem(pem: &str) -> Result<Self, BundleError> {
        let der = DerPublicKey::from_pem(pem).map_err(|e| BundleError::Malformed(Box::new(e)))?;
        Self::from_der(der.as_bytes())
    }

    /// Reads the content of a file with one public key, in PEM or DER. A second key is never left out in silence.
    ///
    /// # Errors
    /// [`BundleError::Malformed`], also for a private key and for several keys.
    pub fn from_file_content(content: &[u8]) -> Result<Self, BundleError> {
        const BEGIN: &str = "-----BEGIN ";
        let malformed = |what: String| Err(BundleError::Malformed(what.into()));
        let Ok(pem) = std::str::from_utf8(content) else { return Self::from_der(content) };
        if pem.contains("PRIVATE KEY-----") {
            return malformed("it is a private key, and the public one is expected".into());
        }
        match pem.matches(BEGIN).count() {
            0 => Self::from_der(content),
            1 => Self::from_pem(pem),
            several => malformed(format!("it has {several} PEM blocks, and one key is expected in each file")),
        }
    }

    /// Reads a DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`BundleError::Malformed`].
    pub fn from_der(der: &[u8]) -> Result<Self, BundleError> {
        let der_key = DerPublicKey::new(der.to_vec());
        sigstore_crypto::VerificationKey::from_spki(&der_key).map_err(|e| BundleError::Malformed(Box::new(e)))?;
        Ok(Self { der: der_key, id: Digest::sha256_of(der).hex() })
    }

    /// Lower-case hexadecimal SHA-256 of the DER encoding.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// DER `SubjectPublicKeyInfo`.
    pub fn to_der(&self) -> &[u8] {
        self.der.as_bytes()
    }

    /// A `PUBLIC KEY` block.
    pub fn to_pem(&self) -> String {
        self.der.to_pem().replace("\r\n", "\n")
    }

    pub(super) fn der(&self) -> &DerPublicKey {
        &self.der
    }

    /// Whether it is the same key, also written in another form: a point with or without its second coordinate, parameters
    /// that say nothing or are left out.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.der == other.der || normal(self.to_der()) == normal(other.to_der())
    }
}

/// What identifies the key in a DER `SubjectPublicKeyInfo`: its bits, of points the first coordinate and the sign of the
/// second. What is not understood identifies itself.
fn normal(der: &[u8]) -> Vec<u8> {
    let bits = der_content(der).and_then(|(info, _)| {
        let (_, key) = der_content(info)?;
        // The first byte says that no bits are unused.
        der_content(key)?.0.strip_prefix(&[0])
    });
    match bits {
        // Points of the curves P-256 and P-384.
        Some([4 | 6 | 7, point @ ..]) if point.len() == 64 || point.len() == 96 => {
            let (x, y) = point.split_at(point.len() / 2);
            let odd = y.last().is_some_and(|last| last & 1 == 1);
            [&[2 + u8::from(odd)], x].concat()
        }
        Some(bits) => bits.to_vec(),
        None => der.to_vec(),
    }
}

/// The content of the first DER element, and what follows it; of at most 64 KiB.
fn der_content(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der.get(1..)? {
        [short @ ..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

impl Artifact<'_> {
    fn checkable(&self) -> Result<sigstore_types::Artifact<'_>, BundleError> {
        match self {
            Self::Content(bytes) => Ok(sigstore_types::Artifact::from_blob(bytes)),
            Self::Digest(digest) => {
                let hash: [u8; 32] = digest.as_bytes().try_into().map_err(|_| BundleError::Algorithm(**digest))?;
                Ok(sigstore_types::Artifact::from_digest(Sha256Hash::new(hash)))
            }
        }
    }

    pub(super) fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        match self {
            Self::Content(bytes) => Some(Digest::of(algorithm, bytes)),
            Self::Digest(digest) => (digest.algorithm() == algorithm).then_some(**digest),
        }
    }
}

/// How much evidence a signature must come with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thresholds {
    /// Transparency logs that have it, each another one: 1 by default. Entries that a bundle has must always be right.
    pub log_entries: usize,
    /// Whether the certificate must be in a certificate transparency log: it must, by default.
    pub certificate_transparency: bool,
    /// Time-stamp authorities (RFC 3161) that stamped it, each below another root certificate: 0 by default. Where no
    /// log entry is asked for and there is none, one is needed all the same.
    pub time_stamps: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { log_entries: 1, certificate_transparency: true, time_stamps: 0 }
    }
}

impl Thresholds {
    /// For instances that publish nothing, as GitHub's for private repositories: a time-stamp, and no log. Somebody must
    /// always say when it was signed.
    pub fn private() -> Self {
        Self { log_entries: 0, certificate_transparency: false, time_stamps: 1 }
    }
}

/// Verifies a bundle that carries a certificate: chain, transparency of the certificate, log inclusion, times, signature,
/// and that it is about `artifact`. Whose certificate it is, is for the caller to judge.
///
/// # Errors
/// [`BundleError`].
pub fn verify_with_certificate(
    root: &TrustRoot,
    bundle: &Bundle,
    artifact: Artifact<'_>,
) -> Result<VerifiedBundle, BundleError> {
    verify_with_certificate_at(root, &Thresholds::default(), bundle, artifact)
}

/// Does what [`verify_with_certificate`] does, with as much evidence as `thresholds` ask for.
///
/// # Errors
/// [`BundleError`].
pub fn verify_with_certificate_at(
    root: &TrustRoot,
    thresholds: &Thresholds,
    bundle: &Bundle,
    artifact: Artifact<'_>,
) -> Result<VerifiedBundle, BundleError> {
    if bundle.is_key_made() {
        return Err(BundleError::Kind { expected: "certificate", got: "managed key" });
    }
    require_log_entries(bundle, thresholds)?;
    let mut policy = VerificationPolicy::any_identity();
    if !thresholds.certificate_transparency {
        policy = policy.skip_sct();
    }
    let logged = bundle.log_entries() > 0;
    if !logged {
        policy = policy.skip_tlog_unsafe();
    }
    let result = root.verifier().verify(artifact.checkable()?, &bundle.0, &policy).map_err(not_verified)?;
    require_logs(root, bundle, thresholds, &times_of(&result))?;
    require_time_stamps(root, bundle, thresholds.time_stamps)?;
    let transparent = result.sct_verified() || !thresholds.certificate_transparency;
    let complete = result.certificate_verified() && transparent && result.tlog_verified() == logged;
    let signer = result.certificate().filter(|_| complete).and_then(CertificateSigner::read);
    let signer = signer.ok_or_else(|| not_verified("the certificate names no identity or issuer"))?;
    finish(bundle, artifact, Signer::Certificate(Box::new(signer)), &result)
}

/// Verifies a bundle that was made with `key` and is in a transparency log of `root`.
///
/// # Errors
/// [`BundleError`].
pub fn verify_with_key(
    root: &TrustRoot,
    key: &PublicKey,
    bundle: &Bundle,
    artifact: Artifact<'_>,
) -> Result<VerifiedBundle, BundleError> {
    verify_with_key_at(root, &Thresholds::default(), key, bundle, artifact)
}

/// Verifies a bundle that was made with `key`, with as much evidence as `thresholds` ask for: without a log entry there
/// must be a time-stamp.
///
/// # Errors
/// [`BundleError`].
pub fn verify_with_key_at(
    root: &TrustRoot,
    thresholds: &Thresholds,
    key: &PublicKey,
    bundle: &Bundle,
    artifact: Artifact<'_>,
) -> Result<VerifiedBundle, BundleError> {
    require_key_made(bundle)?;
    require_log_entries(bundle, thresholds)?;
    let logged = bundle.log_entries() > 0;
    let mut policy = PublicKeyVerificationPolicy::new(key.der.clone());
    if !logged {
        policy = policy.skip_tlog_unsafe();
    }
    // Nobody in a root without time-stamp authorities can say whether a stamp is right. Where a log entry is what is asked
    // for, a stamp comes on top, and counts for nothing here, neither for the bundle nor against it.
    let mut checked = bundle.0.clone();
    if !root.stamps_time() {
        checked.verification_material.timestamp_verification_data = TimestampVerificationData::default();
    }
    let result = root.verifier().verify(artifact.checkable()?, &checked, &policy).map_err(not_verified)?;
    if result.tlog_verified() != logged {
        return Err(BundleError::NoLogEntry);
    }
    require_logs(root, bundle, thresholds, &times_of(&result))?;
    require_time_stamps(root, bundle, thresholds.time_stamps.max(usize::from(!logged)))?;
    finish(bundle, artifact, Signer::Key { id: key.id.clone() }, &result)
}

pub(super) fn require_key_made(bundle: &Bundle) -> Result<(), BundleError> {
    if bundle.is_key_made() { Ok(()) } else { Err(BundleError::Kind { expected: "managed key", got: "certificate" }) }
}

/// There are as many entries as could do, before anything is verified. A time-stamp alone would pass for evidence of a
/// log entry below.
fn require_log_entries(bundle: &Bundle, thresholds: &Thresholds) -> Result<(), BundleError> {
    enough_logs(bundle.log_entries(), thresholds)
}

/// Every entry is proven by the log that it names, and those of different logs are what counts. For bundles that were
/// verified.
fn require_logs(
    root: &TrustRoot,
    bundle: &Bundle,
    thresholds: &Thresholds,
    times: &[Timestamp],
) -> Result<(), BundleError> {
    enough_logs(root.logs().count(&bundle.0, times)?, thresholds)
}

fn enough_logs(got: usize, thresholds: &Thresholds) -> Result<(), BundleError> {
    match (got, thresholds.log_entries) {
        (got, wanted) if got >= wanted => Ok(()),
        (0, 1) => Err(BundleError::NoLogEntry),
        (got, wanted) => Err(BundleError::LogEntries { wanted, got }),
    }
}

/// Each authority counts once, however many stamps are by it. Those below one root are one: the same people run them, or
/// the same authority before and after its certificate was renewed.
fn require_time_stamps(root: &TrustRoot, bundle: &Bundle, wanted: usize) -> Result<(), BundleError> {
    if wanted == 0 {
        return Ok(());
    }
    let signature = match &bundle.0.content {
        SignatureContent::MessageSignature(message) => &message.signature,
        SignatureContent::DsseEnvelope(envelope) => &envelope.signature.sig,
        _ => return Err(BundleError::Malformed("unknown kind of content".into())),
    };
    let stamps = &bundle.0.verification_material.timestamp_verification_data.rfc3161_timestamps;
    let by = |authority: &&TsaAuthority| {
        stamps.iter().any(|stamp| verify_timestamp_for_authority(&stamp.signed_timestamp, signature, authority).is_ok())
    };
    let roots: BTreeSet<&[u8]> =
        root.time_stamp_authorities().iter().filter(by).map(|authority| authority.root.as_bytes()).collect();
    match roots.len() {
        got if got >= wanted => Ok(()),
        0 if wanted == 1 => Err(BundleError::NoTimeStamp),
        got => Err(BundleError::TimeStamps { wanted, got }),
    }
}

pub(super) fn not_verified(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BundleError {
    BundleError::NotVerified(error.into())
}

fn finish(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    signer: Signer,
    result: &VerificationResult,
) -> Result<VerifiedBundle, BundleError> {
    let times = times_of(result);
    let statement = statement_of(bundle, artifact)?;
    Ok(VerifiedBundle { signer, times, logged: result.tlog_verified(), statement })
}

/// When it was signed, as logs and authorities vouch; the earliest first.
fn times_of(result: &VerificationResult) -> Vec<Timestamp> {
    let mut times = result.verified_timestamps().to_vec();
    times.extend(result.integrated_time());
    times.sort_unstable();
    times.dedup();
    times
}

/// The result of a check that no log or authority of time took part in.
pub(super) fn unlogged(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    key: &PublicKey,
) -> Result<VerifiedBundle, BundleError> {
    let signer = Signer::Key { id: key.id.clone() };
    let statement = statement_of(bundle, artifact)?;
    Ok(VerifiedBundle { signer, times: Vec::new(), logged: false, statement })
}

fn statement_of(bundle: &Bundle, artifact: Artifact<'_>) -> Result<Option<Statement>, BundleError> {
    match &bundle.0.content {
        SignatureContent::MessageSignature(_) => Ok(None),
        SignatureContent::DsseEnvelope(envelope) => read_statement(envelope, artifact).map(Some),
        _ => Err(BundleError::Malformed("unknown kind of content".into())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatementJson {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<SubjectJson>,
    predicate_type: String,
    #[serde(default)]
    predicate: serde_json::Value,
}

#[derive(Deserialize)]
struct SubjectJson {
    digest: BTreeMap<String, String>,
}

/// Reads the very bytes whose signature was checked; callers have done that.
fn read_statement(envelope: &DsseEnvelope, artifact: Artifact<'_>) -> Result<Statement, BundleError> {
    if envelope.payload_type != IN_TOTO {
        return Err(BundleError::Statement(format!("payload type {:?}", envelope.payload_type)));
    }
    let bytes = Bytes::copy_from_slice(envelope.payload.as_bytes());
    let read: StatementJson = serde_json::from_slice(&bytes).map_err(|e| BundleError::Statement(e.to_string()))?;
    if !STATEMENT_TYPES.contains(&read.kind.as_str()) {
        return Err(BundleError::Statement(format!("statement type {:?}", read.kind)));
    }
    if !read.subject.iter().any(|subject| names(&subject.digest, artifact)) {
        let expected = artifact.digest(Algorithm::Sha256).or_else(|| artifact.digest(Algorithm::Sha512));
        let expected = expected.ok_or_else(|| BundleError::Statement("no comparable digest".into()))?;
        let digests = read.subject.iter().flat_map(|subject| &subject.digest).take(8);
        let found = digests.map(|(algorithm, hex)| format!("{algorithm}:{hex:.128}")).collect::<Vec<_>>().join(", ");
        return Err(BundleError::Subject { expected, found });
    }
    Ok(Statement { bytes, predicate_type: read.predicate_type, predicate: read.predicate })
}

/// Whether a subject is our artifact: one digest that we know is there, and none of those contradicts.
fn names(digests: &BTreeMap<String, String>, artifact: Artifact<'_>) -> bool {
    let known = [Algorithm::Sha256, Algorithm::Sha512].into_iter().filter_map(|algorithm| {
        let (theirs, ours) = (digests.get(algorithm.name())?, artifact.digest(algorithm)?);
        Some(theirs.eq_ignore_ascii_case(&ours.hex()))
    });
    let known: Vec<bool> = known.collect();
    !known.is_empty() && known.iter().all(|same| *same)
}
