//! How a client is put together.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blob_http::{RetryPolicy, Transport, TransportOptions};
use url::{Host, Url};

use super::auth::Auth;
use super::credentials::{Anonymous, Credentials, is_docker_hub};
use super::given::Given;
use super::journal::Journal;
use super::limit::Limit;
use super::options::RegistryOptions;
use super::profile::Profile;
use super::realm::RealmPolicy;
use super::warning::Warned;
use super::{Core, RegistryClient, answer};
use crate::error::{ErrorCode, RegistryError};

/// Bounds of a client; begin with `default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientLimits {
    /// Bytes of one request when a blob must be sent in pieces: 16 MiB.
    pub upload_chunk: u64,
    /// Bytes up to which a blob is sent along with the request that announces it: 256 KiB.
    pub single_post: u64,
    /// Pages of one listing; a registry that hands out more is taken to go round in circles: 10,000.
    pub pages: u32,
    /// Bytes of one page of a listing: 4 MiB.
    pub page_bytes: u64,
    /// How long a manifest or a page of a list may take to come, 4 MiB at most: 2 minutes. Who sends a byte now and then is
    /// never silent, and would hold a command for days.
    pub document_time: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            upload_chunk: 16 << 20,
            single_post: 256 << 10,
            pages: 10_000,
            page_bytes: 4 << 20,
            document_time: Duration::from_mins(2),
        }
    }
}

impl ClientLimits {
    /// Sets the bytes of one request when a blob must be sent in pieces; 0 counts as 1.
    #[must_use]
    pub fn with_upload_chunk(mut self, bytes: u64) -> Self {
        self.upload_chunk = bytes.max(1);
        self
    }

    /// Sets the bytes up to which a blob is sent with the request that announces it; 0 turns that off.
    #[must_use]
    pub fn with_single_post(mut self, bytes: u64) -> Self {
        self.single_post = bytes;
        self
    }

    /// Sets how long a manifest or a page of a list may take to come.
    #[must_use]
    pub fn with_document_time(mut self, time: Duration) -> Self {
        self.document_time = time;
        self
    }

    /// Sets the most pages of one listing.
    #[must_use]
    pub fn with_pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }
}

/// A client to be.
#[must_use]
pub struct RegistryClientBuilder {
    host: String,
    transport: Option<Transport>,
    plain_http: Option<bool>,
    credentials: Arc<dyn Credentials>,
    realms: RealmPolicy,
    options: RegistryOptions,
    retry: RetryPolicy,
    limits: ClientLimits,
    journal: Option<PathBuf>,
    locks: Option<PathBuf>,
}

impl RegistryClientBuilder {
    pub(super) fn new(host: String) -> Self {
        Self {
            host,
            transport: None,
            plain_http: None,
            credentials: Arc::new(Anonymous),
            realms: RealmPolicy::default(),
            options: RegistryOptions::default(),
            retry: RetryPolicy::default(),
            limits: ClientLimits::default(),
            journal: None,
            locks: None,
        }
    }

    /// Sets what is particular about this registry. Its mirrors are not for a client to know: see
    /// [`Mirrored`](super::Mirrored). Where a [transport](Self::transport) is shared, what is said of certificates,
    /// proxies, time-outs and the user agent must be part of it already.
    pub fn options(mut self, options: RegistryOptions) -> Self {
        self.plain_http = options.plain_http.or(self.plain_http);
        self.options = options;
        self
    }

    /// Shares a transport: connection pool, time-outs, certificates, proxies. By default the client makes its own.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Speaks `http` (credentials and content can be read and changed on the way) or insists on `https`. By default
    /// `http` is for `localhost`, `127.0.0.0/8` and `[::1]` only.
    pub fn plain_http(mut self, plain: bool) -> Self {
        self.plain_http = Some(plain);
        self
    }

    /// Sets where credentials come from; nobody by default.
    pub fn credentials(mut self, credentials: impl Credentials + 'static) -> Self {
        self.credentials = Arc::new(credentials);
        self
    }

    /// Sets how failures that may pass are retried.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets the bounds.
    pub fn limits(mut self, limits: ClientLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Writes uploads of 8 MiB and more down in the directory `dir` while they last, so that another process that pushes
    /// the same content to the same repository goes on where this one was killed. The directory is made when it is
    /// needed; nobody but its owner should be able to read it, since the location of a session may authorise whoever has
    /// it. What is a week old is removed. By default nothing is written down.
    pub fn upload_journal(mut self, dir: impl Into<PathBuf>) -> Self {
        self.journal = Some(dir.into());
        self
    }

    /// Where to lock lists of referrers that are kept under a tag, so that processes of this machine which name the same
    /// directory lose none of each other's. It is made if it does not exist, and holds at most 256 empty files.
    pub fn lock_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.locks = Some(directory.into());
        self
    }

    /// Lets `host` (a name or address without port) issue tokens whatever its address is. It sees the credentials.
    pub fn allow_token_host(mut self, host: impl Into<String>) -> Self {
        self.realms.hosts.push(host.into().to_ascii_lowercase());
        self
    }

    /// Lets addresses of private networks issue tokens. They see the credentials.
    pub fn allow_private_token_services(mut self, allow: bool) -> Self {
        self.realms.private_networks = allow;
        self
    }

    /// Makes the client; nothing is sent yet. Without a transport, the files that the options name are read.
    ///
    /// # Errors
    /// [`ErrorCode::NameInvalid`] if the host is none, [`RegistryError::Io`] if no transport can be made, and
    /// [`RegistryError::Options`].
    pub fn build(self) -> Result<RegistryClient, RegistryError> {
        let action = format!("setting up a client for {}", answer::printable(&self.host, 300));
        let origin = origin(&self.host, self.plain_http).ok_or_else(|| {
            RegistryError::detailed(&action, ErrorCode::NameInvalid, "expected a host with an optional port")
        })?;
        let refuse = |source| RegistryError::Options { action: action.clone(), source };
        let transport = if let Some(shared) = self.transport {
            shared
        } else {
            let base = TransportOptions::default();
            let options = RegistryOptions { plain_http: self.plain_http, ..self.options.clone() };
            let own = options.transport(&self.host, &base).map_err(refuse)?.unwrap_or(base);
            Transport::new(own).map_err(|error| answer::transport(&action, error))?
        };
        let headers = self.options.header_map().map_err(refuse)?;
        let namespace = self.options.namespace.clone();
        let mut auth = Auth::new(self.host.clone(), origin.clone(), transport.clone(), self.credentials);
        auth.realms = self.realms;
        auth.realms.hosts.extend(self.options.token_hosts.iter().map(|host| host.to_ascii_lowercase()));
        auth.realms.private_networks |= self.options.private_token_services;
        auth.retry = self.retry;
        let (host, retry, limits, profile) = (self.host, self.retry, self.limits, Profile::default());
        let (limit, journal, locks) = (Limit::default(), self.journal.map(Journal::new), self.locks);
        let cleans_referrers = self.options.clean_referrers;
        let core = Core {
            host,
            origin,
            namespace,
            headers,
            transport,
            auth,
            retry,
            limits,
            locks,
            cleans_referrers,
            profile,
            given: Given::default(),
            limit,
            warned: Warned::default(),
            journal,
        };
        Ok(RegistryClient { core: Arc::new(core) })
    }
}

impl fmt::Debug for RegistryClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClientBuilder").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The URL of the registry's root.
pub(super) fn origin(host: &str, plain_http: Option<bool>) -> Option<Url> {
    // References name Docker Hub by its public name; the registry answers under another.
    let dialled = if is_docker_hub(host) { "registry-1.docker.io" } else { host };
    let secure = Url::parse(&format!("https://{dialled}/")).ok()?;
    let bare = secure.path() == "/" && secure.query().is_none() && secure.fragment().is_none();
    let plain = plain_http.unwrap_or_else(|| secure.host().is_some_and(|host| is_loopback(&host)));
    if !bare || dialled.contains(['/', '@', '?', '#', '\\', ' ']) || dialled.chars().any(char::is_control) {
        return None;
    }
    // The scheme is part of parsing: it says which port is the default.
    if plain { Url::parse(&format!("http://{dialled}/")).ok() } else { Some(secure) }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for (host, expect) in [
            ("ghcr.io", "https://ghcr.io/"),
            ("docker.io", "https://registry-1.docker.io/"),
            ("localhost", "http://localhost/"),
            ("localhost:5000", "http://localhost:5000/"),
            ("127.8.9.1:443", "http://127.8.9.1:443/"),
            ("[::1]:5000", "http://[::1]:5000/"),
            ("localhost.example:5000", "https://localhost.example:5000/"),
            ("10.0.0.1:80", "https://10.0.0.1:80/"),
            ("127.example", "https://127.example/"),
        ] {
            assert_eq!(origin(host, None).map(Into::into), Some(expect.to_owned()), "{host}");
        }
        assert_eq!(origin("ghcr.io", Some(true)).map(Into::into), Some("http://ghcr.io/".to_owned()));
        assert_eq!(origin("localhost", Some(false)).map(Into::into), Some("https://localhost/".to_owned()));
    }

    #[test]
    fn hosts_are_only_hosts() {
        for bad in ["", "a/b", "user@a", "a?x", "a#x", "http://a", "a b", "a\n", "a:99999", "a\\b", "[::1"] {
            assert_eq!(origin(bad, None), None, "{bad:?}");
        }
    }
}
