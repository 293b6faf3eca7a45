//! Signing and verifying without keys, as a user does it, with the services of an instance in this process.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use blob_testkit::sigstore::{Fault, Files, Instance, Person, Publisher};
use serde_json::Value;
use snapbox::cmd::OutputAssert;

use crate::support::{Place, stderr, stdout};

const ISSUER: &str = "https://issuer.test";
const REF: &str = "HOST/team/project:v1";

/// A pushed archive, an instance, and the files that name its services: `v1.json`, `v2.json`, `root.json`.
pub(crate) struct Desk {
    pub(crate) place: Place,
    pub(crate) instance: Instance,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let (place, instance) = (Place::pushed(), Instance::start().unwrap());
        fs::write(place.path("root.json"), instance.trusted_root()).unwrap();
        fs::write(place.path("v1.json"), instance.signing_config(false)).unwrap();
        fs::write(place.path("v2.json"), instance.signing_config(true)).unwrap();
        Self { place, instance }
    }

    /// A command without the tokens of whoever runs the tests.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = self.place.command(line);
        for name in ["SIGSTORE_ID_TOKEN", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI"] {
            command.env_remove(name);
        }
        command.env("BLOB_KEY_PASSWORD", "secret");
        command
    }

    pub(crate) fn run(&self, line: &str) -> OutputAssert {
        self.place.assert(&mut self.command(line))
    }

    fn ok(&self, line: &str) -> String {
        stdout(&self.run(line).success())
    }

    /// Runs a command as a job of GitHub Actions that may have a token, at the tag v1.2.0 … as the instance says.
    fn in_github(&self, line: &str) -> OutputAssert {
        let url = format!("http://{}/token?api-version=2.0", self.instance.addr());
        let mut command = self.command(line);
        command.env("GITHUB_ACTIONS", "true").env("ACTIONS_ID_TOKEN_REQUEST_URL", url);
        self.place.assert(command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token"))
    }

    pub(crate) fn token(&self, person: &Person) -> String {
        let token = person.token();
        fs::write(self.place.path("token"), format!("{token}\n")).unwrap();
        token
    }

    /// How many signatures and attestations there are.
    pub(crate) fn referrers(&self) -> usize {
        let listed: Value = serde_json::from_str(&self.ok(&format!("-o json referrers {REF}"))).unwrap();
        listed["referrers"].as_array().unwrap().len()
    }

    /// How many entries the logs were asked to make.
    fn entries(&self) -> usize {
        self.instance.requests().iter().filter(|asked| asked.starts_with("POST") && asked.ends_with("/entries")).count()
    }
}

fn ann() -> Person {
    Person::email(ISSUER, "ann@example.com")
}

const BY_ANN: &str =
    "--trusted-root root.json --certificate-identity ann@example.com --certificate-oidc-issuer https://issuer.test";

#[test]
fn a_person_signs_with_logs_of_both_versions_and_everybody_can_tell() {
    for config in ["v1.json", "v2.json"] {
        let desk = Desk::new();
        let token = desk.token(&ann());
        let sign = format!("sign --signing-config {config} --trusted-root root.json --identity-token");
        let signed = desk.ok(&format!("{sign} {token} {REF}"));
        assert!(signed.starts_with("Signed ") && signed.contains("Signature: sha256:"), "{signed}");
        for read in ["verify", "ls", "pull"] {
            let out = if read == "pull" { " out" } else { "" };
            let read = desk.run(&format!("{read} {BY_ANN} {REF}{out}")).success();
            assert_eq!(stderr(&read), "");
        }
        let verified = desk.ok(&format!("verify --explain {BY_ANN} {REF}"));
        assert!(verified.contains("+ signed by ann@example.com (issuer https://issuer.test), at "), "{verified}");
        let known = desk.ok(&format!("inspect --referrers --trusted-root root.json {REF}"));
        assert!(known.contains("ann@example.com (issuer https://issuer.test) (verified), at "), "{known}");
        // By whoever it is not, or who is not told apart from others.
        for (flags, code, reason) in [
            (
                "--trusted-root root.json --certificate-identity bob@example.com --certificate-oidc-issuer https://issuer.test",
                6,
                "identity is \"ann@example.com\", not",
            ),
            (
                "--trusted-root root.json --certificate-identity ann@example.com --certificate-oidc-issuer https://other.test",
                6,
                "issuer is \"https://issuer.test\", not",
            ),
            (
                "--trusted-root root.json --certificate-identity ann@example.co --certificate-oidc-issuer https://issuer.test",
                6,
                "identity is \"ann@example.com\", not",
            ),
            (
                "--trusted-root root.json --certificate-identity-regexp ann@example --certificate-oidc-issuer https://issuer.test",
                6,
                "identity is \"ann@example.com\", not",
            ),
            ("--trusted-root root.json --repo acme/app", 6, "ann@example.com"),
            (
                "--certificate-identity ann@example.com --certificate-oidc-issuer https://issuer.test",
                6,
                "does not verify",
            ),
            ("--trusted-root root.json --key k.pub", 6, "it was signed keyless"),
        ] {
            if flags.contains("k.pub") {
                desk.run("generate-key-pair k").success();
            }
            for read in ["verify", "cat"] {
                let path = if read == "cat" { " README.md" } else { "" };
                let refused = desk.run(&format!("{read} {flags} {REF}{path}")).code(code);
                assert!(stderr(&refused).contains(reason), "{flags}: {}", stderr(&refused));
                assert_eq!(stdout(&refused), "", "{flags}");
            }
        }
    }
}

#[test]
fn a_workflow_signs_what_it_pushes_and_is_verified_by_what_it_built() {
    let desk = Desk::new();
    let services = "--signing-config v2.json --trusted-root root.json";
    let pushed = desk.in_github(&format!("push --sign {services} HOST/a/b:v1 project")).success();
    assert!(stdout(&pushed).contains("  Signed: sha256:"), "{}", stdout(&pushed));
    let workflow = "--certificate-oidc-issuer https://token.actions.githubusercontent.com --certificate-identity";
    let file = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads";
    for (flags, reason) in [
        ("--repo acme/app", ""),
        ("--repo Acme/App --branches main", ""),
        ("--repo acme/app --branches release/*,main --workflow release.yml", ""),
        (&*format!("{workflow} {file}/main"), ""),
        ("--repo acme/app-evil", "https://github.com/acme/app"),
        ("--repo acme/ap", "https://github.com/acme/app"),
        ("--repo acme/app --tags v*", "refs/heads/main"),
        ("--repo acme/app --branches ma", "refs/heads/main"),
        ("--repo acme/app --workflow other.yml", "release.yml"),
        ("--repo acme/app --signer-workflow acme/shared/.github/workflows/sign.yml", "release.yml"),
        (&*format!("{workflow} {file}/*"), "identity is"),
    ] {
        let verified = desk.run(&format!("verify --trusted-root root.json {flags} HOST/a/b:v1"));
        if reason.is_empty() {
            verified.success();
        } else {
            let text = stderr(&verified.code(6));
            assert!(text.contains(reason), "{flags}: {text}");
        }
    }
    // A job that may have no token says how it gets one.
    let mut command = desk.command(&format!("sign {services} {REF}"));
    let refused = desk.place.assert(command.env("GITHUB_ACTIONS", "true")).code(4);
    assert!(stderr(&refused).contains("id-token: write"), "{}", stderr(&refused));
    let mut command = desk.command(&format!("sign {services} {REF}"));
    command.env("GITHUB_ACTIONS", "true").env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong");
    let url = format!("http://{}/token", desk.instance.addr());
    let refused = desk.place.assert(command.env("ACTIONS_ID_TOKEN_REQUEST_URL", url)).code(4);
    assert!(stderr(&refused).contains("status 401"), "{}", stderr(&refused));
}

#[test]
fn a_workflow_attests_how_it_built_and_both_must_agree() {
    let desk = Desk::new();
    let attest = |repository: &str| {
        let predicate = serde_json::json!({
            "buildDefinition": {"externalParameters": {"workflow": {
                "repository": format!("https://github.com/{repository}"),
                "ref": "refs/heads/main",
                "path": ".github/workflows/release.yml",
            }}},
            "runDetails": {"builder": {"id": "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"}},
        });
        fs::write(desk.place.path("build.json"), predicate.to_string()).unwrap();
        let line = format!(
            "attest --type slsaprovenance1 --predicate build.json --signing-config v2.json --trusted-root root.json {REF}"
        );
        stdout(&desk.in_github(&line).success())
    };
    let verify = |flags: &str| desk.run(&format!("verify --trusted-root root.json --repo acme/app {flags} {REF}"));
    // The predicate says one thing, the certificate another.
    attest("evil/app");
    let refused = stderr(&verify("--provenance").code(6));
    assert!(refused.contains("https://github.com/evil/app"), "{refused}");
    attest("acme/app");
    verify("--provenance").success();
    verify("--provenance --branches main --workflow release.yml").success();
    for (flags, reason) in [
        ("--provenance --branches release/*", "refs/heads/main"),
        ("--provenance --workflow other.yml", "release.yml"),
        ("--branches main", "is not a signature"),
    ] {
        let refused = stderr(&verify(flags).code(6));
        assert!(refused.contains(reason), "{flags}: {refused}");
    }
}

#[test]
fn tokens_are_taken_from_flags_files_and_the_environment() {
    let desk = Desk::new();
    let token = desk.token(&ann());
    let sign = format!("sign --again --signing-config v1.json --trusted-root root.json {REF}");
    desk.run(&format!("{sign} --identity-token {token}")).success();
    desk.run(&format!("{sign} --identity-token @token")).success();
    desk.place.assert(desk.command(&sign).env("SIGSTORE_ID_TOKEN", &token)).success();
    let mut gitlab = desk.command(&sign);
    desk.place.assert(gitlab.env("GITLAB_CI", "true").env("SIGSTORE_ID_TOKEN", &token)).success();
    assert_eq!(desk.referrers(), 4);
    let old = ann().token_until(SystemTime::now() - Duration::from_mins(1));
    for (given, code, reason) in [
        ("--identity-token @missing", 4, "missing"),
        ("--identity-token nonsense", 4, "has not three parts"),
        (&*format!("--identity-token {old}"), 4, "expired at"),
    ] {
        let refused = desk.run(&format!("{sign} {given}")).code(code);
        let text = stderr(&refused);
        assert!(text.contains(reason) && text.contains("hint: "), "{given}: {text}");
        assert!(!text.contains(&token) && !text.contains(&old), "a token is shown: {text}");
    }
    // No word of a token at any level of detail.
    let traced = desk.run(&format!("{sign} -vvv --identity-token @token")).success();
    let secret = token.split('.').nth(1).unwrap();
    assert!(!stderr(&traced).contains(secret) && !stdout(&traced).contains(secret));
    assert_eq!(desk.referrers(), 5);
}

#[test]
fn signing_again_as_the_same_identity_adds_nothing() {
    let desk = Desk::new();
    desk.token(&ann());
    let sign = |more: &str| {
        let line =
            format!("sign --signing-config v1.json --trusted-root root.json --identity-token @token {more}{REF}");
        desk.ok(&line)
    };
    assert!(!sign("").contains("equivalent"));
    let entries = desk.entries();
    for _ in 0..2 {
        assert!(sign("").contains("(an equivalent signature was there)"));
    }
    assert_eq!((desk.referrers(), desk.entries()), (1, entries), "neither a referrer nor an entry in a log is added");
    // Something else is said, or it is asked for all the same, or somebody else says it.
    assert!(!sign("-a release=1 ").contains("equivalent"));
    assert!(sign("-a release=1 ").contains("equivalent"));
    assert!(!sign("--message ").contains("equivalent"));
    assert!(sign("--message ").contains("equivalent"));
    assert!(!sign("--again ").contains("equivalent"));
    assert_eq!(desk.referrers(), 4);
    desk.token(&Person::email(ISSUER, "bob@example.com"));
    assert!(!sign("").contains("equivalent"));
    desk.token(&Person::email("https://other.test", "ann@example.com"));
    assert!(!sign("").contains("equivalent"), "another issuer may mean another person by the same name");
    // More evidence than the signature that is there has.
    desk.token(&ann());
    let v2 = format!("sign --signing-config v2.json --trusted-root root.json --identity-token @token {REF}");
    assert!(desk.ok(&v2).contains("equivalent"), "a log and a stamp are there, whichever version");
    // Attestations too: the same statement.
    fs::write(desk.place.path("scan.json"), "{\"found\": 0}").unwrap();
    let attest = format!(
        "attest --type https://example.com/scan/v1 --predicate scan.json --signing-config v1.json --trusted-root root.json --identity-token @token {REF}"
    );
    assert!(!desk.ok(&attest).contains("equivalent"));
    assert!(desk.ok(&attest).contains("equivalent"));
    fs::write(desk.place.path("scan.json"), "{\"found\": 1}").unwrap();
    assert!(!desk.ok(&attest).contains("equivalent"));
}

#[test]
fn a_reusable_workflow_signs_for_each_repository_anew() {
    let desk = Desk::new();
    let sign = format!("sign --signing-config v1.json --trusted-root root.json --identity-token @token {REF}");
    let shared = "acme/shared/.github/workflows/sign.yml@refs/heads/main";
    let of =
        |repository: &str| Person::github(repository, "x.yml", "refs/heads/main").claim("job_workflow_ref", shared);
    for (repository, equivalent) in [("acme/app", false), ("acme/app", true), ("evil/app", false)] {
        desk.token(&of(repository));
        assert_eq!(desk.ok(&sign).contains("equivalent"), equivalent, "{repository}");
    }
}

#[test]
fn a_push_of_what_is_there_signs_it_once() {
    let desk = Desk::new();
    desk.token(&ann());
    let push = "push --sign --signing-config v2.json --trusted-root root.json --identity-token @token HOST/team/project:v1 project";
    let first = desk.ok(&format!("{push} --reproducible"));
    assert!(first.contains("Unchanged") || first.contains("unchanged"), "{first}");
    desk.ok(&format!("{push} --reproducible"));
    assert_eq!(desk.referrers(), 1);
    desk.run(&format!("verify {BY_ANN} {REF}")).success();
}

#[test]
fn a_key_with_a_log_is_not_content_with_a_signature_without_one() {
    let desk = Desk::new();
    desk.run("generate-key-pair k").success();
    let sign = |more: &str| desk.ok(&format!("sign --key k.key {more}{REF}"));
    assert!(!sign("").contains("equivalent"));
    let logged = format!("--rekor-url {} --trusted-root root.json ", desk.instance.rekor_url());
    assert!(!sign(&logged).contains("equivalent"), "the log entry that was asked for is missing");
    desk.run(&format!("verify --key k.pub --trusted-root root.json {REF}")).success();
    assert!(sign(&logged).contains("equivalent"));
    let stamped = format!("{logged}--tsa-url {} ", desk.instance.tsa_url());
    assert!(!sign(&stamped).contains("equivalent"), "the time-stamp that was asked for is missing");
    assert!(sign(&stamped).contains("equivalent"));
    // Who asks for less finds more.
    assert!(sign(&logged).contains("equivalent"));
    assert!(sign("").contains("equivalent"));
    assert_eq!(desk.referrers(), 3);
}

#[test]
fn services_can_be_named_one_by_one() {
    let desk = Desk::new();
    desk.token(&ann());
    let (fulcio, rekor, tsa) = (desk.instance.fulcio_url(), desk.instance.rekor2_url(), desk.instance.tsa_url());
    let sign = format!("sign --identity-token @token --trusted-root root.json --fulcio-url {fulcio}");
    let timeless = desk.run(&format!("{sign} {REF}")).code(2);
    assert!(stderr(&timeless).contains("nothing would say when it was signed"), "{}", stderr(&timeless));
    let stampless = desk.run(&format!("{sign} --rekor-url {rekor} --rekor-version 2 {REF}")).code(2);
    assert!(stderr(&stampless).contains("a time-stamp authority is needed"), "{}", stderr(&stampless));
    desk.run(&format!("{sign} --rekor-url {rekor} --rekor-version 2 --tsa-url {tsa} {REF}")).success();
    desk.run(&format!("verify {BY_ANN} {REF}")).success();
}

#[test]
fn evidence_can_be_asked_for_in_a_policy_file() {
    let desk = Desk::new();
    desk.token(&ann());
    let (fulcio, tsa) = (desk.instance.fulcio_url(), desk.instance.tsa_url());
    let private =
        format!("sign --identity-token @token --trusted-root root.json --fulcio-url {fulcio} --tsa-url {tsa} {REF}");
    desk.ok(&private);
    let judge = |evidence: &str| {
        let signer = "issuer: https://issuer.test, identity: ann@example.com";
        let text = format!("signature: {{keyless: {{{signer}}}{evidence}}}\ntrusted_root: root.json\n");
        fs::write(desk.place.path("p.yaml"), text).unwrap();
        desk.run(&format!("verify --policy p.yaml {REF}"))
    };
    let refused = |evidence: &str, code: i32, reason: &str| {
        let text = stderr(&judge(evidence).code(code));
        assert!(text.contains(reason), "{evidence}: {text}");
    };
    refused("", 6, "no transparency log entry");
    judge(", evidence: {log_entries: 0, time_stamps: 1}").success();
    refused(", evidence: {log_entries: 0, time_stamps: 2}", 6, "time-stamps of 1 authorities, of 2");
    refused(", evidence: {log_entries: 0}", 2, "nothing would say when it was signed");
    refused(", evidence: {log_entry: 0}", 2, "did you mean `log_entries`?");
    refused(", evidence: {time_stamps: 9}", 2, "more than 8");
    desk.ok(&format!("sign --again --signing-config v2.json --identity-token @token --trusted-root root.json {REF}"));
    judge("").success();
    judge(", evidence: {time_stamps: 1}").success();
    refused(", evidence: {log_entries: 2}", 6, "in 1 transparency logs, of 2");
}

#[test]
fn lies_and_failures_of_services_end_with_their_reason() {
    let desk = Desk::new();
    desk.token(&ann());
    let sign = format!("sign --signing-config v1.json --trusted-root root.json --identity-token @token {REF}");
    for (fault, code, reason) in [
        (Fault::Status(403), 4, "certificate authority"),
        (Fault::Junk, 1, "not understood"),
        (Fault::ForeignAuthority, 6, "does not verify"),
        (Fault::BadProof, 6, "does not verify"),
    ] {
        desk.instance.set(Some(fault));
        let text = stderr(&desk.run(&sign).code(code));
        assert!(text.starts_with("error: ") && text.contains(reason), "{fault:?}: {text}");
    }
    desk.instance.set(None);
    assert_eq!(desk.referrers(), 0, "nothing that does not verify is published");
    // Nobody signs under another name than that of their token.
    desk.instance.set(Some(Fault::ForeignIdentity));
    let refused = desk.run(&sign).code(6);
    assert!(stderr(&refused).contains("mallory@example.com"), "{}", stderr(&refused));
    assert_eq!(desk.referrers(), 0, "nor is it published");
}

/// A repository that publishes the trust root and the services of the instance, and the options that name it.
fn tuf(desk: &Desk) -> (Files, String) {
    let (publisher, files) = (Publisher::new(), Files::default());
    publisher.publish(&files, (&desk.instance.trusted_root(), &desk.instance.signing_config(true)), 1, Publisher::FAR);
    fs::write(desk.place.path("tuf.json"), publisher.root()).unwrap();
    let flags = format!("--tuf-url {} --tuf-root tuf.json", files.serve().unwrap());
    (files, flags)
}

const ANN: &str = "--certificate-identity ann@example.com --certificate-oidc-issuer https://issuer.test";

#[test]
fn the_trust_root_and_the_services_come_from_a_tuf_repository() {
    let desk = Desk::new();
    desk.token(&ann());
    let (files, tuf) = tuf(&desk);
    desk.ok(&format!("sign --identity-token @token {tuf} {REF}"));
    desk.ok(&format!("verify {ANN} {tuf} {REF}"));
    desk.ok(&format!("cat {ANN} {tuf} {REF} README.md"));
    // For an hour it is not asked again.
    let asked = files.requests();
    desk.ok(&format!("verify {ANN} {tuf} {REF}"));
    assert_eq!(files.requests(), asked);
    // Once it is gone, the last known one serves for longer, and this is said.
    for note in desk.place.listing("home/.cache/blob").iter().filter(|name| name.ends_with("/refreshed")) {
        fs::remove_file(desk.place.path("home/.cache/blob").join(note)).unwrap();
    }
    let held = files.change(std::mem::take);
    let stale = desk.run(&format!("verify {ANN} {tuf} {REF}")).success();
    assert!(stderr(&stale).contains("using the last known trust root"), "{}", stderr(&stale));
    desk.ok(&format!("cat --offline {ANN} {tuf} {REF} README.md"));
    // Without a cache there is nothing to fall back on.
    let failed = desk.run(&format!("--no-cache verify {ANN} {tuf} {REF}")).code(5);
    assert!(stderr(&failed).contains("--trusted-root"), "{}", stderr(&failed));
    let offline = desk.run(&format!("cat --offline --cache-dir other {ANN} {tuf} {REF} README.md")).code(5);
    assert!(stderr(&offline).contains("without --offline"), "{}", stderr(&offline));
    // A repository that somebody else signs is not believed, and neither is one that nothing is known about.
    files.change(|files| *files = held);
    fs::write(desk.place.path("tuf.json"), Publisher::new().root()).unwrap();
    desk.run(&format!("verify {ANN} {tuf} {REF}")).code(5);
    let url = tuf.split(' ').nth(1).unwrap();
    for (flags, reason) in [
        (format!("--tuf-url {url}"), "--tuf-root"),
        ("--tuf-root tuf.json".to_owned(), "--tuf-url"),
        ("--tuf-url nonsense --tuf-root tuf.json".to_owned(), "is not the URL"),
        (format!("--tuf-url {url} --tuf-root missing.json"), "missing.json"),
        (format!("--tuf-url {url} --tuf-root root.json"), "a trusted_root.json goes to --trusted-root"),
        (format!("{tuf} --trusted-root root.json"), "cannot be used with"),
    ] {
        let failed = desk.run(&format!("verify {ANN} {flags} {REF}"));
        let code = failed.get_output().status.code();
        assert!(matches!(code, Some(2 | 3)) && stderr(&failed).contains(reason), "{flags}: {}", stderr(&failed));
    }
}

#[test]
fn a_tuf_repository_of_the_configuration_counts_where_none_is_named() {
    let desk = Desk::new();
    desk.token(&ann());
    let (_files, flags) = tuf(&desk);
    let url = flags.split(' ').nth(1).unwrap();
    let config = desk.place.path("home/.config/blob");
    fs::create_dir_all(&config).unwrap();
    let root = desk.place.path("tuf.json");
    let signer = "signature: {keyless: {issuer: 'https://issuer.test', identity: ann@example.com}}";
    let text = format!(
        "trust:\n  tuf_url: {url}\n  tuf_root: {}\npolicies:\n  - match: team/project\n    policy: {{{signer}}}\n",
        root.display()
    );
    fs::write(config.join("config.yaml"), text).unwrap();
    let refused = desk.run(&format!("ls {REF}")).code(6);
    assert!(stderr(&refused).contains("no signature found"), "{}", stderr(&refused));
    desk.ok(&format!("sign --identity-token @token {REF}"));
    desk.ok(&format!("ls {REF}"));
    desk.ok(&format!("verify {REF}"));
    // A trust root that is named counts for the rules of the configuration, too; alone it asks for nothing.
    let other = Instance::start().unwrap();
    fs::write(desk.place.path("other.json"), other.trusted_root()).unwrap();
    desk.ok(&format!("ls --skip-cache --trusted-root root.json {REF}"));
    let refused = desk.run(&format!("ls --skip-cache --trusted-root other.json {REF}")).code(6);
    assert!(stderr(&refused).contains("does not verify"), "{}", stderr(&refused));
    let alone = desk.run(&format!("ls --no-default-policy --trusted-root root.json {REF}")).code(2);
    assert!(stderr(&alone).contains("nothing would be verified"), "{}", stderr(&alone));
    // A project cannot name whom its user believes.
    fs::write(desk.place.path(".blob.yaml"), "trust:\n  tuf_url: https://evil.test\n").unwrap();
    desk.run(&format!("ls {REF}")).code(2);
}
