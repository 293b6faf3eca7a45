//! Which redirects may be followed, and which headers go along.
//!
//! A redirect is the server's way to make the client speak to somebody else. It never leads from https to http, ends
//! after a fixed number of hops, and credentials stay with the origin (scheme, host and port) that they are meant for.

use http::header::{AUTHORIZATION, COOKIE, LOCATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::error::HttpError;
use crate::redact;
use crate::transport::{Response, Transport, empty, request_uri};

/// How many redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedirectPolicy {
    /// The most hops of one request (10); with 0 every redirect is refused.
    pub max: usize,
}

impl Default for RedirectPolicy {
    fn default() -> Self {
        Self { max: 10 }
    }
}

impl RedirectPolicy {
    /// At most `max` hops.
    pub fn new(max: usize) -> Self {
        Self { max }
    }
}

/// Why a redirect is not followed. URLs are redacted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// It leads from https to http.
    #[error("it leads from https to {to}")]
    Downgrade {
        /// Where it leads.
        to: String,
    },
    /// It leads to something that is not HTTP.
    #[error("it leads to the scheme {scheme:?}")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// There were too many.
    #[error("it is the last of more than {max}")]
    TooMany {
        /// The most that are followed.
        max: usize,
    },
    /// The answer does not say where to go.
    #[error("status {status} came without a location")]
    NoLocation {
        /// The status code.
        status: u16,
    },
    /// The answer says where to go in a way that cannot be understood.
    #[error("its location is not a URL")]
    Location {
        /// The cause.
        source: Option<url::ParseError>,
    },
}

/// Where `current` is redirected to by an answer with `status` and `headers`: `None` if it is no redirect. A name and
/// password in the location are dropped.
///
/// # Errors
/// [`HttpError::Redirect`] for a redirect that must not be followed. Counting is up to the caller: see [`Redirects`].
pub fn next(current: &Url, status: StatusCode, headers: &HeaderMap) -> Result<Option<Url>, HttpError> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let refuse = |source| HttpError::Redirect { target: redact::url(current), source };
    let location =
        headers.get(LOCATION).ok_or_else(|| refuse(RedirectError::NoLocation { status: status.as_u16() }))?;
    let location =
        std::str::from_utf8(location.as_bytes()).map_err(|_| refuse(RedirectError::Location { source: None }))?;
    let mut to = current.join(location).map_err(|source| refuse(RedirectError::Location { source: Some(source) }))?;
    match (current.scheme(), to.scheme()) {
        ("https", "http") => return Err(refuse(RedirectError::Downgrade { to: redact::url(&to) })),
        (_, "http" | "https") => {}
        (_, scheme) => return Err(refuse(RedirectError::Scheme { scheme: scheme.to_owned() })),
    }
    // Neither fails for a URL with a host, which http and https URLs always have.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    to.set_fragment(None);
    Ok(Some(to))
}

/// Counts the redirects of one request.
#[derive(Clone, Copy, Debug)]
pub struct Redirects {
    policy: RedirectPolicy,
    followed: usize,
}

impl Redirects {
    /// None followed yet.
    pub fn new(policy: RedirectPolicy) -> Self {
        Self { policy, followed: 0 }
    }

    /// As [`next`], counted.
    ///
    /// # Errors
    /// As [`next`], and when there were too many.
    pub fn next(&mut self, current: &Url, status: StatusCode, headers: &HeaderMap) -> Result<Option<Url>, HttpError> {
        let Some(to) = next(current, status, headers)? else { return Ok(None) };
        if self.followed >= self.policy.max {
            let source = RedirectError::TooMany { max: self.policy.max };
            return Err(HttpError::Redirect { target: redact::url(current), source });
        }
        self.followed += 1;
        Ok(Some(to))
    }

    /// How many were followed.
    pub fn followed(&self) -> usize {
        self.followed
    }
}

/// Whether both have the same scheme, host and port: whether credentials for one may be shown to the other.
pub fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// Removes what only the origin it was meant for may see: `Authorization`, `Cookie`, `Proxy-Authorization` and every
/// header whose value is marked [sensitive](http::HeaderValue::set_sensitive).
pub fn strip_secrets(headers: &mut HeaderMap) {
    let secret: Vec<_> = headers
        .iter()
        .filter(|(name, value)| value.is_sensitive() || [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name))
        .map(|(name, _)| name.clone())
        .collect();
    for name in secret {
        headers.remove(name);
    }
}

/// A request without a body.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// GET or HEAD.
    pub method: Method,
    /// An http or https URL.
    pub url: Url,
    /// Headers; values marked sensitive stay with the origin of `url`.
    pub headers: HeaderMap,
}

/// An answer and where it came from.
#[derive(Debug)]
pub struct Followed {
    /// The first answer that is no redirect.
    pub response: Response,
    /// The URL that gave it.
    pub url: Url,
}

/// Sends `request` and follows redirects. Secrets are dropped when the origin changes, and stay dropped even if a later
/// redirect leads back.
///
/// # Errors
/// [`HttpError::Redirect`], and what [`Transport::send`] gives. Statuses are not judged.
///
/// # Cancellation
/// Dropping the future ends the exchange.
pub async fn send_following(
    transport: &Transport,
    request: Outgoing,
    policy: RedirectPolicy,
) -> Result<Followed, HttpError> {
    let Outgoing { method, mut url, mut headers } = request;
    let mut redirects = Redirects::new(policy);
    loop {
        let mut attempt = http::Request::new(empty());
        *attempt.method_mut() = method.clone();
        *attempt.uri_mut() = request_uri(&url)?;
        *attempt.headers_mut() = headers.clone();
        let response = transport.send(attempt).await?;
        let Some(to) = redirects.next(&url, response.status(), response.headers())? else {
            return Ok(Followed { response, url });
        };
        if !same_origin(&url, &to) {
            strip_secrets(&mut headers);
        }
        url = to;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;

    use super::*;

    fn location(value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(LOCATION, HeaderValue::from_bytes(value).unwrap())])
    }

    fn follow(from: &str, to: &str) -> Result<Option<String>, RedirectError> {
        match next(&from.parse().unwrap(), StatusCode::TEMPORARY_REDIRECT, &location(to.as_bytes())) {
            Ok(url) => Ok(url.map(Into::into)),
            Err(HttpError::Redirect { source, .. }) => Err(source),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn locations_are_resolved() {
        let cases = [
            ("http://a/x/y", "z?q=1", "http://a/x/z?q=1"),
            ("http://a/x/y", "/z", "http://a/z"),
            ("http://a/x", "https://b:8443/y#f", "https://b:8443/y"),
            ("https://a/x", "//b/y", "https://b/y"),
            ("https://a/x", "https://user:secret@b/y", "https://b/y"),
        ];
        for (from, to, expect) in cases {
            assert_eq!(follow(from, to), Ok(Some(expect.into())), "{from} -> {to}");
        }
    }

    #[test]
    fn dangerous_locations_are_refused() {
        let downgrade = follow("https://a/x", "http://a/x?sig=canary").unwrap_err();
        assert_eq!(downgrade, RedirectError::Downgrade { to: "http://a/x".into() });
        for scheme in ["file", "ftp", "gopher", "data"] {
            let refused = follow("http://a/x", &format!("{scheme}:///etc/passwd"));
            assert_eq!(refused, Err(RedirectError::Scheme { scheme: scheme.into() }));
        }
        assert!(matches!(follow("http://a/x", "http://[::1"), Err(RedirectError::Location { source: Some(_) })));
        let current: Url = "http://a/x".parse().unwrap();
        let not_text = next(&current, StatusCode::FOUND, &location(b"/\xff\xfe"));
        assert!(matches!(not_text, Err(HttpError::Redirect { source: RedirectError::Location { source: None }, .. })));
        let missing = next(&current, StatusCode::FOUND, &HeaderMap::new());
        assert!(matches!(missing, Err(HttpError::Redirect { source: RedirectError::NoLocation { status: 302 }, .. })));
    }

    #[test]
    fn only_redirects_redirect() {
        let current: Url = "http://a/x".parse().unwrap();
        for status in (100..600).filter_map(|status| StatusCode::from_u16(status).ok()) {
            let followed = next(&current, status, &location(b"/y")).unwrap().is_some();
            assert_eq!(followed, [301, 302, 303, 307, 308].contains(&status.as_u16()), "{status}");
        }
    }

    #[test]
    fn loops_end() {
        let current: Url = "http://a/x".parse().unwrap();
        let mut redirects = Redirects::new(RedirectPolicy::new(3));
        for _ in 0..3 {
            assert!(redirects.next(&current, StatusCode::FOUND, &location(b"/x")).unwrap().is_some());
        }
        let last = redirects.next(&current, StatusCode::FOUND, &location(b"/x")).unwrap_err();
        assert!(matches!(last, HttpError::Redirect { source: RedirectError::TooMany { max: 3 }, .. }));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let cases = [
            ("https://a/x", "https://a:443/y", true),
            ("https://A/x", "https://a/x", true),
            ("https://a/", "http://a/", false),
            ("https://a/", "https://a:8443/", false),
            ("https://a/", "https://b.a/", false),
            ("http://127.0.0.1:1/", "http://localhost:1/", false),
        ];
        for (a, b, expect) in cases {
            assert_eq!(same_origin(&a.parse().unwrap(), &b.parse().unwrap()), expect, "{a} {b}");
        }
    }

    #[test]
    fn secrets_are_stripped() {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "cookie", "proxy-authorization", "range"] {
            headers.insert(http::HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        let mut token = HeaderValue::from_static("canary");
        token.set_sensitive(true);
        headers.insert("x-token", token);
        strip_secrets(&mut headers);
        assert_eq!(headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["range"]);
    }
}
