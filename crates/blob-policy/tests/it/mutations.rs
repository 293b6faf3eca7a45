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

/// Where in a text each member stands, with its name, innermost last: byte ranges and JSON pointers.
struct Map<'t> {
    text: &'t [u8],
    at: usize,
    found: Vec<(std::ops::Range<usize>, String)>,
}

impl<'t> Map<'t> {
    fn of(text: &'t [u8]) -> Self {
        let mut map = Self { text, at: 0, found: Vec::new() };
        map.value(String::new());
        assert_eq!(map.at, text.len(), "it was read whole");
        map
    }

    /// The innermost member that a byte belongs to.
    fn member(&self, at: usize) -> &str {
        let inside = self.found.iter().filter(|(range, _)| range.contains(&at));
        &inside.min_by_key(|(range, _)| range.len()).unwrap().1
    }

    fn string(&mut self) -> String {
        let start = self.at + 1;
        let length = self.text[start..].iter().position(|byte| *byte == b'"').unwrap();
        self.at = start + length + 1;
        String::from_utf8(self.text[start..start + length].to_vec()).unwrap()
    }

    fn value(&mut self, pointer: String) {
        let start = self.at;
        self.rest(&pointer);
        self.found.push((start..self.at, pointer));
    }

    fn rest(&mut self, pointer: &str) {
        match self.text[self.at] {
            open @ (b'{' | b'[') => {
                let (mut count, close) = (0, open + 2);
                self.at += 1;
                while self.text[self.at] != close {
                    let start = self.at;
                    let name = if open == b'{' { self.string() } else { count.to_string() };
                    self.at += usize::from(open == b'{');
                    count += 1;
                    let below = format!("{pointer}/{name}");
                    self.rest(&below);
                    self.found.push((start..self.at, below));
                    self.at += usize::from(self.text[self.at] == b',');
                }
                self.at += 1;
            }
            b'"' => drop(self.string()),
            _ => self.at += self.text[self.at..].iter().position(|byte| b",}]".contains(byte)).unwrap(),
        }
    }
}

/// What may be changed in a bundle without changing what it proves, and why.
const IRRELEVANT: [&str; 13] = [
    // Which key it is, is said by who verifies.
    "/verificationMaterial/publicKey/hint",
    // A hint for those who look for the content, which is hashed itself.
    "/messageSignature/messageDigest",
    "/messageSignature/messageDigest/algorithm",
    // Members of another name are unknown and mean nothing, and these are empty or not the only source of the time.
    "/verificationMaterial/timestampVerificationData",
    "/verificationMaterial/timestampVerificationData/rfc3161Timestamps",
    "/verificationMaterial/tlogEntries",
    // A token holds certificates and attributes that nothing signs.
    "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/*/signedTimestamp",
    // Proof and promise say the same, and one is enough.
    "/verificationMaterial/tlogEntries/*/inclusionPromise",
    "/verificationMaterial/tlogEntries/*/inclusionProof",
    // Copies: the entry has its own index, and size and root of the tree are those of the checkpoint that the log signed.
    "/verificationMaterial/tlogEntries/*/inclusionProof/logIndex",
    "/verificationMaterial/tlogEntries/*/inclusionProof/rootHash",
    "/verificationMaterial/tlogEntries/*/inclusionProof/treeSize",
    // Lines of witnesses whom nobody asks for.
    "/verificationMaterial/tlogEntries/*/inclusionProof/checkpoint/envelope",
];

/// Flips two bits of every byte, on two cores: refused, or said to be irrelevant.
fn every_byte(bundle: &SignedBundle, verify: &(dyn Fn(&Bundle) -> Option<VerifiedBundle> + Sync)) {
    let text = bundle.bytes();
    let good = verdict(text, verify).expect("the bundle itself verifies");
    let map = Map::of(text);
    let places: Vec<usize> = (0..text.len()).collect();
    let try_all = |places: &[usize]| {
        let mut accepted = Vec::new();
        for &at in places {
            // Every bit has its turn, and so has the change of a letter's case.
            for bit in [at % 8, 5] {
                let mut changed = text.to_vec();
                changed[at] ^= 1 << bit;
                if let Some(verified) = verdict(&changed, verify) {
                    assert!(same(&good, &verified), "byte {at} was changed, and it verifies as something else");
                    accepted.push(at);
                }
            }
        }
        accepted
    };
    let accepted: Vec<usize> = std::thread::scope(|scope| {
        let halves = places.chunks(places.len().div_ceil(2));
        let running: Vec<_> = halves.map(|half| scope.spawn(|| try_all(half))).collect();
        running.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let mut wrong: Vec<_> = accepted
        .iter()
        .map(|at| map.member(*at))
        .filter(|member| !IRRELEVANT.contains(&generic(member).as_str()))
        .collect();
    wrong.sort_unstable();
    wrong.dedup();
    assert!(wrong.is_empty(), "changes in these verify: {wrong:#?}");
    assert!(places.len() > 50 && accepted.len() * 4 < places.len() * 2, "{} of {}", accepted.len(), places.len());
}

/// A pointer with `*` for numbers.
fn generic(pointer: &str) -> String {
    let part = |part: &str| {
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() { "*" } else { part }.to_owned()
    };
    pointer.split('/').map(part).collect::<Vec<_>>().join("/")
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
        every_byte(&bundle, &verify);
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
            every_byte(&bundle, &verify);
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
        every_byte(&bundle, &verify);
    }
}
