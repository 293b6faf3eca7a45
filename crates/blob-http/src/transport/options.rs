//! What a transport can be told.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;

use super::connect::Rules;
use crate::error::HttpError;
use crate::redact::Secret;

/// Settings of a [`Transport`](super::Transport); begin with `default()`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransportOptions {
    /// The `User-Agent` of requests that have none: `blob/<version>`.
    pub user_agent: String,
    /// The most time for name resolution, TCP, proxy and TLS together: 10 s.
    pub connect_timeout: Duration,
    /// The longest pause in which nothing moves, before or inside an answer: 30 s.
    pub idle_timeout: Duration,
    /// How long an unused connection is kept: 90 s.
    pub pool_idle: Duration,
    /// How many unused connections are kept for one host: 16.
    pub max_idle_per_host: usize,
    /// Certificate authorities to trust besides the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Whether the system's authorities are trusted: yes. Without them, only `extra_roots` are.
    pub system_roots: bool,
    /// The certificate to show to servers that ask for one.
    pub client_identity: Option<ClientIdentity>,
    /// Accept **any** certificate: whoever is on the path can read and change everything, credentials included.
    pub danger_accept_invalid_certs: bool,
    /// What counts for one origin alone, besides.
    pub origin: Option<OriginOptions>,
    /// Which proxies to use.
    pub proxy: Proxy,
    /// Whether to offer HTTP/2 over TLS: yes. One connection then carries all requests to a host; without it, bulk
    /// ranges get connections of their own.
    pub http2: bool,
    /// Send nothing: every request fails with [`HttpError::Offline`].
    pub offline: bool,
    /// How many bytes bodies may move in a second, both directions and all connections together, those of
    /// [siblings](super::Transport::sibling) included: no limit by default. Short bursts are as large as what is read at a
    /// time.
    pub max_bytes_per_second: Option<NonZero<u64>>,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("blob/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            pool_idle: Duration::from_secs(90),
            max_idle_per_host: 16,
            extra_roots: Vec::new(),
            system_roots: true,
            client_identity: None,
            danger_accept_invalid_certs: false,
            origin: None,
            proxy: Proxy::FromEnvironment,
            http2: true,
            offline: false,
            max_bytes_per_second: None,
        }
    }
}

impl TransportOptions {
    /// Sets the `User-Agent`.
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Sets the time-out for connecting.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the time-out for standstill.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets how long and how many unused connections are kept for one host.
    #[must_use]
    pub fn with_pool(mut self, idle: Duration, max_idle_per_host: usize) -> Self {
        (self.pool_idle, self.max_idle_per_host) = (idle, max_idle_per_host);
        self
    }

    /// Trusts `root` besides the system's authorities.
    #[must_use]
    pub fn with_extra_root(mut self, root: CertificateDer<'static>) -> Self {
        self.extra_roots.push(root);
        self
    }

    /// Sets whether the system's authorities are trusted besides those that were added.
    #[must_use]
    pub fn with_system_roots(mut self, trust: bool) -> Self {
        self.system_roots = trust;
        self
    }

    /// Shows `identity` to servers that ask for a certificate.
    #[must_use]
    pub fn with_client_identity(mut self, identity: ClientIdentity) -> Self {
        self.client_identity = Some(identity);
        self
    }

    /// Accepts **any** certificate, if `accept`: whoever is on the path can read and change everything.
    #[must_use]
    pub fn with_danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.danger_accept_invalid_certs = accept;
        self
    }

    /// Sets what counts for one origin alone.
    #[must_use]
    pub fn with_origin(mut self, origin: OriginOptions) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Sets the proxies.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Sets whether nothing is sent.
    #[must_use]
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Sets whether HTTP/2 is offered.
    #[must_use]
    pub fn with_http2(mut self, http2: bool) -> Self {
        self.http2 = http2;
        self
    }
}

/// What counts for one origin (scheme, host and port) and for no other, such as those that it redirects to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OriginOptions {
    /// The origin, as a URL of anything there.
    pub origin: Url,
    /// The certificate to show there, instead of the one for all.
    pub client_identity: Option<ClientIdentity>,
    /// Accept **any** certificate there.
    pub danger_accept_invalid_certs: bool,
}

impl OriginOptions {
    /// Nothing particular about the origin of `url`.
    pub fn new(url: Url) -> Self {
        Self { origin: url, client_identity: None, danger_accept_invalid_certs: false }
    }
}

/// A certificate chain and its private key. The key does not print.
#[derive(Clone)]
pub struct ClientIdentity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Arc<PrivateKeyDer<'static>>,
}

impl ClientIdentity {
    /// The leaf certificate comes first.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key: Arc::new(key) }
    }

    /// Reads a chain, leaf first, and its private key (PKCS#8, PKCS#1 or SEC1) from PEM texts, which may be one and the
    /// same.
    ///
    /// # Errors
    /// [`HttpError::Options`] if either holds none, or is not PEM. No content is quoted.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, HttpError> {
        let chain = certificates_from_pem(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| HttpError::Options {
            what: match error {
                pem::Error::NoItemsFound => "the file of the client's key holds no unencrypted private key",
                _ => "the file of the client's key is not PEM",
            },
            source: None,
        })?;
        Ok(Self::new(chain, key))
    }
}

/// The certificates in a PEM text, in order; other sections are passed over.
///
/// # Errors
/// [`HttpError::Options`] if there is none, or the text is not PEM.
pub fn certificates_from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|error| HttpError::Options {
        what: "a file of certificates is not PEM",
        source: Some(error.into()),
    })?;
    if certificates.is_empty() {
        return Err(HttpError::Options { what: "a file of certificates holds none", source: None });
    }
    Ok(certificates)
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientIdentity({} certificates, key …)", self.chain.len())
    }
}

/// Which proxies to use. Proxies are http, https or socks5 URLs with optional name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// What `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` (or lower case) say when the transport is made.
    /// This very machine (localhost, 127.0.0.0/8, ::1) is always reached directly.
    FromEnvironment,
    /// None.
    None,
    /// This one, for everything that `no_proxy` does not name.
    Explicit {
        /// Its URL; may hold a name and a password.
        url: Secret<String>,
        /// Hosts to reach directly, in the syntax of `NO_PROXY`: names with their subdomains, addresses, networks, `*`.
        no_proxy: String,
    },
}

impl Proxy {
    /// A proxy for everything.
    pub fn explicit(url: impl Into<String>) -> Self {
        Self::Explicit { url: Secret::new(url.into()), no_proxy: String::new() }
    }

    /// The rules, or `None` where there are none.
    pub(super) fn rules(&self) -> Result<Option<Rules>, HttpError> {
        match self {
            Self::None => Ok(None),
            Self::FromEnvironment => Ok(Some(Rules::new(Matcher::from_env(), true))),
            Self::Explicit { url, no_proxy } => {
                // The matcher ignores what it cannot use; a proxy that was asked for by name must not be ignored.
                let alone = Matcher::builder().all(url.expose().as_str()).build();
                let usable = alone.intercept(&http::Uri::from_static("http://host/")).is_some_and(|intercept| {
                    matches!(intercept.uri().scheme_str(), Some("http" | "https" | "socks5" | "socks5h"))
                });
                if !usable {
                    let what = "the proxy is not an http, https or socks5 URL";
                    return Err(HttpError::Options { what, source: None });
                }
                let matcher = Matcher::builder().all(url.expose().as_str()).no(no_proxy.as_str()).build();
                Ok(Some(Rules::new(matcher, false)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unusable_proxy_is_an_error_and_not_ignored() {
        for url in ["", "ftp://proxy:1", "socks4://proxy:1", "http://", "http://a b/"] {
            assert!(matches!(Proxy::explicit(url).rules(), Err(HttpError::Options { .. })), "{url}");
        }
        for url in ["http://proxy:3128", "proxy:3128", "https://u:p@proxy", "socks5://proxy:1080"] {
            assert!(Proxy::explicit(url).rules().unwrap().is_some(), "{url}");
        }
    }

    #[test]
    fn pem_files_are_read_and_never_quoted() {
        let authority = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (authority.cert.pem(), authority.signing_key.serialize_pem());
        let both = format!("{certificate}{certificate}{key}");
        assert_eq!(certificates_from_pem(both.as_bytes()).unwrap().len(), 2);
        assert_eq!(ClientIdentity::from_pem(both.as_bytes(), both.as_bytes()).unwrap().chain.len(), 2);
        for (chain, key) in [
            (certificate.as_str(), certificate.as_str()),
            (key.as_str(), key.as_str()),
            ("", key.as_str()),
            ("-----BEGIN CERTIFICATE-----\ncanary\n", key.as_str()),
            (certificate.as_str(), "-----BEGIN PRIVATE KEY-----\ncanary\n"),
        ] {
            let error = ClientIdentity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(matches!(error, HttpError::Options { .. }));
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn options_do_not_print_secrets() {
        let options = TransportOptions::default().with_proxy(Proxy::explicit("http://user:canary@proxy"));
        assert!(!format!("{options:?}").contains("canary"));
    }
}
