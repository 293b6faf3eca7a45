//! Credentials that are given outright, and combinations.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Credential, Credentials, CredentialsError, same_registry};
use crate::reference::Repository;

/// No credentials for anyone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

#[async_trait]
impl Credentials for Anonymous {
    async fn lookup(&self, _: &str, _: Option<&Repository>) -> Result<Option<Credential>, CredentialsError> {
        Ok(None)
    }
}

/// Credentials given by the caller, for any number of hosts. The names of Docker Hub are one host.
///
/// ```
/// use blob_registry::client::{Credential, Static};
///
/// let credentials = Static::new()
///     .with("localhost:5000", Credential::basic("user", "password"))
///     .with("docker.io", Credential::registry_token("token"));
/// # let _ = credentials;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Static {
    entries: Vec<(String, Credential)>,
}

impl Static {
    /// Credentials for nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the credential for `host` (`host` or `host:port`), replacing an earlier one.
    #[must_use]
    pub fn with(mut self, host: impl Into<String>, credential: Credential) -> Self {
        let host = host.into();
        self.entries.retain(|(known, _)| !same_registry(known, &host));
        self.entries.push((host, credential));
        self
    }
}

#[async_trait]
impl Credentials for Static {
    async fn lookup(&self, host: &str, _: Option<&Repository>) -> Result<Option<Credential>, CredentialsError> {
        Ok(self.entries.iter().find(|(known, _)| same_registry(known, host)).map(|(_, credential)| credential.clone()))
    }
}

/// Asks one source after the other; the first that knows the host answers. A source that fails is reported only if
/// none behind it knows the host.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    links: Vec<Arc<dyn Credentials>>,
}

impl Chain {
    /// A chain that knows nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source behind the others.
    #[must_use]
    pub fn then(mut self, credentials: impl Credentials + 'static) -> Self {
        self.links.push(Arc::new(credentials));
        self
    }
}

#[async_trait]
impl Credentials for Chain {
    async fn lookup(
        &self,
        host: &str,
        repository: Option<&Repository>,
    ) -> Result<Option<Credential>, CredentialsError> {
        let mut failure = None;
        for link in &self.links {
            match link.lookup(host, repository).await {
                Ok(Some(credential)) => return Ok(Some(credential)),
                Ok(None) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug)]
    struct Broken;

    #[async_trait]
    impl Credentials for Broken {
        async fn lookup(&self, _: &str, _: Option<&Repository>) -> Result<Option<Credential>, CredentialsError> {
            Err(CredentialsError::Other("broken".into()))
        }
    }

    #[tokio::test]
    async fn hosts_are_told_apart_and_docker_hub_is_one() {
        let credentials = Static::new()
            .with("a:5000", Credential::basic("u", "p"))
            .with("docker.io", Credential::registry_token("t"))
            .with("A:5000", Credential::basic("u2", "p"));
        let user = |host: &'static str| {
            let credentials = credentials.clone();
            async move { credentials.lookup(host, None).await.unwrap() }
        };
        assert_eq!(user("a:5000").await, Some(Credential::basic("u2", "p")));
        assert_eq!(user("a:5001").await, None);
        assert_eq!(user("a").await, None);
        assert_eq!(user("registry-1.docker.io").await, Some(Credential::registry_token("t")));
        assert_eq!(user("evil-docker.io").await, None);
    }

    #[tokio::test]
    async fn a_chain_goes_past_failures() {
        let chain = Chain::new().then(Broken).then(Static::new().with("h", Credential::basic("u", "p")));
        assert!(chain.lookup("h", None).await.unwrap().is_some());
        assert!(chain.lookup("other", None).await.is_err());
        assert!(Chain::new().then(Anonymous).lookup("h", None).await.unwrap().is_none());
    }

    #[test]
    fn secrets_do_not_print() {
        let credentials = Static::new()
            .with("a", Credential::basic("user", "canary"))
            .with("b", Credential::identity_token("canary"))
            .with("c", Credential::registry_token("canary"));
        assert!(!format!("{credentials:?} {:?}", Chain::new().then(credentials.clone())).contains("canary"));
    }
}
