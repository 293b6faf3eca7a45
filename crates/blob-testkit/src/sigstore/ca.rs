//! The certificate authority, which answers as Fulcio does, with certificate transparency.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PKCS_RSA_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use serde_json::{Value, json};

use super::der;
use super::keys::{Key, sha256};
use super::{Fault, State, seconds};

/// The arc of Fulcio's extensions.
const FULCIO: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 0];
const SCT_LIST: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
const MINUTE: Duration = Duration::from_mins(1);

/// A root and an authority below it.
pub(super) struct CertificateAuthority {
    root: CertifiedIssuer<'static, Key>,
    intermediate: CertifiedIssuer<'static, Key>,
}

impl CertificateAuthority {
    pub(super) fn new(name: &str) -> Self {
        let root = CertifiedIssuer::self_signed(authority(&format!("{name} root"), 1), Key::new());
        let root = root.expect("the parameters are complete");
        let intermediate = CertifiedIssuer::signed_by(authority(name, 0), Key::new(), &root);
        Self { intermediate: intermediate.expect("the parameters are complete"), root }
    }

    /// The certificates from below to the root.
    pub(super) fn chain(&self) -> [&[u8]; 2] {
        [self.intermediate.der(), self.root.der()]
    }

    pub(super) fn issuer(&self) -> &CertifiedIssuer<'static, Key> {
        &self.intermediate
    }
}

/// The parameters of an authority that may have `below` authorities beneath it.
pub(super) fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (ago(3650 * 24 * 60), ahead(3650 * 24 * 60));
    params
}

pub(super) fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "blob.test");
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn ago<T: From<SystemTime>>(minutes: u32) -> T {
    (SystemTime::now() - MINUTE * minutes).into()
}

fn ahead<T: From<SystemTime>>(minutes: u32) -> T {
    (SystemTime::now() + MINUTE * minutes).into()
}

/// A public key as it comes in a request.
struct Subject {
    bits: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl Subject {
    /// Reads a `SubjectPublicKeyInfo`: its kind shows in the length of what the key takes.
    fn read(spki: &[u8]) -> Option<Self> {
        let (info, _) = der::split(spki)?;
        let (_, rest) = der::split(info.content)?;
        let (bits, _) = der::split(rest)?;
        let bits = bits.content.get(1..)?.to_vec();
        let algorithm = match bits.len() {
            32 => &PKCS_ED25519,
            65 => &PKCS_ECDSA_P256_SHA256,
            97 => &PKCS_ECDSA_P384_SHA384,
            _ => &PKCS_RSA_SHA256,
        };
        Some(Self { bits, algorithm })
    }
}

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// Answers `POST /api/v2/signingCert`: the status and what is wrong, or the certificate chain. The token may stand in
/// the request or beside it, as `bearer`; the key may come with a proof, or in a PKCS#10 request.
pub(super) fn answer(state: &State, request: &[u8], bearer: Option<&str>) -> Result<Value, (u16, &'static str)> {
    let request: Value = serde_json::from_slice(request).map_err(|_| (400, "the request is not JSON"))?;
    let token = request["credentials"]["oidcIdentityToken"].as_str().or(bearer).ok_or((401, "there is no token"))?;
    let claims = claims(token).ok_or((401, "the token is not one"))?;
    if claims["aud"] != "sigstore" || claims["exp"].as_u64() < Some(seconds(SystemTime::now())) {
        return Err((401, "the token is for somebody else, or has expired"));
    }
    let spki = match request["certificateSigningRequest"].as_str() {
        Some(text) => requested(text).ok_or((400, "the certificate request is not one"))?,
        None => proved(&request["publicKeyRequest"])?,
    };
    let foreign = Key::new();
    let spki = if state.fault == Some(Fault::ForeignKey) { foreign.spki() } else { &spki };
    let subject = Subject::read(spki).ok_or((400, "the public key is not one"))?;
    let leaf = issue(state, &claims, &subject);
    let ca = if state.fault == Some(Fault::ForeignAuthority) { &state.foreign_ca } else { &state.ca };
    let chain: Vec<_> = std::iter::once(leaf.as_slice()).chain(ca.chain()).map(certificate_pem).collect();
    Ok(json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}))
}

/// The public key of a request that proves it by a signature.
fn proved(wanted: &Value) -> Result<Vec<u8>, (u16, &'static str)> {
    let proof = wanted["proofOfPossession"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    if proof.is_none_or(|proof| proof.is_empty()) {
        return Err((400, "there is no proof of possession"));
    }
    wanted["publicKey"]["content"].as_str().and_then(pem).ok_or((400, "there is no public key"))
}

/// The public key of a PKCS#10 request: the third part of its body.
fn requested(text: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    let request = pem(&text)?;
    let (outer, _) = der::split(&request)?;
    let (body, _) = der::split(outer.content)?;
    let (_version, rest) = der::split(body.content)?;
    let (_subject, rest) = der::split(rest)?;
    let (key, _) = der::split(rest)?;
    Some(key.whole.to_vec())
}

/// The claims of a token.
fn claims(token: &str) -> Option<Value> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn pem(text: &str) -> Option<Vec<u8>> {
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64_STANDARD.decode(body.trim()).ok()
}

pub(super) fn certificate_pem(der: &[u8]) -> String {
    pem_of("CERTIFICATE", der)
}

/// A block of this kind.
pub(super) fn pem_of(kind: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der).into_bytes();
    let lines: Vec<_> = body.chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// A certificate for who the claims name. It is made twice: what the first says is what the transparency log signs.
fn issue(state: &State, claims: &Value, subject: &Subject) -> Vec<u8> {
    let ca = if state.fault == Some(Fault::ForeignAuthority) { &state.foreign_ca } else { &state.ca };
    let mut params = leaf(state.fault, claims);
    let make = |params: &CertificateParams| {
        params.signed_by(subject, ca.issuer()).expect("the parameters are complete").der().to_vec()
    };
    if state.fault == Some(Fault::NoTransparency) {
        return make(&params);
    }
    let certificate = make(&params);
    let (outer, _) = der::split(&certificate).expect("a certificate is DER");
    let (signed, _) = der::split(outer.content).expect("a certificate has a body");
    let log = if state.fault == Some(Fault::ForeignTransparencyLog) { &state.foreign_ct } else { &state.ct };
    let list = transparency(log, ca.issuer().key().spki(), signed.whole);
    params.custom_extensions.push(CustomExtension::from_oid_content(&SCT_LIST, der::octets(&list)));
    make(&params)
}

fn leaf(fault: Option<Fault>, claims: &Value) -> CertificateParams {
    let text = |name: &str| claims[name].as_str().map(str::to_owned);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&sha256(claims.to_string().as_bytes())[..16]));
    (params.not_before, params.not_after) = (ago(1), ahead(10));
    if fault == Some(Fault::ExpiredCertificate) {
        (params.not_before, params.not_after) = (ago(60), ago(50));
    }
    let email = if fault == Some(Fault::ForeignIdentity) { Some("mallory@example.com".into()) } else { text("email") };
    let uri = text("job_workflow_ref").map(|of| format!("https://{}/{of}", server(claims, "github.com")));
    let uri = uri.or_else(|| text("ci_config_ref_uri").map(|of| format!("https://{of}")));
    let uri = uri.or_else(|| account(claims)).or_else(|| text("sub"));
    let name = match (email, uri) {
        (Some(email), _) => SanType::Rfc822Name(email.try_into().expect("an address is ASCII")),
        (None, uri) => SanType::URI(uri.unwrap_or_default().try_into().expect("a URI is ASCII")),
    };
    params.subject_alt_names = vec![name];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions = extensions(claims);
    params
}

/// The names that the authority gives to workloads whose token has none that is a URI.
fn account(claims: &Value) -> Option<String> {
    if let Some(project) = claims["oidc.circleci.com/project-id"].as_str() {
        return Some(format!("https://circleci.com/api/v2/projects/{project}"));
    }
    let kubernetes = &claims["kubernetes.io"];
    let (namespace, name) = (kubernetes["namespace"].as_str()?, kubernetes["serviceaccount"]["name"].as_str()?);
    Some(format!("https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{name}"))
}

/// Where a workload ran. A real authority knows that by the issuer.
fn server<'c>(claims: &'c Value, usual: &'c str) -> &'c str {
    claims["server"].as_str().unwrap_or(usual)
}

/// What Fulcio writes about the workload. Number 1 is the issuer in the old way: bytes that are not DER.
fn extensions(claims: &Value) -> Vec<CustomExtension> {
    let text = |name: &str| claims[name].as_str();
    let github = |name: &str| text(name).map(|value| format!("https://{}/{value}", server(claims, "github.com")));
    let gitlab = text("project_path").map(|value| format!("https://{}/{value}", server(claims, "gitlab.com")));
    let config = text("ci_config_ref_uri").map(|value| format!("https://{value}"));
    let all = [
        (8, text("iss").map(str::to_owned)),
        (9, github("job_workflow_ref").or(config.clone())),
        (11, text("runner_environment").map(str::to_owned)),
        (12, github("repository").or(gitlab)),
        (13, text("sha").map(str::to_owned)),
        (14, text("ref").map(str::to_owned)),
        (15, text("repository_id").map(str::to_owned)),
        (16, github("repository_owner")),
        (17, text("repository_owner_id").map(str::to_owned)),
        (18, github("workflow_ref").or(config)),
        (20, text("event_name").or(text("pipeline_source")).map(str::to_owned)),
        (22, text("repository_visibility").map(str::to_owned)),
    ];
    let extension = |number, content| {
        let mut oid = FULCIO;
        oid[8] = number;
        CustomExtension::from_oid_content(&oid, content)
    };
    let old = text("iss").map(|issuer| extension(1, issuer.as_bytes().to_vec()));
    let new = all.into_iter().filter_map(|(number, value)| Some(extension(number, der::utf8(&value?))));
    old.into_iter().chain(new).collect()
}

/// A list of one signed certificate time-stamp (RFC 6962, section 3.2) about a certificate body.
fn transparency(log: &Key, issuer_spki: &[u8], body: &[u8]) -> Vec<u8> {
    let millis = seconds(SystemTime::now()) * 1000;
    let length = u32::try_from(body.len()).expect("a certificate is short").to_be_bytes();
    let mut signed = vec![0, 0];
    signed.extend_from_slice(&millis.to_be_bytes());
    signed.extend_from_slice(&[0, 1]);
    signed.extend_from_slice(&sha256(issuer_spki));
    signed.extend_from_slice(&length[1..]);
    signed.extend_from_slice(body);
    signed.extend_from_slice(&[0, 0]);
    let signature = log.sign_bytes(&signed);
    let mut stamp = vec![0];
    stamp.extend_from_slice(&log.id());
    stamp.extend_from_slice(&millis.to_be_bytes());
    stamp.extend_from_slice(&[0, 0, 4, 3]);
    stamp.extend_from_slice(&short(&signature));
    let entry = short(&stamp);
    short(&entry)
}

/// Bytes behind their length of two bytes.
fn short(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("it is short");
    [&length.to_be_bytes(), bytes].concat()
}
