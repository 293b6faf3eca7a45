//! The client's errors as ours, without the URLs that they name.

use std::error::Error as StdError;

use blob_core::{ByteStream, FailureKind, SourceError, SourceId};
use futures_util::{StreamExt as _, stream};
use oci_client::errors::{OciDistributionError, OciEnvelope};

use crate::error::{ErrorCode, Object, RegistryError};

/// More characters of foreign words are not shown.
const MAX_WORDS: usize = 300;

/// What `error` means while doing `action` to an `object`.
pub(super) fn translate(action: &str, object: Object, error: OciDistributionError) -> RegistryError {
    let coded = |code: ErrorCode, detail: Option<String>, status: Option<u16>| RegistryError::Code {
        action: action.into(),
        code,
        detail: detail.map(|words| printable(&words)),
        status,
        retry_after: None,
    };
    let protocol = |detail: String| RegistryError::Protocol { action: action.into(), detail: printable(&detail) };
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            let (code, words) = of_envelope(&envelope, object);
            coded(code, words, None)
        }
        OciDistributionError::ServerError { code, message, .. } => {
            // Where the client does not look for the registry's codes, it hands out the text that holds them.
            let envelope = serde_json::from_str::<OciEnvelope>(&message).ok();
            let (said, words) = envelope.map_or((ErrorCode::Unknown, None), |told| of_envelope(&told, object));
            let meant = if said == ErrorCode::Unknown { ErrorCode::from_status(code, object) } else { said };
            coded(meant, words.or_else(|| Some(format!("status {code}"))), Some(code))
        }
        OciDistributionError::UnauthorizedError { .. } => coded(ErrorCode::Unauthorized, None, Some(401)),
        OciDistributionError::AuthenticationFailure(words) => {
            coded(ErrorCode::Unauthorized, Some(without_urls(&words)), None)
        }
        OciDistributionError::ImageManifestNotFoundError(_) => coded(ErrorCode::ManifestUnknown, None, Some(404)),
        OciDistributionError::RequestError(error) => {
            let transient = error.is_timeout() || error.is_connect() || error.is_body();
            let status = error.status().map(|status| status.as_u16());
            if let Some(status) = status {
                return coded(ErrorCode::from_status(status, object), None, Some(status));
            }
            let source = Box::new(error.without_url());
            RegistryError::Io { action: action.into(), transient, source }
        }
        OciDistributionError::IoError(error) => {
            RegistryError::Io { action: action.into(), transient: false, source: Box::new(error) }
        }
        OciDistributionError::DigestError(error) => coded(ErrorCode::DigestInvalid, Some(error.to_string()), None),
        other => protocol(without_urls(&other.to_string())),
    }
}

fn of_envelope(envelope: &OciEnvelope, object: Object) -> (ErrorCode, Option<String>) {
    let name = |code| serde_json::to_value(code).ok().and_then(|name| name.as_str().map(str::to_owned));
    let code = envelope.errors.iter().find_map(|error| match name(&error.code)?.as_str() {
        "NOT_FOUND" => Some(ErrorCode::from_status(404, object)),
        known => ErrorCode::from_name(known),
    });
    let words = envelope.errors.iter().map(|error| error.message.as_str()).find(|words| !words.is_empty());
    (code.unwrap_or(ErrorCode::Unknown), words.map(str::to_owned))
}

/// What broke a stream of the client.
pub(super) fn of_stream(id: &SourceId, error: &std::io::Error) -> SourceError {
    // The client checks digests itself, and says so in words alone.
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<oci_client::errors::DigestError>());
    let wrong = cause.is_some();
    let kind = if wrong { FailureKind::Integrity } else { FailureKind::Network };
    let words = without_urls(&chain(error));
    SourceError::Backend { id: id.clone(), kind, source: printable(&words).into() }
}

/// `stream`, which is an error unless it has `length` bytes.
pub(super) fn exactly(inner: ByteStream, action: String, length: u64) -> ByteStream {
    let id = SourceId::new(action);
    let state = (inner, length, id);
    let stream = stream::try_unfold(state, |(mut inner, left, id)| async move {
        match inner.next().await {
            Some(Ok(bytes)) if bytes.len() as u64 <= left => {
                let left = left - bytes.len() as u64;
                Ok(Some((bytes, (inner, left, id))))
            }
            None if left == 0 => Ok(None),
            Some(Err(error)) => Err(error),
            _ => {
                let detail = "the registry sent another number of bytes than the range has".into();
                Err(SourceError::Changed { id, detail })
            }
        }
    });
    stream.boxed()
}

fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// `words` without URLs: their queries authorise.
fn without_urls(words: &str) -> String {
    let shown = words.split(' ').map(|word| if word.contains("://") { "…" } else { word });
    shown.collect::<Vec<_>>().join(" ")
}

/// Foreign text made safe for a terminal.
fn printable(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_left_out() {
        let url = "https://h/v2/x?token=canary".to_owned();
        let errors = [
            OciDistributionError::UnauthorizedError { url: url.clone() },
            OciDistributionError::ServerError { code: 503, url: url.clone(), message: url.clone() },
            OciDistributionError::AuthenticationFailure(format!("asking {url} failed")),
            OciDistributionError::GenericError(Some(url.clone())),
            OciDistributionError::ImageManifestNotFoundError(url.clone()),
            OciDistributionError::UrlParseError(url),
        ];
        for error in errors {
            let translated = translate("reading", Object::Manifest, error);
            assert!(!format!("{translated} {translated:?}").contains("canary"), "{translated:?}");
        }
    }

    #[test]
    fn codes_are_kept() {
        let envelope = |code: &str| {
            let text = format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#);
            serde_json::from_str::<OciEnvelope>(&text).expect("an envelope")
        };
        for (name, expected) in [
            ("MANIFEST_UNKNOWN", ErrorCode::ManifestUnknown),
            ("TOOMANYREQUESTS", ErrorCode::TooManyRequests),
            ("NOT_FOUND", ErrorCode::BlobUnknown),
            ("RANGE_INVALID", ErrorCode::RangeInvalid),
            ("WEIRD", ErrorCode::Unknown),
        ] {
            let error = OciDistributionError::RegistryError { envelope: envelope(name), url: String::new() };
            assert_eq!(translate("x", Object::Blob, error).error_code(), expected, "{name}");
        }
        let raw = |code: u16, message: &str| {
            let (url, message) = (String::new(), message.to_owned());
            translate("x", Object::Manifest, OciDistributionError::ServerError { code, url, message })
        };
        let said = raw(404, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"a layer"}]}"#);
        assert_eq!(said.error_code(), ErrorCode::ManifestBlobUnknown);
        assert!(said.to_string().contains("a layer"), "{said}");
        for unsaid in ["<html>", r#"{"errors":[]}"#, ""] {
            assert_eq!(raw(404, unsaid).error_code(), ErrorCode::ManifestUnknown, "{unsaid}");
            assert!(raw(503, unsaid).is_transient());
        }
    }
}
