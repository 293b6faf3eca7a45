//! What a registry needs to be told apart from others: certificates, proxies, mirrors, headers.
//!
//! [`RegistryOptions`] is plain data, so that a configuration file can be read into it. Files that it names are read
//! when a client is made of it, not before: what is wrong with one registry does not get in the way of the others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use blob_http::{ClientIdentity, HttpError, OriginOptions, Proxy, Secret, TransportOptions, certificates_from_pem};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::builder::origin;
use super::mirror::Mirror;

/// A larger file holds neither certificates nor a key.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// How one registry is reached; begin with `default()`, which changes nothing.
///
/// ```
/// use blob_registry::client::{RegistryClient, RegistryOptions};
///
/// let options = RegistryOptions::default().with_ca_file("/etc/acme/ca.pem").with_header("X-Team", "assets");
/// let client = RegistryClient::builder("registry.example").options(options);
/// # let _ = client;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// Speak `http`, or insist on `https`; by default `http` is for this machine only.
    pub plain_http: Option<bool>,
    /// Accept **any** certificate of this registry, not of others that it leads to: whoever is on the way can read and
    /// change everything, credentials included.
    pub danger_accept_invalid_certs: bool,
    /// PEM files of certificate authorities to trust.
    pub ca_files: Vec<PathBuf>,
    /// Whether the system's authorities are trusted besides those of `ca_files`: yes.
    pub system_roots: bool,
    /// The certificate to show to this registry and to nobody else, and its key.
    pub client_certificate: Option<ClientCertificate>,
    /// Where content is looked for first when it is read, in order. What is written goes to the registry alone.
    pub mirrors: Vec<Mirror>,
    /// The registry whose content is meant, sent along as `ns`: for mirrors that stand in for several.
    pub namespace: Option<String>,
    /// Headers of every request to the registry itself. They go neither to mirrors and token services nor along with
    /// redirects to other origins, and their values do not print.
    pub headers: Vec<(String, Secret<String>)>,
    /// The proxy; by default what the environment says, or what the transport was told.
    pub proxy: Option<Proxy>,
    /// The name of the program for this registry.
    pub user_agent: Option<String>,
    /// The most time for making a connection.
    pub connect_timeout: Option<Duration>,
    /// The longest pause in which nothing moves.
    pub idle_timeout: Option<Duration>,
    /// Hosts (names or addresses without port) that may issue tokens whatever their address is. They see credentials.
    pub token_hosts: Vec<String>,
    /// Whether addresses of private networks may issue tokens: no. They see credentials.
    pub private_token_services: bool,
    /// On registries without the referrers API, delete the lists of referrers that a push or a deletion replaced, if no
    /// tag points at them: no. It costs a request for each tag of the repository, and an index of somebody else's that
    /// lists such a list would lose it.
    pub clean_referrers: bool,
}

/// A certificate for TLS clients on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM: the certificate, then those between it and its authority.
    pub chain: PathBuf,
    /// PEM: the private key, unencrypted (PKCS#8, PKCS#1 or SEC1); may be the same file.
    pub key: PathBuf,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            plain_http: None,
            danger_accept_invalid_certs: false,
            ca_files: Vec::new(),
            system_roots: true,
            client_certificate: None,
            mirrors: Vec::new(),
            namespace: None,
            headers: Vec::new(),
            proxy: None,
            user_agent: None,
            connect_timeout: None,
            idle_timeout: None,
            token_hosts: Vec::new(),
            private_token_services: false,
            clean_referrers: false,
        }
    }
}

impl RegistryOptions {
    /// Sets whether `http` is spoken.
    #[must_use]
    pub fn with_plain_http(mut self, plain: bool) -> Self {
        self.plain_http = Some(plain);
        self
    }

    /// Says with every request which registry is meant: `ns`, as mirrors understand it that stand in for several.
    #[must_use]
    pub fn with_namespace(mut self, registry: impl Into<String>) -> Self {
        self.namespace = Some(registry.into());
        self
    }

    /// Accepts **any** certificate, if `accept`: whoever is on the way can read and change everything.
    #[must_use]
    pub fn with_danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.danger_accept_invalid_certs = accept;
        self
    }

    /// Trusts the certificate authorities in this PEM file.
    #[must_use]
    pub fn with_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_files.push(path.into());
        self
    }

    /// Sets whether the system's certificate authorities are trusted.
    #[must_use]
    pub fn with_system_roots(mut self, trust: bool) -> Self {
        self.system_roots = trust;
        self
    }

    /// Shows this certificate to a registry that asks for one.
    #[must_use]
    pub fn with_client_certificate(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.client_certificate = Some(ClientCertificate { chain: chain.into(), key: key.into() });
        self
    }

    /// Looks for content there first, behind the mirrors that were named before.
    #[must_use]
    pub fn with_mirror(mut self, mirror: Mirror) -> Self {
        self.mirrors.push(mirror);
        self
    }

    /// Adds a header to every request to the registry itself.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Secret::new(value.into())));
        self
    }

    /// Sets the proxy.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Lets `host` (a name or address without port) issue tokens whatever its address is. It sees the credentials.
    #[must_use]
    pub fn with_token_host(mut self, host: impl Into<String>) -> Self {
        self.token_hosts.push(host.into());
        self
    }

    /// Lets addresses of private networks issue tokens. They see the credentials.
    #[must_use]
    pub fn with_private_token_services(mut self, allow: bool) -> Self {
        self.private_token_services = allow;
        self
    }

    /// Sets whether lists of referrers that were replaced are deleted, where no tag points at them.
    #[must_use]
    pub fn with_clean_referrers(mut self, clean: bool) -> Self {
        self.clean_referrers = clean;
        self
    }

    /// What the transport to the registry `host` is to be told, if it is to be told anything that `base` does not say.
    /// Reads the files.
    ///
    /// The client certificate is for the registry alone, and so is the acceptance of invalid certificates; the rest counts
    /// for the token services and stores that it leads to as well.
    ///
    /// # Errors
    /// [`RegistryOptionsError`].
    pub fn transport(
        &self,
        host: &str,
        base: &TransportOptions,
    ) -> Result<Option<TransportOptions>, RegistryOptionsError> {
        if !self.needs_own_transport() {
            return Ok(None);
        }
        let mut options = base.clone();
        options.system_roots &= self.system_roots;
        if !options.system_roots && self.ca_files.is_empty() && options.extra_roots.is_empty() {
            return Err(RegistryOptionsError::NobodyTrusted);
        }
        for path in &self.ca_files {
            options.extra_roots.extend(
                certificates_from_pem(&read(path)?)
                    .map_err(|source| RegistryOptionsError::Pem { path: path.clone(), source })?,
            );
        }
        let mut identity = None;
        if let Some(ClientCertificate { chain, key }) = &self.client_certificate {
            identity = Some(
                ClientIdentity::from_pem(&read(chain)?, &read(key)?)
                    .map_err(|source| RegistryOptionsError::Pem { path: chain.clone(), source })?,
            );
        }
        // A host that is none is refused by whoever makes a client for it.
        options.origin = origin(host, self.plain_http).map(|url| {
            let mut own = OriginOptions::new(url);
            own.client_identity = identity;
            own.danger_accept_invalid_certs = self.danger_accept_invalid_certs;
            own
        });
        if let Some(proxy) = &self.proxy {
            options.proxy = proxy.clone();
        }
        if let Some(user_agent) = &self.user_agent {
            options.user_agent.clone_from(user_agent);
        }
        options.connect_timeout = self.connect_timeout.unwrap_or(options.connect_timeout);
        options.idle_timeout = self.idle_timeout.unwrap_or(options.idle_timeout);
        Ok(Some(options))
    }

    fn needs_own_transport(&self) -> bool {
        self.danger_accept_invalid_certs
            || !self.ca_files.is_empty()
            || !self.system_roots
            || self.client_certificate.is_some()
            || self.proxy.is_some()
            || self.user_agent.is_some()
            || self.connect_timeout.is_some()
            || self.idle_timeout.is_some()
    }

    /// The headers, ready to be sent.
    pub(super) fn header_map(&self) -> Result<HeaderMap, RegistryOptionsError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let refuse = |detail| RegistryOptionsError::Header { name: name.clone(), detail };
            let parsed: HeaderName = name.parse().map_err(|_| refuse("that is no name of a header"))?;
            if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&parsed) {
                return Err(refuse("it is not for options to set; credentials have a place of their own"));
            }
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| refuse("its value cannot be sent"))?;
            value.set_sensitive(true);
            headers.append(parsed, value);
        }
        Ok(headers)
    }
}

/// Options of a registry are not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryOptionsError {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file does not hold what it should. Its content is never quoted.
    #[error("{} cannot be used", path.display())]
    Pem {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: HttpError,
    },
    /// The system's authorities are not to be trusted, and there are no others.
    #[error("no certificate authority would be trusted: name a file of authorities")]
    NobodyTrusted,
    /// A header cannot be sent.
    #[error("header {name:?}: {detail}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong.
        detail: &'static str,
    },
    /// A mirror is not the address of a registry.
    #[error("mirror {text:?}: {detail}")]
    Mirror {
        /// What was written.
        text: String,
        /// What is wrong.
        detail: &'static str,
    },
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryOptionsError> {
    let fail = |source| RegistryOptionsError::File { path: path.to_owned(), source };
    blob_core::plain::read(path, MAX_PEM_BYTES).map_err(fail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_changes_nothing_shares_the_transport() {
        let base = TransportOptions::default();
        let plain = RegistryOptions::default().with_plain_http(true).with_header("x-a", "b");
        assert!(plain.transport("a.example", &base).unwrap().is_none());
        let own = RegistryOptions { idle_timeout: Some(Duration::from_secs(1)), ..RegistryOptions::default() };
        assert_eq!(own.transport("a.example", &base).unwrap().unwrap().idle_timeout, Duration::from_secs(1));
    }

    #[test]
    fn files_are_named_when_they_cannot_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let error = RegistryOptions::default()
            .with_ca_file(&path)
            .transport("a.example", &TransportOptions::default())
            .unwrap_err();
        assert!(matches!(&error, RegistryOptionsError::File { .. }) && error.to_string().contains("ca.pem"), "{error}");
        std::fs::write(&path, "canary").unwrap();
        let error = RegistryOptions::default()
            .with_ca_file(&path)
            .transport("a.example", &TransportOptions::default())
            .unwrap_err();
        assert!(matches!(&error, RegistryOptionsError::Pem { .. }) && error.to_string().contains("ca.pem"), "{error}");
        assert!(!format!("{error:?}").contains("canary"));
        let alone =
            RegistryOptions::default().with_system_roots(false).transport("a.example", &TransportOptions::default());
        assert!(matches!(alone, Err(RegistryOptionsError::NobodyTrusted)));
    }

    #[test]
    fn headers_are_checked_and_do_not_print() {
        let options = RegistryOptions::default().with_header("X-Key", "canary");
        assert!(options.header_map().unwrap()["x-key"].is_sensitive());
        assert!(!format!("{options:?} {:?}", options.header_map().unwrap()).contains("canary"));
        for (name, value) in [("Authorization", "x"), ("a b", "x"), ("cookie", "x"), ("x", "a\nb"), ("", "x")] {
            let error = RegistryOptions::default().with_header(name, value).header_map().unwrap_err();
            assert!(matches!(error, RegistryOptionsError::Header { .. }), "{name}");
        }
    }
}
