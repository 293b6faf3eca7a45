//! Rules in Rego: what they see, and every way in which they do not allow.

use std::time::Duration;

use blob_policy::opa::{OpaError, OpaPolicy};
use blob_policy::sigstore::{KeyRing, Thresholds, Trust, TrustRoot};
use serde_json::json;

use crate::support::{Shelf, Signer, rejected};

fn trust(key: &Signer) -> Trust {
    Trust::UnloggedKeys(KeyRing::new(vec![key.trusted()]).unwrap().into())
}

fn policy(key: &Signer, rules: &str) -> Result<OpaPolicy, OpaError> {
    OpaPolicy::new(trust(key), vec![], &[("test.rego", &format!("package blob.policy\n{rules}"))])
}

#[tokio::test]
async fn only_an_explicit_allow_and_no_deny_admit() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    for (rules, expect) in [
        ("allow := true", Ok(())),
        ("allow if input.manifest.size > 0", Ok(())),
        ("allow := true\ndeny := false", Ok(())),
        ("allow := true\ndeny contains \"x\" if false", Ok(())),
        ("allow := true\nwarn contains \"careful\"", Ok(())),
        ("default allow := false", Err("do not allow")),
        ("allow if false", Err("do not allow")),
        ("allow := \"true\"", Err("do not allow")),
        ("allow := 1", Err("do not allow")),
        ("allowed := true", Err("do not allow")),
        ("deny contains \"x\" if false", Err("do not allow")),
        ("allow := true\ndeny contains \"too old\"", Err("too old")),
        ("allow := true\ndeny := true", Err("true")),
        ("allow := true\ndeny := \"no\"", Err("no")),
        ("allow := true\ndeny := {\"a\": 1}", Err("a")),
        ("allow := true\ndeny := [1]", Err("1")),
        ("allow := true\ndeny := null", Err("null")),
        ("allow if to_number(\"abc\") > 0", Err("the rules failed")),
        ("allow := http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:1\"})", Err("the rules failed")),
        ("allow := opa.runtime()", Err("the rules failed")),
        ("allow := time.now_ns() > 0", Err("the rules failed")),
        ("a if b\nb if a\nallow if a", Err("the rules failed")),
    ] {
        let outcome = shelf.judge(&policy(&key, rules).unwrap_or_else(|e| panic!("{rules}: {e:?}"))).await;
        match expect {
            Ok(()) => drop(outcome.unwrap_or_else(|e| panic!("{rules}: {e}"))),
            Err(reason) => assert!(rejected(outcome).contains(reason), "{rules}"),
        }
    }
    let report = shelf.judge(&policy(&key, "allow := true\nwarn contains \"careful\"").unwrap()).await.unwrap();
    assert!(report.checks[1].finding.contains("careful"), "{report:?}");
}

#[tokio::test]
async fn rules_see_verified_claims_and_no_others() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let rules = "allow if { some a in input.attestations; a.predicate.good; a.signature.key == data.key }";
    let policy = policy(&key, rules).unwrap().data(&json!({"key": key.public().id()}).to_string()).unwrap();
    let digest = shelf.descriptor.digest;
    let good = json!({"good": true});
    rejected(shelf.judge(&policy).await);
    shelf.sign(Signer::p256().statement(&digest, "p", &good)).await;
    shelf.sign(key.statement(&blob_core::Digest::sha256_of(b"other"), "p", &good)).await;
    shelf.sign(key.statement(&digest, "p", &json!({"good": false}))).await;
    let reasons = rejected(shelf.judge(&policy).await);
    assert!(reasons.contains("does not verify") && reasons.contains("the statement is about"), "{reasons}");
    shelf.sign(key.statement(&digest, "p", &good)).await;
    shelf.judge(&policy).await.unwrap();
}

#[tokio::test]
async fn rules_that_do_not_end_are_stopped() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let rules = "allow if { some i in numbers.range(1, 3000); some j in numbers.range(1, 3000); i * j == -1 }";
    let policy = policy(&key, rules).unwrap().time_limit(Duration::from_millis(50));
    assert!(rejected(shelf.judge(&policy).await).contains("the rules failed"));
}

#[test]
fn modules_that_cannot_be_used_are_errors() {
    let key = Signer::p256();
    assert!(matches!(policy(&key, "allow {"), Err(OpaError::Module { .. })));
    let deep = format!("allow := {}1{}", "[".repeat(11), "]".repeat(11));
    assert!(matches!(policy(&key, &deep), Err(OpaError::Nesting { .. })));
    assert!(matches!(policy(&key, &" ".repeat(1 << 20)), Err(OpaError::TooLarge { .. })));
    let other = [("test.rego", "package blob.verify\nallow := true")];
    assert!(matches!(OpaPolicy::new(trust(&key), vec![], &other), Err(OpaError::NoPackage)));
    assert!(matches!(OpaPolicy::new(trust(&key), vec![], &[]), Err(OpaError::NoPackage)));
    let root = || TrustRoot::production().unwrap();
    for anybody in [Trust::Certificates(root()), Trust::CertificatesAt(root(), Thresholds::private())] {
        assert!(matches!(OpaPolicy::new(anybody, vec![], &other), Err(OpaError::NoSigner)));
    }
    assert!(matches!(policy(&key, "allow := true").unwrap().data("[]"), Err(OpaError::Data(_))));
}

/// What rules decide cannot come from a document, which others often make.
#[tokio::test]
async fn data_is_never_what_rules_decide() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    for (rules, data) in [
        ("allow if false", json!({"blob": {"policy": {"allow": true}}})),
        ("allow := true\ndeny contains \"no\" if true", json!({"blob": {"policy": {"deny": []}}})),
        ("allow if false", json!({"blob": {"policy": {"other": 1}}})),
        ("allow if false", json!({"blob": 1})),
    ] {
        let refused = policy(&key, rules).unwrap().data(&data.to_string()).map(drop);
        assert!(matches!(refused, Err(OpaError::Data(_))), "{data}");
    }
    let library = "package lib.lists\nallowed contains \"x\"";
    let modules = [
        ("p.rego", "package blob.policy\nimport data.lib.lists\nallow if lists.allowed[data.want]"),
        ("l.rego", library),
    ];
    let with = |data: serde_json::Value| OpaPolicy::new(trust(&key), vec![], &modules).unwrap().data(&data.to_string());
    assert!(with(json!({"lib": {"lists": {"allowed": ["y"]}}})).is_err());
    assert!(with(json!(["x"])).is_err());
    let other = with(json!({"lib": {"names": 1}, "blob": {"commits": []}, "want": "x"})).unwrap();
    shelf.judge(&other).await.unwrap();
}

/// The order in which a registry lists evidence decides nothing.
#[tokio::test]
async fn claims_stand_in_an_order_of_their_own() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    for at in 0..6 {
        shelf.sign(key.statement(&shelf.descriptor.digest, "p", &json!({"at": at}))).await;
    }
    let sorted = "allow if { every i in numbers.range(0, 4) { input.signatures[i].bundle < input.signatures[i + 1].bundle; input.attestations[i].signature.bundle < input.attestations[i + 1].signature.bundle } }";
    shelf.judge(&policy(&key, sorted).unwrap()).await.unwrap();
}
