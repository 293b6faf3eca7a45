//! Answers that are not of the OCI protocol, such as pages, from behind the doors of a registry.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Request, Response, request};
use hyper::body::Incoming;

use super::answer::Body;
use super::connect::{Doors, Service};
use super::log::{Entry, Logged};
use super::pulse::Beat;
use super::{ServerHandle, ServerLimits, name_host};

/// Answers requests for something that is no registry.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::sync::Arc;
/// use blob_registry::server::{Server, Site, SiteBody};
/// use http::{Response, request::Parts};
/// use http_body_util::{BodyExt, Full};
///
/// #[derive(Debug)]
/// struct Hello;
///
/// #[async_trait::async_trait]
/// impl Site for Hello {
///     async fn answer(&self, _request: &Parts) -> Response<SiteBody> {
///         Response::new(Full::from("hello").map_err(|never| match never {}).boxed_unsync())
///     }
/// }
///
/// let server = Server::site(Arc::new(Hello)).bind("127.0.0.1:0").await?;
/// println!("http://{}/", server.local_addr());
/// server.shutdown().await;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[async_trait]
pub trait Site: fmt::Debug + Send + Sync {
    /// The answer to a request; `request` names the host in its headers, also of HTTP/2. Bodies of requests are not read.
    ///
    /// # Cancellation
    /// The future is dropped when the client goes away.
    async fn answer(&self, request: &request::Parts) -> Response<Body>;
}

/// A site that is not yet served.
#[derive(Debug)]
#[must_use]
pub struct SiteBuilder {
    pages: Pages,
}

#[derive(Debug)]
struct Pages {
    site: Arc<dyn Site>,
    limits: ServerLimits,
}

impl SiteBuilder {
    pub(super) fn new(site: Arc<dyn Site>) -> Self {
        Self { pages: Pages { site, limits: ServerLimits::default() } }
    }

    /// Changes the limits, of which those on connections and times count.
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.pages.limits = limits;
        self
    }

    /// Listens on `address`; port 0 takes a free one. Must be called within a Tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn bind(self, address: impl tokio::net::ToSocketAddrs) -> io::Result<ServerHandle> {
        #[cfg(feature = "tls")]
        let doors = Doors::new(None);
        #[cfg(not(feature = "tls"))]
        let doors = Doors::new();
        ServerHandle::start(address, self.pages, doors).await
    }
}

impl Service for Pages {
    fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>, beat: Beat) -> Response<Logged> {
        let mut entry = Entry::begin(peer, request.method(), request.uri().path(), beat);
        entry.is_about("page");
        let (mut parts, body) = request.into_parts();
        // Nobody reads it: a client that sends one all the same loses the connection behind the answer.
        drop(body);
        name_host(&mut parts);
        let response = self.site.answer(&parts).await;
        entry.follow(response, 0, parts.version)
    }
}
