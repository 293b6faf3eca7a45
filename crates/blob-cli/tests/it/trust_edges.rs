//! What could weaken a verdict without anybody noticing: names, variables, files that are for something else.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Place, eventually, signal, stderr, stdout};

fn keys(place: &Place, name: &str) {
    place.assert(place.command(&format!("generate-key-pair {name}")).env("BLOB_KEY_PASSWORD", "secret")).success();
}

fn run(place: &Place, line: &str) -> snapbox::cmd::OutputAssert {
    place.assert(place.command(line).env("BLOB_KEY_PASSWORD", "secret"))
}

fn place() -> Place {
    let place = Place::laid_out();
    keys(&place, "k");
    place
}

/// A file in the working directory is not what has a digest that it is named like.
#[test]
fn a_file_that_is_named_like_a_digest_is_not_that_content() {
    let place = place();
    run(&place, "sign --message --key k.key --output-bundle b.json --no-upload oci:layout:v1").success();
    let index: Value = serde_json::from_slice(&fs::read(place.path("layout/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let content = fs::read(place.path(format!("layout/blobs/{}", digest.replace(':', "/")))).unwrap();
    let other = format!("sha256:{}", "0".repeat(64));
    fs::write(place.path(&other), &content).unwrap();
    let verify = |artifact: &str| run(&place, &format!("verify-bundle --bundle b.json --key k.pub {artifact}"));
    // Both are refused for having no log entry; only the digest is refused without a look at the file.
    let said = stderr(&verify(&other).code(6));
    fs::remove_file(place.path(&other)).unwrap();
    assert_eq!(stderr(&verify(&other).code(6)), said, "the file changes nothing");
    let algorithm = format!("sha512:{}", "0".repeat(128));
    fs::write(place.path(&algorithm), &content).unwrap();
    assert!(stderr(&verify(&algorithm).code(2)).contains("expected sha256"));
}

#[test]
fn policies_are_tried_out_as_they_are_used() {
    let place = place();
    run(&place, "sign --key k.key --no-upload --output-bundle b.json oci:layout:v1").success();
    let index: Value = serde_json::from_slice(&fs::read(place.path("layout/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    fs::copy(place.path(format!("layout/blobs/{digest}")), place.path("manifest.json")).unwrap();
    let signed = "{signature: {key: {path: k.pub, transparency_log: none}}}";
    fs::write(place.path("all.yaml"), format!("{signed}\n")).unwrap();
    fs::write(place.path("some.yaml"), format!("policies: [{{match: ^ghcr.io/, policy: {signed}}}]\n")).unwrap();
    let test = |flags: &str| run(&place, &format!("policy test {flags} --bundle b.json manifest.json"));
    test("--policy all.yaml").success();
    test("--policy all.yaml --policy some.yaml --reference ghcr.io/acme/app:v1").success();
    for flags in ["", " --reference quay.io/acme/app:v1"] {
        let said = stderr(&test(&format!("--policy all.yaml --policy some.yaml{flags}")).code(2));
        assert!(said.contains("some.yaml has no rule for this reference"), "{said}");
    }
}

/// What asks for more never vanishes behind an option, and what asks for less is typed.
#[test]
fn variables_take_nothing_away() {
    let place = place();
    keys(&place, "other");
    run(&place, "sign --key k.key oci:layout:v1").success();
    for name in ["k", "other"] {
        let text = format!("signature: {{key: {{path: {name}.pub, transparency_log: none}}}}\n");
        fs::write(place.path(format!("{name}.yaml")), text).unwrap();
    }
    let with = |line: &str, name: &str, value: &str| {
        place.assert(place.command(line).env("BLOB_KEY_PASSWORD", "secret").env(name, value))
    };
    with("ls --policy k.yaml oci:layout:v1", "BLOB_LS_POLICY", "").success();
    with("ls oci:layout:v1", "BLOB_LS_POLICY", "k.yaml").success();
    with("ls oci:layout:v1", "BLOB_LS_POLICY", "other.yaml").code(6);
    let said = stderr(&with("ls --policy k.yaml oci:layout:v1", "BLOB_LS_POLICY", "other.yaml").code(2));
    assert!(said.contains("BLOB_LS_POLICY and --policy"), "{said}");
    let logged = "ls --key k.pub oci:layout:v1";
    run(&place, logged).code(6);
    with(logged, "BLOB_LS_INSECURE_IGNORE_TLOG", "1").code(6);
    let config = place.path("home/.config/blob");
    fs::create_dir_all(&config).unwrap();
    fs::copy(place.path("other.pub"), config.join("other.pub")).unwrap();
    let rule = "policies: [{match: layout, policy: {signature: {key: {path: other.pub, transparency_log: none}}}}]\n";
    fs::write(config.join("config.yaml"), rule).unwrap();
    run(&place, "ls oci:layout:v1").code(6);
    with("ls oci:layout:v1", "BLOB_LS_NO_DEFAULT_POLICY", "1").code(6);
    run(&place, "ls --no-default-policy oci:layout:v1").success();
}

/// A bundle that cannot be read is no reason to leave it out without a word.
#[test]
fn inspect_says_that_there_may_be_more_who_signed() {
    let place = place();
    for at in 0..2 {
        run(&place, &format!("sign --key k.key -a at={at} oci:layout:v1")).success();
    }
    let line = "-o json inspect --referrers --key k.pub --insecure-ignore-tlog oci:layout:v1";
    let seen = || -> Value { serde_json::from_str(&stdout(&run(&place, line).success())).unwrap() };
    let before = seen();
    let signers = before["signers"].as_array().unwrap();
    assert!(signers.len() == 2 && signers.iter().all(|one| one["verified"] == true), "{before}");
    assert!(before["signers_unread"].is_null(), "{before}");
    let bundle = place.path(format!("layout/blobs/{}", signers[0]["bundle"].as_str().unwrap().replace(':', "/")));
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[0] = b'x';
    fs::remove_file(&bundle).unwrap();
    fs::write(&bundle, bytes).unwrap();
    let after = seen();
    assert_eq!(after["signers"].as_array().unwrap().len(), 1, "{after}");
    assert!(after["signers_unread"].is_string(), "{after}");
    let text = stdout(&run(&place, "inspect --referrers --key k.pub --insecure-ignore-tlog oci:layout:v1").success());
    assert!(text.contains("There may be others who signed: "), "{text}");
}

/// A bundle that this program makes can be verified by it, and by a name that is an expression.
#[test]
fn bundles_in_files_are_verified_as_those_in_registries_are() {
    let place = place();
    run(&place, "sign --key k.key --message --no-upload --output-bundle b.json oci:layout:v1").success();
    let listed: Value = serde_json::from_slice(&fs::read(place.path("layout/index.json")).unwrap()).unwrap();
    let digest = listed["manifests"][0]["digest"].as_str().unwrap();
    let said = stderr(&run(&place, &format!("verify-bundle --bundle b.json --key k.pub {digest}")).code(6));
    assert!(said.contains("no transparency log entry") && said.contains("--insecure-ignore-tlog"), "{said}");
    let accepted = format!("verify-bundle --bundle b.json --key k.pub --insecure-ignore-tlog {digest}");
    let verified = stdout(&run(&place, &accepted).success());
    assert!(verified.starts_with(&format!("Verified {digest}\n  Signed by: the key ")), "{verified}");
    let other = format!("sha256:{}", "0".repeat(64));
    run(&place, &accepted.replace(digest, &other)).code(6);
    run(&place, "generate-key-pair other").success();
    run(&place, &accepted.replace("k.pub", "other.pub")).code(6);
    for (flags, reason) in [
        ("--insecure-ignore-tlog", "--key"),
        ("--certificate-identity-regexp a", "--certificate-oidc-issuer"),
        ("--certificate-oidc-issuer-regexp i --key k.pub", "--certificate-identity"),
        ("--certificate-identity-regexp [ --certificate-oidc-issuer https://i", "is not usable"),
        (
            "--certificate-identity a --certificate-identity-regexp a --certificate-oidc-issuer https://i",
            "cannot be used",
        ),
    ] {
        let said = stderr(&run(&place, &format!("verify-bundle --bundle b.json {flags} {digest}")).code(2));
        assert!(said.contains(reason), "{flags}: {said}");
    }
    let said = stderr(&run(&place, "verify-bundle --bundle b.json --key k.pub sha256:abc").code(3));
    assert!(said.contains("64 hexadecimal digits"), "{said}");
}

/// One signature has one digest, wherever it is named, and a key that cannot be used is named with its file.
#[test]
fn a_signature_is_named_alike_by_whoever_names_it() {
    let place = place();
    let signed = stdout(&run(&place, "sign --key k.key oci:layout:v1").success());
    let digest = signed.lines().find_map(|line| line.strip_prefix("Signature: ")).unwrap();
    let by_key = "--key k.pub --insecure-ignore-tlog";
    for line in [
        format!("verify {by_key} oci:layout:v1"),
        format!("inspect --referrers {by_key} oci:layout:v1"),
        "referrers -o json oci:layout:v1".into(),
        "sign --dry-run --key k.key oci:layout:v1".into(),
    ] {
        let said = stdout(&run(&place, &line).success());
        assert!(said.contains(digest), "{line}: {said}");
    }
    run(&place, "generate-key-pair other").success();
    let refused = stderr(&run(&place, "ls --key other.pub --insecure-ignore-tlog oci:layout:v1").code(6));
    assert!(refused.contains(digest), "{refused}");
    for (line, password, reason) in [
        ("sign --key k.pub oci:layout:v1", "secret", "the private key k.pub cannot be used: no private key was found"),
        ("sign --key k.key oci:layout:v1", "wrong", "the private key k.key cannot be used: the password does not open"),
    ] {
        let said = stderr(&place.assert(place.command(line).env("BLOB_KEY_PASSWORD", password)).code(2));
        assert!(said.contains(reason), "{said}");
    }
    let said =
        stderr(&place.assert(place.command("sign --key k.key oci:layout:v1").env_remove("BLOB_KEY_PASSWORD")).code(2));
    assert!(
        said.contains("k.key cannot be used: the private key is encrypted") && said.contains("BLOB_KEY_PASSWORD"),
        "{said}"
    );
    let said = stderr(&run(&place, "pull --require-signed oci:layout:v1 out").code(6));
    assert!(said.contains("hint: name the signer with --repo"), "{said}");
}

/// What a tag names, and is not there, is no reason to propose the tag.
#[test]
fn a_tag_that_leads_nowhere_is_not_proposed() {
    let place = place();
    let listed: Value = serde_json::from_slice(&fs::read(place.path("layout/index.json")).unwrap()).unwrap();
    let digest = listed["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    fs::remove_file(place.path(format!("layout/blobs/{digest}"))).unwrap();
    let said = stderr(&run(&place, "ls oci:layout:v1").code(3));
    assert!(said.contains("the tag is there, and what it names is not") && !said.contains("did you mean"), "{said}");
}

/// Files are read where waiting for them holds nothing up: who interrupts is heard.
#[test]
fn waiting_for_a_file_can_be_interrupted() {
    let place = place();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = place.command("-vv attest --key k.key --type spdx --predicate - oci:layout:v1");
        command.env("BLOB_KEY_PASSWORD", "secret").stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let held = child.stdin.take();
        // It reads: nothing comes.
        eventually("reading", || {
            let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
            let calls = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("syscall")));
            // Number 0 is to read, and so is the descriptor.
            calls.flatten().any(|call| call.starts_with("0 0x0 "))
        });
        signal(name, child.id());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{name}");
        drop(held);
    }
    assert_eq!(stdout(&run(&place, "referrers -o plain oci:layout:v1").success()), "");
}
