//! The registries that a client talks to, each made when it is first named.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use blob_http::retry::RetryPolicy;
use blob_http::{Traffic, Transport, TransportOptions};
use blob_registry::client::{CertificateDirs, Credentials, Mirror, Mirrored, RegistryClient, RegistryOptions};
use blob_registry::{Registry, RegistryError};

use crate::error::Error;

/// How often a mirror is asked: it can be done without.
const MIRROR_ATTEMPTS: u32 = 2;

/// A registry, as it is reached.
#[derive(Clone)]
pub(super) struct Host {
    /// The registry itself.
    pub(super) client: Arc<RegistryClient>,
    /// The registry, with its mirrors in front.
    pub(super) registry: Arc<dyn Registry>,
}

/// What registries are made of, and those that were made.
pub(super) struct Hosts {
    transport: Transport,
    options: TransportOptions,
    pub(super) credentials: Arc<dyn Credentials>,
    retry: RetryPolicy,
    profiles: Profiles,
    locks: Option<PathBuf>,
    known: Mutex<HashMap<Box<str>, Host>>,
}

/// What is configured for registries.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiles {
    /// Whether all are spoken to without TLS, unless their options say otherwise.
    pub(super) plain_http: bool,
    by_host: HashMap<String, RegistryOptions>,
    plain_hosts: Vec<String>,
    /// Where other programs keep certificates of registries.
    pub(super) certificates: Option<CertificateDirs>,
    /// Certificate authorities that count for all of them.
    pub(super) ca_files: Vec<PathBuf>,
    /// Where uploads are written down.
    pub(super) upload_journal: Option<PathBuf>,
}

impl Profiles {
    pub(super) fn set(&mut self, host: &str, options: RegistryOptions) {
        self.by_host.insert(host.to_ascii_lowercase(), options);
    }

    pub(super) fn set_plain(&mut self, host: &str) {
        self.plain_hosts.push(host.to_ascii_lowercase());
    }

    /// The options for `host`.
    fn find(&self, host: &str) -> RegistryOptions {
        let host = host.to_ascii_lowercase();
        let mut options = self.by_host.get(&host).cloned().unwrap_or_default();
        if options.plain_http.is_none() && (self.plain_http || self.plain_hosts.contains(&host)) {
            options.plain_http = Some(true);
        }
        if !self.ca_files.is_empty() {
            // Who names an authority wants TLS on this machine too.
            options.plain_http.get_or_insert(false);
            options.ca_files.extend_from_slice(&self.ca_files);
        }
        options
    }
}

impl Hosts {
    pub(super) fn new(
        options: TransportOptions,
        credentials: Arc<dyn Credentials>,
        retry: RetryPolicy,
        profiles: Profiles,
        locks: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let transport = Transport::new(options.clone()).map_err(Error::Transport)?;
        Ok(Self { transport, options, credentials, retry, profiles, locks, known: Mutex::default() })
    }

    /// What went to and came from all of them.
    pub(super) fn traffic(&self) -> Traffic {
        self.transport.traffic()
    }

    /// The registry `host`.
    pub(super) async fn get(self: &Arc<Self>, host: &str) -> Result<Host, Error> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            return Ok(known.clone());
        }
        let profiles = &self.profiles;
        let in_files = profiles.certificates.is_some() || !profiles.ca_files.is_empty();
        let made = if profiles.by_host.is_empty() && !in_files {
            self.make(host)
        } else {
            // Its certificates are files.
            let (hosts, host) = (Arc::clone(self), host.to_owned());
            let task = tokio::task::spawn_blocking(move || hosts.make(&host));
            task.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
        };
        let made = made.map_err(|source| Error::Registry { action: setting_up(host), source })?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.entry(host.into()).or_insert(made).clone())
    }

    fn make(&self, host: &str) -> Result<Host, RegistryError> {
        let options = self.profiles.find(host);
        let mirrors = options.mirrors.clone();
        let client = Arc::new(self.client(host, options, self.retry)?);
        if mirrors.is_empty() {
            let registry = Arc::clone(&client) as Arc<dyn Registry>;
            return Ok(Host { client, registry });
        }
        let mut mirrored = Mirrored::new(Arc::clone(&client) as Arc<dyn Registry>);
        for mirror in &mirrors {
            mirrored = mirrored.with(mirror, Arc::new(self.mirror(host, mirror)?));
        }
        Ok(Host { client, registry: Arc::new(mirrored) })
    }

    /// A mirror is a registry like any other: what is configured for its own name is what counts.
    fn mirror(&self, host: &str, mirror: &Mirror) -> Result<RegistryClient, RegistryError> {
        let mut options = self.profiles.find(&mirror.host);
        options.plain_http = mirror.plain_http.or(options.plain_http);
        if mirror.namespace {
            options.namespace = Some(host.to_owned());
        }
        self.client(&mirror.host, options, self.retry.with_max_attempts(MIRROR_ATTEMPTS))
    }

    fn client(
        &self,
        host: &str,
        options: RegistryOptions,
        retry: RetryPolicy,
    ) -> Result<RegistryClient, RegistryError> {
        let refuse = |source| RegistryError::Options { action: setting_up(host), source };
        let options = match &self.profiles.certificates {
            Some(directories) => directories.options(host, options).map_err(refuse)?,
            None => options,
        };
        let transport = match options.transport(host, &self.options).map_err(refuse)? {
            None => self.transport.clone(),
            Some(own) => self.transport.sibling(own).map_err(|source| RegistryError::Io {
                action: setting_up(host),
                transient: false,
                source: Box::new(source),
            })?,
        };
        let mut builder = RegistryClient::builder(host)
            .options(options)
            .transport(transport)
            .credentials(Arc::clone(&self.credentials))
            .retry(retry);
        if let Some(dir) = &self.profiles.upload_journal {
            builder = builder.upload_journal(dir);
        }
        if let Some(directory) = &self.locks {
            builder = builder.lock_dir(directory);
        }
        builder.build()
    }
}

fn setting_up(host: &str) -> String {
    format!("setting up the client for {host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_host_beats_what_is_said_of_all() {
        let mut profiles = Profiles { plain_http: true, ..Profiles::default() };
        profiles.set("Secure.example", RegistryOptions::default().with_plain_http(false));
        assert_eq!(profiles.find("secure.example").plain_http, Some(false));
        assert_eq!(profiles.find("other.example").plain_http, Some(true));
        let mut profiles = Profiles::default();
        profiles.set_plain("plain.example:80");
        profiles.set("plain.example:80", RegistryOptions::default());
        assert_eq!(profiles.find("plain.example:80").plain_http, Some(true));
        assert_eq!(profiles.find("plain.example").plain_http, None);
    }
}
