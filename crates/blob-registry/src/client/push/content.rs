//! Pushing content whose digest nobody knows yet: it is read once, and hashed while it is sent.
//!
//! Nobody can ask for it or mount it before, so who knows the digest, or has content that is often there already, pushes
//! a blob instead. With a journal a killed push is taken up by the next process, which reads neither what was sent nor
//! what was hashed again.

use std::sync::Arc;

use blob_core::source::FileSource;
use blob_core::{Algorithm, ByteSource, ByteSourceExt as _, Digest, Hasher, MemorySource, Progress, SourceError};

use super::standing::JOURNAL_FROM;
use super::{Follower, Push, is_lasting};
use crate::client::Core;
use crate::client::call::Meter;
use crate::error::{ErrorCode, RegistryError};
use crate::reference::Repository;
use crate::registry::{PushBlob, PushedBlob};

/// Content to push, whose digest is computed on the way.
#[derive(Clone)]
#[non_exhaustive]
pub struct PushContent {
    /// The content. Its id says which content it is when a journal is used: what has another one is not taken up.
    pub source: Arc<dyn ByteSource>,
    /// By which algorithm it is named.
    pub algorithm: Algorithm,
    /// Where the content comes from, such as a path: a push of what was there before is given up when something else is
    /// pushed from there. The id of the source if there is nothing to say.
    pub place: Option<String>,
    /// Told of `Event::Uploading` as `what`.
    pub progress: Option<(String, Arc<dyn Progress>)>,
}

impl PushContent {
    /// Pushes `source` under its SHA-256 digest.
    pub fn new(source: Arc<dyn ByteSource>) -> Self {
        Self { source, algorithm: Algorithm::Sha256, place: None, progress: None }
    }
}

impl std::fmt::Debug for PushContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushContent").field("source", &self.source).field("place", &self.place).finish_non_exhaustive()
    }
}

/// Pushes `content`; its digest.
pub(in crate::client) async fn push_content(
    core: &Arc<Core>,
    repository: &Repository,
    content: &PushContent,
) -> Result<(Digest, PushedBlob), RegistryError> {
    if content.source.size() < JOURNAL_FROM {
        return small(core, repository, content).await;
    }
    let action = format!("pushing {} to {}/{repository}", content.source.id(), core.host);
    let mut attempt = attempt(core, repository, content, &action);
    let taken_up = attempt.take_up().await;
    let resumed = taken_up.is_some();
    let (session, hash) = taken_up.map_or((None, None), |(session, hash)| (Some(session), hash));
    let found = hash.and_then(|hash| hash.resume(content.algorithm)).filter(|(_, at)| *at <= content.source.size());
    let (hasher, at) = found.unwrap_or_else(|| (Hasher::new(content.algorithm), 0));
    let result = attempt.send(session, (hasher, at)).await;
    match result {
        // What an earlier process left was not what it seemed: once more, from the beginning.
        Err(error) if resumed && error.error_code() == ErrorCode::DigestInvalid => {
            tracing::warn!(%error, "the upload that was taken up came to something else; beginning anew");
            let mut anew = self::attempt(core, repository, content, &action);
            anew.send(None, (Hasher::new(content.algorithm), 0)).await
        }
        result => result,
    }
}

fn attempt<'a>(core: &'a Arc<Core>, repository: &'a Repository, content: &'a PushContent, action: &str) -> Push<'a> {
    let meter = content
        .progress
        .as_ref()
        .map(|(what, progress)| Meter { what: what.as_str().into(), progress: Arc::clone(progress) });
    Push {
        core,
        repository,
        digest: None,
        place: content.place.clone().unwrap_or_else(|| content.source.id().to_string()),
        source: &content.source,
        follower: None,
        meter,
        action: action.to_owned(),
        entry: None,
    }
}

/// What is not worth a journal is hashed in memory, and asked for.
async fn small(
    core: &Arc<Core>,
    repository: &Repository,
    content: &PushContent,
) -> Result<(Digest, PushedBlob), RegistryError> {
    let action = || format!("pushing {} to {}/{repository}", content.source.id(), core.host);
    let bytes = content.source.read(0..content.source.size()).await;
    let bytes = bytes.map_err(|source| RegistryError::Source { action: action(), source })?;
    let digest = Digest::of(content.algorithm, &bytes);
    let mut blob = PushBlob::new(digest, Arc::new(MemorySource::new(bytes)));
    blob.progress.clone_from(&content.progress);
    Ok((digest, super::push(core, repository, &blob).await?))
}

impl Push<'_> {
    /// Sends everything, to the session of an earlier process if there is one, and hashes it on.
    async fn send(
        &mut self,
        session: Option<crate::client::upload::Session>,
        (hasher, at): (Hasher, u64),
    ) -> Result<(Digest, PushedBlob), RegistryError> {
        let follower = Follower::start(hasher, at, self.entry.clone());
        self.follower = Some(follower.clone());
        let mut result = self.upload(session).await;
        if let Err(error) = &result
            && refuses_pieces(error)
        {
            // A registry that takes no PATCH takes a PUT, which needs the digest.
            tracing::debug!(%error, "sending it whole, once it is hashed");
            result = self.send_whole(&follower).await;
        }
        let result = match result {
            Ok(pushed) => self.computed().await.map(|digest| (digest, pushed)),
            Err(error) => Err(error),
        };
        self.follower = None;
        follower.end().await;
        if !matches!(&result, Err(error) if is_lasting(error)) {
            self.forget().await;
        }
        result
    }

    async fn send_whole(&self, follower: &Follower) -> Result<PushedBlob, RegistryError> {
        let caught_up = follower.catch_up(&**self.source, self.size()).await;
        caught_up.map_err(|source| RegistryError::Source { action: self.action.clone(), source })?;
        let digest = self.computed().await?;
        let mut blob = PushBlob::new(digest, Arc::clone(self.source));
        blob.progress = self.meter.as_ref().map(|meter| (meter.what.to_string(), Arc::clone(&meter.progress)));
        super::push(self.core, self.repository, &blob).await
    }
}

/// Whether a registry means that it takes no pieces.
fn refuses_pieces(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Code { status: Some(400 | 404 | 405 | 411 | 415 | 501), code, .. }
        if *code != ErrorCode::DigestInvalid)
}

/// Pushes the file at `path`.
pub(in crate::client) async fn push_file(
    core: &Arc<Core>,
    repository: &Repository,
    path: &std::path::Path,
    progress: Option<(String, Arc<dyn Progress>)>,
) -> Result<(Digest, PushedBlob), RegistryError> {
    let shown = path.display().to_string();
    let action = || format!("pushing {shown} to {}/{repository}", core.host);
    let unreadable = |source: std::io::Error| {
        let id = blob_core::SourceId::new(shown.as_str());
        RegistryError::Source { action: action(), source: SourceError::Io { id, offset: 0, source } }
    };
    let source = FileSource::open(path).map_err(unreadable)?;
    let id = source.id().clone();
    let mut content = PushContent::new(Arc::new(source));
    content.place = Some(std::fs::canonicalize(path).map_err(unreadable)?.display().to_string());
    content.progress = progress;
    let pushed = push_content(core, repository, &content).await?;
    if FileSource::open(path).map_err(unreadable)?.id() == &id {
        return Ok(pushed);
    }
    let detail = "what was sent may be neither the old nor the new content".to_owned();
    Err(RegistryError::Source { action: action(), source: SourceError::Changed { id, detail } })
}
