//! Blobs: `GET` and `HEAD` with ranges and conditions, `DELETE`.

use blob_core::Digest;
use futures_util::TryStreamExt as _;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::answer::{self, Body, BoxError, CONTENT_DIGEST, Fault};
use super::range::{self, Wanted};
use super::{App, unsupported};
use crate::descriptor::media_type;
use crate::error::ErrorCode;
use crate::reference::Repository;

/// Answers a request about the blob `digest`.
pub(super) async fn answer(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    repository: &Repository,
    digest: &Digest,
) -> Result<Response<Body>, Fault> {
    match *method {
        Method::GET | Method::HEAD => read(app, method, headers, repository, digest).await,
        Method::DELETE => {
            app.registry.delete_blob(repository, digest).await?;
            Ok(answer::bare(StatusCode::ACCEPTED))
        }
        _ => Err(unsupported("GET, HEAD, DELETE")),
    }
}

async fn read(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    repository: &Repository,
    digest: &Digest,
) -> Result<Response<Body>, Fault> {
    let etag = format!("\"{digest}\"");
    let size = app.registry.stat_blob(repository, digest).await.map_err(answer::unreadable)?;
    if range::names_etag(headers, &header::IF_NONE_MATCH, &etag) {
        let mut response = answer::bare(StatusCode::NOT_MODIFIED);
        identify(response.headers_mut(), digest, &etag);
        return Ok(response);
    }
    let wanted = if method == Method::GET { range::wanted(headers, &etag, size) } else { Wanted::Whole };
    let (status, part) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Unsatisfiable => {
            let fault = Fault::of(ErrorCode::RangeInvalid, format!("the blob has {size} bytes"));
            return Err(fault.with(header::CONTENT_RANGE, answer::value(&format!("bytes */{size}"))));
        }
    };
    let body = if method == Method::HEAD || part.is_empty() {
        answer::empty()
    } else {
        let range = (status == StatusCode::PARTIAL_CONTENT).then(|| part.clone());
        let reader = app.registry.read_blob(repository, digest, range).await.map_err(answer::unreadable)?;
        if reader.size != size || reader.range != part {
            let message = format!("expected bytes {part:?} of {size}, the store gives {:?}", reader.range);
            return Err(Fault::of(ErrorCode::Unknown, message));
        }
        let frames = reader.stream.map_ok(Frame::data).map_err(BoxError::from);
        StreamBody::new(frames).boxed_unsync()
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    identify(headers, digest, &etag);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::OCTET_STREAM));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        headers.insert(header::CONTENT_RANGE, answer::value(&text));
    }
    Ok(response)
}

/// The headers that name the content, for ever.
fn identify(headers: &mut HeaderMap, digest: &Digest, etag: &str) {
    headers.insert(CONTENT_DIGEST, answer::value(&digest.to_string()));
    headers.insert(header::ETAG, answer::value(etag));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
}
