//! An OCI registry over HTTP, in front of any [`Registry`].
//!
//! It speaks the OCI distribution specification 1.1 (and what its main branch adds: upload cancel, several tags in one
//! push, digest headers) over HTTP/1.1 and HTTP/2, with TLS (feature `tls`) or without.
//!
//! Each answer is an event of level INFO under the target `blob_registry::access`, when its last byte is out, and one of
//! level TRACE under `blob_registry::metrics`, for those who count:
//!
//! | field | |
//! |---|---|
//! | `monotonic_counter.blob_registry_requests` | 1 |
//! | `monotonic_counter.blob_registry_received_bytes` | bytes of the request's body |
//! | `monotonic_counter.blob_registry_sent_bytes` | bytes of the answer's body |
//! | `histogram.blob_registry_request_seconds` | from the head of the request to the last byte of the answer |
//! | `method`, `route`, `status` | `route` is `blob`, `upload`, `manifest`, `tags`, `referrers`, `catalog`, `token`, `base`, `page` (of a [`Site`]) or `none` |
//!
//! Connections are counted there by `monotonic_counter.blob_registry_connections` when they open, and by
//! `counter.blob_registry_open_connections`, which is 1 when one opens and -1 when it ends. The names of the fields are
//! those that the metrics layer of `tracing-opentelemetry` takes.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::ErrorCode;
use crate::reference::Repository;
use crate::registry::{MAX_MANIFEST_BYTES, Registry};

mod answer;
mod auth;
mod blobs;
mod body;
mod connect;
mod log;
mod manifests;
mod metrics;
mod pulse;
mod query;
pub mod range;
mod rate;
mod referrers;
mod route;
mod site;
mod stall;
mod tags;
#[cfg(feature = "tls")]
mod tls;
mod uploads;

pub use answer::{Body as SiteBody, BoxError};
pub use auth::{Action, Auth, Passwords, Rule, Who};
#[cfg(feature = "htpasswd")]
pub use auth::{Htpasswd, HtpasswdError};
pub use site::{Site, SiteBuilder};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};

use answer::{Body, Fault};
use auth::{Need, Way};
use body::RequestBody;
use connect::Doors;
use query::Query;
use route::Route;

/// What a server takes from its clients. Sizes are in bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Largest manifest: 4 MiB.
    pub max_manifest_bytes: u64,
    /// Largest blob; `None` leaves it to the registry behind.
    pub max_upload_bytes: Option<u64>,
    /// Connections at a time: 1,024. Others wait in the listener's queue.
    pub max_connections: usize,
    /// Bytes of request bodies that are held in memory at a time, over all requests: 256 MiB. What does not fit waits
    /// for as long as the head of a request may take, and is answered with 503.
    pub max_buffered_bytes: u64,
    /// Longest page of a list: 1,000 items.
    pub max_page: usize,
    /// How long the head of a request may take, and how long a connection may wait for its next one: 30 s.
    pub header_timeout: Duration,
    /// How long a body may stand still, in either direction: 60 s. A client of HTTP/2 that does not take one of its answers
    /// loses the connection.
    pub idle_timeout: Duration,
    /// Requests of one address in a second, on average over ten seconds; `None` for no limit. A network /64 of version 6
    /// counts as one address. More are answered with 429.
    pub requests_per_second: Option<NonZeroU32>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_manifest_bytes: MAX_MANIFEST_BYTES,
            max_upload_bytes: None,
            max_connections: 1024,
            max_buffered_bytes: 256 << 20,
            max_page: 1000,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(1),
            requests_per_second: None,
        }
    }
}

/// A registry server.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::sync::Arc;
/// use blob_registry::{MemoryRegistry, Server};
///
/// let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await?;
/// println!("http://{}/v2/", server.local_addr());
/// server.shutdown().await;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Server;

impl Server {
    /// A server of something else behind the same doors: its connections are counted, waited for and ended as those of a
    /// registry are, and its answers are in the same log.
    pub fn site(site: Arc<dyn Site>) -> SiteBuilder {
        SiteBuilder::new(site)
    }

    /// A server in front of `registry`.
    pub fn builder(registry: Arc<dyn Registry>) -> ServerBuilder {
        ServerBuilder {
            app: App {
                registry,
                limits: ServerLimits::default(),
                memory: body::Memory::new(&ServerLimits::default()),
                read_only: false,
                auth: None,
                secure: false,
                rate: None,
                namespaces: HashMap::new(),
            },
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// A server that is not yet listening.
#[derive(Debug)]
#[must_use]
pub struct ServerBuilder {
    app: App,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl ServerBuilder {
    /// Changes the limits.
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.app.rate = limits.requests_per_second.map(rate::Rate::new);
        self.app.memory = body::Memory::new(&limits);
        self.app.limits = limits;
        self
    }

    /// Refuses everything that writes.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.app.read_only = read_only;
        self
    }

    /// Serves the content of another registry, `name`, from the repositories below `below`: to requests that ask for it by
    /// `?ns=name`, as containerd does of mirrors. The answer says so in `OCI-Namespace`.
    pub fn namespace(mut self, name: impl Into<String>, below: Repository) -> Self {
        self.app.namespaces.insert(name.into(), below);
        self
    }

    /// Asks for credentials.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.app.auth = Some(auth);
        self
    }

    /// Speaks TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self.app.secure = true;
        self
    }

    /// Listens on `address`; port 0 takes a free one. Must be called within a Tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn bind(self, address: impl tokio::net::ToSocketAddrs) -> io::Result<ServerHandle> {
        #[cfg(feature = "tls")]
        let doors = Doors::new(self.tls);
        #[cfg(not(feature = "tls"))]
        let doors = Doors::new();
        ServerHandle::start(address, self.app, doors).await
    }
}

/// A running server. Dropping it stops it at once; [`shutdown`](Self::shutdown) lets requests finish.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    stop: watch::Sender<()>,
    task: Option<JoinHandle<()>>,
}

impl ServerHandle {
    async fn start(
        address: impl tokio::net::ToSocketAddrs,
        service: impl connect::Service,
        doors: Doors,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(());
        let task = tokio::spawn(connect::accept(listener, Arc::new(service), doors, stopped));
        Ok(Self { address, stop, task: Some(task) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets running requests finish for up to ten seconds, and stops.
    pub async fn shutdown(mut self) {
        // Without a receiver the server has ended already.
        let _ = self.stop.send(());
        if let Some(task) = self.task.take() {
            // The task ends by itself, bounded by the grace period; it does not panic.
            let _ = task.await;
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// What the handlers of all requests share.
struct App {
    registry: Arc<dyn Registry>,
    limits: ServerLimits,
    memory: body::Memory,
    read_only: bool,
    auth: Option<Auth>,
    /// Whether clients reach it over TLS.
    secure: bool,
    rate: Option<rate::Rate>,
    /// Where the content of other registries is, by the names that clients have for them.
    namespaces: HashMap<String, Repository>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("registry", &self.registry).field("auth", &self.auth).finish_non_exhaustive()
    }
}

impl connect::Service for App {
    fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>, beat: pulse::Beat) -> Response<log::Logged> {
        answer_logged(self, peer, request, beat).await
    }
}

/// Has requests name their host where most of HTTP/1.1 do. What the target says counts (RFC 9112, section 3.2.2), and that is
/// where HTTP/2 has it.
fn name_host(parts: &mut http::request::Parts) {
    if let Some(authority) = parts.uri.authority() {
        parts.headers.insert(header::HOST, answer::value(authority.as_str()));
    }
}

/// Answers a request, with a line in the access log when the answer is out.
async fn answer_logged(
    app: &App,
    peer: SocketAddr,
    request: Request<Incoming>,
    beat: pulse::Beat,
) -> Response<log::Logged> {
    let mut entry = log::Entry::begin(peer, request.method(), request.uri().path(), beat);
    let (mut parts, body) = request.into_parts();
    name_host(&mut parts);
    let mut body = RequestBody::new(body, app.limits.idle_timeout, app.memory.clone());
    let answered = match app.rate.as_ref().map(|rate| rate.take(peer.ip(), Instant::now())) {
        None | Some(Ok(())) => answer(app, &parts, &mut body, &mut entry).await,
        Some(Err(wait)) => Err(too_many(wait)),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(fault) => {
            // Asking for the body now would invite a client that waits for "100 Continue" to send it.
            if !parts.headers.contains_key(header::EXPECT) {
                body.drain().await;
            }
            fault.into_response()
        }
    };
    let version = HeaderName::from_static("docker-distribution-api-version");
    let headers = response.headers_mut();
    headers.insert(version, HeaderValue::from_static("registry/2.0"));
    // What users uploaded is no page of this site, whatever it says it is.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    entry.follow(response, body.received(), parts.version)
}

async fn answer(
    app: &App,
    parts: &http::request::Parts,
    body: &mut RequestBody,
    entry: &mut log::Entry,
) -> Result<Response<Body>, Fault> {
    let method = &parts.method;
    let query = Query::parse(parts.uri.query());
    let route = Route::parse(parts.uri.path())?;
    entry.is_about(route.kind());
    let named = query.first("ns").filter(|_| matches!(*method, Method::GET | Method::HEAD));
    let Some((namespace, below)) = named.and_then(|name| app.namespaces.get_key_value(name)) else {
        return answer_route(app, parts, (&query, route), body, entry).await;
    };
    let mut response = answer_route(app, parts, (&query, route.below(below)), body, entry).await?;
    response.headers_mut().insert(HeaderName::from_static("oci-namespace"), answer::value(namespace));
    Ok(response)
}

async fn answer_route(
    app: &App,
    parts: &http::request::Parts,
    (query, route): (&Query, Route),
    body: &mut RequestBody,
    entry: &mut log::Entry,
) -> Result<Response<Body>, Fault> {
    let (method, headers) = (&parts.method, &parts.headers);
    if route == Route::Token {
        let issued = match &app.auth {
            Some(auth) => auth.issue(method, headers, query, body).await,
            None => None,
        };
        return issued.unwrap_or_else(|| Err(Fault::plain(404, ErrorCode::Unknown, "no such path")));
    }
    let from = mount_from(method, query, &route);
    let principal = match &app.auth {
        Some(auth) => {
            let way = Way { headers, secure: app.secure };
            auth.admit(way, need(method, &route, from.as_ref())).await?
        }
        None => auth::everybody(),
    };
    entry.sent_by(principal.user());
    let writes =
        matches!(route, Route::Upload(..) | Route::Uploads(_)) || !matches!(*method, Method::GET | Method::HEAD);
    if app.read_only && writes {
        return Err(Fault::of(ErrorCode::Unsupported, "this registry is read-only"));
    }
    match (&route, method) {
        (Route::Blob(repository, digest), _) => blobs::answer(app, method, headers, repository, digest).await,
        (Route::Uploads(repository), &Method::POST) => uploads::start(app, &principal, query, body, repository).await,
        (Route::Upload(repository, id), _) => {
            let turn = uploads::Turn { app, headers, query, repository, id };
            turn.answer(method, body).await
        }
        (Route::Manifest(repository, Some(target)), _) => {
            let turn = manifests::Turn { app, headers, query, repository, target };
            turn.answer(method, body).await
        }
        (Route::Manifest(..), &Method::PUT) => Err(Fault::of(ErrorCode::ManifestInvalid, "that is no tag")),
        (Route::Manifest(..), _) => Err(Fault::of(ErrorCode::ManifestUnknown, "no such manifest")),
        (Route::Base, &Method::GET | &Method::HEAD) => Ok(answer::json(&serde_json::json!({}))),
        (Route::Catalog, &Method::GET | &Method::HEAD) => tags::catalog(app, &principal, query).await,
        (Route::Tags(repository), &Method::GET | &Method::HEAD) => tags::list(app, query, repository).await,
        (Route::Referrers(repository, subject), &Method::GET | &Method::HEAD) => {
            referrers::list(app, query, repository, subject).await
        }
        (Route::Uploads(_), _) => Err(unsupported("POST")),
        _ => Err(unsupported("GET, HEAD")),
    }
}

/// 429, with the time to wait.
fn too_many(wait: Duration) -> Fault {
    let fault = Fault::of(ErrorCode::TooManyRequests, "too many requests from this address");
    fault.with(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))
}

/// What a request needs to be allowed.
fn need<'a>(method: &Method, route: &'a Route, from: Option<&'a Repository>) -> Need<'a> {
    if let (Some(from), Some(repository)) = (from, route.repository()) {
        return Need::Mount(repository, from);
    }
    let action = match *method {
        Method::GET | Method::HEAD if !matches!(route, Route::Upload(..)) => Action::Pull,
        // Cancelling one's own upload takes no more than making it.
        Method::DELETE if !matches!(route, Route::Upload(..)) => Action::Delete,
        _ => Action::Push,
    };
    match (route, route.repository()) {
        (Route::Catalog, _) => Need::Catalog,
        (_, Some(repository)) => Need::Repository(repository, action),
        (_, None) => Need::Known,
    }
}

/// The repository that a mount reads from.
fn mount_from(method: &Method, query: &Query, route: &Route) -> Option<Repository> {
    if *method != Method::POST || !matches!(route, Route::Uploads(_)) || query.first("mount").is_none() {
        return None;
    }
    // What is no name is refused where the request is answered.
    query.first("from").and_then(|name| Repository::new(name).ok())
}

/// 405, with the methods that work.
fn unsupported(allowed: &'static str) -> Fault {
    let fault = Fault::of(ErrorCode::Unsupported, "this method does not apply here");
    fault.with(header::ALLOW, HeaderValue::from_static(allowed))
}
