//! How a served registry is described: fields with defaults, readable by serde, unknown members refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use blob_registry::server::Action;
use serde::Deserialize;

/// A registry to serve.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Where to listen: 127.0.0.1:5000; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The directory that holds the registry, made if it does not exist; in memory without it.
    pub directory: Option<PathBuf>,
    /// Refuse everything that writes.
    pub read_only: bool,
    /// Set each tag once and delete nothing.
    pub immutable_tags: bool,
    /// Take manifests whose blobs are not here.
    pub sparse: bool,
    /// Hash blobs when they are read, each once for as long as its file stays the same. Damaged ones are taken out of their
    /// place, so that a push mends them.
    pub verify: bool,
    /// Serve what is below this name, as if it were the root.
    pub prefix: Option<String>,
    /// Registries that are asked for what is not here, in this order.
    pub upstream: Vec<UpstreamConfig>,
    /// In which order they are asked for content by digest.
    pub reads: Reads,
    /// Keep what was read from them, and take their word for what a tag points at. True by default.
    pub keep: bool,
    /// Log every operation on the registry, besides the requests.
    pub log_operations: bool,
    /// What is taken from clients.
    pub limits: LimitsConfig,
    /// Speak TLS.
    pub tls: Option<TlsConfig>,
    /// Ask for credentials.
    pub auth: Option<AuthConfig>,
    /// Collect garbage from time to time; needs a directory.
    pub gc: Option<GcConfig>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)),
            directory: None,
            read_only: false,
            immutable_tags: false,
            sparse: false,
            verify: false,
            prefix: None,
            upstream: Vec::new(),
            reads: Reads::default(),
            keep: true,
            log_operations: false,
            limits: LimitsConfig::default(),
            tls: None,
            auth: None,
            gc: None,
        }
    }
}

impl ServeConfig {
    /// Makes relative paths relative to `base`, as to the directory of the file that the description came from.
    pub fn resolve_paths(&mut self, base: &Path) {
        let tls = self.tls.iter_mut().flat_map(|tls| {
            [Some(&mut tls.certificate), Some(&mut tls.key), tls.client_ca.as_mut()].into_iter().flatten()
        });
        let htpasswd = self.auth.iter_mut().filter_map(|auth| auth.htpasswd.as_mut());
        for path in self.directory.iter_mut().chain(tls).chain(htpasswd) {
            *path = base.join(&*path);
        }
    }
}

/// In which order registries are asked for content that is the same wherever it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// One after the other.
    #[default]
    Sequential,
    /// All at once; the first answer counts.
    Race,
    /// One after the other, beginning anywhere, so that they share the load.
    Random,
}

/// A registry behind the one that is served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// `HOST` or `HOST:PORT`.
    pub host: String,
    /// Speak plain HTTP to it.
    #[serde(default)]
    pub plain_http: bool,
    /// Where the repositories are there: `library` makes `alpine` its `library/alpine`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The name that clients have for it: it is asked only for what they want of that, by `?ns=NAME` or below the
    /// repositories of that name, where it is kept.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Use the credentials of the Docker configuration. Whoever reads here then reads what they open.
    #[serde(default)]
    pub credentials: bool,
}

/// What is taken from clients; the defaults are those of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Largest blob in bytes; no limit by default.
    pub upload_bytes: Option<u64>,
    /// Largest manifest in bytes, at most 4 MiB.
    pub manifest_bytes: Option<u64>,
    /// Bytes that one repository may take; no limit by default.
    pub repository_bytes: Option<u64>,
    /// Bytes that all repositories may take, what is kept of upstream registries included; no limit by default.
    pub total_bytes: Option<u64>,
    /// Connections at a time: 1,024.
    pub connections: Option<usize>,
    /// How long the head of a request may take, in seconds: 30.
    pub header_seconds: Option<u64>,
    /// How long a body may stand still, in seconds: 60.
    pub idle_seconds: Option<u64>,
    /// Requests of one address in a second; no limit by default.
    pub requests_per_second: Option<NonZeroU32>,
}

/// Files for TLS. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain, leaf first, in PEM form.
    pub certificate: PathBuf,
    /// Its private key in PEM form.
    pub key: PathBuf,
    /// Clients must have a certificate of one of the authorities in this file.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// When garbage is collected, and what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcConfig {
    /// Seconds between two collections; the first is that long after the start.
    pub every_seconds: NonZeroU32,
    /// What is younger stays, in seconds: 86,400.
    #[serde(default = "day")]
    pub grace_seconds: u64,
    /// Remove manifests too that have no tag, belong to no index that is kept, and say nothing about one that is.
    #[serde(default)]
    pub untagged: bool,
}

fn day() -> u64 {
    86_400
}

/// How clients say who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthScheme {
    /// User and password with every request.
    #[default]
    Basic,
    /// Tokens, which `/token` of the same server issues.
    Bearer,
}

/// Who gets in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// How clients say who they are.
    pub scheme: AuthScheme,
    /// What the registry calls itself: `blob`.
    pub realm: String,
    /// The users, as `htpasswd -B` writes them.
    pub htpasswd: Option<PathBuf>,
    /// Let anybody read.
    pub anonymous_pull: bool,
    /// What users may do; without rules they may do everything.
    pub rules: Vec<RuleConfig>,
    /// How long tokens hold, in seconds: 300.
    pub token_seconds: Option<u64>,
    /// Where clients find `/token`, for servers behind a proxy.
    pub token_url: Option<String>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            scheme: AuthScheme::default(),
            realm: "blob".into(),
            htpasswd: None,
            anonymous_pull: false,
            rules: Vec::new(),
            token_seconds: None,
            token_url: None,
        }
    }
}

/// Allows something; what no rule allows is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Names of users; `*` is every user, `anonymous` everybody with credentials or without.
    pub users: Vec<String>,
    /// Names of repositories; `team/*` is everything below `team`, `*` is all.
    pub repositories: Vec<String>,
    /// What they may do there.
    pub allow: Vec<Allowed>,
}

/// What a rule can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowed {
    /// Read content, tags and referrers.
    Pull,
    /// Upload, mount and tag.
    Push,
    /// Delete manifests, tags and blobs.
    Delete,
}

impl Allowed {
    pub(super) fn action(self) -> Action {
        match self {
            Self::Pull => Action::Pull,
            Self::Push => Action::Push,
            Self::Delete => Action::Delete,
        }
    }
}
