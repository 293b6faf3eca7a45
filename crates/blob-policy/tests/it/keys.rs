//! Managed keys, and everything that must not pass for a signature with one.

use std::sync::Arc;

use async_trait::async_trait;
use blob_core::Digest;
use blob_policy::sigstore::{
    Artifact, BUNDLE_ARTIFACT_TYPE, Bundle, BundleError, ClaimRule, KeyPolicy, MAX_BUNDLE_BYTES, PolicySetupError,
    SigstoreLimits, TrustRoot, TrustedKey, VerifiedClaim, verify_with_certificate, verify_with_key_without_log,
};
use blob_policy::{BundleEvidence, Evidence, EvidenceError, EvidenceLimits, Policy as _, PolicyError, Subject};
use blob_registry::{Descriptor, ImageManifest, Registry as _, RegistryError, media_type};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{Shelf, Signer, rejected};

fn unlogged(signers: &[&Signer]) -> KeyPolicy {
    KeyPolicy::without_transparency_log(signers.iter().map(|signer| signer.trusted()).collect()).unwrap()
}

#[tokio::test]
async fn statements_and_messages_by_a_trusted_key_are_admitted() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let report = shelf.judge(&unlogged(&[&key])).await.unwrap();
    assert!(report.checks[0].finding.contains(key.public().id()), "{report:?}");
    let plain = Shelf::new();
    plain.sign(key.message(&plain.bytes)).await;
    plain.judge(&unlogged(&[&key])).await.unwrap();
}

#[tokio::test]
async fn an_unsigned_manifest_is_rejected() {
    assert_eq!(rejected(Shelf::new().judge(&unlogged(&[&Signer::p256()])).await), "no signature found");
}

#[tokio::test]
async fn a_signature_by_another_key_is_rejected_with_its_reason() {
    let (shelf, ours, theirs) = (Shelf::new(), Signer::p256(), Signer::p256());
    let referrer = shelf.sign(theirs.signature(&shelf.descriptor.digest)).await;
    let reasons = rejected(shelf.judge(&unlogged(&[&ours])).await);
    assert!(reasons.contains(&referrer.to_string()) && reasons.contains("does not verify"), "{reasons}");
    // One good bundle among bad ones is enough.
    shelf.sign(ours.signature(&shelf.descriptor.digest)).await;
    shelf.judge(&unlogged(&[&ours])).await.unwrap();
}

#[tokio::test]
async fn a_bundle_about_another_digest_is_rejected() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let other = Digest::sha256_of(b"something else");
    shelf.sign(key.signature(&other)).await;
    shelf.sign(key.message(b"something else")).await;
    let reasons = rejected(shelf.judge(&unlogged(&[&key])).await);
    assert!(reasons.contains(&other.hex()) && reasons.contains("not that of the artifact"), "{reasons}");
}

#[tokio::test]
async fn a_subject_whose_other_digest_contradicts_is_rejected() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": shelf.descriptor.digest.hex(), "sha512": "00".repeat(64)}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
    });
    shelf.sign(key.envelope("application/vnd.in-toto+json", statement.to_string().as_bytes())).await;
    assert!(rejected(shelf.judge(&unlogged(&[&key])).await).contains("the statement is about"));
}

#[tokio::test]
async fn what_is_not_an_in_toto_statement_is_rejected() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let hex = shelf.descriptor.digest.hex();
    let statement =
        |kind: &str| json!({"_type": kind, "subject": [{"digest": {"sha256": &hex}}], "predicateType": "p"});
    let v1 = statement("https://in-toto.io/Statement/v1").to_string();
    shelf.sign(key.envelope("text/plain", v1.as_bytes())).await;
    shelf.sign(key.envelope("application/vnd.in-toto+json", statement("x").to_string().as_bytes())).await;
    let twice = v1.replace("\"predicateType\"", "\"predicateType\":\"q\",\"predicateType\"");
    shelf.sign(key.envelope("application/vnd.in-toto+json", twice.as_bytes())).await;
    shelf.sign(key.envelope("application/vnd.in-toto+json", b"{}")).await;
    let reasons = rejected(shelf.judge(&unlogged(&[&key])).await);
    assert_eq!(reasons.matches("is not understood").count(), 4, "{reasons}");
}

#[tokio::test]
async fn another_attestation_by_the_right_key_is_not_a_signature() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    shelf.sign(key.statement(&shelf.descriptor.digest, "https://spdx.dev/Document", &json!({}))).await;
    assert!(rejected(shelf.judge(&unlogged(&[&key])).await).contains("is not a signature"));
}

/// Asks for a member of the predicate.
#[derive(Debug)]
struct Has(&'static str);

impl ClaimRule for Has {
    fn check(&self, claim: &VerifiedClaim) -> Result<String, String> {
        let statement = claim.verified().statement().ok_or("no statement")?;
        let found = statement.predicate().get(self.0).and_then(Value::as_bool);
        found.filter(|yes| *yes).map(|_| format!("has {}", self.0)).ok_or_else(|| format!("has no {}", self.0))
    }
}

#[tokio::test]
async fn two_attestations_do_not_satisfy_together_what_one_must_alone() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let both = unlogged(&[&key]).rule(Arc::new(Has("left"))).rule(Arc::new(Has("right")));
    let digest = shelf.descriptor.digest;
    shelf.sign(key.statement(&digest, "p", &json!({"left": true}))).await;
    shelf.sign(key.statement(&digest, "p", &json!({"right": true}))).await;
    let reasons = rejected(shelf.judge(&both).await);
    assert!(reasons.contains("has no left") && reasons.contains("has no right"), "{reasons}");
    // The whole, but by somebody else.
    let whole = json!({"left": true, "right": true});
    shelf.sign(Signer::p256().statement(&digest, "p", &whole)).await;
    rejected(shelf.judge(&both).await);
    shelf.sign(key.statement(&digest, "p", &whole)).await;
    shelf.judge(&both).await.unwrap();
}

#[tokio::test]
async fn a_threshold_counts_keys_and_not_bundles() {
    let (shelf, one, two) = (Shelf::new(), Signer::p256(), Signer::p256());
    let policy = unlogged(&[&one, &two]).threshold(2).unwrap();
    let digest = shelf.descriptor.digest;
    shelf.sign(one.signature(&digest)).await;
    shelf.sign(one.message(&shelf.bytes)).await;
    assert!(rejected(shelf.judge(&policy).await).contains("1 of 2 signers"));
    shelf.sign(two.signature(&digest)).await;
    assert_eq!(shelf.judge(&policy).await.unwrap().checks.len(), 3);
    for wrong in [0, 3] {
        assert!(matches!(unlogged(&[&one, &two]).threshold(wrong), Err(PolicySetupError::Threshold { .. })));
    }
    let twice = vec![one.trusted(), one.trusted()];
    assert!(matches!(KeyPolicy::without_transparency_log(twice), Err(PolicySetupError::Keys)));
    assert!(matches!(KeyPolicy::without_transparency_log(vec![]), Err(PolicySetupError::Keys)));
}

#[tokio::test]
async fn expired_and_future_keys_do_not_count() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let (past, future): (Timestamp, Timestamp) =
        ("2020-01-01T00:00:00Z".parse().unwrap(), "2200-01-01T00:00:00Z".parse().unwrap());
    for (trusted, expect) in [
        (key.trusted().not_after(past), false),
        (key.trusted().not_before(future), false),
        (key.trusted().not_before(past).not_after(future), true),
    ] {
        let described = format!("{trusted:?}");
        let policy = KeyPolicy::without_transparency_log(vec![trusted]).unwrap();
        assert_eq!(shelf.judge(&policy).await.is_ok(), expect, "{described}");
    }
}

#[tokio::test]
async fn a_bundle_without_log_entry_is_rejected_where_a_log_is_asked_for() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let policy = KeyPolicy::logged(TrustRoot::production().unwrap(), vec![key.trusted()]).unwrap();
    assert!(rejected(shelf.judge(&policy).await).contains("no transparency log entry"));
}

#[test]
fn a_key_is_no_certificate() {
    let key = Signer::p256();
    let bundle = Bundle::parse(&key.message(b"x")).unwrap();
    let root = TrustRoot::production().unwrap();
    let result = verify_with_certificate(&root, &bundle, Artifact::Content(b"x"));
    assert!(matches!(result, Err(BundleError::Kind { .. })));
}

#[test]
fn content_and_digest_give_the_same_verdict() {
    let (key, digest) = (Signer::p256(), Digest::sha256_of(b"x"));
    for bundle in [key.message(b"x"), key.signature(&digest)] {
        let bundle = Bundle::parse(&bundle).unwrap();
        for (artifact, expect) in [
            (Artifact::Content(b"x"), true),
            (Artifact::Digest(&digest), true),
            (Artifact::Content(b"y"), false),
            (Artifact::Digest(&Digest::sha256_of(b"y")), false),
        ] {
            let verdict = verify_with_key_without_log(&key.public(), &bundle, artifact);
            assert_eq!(verdict.is_ok(), expect, "{artifact:?}");
        }
    }
}

#[test]
fn a_changed_byte_anywhere_in_what_counts_is_refused() {
    let (key, digest) = (Signer::p256(), Digest::sha256_of(b"x"));
    let original = key.signature(&digest);
    let parsed: Value = serde_json::from_slice(&original).unwrap();
    let envelope = &parsed["dsseEnvelope"];
    for counted in [&envelope["payload"], &envelope["signatures"][0]["sig"], &envelope["payloadType"]] {
        let text = counted.as_str().unwrap();
        let whole = String::from_utf8(original.clone()).unwrap();
        let start = whole.find(text).unwrap();
        for at in start..start + text.len() {
            let mut changed = original.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let verdict = Bundle::parse(&changed)
                .and_then(|bundle| verify_with_key_without_log(&key.public(), &bundle, Artifact::Digest(&digest)));
            assert!(verdict.is_err(), "byte {at} of the bundle may be anything");
        }
    }
}

#[tokio::test]
async fn a_substituted_manifest_never_reaches_a_policy() {
    let shelf = Shelf::new();
    let evidence = shelf.evidence();
    let other = Bytes::from_static(b"{\"schemaVersion\":2}");
    assert!(matches!(Subject::new(&shelf.descriptor, &other, &evidence), Err(EvidenceError::Subject { .. })));
    let mut larger = shelf.descriptor.clone();
    larger.size += 1;
    assert!(matches!(Subject::new(&larger, &shelf.bytes, &evidence), Err(EvidenceError::SubjectSize { .. })));
}

#[tokio::test]
async fn layers_of_other_types_and_too_many_are_refused() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let bundle = key.signature(&shelf.descriptor.digest);
    shelf.attach(std::slice::from_ref(&bundle), "application/octet-stream").await;
    shelf.attach(&vec![bundle.clone(); 9], BUNDLE_ARTIFACT_TYPE).await;
    shelf.attach(&[], BUNDLE_ARTIFACT_TYPE).await;
    let reasons = rejected(shelf.judge(&unlogged(&[&key])).await);
    for expect in ["a layer of type", "9 layers", "0 layers"] {
        assert!(reasons.contains(expect), "{expect}: {reasons}");
    }
    shelf.attach(&[bundle], "application/vnd.dev.sigstore.bundle+json;version=0.3").await;
    shelf.judge(&unlogged(&[&key])).await.unwrap();
}

#[tokio::test]
async fn more_evidence_than_is_looked_at_is_not_a_verdict() {
    let (mut shelf, key) = (Shelf::new(), Signer::p256());
    for at in 0..6_u8 {
        shelf.sign(vec![at]).await;
    }
    let few = SigstoreLimits::default();
    let few = unlogged(&[&key]).limits({
        let mut limits = few;
        limits.max_bundles = 3;
        limits
    });
    assert!(matches!(shelf.judge(&few).await, Err(PolicyError::CannotTell { .. })));
    let mut limits = EvidenceLimits::default();
    limits.max_referrers = 5;
    shelf.limits = limits;
    assert!(matches!(shelf.judge(&unlogged(&[&key])).await, Err(PolicyError::CannotTell { .. })));
}

#[tokio::test]
async fn an_older_signature_is_reported_and_not_believed() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let found = shelf.tag(&format!("sha256-{}.sig", shelf.descriptor.digest.hex())).await;
    let reasons = rejected(shelf.judge(&unlogged(&[&key])).await);
    assert!(reasons.contains("older form") && reasons.contains(&found.to_string()), "{reasons}");
}

#[tokio::test]
async fn a_referrer_is_read_once() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let digest = shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let evidence = shelf.evidence();
    let found = evidence.referrers(Some(BUNDLE_ARTIFACT_TYPE)).await.unwrap();
    shelf.registry.delete_manifest(&shelf.repository, &digest).await.unwrap();
    let bytes = evidence.fetch(&found[0], 1 << 20).await.unwrap();
    assert_eq!(Digest::sha256_of(&bytes), digest);
    assert!(evidence.fetch(&found[0], 10).await.is_err(), "the limit holds for what was read before, too");
}

/// A registry's evidence that fails, or claims sizes.
#[derive(Debug)]
enum Bad {
    List,
    Fetch,
    Huge,
}

#[async_trait]
impl Evidence for Bad {
    async fn referrers(&self, _: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        match self {
            Self::List => Err(failed()),
            _ => Ok(vec![Descriptor::of(media_type::IMAGE_MANIFEST, b"{}")]),
        }
    }

    async fn fetch(&self, _: &Descriptor, _: u64) -> Result<Bytes, EvidenceError> {
        let huge = Descriptor::new(BUNDLE_ARTIFACT_TYPE, Digest::sha256_of(b"1 GiB"), 1 << 30);
        match self {
            Self::Huge => Ok(ImageManifest::artifact(BUNDLE_ARTIFACT_TYPE, vec![huge]).to_bytes().into()),
            _ => Err(failed()),
        }
    }
}

fn failed() -> EvidenceError {
    EvidenceError::Registry { subject: Digest::sha256_of(b""), source: RegistryError::unsupported("reading") }
}

#[tokio::test]
async fn a_failing_registry_is_not_a_rejection_and_a_huge_bundle_is_not_fetched() {
    let (shelf, policy) = (Shelf::new(), unlogged(&[&Signer::p256()]));
    for (bad, rejects) in [(Bad::List, false), (Bad::Fetch, false), (Bad::Huge, true)] {
        let subject = Subject::new(&shelf.descriptor, &shelf.bytes, &bad).unwrap();
        let error = policy.evaluate(&subject).await.unwrap_err();
        assert_eq!(error.is_rejection(), rejects, "{bad:?}: {error}");
        assert!(!rejects || error.to_string().contains(&format!("more than {MAX_BUNDLE_BYTES}")), "{error}");
        assert_eq!(error.registry_error().is_some(), !rejects, "{bad:?}");
    }
}

#[test]
fn keys_of_other_kinds_are_refused() {
    for bad in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "-----BEGIN CERTIFICATE-----"] {
        assert!(matches!(blob_policy::sigstore::PublicKey::from_pem(bad), Err(BundleError::Malformed(_))), "{bad}");
    }
    let _: TrustedKey = Signer::p256().trusted();
}

/// Manifests are cheap to make and dear to read: those that no signer makes are not read at all.
#[tokio::test]
async fn referrers_too_large_to_carry_bundles_are_not_read() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let layers: Vec<Vec<u8>> = (0..700).map(|n: u32| n.to_be_bytes().to_vec()).collect();
    let large = shelf.attach(&layers, "application/octet-stream").await;
    let small = shelf.sign(key.signature(&shelf.descriptor.digest)).await;
    let found: Vec<_> = shelf.evidence().referrers(None).await.unwrap().into_iter().map(|one| one.digest).collect();
    assert!(found.contains(&small) && !found.contains(&large), "{found:?}");
    let policy = KeyPolicy::without_transparency_log(vec![key.trusted()]).unwrap();
    shelf.judge(&policy).await.unwrap();
}

/// Others get their turn between bundles, however many there are.
#[test]
fn verification_does_not_keep_a_thread_to_itself() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let bundles: Vec<_> = (0..8).map(|_| key.signature(&shelf.descriptor.digest).into()).collect();
    let evidence = BundleEvidence::new(bundles);
    let subject = Subject::new(&shelf.descriptor, &shelf.bytes, &evidence).unwrap();
    let policy = KeyPolicy::without_transparency_log(vec![key.trusted()]).unwrap();
    let mut verdict = policy.evaluate(&subject);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut turns = 0;
    while verdict.as_mut().poll(&mut context).is_pending() {
        turns += 1;
    }
    assert_eq!(turns, 8);
}
