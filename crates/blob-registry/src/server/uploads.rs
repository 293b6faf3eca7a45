//! Upload sessions: start, chunks, status, commit, cancel, and mounts.

use std::sync::Arc;

use blob_core::Digest;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};

use super::answer::{self, Body, CONTENT_DIGEST, Fault};
use super::auth::{Action, Principal};
use super::body::RequestBody;
use super::query::Query;
use super::{App, range, route, unsupported};
use crate::error::ErrorCode;
use crate::reference::Repository;
use crate::registry::{Mount, Registry, Upload, UploadId};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Answers `POST …/blobs/uploads/`: a mount, a whole blob in one request, or a new session.
pub(super) async fn start(
    app: &App,
    principal: &Principal,
    query: &Query,
    body: &mut RequestBody,
    repository: &Repository,
) -> Result<Response<Body>, Fault> {
    if let Some(algorithm) = query.first("digest-algorithm")
        && !matches!(algorithm, "sha256" | "sha512")
    {
        let message = format!("digest algorithm {algorithm:?} is not sha256 or sha512");
        return Err(Fault::plain(400, ErrorCode::Unsupported, message));
    }
    if let Some(mount) = query.first("mount") {
        let digest = route::parse_digest(mount)?;
        return mount_or_start(app, principal, query, repository, &digest).await;
    }
    if let Some(digest) = query.first("digest") {
        let digest = route::parse_digest(digest)?;
        let upload = app.registry.start_upload(repository).await?;
        let mut nameless = Nameless { registry: &app.registry, repository, id: Some(upload.id()) };
        nameless.fill(app, upload, body, &digest).await?;
        return Ok(created(repository, &digest));
    }
    let upload = app.registry.start_upload(repository).await?;
    Ok(session(StatusCode::ACCEPTED, repository, upload.as_ref()))
}

async fn mount_or_start(
    app: &App,
    principal: &Principal,
    query: &Query,
    repository: &Repository,
    digest: &Digest,
) -> Result<Response<Body>, Fault> {
    let from = query.first("from").map(|name| route::repository(&[name])).transpose()?;
    // Who may not read the other repository must not learn whether it has the blob: that mount is a plain upload. So is
    // one from anywhere, unless everything may be read.
    let allowed = match &from {
        Some(from) => principal.may(Action::Pull, from),
        None => principal.reads_everything(),
    };
    if allowed {
        match app.registry.mount_blob(repository, digest, from.as_ref()).await {
            Ok(Mount::Mounted) => return Ok(created(repository, digest)),
            Ok(Mount::Session(upload)) => return Ok(session(StatusCode::ACCEPTED, repository, upload.as_ref())),
            Err(error) if error.is_unsupported() || error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let upload = app.registry.start_upload(repository).await?;
    Ok(session(StatusCode::ACCEPTED, repository, upload.as_ref()))
}

/// One request about an open session.
pub(super) struct Turn<'a> {
    pub(super) app: &'a App,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a Query,
    pub(super) repository: &'a Repository,
    pub(super) id: &'a UploadId,
}

impl Turn<'_> {
    /// Answers `GET`, `PATCH`, `PUT` and `DELETE` of a session.
    pub(super) async fn answer(&self, method: &Method, body: &mut RequestBody) -> Result<Response<Body>, Fault> {
        match *method {
            Method::GET | Method::HEAD => {
                let upload = self.resume().await?;
                Ok(session(StatusCode::NO_CONTENT, self.repository, upload.as_ref()))
            }
            Method::PATCH => {
                let upload = self.take_in(body).await?;
                Ok(session(StatusCode::ACCEPTED, self.repository, upload.as_ref()))
            }
            Method::PUT => {
                let missing = || Fault::of(ErrorCode::DigestInvalid, "the query names no digest");
                let digest = route::parse_digest(self.query.first("digest").ok_or_else(missing)?)?;
                let upload = self.take_in(body).await?;
                upload.commit(&digest).await?;
                Ok(created(self.repository, &digest))
            }
            Method::DELETE => {
                self.resume().await?.cancel().await?;
                Ok(answer::bare(StatusCode::NO_CONTENT))
            }
            _ => Err(unsupported("GET, PATCH, PUT, DELETE")),
        }
    }

    async fn resume(&self) -> Result<Box<dyn Upload>, Fault> {
        Ok(self.app.registry.resume_upload(self.repository, self.id).await?)
    }

    /// Adds the body to the session, if it belongs at its end.
    async fn take_in(&self, body: &mut RequestBody) -> Result<Box<dyn Upload>, Fault> {
        let mut upload = self.resume().await?;
        let malformed = |()| Fault::plain(400, ErrorCode::BlobUploadInvalid, "Content-Range is not first-last");
        let range = range::content_range(self.headers).map_err(malformed)?;
        let mut length = None;
        if let Some((first, last)) = range {
            if first != upload.offset() {
                let message = format!("the chunk begins at byte {first}, the session ends at byte {}", upload.offset());
                return Err(self.out_of_order(message, upload.as_ref()));
            }
            length = Some(last - first + 1);
            if body.announced().is_some() && body.announced() != length {
                let message = "Content-Range and Content-Length contradict each other";
                return Err(Fault::of(ErrorCode::SizeInvalid, message));
            }
        }
        match append_all(self.app, upload.as_mut(), body, length).await {
            Ok(()) => Ok(upload),
            Err(fault) if fault.code() == ErrorCode::BlobUploadInvalid => Err(match self.resume().await {
                Ok(now) => self.out_of_order("another request wrote to the session", now.as_ref()),
                Err(gone) => gone,
            }),
            Err(fault) => Err(fault),
        }
    }

    /// 416 with what a client needs to go on.
    fn out_of_order(&self, message: impl Into<String>, upload: &dyn Upload) -> Fault {
        Fault::plain(416, ErrorCode::BlobUploadInvalid, message)
            .with(header::LOCATION, location(self.repository, &upload.id()))
            .with(header::RANGE, stored(upload.offset()))
    }
}

/// Appends the whole body: `length` bytes if that was announced. What came before a failure stays in the session.
async fn append_all(
    app: &App,
    upload: &mut dyn Upload,
    body: &mut RequestBody,
    length: Option<u64>,
) -> Result<(), Fault> {
    let limit = app.limits.max_upload_bytes.unwrap_or(u64::MAX);
    let too_large = || Fault::plain(413, ErrorCode::SizeInvalid, format!("blobs are limited to {limit} bytes"));
    if upload.offset().saturating_add(body.announced().unwrap_or(0)) > limit {
        return Err(too_large());
    }
    let mut left = length;
    while let Some(piece) = body.piece().await? {
        if upload.offset().saturating_add(piece.len() as u64) > limit {
            return Err(too_large());
        }
        if let Some(left) = &mut left {
            let more = || Fault::of(ErrorCode::SizeInvalid, "more bytes came than Content-Range announces");
            *left = left.checked_sub(piece.len() as u64).ok_or_else(more)?;
        }
        upload.append(piece).await?;
    }
    match left {
        None | Some(0) => Ok(()),
        Some(left) => {
            Err(Fault::of(ErrorCode::SizeInvalid, format!("{left} bytes of the announced range are missing")))
        }
    }
}

/// A session that no client knows of: it is of no use to anybody when its one request fails or goes away.
struct Nameless<'a> {
    registry: &'a Arc<dyn Registry>,
    repository: &'a Repository,
    id: Option<UploadId>,
}

impl Nameless<'_> {
    async fn fill(
        &mut self,
        app: &App,
        mut upload: Box<dyn Upload>,
        body: &mut RequestBody,
        digest: &Digest,
    ) -> Result<(), Fault> {
        append_all(app, upload.as_mut(), body, None).await?;
        upload.commit(digest).await?;
        self.id = None;
        Ok(())
    }
}

impl Drop for Nameless<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (registry, repository) = (Arc::clone(self.registry), self.repository.clone());
        tokio::spawn(async move {
            let cancelled = async { registry.resume_upload(&repository, &id).await?.cancel().await };
            if let Err(error) = cancelled.await {
                tracing::debug!(%error, "an upload session could not be cancelled");
            }
        });
    }
}

/// 201: the blob is there.
fn created(repository: &Repository, digest: &Digest) -> Response<Body> {
    let mut response = answer::bare(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, answer::value(&format!("{}/blobs/{digest}", answer::base(repository))));
    headers.insert(CONTENT_DIGEST, answer::value(&digest.to_string()));
    response
}

/// Where the session stands.
fn session(status: StatusCode, repository: &Repository, upload: &dyn Upload) -> Response<Body> {
    let mut response = answer::bare(status);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location(repository, &upload.id()));
    headers.insert(header::RANGE, stored(upload.offset()));
    headers.insert(UPLOAD_UUID, answer::value(&route::upload_text(&upload.id())));
    response
}

fn location(repository: &Repository, id: &UploadId) -> HeaderValue {
    answer::value(&format!("{}/blobs/uploads/{}", answer::base(repository), route::upload_text(id)))
}

/// The inclusive range of what is stored. The specification has no form for "nothing": `0-0`, as registries send it.
fn stored(offset: u64) -> HeaderValue {
    answer::value(&format!("0-{}", offset.saturating_sub(1)))
}
