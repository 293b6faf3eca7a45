//! The credentials that the environment of the process names: variables, and the files of other programs.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::docker::DockerConfig;
use super::{Chain, Credential, CredentialsError, Static};

/// Finds variables of the environment.
type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Chain {
    /// The sources that the environment of this process names, in this order:
    ///
    /// 1. `BLOB_USERNAME` and `BLOB_PASSWORD`, for the host in `BLOB_REGISTRY` and no other;
    /// 2. `DOCKER_AUTH_CONFIG`, which holds the text of a Docker configuration file;
    /// 3. the file that `REGISTRY_AUTH_FILE` names;
    /// 4. the Docker configuration: `config.json` in `DOCKER_CONFIG`, else in `~/.docker`;
    /// 5. the login file of Podman and Skopeo: `containers/auth.json` in `XDG_RUNTIME_DIR`, then in `XDG_CONFIG_HOME`, else
    ///    in `~/.config`.
    ///
    /// A file that does not exist holds no credentials: a first login makes it. One that may not be read costs a warning,
    /// except the one in `REGISTRY_AUTH_FILE`.
    ///
    /// # Errors
    /// [`CredentialsError::File`] and [`CredentialsError::Malformed`] for what exists and cannot be used;
    /// [`CredentialsError::Variable`] for variables that make no sense together.
    pub fn from_env() -> Result<Self, CredentialsError> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    fn from_variables(variable: Variable<'_>) -> Result<Self, CredentialsError> {
        let mut chain = Self::new();
        if let Some(own) = own(variable)? {
            chain = chain.then(own);
        }
        if let Some(text) = filled(variable, "DOCKER_AUTH_CONFIG") {
            let text = text.into_encoded_bytes();
            chain = chain.then(DockerConfig::parse(&text, Path::new("$DOCKER_AUTH_CONFIG"))?);
        }
        for path in files(variable) {
            match DockerConfig::load(&path) {
                Ok(config) => chain = chain.then(config),
                Err(CredentialsError::File { source, .. }) if is_absent(&source) => {}
                // Asked for by name, it has to be there for us; elsewhere it can be another user's, after `su`.
                Err(CredentialsError::File { path, source })
                    if source.kind() == ErrorKind::PermissionDenied && !is_named(variable, &path) =>
                {
                    tracing::warn!(path = %path.display(), error = %source, "logins in this file are not used");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(chain)
    }
}

/// Whether `path` is the one that `REGISTRY_AUTH_FILE` names.
fn is_named(variable: Variable<'_>, path: &Path) -> bool {
    filled(variable, "REGISTRY_AUTH_FILE").is_some_and(|named| Path::new(&named) == path)
}

/// Whether nothing is there.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A variable that is set and not empty.
fn filled(variable: Variable<'_>, name: &str) -> Option<OsString> {
    variable(name).filter(|value| !value.is_empty())
}

fn text(variable: Variable<'_>, name: &'static str) -> Result<Option<String>, CredentialsError> {
    let Some(value) = filled(variable, name) else { return Ok(None) };
    value.into_string().map(Some).map_err(|_| CredentialsError::Variable { name, detail: "it is not UTF-8" })
}

/// The credential in our own variables. It names its host, since what is met on the way must not get it.
fn own(variable: Variable<'_>) -> Result<Option<Static>, CredentialsError> {
    let Some(host) = text(variable, "BLOB_REGISTRY")? else { return Ok(None) };
    match (text(variable, "BLOB_USERNAME")?, text(variable, "BLOB_PASSWORD")?) {
        (Some(user), Some(password)) => Ok(Some(Static::new().with(host, Credential::basic(user, password)))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(CredentialsError::Variable { name: "BLOB_USERNAME", detail: "BLOB_PASSWORD is not set" })
        }
        (None, Some(_)) => {
            Err(CredentialsError::Variable { name: "BLOB_PASSWORD", detail: "BLOB_USERNAME is not set" })
        }
    }
}

/// The files to look into, in order.
fn files(variable: Variable<'_>) -> Vec<PathBuf> {
    let path = |name: &str| filled(variable, name).map(PathBuf::from);
    let home = path("HOME");
    let below_home = |directory: &str| home.as_ref().map(|home| home.join(directory));
    let docker = path("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    let config = path("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let containers = [path("XDG_RUNTIME_DIR"), config].map(|dir| dir.map(|dir| dir.join("containers/auth.json")));
    let docker = docker.map(|dir| dir.join("config.json"));
    [path("REGISTRY_AUTH_FILE"), docker].into_iter().chain(containers).flatten().collect()
}

/// Where a login is written to: the file of `REGISTRY_AUTH_FILE` if that is set, else the Docker configuration.
pub(super) fn login_file(variable: Variable<'_>) -> Option<PathBuf> {
    let path = |name: &str| filled(variable, name).map(PathBuf::from);
    let docker = || path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
    path("REGISTRY_AUTH_FILE").or_else(|| Some(docker()?.join("config.json")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::Credentials as _;

    fn chain(variables: &[(&str, &str)]) -> Result<Chain, CredentialsError> {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Chain::from_variables(&found)
    }

    fn entry(user: &str) -> String {
        format!(r#"{{"auths":{{"h":{{"username":"{user}","password":"p"}}}}}}"#)
    }

    async fn user(variables: &[(&str, &str)], host: &str) -> Option<String> {
        match chain(variables).unwrap().lookup(host, None).await.unwrap() {
            Some(Credential::Basic { user, .. }) => Some(user),
            _ => None,
        }
    }

    #[tokio::test]
    async fn sources_come_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        for (path, user) in [
            ("own.json", "file"),
            ("docker/config.json", "docker"),
            ("run/containers/auth.json", "run"),
            ("home/.config/containers/auth.json", "home"),
        ] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, entry(user)).unwrap();
        }
        let inline = entry("inline");
        let (file, docker, run, home) = (at("own.json"), at("docker"), at("run"), at("home"));
        let mut variables = vec![
            ("BLOB_REGISTRY", "h"),
            ("BLOB_USERNAME", "blob"),
            ("BLOB_PASSWORD", "p"),
            ("DOCKER_AUTH_CONFIG", inline.as_str()),
            ("REGISTRY_AUTH_FILE", &file),
            ("DOCKER_CONFIG", &docker),
            ("XDG_RUNTIME_DIR", &run),
            ("HOME", &home),
        ];
        assert_eq!(user(&variables, "h").await.as_deref(), Some("blob"));
        assert_eq!(user(&variables, "other").await, None, "the variables are for one host");
        variables.drain(..3);
        for expected in ["inline", "file", "docker", "run", "home"] {
            assert_eq!(user(&variables, "h").await.as_deref(), Some(expected));
            variables.remove(0);
        }
        assert!(variables.is_empty());
        assert_eq!(user(&[], "h").await, None);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let halves = [("BLOB_REGISTRY", "h"), ("BLOB_USERNAME", "u")];
        assert!(matches!(chain(&halves), Err(CredentialsError::Variable { .. })));
        let broken = chain(&[("DOCKER_AUTH_CONFIG", "canary")]).unwrap_err().to_string();
        assert!(broken.contains("DOCKER_AUTH_CONFIG") && !broken.contains("canary"), "{broken}");
        // Without a host there is nobody to send it to.
        assert!(chain(&[("BLOB_USERNAME", "u")]).is_ok());
        assert!(chain(&[("REGISTRY_AUTH_FILE", "/does/not/exist")]).is_ok());
    }

    #[test]
    fn a_login_goes_to_the_file_that_is_read_first() {
        let file = |variables: &[(&str, &str)]| {
            login_file(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        assert_eq!(file(&[("HOME", "/h")]), Some("/h/.docker/config.json".into()));
        assert_eq!(file(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]), Some("/d/config.json".into()));
        assert_eq!(file(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/r.json")]), Some("/r.json".into()));
        assert_eq!(file(&[]), None);
    }
}
