//! Certificates from a certificate authority that speaks as Fulcio does (API version 2).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sigstore_types::DerCertificate;
use url::Url;
use zeroize::Zeroizing;

use super::http::{Http, Question, ServiceError, below};
use super::{ServiceKind, failed};
use crate::sign::error::SignError;
use crate::sign::key::KeySigner;
use crate::sign::keyed::raw;
use crate::sign::token::IdentityToken;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    credentials: Credentials<'a>,
    public_key_request: &'a Value,
}

/// The token is borrowed, so that no copy of it is left behind but the request's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials<'a> {
    oidc_identity_token: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    signed_certificate_embedded_sct: Option<WithChain>,
    signed_certificate_detached_sct: Option<WithChain>,
}

#[derive(Deserialize)]
struct WithChain {
    chain: Chain,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<String>,
}

/// A certificate about `key`, for whom `token` is. Both are checked with the bundle, not here.
pub(in crate::sign) async fn certificate(
    http: &Http,
    url: &Url,
    token: &IdentityToken,
    key: &dyn KeySigner,
) -> Result<DerCertificate, SignError> {
    // The proof that we have the key is a signature of who we are.
    let proof = raw(key, token.identity().as_bytes()).await?;
    let proof = json!({
        "publicKey": {"algorithm": "", "content": key.public_key().to_pem()},
        "proofOfPossession": BASE64_STANDARD.encode(proof),
    });
    let request =
        Request { credentials: Credentials { oidc_identity_token: token.expose() }, public_key_request: &proof };
    let body = serde_json::to_vec(&request).map_err(|source| SignError::Bundle(source.into()))?;
    let body = Zeroizing::new(body);
    let url = below(url, "/api/v2/signingCert");
    let question = Question { url: &url, body: Some(("application/json", body.as_slice())), bearer: None };
    let answer = http.ask(question).await.and_then(|answer| leaf(&answer));
    answer.map_err(|source| failed(ServiceKind::CertificateAuthority, &url, source))
}

fn leaf(answer: &[u8]) -> Result<DerCertificate, ServiceError> {
    let issued: Issued = serde_json::from_slice(answer).map_err(ServiceError::answer)?;
    let chain = issued.signed_certificate_embedded_sct.or(issued.signed_certificate_detached_sct);
    let pem = chain.and_then(|with| with.chain.certificates.into_iter().next());
    let pem = pem.ok_or_else(|| ServiceError::answer("it holds no certificate"))?;
    DerCertificate::from_pem(&pem).map_err(ServiceError::answer)
}
