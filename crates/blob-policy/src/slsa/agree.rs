//! What the certificate says of a build, held against what the statement says.
//!
//! The certificate is the word of the authority, the statement that of whoever signed it: any workflow of a repository
//! can write what it likes. Where both speak they must agree, and a builder that is asked for must be confirmed.

use super::facts::Facts;
use super::uri::{SourceUri, workflow_path};
use crate::sigstore::{CertificateSigner, GithubServer, San, Signer};

/// Where runners are named as builders, on every server.
const RUNNER: &str = "actions/runner";
/// The issuer of github.com, and what those of enterprises there begin with.
const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// That the two do not contradict each other; where a `builder` is asked for, that GitHub's authority confirms it; `server`
/// is the one that is asked for, if any is.
pub(super) fn agree(
    facts: &Facts,
    signer: &CertificateSigner,
    builder: bool,
    server: Option<&GithubServer>,
) -> Result<(), String> {
    let claims = &signer.claims;
    if let (Some(claimed), Some(source)) = (&claims.source_repository_uri, &facts.source)
        && !SourceUri::parse(claimed).is_some_and(|claimed| claimed.same_repository(source))
    {
        return Err(format!("the provenance says that the source is {source}, the certificate {claimed:?}"));
    }
    let started = claims.build_config_uri.as_deref().and_then(workflow_path);
    for (what, claimed, said) in [
        ("source ref", claims.source_repository_ref.as_deref(), facts.git_ref.as_deref()),
        ("commit", claims.source_repository_digest.as_deref(), facts.commit.as_deref()),
        ("workflow", started, facts.workflow.as_deref()),
    ] {
        if let (Some(claimed), Some(said)) = (claimed, said)
            && claimed != said
        {
            return Err(format!("the provenance says that the {what} is {said:?}, the certificate {claimed:?}"));
        }
    }
    check_builder(&facts.builder, signer, builder, server)
}

/// A workflow as the builder is the one that got the certificate, a runner is of the kind that it names.
fn check_builder(
    said: &str,
    signer: &CertificateSigner,
    asked_for: bool,
    server: Option<&GithubServer>,
) -> Result<(), String> {
    let server = server.filter(|server| server.issuer() == signer.issuer);
    let by_github = server.is_some() || is_github(&signer.issuer);
    let runner = server.map_or_else(|| GithubServer::default().uri(RUNNER), |server| server.uri(RUNNER));
    let differs = |claimed: &str| {
        Err(format!("the provenance says that the builder is {said:?}, the certificate that it is {claimed:?}"))
    };
    if said.contains("/.github/workflows/") && (by_github || signer.claims.build_signer_uri.is_some()) {
        let claimed = match (&signer.claims.build_signer_uri, &signer.san) {
            (Some(uri), _) | (None, San::Uri(uri)) => uri,
            (None, San::Email(_)) => {
                return Err(format!("the certificate names no workflow, as the builder {said:?} is"));
            }
        };
        return if same_workflow(said, claimed) { Ok(()) } else { differs(claimed) };
    }
    if said.matches("@refs/").count() > 1 {
        return Err(format!("the builder {said:?} names two refs"));
    }
    if asked_for && !by_github && on_github(said) {
        return Err(format!("the builder is {said:?}, and the issuer {:?} cannot confirm it", signer.issuer));
    }
    if !by_github || said == runner {
        return Ok(());
    }
    if let Some(kind) = said.strip_prefix(runner.as_str()).and_then(|rest| rest.strip_prefix('/')) {
        return match &signer.claims.runner_environment {
            Some(claimed) if claimed == kind => Ok(()),
            Some(claimed) => differs(&format!("{runner}/{claimed}")),
            None if asked_for => Err(format!("the certificate does not say on what runner {said:?} ran")),
            None => Ok(()),
        };
    }
    if asked_for && (on_github(said) || server.is_some_and(|server| server.path_of(said).is_some())) {
        return Err(format!(
            "the builder {said:?} is neither a workflow nor a runner, so the certificate cannot confirm it"
        ));
    }
    Ok(())
}

/// GitHub's issuer, or the one that it has for an enterprise.
fn is_github(issuer: &str) -> bool {
    issuer.strip_prefix(GITHUB_ISSUER).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn on_github(uri: &str) -> bool {
    let host = uri.split_once("://").map_or(uri, |(_, rest)| rest).split(['/', ':']).next().unwrap_or_default();
    host.to_ascii_lowercase().split('.').rev().take(2).eq(["com", "github"])
}

/// Whether two URIs name the same workflow at the same ref. Hosts, owners and repositories have no case.
fn same_workflow(one: &str, two: &str) -> bool {
    fn parts(uri: &str) -> Option<(String, &str)> {
        let (at, _) = uri.match_indices('/').nth(4)?;
        Some((uri[..at].to_ascii_lowercase(), &uri[at..]))
    }
    parts(one).is_some_and(|one| Some(one) == parts(two))
}

/// That GitHub Actions on `server` was involved at all, by the word of the authority, and that the statement is about the source that
/// it names.
pub(super) fn check_github(facts: &Facts, signer: &Signer, server: &GithubServer) -> Result<(), String> {
    let Signer::Certificate(signer) = signer else { return Err("signed with a key, not by GitHub Actions".into()) };
    if signer.issuer != server.issuer() {
        return Err(format!("the issuer is {:?}, not that of GitHub Actions, {:?}", signer.issuer, server.issuer()));
    }
    let claims = &signer.claims;
    let (Some(claimed), Some(_)) = (&claims.source_repository_uri, &claims.source_repository_ref) else {
        return Err("the certificate names no source repository and ref".into());
    };
    let said = facts.source.as_ref().ok_or("the provenance names no source repository")?;
    if !SourceUri::parse(claimed).is_some_and(|claimed| claimed.same_repository(said)) {
        return Err(format!("the provenance says that the source is {said}, the certificate {claimed:?}"));
    }
    if server.path_of(claimed).is_none() {
        return Err(format!("the source {claimed:?} is not on {}", server.host()));
    }
    if server.path_of(&facts.builder).is_none_or(str::is_empty) {
        return Err(format!("the builder is {:?}, not one of GitHub Actions on {}", facts.builder, server.host()));
    }
    Ok(())
}
