//! How something must have been built: `provenance`, in both dialects.

use serde::{Deserialize, Serialize};

use super::SignatureSpec;
use crate::file::list::{given, glob, globs, regex, text, with_cause};

/// How something must have been built, as verified provenance says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ProvenanceWritten")]
pub struct ProvenanceSpec {
    /// The builder's identifier, with wildcards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// `owner/name` on GitHub, or `https://host/path`; with wildcards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// A regular expression over the whole `https://host/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_regex: Option<String>,
    /// Branches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Refs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<String>,
    /// The workflow file, by its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Read version 0.2 too.
    pub allow_v0_2: bool,
    /// The GitHub server that `owner/name` is on, instead of github.com.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The issuer of GitHub's identities, instead of the usual one of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Who may have signed it; without, see [`PolicyRule::build`](super::PolicyRule::build).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignatureSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "provenance")]
struct ProvenanceWritten {
    #[serde(default, deserialize_with = "given")]
    slsa: Option<SlsaWritten>,
    #[serde(default, deserialize_with = "given")]
    signer: Option<SignatureSpec>,
    #[serde(default, deserialize_with = "glob")]
    builder: Option<String>,
    #[serde(default, alias = "source_repo", alias = "source_repository", deserialize_with = "glob")]
    repository: Option<String>,
    #[serde(default, alias = "source_repo_regex", deserialize_with = "regex")]
    repository_regex: Option<String>,
    #[serde(default, alias = "branch", deserialize_with = "globs")]
    branches: Vec<String>,
    #[serde(default, alias = "tag", deserialize_with = "globs")]
    tags: Vec<String>,
    #[serde(default, alias = "ref", deserialize_with = "globs")]
    refs: Vec<String>,
    #[serde(default, deserialize_with = "text")]
    workflow: Option<String>,
    #[serde(default)]
    allow_v0_2: bool,
    #[serde(default, deserialize_with = "text")]
    server: Option<String>,
    #[serde(default, deserialize_with = "text")]
    issuer: Option<String>,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename = "slsa")]
struct SlsaWritten {
    #[serde(default, deserialize_with = "glob")]
    builder: Option<String>,
    #[serde(default, alias = "source_repo", alias = "source_repository", deserialize_with = "glob")]
    repository: Option<String>,
    #[serde(default, alias = "source_repo_regex", deserialize_with = "regex")]
    repository_regex: Option<String>,
    #[serde(default, alias = "branch", deserialize_with = "globs")]
    branches: Vec<String>,
    #[serde(default, alias = "tag", deserialize_with = "globs")]
    tags: Vec<String>,
    #[serde(default, alias = "ref", deserialize_with = "globs")]
    refs: Vec<String>,
    #[serde(default, deserialize_with = "text")]
    workflow: Option<String>,
    #[serde(default)]
    allow_v0_2: bool,
    #[serde(default, deserialize_with = "text")]
    server: Option<String>,
    #[serde(default, deserialize_with = "text")]
    issuer: Option<String>,
}

impl From<SlsaWritten> for ProvenanceSpec {
    fn from(written: SlsaWritten) -> Self {
        Self {
            builder: written.builder,
            repository: written.repository,
            repository_regex: written.repository_regex,
            branches: written.branches,
            tags: written.tags,
            refs: written.refs,
            workflow: written.workflow,
            allow_v0_2: written.allow_v0_2,
            server: written.server,
            issuer: written.issuer,
            signer: None,
        }
    }
}

impl TryFrom<ProvenanceWritten> for ProvenanceSpec {
    type Error = String;

    fn try_from(written: ProvenanceWritten) -> Result<Self, String> {
        let ProvenanceWritten {
            slsa,
            signer,
            builder,
            repository,
            repository_regex,
            branches,
            tags,
            refs,
            workflow,
            allow_v0_2,
            server,
            issuer,
        } = written;
        let flat = SlsaWritten {
            builder,
            repository,
            repository_regex,
            branches,
            tags,
            refs,
            workflow,
            allow_v0_2,
            server,
            issuer,
        };
        let mut spec = match slsa {
            None => Self::from(flat),
            Some(_) if flat != SlsaWritten::default() => {
                return Err("the build stands in `provenance` itself or below `slsa`, not in both".into());
            }
            Some(slsa) => Self::from(slsa),
        };
        spec.signer = signer;
        spec.check()?;
        Ok(spec)
    }
}

impl ProvenanceSpec {
    pub(in crate::file) fn check(&self) -> Result<(), String> {
        match (&self.repository, &self.repository_regex) {
            (Some(_), Some(_)) => return Err("`repository` and `repository_regex` exclude each other".into()),
            (None, None) if self.builder.is_none() => {
                return Err("the provenance names no `repository` and no `builder`".into());
            }
            _ => {}
        }
        let named = self.repository.as_deref().is_some_and(|repository| !repository.contains("://"));
        if !named && (self.server.is_some() || self.issuer.is_some()) {
            return Err("`server` and `issuer` are for a repository that is named as owner/name".into());
        }
        // Names are tried out here, where an error still has its place in the file.
        crate::file::build::asked_for(self).map(drop).map_err(|error| with_cause(&error))
    }
}
