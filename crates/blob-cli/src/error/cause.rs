//! Errors of the libraries as failures: of which kind they are, and what caused them.

use std::error::Error as StdError;

use blob::core::{ReadError, SourceError};
use blob::http::HttpError;
use blob::policy::PolicyError;
use blob::registry::{ErrorCode, RegistryError};
use blob::{Error, ErrorKind, Outdated};

use super::{Failure, Kind, LISTED, hint};

/// How errors and hints about limits put what helps.
const RAISE: &str = "raise the limit";

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Usage => Kind::Usage,
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Authentication => Kind::Authentication,
            ErrorKind::Network => Kind::Network,
            ErrorKind::Verification => Kind::Verification,
            ErrorKind::HashMismatch => Kind::HashMismatch,
            ErrorKind::Partial => Kind::Partial,
            ErrorKind::Cancelled => Kind::Interrupted,
            _ if find::<HttpError>(&error).is_some_and(is_about_the_network) => Kind::Network,
            _ => Kind::General,
        };
        let message = match &error {
            // A disagreement between an index and its manifest reads best from the cause alone.
            Error::InvalidReference { source, .. } => source.to_string(),
            _ => error.to_string(),
        };
        let mut causes = match &error {
            Error::InvalidReference { .. } => Vec::new(),
            _ => causes_of(&error),
        };
        let (outdated, hint) = (find::<Outdated>(&error).map(Outdated::is_forgotten), hint::hint_for(&error));
        // By which option is in the hint.
        if hint.as_ref().is_some_and(|hint| hint.starts_with(RAISE)) {
            for cause in &mut causes {
                cause.truncate(cause.find(&format!("; {RAISE}")).unwrap_or(cause.len()));
            }
        }
        Self { causes, hint, outdated, ..Self::new(kind, message) }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Error::from(error).into()
    }
}

/// A source's failure while whole archives are read.
impl From<SourceError> for Failure {
    fn from(source: SourceError) -> Self {
        Error::Source { action: "reading the archive".into(), source }.into()
    }
}

/// Whether the connection, and not what came over it, is what failed.
fn is_about_the_network(error: &HttpError) -> bool {
    use HttpError::{Body, Connect, Offline, Protocol, Send, Timeout, Tls};
    matches!(
        error,
        Offline { .. } | Connect { .. } | Tls { .. } | Timeout { .. } | Send { .. } | Body { .. } | Protocol { .. }
    )
}

/// The texts of all causes, outermost first, without what the one before says already.
fn causes_of(error: &Error) -> Vec<String> {
    if let Error::Policy { source, .. } = error {
        return refusals(source);
    }
    let mut causes: Vec<String> = Vec::new();
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.downcast_ref::<RegistryError>().map_or_else(|| cause.to_string(), registry_cause);
        // Layers that do the same thing call it the same.
        let text = text.strip_prefix(&*said).and_then(|rest| rest.strip_prefix(": ")).map_or(text.clone(), Into::into);
        if !text.is_empty() && !said.contains(&text) {
            said.clone_from(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// What each policy said against an archive, with every reason. The texts are bounded, and so is their number.
fn refusals(error: &PolicyError) -> Vec<String> {
    let mut texts: Vec<_> = error.refusals().take(LISTED).map(PolicyError::explanation).collect();
    match error.refusals().count() - texts.len() {
        0 => {}
        more => texts.push(format!("and {more} more policies")),
    }
    texts
}

/// What a registry said, without what we were doing: that is in the sentence already. Empty where the cause says more.
pub(super) fn registry_cause(error: &RegistryError) -> String {
    match error {
        RegistryError::Code { code, detail: Some(detail), .. } if !detail.contains(code.name()) => {
            format!("{code}: {detail}")
        }
        RegistryError::Code { detail: Some(detail), .. } => detail.clone(),
        // Which one it is, is in what was being done.
        RegistryError::Code { code: ErrorCode::BlobUnknown, action, .. } => format!("BLOB_UNKNOWN: {action}"),
        RegistryError::Code { code, .. } => code.to_string(),
        RegistryError::Io { .. } | RegistryError::Source { .. } => String::new(),
        other => other.to_string(),
    }
}

/// Whether a registry refuses a tag because it is there and tags do not move, which no login changes.
pub(super) fn is_about_a_tag_that_stays(error: &Error) -> bool {
    let detail = match find::<RegistryError>(error) {
        Some(RegistryError::Code { detail: Some(detail), .. }) => detail.to_ascii_lowercase(),
        _ => return false,
    };
    ["tags do not move", "immutable", "already exists"].iter().any(|words| detail.contains(words))
}

/// The first cause of type `E`, the error itself included.
pub(super) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        next = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob::Location;
    use blob::registry::ErrorCode;

    use super::*;

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let registry = |source| Error::Registry { action: "reading the manifest of h/r:t".into(), source };
        let code = |code| registry(RegistryError::code("x", code));
        let decode = |digest: &[u8]| {
            let expected = blob::core::Digest::sha256_of(digest);
            Error::Read(ReadError::DataMismatch { expected, got: blob::core::Digest::sha256_of(b"other") })
        };
        let refused = HttpError::Connect { target: "http://h/".into(), source: "refused".into() };
        let tls = HttpError::Tls { target: "https://h/".into(), source: "bad certificate".into() };
        let io = |transient, source: HttpError| {
            registry(RegistryError::Io { action: "x".into(), transient, source: Box::new(source) })
        };
        for (error, expected) in [
            ("nonsense".parse::<Location>().unwrap_err(), 2),
            (Error::Options("x".into()), 2),
            (code(ErrorCode::ManifestUnknown), 3),
            (code(ErrorCode::NameUnknown), 3),
            (Error::Read(ReadError::NotFound { path: (*b"x").into() }), 3),
            (code(ErrorCode::Unauthorized), 4),
            (code(ErrorCode::Denied), 4),
            (io(true, refused), 5),
            (io(false, tls), 5),
            (code(ErrorCode::TooManyRequests), 5),
            (Error::Offline { location: "h/r:t".into(), missing: "index" }, 5),
            (Error::NotVerified { location: "h/r:t".into() }, 6),
            (decode(b"x"), 7),
            (code(ErrorCode::DigestInvalid), 7),
            (code(ErrorCode::ManifestInvalid), 1),
        ] {
            let text = error.to_string();
            assert_eq!(Failure::from(error).kind.exit_code(), expected, "{text}");
        }
    }
}
