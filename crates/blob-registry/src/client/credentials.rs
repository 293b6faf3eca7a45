//! Who we are to a registry: where credentials come from, and what they are.
//!
//! Nothing in here can be printed: `Debug` of every type shows names of users and files, never a secret.

mod docker;
mod document;
mod environment;
mod fixed;
mod helper;
mod store;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{Digest, Hasher};
use blob_http::Secret;

use crate::reference::Repository;

pub use docker::DockerConfig;
pub use fixed::{Anonymous, Chain, Static};
pub use store::{CredentialStore, Saved};

/// Finds credentials.
///
/// The client asks when a registry demands credentials, and keeps the answer for some minutes.
#[async_trait]
pub trait Credentials: fmt::Debug + Send + Sync {
    /// The credential for `repository` at `host` (`host` or `host:port`, as written in references); `None` means
    /// anonymous. `repository` is absent for requests that are about the whole registry.
    ///
    /// # Errors
    /// When credentials are configured but could not be had. A client that only reads goes on anonymously then.
    async fn lookup(&self, host: &str, repository: Option<&Repository>)
    -> Result<Option<Credential>, CredentialsError>;
}

#[async_trait]
impl<C: Credentials + ?Sized> Credentials for Arc<C> {
    async fn lookup(
        &self,
        host: &str,
        repository: Option<&Repository>,
    ) -> Result<Option<Credential>, CredentialsError> {
        (**self).lookup(host, repository).await
    }
}

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// A user name and password: sent to the registry, or to its token service if it has one.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret<String>,
    },
    /// An identity (OAuth2 refresh) token: exchanged for access tokens, never sent to the registry itself.
    IdentityToken(Secret<String>),
    /// An access token: sent to the registry as it is.
    RegistryToken(Secret<String>),
}

impl Credential {
    /// A user name and password.
    pub fn basic(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic { user: user.into(), password: Secret::new(password.into()) }
    }

    /// An identity token.
    pub fn identity_token(token: impl Into<String>) -> Self {
        Self::IdentityToken(Secret::new(token.into()))
    }

    /// An access token.
    pub fn registry_token(token: impl Into<String>) -> Self {
        Self::RegistryToken(Secret::new(token.into()))
    }

    /// Tells credentials apart without holding them: what tokens are cached by.
    pub(super) fn identity(&self) -> Digest {
        let (kind, user, secret) = match self {
            Self::Basic { user, password } => ("basic", user.as_str(), password),
            Self::IdentityToken(token) => ("identity", "", token),
            Self::RegistryToken(token) => ("registry", "", token),
        };
        let mut hasher = Hasher::sha256();
        for part in [kind, user, secret.expose().as_str()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finish()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user:?}, …)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(…)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(…)"),
        }
    }
}

/// Credentials are configured but could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("reading credentials from {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not what it should be. Its content is never quoted.
    #[error("credentials file {} is malformed: {detail}", path.display())]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// What is wrong, and where.
        detail: String,
    },
    /// A credential helper failed.
    #[error("credential helper {helper} failed for {server}: {detail}")]
    Helper {
        /// The program's name.
        helper: String,
        /// What it was asked for.
        server: String,
        /// What went wrong.
        detail: String,
    },
    /// Neither `DOCKER_CONFIG` nor `HOME` is set, so there is no place to look.
    #[error("no credentials file: neither DOCKER_CONFIG nor HOME is set")]
    NoHome,
    /// A variable of the environment makes no sense.
    #[error("{name} is set, but {detail}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        detail: &'static str,
    },
    /// A source of credentials outside this crate failed.
    #[error("looking up credentials: {0}")]
    Other(String),
}

/// Whether two hosts are the same registry: equal, or both names of Docker Hub.
fn same_registry(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (is_docker_hub(a) && is_docker_hub(b))
}

/// Whether `host` is one of Docker Hub's names.
pub(super) fn is_docker_hub(host: &str) -> bool {
    const NAMES: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
    let name = host.strip_suffix(":443").unwrap_or(host);
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}
