//! Signing and verifying as a user does it: with keys, policy files and flags, on every command that reads.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use blob_testkit::proxy::{Proxy, ProxyHandle, ProxyOptions};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::Value;

use crate::support::{BLOB, Place, stderr, stdout};

/// A pushed archive, and a key pair `k`.
fn place() -> Place {
    let place = Place::pushed();
    keys(&place, "k");
    place
}

fn keys(place: &Place, name: &str) {
    place.assert(place.command(&format!("generate-key-pair {name}")).env("BLOB_KEY_PASSWORD", "secret")).success();
}

/// Runs a command with the password of the keys. A machine that does much else may be slow enough for a line of progress,
/// which is none of what is looked at here.
fn run(place: &Place, line: &str) -> snapbox::cmd::OutputAssert {
    place.assert(place.command(line).env("BLOB_KEY_PASSWORD", "secret").env("BLOB_PROGRESS", "never"))
}

const READS: [&str; 8] = [
    "pull HOST/team/project:v1 out",
    "cat HOST/team/project:v1 README.md",
    "ls HOST/team/project:v1",
    "tree HOST/team/project:v1",
    "inspect HOST/team/project:v1",
    "cp HOST/team/project:v1:/README.md out/",
    "verify HOST/team/project:v1",
    "-o json ls HOST/team/project:v1",
];

#[test]
fn push_sign_verify_pull() {
    let place = place();
    let by_key = "--key k.pub --insecure-ignore-tlog";
    for read in READS {
        let refused = run(&place, &format!("{read} {by_key}")).code(6);
        let text = stderr(&refused);
        assert!(text.contains("no signature found") && text.contains("blob sign"), "{read}: {text}");
        assert_eq!(stdout(&refused), "", "{read}");
    }
    assert!(!place.path("out").exists(), "nothing was written");
    let signed = stdout(&run(&place, "sign --key k.key HOST/team/project:v1").success());
    assert!(signed.starts_with("Signed ") && signed.contains("Signature: sha256:"), "{signed}");
    let again = stdout(&run(&place, "sign --key k.key HOST/team/project:v1").success());
    assert!(again.contains("an equivalent signature was there"), "{again}");
    for read in READS {
        let read = run(&place, &format!("{read} {by_key}")).success();
        assert_eq!(stderr(&read), "");
    }
    let verified = stdout(&run(&place, &format!("verify --explain {by_key} HOST/team/project:v1")).success());
    assert!(verified.contains("Policies: 1 applied") && verified.contains("+ signed by the key"), "{verified}");
    let json = stdout(&run(&place, &format!("-o json verify {by_key} HOST/team/project:v1")).success());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["verified"], &json["status"], &json["policies_applied"]),
        (&true.into(), &"verified".into(), &1.into())
    );

    let known =
        stdout(&run(&place, "inspect --referrers --key k.pub --insecure-ignore-tlog HOST/team/project:v1").success());
    assert!(known.contains("Signed by:\n  the key ") && known.contains("(verified)"), "{known}");
    let unknown = stdout(&run(&place, "inspect --referrers HOST/team/project:v1").success());
    assert!(unknown.contains("not verified: the bundle was made with a managed key"), "{unknown}");

    // Another key, a log that is asked for, a person: none of them did this.
    keys(&place, "other");
    for (flags, reason) in [
        ("--key other.pub --insecure-ignore-tlog", "does not verify"),
        ("--key k.pub", "--insecure-ignore-tlog"),
        ("--repo acme/app", "name its public key with --key"),
        ("--certificate-identity a@b.c --certificate-oidc-issuer https://i", "made with a managed key"),
        ("--key k.pub --insecure-ignore-tlog --repo acme/app --provenance", "made with a managed key"),
    ] {
        for read in ["cat HOST/team/project:v1 README.md", "verify HOST/team/project:v1"] {
            let text = stderr(&run(&place, &format!("{read} {flags}")).code(6));
            assert!(text.contains(reason), "{flags}: {text}");
        }
    }
    let explained = run(&place, "verify --explain --key other.pub --insecure-ignore-tlog HOST/team/project:v1").code(6);
    assert!(stdout(&explained).contains("  - sha256:"), "{}", stdout(&explained));
}

#[test]
fn policies_of_the_configuration_count_for_every_command() {
    let place = place();
    let config = place.path("home/.config/blob");
    fs::create_dir_all(&config).unwrap();
    fs::copy(place.path("k.pub"), config.join("team.pub")).unwrap();
    let rule = "policies:\n  - match: /team/project\n    policy:\n      signature:\n        key:\n          path: team.pub\n          transparency_log: none\n";
    fs::write(config.join("config.yaml"), rule).unwrap();
    // A project's own file cannot take away what its user asks for.
    for nothing in ["policies: []\n", "policies:\n", "require_signed: false\n"] {
        fs::write(place.path(".blob.yaml"), nothing).unwrap();
        run(&place, READS[0]).code(2);
    }
    fs::remove_file(place.path(".blob.yaml")).unwrap();
    let reads: Vec<&str> = READS.into_iter().chain(MORE).collect();
    for read in &reads {
        let refused = run(&place, read).code(6);
        assert!(stderr(&refused).contains("no signature found"), "{read}: {}", stderr(&refused));
        assert_eq!(stdout(&refused), "", "{read}");
    }
    assert!(!place.path("out").exists() && !place.path("out.tar").exists() && !place.path("copied").exists());
    run(&place, "ls --no-default-policy HOST/team/project:v1").success();
    run(&place, "push -q HOST/other/project:v1 project").success();
    run(&place, "ls HOST/other/project:v1").success();
    // Who asks for a verdict gets one, or nothing.
    run(&place, "ls --verify HOST/other/project:v1").code(6);
    run(&place, "ls --verify --no-default-policy HOST/other/project:v1").code(6);
    fs::write(place.path("else.yaml"), rule).unwrap();
    let text = stderr(&run(&place, "ls --policy else.yaml HOST/other/project:v1").code(2));
    assert!(text.contains("has no rule for"), "{text}");
    run(&place, "push --rekor-url http://localhost:1 HOST/a/b:v1 project").code(2);

    run(&place, "sign --key k.key HOST/team/project:v1").success();
    for read in &reads {
        assert_eq!(stderr(&run(&place, read).success()), "", "{read}");
    }
    fs::remove_file(config.join("team.pub")).unwrap();
    let text = stderr(&run(&place, "ls HOST/team/project:v1").code(2));
    assert!(text.contains("team.pub"), "{text}");
}

#[test]
fn push_signs_before_it_tags() {
    let place = Place::served();
    keys(&place, "k");
    let pushed = stdout(&run(&place, "push --key k.key --reproducible HOST/a/b:v1 project").success());
    assert!(pushed.contains("  Signed: sha256:"), "{pushed}");
    run(&place, "verify --key k.pub --insecure-ignore-tlog HOST/a/b:v1").success();
    let unsigned =
        place.assert(place.command("push --key k.key HOST/a/b:v2 project").env("BLOB_KEY_PASSWORD", "wrong"));
    assert!(stderr(&unsigned.code(2)).contains("password"));
    place.run("ls HOST/a/b:v2").code(3);
}

#[test]
fn what_asks_for_nothing_verifies_nothing_and_says_so() {
    let place = place();
    for (line, reason) in [
        ("verify HOST/team/project:v1", "no policy is for"),
        ("pull --verify HOST/team/project:v1 out", "--verify without a policy"),
        ("verify --certificate-identity a HOST/team/project:v1", "--certificate-oidc-issuer is missing"),
        ("verify --certificate-oidc-issuer https://i HOST/team/project:v1", "--certificate-identity is missing"),
        ("verify --tags v1 HOST/team/project:v1", "--repo"),
        ("verify --repo acme HOST/team/project:v1", "is not a repository"),
        ("verify --repo acme/app --tags  HOST/team/project:v1", ""),
        ("verify --key missing.pub HOST/team/project:v1", "missing.pub"),
        ("verify --key k.key HOST/team/project:v1", "private key"),
        ("verify --policy missing.yaml HOST/team/project:v1", "missing.yaml"),
        ("verify --policy-rego missing.rego HOST/team/project:v1", "none is named"),
        ("verify --key k.pub --trusted-root missing.json HOST/team/project:v1", "missing.json"),
        (
            "cat --certificate-identity-regexp ( --certificate-oidc-issuer i HOST/team/project:v1 README.md",
            "not usable",
        ),
    ] {
        let failed = run(&place, line);
        let text = stderr(&failed.code(2));
        assert!(text.contains(reason), "{line}: {text}");
    }
}

#[test]
fn policy_files_decide_and_slips_in_them_are_found() {
    let place = place();
    run(&place, "sign --key k.key HOST/team/project:v1").success();
    let write = |name: &str, text: &str| fs::write(place.path(name), text).unwrap();
    write("signed.yaml", "signature: {key: {path: k.pub, transparency_log: none}}\n");
    write("built.yaml", "provenance: {slsa: {repository: acme/app}}\n");
    write("slip.yaml", "signature:\n  key:\n    pth: k.pub\n");
    write("empty.yaml", "# nothing\n");
    write("other.yaml", "policies: [{match: ^ghcr.io/, policy: {signature: {key: {path: k.pub}}}}]\n");
    write("rules.rego", "package blob.policy\nallow if { some s in input.signatures; input.manifest.annotations }\n");
    write("deny.rego", "package blob.policy\nallow := true\ndeny contains \"not on Fridays\"\n");
    write("fail.yaml", "rego: {modules: fail.rego, signer: {key: {path: k.pub, transparency_log: none}}}\n");
    write("fail.rego", "package blob.policy\nallow if to_number(\"x\") > 0\n");
    let verify = |flags: &str| run(&place, &format!("verify {flags} HOST/team/project:v1"));
    verify("--policy signed.yaml").success();
    verify("--policy signed.yaml --policy-rego rules.rego").success();
    for (flags, code, reason) in [
        ("--policy signed.yaml --policy built.yaml", 6, "provenance by"),
        ("--policy signed.yaml --policy-rego deny.rego", 6, "not on Fridays"),
        ("--policy slip.yaml", 2, "slip.yaml:3:5: signature.key: unknown field `pth`"),
        ("--policy slip.yaml", 2, "did you mean `path`?"),
        ("--policy empty.yaml", 2, "an empty policy would verify nothing"),
        ("--policy other.yaml", 2, "has no rule for"),
        ("--policy signed.yaml --policy other.yaml", 2, "other.yaml has no rule for"),
    ] {
        let text = stderr(&verify(flags).code(code));
        assert!(text.contains(reason), "{flags}: {text}");
    }
    let text = stderr(&run(&place, "cat --policy other.yaml HOST/team/project:v1 README.md").code(2));
    assert!(text.contains("has no rule for"), "{text}");
    let checked = stdout(&run(&place, "policy check signed.yaml built.yaml other.yaml").success());
    assert!(checked.contains("signed.yaml: ok"), "{checked}");
    for (file, reason) in [("slip.yaml", "slip.yaml:3:5"), ("fail.yaml", "the rules failed")] {
        let text = stderr(&run(&place, &format!("policy check {file}")).code(2));
        assert!(text.contains(reason), "{text}");
    }
}

/// Rules in Rego see the claims of those whom the file names for this archive, and with the trust root that it names.
#[test]
fn rules_see_the_signers_that_a_file_names_for_the_archive() {
    let place = place();
    keys(&place, "other");
    run(&place, "sign --key k.key HOST/team/project:v1").success();
    let write = |name: &str, text: &str| fs::write(place.path(name), text).unwrap();
    let rule = |pattern: &str, key: &str| {
        format!(
            "  - match: {pattern}\n    policy: {{signature: {{key: {{path: {key}.pub, transparency_log: none}}}}}}\n"
        )
    };
    write("rules.rego", "package blob.policy\nallow if { some s in input.signatures }\n");
    write("elsewhere.yaml", &format!("policies:\n{}{}", rule("^ghcr.io/", "other"), rule("/team/project", "k")));
    write("two.yaml", &format!("policies:\n{}{}", rule("/team/", "k"), rule("/project", "other")));
    write("root.yaml", "trusted_root: missing.json\nsignature: {key: {path: k.pub}}\n");
    let verify = |flags: &str| run(&place, &format!("verify --policy-rego rules.rego {flags} HOST/team/project:v1"));
    verify("--policy elsewhere.yaml").success();
    for (flags, reason) in [("--policy two.yaml", "several kinds of signers"), ("--policy root.yaml", "missing.json")] {
        let text = stderr(&verify(flags).code(2));
        assert!(text.contains(reason), "{flags}: {text}");
    }
}

/// A file that is for one of two archives would leave the other to nobody.
#[test]
fn a_policy_file_must_be_for_every_archive_that_is_read() {
    let place = place();
    run(&place, "sign --key k.key HOST/team/project:v1").success();
    run(&place, "push HOST/team/other:v1 project").success();
    let rule =
        "policies: [{match: /team/project, policy: {signature: {key: {path: k.pub, transparency_log: none}}}}]\n";
    fs::write(place.path("one.yaml"), rule).unwrap();
    for line in [
        "diff --policy one.yaml HOST/team/project:v1 HOST/team/other:v1",
        "diff --policy one.yaml HOST/team/other:v1 HOST/team/project:v1",
        "copy --policy one.yaml HOST/team/other:v1 HOST/team/project:v2",
    ] {
        let text = stderr(&run(&place, line).code(2));
        assert!(text.contains("has no rule for") && text.contains("team/other"), "{line}: {text}");
    }
    // Where a copy goes is not read.
    run(&place, "copy --policy one.yaml HOST/team/project:v1 HOST/team/copied:v1").success();
}

#[test]
fn nobody_is_asked_for_a_trust_root_when_policies_are_tried_out() {
    let place = place();
    fs::write(
        place.path("manifest.json"),
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
    )
    .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    fs::write(place.path("root.json"), r#"{"signed":{"_type":"root"}}"#).unwrap();
    let line = format!("policy test --repo acme/app --tuf-url {url} --tuf-root root.json manifest.json");
    let text = stderr(&run(&place, &line).failure());
    assert!(text.contains("--trusted-root"), "{text}");
    assert!(listener.accept().is_err(), "somebody was asked");
}

#[test]
fn policies_are_tested_on_saved_evidence() {
    let place = Place::laid_out();
    keys(&place, "k");
    let sign = "sign --key k.key --no-upload --output-bundle b.json oci:layout:v1";
    run(&place, sign).success();
    let index: Value = serde_json::from_slice(&fs::read(place.path("layout/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    fs::copy(place.path(format!("layout/blobs/{digest}")), place.path("manifest.json")).unwrap();
    let policy = "--key k.pub --insecure-ignore-tlog";
    run(&place, &format!("policy test {policy} --bundle b.json manifest.json")).success();
    let refused = run(&place, &format!("policy test {policy} manifest.json")).code(6);
    assert!(stdout(&refused).contains("no signature found"), "{}", stdout(&refused));
    // The same evidence, beside a layout that holds none.
    run(&place, &format!("verify {policy} oci:layout:v1")).code(6);
    run(&place, &format!("verify {policy} --bundle b.json oci:layout:v1")).success();
    run(&place, "policy test manifest.json").code(2);
}

#[test]
fn attestations_are_attached_and_judged() {
    let place = place();
    fs::write(place.path("scan.json"), "{\"found\": 0}").unwrap();
    fs::write(
        place.path("rules.rego"),
        "package blob.policy\nallow if { some a in input.attestations; a.predicate.found == 0 }\n",
    )
    .unwrap();
    let rules = "--key k.pub --insecure-ignore-tlog --policy-rego rules.rego";
    run(&place, "sign --key k.key HOST/team/project:v1").success();
    run(&place, &format!("verify {rules} HOST/team/project:v1")).code(6);
    run(&place, "attest --key k.key --type https://example.com/scan/v1 --predicate scan.json HOST/team/project:v1")
        .success();
    run(&place, &format!("verify {rules} HOST/team/project:v1")).success();
    for (line, reason) in [
        ("attest --key k.key --type nonsense --predicate scan.json HOST/team/project:v1", "nonsense"),
        ("attest --key k.key --type spdx --predicate rules.rego HOST/team/project:v1", "is not JSON"),
    ] {
        let text = stderr(&run(&place, line).code(2));
        assert!(text.contains(reason), "{line}: {text}");
    }
}

#[test]
fn without_a_key_or_a_token_nobody_signs() {
    let place = place();
    for line in ["sign HOST/team/project:v1", "push --sign HOST/a/b:v1 project"] {
        let mut command = place.command(line);
        for name in [
            "SIGSTORE_ID_TOKEN",
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "BUILDKITE_AGENT_ACCESS_TOKEN",
            "CIRCLECI",
            "GITHUB_ACTIONS",
        ] {
            command.env_remove(name);
        }
        let text = stderr(&place.assert(&mut command).code(4));
        assert!(text.contains("identity token") && text.contains("--key"), "{line}: {text}");
    }
    place.run("ls HOST/a/b:v1").code(3);
}

/// The public conformance cases; `None`, said aloud, where they are not at hand.
#[allow(clippy::print_stderr)] // a test that did not run says so
fn cases() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let Some(dir) = std::env::var_os("BLOB_FIXTURES") else {
        let must = std::env::var_os("CI").is_some() && beside.exists();
        assert!(!must, "BLOB_FIXTURES is not set, although the fixtures are there");
        eprintln!("not run: BLOB_FIXTURES");
        return None;
    };
    Some(PathBuf::from(dir).join("sigstore"))
}

#[test]
fn bundles_are_verified_as_the_conformance_suite_asks() {
    let Some(all) = cases() else { return };
    let (place, folder) = (Place::offline(), all.join("bundle-verify"));
    let text = |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let identity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(&folder).unwrap() {
        let case = entry.unwrap().path();
        if !case.is_dir() {
            continue;
        }
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let own = case.join("artifact");
        let artifact = if own.exists() { own } else { folder.join("a.txt") };
        let digest = digest_of(&artifact);
        let own_root = case.join("trusted_root.json");
        let root = if own_root.exists() { own_root } else { all.join("production_trusted_root.json") };
        for artifact in [artifact.display().to_string(), digest] {
            let mut command = place.command("verify-bundle");
            command.arg("--bundle").arg(case.join("bundle.sigstore.json")).arg("--trusted-root").arg(&root);
            if case.join("key.pub").exists() {
                command.arg("--key").arg(case.join("key.pub"));
            } else {
                let issuer = "https://token.actions.githubusercontent.com";
                command
                    .arg("--certificate-identity")
                    .arg(text(case.join("identity")).unwrap_or_else(|| identity.into()));
                command
                    .arg("--certificate-oidc-issuer")
                    .arg(text(case.join("issuer")).unwrap_or_else(|| issuer.into()));
            }
            let output = command.arg(&artifact).args(["-o", "json"]).output().unwrap();
            if output.status.success() {
                crate::schema::check("verify-bundle", &String::from_utf8_lossy(&output.stdout));
            }
            count += 1;
            if output.status.success() == name.ends_with("_fail") {
                wrong.push(format!("{name} as {artifact}: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
    }
    assert!(count >= 78, "only {count} cases found");
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn digest_of(path: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output().unwrap();
    format!("sha256:{}", String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap())
}

/// What reads archives and takes the flags of trust, besides `READS`.
const MORE: [&str; 8] = [
    "export --file out.tar HOST/team/project:v1",
    "find HOST/team/project:v1",
    "du HOST/team/project:v1",
    "stat HOST/team/project:v1 README.md",
    "check HOST/team/project:v1",
    "check --read-data HOST/team/project:v1",
    "diff HOST/team/project:v1 project",
    "copy HOST/team/project:v1 oci:copied:v1",
];

/// The place with a proxy that counts in front of its server, and the digest of the data of the archive.
fn watched() -> (Place, ProxyHandle, String) {
    let place = place();
    let proxy = Proxy::start(place.host().parse().unwrap(), ProxyOptions::default()).unwrap();
    let inspected = stdout(&run(&place, "-o json inspect HOST/team/project:v1").success());
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let digest = inspected["digest"].as_str().unwrap();
    run(&place, &format!("copy HOST/team/project@{digest} oci:peek:v1")).success();
    let manifest = fs::read(place.path(format!("peek/blobs/{}", digest.replace(':', "/")))).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let data = manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
    fs::remove_dir_all(place.path("peek")).unwrap();
    (place, proxy, data)
}

#[test]
fn every_command_that_reads_refuses_before_it_asks_for_data() {
    let (place, proxy, data) = watched();
    keys(&place, "other");
    run(&place, "sign --key other.key HOST/team/project:v1").success();
    let through = |line: &str| line.replace("HOST", &proxy.addr().to_string());
    for read in READS.iter().chain(&MORE) {
        for (flags, reason) in
            [("--key k.pub --insecure-ignore-tlog", "does not verify"), ("--repo acme/app", "made with a managed key")]
        {
            drop(proxy.take());
            let refused = run(&place, &through(&format!("{read} --no-cache {flags}"))).code(6);
            assert!(stderr(&refused).contains(reason), "{read}: {}", stderr(&refused));
            assert_eq!(stdout(&refused), "", "{read}");
            let asked = proxy.take();
            assert!(!asked.is_empty() && !asked.iter().any(|seen| seen.path.contains(&data)), "{read}: {asked:?}");
        }
    }
    for written in ["out", "out.tar", "copied"] {
        assert!(!place.path(written).exists(), "{written}");
    }
    // What is asked for without anybody to ask is a mistake everywhere.
    for read in READS.iter().chain(&MORE).filter(|read| !read.starts_with("verify")) {
        let text = stderr(&run(&place, &format!("{read} --verify")).code(2));
        assert!(text.contains("--verify without a policy"), "{read}: {text}");
    }
    let text = stderr(&run(&place, "diff --key k.pub project project").code(2));
    assert!(text.contains("two directories"), "{text}");
    for read in &MORE {
        let read = run(&place, &format!("{read} --key other.pub --insecure-ignore-tlog")).success();
        assert_eq!(stderr(&read), "");
    }
}

#[test]
fn both_sides_of_a_comparison_are_verified() {
    let place = place();
    run(&place, "push -q HOST/team/unsigned:v1 project").success();
    run(&place, "sign --key k.key HOST/team/project:v1").success();
    let by_key = "--key k.pub --insecure-ignore-tlog";
    for (from, to) in [("project:v1", "unsigned:v1"), ("unsigned:v1", "project:v1")] {
        let line = format!("diff {by_key} HOST/team/{from} HOST/team/{to}");
        assert!(stderr(&run(&place, &line).code(6)).contains("no signature found"), "{line}");
    }
    run(&place, &format!("diff {by_key} HOST/team/project:v1 HOST/team/project:v1")).success();
}

/// Writes rules to the configuration of the place; the key is `k.pub`.
fn configure(place: &Place, rules: &str) {
    let config = place.path("home/.config/blob");
    fs::create_dir_all(&config).unwrap();
    fs::copy(place.path("k.pub"), config.join("k.pub")).unwrap();
    fs::write(config.join("config.yaml"), rules).unwrap();
}

const BY_K: &str = "policy: {signature: {key: {path: k.pub, transparency_log: none}}}";

#[test]
fn a_copy_of_all_tags_heeds_rules_for_single_tags() {
    let place = place();
    for tag in ["v2", "v3"] {
        run(&place, &format!("push -q --annotation tag={tag} HOST/team/project:{tag} project")).success();
    }
    configure(&place, &format!("policies:\n  - match: team/project:v2$\n    {BY_K}\n"));
    let refused = run(&place, "copy --all-tags HOST/team/project oci:all").code(6);
    assert!(stderr(&refused).contains("no signature found"), "{}", stderr(&refused));
    let held: Value = serde_json::from_slice(&fs::read(place.path("all/index.json")).unwrap()).unwrap();
    let tags: Vec<_> = held["manifests"].as_array().unwrap().iter().collect();
    assert!(tags.iter().all(|held| held["annotations"]["org.opencontainers.image.ref.name"] != "v2"), "{tags:?}");
    run(&place, "copy HOST/team/project:v3 oci:one").success();
    run(&place, "sign --key k.key HOST/team/project:v2").success();
    let copied = stdout(&run(&place, "copy --all-tags HOST/team/project oci:all").success());
    assert!(copied.contains("Tagged: v2"), "{copied}");
    // And flags for each of them.
    let refused = run(&place, "copy --all-tags --key k.pub --insecure-ignore-tlog HOST/team/project oci:more").code(6);
    assert!(stderr(&refused).contains("no signature found"), "{}", stderr(&refused));
    // Only what was signed came along.
    assert_eq!(stdout(&run(&place, "tags oci:more")), "v2\n");
}

#[test]
fn another_spelling_of_the_host_is_no_way_around_a_rule() {
    let place = place();
    let (_, port) = place.host().split_once(':').unwrap();
    configure(&place, &format!("policies:\n  - match: ^localhost:{port}/\n    {BY_K}\n"));
    for host in ["localhost", "LOCALhost", "LocalHost"] {
        let refused = run(&place, &format!("--plain-http ls {host}:{port}/team/project:v1")).code(6);
        assert!(stderr(&refused).contains("no signature found"), "{host}: {}", stderr(&refused));
    }
    // Another name of this machine is another host, and has rules of its own.
    run(&place, "ls HOST/team/project:v1").success();
}

#[test]
fn an_empty_variable_does_not_switch_off_what_files_demand() {
    let place = place();
    let config = place.path("home/.config/blob");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.yaml"), "require_signed: true\n").unwrap();
    let ls = |value: Option<&str>| {
        let mut command = place.command("ls HOST/team/project:v1");
        command.envs(value.map(|value| ("BLOB_REQUIRE_SIGNED", value)));
        place.assert(&mut command)
    };
    for value in [None, Some(""), Some("true"), Some("1")] {
        let text = stderr(&ls(value).code(6));
        assert!(text.contains("no policy") || text.contains("not verified"), "{value:?}: {text}");
    }
    // Who runs the command may say otherwise, but has to say it.
    ls(Some("false")).success();
}

#[test]
fn a_rule_for_a_layout_holds_however_its_path_is_typed() {
    let place = Place::laid_out();
    keys(&place, "k");
    let real = fs::canonicalize(place.root.path()).unwrap();
    std::os::unix::fs::symlink("layout", place.path("link")).unwrap();
    std::os::unix::fs::symlink(&real, place.path("here")).unwrap();
    configure(&place, &format!("policies:\n  - match: ^oci:{}/layout(:|@|$)\n    {BY_K}\n", real.display()));
    let typed = [
        "layout".to_owned(),
        "./layout".to_owned(),
        "project/../layout".to_owned(),
        "link".to_owned(),
        "here/layout".to_owned(),
        "here/link/".to_owned(),
        format!("{}/layout", real.display()),
    ];
    for path in &typed {
        let refused = run(&place, &format!("ls oci:{path}:v1")).code(6);
        assert!(stderr(&refused).contains("no signature found"), "{path}: {}", stderr(&refused));
    }
    run(&place, "copy --no-default-policy oci:layout:v1 oci:layout2:v1").success();
    run(&place, "ls oci:layout2:v1").success();
    run(&place, "sign --key k.key oci:link:v1").success();
    for path in &typed {
        run(&place, &format!("ls oci:{path}:v1")).success();
    }
}

#[test]
fn verdicts_are_forgotten_with_the_cache() {
    let place = place();
    run(&place, "sign --key k.key HOST/team/project:v1").success();
    run(&place, "ls --key k.pub --insecure-ignore-tlog HOST/team/project:v1").success();
    let verdicts = || place.listing("home/.cache/blob").into_iter().any(|name| name.starts_with("verdicts-v1/"));
    assert!(verdicts());
    run(&place, "cache clear -q --force manifests").success();
    assert!(verdicts());
    run(&place, "cache clear -q --force").success();
    assert!(!verdicts());
}

#[test]
fn what_is_no_archive_is_copied_if_it_is_signed() {
    let place = place();
    // A signature is an artifact that is no archive.
    run(&place, "sign --key k.key HOST/team/project:v1").success();
    let listed = stdout(&run(&place, "-o json referrers HOST/team/project:v1").success());
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let other = format!("HOST/team/project@{}", listed["referrers"][0]["digest"].as_str().unwrap());
    let copy = format!("copy --key k.pub --insecure-ignore-tlog {other} oci:other:v1");
    assert!(stderr(&run(&place, &copy).code(6)).contains("no signature found"));
    assert!(!place.path("other").exists());
    run(&place, &format!("sign --key k.key {other}")).success();
    run(&place, &copy).success();
}

/// Runs a command on a terminal, answers its questions with what stands beside them, and returns what was shown; without an
/// answer the command is interrupted.
fn typed(place: &Place, words: &[&str], answers: &[(&str, Option<&str>)]) -> (String, portable_pty::ExitStatus) {
    let pty = native_pty_system().openpty(PtySize::default()).unwrap();
    let mut command = CommandBuilder::new(BLOB);
    command.args(words);
    command.cwd(place.root.path());
    command.env_clear();
    command.env("HOME", place.path("home"));
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let (mut screen, mut keys) = (pty.master.try_clone_reader().unwrap(), pty.master.take_writer().unwrap());
    let (mut shown, mut bytes) = (String::new(), [0; 256]);
    let mut left = answers.iter().peekable();
    loop {
        if let Some((_, answer)) = left.next_if(|(question, _)| shown.contains(question)) {
            // Ctrl-C is a character, too.
            let line = answer.map_or("\u{3}".to_owned(), |answer| format!("{answer}\n"));
            keys.write_all(line.as_bytes()).unwrap();
            continue;
        }
        match screen.read(&mut bytes) {
            // A terminal whose last program has gone gives an error, not an end.
            Ok(0) | Err(_) => break,
            Ok(length) => shown += &String::from_utf8_lossy(&bytes[..length]),
        }
    }
    assert!(left.peek().is_none(), "{shown}");
    (shown, child.wait().unwrap())
}

#[test]
fn passwords_of_keys_are_asked_for_and_not_shown() {
    let place = Place::laid_out();
    let (new, again) = ("Password for the new key: ", "Again: ");
    let make = ["generate-key-pair", "k"];
    let (shown, status) = typed(&place, &make, &[(new, Some("hunter2")), (again, Some("hunter3"))]);
    assert!(!status.success() && shown.contains("the passwords differ") && !shown.contains("hunter"), "{shown}");
    let (shown, status) = typed(&place, &make, &[(new, None)]);
    assert_eq!(status.exit_code(), 130, "{shown}");
    assert!(!place.path("k.key").exists());
    let (shown, status) = typed(&place, &make, &[(new, Some("hunter2")), (again, Some("hunter2"))]);
    assert!(status.success() && !shown.contains("hunter"), "{shown}");
    // Nobody is asked for what would be thrown away.
    let (shown, status) = typed(&place, &make, &[]);
    assert!(status.exit_code() == 2 && shown.contains("never overwritten"), "{shown}");
    let sign = ["sign", "--key", "k.key", "oci:layout:v1"];
    let (shown, status) = typed(&place, &sign, &[("Password of k.key: ", Some("wrong"))]);
    assert!(status.exit_code() == 2 && shown.contains("does not open"), "{shown}");
    let (shown, status) = typed(&place, &sign, &[("Password of k.key: ", Some("hunter2"))]);
    assert!(status.success() && !shown.contains("hunter"), "{shown}");
    run(&place, "verify --key k.pub --insecure-ignore-tlog oci:layout:v1").success();
}
