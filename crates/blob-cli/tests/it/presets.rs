//! Signers whose certificates are known, by flags and in policy files; and what is said where several policies refuse.

use std::fs;

use blob_testkit::sigstore::Person;
use serde_json::Value;

use crate::keyless::Desk;
use crate::support::{stderr, stdout};

const GITHUB: &str = "https://token.actions.githubusercontent.com";

/// Signs the archive of the desk again, in a repository of its own, as `person`.
fn signed(desk: &Desk, repository: &str, person: &Person) -> String {
    desk.token(person);
    let services = "--signing-config v1.json --trusted-root root.json --identity-token @token";
    desk.run(&format!("push -q --sign {services} HOST/{repository}:v1 project")).success();
    format!("HOST/{repository}:v1")
}

#[test]
fn presets_are_flags_and_members_of_policy_files() {
    let desk = Desk::new();
    let workflow =
        |host: &str, issuer: &str| Person::github_on(host, issuer, "acme/app", "release.yml", "refs/tags/v1.2.0");
    let own = signed(&desk, "a/own", &workflow("git.acme.example", "https://git.acme.example/_services/token"));
    let named = signed(&desk, "a/named", &workflow("git.acme.example", "https://id.acme.example"));
    let company = signed(&desk, "a/company", &workflow("github.com", &format!("{GITHUB}/acme")));
    let gitlab = signed(&desk, "a/gitlab", &Person::gitlab("acme/app", "refs/heads/main"));
    let lab = signed(&desk, "a/lab", &Person::gitlab_on("lab.acme.example", "acme/app", "refs/heads/main"));
    let google = signed(&desk, "a/google", &Person::email("https://accounts.google.com", "ann@example.com"));
    let mail = signed(&desk, "a/mail", &Person::email("https://id.acme.example", "ann@example.com"));
    let refs = [&own, &named, &company, &gitlab, &lab, &google, &mail];
    for (flags, policy, admitted) in [
        ("--repo acme/app --server git.acme.example", "github: {repository: acme/app, server: git.acme.example}", &own),
        (
            "--repo acme/app --server git.acme.example --certificate-oidc-issuer https://id.acme.example",
            "github: {repository: acme/app, server: git.acme.example, issuer: 'https://id.acme.example'}",
            &named,
        ),
        (
            "--repo acme/app --certificate-oidc-issuer https://token.actions.githubusercontent.com/acme",
            "github: {repository: acme/app, issuer: 'https://token.actions.githubusercontent.com/acme'}",
            &company,
        ),
        ("--gitlab-project acme/app --branches main", "gitlab: {project: acme/app, branch: main}", &gitlab),
        (
            "--gitlab-project acme/app --server lab.acme.example",
            "gitlab: {project: acme/app, server: lab.acme.example}",
            &lab,
        ),
        (
            "--google-account bob@example.com --google-account ann@example.com",
            "google: [bob@example.com, ann@example.com]",
            &google,
        ),
        (
            "--certificate-identity ann@example.com --certificate-oidc-issuer https://id.acme.example",
            "email: {address: ann@example.com, issuer: 'https://id.acme.example'}",
            &mail,
        ),
    ] {
        fs::write(desk.place.path("policy.yaml"), format!("signature: {{{policy}}}\n")).unwrap();
        for asked in [flags, "--policy policy.yaml"] {
            for reference in refs {
                let outcome = desk.run(&format!("verify --trusted-root root.json {asked} {reference}"));
                if reference == admitted {
                    outcome.success();
                } else {
                    outcome.code(6);
                }
            }
        }
    }
    for (flags, reason) in [
        ("--gitlab-project acme/app --tags v*", "source_repository_ref is"),
        ("--gitlab-project acme/ap", "source_repository_uri is"),
        ("--google-account ann@example.com", "issuer is"),
        ("--repo acme/app", "issuer is"),
    ] {
        let said = stderr(&desk.run(&format!("verify --trusted-root root.json {flags} {gitlab}")).code(6));
        assert!(said.contains(reason), "{flags}: {said}");
    }
    for (flags, problem) in [
        ("--server git.acme.example", "missing <--repo"),
        ("--branches main --google-account ann@example.com", "missing <--repo"),
        ("--repo acme/app --gitlab-project acme/app", "cannot be used with"),
        ("--gitlab-project acme", "not a repository"),
        ("--repo acme/app --server https://git.acme.example", "not a host name"),
        ("--google-account ann", "not an e-mail address"),
        ("--certificate-oidc-issuer https://id.acme.example", "--certificate-identity is missing"),
        (
            "--gitlab-project acme/app --certificate-oidc-issuer https://id.acme.example",
            "--certificate-identity is missing",
        ),
    ] {
        let said = stderr(&desk.run(&format!("verify {flags} {own}")).code(2));
        assert!(said.contains(problem), "{flags}: {said}");
    }
    let checked = desk.run("policy check policy.yaml").success();
    assert!(stdout(&checked).contains("ann@example.com (issuer https://id.acme.example)"), "{}", stdout(&checked));
}

#[test]
fn every_policy_that_refuses_is_named_with_what_it_tried() {
    let desk = Desk::new();
    let reference = signed(&desk, "a/app", &Person::email("https://id.acme.example", "ann@example.com"));
    desk.run("generate-key-pair k").success();
    desk.run("generate-key-pair other").success();
    desk.run(&format!("sign --key other.key {reference}")).success();
    fs::write(desk.place.path("google.yaml"), "signature: {google: eve@example.com}\n").unwrap();
    fs::write(desk.place.path("built.yaml"), "provenance: {slsa: {repository: acme/app}}\n").unwrap();
    let flags = "--trusted-root root.json --key k.pub --insecure-ignore-tlog --policy google.yaml --policy built.yaml";
    let expected = [
        "signature by the key ",
        "does not verify",
        "signature by eve@example.com",
        "issuer is \"https://id.acme.example\", not \"https://accounts.google.com\"",
        "provenance by a workflow of https://github.com/acme/app",
        "issuer is \"https://id.acme.example\", not \"https://token.actions.githubusercontent.com\"",
        "was made with a managed key, not with a certificate",
        "sha256:",
    ];
    for read in ["ls", "verify"] {
        let said = stderr(&desk.run(&format!("{read} {flags} {reference}")).code(6));
        let json = stderr(&desk.run(&format!("-o json {read} {flags} {reference}")).code(6));
        let json: Value = serde_json::from_str(json.trim()).unwrap_or_else(|error| panic!("{error}: {json}"));
        let causes = json["error"]["causes"].as_array().unwrap();
        assert_eq!(causes.len(), 3, "one for each policy: {causes:?}");
        for part in expected {
            assert!(said.contains(part), "{read}: {part}: {said}");
            assert!(causes.iter().any(|cause| cause.as_str().unwrap().contains(part)), "{read}: {part}: {causes:?}");
        }
    }
    // One that is met is not among them.
    let one = flags.replace("k.pub", "other.pub").replace(" --policy built.yaml", "");
    let said = stderr(&desk.run(&format!("ls {one} {reference}")).code(6));
    assert!(said.contains("eve@example.com") && !said.contains("signature by the key"), "{said}");
}
