//! Provenance, as policies see it: only from verified statements, by whom one asked for, about our manifest.

use std::sync::Arc;

use blob_core::Digest;
use blob_policy::sigstore::KeyPolicy;
use blob_policy::slsa::{PROVENANCE_V0_2, PROVENANCE_V1, Provenance};
use serde_json::{Value, json};

use crate::support::{Shelf, Signer, rejected};

const BUILDER: &str = "https://builder.example/nightly";

fn built_by(builder: &str, repository: &str) -> Value {
    json!({
        "buildDefinition": {"externalParameters": {"workflow": {"repository": repository, "ref": "refs/heads/main"}}},
        "runDetails": {"builder": {"id": builder}},
    })
}

fn policy(key: &Signer, rule: Provenance) -> KeyPolicy {
    KeyPolicy::without_transparency_log(vec![key.trusted()]).unwrap().rule(Arc::new(rule))
}

#[tokio::test]
async fn provenance_by_a_trusted_key_is_admitted() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let said = built_by(BUILDER, "https://git.example/acme/app");
    shelf.sign(key.statement(&shelf.descriptor.digest, PROVENANCE_V1, &said)).await;
    let rule = Provenance::require_source("https://git.example/acme/app").unwrap().builder(BUILDER).unwrap();
    let report = shelf.judge(&policy(&key, rule.branches(["main"]).unwrap())).await.unwrap();
    assert!(report.checks[0].finding.contains(BUILDER), "{report:?}");
}

#[tokio::test]
async fn forged_foreign_and_replayed_provenance_is_rejected() {
    let (shelf, key) = (Shelf::new(), Signer::p256());
    let digest = shelf.descriptor.digest;
    let good = built_by(BUILDER, "https://git.example/acme/app");
    let rule = Provenance::require_source("https://git.example/acme/app").unwrap().builder(BUILDER).unwrap();
    let policy = policy(&key, rule);
    // Unsigned, then by somebody else, then about another artifact: the claim is right each time.
    let signed: Value = serde_json::from_slice(&key.statement(&digest, PROVENANCE_V1, &good)).unwrap();
    let mut unsigned = signed.clone();
    unsigned["dsseEnvelope"]["signatures"] = json!([]);
    shelf.sign(unsigned.to_string().into_bytes()).await;
    let mut twice = signed.clone();
    let signature = signed["dsseEnvelope"]["signatures"][0].clone();
    twice["dsseEnvelope"]["signatures"] = json!([signature.clone(), signature]);
    shelf.sign(twice.to_string().into_bytes()).await;
    shelf.sign(Signer::p256().statement(&digest, PROVENANCE_V1, &good)).await;
    shelf.sign(key.statement(&Digest::sha256_of(b"other"), PROVENANCE_V1, &good)).await;
    // By the right key about our manifest, and of the wrong source, builder or type.
    let neighbour = built_by(BUILDER, "https://git.example/acme/app-evil");
    shelf.sign(key.statement(&digest, PROVENANCE_V1, &neighbour)).await;
    let elsewhere = built_by("https://builder.example/nightly-evil", "https://git.example/acme/app");
    shelf.sign(key.statement(&digest, PROVENANCE_V1, &elsewhere)).await;
    shelf.sign(key.statement(&digest, PROVENANCE_V0_2, &good)).await;
    shelf.sign(key.signature(&digest)).await;
    shelf.sign(key.message(&shelf.bytes)).await;
    let reasons = rejected(shelf.judge(&policy).await);
    for expect in [
        "found 0",
        "found 2",
        "does not verify",
        "the statement is about",
        "acme/app-evil",
        "nightly-evil",
        PROVENANCE_V0_2,
        "https://sigstore.dev/cosign/sign/v1",
        "a plain signature is not provenance",
    ] {
        assert!(reasons.contains(expect), "{expect}: {reasons}");
    }
    shelf.sign(key.statement(&digest, PROVENANCE_V1, &good)).await;
    shelf.judge(&policy).await.unwrap();
}
