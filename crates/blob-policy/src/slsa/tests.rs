//! Provenance that is believed, and provenance that is not.
#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;
use crate::sigstore::{CertificateClaims, CertificateSigner, San};

const BUILDER: &str = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main";
const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
const COMMIT: &str = "ebff8dfbd609b7b22237c7719ce07f2dc7934f5f";

/// Provenance as GitHub's own action writes it.
fn predicate(repository: &str) -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": {
                "repository": repository, "ref": "refs/heads/main", "path": ".github/workflows/release.yml",
            }},
            "resolvedDependencies": [
                {"uri": "git+https://github.com/other/dep@refs/heads/main", "digest": {"gitCommit": "00"}},
                {"uri": format!("git+{repository}@refs/heads/main"), "digest": {"gitCommit": COMMIT}},
            ],
        },
        "runDetails": {"builder": {"id": BUILDER}},
    })
}

fn github(repository: &str) -> CertificateSigner {
    let workflow = format!("{repository}/.github/workflows/release.yml@refs/heads/main");
    CertificateSigner {
        san: San::Uri(workflow.clone()),
        issuer: GITHUB_ISSUER.into(),
        claims: CertificateClaims {
            build_signer_uri: Some(workflow.clone()),
            build_config_uri: Some(workflow),
            source_repository_uri: Some(repository.into()),
            source_repository_ref: Some("refs/heads/main".into()),
            source_repository_digest: Some(COMMIT.into()),
            ..CertificateClaims::default()
        },
    }
}

const APP: &str = "https://github.com/acme/app";

fn judge(rule: &Provenance, predicate: &Value, signer: CertificateSigner) -> Result<String, String> {
    rule.judge(&Facts::v1(predicate)?, &Signer::Certificate(Box::new(signer)))
}

#[test]
fn sources_are_compared_in_parts() {
    let rule = Provenance::github_actions_workflow("acme/app").unwrap();
    for (source, expect) in [
        (APP, true),
        ("https://github.com/Acme/App", true),
        ("https://github.com/acme/app-evil", false),
        ("https://github.com/acme/app.fork", false),
        ("https://github.com/acme/apple", false),
        ("https://github.com/acme/app/sub", false),
        ("https://github.com.evil.example/acme/app", false),
    ] {
        assert_eq!(judge(&rule, &predicate(source), github(source)).is_ok(), expect, "{source}");
    }
    for (uri, expect) in [
        ("git+https://github.com/acme/app@refs/heads/main", true),
        ("https://github.com/acme/app.git", true),
        ("https://GitHub.com/acme/app/", true),
        ("https://github.com@evil.example/acme/app", false),
        ("https://user@github.com/acme/app", false),
        ("https://github.com/acme/%61pp", false),
        ("https://github.com/evil/../acme/app", false),
        ("http://github.com/acme/app", false),
        ("github.com/acme/app", false),
        ("", false),
    ] {
        let parsed = SourceUri::parse(uri);
        let same = parsed.is_some_and(|uri| uri.same_repository(&SourceUri::parse(APP).unwrap()));
        assert_eq!(same, expect, "{uri}");
    }
    for bad in ["", "acme", "acme/app/x", "acme/app@main"] {
        assert!(Provenance::github_actions_workflow(bad).is_err(), "{bad}");
    }
    assert!(Provenance::require_source("").is_err());
}

#[test]
fn certificate_and_predicate_must_agree() {
    let rule = Provenance::require_source(APP).unwrap();
    judge(&rule, &predicate(APP), github(APP)).unwrap();
    // A workflow of another repository claims to have built ours.
    let reason = judge(&rule, &predicate(APP), github("https://github.com/evil/app")).unwrap_err();
    assert!(reason.contains("the certificate"), "{reason}");
    for (path, what) in [
        ("/buildDefinition/externalParameters/workflow/ref", "ref"),
        ("/buildDefinition/externalParameters/workflow/path", "workflow"),
        ("/buildDefinition/resolvedDependencies/1/digest/gitCommit", "commit"),
    ] {
        let mut other = predicate(APP);
        *other.pointer_mut(path).unwrap() = json!("elsewhere");
        let reason = judge(&rule, &other, github(APP)).unwrap_err();
        assert!(reason.contains(what), "{path}: {reason}");
    }
}

#[test]
fn builders_by_base_and_version() {
    for (wanted, expect) in [
        (BUILDER, true),
        ("https://github.com/acme/app/.github/workflows/release.yml@refs/heads/*", true),
        ("https://github.com/acme/app/.github/workflows/release.yml@**", true),
        ("https://github.com/acme/app/.github/workflows/release.yml@refs/tags/*", false),
        ("https://github.com/acme/app/.github/workflows/release.yml", false),
        ("https://github.com/acme/app", false),
    ] {
        let rule = Provenance::require_builder(wanted).unwrap();
        assert_eq!(judge(&rule, &predicate(APP), github(APP)).is_ok(), expect, "{wanted}");
    }
    for bad in ["", "builder", "https://", "https://host", "https:///x"] {
        assert!(matches!(Provenance::require_builder(bad), Err(ProvenanceError::Builder(_))), "{bad}");
    }
    let mut nobody = predicate(APP);
    *nobody.pointer_mut("/runDetails/builder/id").unwrap() = json!("");
    assert!(Facts::v1(&nobody).unwrap_err().contains("no builder"));
}

/// Provenance that names its builder and nothing else that a certificate could contradict.
fn bare(builder: &str) -> Value {
    json!({
        "buildDefinition": {"externalParameters": {"workflow": {"repository": APP}}},
        "runDetails": {"builder": {"id": builder}},
    })
}

/// A certificate for a workflow of the same repository.
fn workflow(rest: &str) -> CertificateSigner {
    let uri = format!("{APP}/.github/workflows/{rest}");
    let claims = CertificateClaims { build_signer_uri: Some(uri.clone()), ..CertificateClaims::default() };
    CertificateSigner { san: San::Uri(uri), issuer: GITHUB_ISSUER.into(), claims }
}

#[test]
fn another_workflow_or_ref_cannot_claim_to_be_the_builder() {
    let rule = Provenance::require_source(APP).unwrap().builder(BUILDER).unwrap();
    let tagged = Provenance::require_builder(&BUILDER.replace("refs/heads/main", "refs/tags/v*")).unwrap();
    for (rest, expect) in [
        ("release.yml@refs/heads/main", true),
        ("evil.yml@refs/heads/main", false),
        ("release.yml@refs/heads/feature", false),
        ("release.yml@refs/heads/MAIN", false),
        ("Release.yml@refs/heads/main", false),
    ] {
        assert_eq!(judge(&rule, &bare(BUILDER), workflow(rest)).is_ok(), expect, "{rest}");
        // Without the extension the subject alternative name says it.
        let named = CertificateSigner { claims: CertificateClaims::default(), ..workflow(rest) };
        assert_eq!(judge(&rule, &bare(BUILDER), named).is_ok(), expect, "{rest}");
        let release = bare(&format!("{APP}/.github/workflows/release.yml@refs/tags/v1"));
        assert!(judge(&tagged, &release, workflow(rest)).unwrap_err().contains("the certificate"), "{rest}");
    }
    let shouted = BUILDER.replace("acme/app", "Acme/App");
    judge(&Provenance::require_builder(&shouted).unwrap(), &bare(&shouted), workflow("release.yml@refs/heads/main"))
        .unwrap();
}

#[test]
fn runners_are_confirmed_and_other_builders_at_github_are_not_believed() {
    let on = |environment: Option<&str>| {
        let mut signer = workflow("release.yml@refs/heads/main");
        signer.claims.runner_environment = environment.map(str::to_owned);
        signer
    };
    let hosted = "https://github.com/actions/runner/github-hosted";
    for (builder, environment, asked_for, otherwise) in [
        (hosted, Some("github-hosted"), true, true),
        (hosted, Some("self-hosted"), false, false),
        (hosted, None, false, true),
        ("https://github.com/actions/runner", None, true, true),
        ("https://github.com/acme/app/actions/runs/1", Some("github-hosted"), false, true),
        ("https://GitHub.com/acme/builder", None, false, true),
        ("https://builder.example/x", None, true, true),
    ] {
        let rule = Provenance::require_builder(builder).unwrap();
        assert_eq!(judge(&rule, &bare(builder), on(environment)).is_ok(), asked_for, "{builder} {environment:?}");
        let rule = Provenance::require_source(APP).unwrap();
        assert_eq!(judge(&rule, &bare(builder), on(environment)).is_ok(), otherwise, "{builder} {environment:?}");
    }
}

#[test]
fn github_actions_must_have_built_the_source_of_the_certificate() {
    let rule = Provenance::require_builder(BUILDER).unwrap().by_github_actions();
    judge(&rule, &predicate(APP), github(APP)).unwrap();
    let mut silent = predicate(APP);
    silent["buildDefinition"]["externalParameters"] = json!({});
    assert!(judge(&rule, &silent, github(APP)).unwrap_err().contains("names no source repository"));
}

#[test]
fn refs_and_workflows() {
    let rule = || Provenance::github_actions_workflow("acme/app").unwrap();
    judge(&rule().branches(["main"]).unwrap(), &predicate(APP), github(APP)).unwrap();
    judge(&rule().branches(["x"]).unwrap().branches(["m*"]).unwrap(), &predicate(APP), github(APP)).unwrap();
    assert!(judge(&rule().tags(["main"]).unwrap(), &predicate(APP), github(APP)).is_err());
    judge(&rule().workflow(".github/workflows/release.yml").unwrap(), &predicate(APP), github(APP)).unwrap();
    assert!(judge(&rule().workflow(".github/workflows/x.yml").unwrap(), &predicate(APP), github(APP)).is_err());
    assert!(rule().branches([]).is_err() && rule().tags([""]).is_err() && rule().workflow("").is_err());
}

#[test]
fn github_actions_must_have_been_involved() {
    let rule = Provenance::github_actions_workflow("acme/app").unwrap();
    let facts = Facts::v1(&predicate(APP)).unwrap();
    assert!(rule.judge(&facts, &Signer::Key { id: "k".into() }).unwrap_err().contains("a key"));
    let person = CertificateSigner { issuer: "https://accounts.google.com".into(), ..github(APP) };
    assert!(judge(&rule, &predicate(APP), person).unwrap_err().contains("issuer"));
    let bare = CertificateSigner { claims: CertificateClaims::default(), ..github(APP) };
    assert!(judge(&rule, &predicate(APP), bare).is_err());
    let mut own = predicate(APP);
    *own.pointer_mut("/runDetails/builder/id").unwrap() = json!("https://builder.example/x");
    assert!(judge(&rule, &own, github(APP)).unwrap_err().contains("builder"));
}

#[test]
fn version_0_2_has_its_ref_in_the_uri() {
    let said = json!({
        "builder": {"id": "https://github.com/slsa-framework/x/.github/workflows/g.yml@refs/tags/v1.9.0"},
        "invocation": {
            "configSource": {"uri": "git+https://github.com/acme/app@refs/tags/v1", "entryPoint": "release.yml"},
            "environment": {"github_ref": "refs/tags/v1"},
        },
    });
    let facts = Facts::v0_2(&said).unwrap();
    assert_eq!((facts.git_ref.as_deref(), facts.workflow.as_deref()), (Some("refs/tags/v1"), Some("release.yml")));
    let mut other = said;
    *other.pointer_mut("/invocation/environment/github_ref").unwrap() = json!("refs/heads/evil");
    assert!(Facts::v0_2(&other).unwrap_err().contains("two refs"));
    *other.pointer_mut("/invocation/configSource/uri").unwrap() = json!(["x"]);
    assert!(Facts::v0_2(&other).unwrap_err().contains("not a string"));
}
