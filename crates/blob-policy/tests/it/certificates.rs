//! Policies over real certificate-made bundles, where the conformance cases are at hand.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use blob_policy::sigstore::{
    Identity, KeyPolicy, NamedIdentity, Pattern, PolicySetupError, SigstorePolicy, TrustRoot, TrustedKey,
};
use blob_policy::{RequireAll, RequireAny};

use crate::conformance::{IDENTITY, ISSUER, fixtures};
use crate::support::{Shelf, Signer, rejected};

/// The content that the public cases are about, as if it were a manifest, with the bundle of one case attached.
async fn shelf(all: &std::path::Path, case: &str) -> Shelf {
    let folder: PathBuf = all.join("bundle-verify");
    let shelf = Shelf::of(fs::read(folder.join("a.txt")).unwrap().into());
    shelf.sign(fs::read(folder.join(case).join("bundle.sigstore.json")).unwrap()).await;
    shelf
}

fn policy(identity: impl Into<Identity>) -> SigstorePolicy {
    SigstorePolicy::new(TrustRoot::production().unwrap(), vec![identity.into()]).unwrap()
}

const REPOSITORY: &str = "sigstore-conformance/extremely-dangerous-public-oidc-beacon";

#[tokio::test]
async fn the_signer_decides() {
    let Some(all) = fixtures() else { return };
    let shelf = shelf(&all, "happy-path-v0.3").await;
    let report = shelf.judge(&policy(Identity::exact(IDENTITY, ISSUER))).await.unwrap();
    assert!(report.checks[0].finding.contains(IDENTITY), "{report:?}");
    let issuer = || Pattern::exact(ISSUER);
    for (identity, expect) in [
        (Identity::exact(IDENTITY, "https://accounts.google.com"), false),
        (Identity::exact(&IDENTITY[..IDENTITY.len() - 1], ISSUER), false),
        (
            NamedIdentity::new(Pattern::glob("https://github.com/sigstore-conformance/**").unwrap(), issuer()).into(),
            true,
        ),
        (
            NamedIdentity::new(Pattern::glob("https://github.com/sigstore-conformance/*").unwrap(), issuer()).into(),
            false,
        ),
        (NamedIdentity::new(Pattern::regex(".*@refs/heads/main").unwrap(), issuer()).into(), true),
        (NamedIdentity::new(Pattern::regex("https://github\\.com/sigstore").unwrap(), issuer()).into(), false),
        (Identity::github_actions(REPOSITORY).unwrap().into(), true),
        (Identity::github_actions(REPOSITORY).unwrap().branches(["main"]).unwrap().into(), true),
        (Identity::github_actions(REPOSITORY).unwrap().tags(["**"]).unwrap().into(), false),
        (Identity::github_actions(&REPOSITORY[..REPOSITORY.len() - 1]).unwrap().into(), false),
        (Identity::github_actions(&format!("{REPOSITORY}-evil")).unwrap().into(), false),
    ] {
        let described = format!("{identity:?}");
        assert_eq!(shelf.judge(&policy(identity)).await.is_ok(), expect, "{described}");
    }
}

#[tokio::test]
async fn forged_bundles_are_rejected_whoever_is_asked_for() {
    let Some(all) = fixtures() else { return };
    let folder = all.join("bundle-verify");
    let mut judged = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let case = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !case.ends_with("_fail") {
            continue;
        }
        let own = TrustRoot::from_file(&folder.join(&case).join("trusted_root.json"));
        let root = own.unwrap_or_else(|_| TrustRoot::production().unwrap());
        let anybody = NamedIdentity::new(Pattern::glob("**").unwrap(), Pattern::glob("**").unwrap());
        let policy = SigstorePolicy::new(root, vec![anybody.into()]).unwrap();
        let reasons = rejected(shelf(&all, &case).await.judge(&policy).await);
        assert!(reasons.starts_with("sha256:"), "{case}: {reasons}");
        judged += 1;
    }
    assert!(judged > 20, "only {judged} cases");
}

#[tokio::test]
async fn one_signer_does_not_fill_a_threshold_of_two() {
    let Some(all) = fixtures() else { return };
    let shelf = shelf(&all, "happy-path-v0.3").await;
    let both = vec![Identity::exact(IDENTITY, ISSUER), Identity::github_actions(REPOSITORY).unwrap().into()];
    let root = TrustRoot::production().unwrap();
    let policy = SigstorePolicy::new(root.clone(), both).unwrap().threshold(2).unwrap();
    assert!(rejected(shelf.judge(&policy).await).contains("1 of 2 signers"));
    assert!(matches!(SigstorePolicy::new(root, vec![]), Err(PolicySetupError::NoSigner)));
}

#[tokio::test]
async fn policies_compose_and_keep_their_reasons() {
    let Some(all) = fixtures() else { return };
    let shelf = shelf(&all, "happy-path-v0.3").await;
    let certificate = || Arc::new(policy(Identity::exact(IDENTITY, ISSUER)));
    let key = || {
        let keys: Vec<TrustedKey> = vec![Signer::p256().trusted()];
        Arc::new(KeyPolicy::without_transparency_log(keys).unwrap())
    };
    shelf.judge(&RequireAny::new(vec![key(), certificate()]).unwrap()).await.unwrap();
    let reasons = rejected(shelf.judge(&RequireAll::new(vec![certificate(), key()]).unwrap()).await);
    assert!(reasons.contains("made with a certificate"), "{reasons}");
}

#[tokio::test]
async fn a_logged_key_is_admitted_with_its_time() {
    let Some(all) = fixtures() else { return };
    let shelf = shelf(&all, "managed-key-happy-path").await;
    let pem = fs::read_to_string(all.join("bundle-verify/managed-key-happy-path/key.pub")).unwrap();
    let key = || TrustedKey::new(blob_policy::sigstore::PublicKey::from_pem(&pem).unwrap());
    for (key, expect) in [
        (key(), true),
        (key().not_before("2025-01-01T00:00:00Z".parse().unwrap()), true),
        (key().not_after("2025-01-01T00:00:00Z".parse().unwrap()), false),
        (Signer::p256().trusted(), false),
    ] {
        let policy = KeyPolicy::logged(TrustRoot::production().unwrap(), vec![key]).unwrap();
        assert_eq!(shelf.judge(&policy).await.is_ok(), expect, "{policy:?}");
    }
}

#[cfg(feature = "slsa")]
#[tokio::test]
async fn genuine_provenance_is_not_a_signature_and_must_agree_with_its_certificate() {
    use blob_policy::slsa::Provenance;

    let Some(all) = fixtures() else { return };
    let shelf = shelf(&all, "happy-path-intoto-in-dsse-v3").await;
    let anybody = || NamedIdentity::new(Pattern::glob("**").unwrap(), Pattern::exact(ISSUER));
    assert!(rejected(shelf.judge(&policy(anybody())).await).contains("is not a signature"));
    // The statement names a repository; the certificate under which it is signed is of another.
    let rule = Provenance::github_actions_workflow("loosebazooka/aa-test").unwrap();
    let outcome = shelf.judge(&policy(anybody()).rule(Arc::new(rule))).await;
    let bundle =
        fs::read_to_string(all.join("bundle-verify/happy-path-intoto-in-dsse-v3/bundle.sigstore.json")).unwrap();
    assert!(bundle.contains("dsseEnvelope"));
    assert!(rejected(outcome).contains("the certificate"));
}
