//! Who would sign, without anybody being asked for a password or to log in.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use blob::policy::sign::{KeySigner as _, SignError, SignedBundle, Signer, Statement};
use bytes::Bytes;
use serde::Serialize;

use super::{PUBLIC_ISSUER, SigningArgs, key_at_hand};
use crate::error::Failure;
use crate::session::Session;

/// Who would sign, and with whose help.
pub(crate) struct Planned {
    /// Stands for them: it may not be able to sign.
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) who: SignerReport,
    pub(crate) services: Vec<ServiceReport>,
}

/// Who would sign.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SignerReport {
    /// The fingerprint of the public key; absent where nothing but a password opens the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The file that the private key is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<String>,
    /// Whom the identity token is for; absent where somebody would log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// Who vouches for the identity, or where somebody would log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
}

impl fmt::Display for SignerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key_file, &self.key, &self.identity, self.issuer.as_deref().unwrap_or_default()) {
            (Some(file), Some(key), ..) => write!(f, "the key {key} in {file}"),
            (Some(file), None, ..) => write!(f, "the key in {file}, which is encrypted (BLOB_KEY_PASSWORD is not set)"),
            (None, _, Some(identity), issuer) => write!(f, "{identity} (issuer {issuer})"),
            (None, _, None, issuer) => write!(f, "whoever logs in at {issuer}"),
        }
    }
}

/// Who would be asked.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ServiceReport {
    /// `certificate authority`, `transparency log` or `time-stamp authority`.
    pub(crate) kind: String,
    /// Where.
    pub(crate) url: String,
}

impl SigningArgs {
    /// Who would sign. A job that may have an identity token gets one, and that is all that anybody is asked for.
    pub(crate) async fn plan(&self, session: &Session) -> Result<Planned, Failure> {
        let services = self.services().await?;
        let Some(path) = &self.key else {
            let services = match services {
                Some(services) => services,
                None => self.usual_services(session).await?,
            };
            let asked = report(services.asked());
            let issuer = services.issuer().unwrap_or(PUBLIC_ISSUER).to_owned();
            let Some(token) = self.token_at_hand(&services).await? else {
                let who = SignerReport { issuer: Some(issuer), ..nobody() };
                return Ok(Planned { signer: Arc::new(Absent), who, services: asked });
            };
            let (identity, issuer) = (Some(token.identity().to_owned()), Some(token.issuer().to_owned()));
            let who = SignerReport { identity, issuer, ..nobody() };
            return Ok(Planned { signer: self.keyless(token, services, session).await?, who, services: asked });
        };
        let asked = services.as_ref().map_or_else(Vec::new, |services| report(services.asked_of_keys()));
        let key_file = Some(file(path));
        let Some(key) = key_at_hand(path.clone()).await? else {
            let who = SignerReport { key_file, ..nobody() };
            return Ok(Planned { signer: Arc::new(Absent), who, services: asked });
        };
        let who = SignerReport { key: Some(key.public_key().id().to_owned()), key_file, ..nobody() };
        Ok(Planned { signer: self.keyed(key, services, session).await?, who, services: asked })
    }
}

fn nobody() -> SignerReport {
    SignerReport { key: None, key_file: None, identity: None, issuer: None }
}

fn file(path: &Path) -> String {
    path.display().to_string()
}

fn report(asked: Vec<(blob::policy::sign::ServiceKind, String)>) -> Vec<ServiceReport> {
    asked.into_iter().map(|(kind, url)| ServiceReport { kind: kind.to_string(), url }).collect()
}

/// Somebody who is not there: what they would sign, and what is equivalent to it, is not known.
#[derive(Debug)]
struct Absent;

#[async_trait]
impl Signer for Absent {
    async fn sign(&self, _: &Statement) -> Result<SignedBundle, SignError> {
        Err(SignError::Options("a plan signs nothing".into()))
    }

    async fn sign_message(&self, _: &Bytes) -> Result<SignedBundle, SignError> {
        Err(SignError::Options("a plan signs nothing".into()))
    }
}
