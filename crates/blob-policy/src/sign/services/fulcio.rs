//! Certificates from a certificate authority that speaks as Fulcio does (API version 2).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use sigstore_types::DerCertificate;
use url::Url;
use zeroize::Zeroizing;

use super::http::{Http, Question, ServiceError, below};
use super::{ServiceKind, failed};
use crate::sign::error::SignError;
use crate::sign::key::KeySigner;
use crate::sign::keyed::raw;
use crate::sign::token::IdentityToken;

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
    let request = json!({
        "credentials": {"oidcIdentityToken": token.expose()},
        "publicKeyRequest": {
            "publicKey": {"algorithm": "", "content": key.public_key().to_pem()},
            "proofOfPossession": BASE64_STANDARD.encode(proof),
        },
    });
    let body = Zeroizing::new(request.to_string());
    let url = below(url, "/api/v2/signingCert");
    let question = Question { url: &url, body: Some(("application/json", body.as_bytes())), bearer: None };
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
