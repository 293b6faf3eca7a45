//! A registry with a manifest in it, and bundles made with keys.

use std::sync::Arc;

use blob_core::{ByteSource, Digest, MemorySource};
use blob_policy::sigstore::{BUNDLE_ARTIFACT_TYPE, PublicKey, TrustedKey};
use blob_policy::{EvidenceLimits, Policy, PolicyError, RegistryEvidence, Report, Subject};
use blob_registry::{
    Descriptor, ImageManifest, MemoryRegistry, PushBlob, PushManifest, Registry, Repository, Tag, media_type,
};
use bytes::Bytes;
use serde_json::{Value, json};
use sigstore_crypto::KeyPair;
use sigstore_types::bundle::{
    Bundle, MediaType, MessageDigest, MessageSignature, PublicKeyIdentifier, VerificationMaterial,
    VerificationMaterialContent,
};
use sigstore_types::{
    DsseEnvelope, DsseSignature, HashAlgorithm, KeyId, PayloadBytes, SignatureBytes, SignatureContent,
};

/// A repository that holds one manifest, and what refers to it.
pub(crate) struct Shelf {
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) repository: Repository,
    pub(crate) bytes: Bytes,
    pub(crate) descriptor: Descriptor,
    pub(crate) limits: EvidenceLimits,
}

impl Shelf {
    pub(crate) fn new() -> Self {
        let manifest = ImageManifest::artifact("application/vnd.example.archive", vec![Descriptor::empty()]);
        Self::of(manifest.to_bytes().into())
    }

    pub(crate) fn of(bytes: Bytes) -> Self {
        let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
        let repository = Repository::new("acme/app").unwrap();
        Self {
            registry: Arc::new(MemoryRegistry::new()),
            repository,
            bytes,
            descriptor,
            limits: EvidenceLimits::default(),
        }
    }

    async fn blob(&self, bytes: &[u8], media_type: &str) -> Descriptor {
        let source: Arc<dyn ByteSource> = Arc::new(MemorySource::new(Bytes::copy_from_slice(bytes)));
        let digest = Digest::sha256_of(bytes);
        self.registry.push_blob(&self.repository, PushBlob::new(digest, source)).await.unwrap();
        Descriptor::of(media_type, bytes)
    }

    /// Attaches layers of one media type as a referrer of our manifest.
    pub(crate) async fn attach(&self, layers: &[Vec<u8>], layer_type: &str) -> Digest {
        self.attach_as(BUNDLE_ARTIFACT_TYPE, layers, layer_type).await
    }

    /// The same, as an artifact of another type.
    pub(crate) async fn attach_as(&self, artifact_type: &str, layers: &[Vec<u8>], layer_type: &str) -> Digest {
        let mut descriptors = Vec::new();
        for layer in layers {
            descriptors.push(self.blob(layer, layer_type).await);
        }
        self.blob(b"{}", media_type::EMPTY).await;
        let mut manifest = ImageManifest::artifact(artifact_type, descriptors);
        manifest.subject = Some(self.descriptor.clone());
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes());
        self.registry.push_manifest(&self.repository, push).await.unwrap().digest
    }

    /// Attaches one bundle as tools do.
    pub(crate) async fn sign(&self, bundle: Vec<u8>) -> Digest {
        self.attach(&[bundle], BUNDLE_ARTIFACT_TYPE).await
    }

    /// Pushes some manifest under a tag.
    pub(crate) async fn tag(&self, tag: &str) -> Digest {
        self.blob(b"{}", media_type::EMPTY).await;
        let manifest = ImageManifest::artifact("application/vnd.example.other", vec![Descriptor::empty()]);
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes());
        let push = push.with_tags([Tag::new(tag).unwrap()]);
        self.registry.push_manifest(&self.repository, push).await.unwrap().digest
    }

    pub(crate) fn evidence(&self) -> RegistryEvidence {
        let registry: Arc<dyn Registry> = self.registry.clone();
        RegistryEvidence::new(registry, self.repository.clone(), self.descriptor.digest, self.limits)
    }

    pub(crate) async fn judge(&self, policy: &dyn Policy) -> Result<Report, PolicyError> {
        let evidence = self.evidence();
        policy.evaluate(&Subject::new(&self.descriptor, &self.bytes, &evidence).unwrap()).await
    }
}

/// A key that signs in tests.
pub(crate) struct Signer(KeyPair);

impl Signer {
    pub(crate) fn p256() -> Self {
        Self(KeyPair::generate_ecdsa_p256().unwrap())
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::from_der(self.0.public_key_der().unwrap().as_bytes()).unwrap()
    }

    /// The public key as a file holds it.
    pub(crate) fn pem(&self) -> String {
        self.0.public_key_der().unwrap().to_pem()
    }

    pub(crate) fn trusted(&self) -> TrustedKey {
        TrustedKey::new(self.public())
    }

    fn bundle(content: SignatureContent) -> Vec<u8> {
        let key = VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("a hint"));
        let bundle = Bundle::new(MediaType::Bundle0_3, VerificationMaterial::new(key), content);
        bundle.to_json().unwrap().into_bytes()
    }

    /// A signature of `bytes` themselves.
    pub(crate) fn message(&self, bytes: &[u8]) -> Vec<u8> {
        let digest = sigstore_crypto::sha256(bytes);
        let message = MessageSignature::new(self.0.sign(bytes).unwrap())
            .with_message_digest(MessageDigest::new(HashAlgorithm::Sha2256, digest.into()));
        Self::bundle(SignatureContent::MessageSignature(message))
    }

    /// A signed payload of any kind.
    pub(crate) fn envelope(&self, payload_type: &str, payload: &[u8]) -> Vec<u8> {
        let envelope = |sig| {
            let payload = PayloadBytes::new(payload.to_vec());
            DsseEnvelope::new(payload_type, payload, DsseSignature::new(sig, KeyId::default()))
        };
        let pae = envelope(SignatureBytes::new(Vec::new())).pae();
        Self::bundle(SignatureContent::DsseEnvelope(envelope(self.0.sign(&pae).unwrap())))
    }

    /// A signed statement about `subject`.
    pub(crate) fn statement(&self, subject: &Digest, predicate_type: &str, predicate: &Value) -> Vec<u8> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {subject.algorithm().name(): subject.hex()}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        });
        self.envelope("application/vnd.in-toto+json", statement.to_string().as_bytes())
    }

    /// What `cosign sign` writes.
    pub(crate) fn signature(&self, subject: &Digest) -> Vec<u8> {
        self.statement(subject, blob_policy::sigstore::COSIGN_SIGN_PREDICATE, &json!({}))
    }
}

/// The reasons of a rejection; panics on anything else.
pub(crate) fn rejected(result: Result<Report, PolicyError>) -> String {
    match result {
        Err(PolicyError::Rejected { reasons, .. }) => reasons.join("; "),
        other => panic!("not a rejection: {other:?}"),
    }
}
