//! What signers make is what policies admit.

use std::sync::Arc;

use async_trait::async_trait;
use blob_core::Digest;
use blob_policy::sign::{
    AttachError, KeyError, KeyKind, KeySigner, KeyedSigner, LocalKey, SignError, SignedBundle, Signer, Statement,
    attach,
};
use blob_policy::sigstore::{
    BUNDLE_ARTIFACT_TYPE, BundleError, COSIGN_SIGN_PREDICATE, KeyPolicy, PublicKey, TrustedKey,
};
use blob_registry::{ImageManifest, PageRequest, Registry as _, Target};
use bytes::Bytes;
use serde_json::json;

use crate::support::{Shelf, rejected};

const KINDS: [KeyKind; 4] = [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519, KeyKind::Rsa];

/// Generating an RSA key takes its time: there is one of them.
fn key(kind: KeyKind) -> Arc<LocalKey> {
    let rsa = include_str!("../fixtures/private/rsa2048.pem");
    let key = if kind == KeyKind::Rsa { LocalKey::from_pem(rsa, None) } else { LocalKey::generate(kind) };
    Arc::new(key.unwrap())
}

fn policy(key: &PublicKey) -> KeyPolicy {
    KeyPolicy::without_transparency_log(vec![TrustedKey::new(key.clone())]).unwrap()
}

async fn attached(shelf: &Shelf, bundle: &SignedBundle) -> Digest {
    attach(shelf.registry.as_ref(), &shelf.repository, &shelf.descriptor, bundle).await.unwrap().manifest
}

#[tokio::test]
async fn every_kind_of_key_makes_signatures_that_are_admitted() {
    for kind in KINDS {
        let key = key(kind);
        let signer = KeyedSigner::new(key.clone());
        let statement = Statement::signature(Shelf::new().descriptor.digest).annotation("k", "v");
        let bundles = [signer.sign(&statement).await, signer.sign_message(&Shelf::new().bytes).await];
        for bundle in bundles.map(Result::unwrap) {
            let shelf = Shelf::new();
            attached(&shelf, &bundle).await;
            let report = shelf.judge(&policy(key.public_key())).await.unwrap();
            assert!(report.checks[0].finding.contains(key.public_key().id()), "{kind}: {report:?}");
            let other = LocalKey::generate(KeyKind::EcdsaP256).unwrap();
            rejected(shelf.judge(&policy(other.public_key())).await);
        }
    }
}

#[tokio::test]
async fn the_referrer_is_written_as_cosign_writes_it() {
    let (shelf, key) = (Shelf::new(), key(KeyKind::EcdsaP256));
    let signer = KeyedSigner::new(key);
    let statement = signer.sign(&Statement::signature(shelf.descriptor.digest)).await.unwrap();
    let message = signer.sign_message(&shelf.bytes).await.unwrap();
    for (bundle, content, predicate) in
        [(statement, "dsse-envelope", Some(COSIGN_SIGN_PREDICATE)), (message, "message-signature", None)]
    {
        let digest = attached(&shelf, &bundle).await;
        let stored = shelf.registry.manifest(&shelf.repository, &Target::Digest(digest)).await.unwrap();
        let manifest = ImageManifest::parse(&stored.bytes).unwrap();
        assert_eq!(manifest.artifact_type.as_deref(), Some(BUNDLE_ARTIFACT_TYPE));
        assert_eq!((manifest.config.size, manifest.layers.len()), (2, 1));
        assert_eq!(manifest.layers[0].media_type, BUNDLE_ARTIFACT_TYPE);
        assert_eq!(manifest.layers[0].digest, Digest::sha256_of(bundle.bytes()));
        assert_eq!(manifest.subject.unwrap(), shelf.descriptor);
        let note = |name: &str| manifest.annotations.get(name).map(String::as_str);
        assert_eq!(note("dev.sigstore.bundle.content"), Some(content));
        assert_eq!(note("dev.sigstore.bundle.predicateType"), predicate);
        let created: jiff::Timestamp = note("org.opencontainers.image.created").unwrap().parse().unwrap();
        assert!(created <= jiff::Timestamp::now() && created.subsec_nanosecond() == 0);
        // The list of referrers shows what it is without reading it.
        let subject = shelf.descriptor.digest;
        let page = shelf.registry.referrers(&shelf.repository, &subject, None, &PageRequest::first()).await.unwrap();
        assert!(page.items.iter().any(|item| item.digest == digest && item.annotations == manifest.annotations));
    }
}

#[tokio::test]
async fn a_bundle_is_attached_to_its_subject_alone() {
    let shelf = Shelf::new();
    let signer = KeyedSigner::new(key(KeyKind::EcdsaP256));
    let other = Bytes::from_static(b"another manifest");
    let statement = signer.sign(&Statement::signature(Digest::sha256_of(&other))).await.unwrap();
    let message = signer.sign_message(&other).await.unwrap();
    for bundle in [statement, message] {
        assert_eq!(bundle.subject(), Some(&Digest::sha256_of(&other)));
        let tried = attach(shelf.registry.as_ref(), &shelf.repository, &shelf.descriptor, &bundle).await;
        assert!(matches!(tried, Err(AttachError::Subject { expected, .. }) if expected == shelf.descriptor.digest));
    }
}

#[tokio::test]
async fn an_attestation_is_no_signature() {
    let (shelf, key) = (Shelf::new(), key(KeyKind::Ed25519));
    let predicate = json!({"scanner": "none"});
    let statement = Statement::attestation(shelf.descriptor.digest, "https://example.com/scan/v1", predicate).unwrap();
    let bundle = KeyedSigner::new(key.clone()).sign(&statement).await.unwrap();
    assert_eq!(bundle.predicate_type(), Some("https://example.com/scan/v1"));
    attached(&shelf, &bundle).await;
    assert!(rejected(shelf.judge(&policy(key.public_key())).await).contains("is not a signature"));
}

/// What a key service makes of a good signature.
type Answer = fn(Vec<u8>) -> Result<Vec<u8>, KeyError>;

/// A key service that answers wrongly.
#[derive(Debug)]
struct Broken {
    key: Arc<LocalKey>,
    answer: Answer,
}

#[async_trait]
impl KeySigner for Broken {
    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    fn kind(&self) -> KeyKind {
        self.key.kind()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        (self.answer)(self.key.sign(message).await?)
    }
}

#[tokio::test]
async fn what_does_not_verify_is_not_handed_out() {
    let statement = Statement::signature(Digest::sha256_of(b"x"));
    let flip = |mut signature: Vec<u8>| {
        let last = signature.len() - 1;
        signature[last] ^= 1;
        Ok(signature)
    };
    let cases: [Answer; 3] = [flip, |_| Ok(Vec::new()), |_| Ok(vec![0; 1 << 20])];
    for kind in KINDS {
        for answer in cases {
            let signer = KeyedSigner::new(Arc::new(Broken { key: key(kind), answer }));
            let signed = signer.sign(&statement).await;
            assert!(matches!(signed, Err(SignError::SelfCheck(BundleError::NotVerified(_)))), "{kind}: {signed:?}");
            let signed = signer.sign_message(&Bytes::from_static(b"x")).await;
            assert!(matches!(signed, Err(SignError::SelfCheck(_))), "{kind}: {signed:?}");
        }
    }
    let answer = |_| Err(KeyError::Failed { action: "signing", source: "the service is down".into() });
    let signer = KeyedSigner::new(Arc::new(Broken { key: key(KeyKind::EcdsaP256), answer }));
    assert!(matches!(signer.sign(&statement).await, Err(SignError::Key { .. })));
}
