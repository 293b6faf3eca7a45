//! Build provenance (SLSA), read from verified statements only.
//!
//! [`Provenance`] is a [`ClaimRule`]: it judges one verified statement about our manifest, signed by somebody whom the
//! policy asked for. Repositories and builders are compared in parts, never by prefix; what the certificate says of the
//! source and what the statement says of it must agree.
//!
//! ```
//! use std::sync::Arc;
//! use blob_policy::sigstore::{Identity, SigstorePolicy, TrustRoot};
//! use blob_policy::slsa::Provenance;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let built = Provenance::github_actions_workflow("acme/app")?.tags(["v*"])?;
//! let signer = Identity::github_actions("acme/app")?.into();
//! let policy = SigstorePolicy::new(TrustRoot::production()?, vec![signer])?.rule(Arc::new(built));
//! # let _ = policy;
//! # Ok(())
//! # }
//! ```

mod agree;
mod facts;
mod uri;

use std::fmt::Debug;
use std::sync::Arc;

use crate::sigstore::{ClaimRule, GithubServer, Pattern, PatternError, Signer, VerifiedClaim};
use agree::{agree, check_github};
use facts::Facts;
use uri::SourceUri;

/// Predicate type of provenance, version 1.
pub const PROVENANCE_V1: &str = "https://slsa.dev/provenance/v1";
/// Predicate type of provenance, version 0.2.
pub const PROVENANCE_V0_2: &str = "https://slsa.dev/provenance/v0.2";

/// What is asked of a build; everything must be so in one statement.
#[derive(Clone, Debug)]
pub struct Provenance {
    builder: Option<Builder>,
    builders: Option<Pattern>,
    source: Option<SourceUri>,
    sources: Option<Pattern>,
    rules: Vec<Arc<dyn BuildRule>>,
    refs: Vec<Pattern>,
    workflow: Option<String>,
    github: Option<GithubServer>,
    old: bool,
}

/// A check of one's own on a build that met everything else.
pub trait BuildRule: Debug + Send + Sync {
    /// What was found to be so, for the report.
    ///
    /// # Errors
    /// Why the build does not do, as a reason for a person.
    fn check(&self, build: &Build<'_>) -> Result<String, String>;
}

/// What verified provenance says of a build, in either version.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Build<'a> {
    /// The builder's identifier.
    pub builder: &'a str,
    /// The repository that was built, as `https://host/path`.
    pub source_repository: Option<&'a str>,
    /// The ref that was built.
    pub source_ref: Option<&'a str>,
    /// The commit that was built.
    pub commit: Option<&'a str>,
    /// The workflow that was started, by its path.
    pub workflow: Option<&'a str>,
    /// The whole predicate.
    pub predicate: &'a serde_json::Value,
}

#[derive(Clone, Debug)]
struct Builder {
    base: String,
    version: Option<Pattern>,
}

/// Something was asked for that makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvenanceError {
    /// Not the URI of a repository.
    #[error("{0:?} is not a repository: \"https://host/path\" is expected")]
    Source(String),
    /// Not the identifier of a builder.
    #[error("{0:?} is not a builder: \"https://host/path\", with \"@ref\" or without, is expected")]
    Builder(String),
    /// Not the path of a workflow.
    #[error("{0:?} is not the path of a workflow")]
    Workflow(String),
    /// A pattern of branches or tags.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl Provenance {
    /// Built by `id`: see [`builder`](Self::builder).
    ///
    /// # Errors
    /// [`ProvenanceError::Builder`].
    pub fn require_builder(id: &str) -> Result<Self, ProvenanceError> {
        Self::anything().builder(id)
    }

    /// Built by a builder whose whole identifier matches `pattern`.
    pub fn require_builders(pattern: Pattern) -> Self {
        Self { builders: Some(pattern), ..Self::anything() }
    }

    /// Built from a repository whose URI matches `pattern` as a whole. It is compared as `https://host/path`: without
    /// `git+`, `.git`, ref, and for github.com in lower case.
    pub fn require_sources(pattern: Pattern) -> Self {
        Self { sources: Some(pattern), ..Self::anything() }
    }

    /// Asks for nothing yet; there is no public way to leave it so.
    const fn anything() -> Self {
        Self {
            builder: None,
            builders: None,
            source: None,
            sources: None,
            rules: Vec::new(),
            refs: Vec::new(),
            workflow: None,
            github: None,
            old: false,
        }
    }

    /// Built from `repository`, such as `https://github.com/acme/app`.
    ///
    /// # Errors
    /// [`ProvenanceError::Source`].
    pub fn require_source(repository: &str) -> Result<Self, ProvenanceError> {
        let source = SourceUri::parse(repository).filter(|source| source.git_ref.is_none());
        let source = source.ok_or_else(|| ProvenanceError::Source(repository.to_owned()))?;
        Ok(Self { source: Some(source), ..Self::anything() })
    }

    /// Built from the GitHub repository `owner/name` by GitHub Actions: the signer's certificate is of GitHub's issuer
    /// and names the same source, and the builder is GitHub's.
    ///
    /// # Errors
    /// [`ProvenanceError::Source`].
    pub fn github_actions_workflow(repository: &str) -> Result<Self, ProvenanceError> {
        Self::github_actions_workflow_on(GithubServer::default(), repository)
    }

    /// The same on another server than github.com.
    ///
    /// # Errors
    /// [`ProvenanceError::Source`].
    pub fn github_actions_workflow_on(server: GithubServer, repository: &str) -> Result<Self, ProvenanceError> {
        if repository.split('/').count() != 2 {
            return Err(ProvenanceError::Source(repository.to_owned()));
        }
        Ok(Self::require_source(&server.uri(repository))?.by_github_actions_on(server))
    }

    /// Also built by GitHub Actions: the signer's certificate is of GitHub's issuer and names a source, which must be that
    /// of the provenance, and the builder is GitHub's.
    #[must_use]
    pub fn by_github_actions(self) -> Self {
        self.by_github_actions_on(GithubServer::default())
    }

    /// The same on another server than github.com: issuer, source and builder are those of this one.
    #[must_use]
    pub fn by_github_actions_on(mut self, server: GithubServer) -> Self {
        self.github = Some(server);
        self
    }

    /// The builder's identifier. Where the certificate is of GitHub's issuer it must confirm the builder: a workflow is the
    /// one that the certificate is for, `https://github.com/actions/runner/github-hosted` ran where it says, and other
    /// builders at github.com are refused. Up to `@` it must be equal; what follows is a pattern as in [`Pattern::glob`]. Without
    /// `@` it stands for an identifier without, so accept every version with `@**`.
    ///
    /// # Errors
    /// [`ProvenanceError::Builder`].
    pub fn builder(mut self, id: &str) -> Result<Self, ProvenanceError> {
        let wrong = || ProvenanceError::Builder(id.to_owned());
        let (base, version) = id.split_once('@').map_or((id, None), |(base, version)| (base, Some(version)));
        let host = base.strip_prefix("https://").and_then(|rest| rest.split_once('/'));
        host.filter(|(host, path)| !host.is_empty() && !path.is_empty()).ok_or_else(wrong)?;
        let version = version.map(Pattern::glob).transpose()?;
        self.builder = Some(Builder { base: base.to_owned(), version });
        Ok(self)
    }

    /// Also built by a builder whose whole identifier matches `pattern`.
    #[must_use]
    pub fn builders(mut self, pattern: Pattern) -> Self {
        self.builders = Some(pattern);
        self
    }

    /// Also asks `rule`, after everything else.
    #[must_use]
    pub fn rule(mut self, rule: Arc<dyn BuildRule>) -> Self {
        self.rules.push(rule);
        self
    }

    /// From these refs (`refs/pull/*/merge`), or from branches and tags that are given too.
    ///
    /// # Errors
    /// [`PatternError`]; an empty list is one.
    pub fn refs<'p>(self, refs: impl IntoIterator<Item = &'p str>) -> Result<Self, ProvenanceError> {
        self.under("", refs)
    }

    /// From these branches, or from tags that are given too; wildcards as in [`Pattern::glob`].
    ///
    /// # Errors
    /// [`PatternError`]; an empty list is one.
    pub fn branches<'p>(self, branches: impl IntoIterator<Item = &'p str>) -> Result<Self, ProvenanceError> {
        self.under("refs/heads/", branches)
    }

    /// From these tags, or from branches that are given too; wildcards as in [`Pattern::glob`].
    ///
    /// # Errors
    /// [`PatternError`]; an empty list is one.
    pub fn tags<'p>(self, tags: impl IntoIterator<Item = &'p str>) -> Result<Self, ProvenanceError> {
        self.under("refs/tags/", tags)
    }

    fn under<'p>(mut self, prefix: &str, globs: impl IntoIterator<Item = &'p str>) -> Result<Self, ProvenanceError> {
        let before = self.refs.len();
        for glob in globs {
            if glob.is_empty() {
                return Err(PatternError::Empty.into());
            }
            self.refs.push(Pattern::glob(&format!("{prefix}{glob}"))?);
        }
        if self.refs.len() == before { Err(PatternError::Empty.into()) } else { Ok(self) }
    }

    /// Started by this workflow file, by its path from the root of the repository.
    ///
    /// # Errors
    /// [`ProvenanceError::Workflow`].
    pub fn workflow(mut self, path: &str) -> Result<Self, ProvenanceError> {
        if path.is_empty() || path.starts_with('/') {
            return Err(ProvenanceError::Workflow(path.to_owned()));
        }
        self.workflow = Some(path.to_owned());
        Ok(self)
    }

    /// Also reads version 0.2, which says less.
    #[must_use]
    pub fn allow_v0_2(mut self) -> Self {
        self.old = true;
        self
    }

    fn judge(&self, facts: &Facts, signer: &Signer) -> Result<String, String> {
        if let Signer::Certificate(signer) = signer {
            let builder = self.builder.is_some() || self.builders.is_some();
            agree(facts, signer, builder, self.github.as_ref())?;
        }
        if let Some(server) = &self.github {
            check_github(facts, signer, server)?;
        }
        if let Some(wanted) = &self.builder {
            wanted.check(&facts.builder)?;
        }
        if let Some(wanted) = &self.builders
            && !wanted.matches(&facts.builder)
        {
            return Err(format!("the builder is {:?}, not {:?}", facts.builder, wanted.to_string()));
        }
        if let Some(wanted) = &self.sources {
            let source = facts.source.as_ref().ok_or("the provenance names no source repository")?.to_string();
            if !wanted.matches(&source) {
                return Err(format!("the source is {source}, not {:?}", wanted.to_string()));
            }
        }
        if let Some(wanted) = &self.source {
            let source = facts.source.as_ref().ok_or("the provenance names no source repository")?;
            if !source.same_repository(wanted) {
                return Err(format!("the source is {source}, not {wanted}"));
            }
        }
        if !self.refs.is_empty() {
            let git_ref = facts.git_ref.as_deref().ok_or("the provenance names no source ref")?;
            if !self.refs.iter().any(|pattern| pattern.matches(git_ref)) {
                return Err(format!("the source ref {git_ref:?} is not among those asked for"));
            }
        }
        match (&self.workflow, facts.workflow.as_deref()) {
            (Some(wanted), Some(got)) if wanted != got => Err(format!("the workflow is {got:?}, not {wanted:?}")),
            (Some(_), None) => Err("the provenance names no workflow".into()),
            _ => Ok(facts.finding()),
        }
    }
}

impl ClaimRule for Provenance {
    fn check(&self, claim: &VerifiedClaim) -> Result<String, String> {
        let statement = claim.verified().statement().ok_or("a plain signature is not provenance")?;
        let facts = match statement.predicate_type() {
            PROVENANCE_V1 => Facts::v1(statement.predicate()),
            PROVENANCE_V0_2 if self.old => Facts::v0_2(statement.predicate()),
            other => return Err(format!("a statement of type {other:?} is not the provenance asked for")),
        };
        let facts = facts?;
        let mut findings = vec![self.judge(&facts, claim.signer())?];
        let source = facts.source.as_ref().map(ToString::to_string);
        let build = Build {
            builder: &facts.builder,
            source_repository: source.as_deref(),
            source_ref: facts.git_ref.as_deref(),
            commit: facts.commit.as_deref(),
            workflow: facts.workflow.as_deref(),
            predicate: statement.predicate(),
        };
        for rule in &self.rules {
            findings.push(rule.check(&build)?);
        }
        Ok(findings.join(", "))
    }
}

impl Builder {
    fn check(&self, got: &str) -> Result<(), String> {
        let (base, version) = got.split_once('@').map_or((got, None), |(base, version)| (base, Some(version)));
        let same_version = match (&self.version, version) {
            (Some(wanted), Some(got)) => wanted.matches(got),
            (None, None) => true,
            _ => false,
        };
        if self.base == base && same_version { Ok(()) } else { Err(format!("the builder is {got:?}")) }
    }
}

#[cfg(test)]
#[path = "slsa/tests.rs"]
mod tests;
