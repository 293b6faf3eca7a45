//! Entries in transparency logs that speak as Rekor does, version 1 and 2.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blob_core::Digest;
use serde_json::{Value, json};
use sigstore_sign::rekor::LogEntry;
use sigstore_types::{DerCertificate, KindVersion, SignatureContent, TransparencyLogEntry};
use url::Url;

use super::LogVersion;
use super::http::{Http, Question, ServiceError, below};
use crate::sigstore::PublicKey;

/// What a signature is verified with, and the digest of signed content.
pub(in crate::sign) struct Verifier {
    /// `CERTIFICATE` or `PUBLIC KEY`.
    pem: String,
    der: Vec<u8>,
    member: &'static str,
    /// What was signed, if it is content: its digest.
    digest: Option<Digest>,
}

impl Verifier {
    pub(in crate::sign) fn certificate(certificate: &DerCertificate, digest: Option<Digest>) -> Self {
        let pem = certificate.to_pem().replace("\r\n", "\n");
        Self { pem, der: certificate.as_bytes().to_vec(), member: "x509Certificate", digest }
    }

    pub(in crate::sign) fn key(key: &PublicKey, digest: Option<Digest>) -> Self {
        Self { pem: key.to_pem(), der: key.to_der().to_vec(), member: "publicKey", digest }
    }
}

/// Enters a signature in a log, and gives back what the log says of it. Nothing of that is believed yet.
pub(super) async fn enter(
    http: &Http,
    log: &Url,
    version: LogVersion,
    content: &SignatureContent,
    verifier: &Verifier,
) -> Result<TransparencyLogEntry, ServiceError> {
    let (request, kind) = match version {
        LogVersion::V1 => request_v1(content, verifier)?,
        LogVersion::V2 => (request_v2(content, verifier)?, KindVersion::HashedRekordV002),
    };
    let path = match version {
        LogVersion::V1 => "/api/v1/log/entries",
        LogVersion::V2 => "/api/v2/log/entries",
    };
    let (url, body) = (below(log, path), request.to_string());
    let question = Question { url: &url, body: Some(("application/json", body.as_bytes())), bearer: None };
    let answer = match http.ask(question).await {
        // The same signature was entered before: by an attempt whose answer was lost, or by a key that signs alike.
        Err(ServiceError::Exists { at: Some(at) }) => http.ask(Question { url: &at, body: None, bearer: None }).await?,
        answer => answer?,
    };
    match version {
        LogVersion::V1 => {
            let entries: HashMap<String, LogEntry> = serde_json::from_slice(&answer).map_err(ServiceError::answer)?;
            let entry = entries.into_values().next().ok_or_else(|| ServiceError::answer("it holds no entry"))?;
            entry.to_bundle_entry(kind).map_err(ServiceError::answer)
        }
        LogVersion::V2 => serde_json::from_slice(&answer).map_err(ServiceError::answer),
    }
}

fn request_v1(content: &SignatureContent, verifier: &Verifier) -> Result<(Value, KindVersion), ServiceError> {
    let pem = BASE64_STANDARD.encode(&verifier.pem);
    match content {
        SignatureContent::DsseEnvelope(envelope) => {
            let envelope = serde_json::to_string(envelope).map_err(ServiceError::answer)?;
            let spec = json!({"proposedContent": {"envelope": envelope, "verifiers": [pem]}});
            Ok((json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}), KindVersion::DsseV001))
        }
        SignatureContent::MessageSignature(message) => {
            let digest = verifier.digest.map(|digest| digest.hex());
            let signature = BASE64_STANDARD.encode(message.signature.as_bytes());
            let spec = json!({
                "data": {"hash": {"algorithm": "sha256", "value": digest}},
                "signature": {"content": signature, "publicKey": {"content": pem}},
            });
            Ok((json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec}), KindVersion::HashedRekordV001))
        }
        _ => Err(ServiceError::answer("unknown kind of content")),
    }
}

/// Statements are entered by the digest of what is signed, as content is.
fn request_v2(content: &SignatureContent, verifier: &Verifier) -> Result<Value, ServiceError> {
    let (digest, signature) = match content {
        SignatureContent::DsseEnvelope(envelope) => (Some(Digest::sha256_of(&envelope.pae())), &envelope.signature.sig),
        SignatureContent::MessageSignature(message) => (verifier.digest, &message.signature),
        _ => return Err(ServiceError::answer("unknown kind of content")),
    };
    let raw = json!({"rawBytes": BASE64_STANDARD.encode(&verifier.der)});
    let mut by = json!({"keyDetails": "PKIX_ECDSA_P256_SHA_256"});
    by[verifier.member] = raw;
    Ok(json!({"hashedRekordRequestV002": {
        "digest": digest.map(|digest| BASE64_STANDARD.encode(digest.as_bytes())),
        "signature": {"content": BASE64_STANDARD.encode(signature.as_bytes()), "verifier": by},
    }}))
}
