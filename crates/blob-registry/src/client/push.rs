//! Pushing a blob whose content can be read again: the shortest way that works, and on from where it broke.
//!
//! Is it there? Can it be mounted? Then small blobs ride on the POST where the registry takes that, others go as one
//! PUT. A transfer that breaks is continued by PATCH at the offset that the registry names, if that offset can be
//! believed; otherwise a new session begins. A registry, or a proxy before it, that refuses large bodies gets the blob
//! in pieces. A commit whose answer got lost is settled by asking for the blob.
//!
//! A push that ends without the blob ends its session too, unless a journal keeps it for the next process.

mod content;
mod follower;
mod standing;

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
use super::journal::Entry;
use super::scope::Scope;
use super::upload::{self, Begun, LEAST_CHUNK, Session, held};
use crate::error::{ErrorCode, RegistryError};
use crate::reference::Repository;
use crate::registry::{PushBlob, PushedBlob};

pub use content::PushContent;
pub(super) use content::{push_content, push_file};
pub(super) use follower::Follower;

/// So many repositories are tried to mount from.
const MAX_MOUNTS: usize = 4;

/// Sessions that are begun for one blob after the first.
const MAX_RESTARTS: u32 = 4;

/// So many failures without a byte gained end a way of sending.
const MAX_FRUITLESS: u32 = 2;

/// Pushes `blob` to `repository`.
pub(super) async fn push(
    core: &Arc<Core>,
    repository: &Repository,
    blob: &PushBlob,
) -> Result<PushedBlob, RegistryError> {
    let action = format!("pushing blob {}", core.name_of(repository, &blob.digest));
    let meter = blob
        .progress
        .as_ref()
        .map(|(what, progress)| Meter { what: what.as_str().into(), progress: Arc::clone(progress) });
    let mut push = Push {
        core,
        repository,
        digest: Some(&blob.digest),
        place: blob.digest.to_string(),
        source: &blob.source,
        follower: None,
        meter,
        action,
        entry: None,
    };
    if !blob.known_absent && push.is_there(&blob.digest).await? {
        push.existing()?;
        return Ok(PushedBlob::Existing);
    }
    let mut session = push.take_up().await.map(|(session, _)| session);
    let mounts = if session.is_some() { &[] } else { blob.mount_from.as_slice() };
    for from in mounts.iter().filter(|from| *from != repository).take(MAX_MOUNTS) {
        match push.mount(from, &blob.digest).await {
            Some(Begun::Done) => {
                push.forget().await;
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
    let result = push.upload(session).await;
    if !matches!(&result, Err(error) if is_lasting(error)) {
        push.forget().await;
    }
    result
}

/// Whether the session may be taken up by whoever tries again: the failure passes, or is ours and says nothing about it.
fn is_lasting(error: &RegistryError) -> bool {
    error.is_transient() || matches!(error, RegistryError::Cancelled { .. } | RegistryError::Source { .. })
}

/// One blob on its way.
struct Push<'a> {
    core: &'a Arc<Core>,
    repository: &'a Repository,
    /// `None` while it is being computed.
    digest: Option<&'a Digest>,
    /// What the content is known by until then, and otherwise the digest.
    place: String,
    source: &'a Arc<dyn ByteSource>,
    /// Who computes the digest.
    follower: Option<Follower>,
    meter: Option<Meter>,
    action: String,
    /// Where the session is written down.
    entry: Option<Arc<Entry>>,
}

/// A session on the far side, which is ended there when this ends without a blob and nobody will take it up.
struct Open<'a> {
    core: &'a Arc<Core>,
    session: Session,
    leave: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.leave {
            self.session.clone().abandon(self.core);
        }
    }
}

/// How sending goes.
struct Course {
    retries: Retries,
    /// Bytes of one request, if not everything goes at once.
    chunk: Option<u64>,
    /// Failures in a row that gained nothing.
    fruitless: u32,
    restarts: u32,
    /// The highest offset so far.
    best: u64,
}

impl Course {
    /// Takes note of the offset; whether it is higher than ever.
    fn reached(&mut self, offset: u64) -> bool {
        let gained = offset > self.best;
        if gained {
            self.best = offset;
            self.fruitless = 0;
            self.retries.progressed();
        }
        gained
    }
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
    async fn is_there(&self, digest: &Digest) -> Result<bool, RegistryError> {
        match self.core.stat_blob_as(Scope::push(self.repository), self.repository, digest).await {
            Ok(size) => Ok(size == self.size()),
            // Some registries deny reading a repository that does not exist yet.
            Err(error) if error.is_not_found() || error.error_code() == ErrorCode::Denied => Ok(false),
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
    async fn mount(&self, from: &Repository, digest: &Digest) -> Option<Begun> {
        let mounted = upload::begin_mount(self.core, self.repository, digest, Some(from), &self.action).await;
        mounted.inspect_err(|error| tracing::debug!(%from, %error, "no mount")).ok()
    }

    async fn upload(&self, session: Option<Session>) -> Result<PushedBlob, RegistryError> {
        self.at(0)?;
        let small = self.size() <= self.core.limits.single_post;
        let session = match (session, self.digest) {
            (Some(session), _) => session,
            (None, Some(digest)) if small && self.core.profile.single_post.known() != Some(false) => {
                match self.post_whole(digest).await? {
                    Some(session) => session,
                    None => return self.at(self.size()).map(|()| PushedBlob::Uploaded),
                }
            }
            (None, Some(digest)) => match self.begin_or_mount(digest).await? {
                Some(session) => session,
                None => return self.existing().map(|()| PushedBlob::Mounted),
            },
            (None, None) => self.begin().await?,
        };
        self.send_session(session).await?;
        self.at(self.size()).map(|()| PushedBlob::Uploaded)
    }

    /// Opens a session by asking for a mount from wherever the registry has the blob: an answer that it has it costs no
    /// byte, and any other costs nothing, since it is the session. `None` if it has it.
    async fn begin_or_mount(&self, digest: &Digest) -> Result<Option<Session>, RegistryError> {
        if self.core.profile.no_anonymous_mount.is_set() {
            return self.begin().await.map(Some);
        }
        match upload::begin_mount(self.core, self.repository, digest, None, &self.action).await {
            Ok(Begun::Session(session)) => Ok(Some(session)),
            // What a registry says of a mount is believed no more than what it says of a blob.
            Ok(Begun::Done) if self.is_there(digest).await? => Ok(None),
            Ok(Begun::Done) => self.begin_plainly().await,
            Err(RegistryError::Code { status: Some(400 | 404 | 405 | 415 | 416 | 422 | 500 | 501), .. }) => {
                self.begin_plainly().await
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a session on a registry that does not understand mounts from anywhere.
    async fn begin_plainly(&self) -> Result<Option<Session>, RegistryError> {
        self.core.profile.no_anonymous_mount.set();
        self.begin().await.map(Some)
    }

    async fn begin(&self) -> Result<Session, RegistryError> {
        let nothing = Payload::Bytes(Bytes::new());
        match upload::begin(self.core, self.repository, &[], nothing, &self.action).await? {
            Begun::Session(session) => Ok(session),
            Begun::Done => Err(protocol(&self.action, "the registry opened no upload")),
        }
    }

    /// Sends the blob with the POST that announces it; the session to go on with if the registry does not do that.
    async fn post_whole(&self, digest: &Digest) -> Result<Option<Session>, RegistryError> {
        let bytes = self.source.read(0..self.size()).await;
        let bytes = bytes.map_err(|source| RegistryError::Source { action: self.action.clone(), source })?;
        let digest = digest.to_string();
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
    async fn send_session(&self, session: Session) -> Result<(), RegistryError> {
        let retries = Retries::new(self.core.retry);
        let chunk = self.core.profile.max_body();
        let mut course = Course { retries, chunk, fruitless: 0, restarts: 0, best: session.offset };
        let mut open = Open { core: self.core, session, leave: self.entry.is_some() };
        self.save(&open.session).await;
        loop {
            let Some(sent) = self.step(&mut open.session, course.chunk).await? else {
                open.leave = true;
                return Ok(());
            };
            match sent {
                Sent::Taken => {
                    course.reached(open.session.offset);
                }
                Sent::TooLarge(error) => {
                    self.shrink(&mut course, &open.session, error)?;
                    // Part of the refused body may have been taken: an empty session is simpler than the truth.
                    if open.session.offset == 0 {
                        self.restart(&mut open).await?;
                    }
                }
                Sent::Broken { error, wait, held } => self.mend(&mut course, &mut open, (error, wait, held)).await?,
            }
            self.save(&open.session).await;
        }
    }

    /// Halves what is sent at a time, down to a limit.
    fn shrink(&self, course: &mut Course, session: &Session, error: RegistryError) -> Result<(), RegistryError> {
        let refused = course.chunk.unwrap_or_else(|| self.size());
        let smaller = (refused / 2).min(self.core.limits.upload_chunk).max(session.chunk_min);
        if smaller < LEAST_CHUNK.min(refused) || smaller >= refused {
            return Err(error);
        }
        self.core.profile.set_max_body(smaller);
        course.chunk = Some(smaller);
        Ok(())
    }

    /// After a failure: waits, finds out where the session stands, and changes the way of sending when this one brings
    /// nothing any more.
    async fn mend(
        &self,
        course: &mut Course,
        open: &mut Open<'_>,
        (error, wait, held): (RegistryError, Option<Duration>, Option<u64>),
    ) -> Result<(), RegistryError> {
        let Some(delay) = course.retries.next_delay(wait) else { return Err(error) };
        tracing::debug!(action = self.action, offset = open.session.offset, ?delay, "resuming");
        sleep(delay).await;
        let usable = self.recover(&mut open.session, held).await;
        if !course.reached(open.session.offset) {
            course.fruitless += 1;
        }
        let stuck = course.fruitless >= MAX_FRUITLESS;
        // Who closes the connection on a large body cannot say that it was too large.
        if stuck && course.chunk.is_none() && self.size() > self.core.limits.upload_chunk {
            course.chunk = Some(self.core.limits.upload_chunk);
        }
        // A registry that has less than it confirmed would refuse the rest for ever.
        if !usable || (stuck && open.session.offset > 0) {
            course.restarts += 1;
            if course.restarts > MAX_RESTARTS {
                return Err(error);
            }
            self.restart(open).await?;
        }
        Ok(())
    }

    /// Begins another session in place of one that is of no use.
    async fn restart(&self, open: &mut Open<'_>) -> Result<(), RegistryError> {
        let fresh = self.begin().await?;
        std::mem::replace(&mut open.session, fresh).abandon(self.core);
        Ok(())
    }

    /// The next request of a session; `None` when the blob is committed. Without `chunk` an empty session gets one PUT,
    /// and a session that was taken up again, or whose digest is not known yet, gets the rest as one PATCH.
    async fn step(&self, session: &mut Session, chunk: Option<u64>) -> Result<Option<Sent>, RegistryError> {
        let (size, offset) = (self.size(), session.offset);
        let whole = self.digest.is_some() && offset == 0 && chunk.is_none_or(|chunk| size <= chunk);
        if whole || offset == size {
            return self.commit(session).await;
        }
        let end = match chunk {
            Some(chunk) => size.min(offset.saturating_add(chunk.max(session.chunk_min))),
            None => size,
        };
        if let Some(follower) = &self.follower {
            let caught_up = follower.catch_up(&**self.source, offset).await;
            caught_up.map_err(|source| RegistryError::Source { action: self.action.clone(), source })?;
        }
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
        let digest = self.computed().await?;
        let call = session.put(&digest, self.payload(range), length, &self.action).once();
        let result = self.core.send(&call).await;
        if let Ok(answer) = &result
            && answer.status == StatusCode::PAYLOAD_TOO_LARGE
            && let Ok(answer) = result
        {
            return Ok(Some(Sent::TooLarge(answer.refuse(&call).await)));
        }
        match upload::finish(self.core, &call, result, &digest, self.size()).await {
            Ok(()) => Ok(None),
            Err(error) => broken(error).map(Some),
        }
    }

    /// The digest of everything, all of which was sent by now if nobody knew it before.
    async fn computed(&self) -> Result<Digest, RegistryError> {
        let gone = || RegistryError::Cancelled { action: self.action.clone() };
        match (self.digest, &self.follower) {
            (Some(digest), _) => Ok(*digest),
            (None, Some(follower)) => {
                let caught_up = follower.catch_up(&**self.source, self.size()).await;
                caught_up.map_err(|source| RegistryError::Source { action: self.action.clone(), source })?;
                follower.digest().await.ok_or_else(gone)
            }
            (None, None) => Err(gone()),
        }
    }

    /// Finds out where a session stands after a failure; whether it can be gone on with.
    async fn recover(&self, session: &mut Session, said: Option<u64>) -> bool {
        let confirmed = session.offset;
        let held = match said {
            Some(held) => Some(held),
            None => session.status(self.core, &self.action).await.ok(),
        };
        match held {
            // Below two bytes the answer is ambiguous, and beyond the size it is nonsense.
            Some(held) if held > 1 && held >= confirmed && held <= self.size() => {
                session.offset = held;
                true
            }
            // Some registries stop counting after the first piece: what they acknowledged they still have.
            Some(held) => held > 1 && confirmed > held,
            None => false,
        }
    }

    fn payload(&self, range: std::ops::Range<u64>) -> Payload {
        if range.is_empty() {
            return Payload::Bytes(Bytes::new());
        }
        let payload = SourcePayload::new(Arc::clone(self.source), range, self.meter.clone());
        Payload::Source(payload.followed_by(self.follower.clone()))
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
