//! Private keys in every form that tools write, and those that must be refused with a reason.

use std::path::{Path, PathBuf};

use blob_policy::sign::{KeyError, KeyKind, KeySigner as _, LocalKey, MAX_KEY_FILE_BYTES};
use blob_policy::sigstore::PublicKey;

const PASSWORD: &[u8] = b"hunter2";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/private").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

#[test]
fn every_form_of_a_key_is_read() {
    for (file, password, kind, public) in [
        ("p256.pem", None, KeyKind::EcdsaP256, "p256.pub"),
        ("sec1.pem", None, KeyKind::EcdsaP256, "p256.pub"),
        ("sec1-params.pem", None, KeyKind::EcdsaP256, "p256.pub"),
        ("p256.pbkdf2.pem", Some(PASSWORD), KeyKind::EcdsaP256, "p256.pub"),
        ("p256.scrypt.pem", Some(PASSWORD), KeyKind::EcdsaP256, "p256.pub"),
        ("cosign.key", Some(PASSWORD), KeyKind::EcdsaP256, "p256.pub"),
        ("cosign-old.key", Some(b""), KeyKind::EcdsaP256, "p256.pub"),
        ("sec1-p384.pem", None, KeyKind::EcdsaP384, "p384.pub"),
        ("ed25519.pem", None, KeyKind::Ed25519, "ed25519.pub"),
        ("ed25519.pbkdf2.pem", Some(PASSWORD), KeyKind::Ed25519, "ed25519.pub"),
        ("rsa2048.pem", None, KeyKind::Rsa, "rsa2048.pub"),
        ("rsa2048.pkcs1.pem", None, KeyKind::Rsa, "rsa2048.pub"),
        // A password that is not needed does no harm.
        ("p256.pem", Some(PASSWORD), KeyKind::EcdsaP256, "p256.pub"),
    ] {
        let key = LocalKey::from_file(&path(file), password).unwrap_or_else(|error| panic!("{file}: {error:?}"));
        assert_eq!(key.kind(), kind, "{file}");
        assert_eq!(key.public_key(), &PublicKey::from_pem(&text(public)).unwrap(), "{file}");
        assert_eq!(key.public_key().to_pem().trim(), text(public).trim(), "{file}");
    }
}

#[test]
fn lines_may_end_as_on_windows_and_text_may_stand_around() {
    let around = format!("Bag Attributes\n    friendlyName: k\n\n{}\nthe end\n", text("p256.pem"));
    for text in [around, text("sec1-params.pem").replace('\n', "\r\n")] {
        assert_eq!(LocalKey::from_pem(&text, None).unwrap().kind(), KeyKind::EcdsaP256);
    }
}

#[test]
fn what_could_never_be_verified_is_refused_by_name() {
    for (file, expect) in [
        ("p521.pem", "an ECDSA P-521 key"),
        ("sec1-p521.pem", "an ECDSA P-521 key"),
        ("k256.pem", "an ECDSA secp256k1 key"),
        ("x25519.pem", "an X25519 key"),
        ("rsa1024.pem", "an RSA key of less than 2048 bits"),
        ("sec1.legacy.pem", "a key encrypted in the old way of OpenSSL"),
    ] {
        match LocalKey::from_pem(&text(file), Some(PASSWORD)) {
            Err(KeyError::Unsupported { kind, hint }) => assert!(kind == expect && !hint.is_empty(), "{file}: {kind}"),
            other => panic!("{file}: {other:?}"),
        }
    }
}

#[test]
fn passwords_are_asked_for_and_checked() {
    for file in ["p256.pbkdf2.pem", "p256.scrypt.pem", "cosign.key", "cosign-old.key", "ed25519.pbkdf2.pem"] {
        assert!(matches!(LocalKey::from_pem(&text(file), None), Err(KeyError::PasswordRequired)), "{file}");
        assert!(matches!(LocalKey::from_pem(&text(file), Some(b"wrong")), Err(KeyError::WrongPassword)), "{file}");
    }
}

#[test]
fn junk_is_refused_with_what_was_found() {
    let cut = text("p256.pem").replace("MIG", "");
    assert!(matches!(LocalKey::from_pem(&cut, None), Err(KeyError::Malformed { label, .. }) if label == "PRIVATE KEY"));
    let relabelled = text("p256.pem").replace("PRIVATE", "RSA PRIVATE");
    assert!(matches!(LocalKey::from_pem(&relabelled, None), Err(KeyError::Malformed { .. })));
    let public = LocalKey::from_pem(&text("p256.pub"), None);
    assert!(matches!(public, Err(KeyError::NotFound { found }) if found.contains("PUBLIC KEY")));
    assert!(matches!(LocalKey::from_pem("hello", None), Err(KeyError::NotFound { .. })));
    let huge = " ".repeat(MAX_KEY_FILE_BYTES as usize + 1);
    assert!(matches!(LocalKey::from_pem(&huge, None), Err(KeyError::TooLarge { .. })));
    assert!(matches!(LocalKey::from_file(Path::new("/nowhere"), None), Err(KeyError::Read { .. })));
    let other = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    assert!(matches!(LocalKey::from_pem(other, None), Err(KeyError::Unsupported { .. })));
}

/// A file says how much memory opening it takes.
#[test]
fn a_cosign_key_cannot_ask_for_all_memory() {
    use base64::Engine as _;
    for params in [r#"{"N":1073741824,"r":8,"p":1}"#, r#"{"N":65537,"r":8,"p":1}"#, r#"{"N":2,"r":1,"p":1000000}"#] {
        let json = format!(
            r#"{{"kdf":{{"name":"scrypt","params":{params},"salt":"AA=="}},"cipher":{{"name":"nacl/secretbox","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}},"ciphertext":"AA=="}}"#
        );
        let body = base64::prelude::BASE64_STANDARD.encode(json).into_bytes();
        let lines: Vec<_> = body.chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
        let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
        let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"));
        assert!(matches!(LocalKey::from_pem(&pem, Some(PASSWORD)), Err(KeyError::Malformed { .. })), "{params}");
    }
}

#[test]
fn what_is_written_can_be_read_again() {
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
        let key = LocalKey::generate(kind).unwrap();
        let text = key.to_encrypted_pem(PASSWORD).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"), "{kind}");
        let read = LocalKey::from_pem(&text, Some(PASSWORD)).unwrap();
        assert_eq!((read.kind(), read.public_key()), (kind, key.public_key()));
        assert!(matches!(LocalKey::from_pem(&text, Some(b"")), Err(KeyError::WrongPassword)));
    }
}

#[test]
fn a_key_is_not_shown() {
    let key = LocalKey::from_pem(&text("p256.pem"), None).unwrap();
    let shown = format!("{key:?}");
    assert_eq!(shown, format!("LocalKey {{ kind: EcdsaP256, id: {:?}, .. }}", key.public_key().id()));
}
