//! Bundles with something changed: every member removed or replaced, and bytes flipped, are refused.

use std::sync::Arc;

use blob_policy::sign::{IdentityToken, KeyKind, KeySigner as _, KeyedSigner, KeylessSigner, LocalKey, LogVersion};
use blob_policy::sign::{Services, SignedBundle, Signer, Statement};
use blob_policy::sigstore::{
    Artifact, Bundle, Signer as SignedBy, TrustRoot, VerifiedBundle, verify_with_certificate, verify_with_key,
    verify_with_key_without_log,
};
use blob_testkit::sigstore::{Instance, Person};
use bytes::Bytes;
use serde_json::Value;

/// How a bundle is verified.
type Verify<'a> = &'a dyn Fn(&Bundle) -> Option<VerifiedBundle>;

/// Parts of which nothing may change. What is not here may be left out or damaged only without changing what is proved:
/// a hint at the key, copies of what is signed elsewhere, evidence on top of what is asked for.
const ESSENTIAL: [&str; 8] = [
    "/dsseEnvelope",
    "/messageSignature/signature",
    "/verificationMaterial/certificate",
    "/verificationMaterial/tlogEntries/0/canonicalizedBody",
    "/verificationMaterial/tlogEntries/0/kindVersion",
    "/verificationMaterial/tlogEntries/0/logId",
    "/verificationMaterial/tlogEntries/0/inclusionProof/hashes",
    "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint",
];

/// Every place in a document, and how to change what is there.
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| places(value, format!("{at}/{name}"), out)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| places(value, format!("{at}/{n}"), out)),
        _ => {}
    }
    if !at.is_empty() {
        out.push(at);
    }
}

fn verdict(text: &[u8], verify: Verify<'_>) -> Option<VerifiedBundle> {
    Bundle::parse(text).ok().and_then(|bundle| verify(&bundle))
}

/// Whether a changed bundle proves what the good one did, and nothing else.
fn same(good: &VerifiedBundle, changed: &VerifiedBundle) -> bool {
    let claims = good.signer() == changed.signer() && good.statement() == changed.statement();
    claims && good.is_logged() == changed.is_logged() && changed.times().iter().all(|time| good.times().contains(time))
}

fn every_member(bundle: &SignedBundle, verify: Verify<'_>) {
    let document: Value = serde_json::from_slice(bundle.bytes()).unwrap();
    let good = verdict(document.to_string().as_bytes(), verify).expect("the bundle itself verifies");
    let mut all = Vec::new();
    places(&document, String::new(), &mut all);
    let (mut essential, mut refused) = (0, 0);
    for pointer in &all {
        let must_not = ESSENTIAL.iter().any(|part| pointer.starts_with(part));
        essential += usize::from(must_not);
        for changed in changes(&document, pointer) {
            match verdict(changed.to_string().as_bytes(), verify) {
                None => refused += 1,
                Some(_) if must_not => panic!("{pointer} was changed, and it verifies: {changed}"),
                Some(verified) => assert!(same(&good, &verified), "{pointer} was changed, and it says something else"),
            }
        }
    }
    assert!(essential > 0 && refused > 20, "{essential} places, {refused} refusals: {all:?}");
}

/// The document with the member at `pointer` removed, emptied, of another type, or changed a little.
fn changes(document: &Value, pointer: &str) -> Vec<Value> {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut out = Vec::new();
    let mut removed = document.clone();
    match removed.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.remove(name)),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        _ => {}
    }
    out.push(removed);
    let old = document.pointer(pointer).unwrap();
    let mut put = |value: Value| {
        let mut changed = document.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        out.push(changed);
    };
    put(Value::Null);
    match old {
        Value::String(text) => {
            put("".into());
            put(1.into());
            for at in [0, text.len() / 2, text.len().saturating_sub(5)] {
                let mut bytes = text.clone().into_bytes();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = if *byte == b'A' { b'B' } else { b'A' };
                    put(String::from_utf8_lossy(&bytes).into_owned().into());
                }
            }
        }
        Value::Array(items) => {
            put(Value::Array(Vec::new()));
            for item in items {
                put(Value::Array([items.as_slice(), std::slice::from_ref(item)].concat()));
            }
        }
        Value::Number(_) => put(7.into()),
        _ => put("x".into()),
    }
    out
}

/// Flips bits at places spread over the text.
fn spread_bytes(bundle: &SignedBundle, step: usize, verify: Verify<'_>) {
    let good = verdict(bundle.bytes(), verify).expect("the bundle itself verifies");
    let (mut tried, mut refused) = (0, 0);
    for at in (0..bundle.bytes().len()).step_by(step) {
        tried += 1;
        let mut text = bundle.bytes().to_vec();
        text[at] ^= 1 << (at % 7);
        match verdict(&text, verify) {
            None => refused += 1,
            Some(same_still) => {
                assert!(same(&good, &same_still), "byte {at} was changed, and it verifies as something else");
            }
        }
    }
    assert!(tried > 50 && refused * 2 > tried, "{refused} of {tried} changes were refused");
}

#[tokio::test]
async fn key_bundles_with_anything_changed_are_refused() {
    let content = Bytes::from_static(b"a manifest");
    let key = Arc::new(LocalKey::generate(KeyKind::EcdsaP256).unwrap());
    let signer = KeyedSigner::new(key.clone());
    let digest = blob_core::Digest::sha256_of(&content);
    let verify =
        |bundle: &Bundle| verify_with_key_without_log(key.public_key(), bundle, Artifact::Content(&content)).ok();
    for bundle in [signer.sign(&Statement::signature(digest)).await, signer.sign_message(&content).await] {
        let bundle = bundle.unwrap();
        every_member(&bundle, &verify);
        spread_bytes(&bundle, 1, &verify);
    }
}

#[tokio::test]
async fn certificate_bundles_with_anything_changed_are_refused() {
    let instance = Instance::start().unwrap();
    let root = TrustRoot::from_json(instance.trusted_root().as_bytes()).unwrap();
    let content = Bytes::from_static(b"a manifest");
    let digest = blob_core::Digest::sha256_of(&content);
    for (version, v2) in [(LogVersion::V1, false), (LogVersion::V2, true)] {
        let services = Services::from_signing_config(instance.signing_config(v2).as_bytes(), Some(version)).unwrap();
        let token = IdentityToken::new(&Person::email("https://issuer.test", "ann@example.com").token()).unwrap();
        let signer = KeylessSigner::new(services.clone(), root.clone(), Arc::new(token)).unwrap();
        let verify = |bundle: &Bundle| verify_with_certificate(&root, bundle, Artifact::Content(&content)).ok();
        for bundle in [signer.sign(&Statement::signature(digest)).await, signer.sign_message(&content).await] {
            let bundle = bundle.unwrap();
            every_member(&bundle, &verify);
            spread_bytes(&bundle, 11, &verify);
            assert!(matches!(
                verify(&Bundle::parse(bundle.bytes()).unwrap()).unwrap().signer(),
                SignedBy::Certificate(_)
            ));
        }
        let key = Arc::new(LocalKey::generate(KeyKind::EcdsaP256).unwrap());
        let logged = KeyedSigner::new(key.clone()).with_services(services, root.clone());
        let bundle = logged.sign(&Statement::signature(digest)).await.unwrap();
        let verify =
            |bundle: &Bundle| verify_with_key(&root, key.public_key(), bundle, Artifact::Content(&content)).ok();
        every_member(&bundle, &verify);
        spread_bytes(&bundle, 11, &verify);
    }
}
