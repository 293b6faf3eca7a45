//! Signing with certificates, logs and time-stamps of an instance in this process, and what must not come of it.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blob_core::Digest;
use blob_policy::sign::{
    AmbientToken, IdentityToken, KeyKind, KeySigner as _, KeyedSigner, KeylessSigner, LocalKey, LogVersion,
    ServiceError, ServiceKind, Services, SignError, SignedBundle, Signer, Statement, TokenError, TokenSource as _,
    Variables, attach,
};
use blob_policy::sigstore::{
    Artifact, Bundle, BundleError, GithubServer, Identity, KeyPolicy, SigstorePolicy, Thresholds, TrustRoot,
    TrustedKey, verify_with_certificate, verify_with_certificate_at, verify_with_key, verify_with_key_at,
};
use blob_policy::slsa::{PROVENANCE_V1, Provenance};
use blob_testkit::sigstore::{Fault, Instance, Person};
use bytes::Bytes;
use serde_json::Value;

use crate::support::{Shelf, rejected};

const VERSIONS: [LogVersion; 2] = [LogVersion::V1, LogVersion::V2];
const ISSUER: &str = "https://issuer.test";

fn instance() -> Instance {
    Instance::start().unwrap()
}

fn root(instance: &Instance) -> TrustRoot {
    TrustRoot::from_json(instance.trusted_root().as_bytes()).unwrap()
}

fn services(instance: &Instance, version: LogVersion) -> Services {
    let config = instance.signing_config(version == LogVersion::V2);
    Services::from_signing_config(config.as_bytes(), Some(version)).unwrap().attempts(1)
}

fn keyless(instance: &Instance, version: LogVersion, person: &Person) -> KeylessSigner {
    let token = IdentityToken::new(&person.token()).unwrap();
    KeylessSigner::new(services(instance, version), root(instance), Arc::new(token)).unwrap()
}

fn ann() -> Person {
    Person::email(ISSUER, "ann@example.com")
}

async fn attached(shelf: &Shelf, bundle: &SignedBundle) {
    attach(shelf.registry.as_ref(), &shelf.repository, &shelf.descriptor, bundle).await.unwrap();
}

fn key(kind: KeyKind) -> Arc<LocalKey> {
    let rsa = include_str!("../fixtures/private/rsa2048.pem");
    Arc::new(if kind == KeyKind::Rsa { LocalKey::from_pem(rsa, None) } else { LocalKey::generate(kind) }.unwrap())
}

#[tokio::test]
async fn an_identity_signs_and_is_admitted_with_logs_of_both_versions() {
    let instance = instance();
    let policy =
        |email: &str| SigstorePolicy::new(root(&instance), vec![Identity::email(email, ISSUER).unwrap()]).unwrap();
    for version in VERSIONS {
        let signer = keyless(&instance, version, &ann());
        let about = Shelf::new();
        let statement = signer.sign(&Statement::signature(about.descriptor.digest)).await.unwrap();
        let message = signer.sign_message(&about.bytes).await.unwrap();
        for bundle in [statement, message] {
            let shelf = Shelf::new();
            attached(&shelf, &bundle).await;
            let report = shelf.judge(&policy("ann@example.com")).await.unwrap();
            assert!(report.checks[0].finding.contains("ann@example.com"), "{report:?}");
            assert!(rejected(shelf.judge(&policy("bob@example.com")).await).contains("ann@example.com"));
        }
    }
}

#[tokio::test]
async fn keys_of_every_kind_are_certified_and_logged() {
    let instance = instance();
    let about = Shelf::new();
    let statement = Statement::signature(about.descriptor.digest);
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519, KeyKind::Rsa] {
        let key = key(kind);
        let services = services(&instance, LogVersion::V1);
        let logged = KeyedSigner::new(key.clone()).with_services(services, root(&instance));
        let bundle = logged.sign(&statement).await.unwrap();
        let shelf = Shelf::new();
        attached(&shelf, &bundle).await;
        let trusted = vec![TrustedKey::new(key.public_key().clone())];
        shelf.judge(&KeyPolicy::logged(root(&instance), trusted.clone()).unwrap()).await.unwrap();
        // The log says when: before the key counted, it does not.
        let later = trusted[0].clone().not_before("2100-01-01T00:00:00Z".parse().unwrap());
        rejected(shelf.judge(&KeyPolicy::logged(root(&instance), vec![later]).unwrap()).await);
        let certified = keyless(&instance, LogVersion::V1, &ann()).key(key);
        let bundle = Bundle::parse(certified.sign(&statement).await.unwrap().bytes()).unwrap();
        let verified = verify_with_certificate(&root(&instance), &bundle, Artifact::Content(&about.bytes)).unwrap();
        assert!(verified.is_logged() && !verified.times().is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn a_key_signature_in_a_log_of_version_2_has_a_stamp() {
    let (instance, about, key) = (instance(), Shelf::new(), key(KeyKind::EcdsaP256));
    let signer = KeyedSigner::new(key.clone()).with_services(services(&instance, LogVersion::V2), root(&instance));
    for bundle in [
        signer.sign(&Statement::signature(about.descriptor.digest)).await.unwrap(),
        signer.sign_message(&about.bytes).await.unwrap(),
    ] {
        let bundle = Bundle::parse(bundle.bytes()).unwrap();
        let artifact = Artifact::Content(&about.bytes);
        let verified = verify_with_key(&root(&instance), key.public_key(), &bundle, artifact).unwrap();
        assert!(verified.is_logged() && verified.times().len() == 1);
    }
}

/// Ed25519 signs alike each time, so the log has the entry already.
#[tokio::test]
async fn signing_again_finds_the_entry_that_is_there() {
    let (instance, key) = (instance(), key(KeyKind::Ed25519));
    let signer = KeyedSigner::new(key).with_services(services(&instance, LogVersion::V1), root(&instance));
    let statement = Statement::signature(Digest::sha256_of(b"x"));
    let entry = |bundle: &SignedBundle| {
        let bundle: Value = serde_json::from_slice(bundle.bytes()).unwrap();
        bundle["verificationMaterial"]["tlogEntries"][0]["logIndex"].clone()
    };
    let (first, second) = (signer.sign(&statement).await.unwrap(), signer.sign(&statement).await.unwrap());
    assert_eq!(entry(&first), entry(&second));
    assert!(instance.requests().iter().any(|asked| asked.starts_with("GET /api/v1/log/entries/")));
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_before_anything_is_sent() {
    let instance = instance();
    let statement = Statement::signature(Digest::sha256_of(b"x"));
    let v2 = |kind| KeyedSigner::new(key(kind)).with_services(services(&instance, LogVersion::V2), root(&instance));
    for kind in [KeyKind::EcdsaP384, KeyKind::Ed25519, KeyKind::Rsa] {
        assert!(matches!(v2(kind).sign(&statement).await, Err(SignError::Options(_))), "{kind}");
    }
    let v1 = services(&instance, LogVersion::V1);
    let message = KeyedSigner::new(key(KeyKind::Ed25519)).with_services(v1, root(&instance));
    assert!(matches!(message.sign_message(&Bytes::from_static(b"x")).await, Err(SignError::Options(_))));
    let no_time = Services::new().log(&instance.rekor2_url(), LogVersion::V2).unwrap();
    let no_time = KeyedSigner::new(key(KeyKind::EcdsaP256)).with_services(no_time, root(&instance));
    assert!(matches!(no_time.sign(&statement).await, Err(SignError::Options(_))));
    let token = || Arc::new(IdentityToken::new(&ann().token()).unwrap());
    let nobody = KeylessSigner::new(Services::new(), root(&instance), token());
    assert!(matches!(nobody, Err(SignError::Options(_))));
    let timeless = Services::new().certificate_authority(&instance.fulcio_url()).unwrap();
    assert!(matches!(KeylessSigner::new(timeless, root(&instance), token()), Err(SignError::Options(_))));
    assert!(instance.requests().is_empty());
}

/// Every way in which a service can lie ends in an error, and in no bundle.
#[tokio::test]
async fn lies_of_services_are_found_before_a_bundle_is_handed_out() {
    let statement = Statement::signature(Digest::sha256_of(b"x"));
    for version in VERSIONS {
        let instance = instance();
        let signer = keyless(&instance, version, &ann());
        signer.sign(&statement).await.unwrap();
        for fault in [
            Fault::ExpiredCertificate,
            Fault::ForeignAuthority,
            Fault::NoTransparency,
            Fault::ForeignTransparencyLog,
            Fault::ForeignKey,
            Fault::ForeignLog,
            Fault::BadProof,
            Fault::BadRoot,
            Fault::BadCheckpoint,
            Fault::BadPromise,
            Fault::Replay,
            Fault::ForeignStamp,
            Fault::StaleStamp,
            Fault::OtherImprint,
        ] {
            instance.set(Some(fault));
            let signed = signer.sign(&statement).await;
            // Version 2 has no promise that could be bad.
            if fault == Fault::BadPromise && version == LogVersion::V2 {
                signed.unwrap();
            } else {
                assert!(matches!(signed, Err(SignError::SelfCheck(_))), "{version:?} {fault:?}: {signed:?}");
            }
        }
        instance.set(None);
        signer.sign(&statement).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_not_admitted() {
    let (instance, shelf) = (instance(), Shelf::new());
    instance.set(Some(Fault::ForeignIdentity));
    let signed = keyless(&instance, LogVersion::V1, &ann()).sign(&Statement::signature(shelf.descriptor.digest)).await;
    let refused = signed.unwrap_err();
    assert!(matches!(&refused, SignError::Holder { .. }), "{refused:?}");
    assert!(refused.to_string().contains("ann@example.com") && refused.to_string().contains("mallory@"), "{refused}");
    // By themselves they may sign, and are somebody else.
    instance.set(None);
    let signer = keyless(&instance, LogVersion::V1, &Person::email(ISSUER, "mallory@example.com"));
    attached(&shelf, &signer.sign(&Statement::signature(shelf.descriptor.digest)).await.unwrap()).await;
    let ann = Identity::email("ann@example.com", ISSUER).unwrap();
    let policy = SigstorePolicy::new(root(&instance), vec![ann]).unwrap();
    assert!(rejected(shelf.judge(&policy).await).contains("mallory@example.com"));
}

#[tokio::test]
async fn failing_services_are_named_and_end_in_time() {
    let instance = instance();
    let statement = Statement::signature(Digest::sha256_of(b"x"));
    let ask = |timeout| {
        let token = Arc::new(IdentityToken::new(&ann().token()).unwrap());
        let services = services(&instance, LogVersion::V1).timeout(timeout);
        KeylessSigner::new(services, root(&instance), token).unwrap()
    };
    let long = Duration::from_mins(1);
    for (fault, timeout, expect) in [
        (Fault::Status(503), long, "status 503: made to fail"),
        (Fault::Status(401), long, "status 401"),
        (Fault::Status(302), long, "status 302"),
        (Fault::Huge, long, "more than 1048576 bytes"),
        (Fault::Junk, long, "not understood"),
        (Fault::Hang, Duration::from_secs(1), "does not answer"),
    ] {
        instance.set(Some(fault));
        match ask(timeout).sign(&statement).await {
            Err(SignError::Service { kind: ServiceKind::CertificateAuthority, url, source }) => {
                assert!(url.starts_with(&instance.fulcio_url()) && source.to_string().contains(expect), "{source}");
            }
            other => panic!("{fault:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn busy_services_are_asked_again() {
    let instance = instance();
    instance.set(Some(Fault::Status(503)));
    let services = services(&instance, LogVersion::V1).attempts(3);
    let token = Arc::new(IdentityToken::new(&ann().token()).unwrap());
    let signer = KeylessSigner::new(services, root(&instance), token).unwrap();
    signer.sign(&Statement::signature(Digest::sha256_of(b"x"))).await.unwrap_err();
    assert_eq!(instance.requests().len(), 3);
}

/// A trust root without certificate transparency, and a bundle without a log entry: GitHub's private repositories.
#[tokio::test]
async fn thresholds_say_how_much_evidence_is_enough() {
    let (instance, about) = (instance(), Shelf::new());
    let mut private: Value = serde_json::from_str(&instance.trusted_root()).unwrap();
    private["ctlogs"] = Value::Array(Vec::new());
    let private = TrustRoot::from_json(private.to_string().as_bytes()).unwrap();
    let unlogged = Services::new().certificate_authority(&instance.fulcio_url()).unwrap();
    let unlogged = unlogged.time_stamp_authority(&instance.tsa_url()).unwrap();
    instance.set(Some(Fault::NoTransparency));
    let token = Arc::new(IdentityToken::new(&ann().token()).unwrap());
    let signer = KeylessSigner::new(unlogged, private.clone(), token).unwrap();
    let signed = signer.sign(&Statement::signature(about.descriptor.digest)).await.unwrap();
    let bundle = Bundle::parse(signed.bytes()).unwrap();
    let artifact = Artifact::Content(&about.bytes);
    let verify = |thresholds: &Thresholds| verify_with_certificate_at(&private, thresholds, &bundle, artifact);
    let verified = verify(&Thresholds::private()).unwrap();
    assert!(!verified.is_logged() && verified.times().len() == 1);
    assert!(matches!(verify(&Thresholds::default()), Err(BundleError::NoLogEntry)));
    let mut transparent = Thresholds::private();
    transparent.certificate_transparency = true;
    assert!(matches!(verify(&transparent), Err(BundleError::NotVerified(_))));
    let mut two = Thresholds::default();
    two.log_entries = 2;
    assert!(matches!(verify(&two), Err(BundleError::LogEntries { wanted: 2, got: 0 })));
    // As a policy.
    attached(&about, &signed).await;
    let ann = || vec![Identity::email("ann@example.com", ISSUER).unwrap()];
    let strict = SigstorePolicy::new(private.clone(), ann()).unwrap();
    rejected(about.judge(&strict).await);
    about.judge(&strict.evidence(Thresholds::private())).await.unwrap();
}

#[tokio::test]
async fn two_logs_are_two_entries() {
    let (instance, about) = (instance(), Shelf::new());
    let both = services(&instance, LogVersion::V2).log(&instance.rekor_url(), LogVersion::V1).unwrap();
    let token = Arc::new(IdentityToken::new(&ann().token()).unwrap());
    let signer = KeylessSigner::new(both, root(&instance), token).unwrap();
    // An entry of either version may be wrong: statements are entered in different ways, so content is signed here.
    let signed = signer.sign_message(&about.bytes).await.unwrap();
    let bundle = Bundle::parse(signed.bytes()).unwrap();
    let mut two = Thresholds::default();
    (two.log_entries, two.time_stamps) = (2, 1);
    verify_with_certificate_at(&root(&instance), &two, &bundle, Artifact::Content(&about.bytes)).unwrap();
    two.log_entries = 3;
    let three = verify_with_certificate_at(&root(&instance), &two, &bundle, Artifact::Content(&about.bytes));
    assert!(matches!(three, Err(BundleError::LogEntries { wanted: 3, got: 2 })));
}

/// One log never passes for two, whatever a bundle says the entries are of.
#[tokio::test]
async fn an_entry_that_is_repeated_under_another_name_is_not_another_log() {
    let (instance, about) = (instance(), Shelf::new());
    let artifact = Artifact::Content(&about.bytes);
    for version in VERSIONS {
        let signed = keyless(&instance, version, &ann()).sign(&Statement::signature(about.descriptor.digest)).await;
        let good: Value = serde_json::from_slice(signed.unwrap().bytes()).unwrap();
        let key = key(KeyKind::EcdsaP256);
        let signer = KeyedSigner::new(key.clone()).with_services(services(&instance, version), root(&instance));
        let signed = signer.sign(&Statement::signature(about.descriptor.digest)).await.unwrap();
        let keyed: Value = serde_json::from_slice(signed.bytes()).unwrap();
        let verify = |bundle: &Value, log_entries| {
            let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
            let mut thresholds = Thresholds::default();
            thresholds.log_entries = log_entries;
            let root = root(&instance);
            if bundle.is_key_made() {
                verify_with_key_at(&root, &thresholds, key.public_key(), &bundle, artifact)
            } else {
                verify_with_certificate_at(&root, &thresholds, &bundle, artifact)
            }
        };
        for good in [good, keyed] {
            verify(&good, 1).unwrap();
            let entry = &good["verificationMaterial"]["tlogEntries"][0];
            for other in ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", &instance_log(&instance, entry)] {
                for drop in
                    [&[][..], &["inclusionPromise"], &["inclusionProof"], &["inclusionPromise", "inclusionProof"]]
                {
                    let (mut again, mut twice) = (entry.clone(), good.clone());
                    again["logId"]["keyId"] = other.into();
                    for name in drop {
                        drop_member(&mut again, name);
                    }
                    twice["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(again);
                    for wanted in [1, 2] {
                        let refused = verify(&twice, wanted);
                        assert!(refused.is_err(), "{version:?} {other} without {drop:?}: {refused:?}");
                    }
                }
            }
            let mut same = good.clone();
            same["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(entry.clone());
            verify(&same, 1).unwrap();
            assert!(matches!(verify(&same, 2), Err(BundleError::LogEntries { wanted: 2, got: 1 })));
        }
    }
}

/// A trust root may list a log twice, by the identifiers of both versions: it is one log by its key.
#[tokio::test]
async fn a_log_with_two_identifiers_is_one_log() {
    let (instance, about) = (instance(), Shelf::new());
    let mut listed: Value = serde_json::from_str(&instance.trusted_root()).unwrap();
    let signed = keyless(&instance, LogVersion::V1, &ann()).sign(&Statement::signature(about.descriptor.digest)).await;
    let mut bundle: Value = serde_json::from_slice(signed.unwrap().bytes()).unwrap();
    let mut again = bundle["verificationMaterial"]["tlogEntries"][0].clone();
    let logs = listed["tlogs"].as_array_mut().unwrap();
    let mut twin = logs.iter().find(|log| log["logId"] == again["logId"]).unwrap().clone();
    // The hint of a checkpoint is the beginning of the identifier.
    let mut id = BASE64_STANDARD.decode(again["logId"]["keyId"].as_str().unwrap()).unwrap();
    *id.last_mut().unwrap() ^= 1;
    let other = Value::from(BASE64_STANDARD.encode(&id));
    twin["logId"]["keyId"] = other.clone();
    logs.push(twin);
    let root = TrustRoot::from_json(listed.to_string().as_bytes()).unwrap();
    again["logId"]["keyId"] = other;
    drop_member(&mut again, "inclusionPromise");
    bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(again);
    let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
    let (one, mut two) = (Thresholds::default(), Thresholds::default());
    two.log_entries = 2;
    let verify = |wanted| verify_with_certificate_at(&root, wanted, &bundle, Artifact::Content(&about.bytes));
    verify(&one).unwrap();
    assert!(matches!(verify(&two), Err(BundleError::LogEntries { wanted: 2, got: 1 })));
}

fn drop_member(value: &mut Value, name: &str) {
    value.as_object_mut().unwrap().remove(name);
}

/// The name of a log that is in the trust root, and is not that of `entry`.
fn instance_log(instance: &Instance, entry: &Value) -> String {
    let root: Value = serde_json::from_str(&instance.trusted_root()).unwrap();
    let mut names = root["tlogs"].as_array().unwrap().iter().map(|log| &log["logId"]["keyId"]);
    names.find(|name| **name != entry["logId"]["keyId"]).unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn two_authorities_are_two_stamps_and_one_is_never_two() {
    let (instance, about) = (instance(), Shelf::new());
    let sign = async |urls: &[String]| {
        let none = services(&instance, LogVersion::V1);
        // The configuration names the first authority.
        let all = urls.iter().fold(none, |services, url| services.time_stamp_authority(url).unwrap());
        let token = Arc::new(IdentityToken::new(&ann().token()).unwrap());
        let signer = KeylessSigner::new(all, root(&instance), token).unwrap();
        let signed = signer.sign(&Statement::signature(about.descriptor.digest)).await.unwrap();
        Bundle::parse(signed.bytes()).unwrap()
    };
    let asked = |time_stamps| {
        let mut thresholds = Thresholds::default();
        thresholds.time_stamps = time_stamps;
        thresholds
    };
    let (two, three) = (asked(2), asked(3));
    let artifact = Artifact::Content(&about.bytes);
    let verify = |bundle: &Bundle| verify_with_certificate_at(&root(&instance), &two, bundle, artifact);
    verify(&sign(&[instance.second_tsa_url()]).await).unwrap();
    for urls in [vec![], vec![instance.tsa_url()]] {
        let refused = verify(&sign(&urls).await);
        assert!(matches!(refused, Err(BundleError::TimeStamps { wanted: 2, got: 1 })), "{refused:?}");
    }
    // With keys it is the same.
    let key = key(KeyKind::EcdsaP256);
    let services = services(&instance, LogVersion::V1).time_stamp_authority(&instance.second_tsa_url()).unwrap();
    let signer = KeyedSigner::new(key.clone()).with_services(services, root(&instance));
    let signed = signer.sign(&Statement::signature(about.descriptor.digest)).await.unwrap();
    attached(&about, &signed).await;
    let trusted = || vec![TrustedKey::new(key.public_key().clone())];
    about.judge(&KeyPolicy::with_evidence(root(&instance), trusted(), two).unwrap()).await.unwrap();
    let refused = about.judge(&KeyPolicy::with_evidence(root(&instance), trusted(), three).unwrap()).await;
    assert!(rejected(refused).contains("time-stamps of 2 authorities, of 3"));
}

#[tokio::test]
async fn presets_know_their_certificates() {
    let instance = instance();
    let github = Person::github("acme/app", "release.yml", "refs/tags/v1.2.0");
    let gitlab = Person::gitlab("acme/app", "refs/heads/main");
    let google = Person::email("https://accounts.google.com", "ann@example.com");
    let release = || Identity::github_actions("acme/app").unwrap().workflow("release.yml").unwrap();
    let ann = ann();
    let on = |host: &str| Identity::github_actions("acme/app").unwrap().on_server(GithubServer::new(host).unwrap());
    let of = |host: &str, issuer: &str| Person::github_on(host, issuer, "acme/app", "release.yml", "refs/tags/v1.2.0");
    let own = of("git.acme.example", "https://git.acme.example/_services/token");
    let tenant = of("acme.ghe.com", "https://token.actions.acme.ghe.com");
    let lab = Person::gitlab_on("lab.acme.example", "acme/app", "refs/heads/main");
    let cases: Vec<(&Person, Identity, bool)> = vec![
        (&github, release().tags(["v*"]).unwrap().deny_self_hosted().into(), true),
        (&github, release().branches(["main"]).unwrap().into(), false),
        (&github, Identity::github_actions("acme/app-evil").unwrap().into(), false),
        (&github, Identity::github_actions("acme/ap").unwrap().into(), false),
        (&gitlab, Identity::gitlab("acme/app", &["refs/heads/*"]).unwrap(), true),
        (&gitlab, Identity::gitlab("acme/ap", &["refs/heads/*"]).unwrap(), false),
        (&gitlab, Identity::gitlab("acme/app", &["refs/tags/*"]).unwrap(), false),
        (&google, Identity::google("ann@example.com").unwrap(), true),
        (&google, Identity::google("an@example.com").unwrap(), false),
        (&ann, Identity::google("ann@example.com").unwrap(), false),
        (&own, on("git.acme.example").into(), true),
        (&own, Identity::github_actions("acme/app").unwrap().into(), false),
        (&own, on("acme.ghe.com").into(), false),
        (&github, on("git.acme.example").into(), false),
        (&tenant, on("acme.ghe.com").into(), true),
        (&tenant, on("evil.ghe.com").into(), false),
        (&lab, Identity::gitlab_at("lab.acme.example", "acme/app", &[]).unwrap(), true),
        (&lab, Identity::gitlab("acme/app", &[]).unwrap(), false),
    ];
    for (person, identity, admits) in cases {
        let shelf = Shelf::new();
        let signer = keyless(&instance, LogVersion::V1, person);
        attached(&shelf, &signer.sign(&Statement::signature(shelf.descriptor.digest)).await.unwrap()).await;
        let shown = format!("{person:?} {identity:?}");
        let judged = shelf.judge(&SigstorePolicy::new(root(&instance), vec![identity]).unwrap()).await;
        assert_eq!(judged.is_ok(), admits, "{shown}: {judged:?}");
    }
}

/// Provenance of an enterprise's own server, by certificates that name it.
#[tokio::test]
async fn provenance_of_another_github_server_is_judged_by_that_server() {
    let (instance, host) = (instance(), "git.acme.example");
    let issuer = "https://git.acme.example/_services/token";
    let workflow = format!("https://{host}/acme/app/.github/workflows/release.yml@refs/heads/main");
    let built = |builder: &str| {
        serde_json::json!({
            "buildDefinition": {"externalParameters": {"workflow": {
                "repository": format!("https://{host}/acme/app"), "ref": "refs/heads/main",
                "path": ".github/workflows/release.yml",
            }}},
            "runDetails": {"builder": {"id": builder}},
        })
    };
    let server = || GithubServer::new(host).unwrap();
    let rule = || Provenance::github_actions_workflow_on(server(), "acme/app").unwrap();
    let hosted = "https://git.acme.example/actions/runner/github-hosted";
    for (issuer, builder, wanted, admits) in [
        (issuer, workflow.as_str(), rule(), true),
        (issuer, &workflow, rule().builder(&workflow).unwrap().branches(["main"]).unwrap(), true),
        (issuer, hosted, rule().builder(hosted).unwrap(), true),
        (issuer, &workflow, rule().tags(["v*"]).unwrap(), false),
        (issuer, &workflow, Provenance::github_actions_workflow("acme/app").unwrap(), false),
        ("https://other.example/_services/token", &workflow, rule(), false),
        (
            issuer,
            "https://git.acme.example/acme/app/actions/runs/1",
            rule().builder("https://git.acme.example/acme/app/actions/runs/1").unwrap(),
            false,
        ),
        (issuer, "https://git.acme.example/actions/runner/self-hosted", rule(), false),
        (issuer, "https://git.acme.example/evil/app/.github/workflows/release.yml@refs/heads/main", rule(), false),
        (issuer, "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main", rule(), false),
    ] {
        let shelf = Shelf::new();
        let person = Person::github_on(host, issuer, "acme/app", "release.yml", "refs/heads/main");
        let said = Statement::attestation(shelf.descriptor.digest, PROVENANCE_V1, built(builder)).unwrap();
        attached(&shelf, &keyless(&instance, LogVersion::V1, &person).sign(&said).await.unwrap()).await;
        let own = GithubServer::new(host).unwrap().issued_by(issuer).unwrap();
        let signer = Identity::github_actions("acme/app").unwrap().on_server(own);
        let policy = SigstorePolicy::new(root(&instance), vec![signer.into()]).unwrap().rule(Arc::new(wanted));
        let judged = shelf.judge(&policy).await;
        assert_eq!(judged.is_ok(), admits, "{issuer} {builder}: {judged:?}");
    }
}

#[tokio::test]
async fn evidence_of_another_signature_is_no_evidence() {
    let (instance, about) = (instance(), Shelf::new());
    let signer = keyless(&instance, LogVersion::V1, &ann());
    let mallory = keyless(&instance, LogVersion::V1, &Person::email(ISSUER, "mallory@example.com"));
    let statement = Statement::signature(about.descriptor.digest);
    let parse = |bundle: &SignedBundle| serde_json::from_slice::<Value>(bundle.bytes()).unwrap();
    let (ours, theirs) = (signer.sign(&statement).await.unwrap(), mallory.sign(&statement).await.unwrap());
    let other = signer.sign(&Statement::signature(Digest::sha256_of(b"other"))).await.unwrap();
    for (name, pointer) in [
        ("entries", "/verificationMaterial/tlogEntries"),
        ("stamps", "/verificationMaterial/timestampVerificationData"),
        ("certificate", "/verificationMaterial/certificate"),
        ("envelope", "/dsseEnvelope"),
        ("signature", "/dsseEnvelope/signatures"),
        ("body", "/verificationMaterial/tlogEntries/0/canonicalizedBody"),
        ("proof", "/verificationMaterial/tlogEntries/0/inclusionProof"),
        ("promise", "/verificationMaterial/tlogEntries/0/inclusionPromise"),
    ] {
        for donor in [&theirs, &other] {
            let mut mixed = parse(&ours);
            *mixed.pointer_mut(pointer).unwrap() = parse(donor).pointer(pointer).unwrap().clone();
            let bundle = Bundle::parse(mixed.to_string().as_bytes()).unwrap();
            let verified = verify_with_certificate(&root(&instance), &bundle, Artifact::Content(&about.bytes));
            assert!(verified.is_err(), "{name} of another bundle was taken");
        }
    }
}

#[tokio::test]
async fn tokens_come_from_where_jobs_get_them() {
    let instance = instance();
    let token = ann().token();
    let programs = tempfile::tempdir().unwrap();
    for name in ["buildkite-agent", "circleci"] {
        let path = programs.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho \"$@\" > \"$0.asked\"\necho '{token}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let url = format!("http://{}/token?api-version=2", instance.addr());
    let path = programs.path().to_str().unwrap();
    let source = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let find = move |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.into());
        let variables: Variables = Arc::new(find);
        AmbientToken::with_variables(variables, &Services::new().attempts(1))
    };
    for (pairs, expect) in [
        (vec![("SIGSTORE_ID_TOKEN", token.as_str())], "ann@example.com"),
        (vec![("GITLAB_CI", "true"), ("SIGSTORE_ID_TOKEN", &token)], "ann@example.com"),
        (vec![("BUILDKITE", "true"), ("PATH", path)], "ann@example.com"),
        (vec![("CIRCLECI", "true"), ("PATH", path)], "ann@example.com"),
        (
            vec![
                ("GITHUB_ACTIONS", "true"),
                ("ACTIONS_ID_TOKEN_REQUEST_URL", &url),
                ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token"),
            ],
            "repo:acme/app:ref:refs/heads/main",
        ),
    ] {
        assert_eq!(source(&pairs).token().await.unwrap().identity(), expect, "{pairs:?}");
    }
    let asked = |name: &str| std::fs::read_to_string(programs.path().join(format!("{name}.asked"))).unwrap();
    assert_eq!(asked("buildkite-agent").trim(), "oidc request-token --audience sigstore");
    assert!(asked("circleci").contains(r#"{"aud":"sigstore"}"#));
    let fails = |pairs: Vec<(&'static str, String)>| {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        source(&pairs)
    };
    let yes = || "true".to_owned();
    assert!(matches!(fails(vec![]).token().await, Err(TokenError::NotFound)));
    assert!(matches!(fails(vec![("GITHUB_ACTIONS", yes())]).token().await, Err(TokenError::NotAllowed { .. })));
    assert!(matches!(fails(vec![("GITLAB_CI", yes())]).token().await, Err(TokenError::NotAllowed { .. })));
    assert!(matches!(fails(vec![("BUILDKITE", yes())]).token().await, Err(TokenError::Program { .. })));
    let refused = fails(vec![
        ("GITHUB_ACTIONS", yes()),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.clone()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong".into()),
    ]);
    match refused.token().await {
        Err(TokenError::Ask { source: ServiceError::Status { status: 401, .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn tokens_that_do_not_count_are_refused_and_none_is_shown() {
    let token = ann().token();
    let shown = format!("{:?}", IdentityToken::new(&token).unwrap());
    assert!(shown.contains("ann@example.com") && !shown.contains(&token), "{shown}");
    let expired = ann().token_until(SystemTime::now() - Duration::from_secs(5));
    assert!(matches!(IdentityToken::new(&expired), Err(TokenError::Expired { .. })));
    for bad in ["", "a.b", "a.b.c", "a.e30.c", &"x".repeat(70_000)] {
        assert!(matches!(IdentityToken::new(bad), Err(TokenError::Malformed(_))), "{bad:.20}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{token}\n")).unwrap();
    assert_eq!(IdentityToken::from_file(file.path()).unwrap().issuer(), ISSUER);
}
