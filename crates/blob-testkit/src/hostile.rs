//! Servers that say and do what a test wants, which may be lies.
//!
//! - [`Script`] speaks HTTP/1.1 by hand, so that it can also do what no library would: answer before it was asked for a
//!   body, read half of one, end a connection in mid-word.
//! - [`Server`] speaks HTTP/1.1 and HTTP/2, in the clear or over TLS, and says [`Reply`]s step by step.
//! - [`Sessions`] is what a registry keeps of uploads, for scripts that are honest about most of it.
//! - `Hostile` (feature `registry`) is a registry behind the trait that lies about some of its content.
//!
//! All of them write down what they saw. A whole registry with faults that are drawn from a seed is our own server behind a
//! [`Proxy`](crate::proxy::Proxy) with [`lies`] among its faults.

mod lies;
#[cfg(feature = "registry")]
mod registry;
mod server;
mod sessions;
mod wire;

use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body_util::Full;

pub use lies::lies;
#[cfg(feature = "registry")]
pub use registry::{Hostile, Referrers};
pub use server::{Server, UPLOAD};
pub use sessions::Sessions;
pub use wire::Script;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method, in capitals.
    pub method: String,
    /// What was asked for, as the first line says it: for proxies that is a whole URL or an authority.
    pub uri: Uri,
    /// The path; empty where a tunnel was asked for.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// The headers; values that are no text are left out.
    pub headers: HeaderMap,
    /// The body, as far as it was read.
    pub body: Vec<u8>,
}

impl Seen {
    /// A request that came another way.
    #[must_use]
    pub fn of(parts: &http::request::Parts, body: Vec<u8>) -> Self {
        Self::new(parts.method.as_str(), parts.uri.clone(), parts.headers.clone(), body)
    }

    fn new(method: &str, uri: Uri, headers: HeaderMap, body: Vec<u8>) -> Self {
        let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
        Self { method: method.to_owned(), uri, path, query, headers, body }
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether it has this method and a path with this part.
    #[must_use]
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }

    /// The closed range asked for, if one was: end-exclusive. Other forms of ranges are no range here.
    #[must_use]
    pub fn range(&self) -> Option<Range<usize>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse().ok()?..last.parse::<usize>().ok()?.checked_add(1)?)
    }
}

/// One step of a body.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes come.
    Send(Bytes),
    /// Nothing comes for a while.
    Pause(Duration),
    /// The connection breaks.
    Cut,
    /// Nothing comes any more, and the connection stays.
    Stall,
    /// The connection is to end when the answers under way are whole, which HTTP/2 calls `GOAWAY`. [`Script`] goes on.
    GoAway,
    /// The connection is gone, with every answer that was under way on it.
    HangUp,
}

/// An answer to give.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header names and values, in order; a name may come more than once.
    pub headers: Vec<(String, String)>,
    /// What comes after the headers.
    pub steps: Vec<Step>,
    /// Waits this long before the headers.
    pub delay: Duration,
    /// Whether the end of the connection ends the body, and no length is said.
    pub bare: bool,
}

impl Reply {
    /// A status, and nothing more.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), steps: Vec::new(), delay: Duration::ZERO, bare: false }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets a header, in the place of those of the same name.
    #[must_use]
    pub fn set(self, name: &str, value: impl Display) -> Self {
        self.without(name).header(name, value)
    }

    /// Leaves a header out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.steps = vec![Step::Send(body.into().into())];
        self
    }

    /// Sets the body, which is JSON.
    #[must_use]
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    /// Adds a step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Sends only the first `keep` bytes, and then does what `then` says. What was said about the length stays as it is.
    #[must_use]
    pub fn after(mut self, keep: usize, then: Step) -> Self {
        let whole = self.whole();
        self.steps = vec![Step::Send(whole.slice(..keep.min(whole.len()))), then];
        self
    }

    /// Closes the connection after this many bytes of the body, whose length was said.
    #[must_use]
    pub fn cut(self, bytes: usize) -> Self {
        let length = self.length();
        let reply = if self.says_length() { self } else { self.header("Content-Length", length) };
        reply.after(bytes, Step::Cut)
    }

    /// Says no `Content-Length`; the end of the connection ends the body.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The same, to be sent another way: its bytes at once.
    ///
    /// # Panics
    /// When the script has a status or a header that cannot be sent.
    #[must_use]
    pub fn into_response(self) -> http::Response<Full<Bytes>> {
        let body = Full::new(self.whole());
        self.head(body)
    }

    /// What an honest server answers to a request for `content`: a range of it where one is asked for.
    #[must_use]
    pub fn content(seen: &Seen, content: &[u8]) -> Self {
        let total = content.len();
        match seen.range() {
            Some(range) if range.start >= total => Self::new(416).header("Content-Range", format!("bytes */{total}")),
            Some(range) => {
                let end = range.end.min(total);
                Self::new(206)
                    .header("Content-Range", format!("bytes {}-{}/{total}", range.start, end - 1))
                    .body(&content[range.start..end])
            }
            None => Self::new(200).body(content),
        }
    }

    /// How many bytes it has to say.
    #[must_use]
    pub fn length(&self) -> usize {
        self.whole().len()
    }

    /// All of them.
    fn whole(&self) -> Bytes {
        let bytes = |step: &Step| if let Step::Send(bytes) = step { Some(bytes.clone()) } else { None };
        let parts: Vec<_> = self.steps.iter().filter_map(bytes).collect();
        match <[Bytes; 1]>::try_from(parts) {
            Ok([one]) => one,
            Err(parts) => parts.concat().into(),
        }
    }

    fn says_length(&self) -> bool {
        self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"))
    }

    fn head<B>(&self, body: B) -> http::Response<B> {
        let mut response = http::Response::new(body);
        *response.status_mut() = self.status.try_into().expect("scripts have statuses that exist");
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).expect("scripts have names of headers");
            let value = HeaderValue::try_from(value).expect("scripts have values that can be sent");
            response.headers_mut().append(name, value);
        }
        response
    }
}
