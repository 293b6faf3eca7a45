//! The client: one long-lived object that keeps connections, tokens and what it learned about registries.

mod builder;
mod hosts;
mod limits;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::Flights;
use blob_http::Traffic;
use blob_policy::Policy;
use blob_registry::client::Admission;
use blob_registry::layout::{LayoutFile, LayoutRegistry};
use blob_registry::{ErrorCode, Registry, RegistryError, Repository};

use crate::caches::{CacheUse, Caches};
use crate::error::Error;
use crate::indexes::Indexes;
use crate::location::Location;
use crate::pair::PairRegistry;
use crate::trust::PolicySource;
use crate::verdicts::Verdicts;

pub use builder::{ClientBuilder, Layer};
pub use limits::Limits;

use hosts::Hosts;

/// Opens, pushes and describes archives.
///
/// Clones share everything. Make one client and keep it: a second operation on a registry then needs no new
/// connection and no new token.
///
/// ```
/// use blob::Client;
///
/// let client = Client::builder().docker_config().user_agent("my-tool/1.0").build()?;
/// # let _ = client;
/// # Ok::<(), blob::Error>(())
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    hosts: Arc<Hosts>,
    policies: Vec<Arc<dyn Policy>>,
    policy_sources: Vec<Arc<dyn PolicySource>>,
    verdicts: Verdicts,
    require_verified: bool,
    limits: Limits,
    caches: Caches,
    flights: Flights,
    indexes: Indexes,
    offline: bool,
    spool_dir: Option<PathBuf>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("credentials", &self.0.hosts.credentials)
            .field("policies", &self.0.policies)
            .field("policy_sources", &self.0.policy_sources)
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with the defaults: anonymous, HTTPS except to this machine, no policy.
    ///
    /// # Errors
    /// [`Error::Transport`] when TLS cannot be set up.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// A client to be configured; the order of the options does not matter.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// What this client and its clones have sent and received so far.
    pub fn traffic(&self) -> Traffic {
        self.0.hosts.traffic()
    }

    /// What the caches of this client and its clones gave so far, and thus need not be fetched.
    pub fn cache_use(&self) -> CacheUse {
        self.0.caches.used()
    }

    /// Asks the registry `host` for nothing but to be let in with the credentials of this client.
    ///
    /// # Errors
    /// [`Error::Registry`], whose [kind](Error::kind) is [`ErrorKind::Authentication`](crate::ErrorKind::Authentication) if
    /// the registry refuses.
    pub async fn authenticate(&self, host: &str) -> Result<Admission, Error> {
        let registry = self.0.hosts.get(host).await?;
        let admitted = registry.client.authenticate().await;
        admitted.map_err(|source| Error::Registry { action: format!("logging in to {host}"), source })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn policies(&self) -> &[Arc<dyn Policy>] {
        &self.0.policies
    }

    pub(crate) fn policy_sources(&self) -> &[Arc<dyn PolicySource>] {
        &self.0.policy_sources
    }

    pub(crate) fn verdicts(&self) -> &Verdicts {
        &self.0.verdicts
    }

    pub(crate) fn requires_verification(&self) -> bool {
        self.0.require_verified
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.0.caches
    }

    /// What the archives of this client read now.
    pub(crate) fn flights(&self) -> &Flights {
        &self.0.flights
    }

    /// Indexes that were parsed a moment ago.
    pub(crate) fn indexes(&self) -> &Indexes {
        &self.0.indexes
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.0.offline
    }

    pub(crate) fn spool_dir(&self) -> Option<&PathBuf> {
        self.0.spool_dir.as_ref()
    }

    /// The registry that `location` is in, and the repository within it, for reading: content may come from its mirrors.
    /// This is also the way to everything that registries can do and this facade does not.
    ///
    /// # Errors
    /// [`Error::Registry`], for a layout that cannot be opened and a registry whose options cannot be used.
    pub async fn registry(&self, location: &Location) -> Result<(Arc<dyn Registry>, Repository), Error> {
        match location {
            Location::Registry(reference) => {
                let host = self.0.hosts.get(reference.host()).await?;
                Ok((host.registry, reference.repository().clone()))
            }
            Location::Layout { dir, .. } => open_layout(dir).await,
            Location::LayoutFile { file, .. } => open_file(file).await,
            Location::Pair { dir, .. } => self.open_pair(dir).await,
        }
    }

    /// As [`registry`](Self::registry), but without mirrors: for what is written or deleted, and for questions whose
    /// answer decides about that. A mirror cannot say what the registry itself has.
    ///
    /// # Errors
    /// As [`registry`](Self::registry).
    pub async fn registry_without_mirrors(
        &self,
        location: &Location,
    ) -> Result<(Arc<dyn Registry>, Repository), Error> {
        match location {
            Location::Registry(reference) => {
                let host = self.0.hosts.get(reference.host()).await?;
                Ok((host.client, reference.repository().clone()))
            }
            Location::Layout { dir, .. } => open_layout(dir).await,
            Location::LayoutFile { file, .. } => open_file(file).await,
            Location::Pair { dir, .. } => self.open_pair(dir).await,
        }
    }

    /// As [`registry_without_mirrors`](Self::registry_without_mirrors), but a layout that does not exist is made.
    pub(crate) async fn registry_for_push(
        &self,
        location: &Location,
    ) -> Result<(Arc<dyn Registry>, Repository), Error> {
        let dir = match location {
            Location::Layout { dir, .. } => dir,
            Location::LayoutFile { file, .. } => return open_file(file).await,
            Location::Pair { dir, .. } => return Err(fixed(dir)),
            Location::Registry(reference) => {
                // One token for reading and writing, rather than one for each.
                let host = self.0.hosts.get(reference.host()).await?;
                host.client.will_push(reference.repository());
                return Ok((host.client, reference.repository().clone()));
            }
        };
        let opened = LayoutRegistry::open_or_create(dir.clone()).await;
        let action = || format!("creating the layout {}", dir.display());
        let layout = opened.map_err(|source| Error::Registry { action: action(), source })?;
        Ok((Arc::new(layout), layout_repository()))
    }

    async fn open_pair(&self, dir: &Path) -> Result<(Arc<dyn Registry>, Repository), Error> {
        let (owned, limits) = (dir.to_owned(), self.limits().index());
        let opened = tokio::task::spawn_blocking(move || PairRegistry::open(&owned, &limits)).await;
        let opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let action = || format!("opening the pair of files in {}", dir.display());
        let pair = opened.map_err(|source| Error::Registry { action: action(), source })?;
        Ok((Arc::new(pair), layout_repository()))
    }
}

/// A pair is nothing that can be written to.
pub(crate) fn fixed(dir: &Path) -> Error {
    let action = format!("writing to the pair of files in {}", dir.display());
    let source =
        RegistryError::detailed(action.clone(), ErrorCode::Unsupported, "it holds one archive, and takes no other");
    Error::Registry { action, source }
}

async fn open_layout(dir: &Path) -> Result<(Arc<dyn Registry>, Repository), Error> {
    let opened = LayoutRegistry::open(dir).await;
    let action = || format!("opening the layout {}", dir.display());
    let layout = opened.map_err(|source| Error::Registry { action: action(), source })?;
    Ok((Arc::new(layout), layout_repository()))
}

async fn open_file(file: &Path) -> Result<(Arc<dyn Registry>, Repository), Error> {
    let opened = LayoutFile::open(file).await;
    let action = || format!("opening the layout in {}", file.display());
    let layout = opened.map_err(|source| Error::Registry { action: action(), source })?;
    Ok((Arc::new(layout), layout_repository()))
}

/// A layout has one repository; what it is called does not matter.
pub(crate) fn layout_repository() -> Repository {
    Repository::new("layout").expect("the name is valid")
}
