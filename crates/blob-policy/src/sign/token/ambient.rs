//! Tokens that a build system gives to its jobs.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::{AUDIENCE, IdentityToken, MAX_TOKEN_BYTES, PROGRAM_LIMIT, TokenError, TokenSource};
use crate::sign::services::{Http, Question, Services, address};

/// Looks up an environment variable.
pub type Variables = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// The token of the job that this runs in: `SIGSTORE_ID_TOKEN` wherever it is set (GitLab CI sets it by `id_tokens`),
/// GitHub Actions, Buildkite, CircleCI.
#[derive(Clone)]
pub struct AmbientToken {
    variables: Variables,
    services: Services,
}

impl AmbientToken {
    /// Looks for it by the environment of this process.
    pub fn from_environment(services: &Services) -> Self {
        Self::with_variables(Arc::new(|name| std::env::var_os(name)), services)
    }

    /// Looks for it by these variables; `PATH` is where the programs of Buildkite and CircleCI are looked for.
    pub fn with_variables(variables: Variables, services: &Services) -> Self {
        Self { variables, services: services.clone() }
    }

    fn text(&self, name: &str) -> Option<Zeroizing<String>> {
        let value = (self.variables)(name)?.into_string().ok()?;
        Some(Zeroizing::new(value)).filter(|value| !value.is_empty())
    }

    fn says(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value.as_str() == "true")
    }

    async fn github(&self) -> Result<IdentityToken, TokenError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            value: &'a str,
        }
        let system = "GitHub Actions";
        let missing = || TokenError::NotAllowed { system, hint: "give the job `permissions: id-token: write`" };
        let url = self.text("ACTIONS_ID_TOKEN_REQUEST_URL").ok_or_else(missing)?;
        let bearer = self.text("ACTIONS_ID_TOKEN_REQUEST_TOKEN").ok_or_else(missing)?;
        let failed = |source| TokenError::Ask { system, source };
        let mut url = address(&url).map_err(failed)?;
        url.query_pairs_mut().append_pair("audience", AUDIENCE);
        let http: Http = self.services.http().map_err(failed)?;
        let question = Question { url: &url, body: None, bearer: Some(&bearer) };
        let answer = Zeroizing::new(http.ask(question).await.map_err(failed)?);
        let answer: Answer<'_> =
            serde_json::from_slice(&answer).map_err(|_| TokenError::Malformed("GitHub Actions answered without it"))?;
        IdentityToken::new(answer.value)
    }

    /// Runs a program of `PATH` that prints a token.
    async fn program(&self, name: &str, arguments: &[&str]) -> Result<IdentityToken, TokenError> {
        let failed = |reason: String| TokenError::Program { program: name.into(), reason };
        let path = (self.variables)("PATH").unwrap_or_default();
        let found: Option<PathBuf> = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
        let found = found.ok_or_else(|| failed("it is not in PATH".into()))?;
        let run = async {
            let mut child = tokio::process::Command::new(found)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| failed(error.to_string()))?;
            let mut text = Zeroizing::new(String::new());
            if let Some(output) = child.stdout.take() {
                let read = output.take(MAX_TOKEN_BYTES).read_to_string(&mut text).await;
                read.map_err(|error| failed(error.to_string()))?;
            }
            let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
            if status.success() { Ok(text) } else { Err(failed(format!("it ended with {status}"))) }
        };
        let text = tokio::time::timeout(PROGRAM_LIMIT, run).await;
        IdentityToken::new(&text.map_err(|_| failed("it took longer than a minute".into()))??)
    }
}

#[async_trait]
impl TokenSource for AmbientToken {
    async fn token(&self) -> Result<IdentityToken, TokenError> {
        if let Some(token) = self.text("SIGSTORE_ID_TOKEN") {
            return IdentityToken::new(&token);
        }
        if self.says("GITHUB_ACTIONS") {
            return self.github().await;
        }
        if self.says("GITLAB_CI") {
            let hint = "declare `id_tokens: SIGSTORE_ID_TOKEN: aud: sigstore` in the job";
            return Err(TokenError::NotAllowed { system: "GitLab CI", hint });
        }
        if self.says("BUILDKITE") {
            return self.program("buildkite-agent", &["oidc", "request-token", "--audience", AUDIENCE]).await;
        }
        if self.says("CIRCLECI") {
            let claims = format!(r#"{{"aud":"{AUDIENCE}"}}"#);
            return self.program("circleci", &["run", "oidc", "get", "--root-issuer", "--claims", &claims]).await;
        }
        Err(TokenError::NotFound)
    }
}

impl fmt::Debug for AmbientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmbientToken").finish_non_exhaustive()
    }
}
