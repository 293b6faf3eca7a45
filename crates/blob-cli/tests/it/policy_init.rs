//! `policy init`: policy files to begin with, which other commands take.

use std::fs;

use crate::support::{Place, stderr, stdout};

/// A place with a key pair, and an archive that is signed with it.
fn signed() -> Place {
    let place = Place::pushed();
    for line in ["generate-key-pair k", "sign -q --key k.key HOST/team/project:v1"] {
        place.assert(place.command(line).env("BLOB_KEY_PASSWORD", "secret")).success();
    }
    place
}

#[test]
fn what_is_written_can_be_used() {
    let place = signed();
    for (number, options) in [
        "--repo acme/app --tags v*,release/* --branches main --workflow release.yml",
        "--repo acme/app --provenance",
        "--repo acme/app --server git.acme.example --signer-workflow acme/ci/.github/workflows/sign.yml",
        "--gitlab-project group/sub/project --tags v*",
        "--google-account a@acme.example --google-account b@acme.example",
        "--certificate-identity yes:#'\"*@x --certificate-oidc-issuer https://issuer.example",
        "--certificate-identity-regexp ^.*@acme\\.example$ --certificate-oidc-issuer-regexp https://.*",
        "--key k.pub",
        "--key k.pub --insecure-ignore-tlog --match ^ghcr\\.io/acme/",
        "--key k.pub --repo acme/app",
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("policy-{number}.yaml");
        let written = stdout(&place.run(&format!("policy init {options} {file}")).success().stderr_eq(""));
        let name = written.lines().nth(1).unwrap().trim().to_owned();
        // The same policies as the file has for who reads it, and as standard output would have had.
        let checked = stdout(&place.run(&format!("policy check {file}")).success());
        assert!(checked.contains(&name), "{options}: {written} {checked}");
        let content = fs::read_to_string(place.path(&file)).unwrap();
        let streamed = |end: &str| stdout(&place.run(&format!("policy init {options}{end}")).success());
        assert_eq!(streamed(" -"), streamed(""));
        assert!(!place.path("-").exists());
        assert!(content.starts_with("# What an archive must meet"), "{content}");
        assert_eq!(stdout(&place.run(&format!("policy init {options}")).success()), content);
    }
    // It says the same as the options do.
    place.run("policy init --key k.pub --insecure-ignore-tlog keys.yaml").success();
    place.run("verify --policy keys.yaml HOST/team/project:v1").success();
    place.run("policy init --key k.pub strict.yaml").success();
    place.run("verify --policy strict.yaml HOST/team/project:v1").code(6);
    place.run("policy init --key k.pub --insecure-ignore-tlog --match /other/ others.yaml").success();
    place.run("verify --policy others.yaml HOST/team/project:v1").code(2);
    // Both of two conditions must be met.
    place.run("policy init --key k.pub --insecure-ignore-tlog --repo acme/app both.yaml").success();
    place.run("verify --policy both.yaml HOST/team/project:v1").code(6);
}

#[test]
fn paths_are_relative_to_the_file() {
    let place = signed();
    fs::create_dir_all(place.path("policies/keys")).unwrap();
    fs::copy(place.path("k.pub"), place.path("policies/keys/in.pub")).unwrap();
    for key in ["policies/keys/in.pub", "k.pub"] {
        let file = format!("policies/{}.yaml", key.replace(['/', '.'], "-"));
        place.run(&format!("policy init -q --key {key} --insecure-ignore-tlog {file}")).success().stdout_eq("");
        place.run(&format!("verify --policy {file} HOST/team/project:v1")).success();
    }
    let inside = fs::read_to_string(place.path("policies/policies-keys-in-pub.yaml")).unwrap();
    assert!(inside.contains("path: keys/in.pub"), "{inside}");
}

#[test]
fn nothing_is_overwritten_and_nothing_made_up() {
    let place = Place::offline();
    fs::write(place.path("mine.yaml"), "mine").unwrap();
    for (line, code, wanted) in [
        ("policy init --repo acme/app mine.yaml", 2, "a policy is never overwritten"),
        ("policy init --dry-run --repo acme/app mine.yaml", 2, "a policy is never overwritten"),
        ("policy init new.yaml", 2, "hint: add --repo OWNER/NAME"),
        ("policy init --repo acme new.yaml", 2, "cannot be asked for"),
        ("policy init --match ( --repo acme/app new.yaml", 2, "--match cannot be used"),
        ("policy init --key nowhere.pub new.yaml", 2, "nowhere.pub"),
        ("policy init --repo acme/app no/dir/new.yaml", 3, "no/dir"),
        ("policy init --dry-run --repo acme/app no/dir/new.yaml", 3, "there is no directory no/dir"),
        ("policy init --dry-run --repo acme/app", 2, "missing"),
        ("policy init --format {{.x}} --repo acme/app", 2, "writes content"),
        ("policy explain x", 2, "`blob verify --explain REF`"),
    ] {
        let said = stderr(&place.run(line).code(code).stdout_eq(""));
        assert!(said.contains(wanted), "{line}: {said}");
    }
    let planned = stdout(&place.run("policy init --dry-run --repo acme/app new.yaml").success());
    assert!(planned.starts_with("Would write new.yaml\n  signature by "), "{planned}");
    assert_eq!(fs::read_to_string(place.path("mine.yaml")).unwrap(), "mine");
    assert!(!place.path("new.yaml").exists());
}
