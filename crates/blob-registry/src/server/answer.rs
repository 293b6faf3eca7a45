//! Answers: responses, faults, and the JSON of errors.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

use crate::error::{ErrorCode, RegistryError};
use crate::reference::Repository;

/// What bodies may fail with: the error of what is behind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// `Docker-Content-Digest`.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A body without bytes.
pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// An answer without content.
pub(super) fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    }
    response
}

/// An answer with `content`.
pub(super) fn full(status: StatusCode, content_type: &str, content: impl Into<Bytes>) -> Response<Body> {
    let content = content.into();
    let length = HeaderValue::from(content.len());
    let mut response = Response::new(Full::new(content).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, value(content_type));
    headers.insert(header::CONTENT_LENGTH, length);
    response
}

/// An answer with a JSON document.
pub(super) fn json(document: &serde_json::Value) -> Response<Body> {
    full(StatusCode::OK, "application/json", document.to_string())
}

/// `text` as a header value. What cannot stand in a header (media types and the like are not checked by stores) is
/// left out.
pub(super) fn value(text: &str) -> HeaderValue {
    let printable: String = text.chars().filter(|c| (' '..='~').contains(c)).collect();
    HeaderValue::from_str(&printable).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The `Link` to the next page of a list.
pub(super) fn next_link(path: &str, limit: Option<usize>, last: &str, extra: &str) -> HeaderValue {
    let last = percent_encoding::utf8_percent_encode(last, percent_encoding::NON_ALPHANUMERIC);
    let limit = limit.map(|limit| format!("n={limit}&")).unwrap_or_default();
    value(&format!("<{path}?{limit}last={last}{extra}>; rel=\"next\""))
}

/// The path of a repository.
pub(super) fn base(repository: &Repository) -> String {
    format!("/v2/{repository}")
}

/// A request that is answered with an error.
#[derive(Debug)]
pub(super) struct Fault {
    status: u16,
    code: ErrorCode,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Fault {
    /// An error with the status that its code has in the table.
    pub(super) fn of(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::plain(code.status(), code, message)
    }

    /// An error with a status of its own.
    pub(super) fn plain(status: u16, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    /// The same with a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The code.
    pub(super) fn code(&self) -> ErrorCode {
        self.code
    }

    /// The response.
    pub(super) fn into_response(self) -> Response<Body> {
        let document = serde_json::json!({ "errors": [{ "code": self.code.name(), "message": self.message }] });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = full(status, "application/json", document.to_string());
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Self {
        let code = error.error_code();
        match &error {
            RegistryError::TooLarge { .. } => Self::plain(413, code, error.to_string()),
            RegistryError::Code { code: ErrorCode::Unknown, .. } if error.is_transient() => {
                tracing::warn!(error = %Chain(&error), "a registry behind the server failed");
                Self::plain(502, code, "a registry behind this one failed; its log says more")
            }
            RegistryError::Code { detail, retry_after, .. } => {
                // The client knows what it asked for, and prints the code itself.
                let fault = Self::of(code, detail.as_deref().unwrap_or_else(|| code.meaning()));
                match retry_after {
                    Some(wait) => fault.with(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1))),
                    None => fault,
                }
            }
            RegistryError::DigestMismatch { .. } | RegistryError::SizeMismatch { .. } => {
                Self::of(code, error.to_string())
            }
            other if other.is_transient() => {
                tracing::warn!(error = %Chain(other), "a registry behind the server cannot be asked now");
                Self::plain(
                    502,
                    ErrorCode::Unknown,
                    "a registry behind this one cannot be asked now; its log says more",
                )
            }
            // The cause may hold paths, addresses or credentials of this side: it goes to the log alone.
            other => {
                tracing::error!(error = %Chain(other), "the registry behind the server failed");
                Self::plain(500, ErrorCode::Unknown, "the registry failed; its log says more")
            }
        }
    }
}

/// What is stored here is damaged: that is nothing a client can do about, and nothing it did.
pub(super) fn unreadable(error: RegistryError) -> Fault {
    match error {
        RegistryError::DigestMismatch { .. } | RegistryError::SizeMismatch { .. } => {
            tracing::error!(error = %Chain(&error), "what is stored is damaged");
            Fault::plain(500, ErrorCode::Unknown, "what the registry stored is damaged; its log says more")
        }
        other => other.into(),
    }
}

/// An error with its causes, in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
