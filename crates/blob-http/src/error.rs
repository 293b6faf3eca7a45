//! What can go wrong between here and a server, by whose fault it is. URLs in errors are redacted when they are made.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use blob_core::FailureKind;

use crate::range::RangeError;
use crate::redirect::RedirectError;
use crate::retry::is_transient_status;
use crate::transport::BoxError;

/// An HTTP exchange failed. `target` is the URL without its query and credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The caller's URL cannot be requested.
    #[error("{url:?} cannot be requested: {reason}")]
    InvalidUrl {
        /// The URL, redacted.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The caller's options contradict themselves or name something unusable.
    #[error("setting up HTTP: {what}")]
    Options {
        /// Which option, and what is wrong with it.
        what: &'static str,
        /// The cause, if another part noticed.
        source: Option<BoxError>,
    },
    /// The transport was told to send nothing.
    #[error("offline: {target} was not requested")]
    Offline {
        /// What would have been requested.
        target: String,
    },
    /// No connection: name resolution, TCP, or the proxy in between.
    #[error("connecting to {target}")]
    Connect {
        /// What was requested.
        target: String,
        /// The cause.
        source: BoxError,
    },
    /// A connection, but no secure one: most often an untrusted certificate.
    #[error("securing the connection to {target}")]
    Tls {
        /// What was requested.
        target: String,
        /// The cause.
        source: BoxError,
    },
    /// Nothing moved for too long.
    #[error("{target}: waited {after:?} for {what}")]
    Timeout {
        /// What was requested.
        target: String,
        /// What did not come.
        what: Waiting,
        /// The time-out.
        after: Duration,
    },
    /// The connection broke before the answer's headers came.
    #[error("the connection to {target} broke before an answer")]
    Send {
        /// What was requested.
        target: String,
        /// The cause.
        source: BoxError,
    },
    /// The connection broke inside the answer's body.
    #[error("the connection to {target} broke after {received} bytes of the answer")]
    Body {
        /// What was requested.
        target: String,
        /// Bytes of the body that came.
        received: u64,
        /// The cause.
        source: BoxError,
    },
    /// The caller's own request body failed.
    #[error("reading what was to be sent to {target}")]
    RequestBody {
        /// What was requested.
        target: String,
        /// The cause.
        source: BoxError,
    },
    /// The server does not speak HTTP as it should.
    #[error("{target} answered with something that is not HTTP")]
    Protocol {
        /// What was requested.
        target: String,
        /// The cause.
        source: BoxError,
    },
    /// A redirect that must not be followed.
    #[error("a redirect of {target} is refused")]
    Redirect {
        /// What was requested.
        target: String,
        /// Why.
        source: RedirectError,
    },
    /// The answer is larger than the caller accepts.
    #[error("{target} answered with more than {limit} bytes")]
    TooLarge {
        /// What was requested.
        target: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The answer is not the part of the resource that was asked for.
    #[error("{target} did not answer with the bytes that were asked for")]
    Range {
        /// What was requested.
        target: String,
        /// What is wrong with the answer.
        source: RangeError,
    },
    /// The resource is not the one that was opened.
    #[error("{target} changed: {detail}")]
    Changed {
        /// What was requested.
        target: String,
        /// What differs, expected and got.
        detail: String,
    },
    /// The server neither answers ranges nor says how long the whole is.
    #[error("{target} does not say its size, and has more than the {limit} bytes that are read to find out")]
    SizeUnknown {
        /// What was requested.
        target: String,
        /// How much was read, in bytes.
        limit: u64,
    },
    /// A status that the request cannot go on with.
    #[error("{target} answered with status {status}")]
    Status {
        /// What was requested.
        target: String,
        /// The status code.
        status: u16,
        /// How long the server asks to wait before the next attempt.
        retry_after: Option<Duration>,
    },
}

/// What did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// A connection, through name resolution, proxy and TLS.
    Connection,
    /// The headers of the answer, or progress with sending the request.
    Headers,
    /// The next bytes of the body.
    Body,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "a connection",
            Self::Headers => "an answer",
            Self::Body => "more of the answer",
        })
    }
}

impl HttpError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Send { .. } | Self::Body { .. } => true,
            Self::Status { status, .. } => is_transient_status(*status),
            _ => false,
        }
    }

    /// The kind of failure, for callers that speak of sources in general.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Status { status: 404 | 410, .. } => FailureKind::NotFound,
            Self::Status { status: 401 | 407, .. } => FailureKind::Unauthorized,
            Self::Status { status: 403 | 451, .. } => FailureKind::Denied,
            Self::Changed { .. } => FailureKind::Integrity,
            error if error.is_transient() => FailureKind::Network,
            Self::Offline { .. } => FailureKind::Network,
            Self::InvalidUrl { .. } | Self::Options { .. } | Self::RequestBody { .. } => FailureKind::Other,
            _ => FailureKind::Protocol,
        }
    }

    /// How long the server asked to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The first error of type `E` in the chain that begins with `error`. `io::Error` hides the error it carries from
/// `source()`, so it is opened by hand.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        next = match current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> HttpError {
        HttpError::Status { target: "http://host/".into(), status, retry_after: None }
    }

    #[test]
    fn statuses_have_the_kind_a_caller_acts_on() {
        let cases = [
            (404, FailureKind::NotFound, false),
            (410, FailureKind::NotFound, false),
            (401, FailureKind::Unauthorized, false),
            (403, FailureKind::Denied, false),
            (429, FailureKind::Network, true),
            (503, FailureKind::Network, true),
            (418, FailureKind::Protocol, false),
            (501, FailureKind::Protocol, false),
        ];
        for (code, kind, transient) in cases {
            assert_eq!((status(code).kind(), status(code).is_transient()), (kind, transient), "{code}");
        }
    }

    #[test]
    fn being_offline_is_not_cured_by_trying_again() {
        let error = HttpError::Offline { target: "http://host/".into() };
        assert_eq!((error.kind(), error.is_transient()), (FailureKind::Network, false));
    }

    #[test]
    fn causes_are_found_behind_io_errors() {
        let inner = std::io::Error::other(status(404));
        let outer = std::io::Error::other(inner);
        assert!(matches!(find::<HttpError>(&outer), Some(HttpError::Status { status: 404, .. })));
        assert!(find::<fmt::Error>(&outer).is_none());
    }
}
