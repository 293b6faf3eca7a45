//! A registry for others, put together from a description: storage, mirrors, filters, limits, users, TLS.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use blob::serve::{self, ServeConfig};
//!
//! let config = ServeConfig { listen: "127.0.0.1:0".parse()?, ..ServeConfig::default() };
//! let server = serve::start(&config).await?;
//! println!("{}/v2/", server.url());
//! server.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blob_registry::client::{Chain, DockerConfig, RegistryClient};
use blob_registry::filter::{Delegate, Immutable, Log, Prefix, Quota, Quotas, ReadOnly, Usage};
use blob_registry::layout::GcOptions;
use blob_registry::server::{
    Auth, Htpasswd, HtpasswdError, Rule, Server, ServerHandle, ServerLimits, Tls, TlsError, Who,
};
use blob_registry::{
    LayoutStore, MemoryRegistry, ReadPolicy, Registry, RegistryError, Repository, TagPolicy, Unify, UnifyOptions,
};
use tokio::task::JoinHandle;

mod config;

pub use config::{
    Allowed, AuthConfig, AuthScheme, GcConfig, LimitsConfig, Reads, RuleConfig, ServeConfig, TlsConfig, UpstreamConfig,
};

/// A registry could not be put together or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The description asks for something that makes no sense.
    #[error("{0}")]
    Config(String),
    /// The directory cannot be used.
    #[error("opening the registry in {directory}")]
    Storage {
        /// The directory.
        directory: String,
        /// The cause.
        source: RegistryError,
    },
    /// A registry behind this one cannot be set up.
    #[error("setting up the upstream registry {host}")]
    Upstream {
        /// Its host.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The users cannot be had.
    #[error("reading the users")]
    Users(#[from] HtpasswdError),
    /// TLS cannot be set up.
    #[error("setting up TLS")]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("listening on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// A thread that reads files could not be had.
    #[error("starting the server")]
    Thread(#[source] io::Error),
}

/// A registry that runs. Dropping it stops it at once.
#[derive(Debug)]
pub struct Serving {
    server: ServerHandle,
    secure: bool,
    _housekeeping: Option<Housekeeping>,
}

impl Serving {
    /// Where it listens: `http://127.0.0.1:5000`, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.server.local_addr())
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Takes no more connections, lets running requests finish for up to ten seconds, and stops.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

/// Collects garbage until it is dropped; a collection that has begun comes to its end.
#[derive(Debug)]
struct Housekeeping(JoinHandle<()>);

impl Housekeeping {
    fn start(store: LayoutStore, config: GcConfig) -> Self {
        let grace = Duration::from_secs(config.grace_seconds);
        let options = GcOptions::default().with_grace(grace).with_untagged(config.untagged);
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(config.every_seconds.get().into())).await;
                match store.collect_garbage(&options).await {
                    Ok(report) => tracing::info!(
                        removed = report.removed.len(),
                        freed = report.freed,
                        kept = report.kept,
                        young = report.young,
                        uncollected = report.uncollected.len(),
                        "garbage was collected"
                    ),
                    Err(error) => tracing::warn!(%error, "garbage could not be collected"),
                }
            }
        }))
    }
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts what `config` describes.
///
/// # Errors
/// [`ServeError`].
pub async fn start(config: &ServeConfig) -> Result<Serving, ServeError> {
    let store = store(config).await?;
    let registry = compose(config, store.clone())?;
    let mut builder = Server::builder(registry).read_only(config.read_only).limits(limits(&config.limits)?);
    for name in config.upstream.iter().filter_map(|upstream| upstream.namespace.as_deref()) {
        builder = builder.namespace(name, namespace(name)?);
    }
    let secure = config.tls.is_some();
    // Files are read where that may block.
    let wanted = config.clone();
    let read = tokio::task::spawn_blocking(move || -> Result<_, ServeError> {
        Ok((wanted.auth.as_ref().map(auth).transpose()?, tls(&wanted)?))
    });
    let (auth, tls) = match read.await {
        Ok(read) => read?,
        Err(error) => return Err(ServeError::Thread(io::Error::other(error))),
    };
    if let Some(auth) = auth {
        builder = builder.auth(auth);
    }
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let server = builder.bind(config.listen).await;
    let server = server.map_err(|source| ServeError::Listen { address: config.listen, source })?;
    let housekeeping = match (config.gc, store) {
        (None, _) => None,
        (Some(gc), Some(store)) => Some(Housekeeping::start(store, gc)),
        (Some(_), None) => return Err(ServeError::Config("gc needs a directory: memory holds no garbage".into())),
    };
    Ok(Serving { server, secure, _housekeeping: housekeeping })
}

/// The registry that `config` describes, without a server in front of it.
///
/// # Errors
/// As [`start`].
pub async fn open(config: &ServeConfig) -> Result<Arc<dyn Registry>, ServeError> {
    compose(config, store(config).await?)
}

/// Puts mirrors and filters around the storage.
fn compose(config: &ServeConfig, store: Option<LayoutStore>) -> Result<Arc<dyn Registry>, ServeError> {
    let mut registry = match store {
        Some(store) => within_quotas(config, store),
        None => within_quotas(config, MemoryRegistry::new().with_sparse(config.sparse)),
    };
    if !config.upstream.is_empty() {
        registry = behind(config, registry)?;
    }
    if config.immutable_tags {
        registry = Arc::new(Immutable::new(registry));
    }
    if let Some(prefix) = &config.prefix {
        if config.upstream.iter().any(|upstream| upstream.namespace.is_some()) {
            let problem = "a prefix hides the repositories of namespaces: one or the other".into();
            return Err(ServeError::Config(problem));
        }
        registry = Arc::new(Prefix::new(registry, repository("prefix", prefix)?));
    }
    if config.log_operations {
        registry = Arc::new(Log::new(registry));
    }
    Ok(registry)
}

/// The storage, with room for so much.
fn within_quotas<S: Registry + Usage + Clone + 'static>(config: &ServeConfig, store: S) -> Arc<dyn Registry> {
    let mut quotas = Quotas::default();
    (quotas.repository, quotas.total) = (config.limits.repository_bytes, config.limits.total_bytes);
    if quotas == Quotas::default() {
        return Arc::new(store);
    }
    Arc::new(Quota::new(Arc::new(store.clone()), Arc::new(store), quotas))
}

/// Puts the registries that are asked for what is not in `store` behind it.
fn behind(config: &ServeConfig, store: Arc<dyn Registry>) -> Result<Arc<dyn Registry>, ServeError> {
    let mut options = UnifyOptions::default();
    options.read = match config.reads {
        Reads::Sequential => ReadPolicy::Sequential,
        Reads::Race => ReadPolicy::Race,
        Reads::Random => ReadPolicy::Random,
    };
    // Whoever is behind a registry that is down must not say what its tags mean.
    options.tags = TagPolicy::Strict;
    let read = options.read;
    let unnamed = config.upstream.iter().filter(|upstream| upstream.namespace.is_none());
    let mut members = unnamed.map(remote).collect::<Result<Vec<_>, _>>()?;
    let origin: Arc<dyn Registry> = match members.len() {
        // Where every upstream has a name, the rest is nowhere.
        0 => Arc::new(ReadOnly::new(Arc::new(MemoryRegistry::new()))),
        1 => members.remove(0),
        _ => Arc::new(Unify::new(members, options)),
    };
    let mut origin = Delegate::new(origin);
    for upstream in &config.upstream {
        if let Some(name) = &upstream.namespace {
            origin = origin.with(namespace(name)?, remote(upstream)?);
        }
    }
    // Tags are what those behind say, in their order: what was kept of them counts only when none of them can be asked.
    let mut all = if config.keep { UnifyOptions::cache() } else { UnifyOptions::default() };
    all.read = read;
    Ok(Arc::new(Unify::new(vec![store, Arc::new(origin)], all)))
}

/// Where the content of the registry that clients call `name` is: no part of a repository has a colon.
fn namespace(name: &str) -> Result<Repository, ServeError> {
    repository("namespace", &name.replace(':', "_"))
}

async fn store(config: &ServeConfig) -> Result<Option<LayoutStore>, ServeError> {
    let Some(directory) = &config.directory else { return Ok(None) };
    let store = LayoutStore::open(directory).await;
    let storage = |source| ServeError::Storage { directory: directory.display().to_string(), source };
    let store = store.map_err(storage)?.with_sparse(config.sparse);
    // Nobody can mend what is only read: there nothing is moved.
    Ok(Some(if config.read_only {
        store.with_verify_in_place(config.verify)
    } else {
        store.with_verify(config.verify)
    }))
}

fn remote(upstream: &UpstreamConfig) -> Result<Arc<dyn Registry>, ServeError> {
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| ServeError::Upstream { host: upstream.host.clone(), source };
    let mut builder = RegistryClient::builder(&upstream.host).plain_http(upstream.plain_http);
    if upstream.credentials {
        let docker = DockerConfig::from_env().map_err(|error| failed(error.into()))?;
        builder = builder.credentials(Chain::new().then(docker));
    }
    let client: Arc<dyn Registry> = Arc::new(builder.build().map_err(|error| failed(error.into()))?);
    Ok(match &upstream.prefix {
        Some(prefix) => Arc::new(Prefix::new(client, repository("prefix", prefix)?)),
        None => client,
    })
}

fn repository(what: &str, name: &str) -> Result<Repository, ServeError> {
    Repository::new(name).map_err(|error| ServeError::Config(format!("{what} {name:?}: {error}")))
}

fn limits(config: &LimitsConfig) -> Result<ServerLimits, ServeError> {
    let mut limits = ServerLimits::default();
    limits.max_upload_bytes = config.upload_bytes;
    limits.requests_per_second = config.requests_per_second;
    if let Some(bytes) = config.manifest_bytes {
        limits.max_manifest_bytes = bytes.min(limits.max_manifest_bytes);
    }
    if let Some(connections) = config.connections {
        limits.max_connections = connections;
    }
    for (seconds, field) in
        [(config.header_seconds, &mut limits.header_timeout), (config.idle_seconds, &mut limits.idle_timeout)]
    {
        match seconds {
            Some(0) => return Err(ServeError::Config("a time-out of 0 seconds lets nobody in".into())),
            Some(seconds) => *field = Duration::from_secs(seconds),
            None => {}
        }
    }
    Ok(limits)
}

fn tls(config: &ServeConfig) -> Result<Option<Tls>, ServeError> {
    let Some(tls) = &config.tls else { return Ok(None) };
    Ok(Some(match &tls.client_ca {
        Some(ca) => Tls::with_client_ca(&tls.certificate, &tls.key, ca)?,
        None => Tls::from_pem_files(&tls.certificate, &tls.key)?,
    }))
}

fn auth(config: &AuthConfig) -> Result<Auth, ServeError> {
    let mut auth = match config.scheme {
        AuthScheme::Basic => Auth::basic(&config.realm),
        AuthScheme::Bearer => Auth::bearer(&config.realm),
    };
    match config.token_seconds {
        Some(0) => return Err(ServeError::Config("tokens that hold for 0 seconds are of no use".into())),
        Some(seconds) => auth = auth.token_lifetime(Duration::from_secs(seconds)),
        None => {}
    }
    if let Some(url) = &config.token_url {
        auth = auth.token_url(url);
    }
    match &config.htpasswd {
        Some(path) => auth = auth.passwords(Htpasswd::open(path)?),
        None if config.anonymous_pull || config.rules.iter().any(|rule| rule.users == ["anonymous"]) => {}
        None => return Err(ServeError::Config("auth names no htpasswd file, so that nobody could get in".into())),
    }
    if config.anonymous_pull {
        auth = auth.anonymous_pull();
    }
    Ok(auth.rules(config.rules.iter().map(rule).collect::<Result<Vec<_>, _>>()?))
}

fn rule(config: &RuleConfig) -> Result<Rule, ServeError> {
    let has = |word: &str| config.users.iter().any(|user| user == word);
    let who = match config.users.len() {
        0 => return Err(ServeError::Config("a rule names no users: write [\"*\"] for all of them".into())),
        _ if has("anonymous") => Who::Anybody,
        _ if has("*") => Who::Users,
        _ => Who::Named(config.users.clone()),
    };
    for pattern in &config.repositories {
        let name = pattern.strip_suffix('*').unwrap_or(pattern).trim_end_matches('/');
        if !name.is_empty() {
            repository("rule for", name)?;
        }
    }
    Ok(Rule {
        who,
        repositories: config.repositories.clone(),
        actions: config.allow.iter().map(|allowed| allowed.action()).collect(),
    })
}
