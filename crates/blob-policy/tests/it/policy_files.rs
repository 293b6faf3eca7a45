//! Policy files: both dialects are read, nothing is left out in silence, and errors say where.

use std::fs;
use std::path::Path;

use blob_policy::file::{PolicyContext, PolicyFile, PolicyFileError, PolicySet, spellings};
use blob_policy::sigstore::TrustRoot;
use blob_policy::{Policy as _, PolicyError, RequireAll};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Shelf, Signer, rejected};

fn parse(text: &str) -> Result<PolicyFile, PolicyFileError> {
    PolicyFile::parse(text, Path::new("p.yaml"))
}

fn refused(text: &str) -> String {
    match parse(text) {
        Err(error) => error.to_string(),
        Ok(file) => panic!("{text}: read as {file:?}"),
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let whole = "signature:\n  keyless:\n    issuer: https://i\n    identity: a\n";
    parse(whole).unwrap();
    let mut wrong = Vec::new();
    for (text, expect) in [
        ("", "p.yaml holds no policy"),
        ("# nothing\n---\n", "p.yaml holds no policy"),
        ("{}", "p.yaml holds no policy"),
        ("trusted_root: r.json\n", "p.yaml holds no policy"),
        ("policies: []\n", "p.yaml holds no policy"),
        ("signatur:\n  keyless: {}\n", "p.yaml:1:1: unknown field `signatur`"),
        ("signatur:\n  keyless: {}\n", "did you mean `signature`?"),
        ("signature:\n  keyles:\n    issuer: a\n", "p.yaml:2:3: signature: unknown field `keyles`"),
        ("signature:\n  keyless:\n    issuer: a\n    identiy: b\n", "p.yaml:4:5"),
        ("signature:\n  keyless:\n    issuer: a\n    identiy: b\n", "did you mean `identity`?"),
        ("signature:\n", "p.yaml:1:1: the signature names no signer"),
        ("signature: {}\n", "names no signer"),
        ("signature:\n  keyless: []\n", "p.yaml:2:12: signature.keyless: the list is empty"),
        ("signature:\n  keyless:\n    issuer: a\n", "the signer needs `identity` or `identity_regex`"),
        ("signature:\n  keyless:\n    identity: a\n", "the signer needs `issuer` or `issuer_regex`"),
        ("signature:\n  keyless:\n    issuer: ''\n    identity: a\n", "p.yaml:3:13"),
        ("signature:\n  keyless:\n    issuer: a\n    identity_regex: '('\n", "p.yaml:4:21"),
        ("signature:\n  keyless:\n    issuer: a\n    identity: a\n    identity_regex: b\n", "exclude each other"),
        ("signature:\n  issuer: a\n  subject_regex: b\n  keyless: {issuer: a, identity: b}\n", "not in both"),
        ("signature:\n  key: {path: k}\n  keyless: {issuer: a, identity: b}\n", "by certificate or by key"),
        ("signature:\n  key: {url: 'https://k'}\n", "keys are not fetched"),
        ("signature:\n  key: {}\n", "the key needs `path`"),
        ("signature:\n  key: {path: k, transparency_log: maybe}\n", "unknown variant `maybe`"),
        ("signature:\n  key: [{path: a}, {path: b, transparency_log: none}]\n", "the same transparency_log"),
        ("provenance:\n  slsa: {}\n", "names no `repository` and no `builder`"),
        ("provenance:\n  slsa:\n    branch: main\n", "names no `repository` and no `builder`"),
        ("provenance:\n  slsa:\n    repository: a/b\n    branch: ''\n", "p.yaml:4:"),
        ("provenance:\n  slsa:\n    repository: a/b\n    brach: main\n", "did you mean `branch"),
        ("provenance:\n  slsa: {repository: a/b}\n  builder: https://b/c\n", "not in both"),
        ("rego: {}\n", "missing field `modules`"),
        ("rego: {modules: []}\n", "the list is empty"),
        ("rego: {modules: r.rego, signer: {key: {path: k}, threshold: 1}}\n", "`threshold` stands below `signature`"),
        (
            "signature: {keyless: {issuer: a, identity: b, claims: {source_repository_ref: a, source_repository_ref: b}}}\n",
            "duplicate",
        ),
        ("policies:\n  - policy: {signature: {keyless: {issuer: a, identity: b}}}\n", "missing field `match`"),
        ("policies:\n  - match: '('\n    policy: {}\n", "p.yaml:2:12"),
        ("policies:\n  - match: ''\n    policy: {}\n", "the pattern of references is empty"),
        ("policies:\n  - match: x\n    policy: {}\n", "the policy asks for nothing"),
        ("policies:\n  - match: x\n", "missing field `policy`"),
        ("signature: {issuer: a, identity: b}\nsignature: {issuer: a, identity: c}\n", "duplicate"),
        ("signature: &a [*a]\n", "p.yaml:1:"),
        ("- signature\n", "p.yaml:1:1"),
        ("signature: [\n", "p.yaml:"),
        ("a: b: c\n", "p.yaml:1:"),
        ("signature: {key: {path: key.pub}, threshold: 2}", "p.yaml:1:1: the threshold is 2, and 1 signers"),
        ("signature: {key: {path: key.pub}, threshold: 0}", "p.yaml:1:1: the threshold is 0"),
        ("signature: {keyless: {issuer: a, identity: b, claims: {nonsense: x}}}", "p.yaml:1:1: the claim nonsense"),
        ("signature: {github: {repository: acme}}", "p.yaml:1:1: the GitHub workflow cannot"),
        ("signature: {github: {repository: a/b, server: 'https://x'}}", "not a host name"),
        ("signature: {github: {repository: a/b, issuer: acme}}", "not an issuer"),
        ("signature: {github: {repository: a/b, workflow: d/x.yml}}", "not the path of a workflow file"),
        ("signature: {gitlab: {project: acme}}", "the GitLab project cannot be asked for"),
        ("signature: {gitlab: {project: a/b, server: a/b}}", "not a host name"),
        ("signature: {gitlab: {project: a/b, issuer: i}}", "unknown field `issuer`"),
        ("signature: {gitlab: {branches: main}}", "missing field `project`"),
        ("signature: {google: ann}", "not an e-mail address"),
        ("signature: {google: []}", "the list is empty"),
        ("signature: {email: {address: ann@example.com}}", "missing field `issuer`"),
        ("signature: {email: {address: '*@example.com', issuer: 'https://i'}}", "not an e-mail address"),
        ("provenance: {slsa: {repository: acme}}", "p.yaml:1:1: \"acme\" is not a repository"),
        ("provenance: {slsa: {builder: nonsense}}", "is not a builder"),
        ("provenance: {slsa: {repository: 'https://h/a/b', server: h}}", "named as owner/name"),
        ("provenance: {slsa: {repository: a/b, server: 'h/x'}}", "not a host name"),
    ] {
        let said = refused(text);
        if !said.contains(expect) || said.contains('\n') {
            wrong.push(format!("{text:?}\n  said: {said}\n  not: {expect}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    assert!(matches!(PolicyFile::read(&path("none.yaml")), Err(PolicyFileError::Read { .. })));
    fs::write(path("huge.yaml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(matches!(PolicyFile::read(&path("huge.yaml")), Err(PolicyFileError::TooLarge { .. })));
    fs::write(path("odd.yaml"), b"\xff\xfe").unwrap();
    assert!(matches!(PolicyFile::read(&path("odd.yaml")), Err(PolicyFileError::NotText { .. })));

    let context = PolicyContext::beside(&path("p.yaml"));
    fs::write(path("junk"), "junk").unwrap();
    fs::write(path("private"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    fs::write(path("bad.rego"), "package blob.policy\nallow {").unwrap();
    fs::write(path("key.pub"), Signer::p256().pem()).unwrap();
    for (text, expect) in [
        ("signature: {key: {path: missing}}", "reading "),
        ("signature: {key: {path: junk}}", "not a usable public key"),
        ("signature: {key: {path: private}}", "is a private key"),
        ("signature: {key: {path: key.pub}}\ntrusted_root: junk", "the trust root "),
        ("signature: {key: [{path: key.pub}, {path: key.pub}]}", "the signers cannot be used"),
        ("provenance: {slsa: {repository: 'https://gitlab.com/a/b'}}", "add provenance.signer"),
        ("provenance: {slsa: {builder: 'https://example.com/b@v1'}}", "add provenance.signer"),
        ("rego: {modules: bad.rego}", "signers whom one names"),
        ("rego: {modules: bad.rego, signer: {key: {path: key.pub}}}", "the rules in Rego cannot be used"),
        ("rego: {modules: missing.rego, signer: {key: {path: key.pub}}}", "reading "),
    ] {
        let built = parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).rules[0].build(&context);
        let said = built.map(drop).unwrap_err().to_string();
        assert!(said.contains(expect), "{text}: {said}");
    }
}

#[test]
fn both_dialects_and_all_that_is_documented_build() {
    let context = PolicyContext::within(Path::new(""));
    for (text, names) in [
        (
            "signature:\n  keyless:\n    issuer: https://token.actions.githubusercontent.com\n    identity: https://github.com/acme/app/.github/workflows/*@refs/tags/*\nprovenance:\n  slsa:\n    repository: acme/app\n    branch: main\n    tag: v*\n",
            vec![
                "signature by https://github.com/acme/app/.github/workflows/*@refs/tags/* (issuer https://token",
                "provenance by ",
            ],
        ),
        (
            "signature:\n  issuer: https://accounts.google.com\n  subject_regex: .*@acme\\.example\nprovenance:\n  builder: https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_generic_slsa3.yml@refs/tags/*\n  source_repo: https://github.com/acme/app\n  branches: [main, release/*]\n  tags: ['v*']\n",
            vec!["signature by .*@acme\\.example", "provenance by https://github.com/slsa-framework/"],
        ),
        (
            "signature: {github: {repository: acme/app, server: git.acme.example}, gitlab: {project: acme/tools/app, tags: v*, server: lab.acme.example}, google: [ann@example.com, bob@example.com], email: {address: eve@example.com, issuer: 'https://id.acme.example'}}",
            vec![
                "signature by a workflow of https://git.acme.example/acme/app or https://lab.acme.example/** (issuer https://lab.acme.example) or ann@example.com (issuer https://accounts.google.com) or bob@",
            ],
        ),
        (
            "provenance: {slsa: {repository: acme/app, server: acme.ghe.com}}",
            vec!["provenance by a workflow of https://acme.ghe.com/acme/app"],
        ),
        (
            "signature: {github: [{repository: acme/app, branches: main, workflow: release.yml, triggers: push}]}",
            vec!["signature by "],
        ),
        (
            "provenance: {slsa: {repository: acme/*}}",
            vec!["provenance by https://github.com/acme/*/.github/workflows/*@**"],
        ),
        (
            "provenance: {source_repo_regex: 'https://github\\.com/acme/.*', signer: {issuer: i, identity: a}}",
            vec!["provenance by a (issuer i)"],
        ),
        (
            "provenance: {builder: 'https://*/b', signer: {issuer: i, identity: a}, refs: 'refs/pull/*/merge', workflow: x.yml}",
            vec!["provenance by a"],
        ),
    ] {
        let file = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        // What is read can be written, and read again: configurations are put together of layers.
        let written = yaml_serde::to_string(&file.rules[0].policy).unwrap();
        let again = parse(&written).unwrap_or_else(|e| panic!("{written}: {e}"));
        assert_eq!(again.rules, file.rules, "{written}");
        let built = file.rules[0].build(&context).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(built.len(), names.len(), "{text}");
        for (policy, name) in built.iter().zip(names) {
            assert!(policy.name().starts_with(name), "{} is not {name}", policy.name());
            assert!(policy.fingerprint().is_some());
        }
    }
}

#[test]
fn rules_are_for_the_references_that_they_match() {
    let text = "policies:\n- match: ^ghcr\\.io/acme/\n  policy: {signature: {issuer: i, identity: a}}\n\
                - match: '/app:'\n  policy: {signature: {issuer: i, identity: b}}\n\
                - match: ^other\\.example/\n  policy: {signature: {key: {path: missing}}}\n";
    let (file, context) = (parse(text).unwrap(), PolicyContext::within(Path::new("")));
    let of = |reference: &str| {
        let names = vec![spellings(&reference.parse().unwrap())];
        let mut set = PolicySet::new();
        set.add_rules(&file.rules, &context, &names).map(|()| set.policies_for(&names[0]).len())
    };
    assert_eq!(of("ghcr.io/acme/app:v1").unwrap(), 2);
    assert_eq!(of("GHCR.io:443/acme/app:v1").unwrap(), 2);
    assert_eq!(of("ghcr.io/acme/lib:v1").unwrap(), 1);
    assert_eq!(of("quay.io/acme/app:v1").unwrap(), 1);
    assert_eq!(of("quay.io/acme/lib:v1").unwrap(), 0);
    // Only what is asked for has to be there; but that must be.
    assert!(of("other.example/a:v1").is_err());
}

/// A folder with a key, and a policy over it.
async fn judged(text: &str, key: &Signer, shelf: &Shelf) -> Result<(), PolicyError> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("key.pub"), key.pem()).unwrap();
    fs::write(dir.path().join("data.json"), json!({"allowed": ["p"]}).to_string()).unwrap();
    let rules = "package blob.policy\nallow if { some a in input.attestations; a.predicateType in data.allowed }\n";
    fs::write(dir.path().join("rules.rego"), rules).unwrap();
    let path = dir.path().join("policy.yaml");
    fs::write(&path, text).unwrap();
    let policies = PolicyFile::read(&path).unwrap().rules[0].build(&PolicyContext::beside(&path)).unwrap();
    shelf.judge(&RequireAll::new(policies).unwrap()).await.map(drop)
}

#[tokio::test]
async fn keys_modules_and_documents_beside_the_file_decide() {
    let (key, other) = (Signer::p256(), Signer::p256());
    let signature = "signature: {key: {path: key.pub, transparency_log: none}}\n";
    let both = format!("{signature}rego: {{modules: rules.rego, data: data.json}}\n");
    let shelf = Shelf::new();
    let digest = shelf.descriptor.digest;
    rejected(judged(signature, &key, &shelf).await.map(|()| panic!("unsigned")));
    shelf.sign(key.signature(&digest)).await;
    judged(signature, &key, &shelf).await.unwrap();
    rejected(judged(signature, &other, &shelf).await.map(|()| panic!("signed by another")));
    rejected(judged(&both, &key, &shelf).await.map(|()| panic!("rules do not allow it")));
    shelf.sign(other.statement(&digest, "p", &json!({}))).await;
    rejected(judged(&both, &key, &shelf).await.map(|()| panic!("claimed by another")));
    shelf.sign(key.statement(&digest, "p", &json!({}))).await;
    judged(&both, &key, &shelf).await.unwrap();
    // A log is asked for unless it is said that none is.
    let logged = "signature: {key: {path: key.pub}}\n";
    let reasons = rejected(judged(logged, &key, &shelf).await.map(|()| panic!("not logged")));
    assert!(reasons.contains("no transparency log entry"), "{reasons}");
}

#[test]
fn a_fingerprint_changes_with_everything_that_decides() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let path = dir.path().join("policy.yaml");
    let fingerprint = |text: &str, context: PolicyContext| {
        parse(text).unwrap().rules[0].build(&context).unwrap()[0].fingerprint().unwrap()
    };
    let context = || PolicyContext::beside(&path);
    let (one, two) = (Signer::p256(), Signer::p256());
    write("key.pub", &one.pem());
    let text = "signature: {key: {path: key.pub}}";
    let first = fingerprint(text, context());
    assert_eq!(first, fingerprint(text, context()));
    assert_ne!(first, fingerprint("signature: {key: {path: key.pub, transparency_log: none}}", context()));
    let root = String::from_utf8(serde_json::to_vec(&production_root_with_a_space()).unwrap()).unwrap();
    let other_root = TrustRoot::from_json(root.as_bytes()).unwrap();
    assert_ne!(first, fingerprint(text, context().trusted_root(other_root)));
    write("key.pub", &two.pem());
    assert_ne!(first, fingerprint(text, context()));
}

/// A root that is usable and has another digest than the embedded one.
fn production_root_with_a_space() -> serde_json::Value {
    json!({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [], "certificateAuthorities": [], "ctlogs": [], "timestampAuthorities": []})
}
