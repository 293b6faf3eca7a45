//! Trust roots that are kept up to date by TUF (The Update Framework).
//!
//! What comes from the network or from the cache is believed only after the whole chain was verified from a root that
//! the program brought along: signatures and their thresholds, versions that never go back, and expiry. The cache is a
//! directory that others may write to, so what is read from it is verified again each time.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sigstore_trust_root::{SigningConfig, SigstoreInstance, TrustedRoot, TufBootstrap, TufConfig, reqwest};

use super::trust::{TrustRoot, TrustRootError};

/// The file in the cache directory whose time is that of the last news.
const NOTE: &str = "refreshed";

/// A TUF repository that publishes a trust root, and where to keep what was fetched.
#[derive(Clone)]
pub struct TrustRootSource {
    name: String,
    config: TufConfig,
    cache: Option<PathBuf>,
    timeout: Duration,
    max_age: Duration,
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

    /// The instance among those above whose repository is at `url`.
    pub fn well_known(url: &str) -> Option<Self> {
        let known: [(SigstoreInstance, fn() -> Self); 2] =
            [(SigstoreInstance::PublicGood, Self::production), (SigstoreInstance::GitHub, Self::github)];
        let same = |instance: SigstoreInstance| instance.tuf_url().trim_end_matches('/') == url.trim_end_matches('/');
        known.into_iter().find(|(instance, _)| same(*instance)).map(|(_, source)| source())
    }

    /// The repository at `url`, trusted as far as this `root.json` of it says.
    pub fn custom(url: &str, root_json: &[u8]) -> Self {
        Self::of(url, TufConfig::custom(url, TufBootstrap::trusted(root_json)))
    }

    fn of(name: &str, config: TufConfig) -> Self {
        Self { name: name.into(), config, cache: None, timeout: Duration::from_secs(30), max_age: Duration::ZERO }
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

    /// Asks for news only if the last ones are older than this; by default it always does. Needs a cache directory, and
    /// whoever can write there can hold back news as one can who blocks the network.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// The newest trust root. When it cannot be had, and for whatever reason, the last known one of the cache, as long as
    /// its metadata has not expired; [`Refreshed::stale`] then says why. An attacker who blocks the network can so hold
    /// back news for as long as the repository lets its time-stamp live: about a week, for the public-good instance.
    ///
    /// # Errors
    /// [`TrustRootError::Refresh`] when there is neither.
    pub async fn refresh(&self) -> Result<Refreshed, TrustRootError> {
        if self.is_fresh().await
            && let Ok(root) = self.offline().await
        {
            return Ok(Refreshed { root, stale: None });
        }
        match self.newest().await {
            Ok(root) => {
                self.note().await;
                Ok(Refreshed { root, stale: None })
            }
            Err(error) => match self.offline().await {
                Ok(root) => {
                    let cause = error.source().map(ToString::to_string);
                    tracing::warn!(cause, "using the last known trust root: {error}");
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

    /// Whether the last news are recent. A time in the future is none.
    async fn is_fresh(&self) -> bool {
        let Some(note) = self.note_file() else { return false };
        let noted = tokio::task::spawn_blocking(move || fs::metadata(note).and_then(|data| data.modified()));
        let age = noted.await.ok().and_then(Result::ok).and_then(|noted| noted.elapsed().ok());
        age.is_some_and(|age| age < self.max_age)
    }

    /// Writes down that there were news now. Where that cannot be done, the next one asks again.
    async fn note(&self) {
        let Some(note) = self.note_file() else { return };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || fs::write(note, b"")).await {
            tracing::debug!(%error, "when the trust root was refreshed cannot be written down");
        }
    }

    fn note_file(&self) -> Option<PathBuf> {
        Some(self.cache.as_ref().filter(|_| !self.max_age.is_zero())?.join(NOTE))
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
