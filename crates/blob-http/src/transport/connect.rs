//! From a URI to a connection: directly, through a forwarding proxy, a CONNECT tunnel or SOCKS.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::ClientConfig;
use tower_service::Service;

use super::body::BoxError;
use super::options::TransportOptions;
use super::tls;
use crate::error::HttpError;

/// Makes connections for the pool.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Tls,
    /// For one origin alone.
    own: Option<Arc<(url::Origin, Tls)>>,
    /// Whether servers are offered HTTP/2. Proxies never are.
    http2: bool,
    rules: Option<Arc<Rules>>,
    timeout: Duration,
}

/// How one speaks TLS.
#[derive(Clone)]
struct Tls {
    http1: Arc<ClientConfig>,
    /// The same, which offers HTTP/2.
    http2: Arc<ClientConfig>,
}

impl Tls {
    fn new(options: &TransportOptions) -> Result<Self, HttpError> {
        let mut http1 = tls::config(options)?;
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http2 = http1.clone();
        http2.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self { http1: Arc::new(http1), http2: Arc::new(http2) })
    }
}

/// Connecting took too long.
#[derive(Debug, thiserror::Error)]
#[error("it took too long")]
pub(super) struct ConnectTimeout;

impl Connector {
    pub(super) fn new(options: &TransportOptions, rules: Option<Arc<Rules>>) -> Result<Self, HttpError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        // Shared by the addresses of a name, so that a dead one leaves time for the next.
        tcp.set_connect_timeout(Some(options.connect_timeout));
        let own = options.origin.as_ref().map(|own| {
            let mut there = options.clone();
            there.client_identity = own.client_identity.clone().or(there.client_identity);
            there.danger_accept_invalid_certs |= own.danger_accept_invalid_certs;
            Ok::<_, HttpError>(Arc::new((own.origin.origin(), Tls::new(&there)?)))
        });
        let (tls, own) = (Tls::new(options)?, own.transpose()?);
        Ok(Self { tcp, tls, own, http2: options.http2, rules, timeout: options.connect_timeout })
    }

    /// The same for connections that nobody shares.
    pub(super) fn only_http1(&self) -> Self {
        Self { http2: false, ..self.clone() }
    }

    /// How to speak to the server of `destination`.
    fn tls_for(&self, destination: &Uri) -> Arc<ClientConfig> {
        let origin = || url::Url::parse(&destination.to_string()).ok().map(|url| url.origin());
        let own = self.own.as_deref().filter(|(own, _)| origin().is_some_and(|origin| origin == *own));
        let tls = own.map_or(&self.tls, |(_, tls)| tls);
        Arc::clone(if self.http2 { &tls.http2 } else { &tls.http1 })
    }

    fn route(&mut self, destination: Uri) -> Connecting {
        let intercept = self.rules.as_deref().and_then(|rules| rules.intercept(&destination));
        let Some(intercept) = intercept else {
            let mut direct = HttpsConnector::from((self.tcp.clone(), self.tls_for(&destination)));
            return finish(direct.call(destination), false);
        };
        let proxy = intercept.uri().clone();
        if proxy.scheme_str().is_some_and(|scheme| scheme.starts_with("socks")) {
            return self.socks(&intercept, destination);
        }
        let mut to_proxy = HttpsConnector::from((self.tcp.clone(), Arc::clone(&self.tls.http1)));
        if destination.scheme_str() == Some("http") {
            return finish(to_proxy.call(proxy), true);
        }
        let mut tunnel = Tunnel::new(proxy, to_proxy);
        if let Some(authorization) = intercept.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        finish(HttpsConnector::from((tunnel, self.tls_for(&destination))).call(destination), false)
    }

    fn socks(&self, intercept: &Intercept, destination: Uri) -> Connecting {
        // A socks5 URL has the name resolved here, a socks5h URL at the proxy.
        let resolve_here = intercept.uri().scheme_str() == Some("socks5");
        let proxy = match socks_address(intercept.uri()) {
            Ok(proxy) => proxy,
            Err(error) => return Box::pin(async move { Err(error.into()) }),
        };
        let mut socks = SocksV5::new(proxy, self.tcp.clone()).local_dns(resolve_here);
        if let Some((name, password)) = intercept.raw_auth() {
            socks = socks.with_auth(name.to_owned(), password.to_owned());
        }
        finish(HttpsConnector::from((socks, self.tls_for(&destination))).call(destination), false)
    }
}

/// The proxy's URI with the port that SOCKS has by default.
fn socks_address(proxy: &Uri) -> Result<Uri, http::Error> {
    let host = proxy.host().unwrap_or_default();
    let authority = format!("{host}:{}", proxy.port_u16().unwrap_or(1080));
    Uri::builder().scheme("http").authority(authority).path_and_query("/").build()
}

/// Which proxy stands before which URI.
#[derive(Debug)]
pub(super) struct Rules {
    matcher: Matcher,
    /// Whether this very machine is reached directly, as the Go tools do with proxies from the environment.
    loopback_direct: bool,
}

impl Rules {
    pub(super) fn new(matcher: Matcher, loopback_direct: bool) -> Self {
        Self { matcher, loopback_direct }
    }

    /// The proxy for `uri`, if the rules name one.
    pub(super) fn intercept(&self, uri: &Uri) -> Option<Intercept> {
        if self.loopback_direct && uri.host().is_none_or(is_loopback) {
            return None;
        }
        self.matcher.intercept(uri)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

type Connecting = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

fn finish<T: Io + 'static, E: Into<BoxError>>(
    connecting: impl Future<Output = Result<T, E>> + Send + 'static,
    proxied: bool,
) -> Connecting {
    Box::pin(async move { Ok(Stream { io: Box::new(connecting.await.map_err(Into::into)?), proxied }) })
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // TCP connectors are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Uri) -> Connecting {
        let (connecting, timeout) = (self.route(destination), self.timeout);
        Box::pin(async move { tokio::time::timeout(timeout, connecting).await.map_err(|_| ConnectTimeout)? })
    }
}

trait Io: Read + Write + Connection + Send + Unpin {}

impl<T: Read + Write + Connection + Send + Unpin> Io for T {}

/// A connection of whatever make.
pub(super) struct Stream {
    io: Box<dyn Io>,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn exceptions_are_reached_directly() {
        let matcher = Matcher::builder().all("http://proxy:1").no("direct.test, 10.0.0.0/8").build();
        let rules = Rules::new(matcher, true);
        let cases = [
            ("http://127.0.0.1:5000/", false),
            ("http://[::1]:5000/", false),
            ("http://LOCALHOST/", false),
            ("http://direct.test/", false),
            ("https://x.direct.test/", false),
            ("https://10.1.2.3/", false),
            ("https://blob.test/", true),
            ("http://localhost.test/", true),
        ];
        for (uri, proxied) in cases {
            assert_eq!(rules.intercept(&uri.parse().unwrap()).is_some(), proxied, "{uri}");
        }
        let asked_for = Rules::new(Matcher::builder().all("http://proxy:1").build(), false);
        assert!(asked_for.intercept(&Uri::from_static("http://127.0.0.1:5000/")).is_some());
    }
}
