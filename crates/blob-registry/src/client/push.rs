//! Pushing a blob whose content can be read again: the shortest way that works, and on from where it broke.
//!
//! Is it there? Can it be mounted? Then small blobs ride on the POST where the registry takes that, others go as one
//! PUT. A transfer that breaks is continued by PATCH at the offset that the registry names, if that offset can be
//! believed; otherwise a new session begins. A registry, or a proxy before it, that refuses large bodies gets the blob
//! in pieces. A commit whose answer got lost is settled by asking for the blob.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use blob_core::{ByteSource, ByteSourceExt as _, Digest, Event};
use blob_http::Retries;
use bytes::Bytes;
use http::StatusCode;
use tokio::time::sleep;

use super::Core;
use super::answer::protocol;
use super::call::{Meter, Payload, SourcePayload};
use super::scope::Scope;
use super::upload::{self, Begun, LEAST_CHUNK, Session, held};
use crate::error::{ErrorCode, RegistryError};
use crate::reference::Repository;
use crate::registry::{PushBlob, PushedBlob};

/// So many repositories are tried to mount from.
const MAX_MOUNTS: usize = 4;

/// Pushes `blob` to `repository`.
pub(super) async fn push(core: &Core, repository: &Repository, blob: &PushBlob) -> Result<PushedBlob, RegistryError> {
    let action = format!("pushing blob {}", core.name_of(repository, &blob.digest));
    let meter = blob
        .progress
        .as_ref()
        .map(|(what, progress)| Meter { what: what.as_str().into(), progress: Arc::clone(progress) });
    let push = Push { core, repository, digest: &blob.digest, source: &blob.source, meter, action };
    if !blob.known_absent && push.is_there().await? {
        push.existing()?;
        return Ok(PushedBlob::Existing);
    }
    let mut session = None;
    for from in blob.mount_from.iter().filter(|from| *from != repository).take(MAX_MOUNTS) {
        match push.mount(from).await {
            Some(Begun::Done) => {
                push.existing()?;
                return Ok(PushedBlob::Mounted);
            }
            Some(Begun::Session(opened)) => {
                session = Some(opened);
                break;
            }
            None => {}
        }
    }
    push.upload(session).await?;
    Ok(PushedBlob::Uploaded)
}

/// One blob on its way.
struct Push<'a> {
    core: &'a Core,
    repository: &'a Repository,
    digest: &'a Digest,
    source: &'a Arc<dyn ByteSource>,
    meter: Option<Meter>,
    action: String,
}

/// How a request to a session ended.
enum Sent {
    /// The registry took it.
    Taken,
    /// The body is too large for the registry or for something before it.
    TooLarge(RegistryError),
    /// It broke, or the registry disagrees about the offset: what the session holds must be asked.
    Broken {
        error: RegistryError,
        /// How long the registry asks to wait.
        wait: Option<Duration>,
        /// What the refusal itself says that the session holds.
        held: Option<u64>,
    },
}

impl Push<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    /// Whether the registry has the blob. A size that differs is not the blob, whatever its name.
    async fn is_there(&self) -> Result<bool, RegistryError> {
        match self.core.stat_blob_as(Scope::push(self.repository), self.repository, self.digest).await {
            Ok(size) => Ok(size == self.size()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn existing(&self) -> Result<(), RegistryError> {
        self.tell(|meter| meter.progress.event(&Event::Existing { what: &meter.what, bytes: self.size() }))
    }

    fn at(&self, bytes: u64) -> Result<(), RegistryError> {
        self.tell(|meter| meter.at(bytes, self.size()))
    }

    fn tell(&self, event: impl Fn(&Meter) -> ControlFlow<()>) -> Result<(), RegistryError> {
        match self.meter.as_ref().map(event) {
            Some(ControlFlow::Break(())) => Err(RegistryError::Cancelled { action: self.action.clone() }),
            _ => Ok(()),
        }
    }

    /// Tries to mount from `from`. That it fails is no failure of the push.
    async fn mount(&self, from: &Repository) -> Option<Begun> {
        let mounted = upload::begin_mount(self.core, self.repository, self.digest, Some(from), &self.action).await;
        mounted.inspect_err(|error| tracing::debug!(%from, %error, "no mount")).ok()
    }

    async fn upload(&self, session: Option<Session>) -> Result<(), RegistryError> {
        self.at(0)?;
        let small = self.size() <= self.core.limits.single_post;
        let session = match session {
            Some(session) => session,
            None if small && self.core.profile.single_post.known() != Some(false) => match self.post_whole().await? {
                Some(session) => session,
                None => return self.at(self.size()),
            },
            None => self.begin().await?,
        };
        self.send_session(session).await?;
        self.at(self.size())
    }

    async fn begin(&self) -> Result<Session, RegistryError> {
        let nothing = Payload::Bytes(Bytes::new());
        match upload::begin(self.core, self.repository, &[], nothing, &self.action).await? {
            Begun::Session(session) => Ok(session),
            Begun::Done => Err(protocol(&self.action, "the registry opened no upload")),
        }
    }

    /// Sends the blob with the POST that announces it; the session to go on with if the registry does not do that.
    async fn post_whole(&self) -> Result<Option<Session>, RegistryError> {
        let bytes = self.source.read(0..self.size()).await;
        let bytes = bytes.map_err(|source| RegistryError::Source { action: self.action.clone(), source })?;
        let digest = self.digest.to_string();
        let query = [("digest", digest.as_str())];
        match upload::begin(self.core, self.repository, &query, Payload::Bytes(bytes), &self.action).await {
            Ok(Begun::Done) => {
                self.core.profile.single_post.learn(true);
                Ok(None)
            }
            Ok(Begun::Session(session)) => {
                self.core.profile.single_post.learn(false);
                Ok(Some(session))
            }
            // Registries that do not know the parameter may dislike it; those that do have said what is wrong.
            Err(RegistryError::Code { status: Some(400 | 404 | 405 | 411 | 413 | 415 | 501), code, .. })
                if code != ErrorCode::DigestInvalid && self.core.profile.single_post.known().is_none() =>
            {
                self.core.profile.single_post.learn(false);
                self.begin().await.map(Some)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the content to a session, and to another one if the first is lost.
    async fn send_session(&self, mut session: Session) -> Result<(), RegistryError> {
        let mut retries = Retries::new(self.core.retry);
        let mut chunk = self.core.profile.max_body();
        let mut fruitless = 0;
        loop {
            let Some(sent) = self.step(&mut session, chunk).await? else { return Ok(()) };
            match sent {
                Sent::Taken => retries.progressed(),
                Sent::TooLarge(error) => {
                    let refused = chunk.unwrap_or_else(|| self.size());
                    let smaller = (refused / 2).min(self.core.limits.upload_chunk).max(session.chunk_min);
                    if smaller < LEAST_CHUNK.min(refused) || smaller >= refused {
                        return Err(error);
                    }
                    self.core.profile.set_max_body(smaller);
                    chunk = Some(smaller);
                    // Part of the refused body may have been taken: an empty session is simpler than the truth.
                    if session.offset == 0 {
                        session = self.begin().await?;
                    }
                }
                Sent::Broken { error, wait, held } => {
                    let delay = retries.next_delay(wait);
                    let Some(delay) = delay else { return Err(error) };
                    tracing::debug!(action = self.action, offset = session.offset, ?delay, "resuming");
                    sleep(delay).await;
                    if self.recover(&mut session, held).await? {
                        retries.progressed();
                        fruitless = 0;
                    } else {
                        fruitless += 1;
                    }
                    // Who closes the connection on a large body cannot say that it was too large.
                    if fruitless >= 2 && chunk.is_none() && self.size() > self.core.limits.upload_chunk {
                        chunk = Some(self.core.limits.upload_chunk);
                    }
                }
            }
        }
    }

    /// The next request of a session; `None` when the blob is committed. Without `chunk` an empty session gets one PUT,
    /// and a session that was taken up again gets the rest as one PATCH.
    async fn step(&self, session: &mut Session, chunk: Option<u64>) -> Result<Option<Sent>, RegistryError> {
        let (size, offset) = (self.size(), session.offset);
        let whole = offset == 0 && chunk.is_none_or(|chunk| size <= chunk);
        if whole || offset == size {
            return self.commit(session).await;
        }
        let end = match chunk {
            Some(chunk) => size.min(offset.saturating_add(chunk.max(session.chunk_min))),
            None => size,
        };
        let payload = self.payload(offset..end);
        let call = session.patch(payload, end - offset, &self.action).once();
        let result = self.core.send(&call).await;
        let answer = match result {
            Ok(answer) if answer.status.is_success() => {
                session.moved(self.core, &answer, &self.action)?;
                session.offset = end;
                return Ok(Some(Sent::Taken));
            }
            Ok(answer) => answer,
            Err(error) => return broken(error).map(Some),
        };
        match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Some(Sent::TooLarge(answer.refuse(&call).await))),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let held = answer.header("range").and_then(held);
                session.moved(self.core, &answer, &self.action)?;
                let error = answer.refuse(&call).await;
                Ok(Some(Sent::Broken { error, wait: None, held }))
            }
            _ => broken(answer.refuse(&call).await).map(Some),
        }
    }

    /// The PUT: with everything if the session is empty, with nothing if it has everything.
    async fn commit(&self, session: &mut Session) -> Result<Option<Sent>, RegistryError> {
        let range = session.offset..self.size();
        let length = range.end - range.start;
        let call = session.put(self.digest, self.payload(range), length, &self.action).once();
        let result = self.core.send(&call).await;
        if let Ok(answer) = &result
            && answer.status == StatusCode::PAYLOAD_TOO_LARGE
            && let Ok(answer) = result
        {
            return Ok(Some(Sent::TooLarge(answer.refuse(&call).await)));
        }
        match upload::finish(self.core, &call, result, self.digest, self.size()).await {
            Ok(()) => Ok(None),
            Err(error) => broken(error).map(Some),
        }
    }

    /// Finds out where a session stands after a failure, or begins a new one. Whether bytes were gained.
    async fn recover(&self, session: &mut Session, said: Option<u64>) -> Result<bool, RegistryError> {
        let confirmed = session.offset;
        let held = match said {
            Some(held) => Some(held),
            None => session.status(self.core, &self.action).await.ok(),
        };
        match held {
            // Below two bytes the answer is ambiguous, and beyond the size it is nonsense.
            Some(held) if held > 1 && held >= confirmed && held <= self.size() => {
                session.offset = held;
                Ok(held > confirmed)
            }
            // Some registries stop counting after the first piece: what they acknowledged they still have.
            Some(held) if held > 1 && confirmed > held => Ok(false),
            _ => {
                *session = self.begin().await?;
                Ok(false)
            }
        }
    }

    fn payload(&self, range: std::ops::Range<u64>) -> Payload {
        if range.is_empty() {
            return Payload::Bytes(Bytes::new());
        }
        Payload::Source(SourcePayload::new(Arc::clone(self.source), range, self.meter.clone()))
    }
}

/// What a failure means: an end, or a reason to ask where the session stands.
fn broken(error: RegistryError) -> Result<Sent, RegistryError> {
    let wait = match &error {
        RegistryError::Code { retry_after, .. } => *retry_after,
        _ => None,
    };
    let session = matches!(error.error_code(), ErrorCode::BlobUploadUnknown | ErrorCode::BlobUploadInvalid);
    let network = error.is_transient() && !matches!(error, RegistryError::Source { .. });
    if session || network { Ok(Sent::Broken { error, wait, held: None }) } else { Err(error) }
}
