//! Signers whose certificates are known: what a policy file says of them, and the identities that it means.

use serde::{Deserialize, Serialize};

use super::error::PolicyFileError;
use super::list::{globs, one_or_many, text};
use crate::sigstore::{GithubServer, Identity};

/// A GitHub Actions workflow; see [`GithubActions`](crate::sigstore::GithubActions).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "github")]
pub struct GithubSpec {
    /// `owner/name` of what was built.
    pub repository: String,
    /// Branches.
    #[serde(default, alias = "branch", deserialize_with = "globs", skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// Tags.
    #[serde(default, alias = "tag", deserialize_with = "globs", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Refs.
    #[serde(default, alias = "ref", deserialize_with = "globs", skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<String>,
    /// The workflow file that was started.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The reusable workflow that signs.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub signer_workflow: Option<String>,
    /// Events that may start it.
    #[serde(default, alias = "trigger", deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<String>,
    /// Refuse runners that the owner hosts.
    #[serde(default)]
    pub deny_self_hosted: bool,
    /// The host of a server instead of github.com.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The issuer of its identities, instead of the usual one; see [`GithubServer`](crate::sigstore::GithubServer).
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// A GitLab pipeline; see [`Identity::gitlab_at`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "gitlab")]
pub struct GitlabSpec {
    /// `group/project`, also with subgroups.
    pub project: String,
    /// Branches.
    #[serde(default, alias = "branch", deserialize_with = "globs", skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// Tags.
    #[serde(default, alias = "tag", deserialize_with = "globs", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Refs.
    #[serde(default, alias = "ref", deserialize_with = "globs", skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<String>,
    /// The host of a server instead of gitlab.com.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// The holder of an e-mail address; see [`Identity::email`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "email")]
pub struct EmailSpec {
    /// The address, exactly.
    pub address: String,
    /// Who vouches for it, exactly.
    pub issuer: String,
}

/// The server that is meant.
pub(super) fn server(host: Option<&String>, issuer: Option<&String>) -> Result<GithubServer, PolicyFileError> {
    let unusable = |source| PolicyFileError::unusable("the GitHub server cannot be asked for", source);
    let server = match host {
        Some(host) => GithubServer::new(host).map_err(unusable)?,
        None => GithubServer::default(),
    };
    match issuer {
        Some(issuer) => server.issued_by(issuer).map_err(unusable),
        None => Ok(server),
    }
}

pub(super) fn github(spec: &GithubSpec) -> Result<Identity, PolicyFileError> {
    fn unusable(source: impl std::error::Error + Send + Sync + 'static) -> PolicyFileError {
        PolicyFileError::unusable("the GitHub workflow cannot be asked for", source)
    }
    let mut wanted = Identity::github_actions(&spec.repository).map_err(unusable)?;
    if !spec.branches.is_empty() {
        wanted = wanted.branches(spec.branches.iter().map(String::as_str)).map_err(unusable)?;
    }
    if !spec.tags.is_empty() {
        wanted = wanted.tags(spec.tags.iter().map(String::as_str)).map_err(unusable)?;
    }
    if !spec.refs.is_empty() {
        wanted = wanted.refs(spec.refs.iter().map(String::as_str)).map_err(unusable)?;
    }
    if let Some(file) = &spec.workflow {
        wanted = wanted.workflow(file).map_err(unusable)?;
    }
    if let Some(workflow) = &spec.signer_workflow {
        wanted = wanted.signer_workflow(workflow).map_err(unusable)?;
    }
    wanted = wanted.on_server(server(spec.server.as_ref(), spec.issuer.as_ref())?);
    wanted = wanted.triggers(spec.triggers.iter().map(String::as_str));
    Ok(if spec.deny_self_hosted { wanted.deny_self_hosted() } else { wanted }.into())
}

pub(super) fn gitlab(spec: &GitlabSpec) -> Result<Identity, PolicyFileError> {
    let under = |prefix: &str, globs: &[String]| globs.iter().map(|glob| format!("{prefix}{glob}")).collect::<Vec<_>>();
    let mut refs = under("refs/heads/", &spec.branches);
    refs.extend(under("refs/tags/", &spec.tags));
    refs.extend(spec.refs.iter().cloned());
    let refs: Vec<&str> = refs.iter().map(String::as_str).collect();
    let host = spec.server.as_deref().unwrap_or("gitlab.com");
    let identity = Identity::gitlab_at(host, &spec.project, &refs);
    identity.map_err(|source| PolicyFileError::unusable("the GitLab project cannot be asked for", source))
}

pub(super) fn email(spec: &EmailSpec) -> Result<Identity, PolicyFileError> {
    let identity = Identity::email(&spec.address, &spec.issuer);
    identity.map_err(|source| PolicyFileError::unusable("the e-mail address cannot be asked for", source))
}

pub(super) fn google(address: &str) -> Result<Identity, PolicyFileError> {
    let identity = Identity::google(address);
    identity.map_err(|source| PolicyFileError::unusable("the Google account cannot be asked for", source))
}
