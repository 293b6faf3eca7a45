//! GitHub Actions workflows, by what was built, who vouches for it, and which workflow signed.

mod server;

use std::fmt;

use super::identity::{IdentityError, expect, is_name};
use super::pattern::{Pattern, PatternError};
use super::signer::{CertificateSigner, San};

pub use server::GithubServer;

/// A workflow run on GitHub, or a GitHub Enterprise server.
///
/// The repository is that which was *built*, from the certificate's own claim; the name in the certificate is the
/// workflow that signed. They differ where one repository calls a workflow of another: without
/// [`signer_workflow`](Self::signer_workflow) both must be the same repository.
///
/// Owners and repositories are compared without regard to ASCII case, as GitHub does; refs and files are not.
#[derive(Clone, Debug)]
pub struct GithubActions {
    server: GithubServer,
    repository: RepositoryName,
    refs: Vec<Pattern>,
    workflow: Option<String>,
    signer: Option<(RepositoryName, String)>,
    triggers: Vec<String>,
    hosted_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RepositoryName {
    owner: String,
    name: String,
}

impl RepositoryName {
    fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let parsed = Self { owner: owner.to_ascii_lowercase(), name: name.to_ascii_lowercase() };
        (is_name(owner) && is_name(name)).then_some(parsed)
    }
}

/// `https://host/owner/name/path@ref`, in parts.
struct WorkflowUri<'a> {
    host: &'a str,
    repository: RepositoryName,
    path: &'a str,
    git_ref: &'a str,
}

impl<'a> WorkflowUri<'a> {
    /// A second `@refs/` would leave it open where the path ends, so it is refused.
    fn parse(uri: &'a str) -> Option<Self> {
        let (place, git_ref) = uri.strip_prefix("https://")?.split_once('@')?;
        let (host, rest) = place.split_once('/')?;
        let mut parts = rest.splitn(3, '/');
        let repository = RepositoryName::parse(&format!("{}/{}", parts.next()?, parts.next()?))?;
        let path = parts.next().filter(|path| is_workflow(path))?;
        let clear = !git_ref.is_empty() && !git_ref.contains("@refs/");
        clear.then_some(Self { host, repository, path, git_ref })
    }
}

fn is_workflow(path: &str) -> bool {
    path.strip_prefix(".github/workflows/").is_some_and(|file| !file.is_empty() && !file.contains('/'))
}

/// Takes `https://host/owner/name` apart.
fn repository_uri(uri: &str) -> Option<(&str, RepositoryName)> {
    let (host, rest) = uri.strip_prefix("https://")?.split_once('/')?;
    Some((host, RepositoryName::parse(rest)?))
}

impl GithubActions {
    pub(super) fn new(repository: &str) -> Result<Self, IdentityError> {
        let parsed = RepositoryName::parse(repository);
        Ok(Self {
            server: GithubServer::default(),
            repository: parsed.ok_or_else(|| IdentityError::Repository(repository.to_owned()))?,
            refs: Vec::new(),
            workflow: None,
            signer: None,
            triggers: Vec::new(),
            hosted_only: false,
        })
    }

    /// Only builds of these branches, or of tags and refs that are given too; wildcards as in [`Pattern::glob`].
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn branches<'p>(self, branches: impl IntoIterator<Item = &'p str>) -> Result<Self, PatternError> {
        self.under("refs/heads/", branches)
    }

    /// Only builds of these tags, or of branches and refs that are given too; wildcards as in [`Pattern::glob`].
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn tags<'p>(self, tags: impl IntoIterator<Item = &'p str>) -> Result<Self, PatternError> {
        self.under("refs/tags/", tags)
    }

    /// Only builds of these refs (`refs/pull/*/merge`), or of branches and tags that are given too.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn refs<'p>(self, refs: impl IntoIterator<Item = &'p str>) -> Result<Self, PatternError> {
        self.under("", refs)
    }

    fn under<'p>(mut self, prefix: &str, globs: impl IntoIterator<Item = &'p str>) -> Result<Self, PatternError> {
        let before = self.refs.len();
        for glob in globs {
            if glob.is_empty() {
                return Err(PatternError::Empty);
            }
            self.refs.push(Pattern::glob(&format!("{prefix}{glob}"))?);
        }
        // An empty list restricts nothing, which nobody means who gives one.
        if self.refs.len() == before { Err(PatternError::Empty) } else { Ok(self) }
    }

    /// Only builds that this workflow file of the repository started: `release.yml`, or its path from the root.
    ///
    /// # Errors
    /// [`IdentityError::Workflow`].
    pub fn workflow(mut self, file: &str) -> Result<Self, IdentityError> {
        let path = if file.contains('/') { file.to_owned() } else { format!(".github/workflows/{file}") };
        if file.is_empty() || !is_workflow(&path) {
            return Err(IdentityError::Workflow(file.to_owned()));
        }
        self.workflow = Some(path);
        Ok(self)
    }

    /// The workflow that signs is this one (`owner/name/.github/workflows/file.yml`), which others call.
    ///
    /// # Errors
    /// [`IdentityError::Workflow`].
    pub fn signer_workflow(mut self, workflow: &str) -> Result<Self, IdentityError> {
        let wrong = || IdentityError::Workflow(workflow.to_owned());
        let mut parts = workflow.splitn(3, '/');
        let (owner, name) = (parts.next().ok_or_else(wrong)?, parts.next().ok_or_else(wrong)?);
        let repository = RepositoryName::parse(&format!("{owner}/{name}")).ok_or_else(wrong)?;
        let path = parts.next().filter(|path| is_workflow(path)).ok_or_else(wrong)?;
        self.signer = Some((repository, path.to_owned()));
        Ok(self)
    }

    /// Only builds that one of these events started (`push`, `release` …).
    #[must_use]
    pub fn triggers<'p>(mut self, triggers: impl IntoIterator<Item = &'p str>) -> Self {
        self.triggers.extend(triggers.into_iter().map(str::to_owned));
        self
    }

    /// Not builds on runners that the repository's owner hosts.
    #[must_use]
    pub fn deny_self_hosted(mut self) -> Self {
        self.hosted_only = true;
        self
    }

    /// On this server instead of github.com.
    #[must_use]
    pub fn on_server(mut self, server: GithubServer) -> Self {
        self.server = server;
        self
    }

    pub(super) fn check(&self, signer: &CertificateSigner) -> Result<(), String> {
        let claims = &signer.claims;
        expect("issuer", &Pattern::exact(self.server.issuer()), Some(&signer.issuer))?;
        let uri = claims.source_repository_uri.as_deref().ok_or("the certificate names no source repository")?;
        let (host, repository) = repository_uri(uri).ok_or_else(|| format!("source repository {uri:?} is odd"))?;
        if !self.server.is_at(host) || repository != self.repository {
            return Err(format!("source repository is {uri:?}, not {}", self.repository_text()));
        }
        if !self.refs.is_empty() {
            let git_ref = claims.source_repository_ref.as_deref().ok_or("the certificate names no source ref")?;
            if !self.refs.iter().any(|pattern| pattern.matches(git_ref)) {
                return Err(format!("source ref {git_ref:?} is not among {}", self.refs_text()));
            }
        }
        self.check_signer(signer)?;
        self.check_started(signer)?;
        let trigger = claims.build_trigger.as_deref();
        if !self.triggers.is_empty() && !self.triggers.iter().any(|wanted| Some(wanted.as_str()) == trigger) {
            return Err(format!("the build was started by {trigger:?}, not by one of {:?}", self.triggers));
        }
        let runner = claims.runner_environment.as_deref();
        if self.hosted_only && runner != Some("github-hosted") {
            return Err(format!("the runner environment is {runner:?}, not \"github-hosted\""));
        }
        Ok(())
    }

    /// The workflow that signed: the wanted one, or one of the repository itself.
    fn check_signer(&self, signer: &CertificateSigner) -> Result<(), String> {
        let San::Uri(san) = &signer.san else { return Err("the identity is an e-mail address, not a workflow".into()) };
        if signer.claims.build_signer_uri.as_ref().is_some_and(|uri| uri != san) {
            return Err(format!("the identity {san:?} is not the workflow that the certificate says has signed"));
        }
        let workflow = WorkflowUri::parse(san).ok_or_else(|| format!("identity {san:?} is not a workflow"))?;
        let same_host = self.server.is_at(workflow.host);
        let fits = match &self.signer {
            Some((repository, path)) => workflow.repository == *repository && workflow.path == path,
            None => workflow.repository == self.repository,
        };
        if same_host && fits { Ok(()) } else { Err(format!("signed by another workflow: {san:?}")) }
    }

    /// The workflow that was started: it is not the one that signed where workflows call each other.
    fn check_started(&self, signer: &CertificateSigner) -> Result<(), String> {
        let Some(path) = &self.workflow else { return Ok(()) };
        let uri = signer.claims.build_config_uri.as_deref().ok_or("the certificate names no workflow")?;
        let started = WorkflowUri::parse(uri).ok_or_else(|| format!("workflow {uri:?} is odd"))?;
        let ours = self.server.is_at(started.host) && started.repository == self.repository;
        if !ours || started.path != path {
            return Err(format!("the workflow is {uri:?}, not {path:?}"));
        }
        match signer.claims.source_repository_ref.as_deref() {
            Some(source) if source != started.git_ref && started.git_ref.starts_with("refs/") && self.strict_ref() => {
                Err(format!("the workflow is of {:?}, the source of {source:?}", started.git_ref))
            }
            _ => Ok(()),
        }
    }

    /// With restricted refs, a workflow file of another ref is not the one that was meant.
    fn strict_ref(&self) -> bool {
        !self.refs.is_empty()
    }

    fn repository_text(&self) -> String {
        self.server.uri(&format!("{}/{}", self.repository.owner, self.repository.name))
    }

    fn refs_text(&self) -> String {
        self.refs.iter().map(Pattern::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for GithubActions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a workflow of {}", self.repository_text())?;
        if self.refs.is_empty() { Ok(()) } else { write!(f, " at {}", self.refs_text()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sigstore::{CertificateClaims, Identity};

    const ISSUER: &str = "https://token.actions.githubusercontent.com";

    /// A run of `repository`'s workflow `release.yml` at `git_ref`.
    fn run(repository: &str, git_ref: &str) -> CertificateSigner {
        let san = format!("https://github.com/{repository}/.github/workflows/release.yml@{git_ref}");
        let claims = CertificateClaims {
            build_signer_uri: Some(san.clone()),
            build_config_uri: Some(san.clone()),
            source_repository_uri: Some(format!("https://github.com/{repository}")),
            source_repository_ref: Some(git_ref.into()),
            build_trigger: Some("push".into()),
            runner_environment: Some("self-hosted".into()),
            ..CertificateClaims::default()
        };
        CertificateSigner { san: San::Uri(san), issuer: ISSUER.into(), claims }
    }

    fn of(repository: &str) -> GithubActions {
        Identity::github_actions(repository).unwrap()
    }

    #[test]
    fn repositories_are_compared_whole() {
        for (signed, expect) in [
            ("acme/app", true),
            ("Acme/App", true),
            ("acme/app-evil", false),
            ("acme/app.fork", false),
            ("acme/apple", false),
            ("acme-evil/app", false),
            ("evil/app", false),
        ] {
            assert_eq!(of("acme/app").check(&run(signed, "refs/heads/main")).is_ok(), expect, "{signed}");
        }
        for bad in ["", "acme", "acme/", "acme/app/x", "acme/*", "../app", "acme/a b"] {
            assert!(matches!(Identity::github_actions(bad), Err(IdentityError::Repository(_))), "{bad}");
        }
    }

    #[test]
    fn refs_by_wildcards() {
        let check = |identity: GithubActions, git_ref: &str, expect: bool| {
            assert_eq!(identity.check(&run("acme/app", git_ref)).is_ok(), expect, "{identity} on {git_ref}");
        };
        check(of("acme/app"), "refs/pull/123/merge", true);
        check(of("acme/app").branches(["main"]).unwrap(), "refs/heads/main", true);
        check(of("acme/app").branches(["main"]).unwrap(), "refs/tags/main", false);
        check(of("acme/app").branches(["main"]).unwrap(), "refs/heads/main-evil", false);
        check(of("acme/app").branches(["release/*"]).unwrap(), "refs/heads/release/v1", true);
        check(of("acme/app").branches(["release/*"]).unwrap(), "refs/heads/release/v1/hotfix", false);
        check(of("acme/app").tags(["v*"]).unwrap(), "refs/tags/v2.0.0-beta", true);
        check(of("acme/app").tags(["v*"]).unwrap(), "refs/heads/v2", false);
        check(of("acme/app").branches(["main"]).unwrap().tags(["v*"]).unwrap(), "refs/tags/v1", true);
        check(of("acme/app").refs(["refs/pull/*/merge"]).unwrap(), "refs/pull/123/merge", true);
        assert!(of("acme/app").branches([]).is_err() && of("acme/app").tags([""]).is_err());
    }

    #[test]
    fn a_called_workflow_does_not_stand_for_the_repository_that_called_it() {
        // evil/caller builds, calling acme/app's reusable workflow: the name in the certificate is acme's.
        let mut called = run("acme/app", "refs/heads/main");
        called.claims.source_repository_uri = Some("https://github.com/evil/caller".into());
        assert!(of("acme/app").check(&called).unwrap_err().contains("source repository"));
        // acme/app builds, calling a workflow of another repository.
        let mut calls = run("acme/shared", "refs/heads/main");
        calls.claims.source_repository_uri = Some("https://github.com/acme/app".into());
        assert!(of("acme/app").check(&calls).unwrap_err().contains("another workflow"));
        let shared = "acme/shared/.github/workflows/release.yml";
        of("acme/app").signer_workflow(shared).unwrap().check(&calls).unwrap();
        let other = "acme/shared/.github/workflows/other.yml";
        assert!(of("acme/app").signer_workflow(other).unwrap().check(&calls).is_err());
        // A workflow pinned by commit is as good as one named by ref.
        let pinned = San::Uri(format!("https://github.com/{shared}@0123456789012345678901234567890123456789"));
        let pinned = CertificateSigner {
            claims: CertificateClaims { build_signer_uri: None, ..calls.claims.clone() },
            san: pinned,
            ..calls
        };
        of("acme/app").signer_workflow(shared).unwrap().check(&pinned).unwrap();
    }

    #[test]
    fn workflow_trigger_runner_and_issuer() {
        let signed = run("acme/app", "refs/heads/main");
        of("acme/app").workflow("release.yml").unwrap().check(&signed).unwrap();
        of("acme/app").workflow(".github/workflows/release.yml").unwrap().check(&signed).unwrap();
        assert!(of("acme/app").workflow("release.yaml").unwrap().check(&signed).is_err());
        assert!(of("acme/app").workflow("other/release.yml").is_err() && of("acme/app").workflow("").is_err());
        of("acme/app").triggers(["release", "push"]).check(&signed).unwrap();
        assert!(of("acme/app").triggers(["release"]).check(&signed).is_err());
        assert!(of("acme/app").deny_self_hosted().check(&signed).is_err());
        assert!(of("acme/app").on_server(GithubServer::new("ghe.example").unwrap()).check(&signed).is_err());
        let enterprise = GithubServer::default().issued_by("https://token.actions.githubusercontent.com/acme").unwrap();
        assert!(of("acme/app").on_server(enterprise).check(&signed).unwrap_err().contains("issuer"));
        let foreign = CertificateSigner { issuer: "https://issuer.evil".into(), ..signed.clone() };
        assert!(of("acme/app").check(&foreign).unwrap_err().contains("issuer"));
        // GitHub's issuer says that a workflow is on another server, and another server's that it is on github.com.
        let own = || of("acme/app").on_server(GithubServer::new("git.acme.example").unwrap());
        let elsewhere = |text: &Option<String>| text.as_ref().map(|uri| uri.replace("github.com", "git.acme.example"));
        let mut moved = signed.clone();
        moved.san = San::Uri(elsewhere(&Some(signed.san.as_str().into())).unwrap());
        for claim in [
            &mut moved.claims.build_signer_uri,
            &mut moved.claims.build_config_uri,
            &mut moved.claims.source_repository_uri,
        ] {
            *claim = elsewhere(claim);
        }
        assert!(own().check(&moved).unwrap_err().contains("issuer"));
        moved.issuer = "https://git.acme.example/_services/token".into();
        own().workflow("release.yml").unwrap().check(&moved).unwrap();
        assert!(of("acme/app").check(&moved).unwrap_err().contains("issuer"));
        let own_issuer = CertificateSigner { issuer: moved.issuer.clone(), ..signed.clone() };
        assert!(own().check(&own_issuer).unwrap_err().contains("source repository"));
        let email = CertificateSigner { san: San::Email("a@b.c".into()), ..signed.clone() };
        assert!(of("acme/app").check(&email).is_err());
        let bare = CertificateSigner { claims: CertificateClaims::default(), ..signed };
        assert!(of("acme/app").check(&bare).is_err(), "the name alone is not enough");
    }

    #[test]
    fn ambiguous_workflow_names_are_refused() {
        for (uri, expect) in [
            ("https://github.com/a/b/.github/workflows/x.yml@refs/heads/main", true),
            ("https://github.com/a/b/.github/workflows/x.yml@refs/heads/user@home", true),
            ("https://github.com/a/b/.github/workflows/x.yml@refs/heads/main.yml@refs/heads/evil", false),
            ("https://github.com/a/b/Xgithub/workflows/x.yml@refs/heads/main", false),
            ("https://github.com/a/b/.github/workflows/d/x.yml@refs/heads/main", false),
            ("https://github.com/a/b/.github/workflows/x.yml", false),
            ("http://github.com/a/b/.github/workflows/x.yml@refs/heads/main", false),
        ] {
            assert_eq!(WorkflowUri::parse(uri).is_some(), expect, "{uri}");
        }
    }
}
