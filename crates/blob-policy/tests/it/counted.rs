//! What counts once: a key in two forms, a workflow at two refs, a log at two addresses; and logs whose time is over.

use std::sync::Arc;

use blob_policy::Subject;
use blob_policy::sign::{
    IdentityToken, KeyKind, KeySigner as _, KeyedSigner, KeylessSigner, LocalKey, LogVersion, Services, Signer as _,
    Statement, attach,
};
use blob_policy::sigstore::{
    Artifact, Bundle, BundleError, Claims, Identity, KeyPolicy, KeyRing, PolicySetupError, PublicKey, SigstoreLimits,
    SigstorePolicy, TrustRoot, TrustedKey, verify_with_certificate, verify_with_key,
};
use blob_testkit::sigstore::{Instance, Person};
use serde_json::Value;

use crate::support::{Shelf, rejected};

fn root(instance: &Instance) -> TrustRoot {
    TrustRoot::from_json(instance.trusted_root().as_bytes()).unwrap()
}

fn keyless(instance: &Instance, version: LogVersion, person: &Person) -> KeylessSigner {
    let config = instance.signing_config(version == LogVersion::V2);
    let services = Services::from_signing_config(config.as_bytes(), Some(version)).unwrap();
    let token = IdentityToken::new(&person.token()).unwrap();
    KeylessSigner::new(services, root(instance), Arc::new(token)).unwrap()
}

/// The key with the second coordinate of its point left out.
fn compressed(der: &[u8], bytes: usize) -> Vec<u8> {
    let (header, point) = der.split_at(der.len() - 2 * bytes);
    // SEQUENCE, the algorithm, BIT STRING, no unused bits, and the form of the point.
    let algorithm = &header[2..header.len() - 4];
    let (x, y) = point.split_at(bytes);
    let bits = [&[3, (bytes + 2) as u8, 0, 2 | (y[bytes - 1] & 1)], x].concat();
    let info = [algorithm, &bits].concat();
    [&[0x30, info.len() as u8], &info[..]].concat()
}

#[test]
fn a_key_in_two_forms_is_one_key() {
    for (kind, bytes) in [(KeyKind::EcdsaP256, 32), (KeyKind::EcdsaP384, 48)] {
        // Points of either sign.
        for _ in 0..8 {
            let key = LocalKey::generate(kind).unwrap();
            let other = LocalKey::generate(kind).unwrap();
            let trusted = |der: &[u8]| TrustedKey::new(PublicKey::from_der(der).unwrap());
            let der = key.public_key().to_der();
            let short = compressed(der, bytes);
            assert!(KeyRing::new(vec![trusted(der), trusted(&short)]).is_none(), "{kind}");
            assert!(KeyRing::new(vec![trusted(&short), trusted(der)]).is_none(), "{kind}");
            assert!(KeyRing::new(vec![trusted(&short), trusted(other.public_key().to_der())]).is_some(), "{kind}");
            let twice = KeyPolicy::without_transparency_log(vec![trusted(der), trusted(&short)]);
            assert!(matches!(twice, Err(PolicySetupError::Keys)), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_workflow_at_two_refs_is_one_signer() {
    let instance = Instance::start().unwrap();
    let (shelf, workflow) = (Shelf::new(), "release.yml");
    let identities = || {
        let tags = Identity::github_actions("acme/app").unwrap().tags(["v*"]).unwrap();
        let main = Identity::github_actions("acme/app").unwrap().branches(["main"]).unwrap();
        vec![tags.into(), main.into()]
    };
    let policy = |threshold| SigstorePolicy::new(root(&instance), identities()).unwrap().threshold(threshold).unwrap();
    let sign = async |workflow: &str, git_ref: &str| {
        let signer = keyless(&instance, LogVersion::V1, &Person::github("acme/app", workflow, git_ref));
        let bundle = signer.sign(&Statement::signature(shelf.descriptor.digest)).await.unwrap();
        attach(shelf.registry.as_ref(), &shelf.repository, &shelf.descriptor, &bundle).await.unwrap();
    };
    sign(workflow, "refs/tags/v1").await;
    sign(workflow, "refs/heads/main").await;
    shelf.judge(&policy(1)).await.unwrap();
    let reasons = rejected(shelf.judge(&policy(2)).await);
    assert!(reasons.contains("1 of 2 signers signed"), "{reasons}");
    sign("audit.yml", "refs/heads/main").await;
    shelf.judge(&policy(2)).await.unwrap();
}

#[tokio::test]
async fn an_address_is_one_person_whoever_vouches_for_it() {
    let (instance, shelf) = (Instance::start().unwrap(), Shelf::new());
    let people = [("https://one.test", "ann@example.com"), ("https://two.test", "Ann@Example.com")];
    let identities = people.map(|(issuer, address)| Identity::email(address, issuer).unwrap());
    let policy =
        |threshold| SigstorePolicy::new(root(&instance), identities.to_vec()).unwrap().threshold(threshold).unwrap();
    for (issuer, address) in people {
        let signer = keyless(&instance, LogVersion::V1, &Person::email(issuer, address));
        let bundle = signer.sign(&Statement::signature(shelf.descriptor.digest)).await.unwrap();
        attach(shelf.registry.as_ref(), &shelf.repository, &shelf.descriptor, &bundle).await.unwrap();
    }
    shelf.judge(&policy(1)).await.unwrap();
    let reasons = rejected(shelf.judge(&policy(2)).await);
    assert!(reasons.contains("1 of 2 signers signed"), "{reasons}");
}

/// A trust root in which the time of every log was over, or had not begun, when something was signed.
fn moved(instance: &Instance, member: &str, time: &str) -> TrustRoot {
    let mut root: Value = serde_json::from_str(&instance.trusted_root()).unwrap();
    for log in root["tlogs"].as_array_mut().unwrap() {
        log["publicKey"]["validFor"][member] = time.into();
    }
    TrustRoot::from_json(root.to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_log_counts_in_its_time_alone() {
    let (instance, about) = (Instance::start().unwrap(), Shelf::new());
    let artifact = Artifact::Content(&about.bytes);
    let statement = Statement::signature(about.descriptor.digest);
    let over = moved(&instance, "end", "2021-01-01T00:00:00Z");
    let open = moved(&instance, "end", "2999-01-01T00:00:00Z");
    let person = Person::email("https://issuer.test", "ann@example.com");
    let key = Arc::new(LocalKey::generate(KeyKind::EcdsaP256).unwrap());
    for version in [LogVersion::V1, LogVersion::V2] {
        let signed = keyless(&instance, version, &person).sign(&statement).await.unwrap();
        let bundle = Bundle::parse(signed.bytes()).unwrap();
        verify_with_certificate(&open, &bundle, artifact).unwrap();
        verify_with_certificate(&over, &bundle, artifact).unwrap_err();
        let config = instance.signing_config(version == LogVersion::V2);
        let services = Services::from_signing_config(config.as_bytes(), Some(version)).unwrap();
        let signer = KeyedSigner::new(key.clone()).with_services(services, root(&instance));
        let signed = signer.sign(&statement).await.unwrap();
        let bundle = Bundle::parse(signed.bytes()).unwrap();
        verify_with_key(&open, key.public_key(), &bundle, artifact).unwrap();
        let error = verify_with_key(&over, key.public_key(), &bundle, artifact).unwrap_err();
        // Entries of version 2 have a proof alone, which the time-stamps put after the end of the log.
        let by_proof = matches!(error, BundleError::LogTime { at: 0 });
        assert!(by_proof || version == LogVersion::V1, "{version:?}: {}", error.reason());
        // A promise left out does not bring the time of a proof about.
        let mut bare: Value = serde_json::from_slice(signed.bytes()).unwrap();
        for entry in bare["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("inclusionPromise");
        }
        let bare = Bundle::parse(bare.to_string().as_bytes()).unwrap();
        let error = verify_with_key(&over, key.public_key(), &bare, artifact).unwrap_err();
        assert!(matches!(error, BundleError::LogTime { .. }), "{version:?}: {}", error.reason());
        // Nor does a promise over no time: whatever becomes of it, it does not admit.
        let mut untimed: Value = serde_json::from_slice(signed.bytes()).unwrap();
        for entry in untimed["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("integratedTime");
        }
        if let Ok(untimed) = Bundle::parse(untimed.to_string().as_bytes()) {
            verify_with_key(&over, key.public_key(), &untimed, artifact).unwrap_err();
        }
    }
}

#[tokio::test]
async fn a_log_with_two_addresses_is_no_reason_to_sign_again() {
    let (instance, shelf) = (Instance::start().unwrap(), Shelf::new());
    let key = Arc::new(LocalKey::generate(KeyKind::EcdsaP256).unwrap());
    let stamps = |services: Services| services.time_stamp_authority(&instance.tsa_url()).unwrap();
    // A log says that it has the entry, and where.
    for other in [instance.rekor_url(), instance.rekor_url().replace("127.0.0.1", "localhost")] {
        let (url, version) = (instance.rekor_url(), LogVersion::V1);
        let services = Services::new().log(&url, version).unwrap().log(&other, version).unwrap();
        let signer = KeyedSigner::new(key.clone()).with_services(stamps(services), root(&instance));
        let bundle = signer.sign(&Statement::signature(shelf.descriptor.digest)).await.unwrap();
        let shelf = Shelf::new();
        attach(shelf.registry.as_ref(), &shelf.repository, &shelf.descriptor, &bundle).await.unwrap();
        let wanted = signer.equivalence().await.unwrap().unwrap();
        let evidence = shelf.evidence();
        let subject = Subject::new(&shelf.descriptor, &shelf.bytes, &evidence).unwrap();
        let claims = Claims::collect(&subject, wanted.trust(), &SigstoreLimits::default()).await.unwrap();
        assert!(claims.verified.iter().any(|claim| wanted.is_same_signer(claim)), "{other}: {:?}", claims.refused);
    }
}
