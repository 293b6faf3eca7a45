//! Clients as the options and the configuration have them: limits, credentials, caches and policies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blob::cache::{CacheDir, OpenError};
use blob::http::RetryPolicy;
use blob::registry::client::DockerConfig;
use blob::{Client, ClientBuilder, Error, Limits, Location, RegistryOptions};

use super::Session;
use crate::cache_place::CachePlace;
use crate::config::Config;
use crate::error::Failure;
use crate::trust::{Rules, TrustArgs, WantedArgs, off_thread, policy_set};

impl Session {
    /// What is configured for a registry.
    pub(crate) fn registry_options(&self, host: &str) -> RegistryOptions {
        let named = options_of(&self.config).find(|(known, _)| *known == host);
        let mut options = named.map(|(_, options)| options).unwrap_or_default();
        if let Some(path) = &self.options.ca_file {
            options.ca_files.push(path.clone());
            if !self.options.plain_http {
                options.plain_http.get_or_insert(false);
            }
        }
        options
    }

    /// Where large temporary files are, unless the system's own place was named or there is no cache: beside the cache.
    pub(crate) fn spool_dir(&self) -> Option<PathBuf> {
        if self.options.no_cache || std::env::var_os("TMPDIR").is_some() {
            return None;
        }
        let dir = CachePlace::find(&self.options)?.dir;
        // As the cache makes it: for this user alone.
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&dir).ok().map(|()| dir)
    }

    /// A client that pushes to `location`. Archives are assembled in `spool_dir`, else beside the cache: temporary
    /// directories may be memory, and are not expected to hold archives.
    pub(crate) fn client_for_push(&self, location: &Location, spool_dir: Option<&Path>) -> Result<Client, Failure> {
        let builder = self.builder_for(&[location])?;
        Ok(match spool_dir.map(Path::to_owned).or_else(|| self.spool_dir()) {
            Some(dir) => builder.spool_dir(dir).build()?,
            None => builder.build()?,
        })
    }

    /// A client for the registries of `locations`. Credentials are looked for only if there are any. What opens archives
    /// is [`reading`](Self::reading), and [`trusting`](Self::trusting).
    pub(crate) async fn client(&self, locations: &[&Location]) -> Result<Client, Failure> {
        self.judging(locations, self.config.rules(None), false).await
    }

    /// As [`client`](Self::client); archives must also satisfy what is `wanted` on the command line. The policies of the
    /// configuration count for every client, so that no command is a way around them.
    pub(crate) async fn trusting(&self, locations: &[&Location], wanted: &WantedArgs) -> Result<Client, Failure> {
        self.demanding(locations, locations, wanted, !wanted.is_empty()).await
    }

    /// As [`trusting`](Self::trusting), where only what is `read` of the locations must be in the policy files; with
    /// `verified`, what no policy admitted is not opened.
    async fn demanding(
        &self,
        locations: &[&Location],
        read: &[&Location],
        wanted: &WantedArgs,
        verified: bool,
    ) -> Result<Client, Failure> {
        let configured = !wanted.no_default_policy && self.config.has_rules();
        // Nobody is asked for a trust root that nothing is verified by.
        let root = if configured || !wanted.is_empty() { wanted.root.find(self).await? } else { None };
        let mut rules = wanted.rules_for(read, root.as_ref()).await?;
        if configured {
            rules.extend(self.config.rules(root.as_ref()));
        }
        self.judging(locations, rules, verified).await
    }

    async fn judging(&self, locations: &[&Location], rules: Vec<Rules>, verified: bool) -> Result<Client, Failure> {
        let mut builder = self.builder_for(locations)?;
        if !rules.is_empty() {
            let locations: Vec<Location> = locations.iter().copied().cloned().collect();
            // Keys, modules and documents may be on a disk that does not answer.
            let set = off_thread(move || policy_set(&rules, &locations)).await?;
            builder = builder.policies_from(Arc::new(set));
        }
        // Who asks for something, and gets no verdict about it, was not served.
        if verified {
            builder = builder.require_verified();
        }
        let client = builder.build()?;
        self.meter.watch(&client);
        Ok(client)
    }

    /// As [`trusting`](Self::trusting), for commands that open archives.
    pub(crate) async fn reading(&self, locations: &[&Location], trust: &TrustArgs) -> Result<Client, Failure> {
        self.copying(locations, &[], trust).await
    }

    /// As [`reading`](Self::reading), for commands that also write to other locations.
    pub(crate) async fn copying(
        &self,
        read: &[&Location],
        written: &[&Location],
        trust: &TrustArgs,
    ) -> Result<Client, Failure> {
        if trust.verify && trust.wanted.is_empty() && !self.config.has_rules() {
            let hint = "name the signer with --repo, --key, or --certificate-identity and its issuer, or pass --policy";
            return Err(Failure::usage("--verify without a policy: there is nothing to verify by").with_hint(hint));
        }
        let asked = !trust.wanted.is_empty() || (self.config.has_rules() && !trust.wanted.no_default_policy);
        if trust.wanted.root.is_given() && !asked {
            let hint = "name the signer with --repo, --key, or --certificate-identity and its issuer, or pass --policy";
            let message = "a trust root says who is believed, not whose signature is wanted: nothing would be verified";
            return Err(Failure::usage(message).with_hint(hint));
        }
        self.demanding(&[read, written].concat(), read, &trust.wanted, trust.is_given()).await
    }

    /// As [`reading`](Self::reading), for who also wants to know who signed, whoever that is.
    pub(crate) async fn describing(&self, locations: &[&Location], trust: &TrustArgs) -> Result<Client, Failure> {
        self.demanding(locations, locations, &trust.wanted, trust.is_given()).await
    }

    /// What all clients have in common: everything but credentials and caches.
    pub(crate) fn builder(&self) -> ClientBuilder {
        let options = &self.options;
        let mut limits = Limits::default();
        limits.max_index_bytes = options.max_index_size.unwrap_or(limits.max_index_bytes);
        limits.max_entries = options.max_entries.map_or(limits.max_entries, std::num::NonZero::get);
        let mut retry = RetryPolicy::default();
        if let Some(retries) = options.retries {
            retry = retry.with_max_attempts(retries + 1);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("blob/", env!("CARGO_PKG_VERSION")))
            .certificate_dirs_from_env()
            .plain_http(options.plain_http)
            .limits(limits)
            .retry(retry);
        if let Some(time) = options.timeout {
            builder = builder.idle_timeout(Duration::from_secs(time.seconds()));
        }
        if let Some(rate) = options.bwlimit {
            builder = builder.max_bytes_per_second(rate);
        }
        for (host, registry) in options_of(&self.config) {
            builder = builder.registry(host, registry);
        }
        if let Some(path) = &options.ca_file {
            builder = builder.ca_file(path);
        }
        if options.require_signed {
            builder = builder.require_verified();
        }
        if options.offline {
            builder = builder.offline();
        }
        builder
    }

    /// As [`builder`](Self::builder), with the credentials and the cache for `locations`, if any is in a registry.
    fn builder_for(&self, locations: &[&Location]) -> Result<ClientBuilder, Failure> {
        let mut builder = self.builder();
        let hosts: Vec<&str> = locations.iter().filter_map(|location| Some(location.reference()?.host())).collect();
        if !hosts.is_empty() {
            if self.options.offline && self.options.no_cache {
                return Err(Failure::usage("--offline and --no-cache leave nothing to answer from"));
            }
            builder = self.credentials(builder, &hosts)?;
        }
        // What is read from this machine needs no cache.
        if !hosts.is_empty()
            && let Some(cache) = self.cache()?
        {
            builder = self.options.cache.without.iter().fold(builder, |builder, layer| builder.without_cache(*layer));
            builder = builder.cache(cache);
        }
        Ok(builder)
    }

    /// Gives `builder` the credentials for `hosts`: those that were given for this command, else the logins.
    fn credentials(&self, builder: ClientBuilder, hosts: &[&str]) -> Result<ClientBuilder, Failure> {
        let options = &self.options;
        match (&options.username, &self.password) {
            (Some(user), Some(password)) => Ok(match sole_host(hosts)? {
                Some(host) if hosts.iter().all(|other| *other == host) => {
                    builder.static_credentials(host, user, password)
                }
                Some(host) => builder.static_credentials(host, user, password).environment_credentials(),
                // Our variables are among what the environment says, for the registry that they name.
                None => builder.environment_credentials(),
            }),
            (Some(_), None) => {
                Err(Failure::usage("a user without a password: set BLOB_PASSWORD or pass --password-stdin"))
            }
            (None, _) if options.password_stdin => {
                Err(Failure::usage("a password without a user: name the user with --username"))
            }
            (None, _) => Ok(match &options.registry_config {
                Some(path) => {
                    let logins = DockerConfig::load(path).map_err(Error::Credentials)?;
                    builder.credentials(Arc::new(logins))
                }
                None => builder.environment_credentials(),
            }),
        }
    }

    /// The cache, if it is to be used. One that nobody asked for and that cannot be used is only warned about, and so is one of
    /// a newer program: this one leaves it alone, and works without.
    fn cache(&self) -> Result<Option<CacheDir>, Failure> {
        if self.options.no_cache {
            return Ok(None);
        }
        let Some(place) = CachePlace::find(&self.options) else {
            tracing::warn!("going on without a cache: neither XDG_CACHE_HOME nor HOME says where it is");
            return Ok(None);
        };
        let mut options = self.options.cache.options();
        if self.options.offline {
            // An old answer is better than none.
            options.tag_ttl = Duration::MAX;
        }
        match CacheDir::open(&place.dir, options) {
            Ok(cache) => Ok(Some(cache)),
            Err(source) if place.chosen && !matches!(source, OpenError::Version { .. }) => {
                Err(Error::Cache { dir: place.dir, source }.into())
            }
            Err(error) => {
                if let Some(cause) = std::error::Error::source(&error) {
                    tracing::warn!(cause, "going on without a cache: {error}");
                } else {
                    tracing::warn!("going on without a cache: {error}");
                }
                Ok(None)
            }
        }
    }
}

/// The one registry of `hosts` that may see the user and the password of this command; none if they are for another.
fn sole_host<'a>(hosts: &[&'a str]) -> Result<Option<&'a str>, Failure> {
    let named = std::env::var("BLOB_REGISTRY").ok().filter(|host| !host.is_empty());
    if let Some(named) = named {
        return Ok(hosts.iter().copied().find(|host| **host == *named));
    }
    let Some(&first) = hosts.first() else { return Ok(None) };
    match hosts.iter().find(|host| **host != first) {
        None => Ok(Some(first)),
        Some(other) => Err(Failure::usage(format!("one password is not for two registries: {first} and {other}"))
            .with_hint("log in to each with `blob login`, or say in BLOB_REGISTRY which one is meant")),
    }
}

/// What is configured for single registries, which was checked when it was read.
fn options_of(config: &Config) -> impl Iterator<Item = (&str, RegistryOptions)> {
    let registries = config.settings.registries.iter().flatten();
    registries.filter_map(|(host, registry)| Some((host.as_str(), registry.options().ok()?)))
}
