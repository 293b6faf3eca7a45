//! What can go wrong with a registry, and the one table between OCI error codes and HTTP status.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use blob_core::{Digest, FailureKind, SourceError, SourceId};

/// An error code of the OCI distribution specification ("Error Codes"), and the ones that registries share beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `BLOB_UNKNOWN`: no such blob.
    BlobUnknown,
    /// `BLOB_UPLOAD_INVALID`: the upload cannot go on.
    BlobUploadInvalid,
    /// `BLOB_UPLOAD_UNKNOWN`: no such upload session.
    BlobUploadUnknown,
    /// `DIGEST_INVALID`: the content does not have the digest it was sent with.
    DigestInvalid,
    /// `MANIFEST_BLOB_UNKNOWN`: a manifest names content that is not there.
    ManifestBlobUnknown,
    /// `MANIFEST_INVALID`: not a manifest.
    ManifestInvalid,
    /// `MANIFEST_UNKNOWN`: no such manifest or tag.
    ManifestUnknown,
    /// `NAME_INVALID`: not a repository name.
    NameInvalid,
    /// `NAME_UNKNOWN`: no such repository.
    NameUnknown,
    /// `SIZE_INVALID`: the content does not have the size it was sent with.
    SizeInvalid,
    /// `UNAUTHORIZED`: credentials are needed.
    Unauthorized,
    /// `DENIED`: these credentials do not suffice.
    Denied,
    /// `UNSUPPORTED`: the registry cannot do this.
    Unsupported,
    /// `TOOMANYREQUESTS`: slow down.
    TooManyRequests,
    /// `RANGE_INVALID`: bytes outside the content.
    RangeInvalid,
    /// `PRECONDITION_FAILED`: the tag is not what the condition asked for.
    PreconditionFailed,
    /// `UNKNOWN`, and every code that is not listed here.
    Unknown,
}

impl ErrorCode {
    /// Code, name on the wire, HTTP status, meaning. Client and server read the same table.
    const TABLE: [(Self, &'static str, u16, &'static str); 17] = [
        (Self::BlobUnknown, "BLOB_UNKNOWN", 404, "no such blob"),
        (Self::BlobUploadInvalid, "BLOB_UPLOAD_INVALID", 416, "the upload cannot go on"),
        (Self::BlobUploadUnknown, "BLOB_UPLOAD_UNKNOWN", 404, "no such upload"),
        (Self::DigestInvalid, "DIGEST_INVALID", 400, "the content does not match its digest"),
        (Self::ManifestBlobUnknown, "MANIFEST_BLOB_UNKNOWN", 404, "the manifest names content that is not here"),
        (Self::ManifestInvalid, "MANIFEST_INVALID", 400, "not a valid manifest"),
        (Self::ManifestUnknown, "MANIFEST_UNKNOWN", 404, "no such manifest or tag"),
        (Self::NameInvalid, "NAME_INVALID", 400, "not a valid repository name"),
        (Self::NameUnknown, "NAME_UNKNOWN", 404, "no such repository"),
        (Self::SizeInvalid, "SIZE_INVALID", 400, "the content does not match its size"),
        (Self::Unauthorized, "UNAUTHORIZED", 401, "authentication required"),
        (Self::Denied, "DENIED", 403, "access denied"),
        (Self::Unsupported, "UNSUPPORTED", 405, "not supported"),
        (Self::TooManyRequests, "TOOMANYREQUESTS", 429, "too many requests"),
        (Self::RangeInvalid, "RANGE_INVALID", 416, "the range lies outside of the content"),
        (Self::PreconditionFailed, "PRECONDITION_FAILED", 412, "the tag is not what the condition asks for"),
        (Self::Unknown, "UNKNOWN", 500, "unknown error"),
    ];

    fn row(self) -> (Self, &'static str, u16, &'static str) {
        Self::TABLE.into_iter().find(|row| row.0 == self).unwrap_or((Self::Unknown, "UNKNOWN", 500, "unknown error"))
    }

    /// The name in the JSON body.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        self.row().2
    }

    /// What it means, in a few words.
    pub fn meaning(self) -> &'static str {
        self.row().3
    }

    /// The code with this name, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.into_iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The best guess for an answer that names no code: `object` tells what a 404 is about.
    pub fn from_status(status: u16, object: Object) -> Self {
        match (status, object) {
            (401, _) => Self::Unauthorized,
            (403, _) => Self::Denied,
            (404, Object::Blob) => Self::BlobUnknown,
            (404, Object::Upload) => Self::BlobUploadUnknown,
            (404, Object::Manifest) => Self::ManifestUnknown,
            (404, Object::Repository) => Self::NameUnknown,
            (405 | 501, _) => Self::Unsupported,
            (412, _) => Self::PreconditionFailed,
            (416, Object::Upload) => Self::BlobUploadInvalid,
            (416, _) => Self::RangeInvalid,
            (429, _) => Self::TooManyRequests,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kind of object a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// A blob.
    Blob,
    /// An upload session.
    Upload,
    /// A manifest or tag.
    Manifest,
    /// A repository, or lists of it.
    Repository,
}

/// An operation on a registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry answered with an error, or a local registry means one.
    #[error("{action}: {code}{}", detail.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Code {
        /// What was being done, to what: `reading manifest host/repo:tag`.
        action: String,
        /// The OCI code.
        code: ErrorCode,
        /// The registry's own words, if any; control characters are escaped.
        detail: Option<String>,
        /// The HTTP status, if the answer came over HTTP.
        status: Option<u16>,
        /// How long the registry asks us to wait.
        retry_after: Option<Duration>,
    },
    /// Content does not have the digest that it was asked for by.
    #[error("{action}: content does not match its digest: expected {expected}, got {got}")]
    DigestMismatch {
        /// What was being done.
        action: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// Content does not have the size that its descriptor promises.
    #[error("{action}: expected {expected} bytes, got {got}")]
    SizeMismatch {
        /// What was being done.
        action: String,
        /// Bytes promised.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// Content is larger than its limit.
    #[error("{action}: {size} bytes are over the limit of {limit}")]
    TooLarge {
        /// What was being done.
        action: String,
        /// Its size in bytes, or as much as was announced.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The far side broke the protocol.
    #[error("{action}: {detail}")]
    Protocol {
        /// What was being done.
        action: String,
        /// What was expected and what came.
        detail: String,
    },
    /// Credentials could not be had.
    #[error("{action}: {detail}")]
    Credentials {
        /// What was being done.
        action: String,
        /// What failed: the helper, the file, the token service.
        detail: String,
    },
    /// The options of a client are not usable.
    #[cfg(feature = "client")]
    #[error("{action}")]
    Options {
        /// What was being done.
        action: String,
        /// What is wrong with them.
        source: crate::client::RegistryOptionsError,
    },
    /// The network or the operating system failed.
    #[error("{action}")]
    Io {
        /// What was being done.
        action: String,
        /// Whether trying again may help.
        transient: bool,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The caller's progress asked to stop.
    #[error("{action}: cancelled")]
    Cancelled {
        /// What was being done.
        action: String,
    },
    /// Registries that should agree about a tag do not.
    #[error("{action}: the registries disagree: one has it at {one}, another at {other}")]
    Conflict {
        /// What was being done.
        action: String,
        /// What the tag points at in the first registry that knows it.
        one: Digest,
        /// What it points at in another.
        other: Digest,
    },
    /// Of several registries, some took a change and some did not.
    #[error("{action}: done in {}, not in {}", numbered(succeeded), numbered(failed))]
    Partial {
        /// What was being done.
        action: String,
        /// The registries that took it, counted from 0.
        succeeded: Vec<usize>,
        /// Those that did not.
        failed: Vec<usize>,
        /// Why one of them did not.
        source: Box<RegistryError>,
    },
    /// The source of a push failed.
    #[error("{action}")]
    Source {
        /// What was being done.
        action: String,
        /// The cause.
        source: SourceError,
    },
}

impl RegistryError {
    /// An error with an OCI code and no more.
    pub fn code(action: impl Into<String>, code: ErrorCode) -> Self {
        Self::Code { action: action.into(), code, detail: None, status: None, retry_after: None }
    }

    /// An error with an OCI code and words of its own.
    pub fn detailed(action: impl Into<String>, code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::Code { action: action.into(), code, detail: Some(detail.into()), status: None, retry_after: None }
    }

    /// "This registry cannot do that": what provided trait methods answer.
    pub fn unsupported(action: impl Into<String>) -> Self {
        Self::code(action, ErrorCode::Unsupported)
    }

    /// The OCI code, as a server would send it.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::Code { code, .. } => *code,
            Self::DigestMismatch { .. } => ErrorCode::DigestInvalid,
            Self::SizeMismatch { .. } | Self::TooLarge { .. } => ErrorCode::SizeInvalid,
            Self::Credentials { .. } => ErrorCode::Unauthorized,
            Self::Partial { source, .. } => source.error_code(),
            #[cfg(feature = "client")]
            Self::Options { .. } => ErrorCode::Unknown,
            Self::Protocol { .. }
            | Self::Io { .. }
            | Self::Source { .. }
            | Self::Conflict { .. }
            | Self::Cancelled { .. } => ErrorCode::Unknown,
        }
    }

    /// Whether the object, or its repository, does not exist.
    pub fn is_not_found(&self) -> bool {
        use ErrorCode::{BlobUnknown, BlobUploadUnknown, ManifestUnknown, NameUnknown};
        matches!(self.error_code(), BlobUnknown | BlobUploadUnknown | ManifestUnknown | NameUnknown)
    }

    /// Whether a manifest was refused since what it names is not there: sending that, and then the manifest once more, helps.
    /// Registries differ in the code.
    pub fn misses_content(&self) -> bool {
        matches!(self.error_code(), ErrorCode::ManifestBlobUnknown | ErrorCode::BlobUnknown)
    }

    /// Whether the registry's own words about this failure name `digest`.
    pub fn names(&self, digest: &Digest) -> bool {
        let Self::Code { detail: Some(detail), .. } = self else { return false };
        detail.contains(&digest.hex())
    }

    /// Whether credentials are missing, wrong or not enough.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self.error_code(), ErrorCode::Unauthorized | ErrorCode::Denied)
    }

    /// Whether the registry cannot do what was asked.
    pub fn is_unsupported(&self) -> bool {
        self.error_code() == ErrorCode::Unsupported
    }

    /// Whether content was not what its digest or size promised.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::DigestMismatch { .. } | Self::SizeMismatch { .. })
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Code { code, status, .. } => {
                *code == ErrorCode::TooManyRequests || matches!(status, Some(408 | 429 | 500 | 502..=504))
            }
            Self::Io { transient, .. } => *transient,
            Self::Source { source, .. } => source.is_transient(),
            Self::Partial { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    /// Of two failures to find the same thing, the one that says more. "Not found" says least: it holds only if nobody
    /// has a better reason not to know.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        let weight = |error: &Self| match error {
            Self::Cancelled { .. } => 6,
            _ if error.is_integrity() => 5,
            _ if error.is_not_found() => 0,
            _ if error.is_unsupported() => 1,
            _ if error.is_unauthorized() => 4,
            _ if error.is_transient() => 3,
            _ => 2,
        };
        if weight(&other) > weight(&self) { other } else { self }
    }

    /// The kind of failure, for readers of sources.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Source { source, .. } => source.kind(),
            Self::Partial { source, .. } => source.kind(),
            Self::Protocol { .. } => FailureKind::Protocol,
            Self::Io { source, .. } if is_absent(source.as_ref()) => FailureKind::NotFound,
            _ if self.is_integrity() => FailureKind::Integrity,
            _ if self.is_not_found() => FailureKind::NotFound,
            _ if self.error_code() == ErrorCode::Unauthorized => FailureKind::Unauthorized,
            _ if self.error_code() == ErrorCode::Denied => FailureKind::Denied,
            _ if self.is_transient() => FailureKind::Network,
            _ => FailureKind::Other,
        }
    }

    /// This error as the failure of the source `id`.
    pub fn into_source_error(self, id: SourceId) -> SourceError {
        SourceError::Backend { id, kind: self.kind(), source: Box::new(self) }
    }
}

/// Whether the operating system says that a file or directory does not exist.
fn is_absent(error: &(dyn StdError + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Positions as people count: "registry 1", "registries 1, 3".
fn numbered(positions: &[usize]) -> String {
    let numbers: Vec<String> = positions.iter().map(|position| (position + 1).to_string()).collect();
    let noun = if numbers.len() == 1 { "registry" } else { "registries" };
    format!("{noun} {}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        for (code, name, status, _) in ErrorCode::TABLE {
            assert_eq!(ErrorCode::from_name(name), Some(code));
            assert_eq!((code.name(), code.status()), (name, status));
        }
        assert_eq!(ErrorCode::from_name("NOT_A_CODE"), None);
    }

    #[test]
    fn a_bare_status_is_read_by_its_object() {
        assert!(RegistryError::code("x", ErrorCode::from_status(404, Object::Blob)).is_not_found());
        assert_eq!(ErrorCode::from_status(416, Object::Upload), ErrorCode::BlobUploadInvalid);
        assert!(RegistryError::code("x", ErrorCode::from_status(403, Object::Manifest)).is_unauthorized());
    }
}
