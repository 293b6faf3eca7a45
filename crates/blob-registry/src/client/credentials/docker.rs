//! `config.json` as Docker, Podman and Skopeo write it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::{Credential, Credentials, CredentialsError, helper, is_docker_hub, same_registry};
use crate::reference::Repository;

/// A larger file is not a credentials file.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The key under which Docker keeps the credentials of Docker Hub.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The credentials in a Docker configuration file: `auths`, `credHelpers`, `credsStore`.
///
/// Look-up order: the helper named for the host in `credHelpers`; the entry in `auths` with the longest matching path
/// (keys such as `host/team` count for repositories below them); the helper named by `credsStore`. The names of Docker
/// Hub stand for each other.
///
/// Helpers are programs from `PATH`; they run without blocking, for at most 30 seconds.
#[derive(Clone)]
pub struct DockerConfig {
    path: PathBuf,
    auths: Vec<(String, Option<Credential>)>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names of the file")]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl DockerConfig {
    /// Reads `config.json` in the directory that the environment names: `DOCKER_CONFIG`, else `.docker` in `HOME`. A
    /// file that does not exist holds no credentials.
    ///
    /// # Errors
    /// [`CredentialsError::File`], [`CredentialsError::Malformed`]; [`CredentialsError::NoHome`].
    pub fn from_env() -> Result<Self, CredentialsError> {
        let path = default_path(std::env::var_os("DOCKER_CONFIG"), std::env::var_os("HOME"));
        let path = path.ok_or(CredentialsError::NoHome)?;
        Self::load_or_empty(&path)
    }

    /// As [`load`](Self::load), but a file that does not exist holds no credentials.
    pub(super) fn load_or_empty(path: &Path) -> Result<Self, CredentialsError> {
        match Self::load(path) {
            Err(CredentialsError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { path: path.into(), auths: Vec::new(), helpers: BTreeMap::new(), store: None })
            }
            other => other,
        }
    }

    /// Reads the file at `path`, which must exist: a `config.json`, or Podman's `auth.json`.
    ///
    /// # Errors
    /// [`CredentialsError::File`] and [`CredentialsError::Malformed`].
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, CredentialsError> {
        let path = path.into();
        let bytes = read(&path).map_err(|source| CredentialsError::File { path: path.clone(), source })?;
        Self::parse(&bytes, &path)
    }

    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, CredentialsError> {
        let malformed = |detail: String| CredentialsError::Malformed { path: path.into(), detail };
        let file: File = serde_json::from_slice(bytes).map_err(|error| {
            // The parser's message may quote a value, and values here are secrets.
            malformed(format!("line {}, column {} is not the expected JSON", error.line(), error.column()))
        })?;
        let mut auths = Vec::with_capacity(file.auths.len());
        for (key, auth) in file.auths {
            let credential = auth.credential().map_err(|detail| malformed(format!("entry {key:?}: {detail}")))?;
            auths.push((key, credential));
        }
        for name in file.helpers.values().chain(&file.store) {
            if !name.is_empty() && !helper::is_name(name) {
                return Err(malformed(format!("{name:?} cannot be the name of a credential helper")));
            }
        }
        let store = file.store.filter(|name| !name.is_empty());
        Ok(Self { path: path.into(), auths, helpers: file.helpers, store })
    }

    /// The entry for `host` with the longest path that `repository` lies under.
    fn entry(&self, host: &str, repository: Option<&Repository>) -> Option<&Credential> {
        let fitting = self.auths.iter().filter_map(|(key, credential)| {
            let (key_host, path) = split_key(key);
            let path_fits = path.is_empty()
                || repository.is_some_and(|name| {
                    name.as_str().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                });
            let credential = credential.as_ref()?;
            (path_fits && same_registry(key_host, host)).then_some((path.len(), key == host, credential))
        });
        fitting.max_by_key(|&(length, exact, _)| (length, exact)).map(|(_, _, credential)| credential)
    }

    /// The helper that keeps the login for `host`, if one does.
    pub(super) fn store_for(&self, host: &str) -> Option<&str> {
        self.helper_for(host).or(self.store.as_deref())
    }

    fn helper_for(&self, server: &str) -> Option<&str> {
        let exact = self.helpers.get(server);
        let fitting = || self.helpers.iter().find(|(key, _)| same_registry(split_key(key).0, server));
        exact.or_else(|| fitting().map(|(_, name)| name)).map(String::as_str).filter(|name| !name.is_empty())
    }
}

#[async_trait]
impl Credentials for DockerConfig {
    async fn lookup(
        &self,
        host: &str,
        repository: Option<&Repository>,
    ) -> Result<Option<Credential>, CredentialsError> {
        let named = self.helper_for(host);
        if named.is_none()
            && let Some(credential) = self.entry(host, repository)
        {
            return Ok(Some(credential.clone()));
        }
        let Some(name) = named.or(self.store.as_deref()) else { return Ok(None) };
        let servers: &[&str] = if is_docker_hub(host) {
            &[DOCKER_HUB_KEY, "index.docker.io", "docker.io", "registry-1.docker.io"]
        } else {
            &[host]
        };
        for server in servers {
            if let Some(credential) = helper::get(name, server).await? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }
}

impl Auth {
    /// The credential of an entry; Docker leaves empty entries behind when a helper keeps the secret.
    fn credential(self) -> Result<Option<Credential>, &'static str> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::registry_token(self.registrytoken)));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::identity_token(self.identitytoken)));
        }
        if !self.auth.is_empty() {
            let decoded = BASE64_STANDARD.decode(self.auth.trim()).map_err(|_| "\"auth\" is not base64")?;
            let decoded = String::from_utf8(decoded).map_err(|_| "\"auth\" is not text")?;
            let (user, password) = decoded.split_once(':').ok_or("\"auth\" holds no user:password")?;
            // Old versions of Docker padded with zero bytes.
            return Ok(Some(Credential::basic(user, password.trim_end_matches('\0'))));
        }
        let given = !self.username.is_empty() || !self.password.is_empty();
        Ok(given.then(|| Credential::basic(self.username, self.password)))
    }
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

fn default_path(docker_config: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let directory = match docker_config.filter(|directory| !directory.is_empty()) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(home.filter(|home| !home.is_empty())?).join(".docker"),
    };
    Some(directory.join("config.json"))
}

pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    blob_core::plain::read(path, MAX_FILE_BYTES)
}

/// Whether `key` is one under which a login for all of `host` is kept.
pub(super) fn is_key_of(key: &str, host: &str) -> bool {
    let (key_host, path) = split_key(key);
    path.is_empty() && same_registry(key_host, host)
}

/// Parts a key into host and path: `https://host/v1/` and `host` have no path, `host/team` has.
fn split_key(key: &str) -> (&str, &str) {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let path = path.trim_end_matches('/');
    // `/v1` and `/v2` are versions of the protocol, which old tools wrote behind the host.
    (host, if bare.is_some() || matches!(path, "v1" | "v2") { "" } else { path })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(text: &str) -> Result<DockerConfig, CredentialsError> {
        DockerConfig::parse(text.as_bytes(), Path::new("config.json"))
    }

    fn find(text: &str, host: &str, repository: Option<&str>) -> Option<Credential> {
        let repository = repository.map(|name| Repository::new(name).unwrap());
        config(text).unwrap().entry(host, repository.as_ref()).cloned()
    }

    #[test]
    fn entries_are_read() {
        let auth = |text: &str| BASE64_STANDARD.encode(text);
        let text = format!(
            r#"{{"auths":{{"a":{{"auth":"{}"}},"b:5000":{{"username":"u","password":"p:q"}},
            "c":{{"auth":"{}","identitytoken":"t"}},"d":{{"registrytoken":"t"}},"e":{{}},
            "https://index.docker.io/v1/":{{"auth":"{}"}}}},"HttpHeaders":{{}}}}"#,
            auth("u:p:q"),
            auth("u:p"),
            auth("hub:p")
        );
        assert_eq!(find(&text, "a", None), Some(Credential::basic("u", "p:q")));
        assert_eq!(find(&text, "b:5000", None), Some(Credential::basic("u", "p:q")));
        assert_eq!(find(&text, "b", None), None);
        assert_eq!(find(&text, "c", None), Some(Credential::identity_token("t")));
        assert_eq!(find(&text, "d", None), Some(Credential::registry_token("t")));
        assert_eq!(find(&text, "e", None), None);
        for alias in ["docker.io", "registry-1.docker.io", "index.docker.io"] {
            assert_eq!(find(&text, alias, None), Some(Credential::basic("hub", "p")), "{alias}");
        }
    }

    #[test]
    fn the_longest_path_wins() {
        let entry = |user: &str| format!(r#"{{"username":"{user}","password":"p"}}"#);
        let text = format!(
            r#"{{"auths":{{"h":{},"h/team":{},"h/team/app":{}}}}}"#,
            entry("root"),
            entry("team"),
            entry("app")
        );
        for (repository, user) in [
            (None, "root"),
            (Some("x"), "root"),
            (Some("team/x"), "team"),
            (Some("team/app/y"), "app"),
            (Some("teams"), "root"),
        ] {
            assert_eq!(find(&text, "h", repository), Some(Credential::basic(user, "p")), "{repository:?}");
        }
    }

    #[test]
    fn malformed_files_are_named_and_never_quoted() {
        for text in [
            "",
            "canary",
            r#"{"auths":{"a":{"auth":"%%canary"}}}"#,
            r#"{"auths":{"a":{"auth":["canary"]}}}"#,
            r#"{"auths":{"a":{"auth":"Y2FuYXJ5"}}}"#,
            r#"{"auths":{"a":"canary"}}"#,
            r#"{"credsStore":"../evil"}"#,
            r#"{"credHelpers":{"h":"a b"}}"#,
        ] {
            let error = config(text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("config.json"), "{shown}");
            assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
        }
        assert!(config("{}").is_ok());
    }

    #[test]
    fn helpers_are_chosen_by_host() {
        let config = config(r#"{"credHelpers":{"gcr.io":"gcloud","docker.io":"hub"},"credsStore":"desktop"}"#).unwrap();
        assert_eq!(config.helper_for("gcr.io"), Some("gcloud"));
        assert_eq!(config.helper_for("registry-1.docker.io"), Some("hub"));
        assert_eq!(config.helper_for("other"), None);
        assert_eq!(config.store.as_deref(), Some("desktop"));
    }

    #[test]
    fn the_environment_names_the_file() {
        let path =
            |config: Option<&str>, home: Option<&str>| default_path(config.map(Into::into), home.map(Into::into));
        assert_eq!(path(Some("/c"), Some("/h")), Some("/c/config.json".into()));
        assert_eq!(path(Some(""), Some("/h")), Some("/h/.docker/config.json".into()));
        assert_eq!(path(None, None), None);
    }
}
