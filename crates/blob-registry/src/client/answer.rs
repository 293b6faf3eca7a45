//! What a registry answers, and how an answer that is an error becomes one.

use std::time::Duration;

use blob_core::Digest;
use blob_http::{HttpError, ResponseBody, Secret};
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::call::Call;
use crate::error::{ErrorCode, RegistryError};

/// More of an error's body is not read.
const MAX_ERROR_BYTES: usize = 8 << 10;

/// The words of an error are waited for this long, together: they are worth no more.
const ERROR_TIME: Duration = Duration::from_secs(5);

/// More characters of the registry's words are not shown.
const MAX_DETAIL_CHARS: usize = 1000;

/// The digest of the content, as the registry has it.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// An answer whose body is still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: ResponseBody,
    /// What answered, behind all redirects.
    pub(super) url: Url,
    /// Whether another origin than the registry's had a part in it.
    pub(super) foreign: bool,
    /// Whether an attempt before this one failed: what was asked for may have been done then.
    pub(super) repeated: bool,
    /// What was sent and must not be shown when the registry repeats it.
    pub(super) hidden: Vec<Secret<String>>,
    /// What a user can do about a refusal.
    pub(super) advice: Option<String>,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The length that the headers announce, in bytes.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.trim().parse().ok()
    }

    /// The media type in lower case, without parameters.
    pub(super) fn media_type(&self) -> Option<String> {
        media_type(&self.headers)
    }

    /// The digest that the registry says the content has.
    ///
    /// # Errors
    /// [`RegistryError::Protocol`] if what it says is no digest.
    pub(super) fn content_digest(&self, action: &str) -> Result<Option<Digest>, RegistryError> {
        let Some(value) = self.header(CONTENT_DIGEST) else { return Ok(None) };
        let digest = value
            .trim()
            .parse()
            .map_err(|error| protocol(action, format!("the answer's Docker-Content-Digest is unusable: {error}")))?;
        Ok(Some(digest))
    }

    /// This answer as the error that it means. Reads at most 8 KiB of the body.
    pub(super) async fn refuse(self, call: &Call) -> RegistryError {
        let status = self.status.as_u16();
        let retry_after = blob_http::retry::retry_after(&self.headers);
        let json = self.media_type().is_some_and(|kind| kind.ends_with("json"));
        let plain = self.media_type().is_some_and(|kind| kind == "text/plain");
        let body = prefix(self.body, MAX_ERROR_BYTES).await;
        let words = Words::read(&body, json, plain);
        let code = words.code.unwrap_or_else(|| ErrorCode::from_status(status, call.object));
        let said = words.detail.map(|words| printable(&scrub(&words, &self.hidden), MAX_DETAIL_CHARS));
        // A status that no code stands for must at least be named.
        let said = said.or_else(|| (code == ErrorCode::Unknown).then(|| format!("status {}", self.status)));
        let detail = match (said, self.advice) {
            (Some(said), Some(advice)) => Some(format!("{said}; {advice}")),
            (said, advice) => said.or(advice),
        };
        RegistryError::Code { action: call.action.clone(), code, detail, status: Some(status), retry_after }
    }
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The media type in lower case, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = text(headers, CONTENT_TYPE.as_str())?;
    let name = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!name.is_empty()).then_some(name)
}

/// "The far side broke the protocol."
pub(super) fn protocol(action: &str, detail: impl Into<String>) -> RegistryError {
    RegistryError::Protocol { action: action.to_owned(), detail: detail.into() }
}

/// A failure of the transport.
pub(super) fn transport(action: &str, error: HttpError) -> RegistryError {
    match error {
        HttpError::TooLarge { limit, .. } => {
            RegistryError::TooLarge { action: action.to_owned(), size: limit.saturating_add(1), limit }
        }
        HttpError::Redirect { source, .. } => protocol(action, format!("a redirect is refused: {source}")),
        error => {
            let transient = error.is_transient();
            RegistryError::Io { action: action.to_owned(), transient, source: Box::new(error) }
        }
    }
}

/// The first `limit` bytes of a body, or as many as come within five seconds.
pub(super) async fn prefix(body: ResponseBody, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut stream, end) = (body.into_stream(), Instant::now() + ERROR_TIME);
    while bytes.len() < limit
        && let Ok(Some(Ok(chunk))) = timeout_at(end, stream.next()).await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(limit - bytes.len())]);
    }
    bytes
}

/// What an error's body says.
#[derive(Default)]
struct Words {
    code: Option<ErrorCode>,
    detail: Option<String>,
}

impl Words {
    fn read(body: &[u8], json: bool, plain: bool) -> Self {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
            #[serde(default)]
            detail: serde_json::Value,
        }
        if json && let Ok(Errors { errors }) = serde_json::from_slice(body) {
            let code = errors.iter().find_map(|error| ErrorCode::from_name(&error.code));
            let sentence = |error: &One| match &error.detail {
                serde_json::Value::String(detail) => format!("{}: {detail}", error.message),
                _ if error.message.is_empty() => error.code.clone(),
                _ => error.message.clone(),
            };
            let sentences: Vec<_> = errors.iter().take(8).map(sentence).filter(|text| !text.is_empty()).collect();
            return Self { code, detail: (!sentences.is_empty()).then(|| sentences.join("; ")) };
        }
        // Pages made for people are not worth showing; a line of text is.
        let line = String::from_utf8_lossy(body);
        let line = line.lines().next().unwrap_or_default().trim();
        Self { code: None, detail: (plain && !line.is_empty()).then(|| line.to_owned()) }
    }
}

/// `words` without what must not be shown: the secrets that were sent, and the queries of URLs, which authorise.
pub(super) fn scrub(words: &str, hidden: &[Secret<String>]) -> String {
    let mut words = words.to_owned();
    for secret in hidden.iter().map(|secret| secret.expose().as_str()).filter(|secret| secret.len() >= 4) {
        words = words.replace(secret, "…");
    }
    let mut shown = String::with_capacity(words.len());
    let mut rest = words.as_str();
    while let Some(at) = rest.find('?') {
        let (before, query) = rest.split_at(at);
        let end = query.find(|c: char| c.is_whitespace() || "\"'<>".contains(c)).unwrap_or(query.len());
        shown.push_str(before);
        shown.push_str(if query[..end].contains('=') { "?…" } else { &query[..end] });
        rest = &query[end..];
    }
    shown.push_str(rest);
    shown
}

/// Foreign text made safe for a terminal: control and direction characters escaped, cut to `max` characters.
pub(super) fn printable(text: &str, max: usize) -> String {
    let mut shown = String::new();
    for (position, c) in text.chars().enumerate() {
        if position == max {
            shown.push('…');
            break;
        }
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if c.is_control() || turns => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_errors_are_read() {
        let body =
            br#"{"errors":[{"code":"WEIRD","message":"first"},{"code":"NAME_UNKNOWN","message":"m","detail":"d"}]}"#;
        let words = Words::read(body, true, false);
        assert_eq!(words.code, Some(ErrorCode::NameUnknown));
        assert_eq!(words.detail.as_deref(), Some("first; m: d"));
        assert!(Words::read(b"<html>login</html>", false, false).detail.is_none());
        assert_eq!(Words::read(b"404 page\nmore", false, true).detail.as_deref(), Some("404 page"));
        assert!(Words::read(b"{", true, false).code.is_none());
    }

    #[test]
    fn words_are_made_safe() {
        assert_eq!(printable("a\u{1b}[31m\u{202e}b\nc", 100), "a\\u{1b}[31m\\u{202e}b c");
        assert_eq!(printable("abcdef", 3), "abc…");
        let hidden = [Secret::new("canary".to_owned())];
        assert_eq!(scrub("bad token canary!", &hidden), "bad token …!");
        assert_eq!(scrub("GET \"http://h/p?sig=abc&x\" failed, why?", &hidden), "GET \"http://h/p?…\" failed, why?");
        assert_eq!(scrub("what? a=b", &hidden), "what? a=b");
    }
}
