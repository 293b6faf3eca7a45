//! Bundles signed with a certificate for an identity.

use std::sync::Arc;

use async_trait::async_trait;
use blob_core::Digest;
use bytes::Bytes;
use sigstore_types::bundle::{CertificateContent, VerificationMaterial, VerificationMaterialContent};
use sigstore_types::{DerCertificate, SignatureContent};

use super::bundle::{SignedBundle, Signer};
use super::equivalence::Equivalence;
use super::error::SignError;
use super::key::{KeyKind, KeySigner};
use super::keyed::{envelope, message_signature, printed};
use super::local::LocalKey;
use super::services::{Http, Services, Verifier, certificate};
use super::statement::Statement;
use super::token::{Holder, TokenSource};
use crate::sigstore::{Artifact, CertificateSigner, Signer as SignedBy, Trust, TrustRoot, verify_with_certificate_at};

/// Signs as whoever the identity token is for: each time with a new key that is thrown away at once, and with a
/// certificate of the authority that lasts for minutes. Logs and time-stamps say that the signature was made in them.
#[derive(Clone, Debug)]
pub struct KeylessSigner {
    services: Services,
    root: TrustRoot,
    tokens: Arc<dyn TokenSource>,
    key: Option<Arc<dyn KeySigner>>,
}

impl KeylessSigner {
    /// Signs with certificates, logs and stamps of `services`, and believes them as far as `root` does.
    ///
    /// # Errors
    /// [`SignError::Options`] without a certificate authority, or with nobody who says the time.
    pub fn new(services: Services, root: TrustRoot, tokens: Arc<dyn TokenSource>) -> Result<Self, SignError> {
        services.fulcio()?;
        if !services.has_log() && !services.has_time_stamps() {
            let text = "neither a log nor a time-stamp authority is named: nothing would say when it was signed";
            return Err(SignError::Options(text.into()));
        }
        Ok(Self { services, root, tokens, key: None })
    }

    /// Has this key certified, instead of a new one each time.
    #[must_use]
    pub fn key(mut self, key: Arc<dyn KeySigner>) -> Self {
        self.key = Some(key);
        self
    }

    async fn make(&self, what: What<'_>) -> Result<SignedBundle, SignError> {
        let key = self.new_key()?;
        // Before anybody is asked for anything.
        self.services.check(key.kind(), matches!(what, What::Message(_)))?;
        self.certified(key).await?.make(what).await
    }

    fn new_key(&self) -> Result<Arc<dyn KeySigner>, SignError> {
        if let Some(key) = &self.key {
            return Ok(Arc::clone(key));
        }
        let made = LocalKey::generate(KeyKind::EcdsaP256);
        Ok(Arc::new(made.map_err(|source| SignError::Key { id: "new".into(), source })?))
    }

    /// Gets a certificate about `key` for whoever the token is for.
    async fn certified(&self, key: Arc<dyn KeySigner>) -> Result<Certified, SignError> {
        let token = self.tokens.token().await.map_err(SignError::Token)?;
        let http = self.services.http().map_err(|source| SignError::Bundle(source.into()))?;
        let certificate = certificate(&http, self.services.fulcio()?, &token, key.as_ref()).await?;
        Ok(Certified { signer: self.clone(), holder: token.holder().cloned(), http, key, certificate })
    }
}

/// Somebody with a certificate, which is good for one bundle: its time is short.
#[derive(Debug)]
struct Certified {
    signer: KeylessSigner,
    holder: Option<Holder>,
    http: Http,
    key: Arc<dyn KeySigner>,
    certificate: DerCertificate,
}

impl Certified {
    async fn make(&self, what: What<'_>) -> Result<SignedBundle, SignError> {
        let (services, root, key) = (&self.signer.services, &self.signer.root, self.key.as_ref());
        services.check(key.kind(), matches!(what, What::Message(_)))?;
        let (content, artifact, digest) = match what {
            What::Statement(statement) => {
                let signed = envelope(key, &statement.to_bytes()).await?;
                (SignatureContent::DsseEnvelope(signed), Artifact::Digest(statement.subject()), None)
            }
            What::Message(message) => {
                let signed = message_signature(key, message).await?;
                let digest = Some(Digest::sha256_of(message));
                (SignatureContent::MessageSignature(signed), Artifact::Content(message), digest)
            }
        };
        let verifier = Verifier::certificate(&self.certificate, digest);
        let material = VerificationMaterialContent::Certificate(CertificateContent::new(self.certificate.clone()));
        let material = VerificationMaterial::new(material);
        let material = services.witness(&self.http, material, &content, &verifier).await?;
        let (bytes, bundle) = printed(material, content)?;
        let least = services.least_evidence(root);
        let made = verify_with_certificate_at(root, &least, &bundle, artifact).map_err(SignError::SelfCheck)?;
        // An authority that certifies somebody else would have us publish a signature in their name.
        if let (Some(holder), SignedBy::Certificate(certificate)) = (&self.holder, made.signer())
            && !holder.is_certified_by(certificate)
        {
            let certified = made.signer().to_string();
            return Err(SignError::Holder { wanted: holder.to_string(), certified });
        }
        SignedBundle::read(bytes).map_err(SignError::SelfCheck)
    }
}

/// What is signed.
#[derive(Clone, Copy)]
enum What<'a> {
    Statement(&'a Statement),
    Message(&'a Bytes),
}

#[async_trait]
impl Signer for KeylessSigner {
    async fn sign(&self, statement: &Statement) -> Result<SignedBundle, SignError> {
        self.make(What::Statement(statement)).await
    }

    async fn sign_message(&self, message: &Bytes) -> Result<SignedBundle, SignError> {
        self.make(What::Message(message)).await
    }

    async fn equivalence(&self) -> Result<Option<Equivalence>, SignError> {
        let token = self.tokens.token().await.map_err(SignError::Token)?;
        let trust = Trust::CertificatesAt(self.root.clone(), self.services.evidence(&self.root));
        Ok(token.holder().map(|holder| Equivalence::held_by(trust, holder.clone())))
    }

    async fn prepared(&self) -> Result<Option<Box<dyn Signer>>, SignError> {
        let key = self.new_key()?;
        self.services.check(key.kind(), false)?;
        Ok(Some(Box::new(self.certified(key).await?)))
    }

    fn check(&self, message: bool) -> Result<(), SignError> {
        let kind = self.key.as_ref().map_or(KeyKind::EcdsaP256, |key| key.kind());
        self.services.check(kind, message)
    }
}

#[async_trait]
impl Signer for Certified {
    async fn sign(&self, statement: &Statement) -> Result<SignedBundle, SignError> {
        self.make(What::Statement(statement)).await
    }

    async fn sign_message(&self, message: &Bytes) -> Result<SignedBundle, SignError> {
        self.make(What::Message(message)).await
    }

    /// By what the certificate says, which decides nothing but whether there is something to add.
    async fn equivalence(&self) -> Result<Option<Equivalence>, SignError> {
        let trust = Trust::CertificatesAt(self.signer.root.clone(), self.signer.services.evidence(&self.signer.root));
        let who = CertificateSigner::of(&self.certificate);
        Ok(who.map(|who| Equivalence::certified(trust, who)))
    }
}
