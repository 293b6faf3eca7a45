//! Answers: files and parts of them, and what is wrong.

use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blob::core::Entry;
use blob::registry::server::range::{Wanted, names_etag, wanted};
use blob::registry::server::{BoxError, SiteBody};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use std::ffi::OsStr;

use crate::contents::{Content, Spooled, Unreadable};
use crate::ui::escape::base64;

/// How much of a large file is read at a time: 128 KiB for each who reads.
const CHUNK: u64 = 128 << 10;

/// How much of a file tells whether it is text: 1 KiB.
const SNIFFED: usize = 1 << 10;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// An answer to people.
pub(super) fn message(status: StatusCode, text: &str) -> Response<SiteBody> {
    let mut response = whole(Bytes::from(format!("{text}\n")));
    *response.status_mut() = status;
    set(response.headers_mut(), header::CONTENT_TYPE, TEXT);
    response
}

fn whole(bytes: Bytes) -> Response<SiteBody> {
    let length = HeaderValue::from(bytes.len());
    let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// A body that comes in pieces.
pub(super) fn pieces(bytes: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> SiteBody {
    use futures_util::TryStreamExt as _;
    StreamBody::new(bytes.map_ok(Frame::data)).boxed_unsync()
}

pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A file of an archive, to one who asks for it.
pub(super) struct FilePage<'a> {
    file: Entry<'a>,
    /// The one validator: times may be the same for different contents, above all in reproducible archives.
    etag: String,
    /// For HTTP, which knows seconds after 1970 and nothing to come.
    modified: Option<SystemTime>,
}

/// What becomes of a request for a file.
pub(super) enum Answer {
    /// Nothing of the file is needed.
    Head(Response<SiteBody>),
    /// These bytes of it.
    Part(Range<u64>),
    /// All of it.
    Whole,
}

impl<'a> FilePage<'a> {
    pub(super) fn new(file: Entry<'a>) -> Self {
        let seconds = u64::try_from(file.mtime_ns() / 1_000_000_000).ok().filter(|seconds| *seconds > 0);
        let modified = seconds.map(|seconds| (UNIX_EPOCH + Duration::from_secs(seconds)).min(SystemTime::now()));
        Self { file, etag: format!("\"{}\"", file.digest().hex()), modified }
    }

    /// What the request asks for.
    pub(super) fn judge(&self, request: &Parts) -> Answer {
        let (headers, size) = (&request.headers, self.file.original_size());
        if names_etag(headers, &header::IF_NONE_MATCH, &self.etag) {
            let mut response = Response::new(SiteBody::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            self.describe(response.headers_mut(), None);
            response.headers_mut().remove(header::CONTENT_TYPE);
            return Answer::Head(response);
        }
        if request.method == Method::HEAD {
            let mut response = Response::new(SiteBody::default());
            self.describe(response.headers_mut(), None);
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
            return Answer::Head(response);
        }
        match wanted(headers, &self.etag, size) {
            Wanted::Whole => Answer::Whole,
            Wanted::Part(range) => Answer::Part(range),
            Wanted::Unsatisfiable => {
                let mut response = message(StatusCode::RANGE_NOT_SATISFIABLE, &format!("the file has {size} bytes"));
                set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
                Answer::Head(response)
            }
        }
    }

    /// The bytes that were asked for.
    pub(super) fn give(&self, content: Content, range: Option<Range<u64>>) -> Response<SiteBody> {
        let size = self.file.original_size();
        let all = range.is_none();
        let range = range.unwrap_or(0..size);
        let first = match &content {
            Content::Memory(bytes) => Some(&bytes[..]),
            Content::Disk(_) => None,
        };
        let mut headers = HeaderMap::new();
        self.describe(&mut headers, first);
        let mut response = match content {
            Content::Memory(bytes) => whole(bytes.slice(range.start as usize..range.end as usize)),
            Content::Disk(file) => {
                let length = HeaderValue::from(range.end - range.start);
                let mut response = Response::new(pieces(of_disk(file, range.clone())));
                response.headers_mut().insert(header::CONTENT_LENGTH, length);
                response
            }
        };
        response.headers_mut().extend(headers);
        if !all {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            set(response.headers_mut(), header::CONTENT_RANGE, &part);
        }
        response
    }

    /// What is said of the file. `first`, its first bytes if they are at hand, tell text where its name does not.
    fn describe(&self, headers: &mut HeaderMap, first: Option<&[u8]>) {
        set(headers, header::ETAG, &self.etag);
        if let Some(modified) = self.modified {
            set(headers, header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        }
        set(headers, header::ACCEPT_RANGES, "bytes");
        set(headers, REPR_DIGEST, &format!("sha-256=:{}:", base64(self.file.digest().as_bytes())));
        if let Some(kind) = kind(self.file.path(), first) {
            set(headers, header::CONTENT_TYPE, &kind);
        }
    }
}

/// The media type of a file; `None` if neither its name nor its content says it.
fn kind(path: &[u8], first: Option<&[u8]>) -> Option<String> {
    let guess = mime_guess::from_path(Path::new(OsStr::from_bytes(path))).first();
    match guess {
        Some(kind) if kind.type_() == "text" => Some(format!("{}; charset=utf-8", kind.essence_str())),
        Some(kind) => Some(kind.essence_str().to_owned()),
        None => first.map(|bytes| if is_text(bytes) { TEXT.to_owned() } else { BYTES.to_owned() }),
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(SNIFFED)];
    let is_utf8 = match std::str::from_utf8(head) {
        Ok(_) => true,
        // A letter that is cut at the end.
        Err(error) => error.error_len().is_none() && head.len() == SNIFFED,
    };
    is_utf8 && !head.contains(&0)
}

/// The bytes of a verified file on disk.
fn of_disk(file: Arc<Spooled>, range: Range<u64>) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
    stream::try_unfold((file, range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let length = (range.end - range.start).min(CHUNK);
        let (reader, start) = (Arc::clone(&file), range.start);
        let read = move || {
            let mut bytes = vec![0; length as usize];
            reader.file.read_exact_at(&mut bytes, start).map(|()| bytes)
        };
        let bytes = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
        Ok(Some((Bytes::from(bytes), (file, start + length..range.end))))
    })
}

/// The answer where a file cannot be read. The log says why.
pub(super) fn unreadable(why: Unreadable) -> Response<SiteBody> {
    match why {
        Unreadable::Failed => message(StatusCode::BAD_GATEWAY, "the file cannot be had from where the archive is"),
        Unreadable::Damaged => message(StatusCode::BAD_GATEWAY, "the file is not what the archive promises"),
        Unreadable::NoRoom => message(StatusCode::INSUFFICIENT_STORAGE, "there is no room for the file (--spool-size)"),
        Unreadable::Busy => {
            let mut response =
                message(StatusCode::SERVICE_UNAVAILABLE, "others are reading as much as there is room for");
            set(response.headers_mut(), header::RETRY_AFTER, "10");
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_names_and_then_by_contents() {
        for (path, first, expected) in [
            (&b"a/b.html"[..], None, Some("text/html; charset=utf-8")),
            (b"a.json", None, Some("application/json")),
            (b"a.PNG", None, Some("image/png")),
            (b"LICENSE", None, None),
            (b"LICENSE", Some(&b"text"[..]), Some(TEXT)),
            (b"LICENSE", Some(b""), Some(TEXT)),
            (b"program", Some(b"\x7fELF\0"), Some(BYTES)),
            (b"latin", Some(b"caf\xe9 au lait"), Some(BYTES)),
            (b"\xff.txt", None, Some("text/plain; charset=utf-8")),
        ] {
            assert_eq!(kind(path, first).as_deref(), expected, "{path:?}");
        }
        let long = "ä".repeat(SNIFFED);
        assert!(
            is_text(&long.as_bytes()[1..][..0]) && is_text(long.as_bytes()) && is_text(format!("x{long}").as_bytes())
        );
    }
}
