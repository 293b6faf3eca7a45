//! The log: one record for each request, with the bytes of its bodies.

use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{AUTHORIZATION, HeaderMap, RANGE};
use http::request::Parts;

/// Which of the proxy's two listeners a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The address callers are given.
    Main,
    /// The address blobs are redirected to.
    Second,
}

/// One request as it was seen.
///
/// Values of query parameters and credentials are left out, so that a log can be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The listener it came in by.
    pub origin: Origin,
    /// `GET`, `PUT`, …
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The names of the query parameters, in order.
    pub query: Vec<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The scheme of the `Authorization` header (`Basic`, `Bearer`), never the credential.
    pub authorization: Option<String>,
    /// The status answered, or `None` while there is no answer yet.
    pub status: Option<u16>,
    /// Bytes of the request's body that were forwarded.
    pub bytes_up: u64,
    /// Bytes of the answer's body that were handed to the client.
    pub bytes_down: u64,
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        for (i, name) in self.query.iter().enumerate() {
            write!(f, "{}{name}", if i == 0 { '?' } else { '&' })?;
        }
        if let Some(range) = &self.range {
            write!(f, " [{range}]")?;
        }
        if self.origin == Origin::Second {
            f.write_str(" (second origin)")?;
        }
        match self.status {
            Some(status) => write!(f, " -> {status}")?,
            None => f.write_str(" -> no answer")?,
        }
        write!(f, ", {} up, {} down", self.bytes_up, self.bytes_down)
    }
}

/// Totals over a list of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many requests.
    pub requests: usize,
    /// Body bytes towards the upstream.
    pub bytes_up: u64,
    /// Body bytes towards the client.
    pub bytes_down: u64,
}

impl Summary {
    /// Adds up `requests`.
    #[must_use]
    pub fn of(requests: &[Recorded]) -> Self {
        requests.iter().fold(Self::default(), |sum, r| Self {
            requests: sum.requests + 1,
            bytes_up: sum.bytes_up + r.bytes_up,
            bytes_down: sum.bytes_down + r.bytes_down,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests={} up={} down={}", self.requests, self.bytes_up, self.bytes_down)
    }
}

/// A record that is still being written: the bodies may be under way when somebody looks.
#[derive(Debug)]
pub(super) struct Live {
    seen: Recorded,
    status: AtomicU16,
    up: AtomicU64,
    down: AtomicU64,
}

impl Live {
    pub(super) fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::SeqCst);
    }

    pub(super) fn add(&self, way: Way, bytes: u64) {
        self.counter(way).fetch_add(bytes, Ordering::SeqCst);
    }

    pub(super) fn bytes(&self, way: Way) -> u64 {
        self.counter(way).load(Ordering::SeqCst)
    }

    fn counter(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    fn snapshot(&self) -> Recorded {
        let status = self.status.load(Ordering::SeqCst);
        Recorded {
            status: (status != 0).then_some(status),
            bytes_up: self.up.load(Ordering::SeqCst),
            bytes_down: self.down.load(Ordering::SeqCst),
            ..self.seen.clone()
        }
    }
}

/// The direction of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Arc<Live>>>>);

impl Log {
    pub(super) fn record(&self, origin: Origin, parts: &Parts) -> Arc<Live> {
        let seen = Recorded {
            origin,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: query_names(parts.uri.query().unwrap_or_default()),
            range: text(&parts.headers, &RANGE),
            authorization: text(&parts.headers, &AUTHORIZATION)
                .map(|value| value.split(' ').next().unwrap_or_default().to_owned()),
            status: None,
            bytes_up: 0,
            bytes_down: 0,
        };
        let live = Arc::new(Live { seen, status: AtomicU16::new(0), up: AtomicU64::new(0), down: AtomicU64::new(0) });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&live));
        live
    }

    pub(super) fn snapshot(&self) -> Vec<Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|live| live.snapshot()).collect()
    }

    pub(super) fn take(&self) -> Vec<Recorded> {
        let records = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        records.iter().map(|live| live.snapshot()).collect()
    }
}

fn query_names(query: &str) -> Vec<String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split('=').next().unwrap_or_default().to_owned())
        .collect()
}

fn text(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_not_kept() {
        assert_eq!(query_names("digest=sha256:ab&_state=secret&last"), ["digest", "_state", "last"]);
        assert_eq!(query_names(""), Vec::<String>::new());
    }

    #[test]
    fn a_record_prints_without_credentials() {
        let (parts, ()) = http::Request::builder()
            .method("GET")
            .uri("/v2/a/blobs/x?token=secret")
            .header("authorization", "Bearer hidden")
            .header("range", "bytes=0-9")
            .body(())
            .expect("a valid request")
            .into_parts();
        let log = Log::default();
        let live = log.record(Origin::Main, &parts);
        live.answered(http::StatusCode::PARTIAL_CONTENT);
        live.add(Way::Down, 10);
        let records = log.take();
        assert_eq!(records[0].to_string(), "GET /v2/a/blobs/x?token [bytes=0-9] -> 206, 0 up, 10 down");
        assert_eq!(records[0].authorization.as_deref(), Some("Bearer"));
        assert!(log.snapshot().is_empty(), "taking empties the log");
    }
}
