//! Bundles signed by OpenSSL, for every kind of key.

use std::fs;
use std::path::Path;

use blob_core::Digest;
use blob_policy::sigstore::{Artifact, Bundle, BundleError, PublicKey, verify_with_key_without_log};

#[test]
fn every_kind_of_key_verifies_what_openssl_signed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
    let read = |name: String| fs::read(folder.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (ours, other) = (Digest::sha256_of(b"x"), Digest::sha256_of(b"y"));
    for kind in ["p256", "p384", "ed25519", "rsa2048"] {
        let key = PublicKey::from_pem(&String::from_utf8(read(format!("{kind}.pub"))).unwrap()).unwrap();
        for form in ["statement", "message"] {
            let bundle = Bundle::parse(&read(format!("{kind}.{form}.json"))).unwrap();
            let verify = |artifact| verify_with_key_without_log(&key, &bundle, artifact);
            let verified = verify(Artifact::Content(b"x")).unwrap_or_else(|e| panic!("{kind} {form}: {}", e.reason()));
            assert_eq!(verified.statement().is_some(), form == "statement");
            assert!(!verified.is_logged() && verified.times().is_empty());
            assert!(
                verify(Artifact::Content(b"y")).is_err() && verify(Artifact::Digest(&other)).is_err(),
                "{kind} {form}"
            );
            // The digest suffices, unless what was signed is hashed otherwise.
            let by_digest = verify(Artifact::Digest(&ours));
            let suffices = form == "statement" || matches!(kind, "p256" | "rsa2048");
            assert_eq!(by_digest.is_ok(), suffices, "{kind} {form}");
        }
    }
}

#[test]
fn keys_are_not_interchangeable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
    let key = PublicKey::from_pem(&fs::read_to_string(folder.join("p384.pub")).unwrap()).unwrap();
    for kind in ["p256", "ed25519", "rsa2048"] {
        let bundle = Bundle::parse(&fs::read(folder.join(format!("{kind}.statement.json"))).unwrap()).unwrap();
        let result = verify_with_key_without_log(&key, &bundle, Artifact::Content(b"x"));
        assert!(matches!(result, Err(BundleError::NotVerified(_))), "{kind}");
    }
}
