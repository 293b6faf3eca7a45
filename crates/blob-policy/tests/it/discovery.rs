//! Which referrers are found as evidence, what finding them costs, and what is said of those that do not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use blob_core::Digest;
use blob_policy::sigstore::{BUNDLE_ARTIFACT_TYPE, KeyPolicy};
use blob_policy::{Evidence, EvidenceError, EvidenceLimits, PolicyError, RequireAll, Subject};
use blob_registry::{Descriptor, RegistryError};
use bytes::Bytes;
use serde_json::Value;

use crate::support::{Shelf, Signer, rejected};

fn unlogged(key: &Signer) -> KeyPolicy {
    KeyPolicy::without_transparency_log(vec![key.trusted()]).unwrap()
}

/// A bundle that says to be of another version, in this spelling.
fn of_type(bundle: &[u8], media_type: &str) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_slice(bundle).unwrap();
    bundle["mediaType"] = media_type.into();
    bundle.to_string().into_bytes()
}

#[tokio::test]
async fn bundles_of_every_version_are_found_in_both_spellings() {
    let key = Signer::p256();
    for version in ["0.1", "0.2", "0.3"] {
        let spellings = [
            format!("application/vnd.dev.sigstore.bundle+json;version={version}"),
            format!("application/vnd.dev.sigstore.bundle.v{version}+json"),
        ];
        // What the referrer says, what its layer says, and what the bundle says of itself need not be spelled alike.
        for (artifact, layer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for of_itself in 0..2 {
                // Nobody ever wrote the versions before 0.3 with the newer spelling inside.
                if of_itself == 1 && version != "0.3" {
                    continue;
                }
                let shelf = Shelf::new();
                let bundle = of_type(&key.signature(&shelf.descriptor.digest), &spellings[of_itself]);
                let found = shelf.attach_as(&spellings[artifact], &[bundle], &spellings[layer]).await;
                let admitted = shelf.judge(&unlogged(&key)).await;
                let report = admitted.unwrap_or_else(|error| panic!("{spellings:?} {artifact} {layer}: {error}"));
                assert_eq!(report.refused, Vec::<String>::new(), "{found}");
                // And somebody else's is refused by its digest, not overlooked.
                let reasons = rejected(shelf.judge(&unlogged(&Signer::p256())).await);
                assert!(reasons.contains(&found.to_string()), "{reasons}");
            }
        }
    }
    // A later version is nobody's yet, and other artifacts are none of ours: neither is looked into.
    for other in ["application/vnd.dev.sigstore.bundle.v0.4+json", "application/vnd.in-toto+json", "text/plain"] {
        let shelf = Shelf::new();
        shelf.attach_as(other, &[key.signature(&shelf.descriptor.digest)], BUNDLE_ARTIFACT_TYPE).await;
        assert_eq!(rejected(shelf.judge(&unlogged(&key)).await), "no signature found", "{other}");
    }
}

/// Evidence as a registry lists it that says no types, as clients write lists for registries without the referrers API.
#[derive(Debug)]
struct Untyped(Vec<Descriptor>, blob_policy::RegistryEvidence, AtomicUsize);

#[async_trait]
impl Evidence for Untyped {
    async fn referrers(&self, _: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        self.2.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.clone())
    }

    async fn fetch(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Bytes, EvidenceError> {
        self.1.fetch(descriptor, max_bytes).await
    }
}

#[tokio::test]
async fn a_list_without_types_is_looked_through() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let mut listed = shelf.evidence().referrers(None).await.unwrap();
    for one in &mut listed {
        one.artifact_type = None;
    }
    let evidence = Untyped(listed, shelf.evidence(), AtomicUsize::new(0));
    let subject = Subject::new(&shelf.descriptor, &shelf.bytes, &evidence).unwrap();
    blob_policy::Policy::evaluate(&unlogged(&key), &subject).await.unwrap();
    assert_eq!(evidence.2.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn other_artifacts_are_not_counted_and_not_read() {
    let (mut shelf, key) = (Shelf::new(), Signer::p256());
    for at in 0..20_u8 {
        shelf.attach_as("application/spdx+json", &[vec![at]], "application/spdx+json").await;
    }
    shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let mut limits = EvidenceLimits::default();
    (limits.max_referrers, limits.max_total_bytes) = (1, 2048);
    shelf.limits = limits;
    shelf.judge(&unlogged(&key)).await.unwrap();
    shelf.sign(key.message(&shelf.bytes)).await;
    let error = shelf.judge(&unlogged(&key)).await.unwrap_err();
    assert!(error.explanation().contains("more than 1 referrers"), "{}", error.explanation());
}

#[tokio::test]
async fn a_referrer_that_is_too_large_is_named_in_the_refusal() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let layers: Vec<Vec<u8>> = (0..700).map(|n: u32| n.to_be_bytes().to_vec()).collect();
    let large = shelf.attach(&layers, BUNDLE_ARTIFACT_TYPE).await;
    let reasons = rejected(shelf.judge(&unlogged(&key)).await);
    assert!(reasons.contains(&format!("{large}: a manifest of ")) && reasons.contains("not read"), "{reasons}");
    // It is named beside what suffices, too.
    shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let report = shelf.judge(&unlogged(&key)).await.unwrap();
    assert!(report.refused.iter().any(|reason| reason.contains(&large.to_string())), "{report:?}");
}

#[tokio::test]
async fn the_bytes_of_all_manifests_of_evidence_are_limited() {
    let (mut shelf, key) = (Shelf::new(), Signer::p256());
    let mut sizes = 0;
    for at in 0..3_u8 {
        shelf.sign(vec![at; 16]).await;
    }
    for one in shelf.evidence().referrers(None).await.unwrap() {
        sizes += one.size;
    }
    let mut limits = EvidenceLimits::default();
    limits.max_total_bytes = sizes;
    shelf.limits = limits;
    rejected(shelf.judge(&unlogged(&key)).await);
    limits.max_total_bytes = sizes - 1;
    shelf.limits = limits;
    let error = shelf.judge(&unlogged(&key)).await.unwrap_err();
    assert!(!error.is_rejection(), "{error}");
    assert!(error.explanation().contains(&format!("referrers of {} bytes", sizes - 1)), "{}", error.explanation());
}

/// Evidence that fails, and counts how often it was asked.
#[derive(Debug, Default)]
struct Failing(AtomicUsize);

#[async_trait]
impl Evidence for Failing {
    async fn referrers(&self, _: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let source = RegistryError::unsupported("listing referrers");
        Err(EvidenceError::Registry { subject: Digest::sha256_of(b""), source })
    }

    async fn fetch(&self, _: &Descriptor, _: u64) -> Result<Bytes, EvidenceError> {
        Err(EvidenceError::Limit { subject: Digest::sha256_of(b""), what: "nothing is there".into() })
    }
}

#[tokio::test]
async fn several_policies_wait_for_a_failing_registry_once_and_all_say_so() {
    let shelf = Shelf::new();
    let policies = (0..3).map(|_| Arc::new(unlogged(&Signer::p256())) as Arc<dyn blob_policy::Policy>).collect();
    let (all, evidence) = (RequireAll::new(policies).unwrap(), Failing::default());
    let subject = Subject::new(&shelf.descriptor, &shelf.bytes, &evidence).unwrap();
    let error = blob_policy::Policy::evaluate(&all, &subject).await.unwrap_err();
    assert!(!error.is_rejection() && error.registry_error().is_some());
    assert_eq!(error.explanation().matches("listing referrers").count(), 3, "{}", error.explanation());
    assert_eq!(evidence.0.load(Ordering::Relaxed), 1);
}

/// Evidence of which one manifest cannot be read.
#[derive(Debug)]
struct Half(Vec<Descriptor>, blob_policy::RegistryEvidence, Digest);
#[async_trait]
impl Evidence for Half {
    async fn referrers(&self, _: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        Ok(self.0.clone())
    }

    async fn fetch(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Bytes, EvidenceError> {
        if descriptor.digest == self.2 {
            let source = RegistryError::unsupported("reading");
            return Err(EvidenceError::Registry { subject: self.2, source });
        }
        self.1.fetch(descriptor, max_bytes).await
    }
}

/// Signatures that were refused are told also where something else could not be read.
#[tokio::test]
async fn a_policy_that_cannot_tell_says_what_it_tried() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let refused = shelf.sign(Signer::p256().signature(&shelf.descriptor.digest)).await;
    let other = shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let found = shelf.evidence().referrers(None).await.unwrap();
    let evidence = Half(found, shelf.evidence(), other);
    let subject = Subject::new(&shelf.descriptor, &shelf.bytes, &evidence).unwrap();
    let error = blob_policy::Policy::evaluate(&unlogged(&key), &subject).await.unwrap_err();
    assert!(matches!(error, PolicyError::CannotTell { .. }), "{error}");
    assert!(error.to_string().contains(&format!("{refused}: the bundle does not verify")), "{error}");
    assert!(error.explanation().contains("reading"), "{}", error.explanation());
}
