//! Trust roots that are kept up to date by TUF (The Update Framework).
//!
//! What comes from the network or from the cache is believed only after the whole chain was verified from a root that
//! the program brought along: signatures and their thresholds, versions that never go back, and expiry. The cache is a
//! directory that others may write to, so what is read from it is verified again each time.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sigstore_trust_root::{SigningConfig, SigstoreInstance, TrustedRoot, TufBootstrap, TufConfig, reqwest};

use super::trust::{TrustRoot, TrustRootError};

/// A TUF repository that publishes a trust root, and where to keep what was fetched.
#[derive(Clone)]
pub struct TrustRootSource {
    name: String,
    config: TufConfig,
    cache: Option<PathBuf>,
    timeout: Duration,
}

/// A trust root, and how it was had.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refreshed {
    /// The trust root.
    pub root: TrustRoot,
    /// Why it is the last known one instead of the newest. It was verified again, and had not expired.
    pub stale: Option<TrustRootError>,
}

impl TrustRootSource {
    /// The public-good instance.
    pub fn production() -> Self {
        Self::of("the public-good instance", SigstoreInstance::PublicGood.tuf_config())
    }

    /// GitHub's instance for private repositories.
    pub fn github() -> Self {
        Self::of("GitHub's instance", SigstoreInstance::GitHub.tuf_config())
    }

    /// The repository at `url`, trusted as far as this `root.json` of it says.
    pub fn custom(url: &str, root_json: &[u8]) -> Self {
        Self::of(url, TufConfig::custom(url, TufBootstrap::trusted(root_json)))
    }

    fn of(name: &str, config: TufConfig) -> Self {
        Self { name: name.into(), config, cache: None, timeout: Duration::from_secs(30) }
    }

    /// Keeps what was fetched below `directory`, which is this repository's alone.
    #[must_use]
    pub fn cache_dir(mut self, directory: &Path) -> Self {
        self.cache = Some(directory.to_owned());
        self
    }

    /// How long one answer may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The newest trust root. When it cannot be had, and for whatever reason, the last known one of the cache, as long as
    /// its metadata has not expired; [`Refreshed::stale`] then says why. An attacker who blocks the network can so hold
    /// back news for as long as the repository lets its time-stamp live: about a week, for the public-good instance.
    ///
    /// # Errors
    /// [`TrustRootError::Refresh`] when there is neither.
    pub async fn refresh(&self) -> Result<Refreshed, TrustRootError> {
        match self.newest().await {
            Ok(root) => Ok(Refreshed { root, stale: None }),
            Err(error) => match self.offline().await {
                Ok(root) => {
                    tracing::warn!(repository = self.name, %error, "using the last known trust root");
                    Ok(Refreshed { root, stale: Some(error) })
                }
                Err(_) => Err(error),
            },
        }
    }

    /// The last known trust root, without the network: verified, and not expired.
    ///
    /// # Errors
    /// [`TrustRootError::Refresh`].
    pub async fn offline(&self) -> Result<TrustRoot, TrustRootError> {
        let Some(directory) = &self.cache else { return Err(self.failed("no cache directory is configured")) };
        self.load(self.config.clone().with_cache_dir(directory.clone()).offline()).await
    }

    /// The newest signing configuration that the repository publishes beside the trust root, as JSON; with a cache that
    /// has not expired, also when it cannot be reached. `Services::from_signing_config` reads it.
    ///
    /// # Errors
    /// [`TrustRootError::Refresh`].
    pub async fn signing_config(&self) -> Result<Vec<u8>, TrustRootError> {
        let config = match SigningConfig::from_tuf(self.online()?).await {
            Ok(config) => config,
            Err(error) => match &self.cache {
                None => return Err(self.failed(error)),
                Some(directory) => {
                    let kept = self.config.clone().with_cache_dir(directory.clone()).offline();
                    SigningConfig::from_tuf(kept).await.map_err(|_| self.failed(error))?
                }
            },
        };
        serde_json::to_vec(&config).map_err(|source| self.failed(source))
    }

    async fn newest(&self) -> Result<TrustRoot, TrustRootError> {
        self.load(self.online()?).await
    }

    fn online(&self) -> Result<TufConfig, TrustRootError> {
        let client = reqwest::Client::builder().timeout(self.timeout).connect_timeout(self.timeout).build();
        let config = self.config.clone().with_http_client(client.map_err(|source| self.failed(source))?);
        Ok(match &self.cache {
            Some(directory) => config.with_cache_dir(directory.clone()),
            None => config.without_cache(),
        })
    }

    async fn load(&self, config: TufConfig) -> Result<TrustRoot, TrustRootError> {
        let root = TrustedRoot::from_tuf(config).await.map_err(|source| self.failed(source))?;
        TrustRoot::from_json(&serde_json::to_vec(&root).map_err(|source| self.failed(source))?)
    }

    fn failed(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> TrustRootError {
        TrustRootError::Refresh { repository: self.name.clone(), source: source.into() }
    }
}

impl fmt::Debug for TrustRootSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustRootSource").field("name", &self.name).field("cache", &self.cache).finish_non_exhaustive()
    }
}
