//! How a client is put together.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blob_cache::{BlockStore, CacheDir, CacheOptions, MemoryCache, MemoryOptions, TagCache, Tiered};
use blob_core::{Cache, Flights};
use blob_http::TransportOptions;
use blob_http::retry::RetryPolicy;
use blob_policy::Policy;
use blob_registry::client::{
    Anonymous, CertificateDirs, Chain, Credential, Credentials, DockerConfig, RegistryOptions, Static,
};

use super::hosts::{Hosts, Profiles};
use super::limits::Limits;
use super::{Client, Inner};
use crate::caches::{Caches, Keeper};
use crate::error::Error;
use crate::indexes::Indexes;
use crate::trust::PolicySource;
use crate::verdicts::{DEFAULT_TTL, Verdicts};

/// How long a cache that is not ours may take for an answer.
const CACHE_TIMEOUT: Duration = Duration::from_secs(5);

/// Configures a [`Client`].
#[derive(Debug, Default)]
#[must_use]
pub struct ClientBuilder {
    explicit: Static,
    sources: Vec<Arc<dyn Credentials>>,
    docker_config: bool,
    environment: bool,
    anonymous: bool,
    profiles: Profiles,
    transport: TransportOptions,
    retry: RetryPolicy,
    policies: Vec<Arc<dyn Policy>>,
    policy_sources: Vec<Arc<dyn PolicySource>>,
    verdict_ttl: Option<Duration>,
    require_verified: bool,
    limits: Limits,
    caches: Caches,
    cache: Option<CacheDir>,
    cache_dir: Option<PathBuf>,
    cache_options: CacheOptions,
    cache_timeout: Option<Duration>,
    memory_cache: Option<u64>,
    offline: bool,
    without: Vec<Layer>,
    spool_dir: Option<PathBuf>,
    lock_dir: Option<PathBuf>,
}

/// A layer of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// Contents of files, by their digest.
    Contents,
    /// Blocks of data blobs that are read here and there.
    Blocks,
    /// What tags point at, for a limited time.
    Tags,
    /// Manifests, by digest.
    Manifests,
    /// Indexes, by digest.
    Indexes,
}

impl ClientBuilder {
    /// Looks credentials up in the Docker configuration: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`,
    /// with its helpers. Credentials given outright come first.
    pub fn docker_config(mut self) -> Self {
        self.docker_config = true;
        self
    }

    /// Looks credentials up wherever the environment says, as [`Chain::from_env`] describes: our own variables for one host,
    /// `DOCKER_AUTH_CONFIG`, `REGISTRY_AUTH_FILE`, the Docker configuration, the login file of Podman and Skopeo.
    /// Credentials given outright come first.
    pub fn environment_credentials(mut self) -> Self {
        self.environment = true;
        self
    }

    /// Uses this user and password for `host` (`host` or `host:port`). May be called for several hosts.
    pub fn static_credentials(mut self, host: &str, user: &str, password: &str) -> Self {
        self.explicit = self.explicit.with(host, Credential::basic(user, password));
        self
    }

    /// Uses this credential for `host` (`host` or `host:port`).
    pub fn credential(mut self, host: &str, credential: Credential) -> Self {
        self.explicit = self.explicit.with(host, credential);
        self
    }

    /// Uses this access token for `host`.
    pub fn static_token(mut self, host: &str, token: &str) -> Self {
        self.explicit = self.explicit.with(host, Credential::registry_token(token));
        self
    }

    /// Asks this source for credentials, behind those given outright and before the Docker configuration.
    pub fn credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.sources.push(credentials);
        self
    }

    /// Uses no credentials, whatever else is configured.
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// Speaks plain HTTP to every registry. Credentials then travel in clear: prefer
    /// [`plain_http_host`](Self::plain_http_host). Registries on this machine need neither.
    pub fn plain_http(mut self, plain: bool) -> Self {
        self.profiles.plain_http = plain;
        self
    }

    /// Speaks plain HTTP to this host (`host` or `host:port`).
    pub fn plain_http_host(mut self, host: impl Into<String>) -> Self {
        self.profiles.set_plain(&host.into());
        self
    }

    /// Trusts the certificate authorities in this PEM file, besides those of the system, for every registry. Registries on
    /// this machine are then spoken to over TLS as well, unless they are named as plain. The file is read when a registry
    /// is first used.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.profiles.ca_files.push(path.into());
        self
    }

    /// Sets what is particular about the registry `host` (`host` or `host:port`): certificates, proxy, headers, mirrors.
    /// Files that the options name are read when the registry is first used.
    ///
    /// ```
    /// use blob::{Client, Mirror, RegistryOptions};
    ///
    /// let options = RegistryOptions::default()
    ///     .with_ca_file("/etc/acme/ca.pem")
    ///     .with_mirror(Mirror::parse("https://mirror.acme.example/ghcr")?);
    /// let client = Client::builder().registry("ghcr.io", options).build()?;
    /// # let _ = client;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn registry(mut self, host: &str, options: RegistryOptions) -> Self {
        self.profiles.set(host, options);
        self
    }

    /// Names the program to registries; `blob/VERSION` by default.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.transport = self.transport.with_user_agent(user_agent);
        self
    }

    /// Gives a request up when no byte has moved for this long: 30 s by default.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.transport = self.transport.with_idle_timeout(timeout);
        self
    }

    /// Gives a connection up that is not made within this time: 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.transport = self.transport.with_connect_timeout(timeout);
        self
    }

    /// Moves at most so many bytes of bodies a second, both directions and all registries together: no limit by default.
    pub fn max_bytes_per_second(mut self, bytes: NonZero<u64>) -> Self {
        self.transport.max_bytes_per_second = Some(bytes);
        self
    }

    /// Replaces the options of the network transport: certificates, proxies, time-outs.
    pub fn transport(mut self, options: TransportOptions) -> Self {
        self.transport = options;
        self
    }

    /// How failed requests are tried again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Requires that `policy` admits every archive that is opened. Several policies must all admit.
    pub fn policy(mut self, policy: Arc<dyn Policy>) -> Self {
        self.policies.push(policy);
        self
    }

    /// Requires that every policy which `source` names for an archive admits it, besides those given outright. Several
    /// sources add up.
    pub fn policies_from(mut self, source: Arc<dyn PolicySource>) -> Self {
        self.policy_sources.push(source);
        self
    }

    /// How long an archive that was admitted is opened again without verifying it again: 5 minutes by default, zero for
    /// never. What is remembered lies in memory and in the cache directory, if there is one; a changed policy, key, trust
    /// root, manifest or reference is always judged anew.
    pub fn verdict_ttl(mut self, ttl: Duration) -> Self {
        self.verdict_ttl = Some(ttl);
        self
    }

    /// Refuses to open archives that no policy has verified, also when no policy is configured.
    pub fn require_verified(mut self) -> Self {
        self.require_verified = true;
        self
    }

    /// Replaces the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Keeps tags, manifests, indexes, blocks and contents of files in `dir`, under one cap, shared with every process
    /// that names the same directory. Layers that were given outright stay what they are.
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// As [`cache_dir`](Self::cache_dir), with a directory that is open already; its own options count.
    pub fn cache(mut self, dir: CacheDir) -> Self {
        self.cache = Some(dir);
        self
    }

    /// The caps of the cache directory, and how long tags are believed.
    pub fn cache_options(mut self, options: CacheOptions) -> Self {
        self.cache_options = options;
        self
    }

    /// Keeps up to `bytes` of contents of files in memory, in front of the cache for contents if there is one: small files
    /// that are read often then cost no system call. Files of more than 1 MiB are left to the cache behind.
    pub fn memory_cache(mut self, bytes: u64) -> Self {
        self.memory_cache = Some(bytes);
        self
    }

    /// Answers from the caches alone: no request is ever sent. What they lack fails with [`Error::Offline`] or an error
    /// for which [`Error::is_offline`] is true. Tags in the cache directory are believed whatever their age; layouts on
    /// this machine are read as ever.
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Does without this layer, whatever else is configured.
    pub fn without_cache(mut self, layer: Layer) -> Self {
        self.without.push(layer);
        self
    }

    /// How long caches that were given outright may take for an answer: 5 s by default. One that takes longer costs a
    /// warning and is left alone for half a minute.
    pub fn cache_timeout(mut self, limit: Duration) -> Self {
        self.cache_timeout = Some(limit);
        self
    }

    /// Keeps the contents of files in `cache`, shared by all archives of the client.
    pub fn content_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.caches.contents = Some(cache);
        self
    }

    /// Keeps manifests in `cache`.
    pub fn manifest_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.caches.manifests = Some(Keeper::other(cache));
        self
    }

    /// Keeps indexes in `cache`.
    pub fn index_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.caches.indexes = Some(Keeper::other(cache));
        self
    }

    /// Keeps blocks of data blobs in `store`.
    pub fn block_cache(mut self, store: Arc<dyn BlockStore>) -> Self {
        self.caches.blocks = Some(store);
        self
    }

    /// Remembers in `cache` what tags point at. It is believed about manifests that were seen in the same repository, of which
    /// the [manifest cache](Self::manifest_cache) keeps notes.
    pub fn tag_cache(mut self, cache: Arc<dyn TagCache>) -> Self {
        self.caches.tags = Some(cache);
        self
    }

    /// Where archives are assembled before they are pushed: `$TMPDIR` by default, else `/var/tmp`. It needs as much room as
    /// the archive.
    pub fn spool_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spool_dir = Some(dir.into());
        self
    }

    /// Reads certificates of registries where Docker and Podman keep them as well: `certs.d` in the user's and the machine's
    /// configuration, as [`CertificateDirs::from_env`] describes.
    pub fn certificate_dirs_from_env(self) -> Self {
        self.certificate_dirs(CertificateDirs::from_env())
    }

    /// Reads certificates of registries in these directories as well.
    pub fn certificate_dirs(mut self, directories: CertificateDirs) -> Self {
        self.profiles.certificates = Some(directories);
        self
    }

    /// Writes large uploads down in `dir` while they last, so that a push that was killed goes on where it was when the same
    /// tree is pushed to the same place again. By default that is `uploads-v1` in the [cache directory](Self::cache_dir);
    /// without one, nothing is written down.
    pub fn upload_journal(mut self, dir: impl Into<PathBuf>) -> Self {
        self.profiles.upload_journal = Some(dir.into());
        self
    }

    /// Where processes of this machine lock lists of referrers on registries that leave these to their clients, so that
    /// none loses what another adds: `locks` in the cache directory by default, nowhere without one.
    pub fn lock_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.lock_dir = Some(dir.into());
        self
    }

    /// The client. No network is touched.
    ///
    /// # Errors
    /// [`Error::Transport`] when TLS cannot be set up; [`Error::Credentials`] when the Docker configuration exists but
    /// cannot be read; [`Error::Cache`] when the cache directory belongs to something else.
    pub fn build(self) -> Result<Client, Error> {
        let caches = self.caches()?;
        let kept = self.cache.as_ref().map(|cache| cache.root().to_owned()).or_else(|| self.cache_dir.clone());
        let verdicts = Verdicts::new(self.verdict_ttl.unwrap_or(DEFAULT_TTL), kept.as_deref());
        let locks = self.lock_dir.or_else(|| Some(kept.as_ref()?.join("locks")));
        let credentials: Arc<dyn Credentials> = if self.anonymous {
            Arc::new(Anonymous)
        } else {
            let mut chain = Chain::new().then(self.explicit);
            for source in self.sources {
                chain = chain.then(source);
            }
            if self.environment {
                chain = chain.then(Chain::from_env().map_err(Error::Credentials)?);
            } else if self.docker_config {
                chain = chain.then(DockerConfig::from_env().map_err(Error::Credentials)?);
            }
            Arc::new(chain)
        };
        let offline = self.offline || self.transport.offline;
        let transport = self.transport.with_offline(offline);
        let mut profiles = self.profiles;
        profiles.upload_journal = profiles.upload_journal.or_else(|| Some(kept.as_ref()?.join("uploads-v1")));
        let hosts = Hosts::new(transport, credentials, self.retry, profiles, locks)?;
        let inner = Inner {
            hosts: Arc::new(hosts),
            policies: self.policies,
            policy_sources: self.policy_sources,
            verdicts,
            require_verified: self.require_verified,
            limits: self.limits,
            caches,
            flights: Flights::default(),
            indexes: Indexes::default(),
            offline,
            spool_dir: self.spool_dir,
        };
        Ok(Client(Arc::new(inner)))
    }

    /// The layers: those given outright, then those of the directory, less those that are not wanted.
    fn caches(&self) -> Result<Caches, Error> {
        let mut caches = self.caches.clone();
        caches.limit_waiting(self.cache_timeout.unwrap_or(CACHE_TIMEOUT));
        if let Some(dir) = &self.cache {
            caches.fill_from(dir);
        } else if let Some(dir) = &self.cache_dir {
            let mut options = self.cache_options.clone();
            if self.offline || self.transport.offline {
                options.tag_ttl = Duration::MAX;
            }
            let opened = CacheDir::open(dir, options);
            caches.fill_from(&opened.map_err(|source| Error::Cache { dir: dir.clone(), source })?);
        }
        if self.caches.contents.is_some() || self.without.contains(&Layer::Contents) {
            // What one process fetches is of no use to the others then.
            caches.turns = None;
        }
        for layer in &self.without {
            match layer {
                Layer::Contents => caches.contents = None,
                Layer::Blocks => caches.blocks = None,
                Layer::Tags => caches.tags = None,
                Layer::Manifests => caches.manifests = None,
                Layer::Indexes => caches.indexes = None,
            }
        }
        if let Some(max_bytes) = self.memory_cache
            && !self.without.contains(&Layer::Contents)
        {
            let memory = MemoryCache::new(MemoryOptions { max_bytes, ..MemoryOptions::default() });
            caches.contents = Some(match caches.contents.take() {
                Some(behind) => Arc::new(Tiered::new(memory, behind).with_alarm(caches.alarm.clone())),
                None => Arc::new(memory),
            });
        }
        caches.count();
        Ok(caches)
    }
}
