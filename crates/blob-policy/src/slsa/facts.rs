//! What a predicate says about a build, in either version.

use std::fmt::Write as _;

use serde_json::Value;

use super::uri::SourceUri;

/// What is read of a predicate. Nothing is guessed: dependencies that happen to come first are no source.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) builder: String,
    pub(super) source: Option<SourceUri>,
    pub(super) git_ref: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) workflow: Option<String>,
}

/// A string at `path`: absent is `None`, anything else is an error, not an empty string.
fn text(value: &Value, path: &str) -> Result<Option<String>, String> {
    match value.pointer(path) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{path} of the provenance is not a string")),
    }
}

fn builder(value: &Value, path: &str) -> Result<String, String> {
    let id = text(value, path)?.filter(|id| !id.is_empty());
    id.ok_or_else(|| "the provenance names no builder".to_owned())
}

fn source(uri: Option<String>) -> Result<Option<SourceUri>, String> {
    let Some(uri) = uri else { return Ok(None) };
    SourceUri::parse(&uri).map(Some).ok_or_else(|| format!("the source {uri:?} of the provenance is odd"))
}

/// Two places that say the same, or one of them; different words are an error.
fn same(what: &str, one: Option<String>, two: Option<String>) -> Result<Option<String>, String> {
    match (one, two) {
        (Some(one), Some(two)) if one != two => Err(format!("the provenance names two {what}: {one:?} and {two:?}")),
        (one, two) => Ok(one.or(two)),
    }
}

impl Facts {
    /// What was built, from what, by whom.
    pub(super) fn finding(&self) -> String {
        let mut text = format!("built by {}", self.builder);
        if let Some(source) = &self.source {
            let _ = write!(text, " from {source}");
        }
        if let Some(git_ref) = &self.git_ref {
            let _ = write!(text, " at {git_ref}");
        }
        text
    }

    pub(super) fn v1(predicate: &Value) -> Result<Self, String> {
        let external = |path: &str| text(predicate, &format!("/buildDefinition/externalParameters/{path}"));
        let named = match external("workflow/repository")? {
            Some(repository) => Some(repository),
            None => external("source/uri")?,
        };
        let source = source(named)?;
        let suffix = source.as_ref().and_then(|source| source.git_ref.clone());
        let mut commit = None;
        let dependencies = predicate.pointer("/buildDefinition/resolvedDependencies").and_then(Value::as_array);
        for dependency in dependencies.into_iter().flatten() {
            let uri = text(dependency, "/uri")?.and_then(|uri| SourceUri::parse(&uri));
            if uri.zip(source.as_ref()).is_some_and(|(uri, source)| uri.same_repository(source)) {
                commit = same("commits", commit, text(dependency, "/digest/gitCommit")?)?;
            }
        }
        Ok(Self {
            builder: builder(predicate, "/runDetails/builder/id")?,
            git_ref: same("refs", external("workflow/ref")?, suffix)?,
            workflow: external("workflow/path")?,
            commit,
            source,
        })
    }

    pub(super) fn v0_2(predicate: &Value) -> Result<Self, String> {
        let source = source(text(predicate, "/invocation/configSource/uri")?)?;
        let suffix = source.as_ref().and_then(|source| source.git_ref.clone());
        Ok(Self {
            builder: builder(predicate, "/builder/id")?,
            git_ref: same("refs", suffix, text(predicate, "/invocation/environment/github_ref")?)?,
            workflow: text(predicate, "/invocation/configSource/entryPoint")?,
            commit: text(predicate, "/invocation/configSource/digest/sha1")?,
            source,
        })
    }
}
