//! One attempt at a time: connection pool, TLS, proxies and time-outs around `hyper`. No redirects, no retries: those
//! are the caller's, since only the caller knows what may be repeated and who may see its credentials.

mod body;
mod connect;
mod expect;
mod options;
mod pace;
mod tls;
mod traffic;

use std::error::Error as _;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use crate::error::{HttpError, Waiting, find};
use crate::redact;

pub use body::{Body, BodyStream, BoxError, ResponseBody, empty, full, stream_body};
pub use expect::Expectation;
pub use options::{ClientIdentity, OriginOptions, Proxy, TransportOptions, certificates_from_pem};
pub use traffic::Traffic;

use body::Activity;
use connect::{ConnectTimeout, Connector, Rules};
use traffic::Counters;

/// An answer: its status and headers are here, its body is still to come.
pub type Response = http::Response<ResponseBody>;

/// Sends requests over pooled connections, HTTP/1.1 and HTTP/2, in the clear or over TLS, directly or through proxies.
/// Clones share the pool.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

/// Extension of a request that moves many bytes: it gets an HTTP/1.1 connection that no other request shares, and that
/// requests without this extension never use.
#[derive(Clone, Copy, Debug)]
pub struct Bulk;

struct Inner {
    client: Client<Connector, Body>,
    bulk: Client<Connector, Body>,
    rules: Option<Arc<Rules>>,
    user_agent: HeaderValue,
    connect_timeout: Duration,
    idle_timeout: Duration,
    counters: Counters,
    offline: bool,
}

impl Transport {
    /// Sets up a transport; nothing is connected yet. Reads the proxy variables of the environment if the options say
    /// [`Proxy::FromEnvironment`]; the system's trust store is read when the first certificate is verified, or now if the
    /// options name additional roots. A host without one gets Mozilla's roots.
    ///
    /// # Errors
    /// [`HttpError::Options`].
    pub fn new(options: TransportOptions) -> Result<Self, HttpError> {
        let counters = Counters::new(options.max_bytes_per_second);
        Self::counting(options, counters)
    }

    /// A transport with connections and options of its own whose [`traffic`](Self::traffic) is counted with this one's.
    ///
    /// # Errors
    /// [`HttpError::Options`].
    pub fn sibling(&self, options: TransportOptions) -> Result<Self, HttpError> {
        Self::counting(options, self.inner.counters.clone())
    }

    fn counting(options: TransportOptions, counters: Counters) -> Result<Self, HttpError> {
        let rules = options.proxy.rules()?.map(Arc::new);
        let connector = Connector::new(&options, rules.clone())?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.pool_idle)
            .pool_max_idle_per_host(options.max_idle_per_host)
            // A pooled HTTP/2 connection whose far side vanished would otherwise be handed out again and again.
            .http2_keep_alive_interval(options.idle_timeout / 2)
            .http2_keep_alive_timeout(options.idle_timeout / 2);
        let bulk = builder.build(connector.only_http1());
        let client = builder.build(connector);
        let (connect_timeout, idle_timeout) = (options.connect_timeout, options.idle_timeout);
        let offline = options.offline;
        let user_agent = HeaderValue::try_from(options.user_agent).map_err(|source| HttpError::Options {
            what: "the user agent is not a header value",
            source: Some(source.into()),
        })?;
        let inner = Inner { client, bulk, rules, user_agent, connect_timeout, idle_timeout, counters, offline };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What this transport and its clones have moved so far.
    pub fn traffic(&self) -> Traffic {
        self.inner.counters.read()
    }

    /// Sends `request` once and waits for the answer's headers. The URI must be absolute: see [`request_uri`].
    ///
    /// The time-outs are for standstill: connecting has one, and then so has every pause in which neither the request
    /// body nor the answer moves. A request body that waits for its own producer does not count as a pause.
    ///
    /// The body of a request that says `Expect: 100-continue` is held back until the server asks for it, or for a second;
    /// the response's extension [`Expectation`] tells what became of that. A request with the extension [`Bulk`] has a
    /// connection for itself.
    ///
    /// # Errors
    /// Everything of [`HttpError`] that is about connections; statuses are not judged.
    ///
    /// # Cancellation
    /// Dropping the future ends the exchange and, for HTTP/1.1, its connection.
    pub async fn send(&self, mut request: http::Request<Body>) -> Result<Response, HttpError> {
        let inner = &*self.inner;
        let target = redact::uri(request.uri());
        check_absolute(request.uri(), &target)?;
        if inner.offline {
            return Err(HttpError::Offline { target });
        }
        let method = request.method().clone();
        if request.body().is_end_stream() && matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            // Servers may insist on a length where a body has a meaning; hyper leaves it out for empty ones.
            request.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        let (request, expected) = expect::hold_back(request);
        let activity = Activity::new(inner.counters.clone());
        inner.counters.request();
        let mut request = request.map(|body| activity.watch(body));
        request.headers_mut().entry(USER_AGENT).or_insert_with(|| inner.user_agent.clone());
        if let Some(authorization) = inner.forward_authorization(request.uri()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        hide_credentials(request.headers_mut());
        let mut response = inner.exchange(request, &activity, &target).await.inspect_err(|error| {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::debug!(%method, url = %target, cause, "{error}");
        })?;
        if let Some(watch) = expected {
            response.extensions_mut().insert(watch.outcome());
        }
        let bytes = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let status = response.status().as_u16();
        tracing::debug!(%method, url = %target, status, bytes, version = ?response.version(), "answered");
        Ok(response.map(|body| ResponseBody::new(body, target, inner.idle_timeout, inner.counters.clone())))
    }
}

impl Inner {
    /// What a plain-HTTP proxy for `uri` wants to see; tunnels authenticate when they are dug.
    fn forward_authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        let intercept = self.rules.as_deref()?.intercept(uri)?;
        intercept.basic_auth().cloned()
    }

    async fn exchange(
        &self,
        mut request: http::Request<Body>,
        activity: &Activity,
        target: &str,
    ) -> Result<http::Response<Incoming>, HttpError> {
        let timeout = |what, after| HttpError::Timeout { target: target.to_owned(), what, after };
        let mut connection = capture_connection(&mut request);
        let client = if request.extensions().get::<Bulk>().is_some() { &self.bulk } else { &self.client };
        let mut answer = client.request(request);
        let connected = async {
            let has_connection = pin!(async { drop(connection.wait_for_connection_metadata().await) });
            match select(&mut answer, has_connection).await {
                Either::Left((response, _)) => Some(response),
                Either::Right(((), _)) => None,
            }
        };
        let early = tokio::time::timeout(self.connect_timeout, connected)
            .await
            .map_err(|_| timeout(Waiting::Connection, self.connect_timeout))?;
        if let Some(response) = early {
            return response.map_err(|error| self.classify(error, target));
        }
        loop {
            let before = activity.moved();
            match tokio::time::timeout(self.idle_timeout, &mut answer).await {
                Ok(response) => return response.map_err(|error| self.classify(error, target)),
                Err(_) if activity.moved() != before || activity.waits_for_producer() => {}
                Err(_) => return Err(timeout(Waiting::Headers, self.idle_timeout)),
            }
        }
    }

    fn classify(&self, error: hyper_util::client::legacy::Error, target: &str) -> HttpError {
        let target = target.to_owned();
        if find::<ConnectTimeout>(&error).is_some() {
            return HttpError::Timeout { target, what: Waiting::Connection, after: self.connect_timeout };
        }
        if error.is_connect() {
            let tls = find::<rustls::Error>(&error).is_some();
            let source: BoxError = error.into();
            return if tls { HttpError::Tls { target, source } } else { HttpError::Connect { target, source } };
        }
        let (user, parse) = match find::<hyper::Error>(&error) {
            Some(cause) => (cause.is_user(), cause.is_parse()),
            None => (false, false),
        };
        let source: BoxError = error.into();
        match (user, parse) {
            (true, _) => HttpError::RequestBody { target, source },
            (_, true) => HttpError::Protocol { target, source },
            _ => HttpError::Send { target, source },
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("user_agent", &self.inner.user_agent)
            .field("connect_timeout", &self.inner.connect_timeout)
            .field("idle_timeout", &self.inner.idle_timeout)
            .finish_non_exhaustive()
    }
}

/// `url` as the URI of a request.
///
/// # Errors
/// [`HttpError::InvalidUrl`] for other schemes than http and https, for names and passwords in the URL (they belong in
/// a header, where they stay out of logs and of redirects), and for the few URLs that have no form on the wire.
pub fn request_uri(url: &Url) -> Result<Uri, HttpError> {
    let refuse = |reason| HttpError::InvalidUrl { url: redact::url(url), reason };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it holds a name or password, which belong in a header"));
    }
    let mut plain = url.clone();
    plain.set_fragment(None);
    plain.as_str().parse().map_err(|_| refuse("it has characters that no request line can hold"))
}

/// Keeps credentials out of everything that prints headers, in whatever layer, and out of HTTP/2's compression tables.
fn hide_credentials(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
        if let http::header::Entry::Occupied(mut entry) = headers.entry(name) {
            entry.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

/// Only absolute http and https URIs can be sent.
fn check_absolute(uri: &Uri, target: &str) -> Result<(), HttpError> {
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(()),
        _ => Err(HttpError::InvalidUrl { url: target.to_owned(), reason: "it is not an absolute http or https URL" }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn credentials_do_not_print() {
        let value = HeaderValue::from_static("canary");
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, COOKIE, COOKIE, PROXY_AUTHORIZATION] {
            headers.append(name, value.clone());
        }
        hide_credentials(&mut headers);
        assert!(!format!("{headers:?}").contains("canary"));
    }

    #[test]
    fn only_plain_urls_become_requests() {
        let accept = [("http://a/x?y=%20#frag", "http://a/x?y=%20"), ("https://[::1]:5/", "https://[::1]:5/")];
        for (url, expect) in accept {
            assert_eq!(request_uri(&url.parse().unwrap()).unwrap().to_string(), expect);
        }
        for url in ["ftp://a/", "http://user@a/", "http://:pw@a/", "data:,x"] {
            assert!(matches!(request_uri(&url.parse().unwrap()), Err(HttpError::InvalidUrl { .. })), "{url}");
        }
    }
}
