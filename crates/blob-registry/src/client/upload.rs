//! Upload sessions: POST opens one, PATCH adds to it, PUT makes it a blob, GET asks where it stands, DELETE ends it.
//!
//! The newest `Location` is the session: registries keep state in it and give up a session whose old one is used. A
//! location on another origin is used without credentials. Its query may authorise whoever has it, so it is never
//! shown.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use blob_core::Digest;
use blob_http::Retries;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use url::Url;

use super::Core;
use super::answer::{Answer, protocol, text};
use super::call::{Call, Payload};
use super::scope::Scope;
use crate::error::{ErrorCode, Object, RegistryError};
use crate::reference::Repository;
use crate::registry::{Mount, Upload, UploadId};

/// Pieces are not made smaller than this when bodies are refused for their size.
pub(super) const LEAST_CHUNK: u64 = 64 << 10;

/// The time for ending a session that is of no use any more.
const ABANDON_TIME: Duration = Duration::from_secs(5);

/// The smallest piece, except the last, that a registry takes.
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// A session on the far side.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) repository: Repository,
    location: Url,
    /// Bytes that the registry said it has.
    pub(super) offset: u64,
    /// The smallest piece it takes, in bytes.
    pub(super) chunk_min: u64,
}

/// What came of opening a session.
pub(super) enum Begun {
    Session(Session),
    /// There is nothing to upload: the blob is there.
    Done,
}

impl Session {
    fn from_answer(core: &Core, repository: &Repository, answer: &Answer, action: &str) -> Result<Self, RegistryError> {
        let location = location(core, &answer.url, &answer.headers, action)?;
        let location = location.ok_or_else(|| protocol(action, "the registry opened an upload without a location"))?;
        let chunk_min = answer.header(CHUNK_MIN_LENGTH.as_str()).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Self { repository: repository.clone(), location, offset: 0, chunk_min })
    }

    /// A request to the session. Its scope is the one the session was opened with.
    pub(super) fn call(&self, method: Method, action: &str) -> Call {
        Call::new(method, self.location.clone(), &self.repository, action.to_owned(), Object::Upload)
            .with_scope(Scope::push(&self.repository))
    }

    /// A PATCH with the bytes from the offset on.
    pub(super) fn patch(&self, payload: Payload, length: u64, action: &str) -> Call {
        let range = format!("{}-{}", self.offset, self.offset + length.saturating_sub(1));
        self.call(Method::PATCH, action)
            .with_header(CONTENT_TYPE, octet_stream())
            .with_header(CONTENT_LENGTH, length.into())
            .with_header(CONTENT_RANGE, HeaderValue::from_str(&range).expect("because numbers are ASCII"))
            .with_payload(payload)
    }

    /// The PUT that makes the session a blob, with `length` last bytes.
    pub(super) fn put(&self, digest: &Digest, payload: Payload, length: u64, action: &str) -> Call {
        let mut call = self.call(Method::PUT, action);
        call.url.query_pairs_mut().append_pair("digest", &digest.to_string());
        call.with_header(CONTENT_TYPE, octet_stream()).with_header(CONTENT_LENGTH, length.into()).with_payload(payload)
    }

    /// Takes over what an answer says about where the session is now.
    pub(super) fn moved(&mut self, core: &Core, answer: &Answer, action: &str) -> Result<(), RegistryError> {
        if let Some(location) = location(core, &answer.url, &answer.headers, action)? {
            self.location = location;
        }
        Ok(())
    }

    /// Asks how many bytes the session holds. What the answer to that means is for the caller to judge: some registries
    /// say `0-0` for none and for one byte, and some stop counting after the first piece.
    pub(super) async fn status(&mut self, core: &Core, action: &str) -> Result<u64, RegistryError> {
        let call = self.call(Method::GET, action);
        let answer = core.send(&call).await?;
        if !answer.status.is_success() {
            return Err(answer.refuse(&call).await);
        }
        self.moved(core, &answer, action)?;
        Ok(answer.header(RANGE.as_str()).and_then(held).unwrap_or(0))
    }

    /// The newest location. Whoever has it may be let in by it.
    pub(super) fn location(&self) -> &str {
        self.location.as_str()
    }

    /// Ends the session without waiting for it, so that what was sent in vain does not stay on the registry. Where no
    /// runtime is left to do it, the registry removes it in its own time.
    pub(super) fn abandon(self, core: &Arc<Core>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let core = Arc::clone(core);
        runtime.spawn(async move {
            let action = format!("giving up an upload to {}/{}", core.host, self.repository);
            if let Ok(Err(error)) = timeout(ABANDON_TIME, self.cancel(&core, &action)).await {
                tracing::debug!(%error, "the upload stays");
            }
        });
    }

    /// Ends the session.
    pub(super) async fn cancel(self, core: &Core, action: &str) -> Result<(), RegistryError> {
        let call = self.call(Method::DELETE, action);
        let answer = core.send(&call).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            // It is gone, which is what was wanted.
            StatusCode::NOT_FOUND => Ok(()),
            _ => Err(answer.refuse(&call).await),
        }
    }
}

fn octet_stream() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}

/// Where the session is, according to an answer from `from`.
fn location(core: &Core, from: &Url, headers: &HeaderMap, action: &str) -> Result<Option<Url>, RegistryError> {
    let Some(location) = text(headers, LOCATION.as_str()) else { return Ok(None) };
    let unusable = || protocol(action, "the upload's location is unusable");
    let mut url = from.join(location).map_err(|_| unusable())?;
    if url.scheme() == "http" && core.origin.scheme() == "https" {
        // Registries behind a proxy that ends TLS often do not know it.
        if url.host() != core.origin.host() {
            return Err(protocol(action, "the upload's location leads from https to http"));
        }
        url.set_scheme("https").and_then(|()| url.set_port(core.origin.port())).map_err(|()| unusable())?;
    }
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return Err(unusable());
    }
    url.set_fragment(None);
    Ok(Some(url))
}

/// How many bytes `Range: 0-<last>` stands for.
pub(super) fn held(text: &str) -> Option<u64> {
    let text = text.trim();
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    let last: u64 = last.parse().ok()?;
    // `0-0` is what most registries say for an empty session.
    if first != "0" {
        return None;
    }
    if last == 0 { Some(0) } else { last.checked_add(1).filter(|held| i64::try_from(*held).is_ok()) }
}

/// Opens a session, or finds that none is needed. `query` is what the POST says besides.
pub(super) async fn begin(
    core: &Core,
    repository: &Repository,
    query: &[(&str, &str)],
    payload: Payload,
    action: &str,
) -> Result<Begun, RegistryError> {
    let mut url = core.url(repository, "blobs/uploads/");
    let mut scope = Scope::push(repository);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    if let Some(from) = query.iter().find(|(name, _)| *name == "from").and_then(|(_, name)| Repository::new(name).ok())
    {
        scope = scope.union(&Scope::pull(&from));
    }
    let length = payload.length();
    let mut call = Call::new(Method::POST, url, repository, action.to_owned(), Object::Repository)
        .with_header(CONTENT_LENGTH, length.into())
        .with_scope(scope)
        .with_payload(payload);
    if length > 0 {
        call = call.with_header(CONTENT_TYPE, octet_stream());
    }
    let answer = core.send(&call).await?;
    match answer.status {
        StatusCode::CREATED if !query.is_empty() => Ok(Begun::Done),
        StatusCode::ACCEPTED => Session::from_answer(core, repository, &answer, action).map(Begun::Session),
        status if status.is_success() => {
            Err(protocol(action, format!("the registry answered the start of an upload with status {status}")))
        }
        _ => Err(answer.refuse(&call).await),
    }
}

/// Opens a session for content that comes in pieces.
pub(super) async fn start(core: &Arc<Core>, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
    let action = format!("starting an upload to {}/{repository}", core.host);
    match begin(core, repository, &[], Payload::Bytes(Bytes::new()), &action).await? {
        Begun::Session(session) => Ok(OpenUpload::boxed(core, session)),
        Begun::Done => Err(protocol(&action, "the registry opened no upload")),
    }
}

/// A session of another time: nothing is asked. `None` if it cannot be one of this registry.
pub(super) fn session_at(core: &Core, repository: &Repository, location: &str, offset: u64) -> Option<Session> {
    let location = Url::parse(location).ok()?;
    let secure = location.scheme() == core.origin.scheme() || location.scheme() == "https";
    secure.then(|| Session { repository: repository.clone(), location, offset, chunk_min: 0 })
}

/// Takes up a session. Its id is the location, with the number of bytes it held when the id was taken in front.
///
/// An id may have come a long way, through a server in front of this client for one, and must not make the client send
/// requests wherever somebody likes: it names an upload of this repository at this registry, or a location that this
/// client was given.
pub(super) async fn resume(
    core: &Arc<Core>,
    repository: &Repository,
    id: &UploadId,
) -> Result<Box<dyn Upload>, RegistryError> {
    let action = format!("resuming an upload to {}/{repository}", core.host);
    let unknown = || RegistryError::detailed(&action, ErrorCode::BlobUploadUnknown, "the id is not one of this client");
    let (offset, location) = id.as_str().split_once(' ').ok_or_else(unknown)?;
    let confirmed: u64 = offset.parse().map_err(|_| unknown())?;
    let mut session = session_at(core, repository, location, confirmed).ok_or_else(unknown)?;
    if !core.given.admits(&core.origin, repository, &session.location) {
        return Err(unknown());
    }
    let held = session.status(core, &action).await?;
    // Below two bytes the answer is ambiguous; what was confirmed is not.
    session.offset = if held <= 1 && confirmed <= 1 { confirmed } else { held };
    Ok(OpenUpload::boxed(core, session))
}

/// Mounts a blob, or gets the session that the registry opened instead.
pub(super) async fn mount(
    core: &Arc<Core>,
    repository: &Repository,
    digest: &Digest,
    from: Option<&Repository>,
) -> Result<Mount, RegistryError> {
    let action = format!("mounting blob {}", core.name_of(repository, digest));
    Ok(match begin_mount(core, repository, digest, from, &action).await? {
        Begun::Done => Mount::Mounted,
        Begun::Session(session) => Mount::Session(OpenUpload::boxed(core, session)),
    })
}

pub(super) async fn begin_mount(
    core: &Core,
    repository: &Repository,
    digest: &Digest,
    from: Option<&Repository>,
    action: &str,
) -> Result<Begun, RegistryError> {
    let digest = digest.to_string();
    let mut query = vec![("mount", digest.as_str())];
    query.extend(from.map(|from| ("from", from.as_str())));
    begin(core, repository, &query, Payload::Bytes(Bytes::new()), action).await
}

/// An upload whose bytes the caller brings one piece at a time.
struct OpenUpload {
    core: Arc<Core>,
    session: Session,
    /// Bytes that are too few for the registry to take; they wait for more.
    waiting: Vec<u8>,
    action: String,
}

impl OpenUpload {
    fn boxed(core: &Arc<Core>, session: Session) -> Box<dyn Upload> {
        let action = format!("uploading to {}/{}", core.host, session.repository);
        Box::new(Self { core: Arc::clone(core), session, waiting: Vec::new(), action })
    }

    /// Sends `bytes` at the session's offset, in as many pieces as the registry wants; a transfer that breaks goes on at
    /// the byte it reached.
    async fn send(&mut self, mut bytes: Bytes) -> Result<(), RegistryError> {
        let mut retries = Retries::new(self.core.retry);
        while !bytes.is_empty() {
            let most = self.core.profile.max_body().map_or(u64::MAX, |most| most.max(self.session.chunk_min));
            let piece = bytes.slice(..(bytes.len() as u64).min(most) as usize);
            let length = piece.len() as u64;
            let call = self.session.patch(Payload::Bytes(piece), length, &self.action).once();
            let (error, status) = match self.core.send(&call).await {
                Ok(answer) if answer.status.is_success() => {
                    self.session.moved(&self.core, &answer, &self.action)?;
                    self.session.offset += length;
                    bytes = bytes.split_off(length as usize);
                    retries.progressed();
                    continue;
                }
                Ok(answer) => {
                    let status = answer.status;
                    (answer.refuse(&call).await, Some(status))
                }
                Err(error) => (error, None),
            };
            if status == Some(StatusCode::PAYLOAD_TOO_LARGE) {
                let smaller = (length / 2).max(self.session.chunk_min);
                if smaller < LEAST_CHUNK || smaller >= length {
                    return Err(error);
                }
                self.core.profile.set_max_body(smaller);
                continue;
            }
            let asked = match &error {
                RegistryError::Code { retry_after, .. } => *retry_after,
                _ => None,
            };
            let Some(wait) = retries.next_delay(asked).filter(|_| error.is_transient()) else { return Err(error) };
            sleep(wait).await;
            let taken = self.taken(length).await?;
            bytes = bytes.split_off(taken as usize);
            self.session.offset += taken;
            if taken > 0 {
                retries.progressed();
            }
        }
        Ok(())
    }

    /// How many of `length` bytes sent at the session's offset arrived.
    async fn taken(&mut self, length: u64) -> Result<u64, RegistryError> {
        let held = self.session.status(&self.core, &self.action).await?;
        let offset = self.session.offset;
        match held.checked_sub(offset).filter(|&taken| taken <= length) {
            Some(taken) => Ok(taken),
            // An empty session and one with a single byte look the same.
            None if offset == 1 && held == 0 => Ok(0),
            None => {
                let detail = format!("the registry holds {held} bytes where it took {offset}");
                Err(RegistryError::detailed(&self.action, ErrorCode::BlobUploadInvalid, detail))
            }
        }
    }
}

#[async_trait]
impl Upload for OpenUpload {
    fn id(&self) -> UploadId {
        self.core.given.note(&self.core.origin, &self.session.repository, &self.session.location);
        UploadId::new(format!("{} {}", self.session.offset, self.session.location))
    }

    fn offset(&self) -> u64 {
        self.session.offset + self.waiting.len() as u64
    }

    async fn append(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.waiting.is_empty() && bytes.len() as u64 >= self.session.chunk_min {
            return self.send(bytes).await;
        }
        self.waiting.extend_from_slice(&bytes);
        if (self.waiting.len() as u64) < self.session.chunk_min {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.waiting);
        self.send(bytes.into()).await
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> Result<(), RegistryError> {
        let action = format!("committing blob {}", self.core.name_of(&self.session.repository, digest));
        let mut last = Bytes::from(std::mem::take(&mut self.waiting));
        let size = self.session.offset + last.len() as u64;
        let mut retries = Retries::new(self.core.retry);
        loop {
            let length = last.len() as u64;
            let call = self.session.put(digest, Payload::Bytes(last.clone()), length, &action).once();
            let result = self.core.send(&call).await;
            let Err(error) = finish(&self.core, &call, result, digest, size).await else { return Ok(()) };
            let asked = match &error {
                RegistryError::Code { retry_after, .. } => *retry_after,
                _ => None,
            };
            let Some(wait) = retries.next_delay(asked).filter(|_| error.is_transient()) else { return Err(error) };
            sleep(wait).await;
            if length > 0 {
                // Some of it may have arrived. A session that is gone makes the first error the one to tell.
                let Ok(taken) = self.taken(length).await else { return Err(error) };
                last = last.split_off(taken as usize);
                self.session.offset += taken;
            }
        }
    }

    async fn cancel(self: Box<Self>) -> Result<(), RegistryError> {
        let action = format!("cancelling an upload to {}/{}", self.core.host, self.session.repository);
        self.session.cancel(&self.core, &action).await
    }
}

/// Judges the answer to a commit. If it got lost, or says that the session is gone, the blob itself is asked for: the
/// commit may have happened.
pub(super) async fn finish(
    core: &Core,
    call: &Call,
    result: Result<Answer, RegistryError>,
    digest: &Digest,
    size: u64,
) -> Result<(), RegistryError> {
    let error = match result {
        Ok(answer) if answer.status.is_success() => {
            return match answer.content_digest(&call.action)?.filter(|got| got != digest) {
                // The registry may call it by another algorithm, which cannot be compared.
                Some(got) if got.algorithm() == digest.algorithm() => {
                    Err(RegistryError::DigestMismatch { action: call.action.clone(), expected: *digest, got })
                }
                _ => Ok(()),
            };
        }
        Ok(answer) => answer.refuse(call).await,
        Err(error) => error,
    };
    let lost = error.is_transient() || error.error_code() == ErrorCode::BlobUploadUnknown;
    let Some(repository) = call.repository.as_ref().filter(|_| lost) else { return Err(error) };
    match core.stat_blob(repository, digest).await {
        Ok(found) if found == size => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_sessions_are_read() {
        for (text, bytes) in [
            ("0-0", Some(0)),
            ("0-1", Some(2)),
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            (" 0-99 ", Some(100)),
            ("1-99", None),
            ("0", None),
            ("", None),
            ("0-x", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(held(text), bytes, "{text:?}");
        }
    }
}
