//! Copying into the first registry what is read from another.
//!
//! Nothing here fails a read: what cannot be copied is told to `tracing` and read all the same.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blob_core::{ByteStream, Digest, Hasher, SourceError, SourceId};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;

use super::{BlobReader, Manifest, PushManifest, RegistryError, Repository, Shared, TagPolicy, Upload};
use crate::error::ErrorCode;
use crate::manifest::Outline;
use crate::reference::Tag;

/// Manifests that wait for their content take no more memory than this; the oldest give way, and are copied when they
/// are read again.
const MAX_WAITING_BYTES: usize = 16 << 20;
const MAX_WAITING: usize = 256;

/// What is being copied.
#[derive(Debug, Default)]
pub(super) struct Filling {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Blobs on their way: a second reader does not copy them again.
    blobs: HashSet<(Repository, Digest)>,
    /// Manifests that name what is not there yet, oldest first.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    repository: Repository,
    push: PushManifest,
    names: Vec<Digest>,
}

impl Filling {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every statement leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, waiting: Waiting) {
        let mut state = self.state();
        state
            .waiting
            .retain(|other| other.repository != waiting.repository || other.push.digest != waiting.push.digest);
        state.waiting.push_back(waiting);
        let mut bytes: usize = state.waiting.iter().map(|waiting| waiting.push.bytes.len()).sum();
        while bytes > MAX_WAITING_BYTES || state.waiting.len() > MAX_WAITING {
            let Some(oldest) = state.waiting.pop_front() else { break };
            bytes -= oldest.push.bytes.len();
        }
    }

    /// Takes out what waits for `digest`, among others.
    fn waiting_for(&self, repository: &Repository, digest: &Digest) -> Vec<Waiting> {
        let mut state = self.state();
        let all = std::mem::take(&mut state.waiting);
        let (ready, rest) =
            all.into_iter().partition(|waiting| waiting.repository == *repository && waiting.names.contains(digest));
        state.waiting = rest;
        Vec::from(ready as VecDeque<Waiting>)
    }
}

/// Copies a manifest that came from registry `at`, and what waits for it, or lets it wait for what it names.
pub(super) async fn manifest(
    shared: &Shared,
    at: usize,
    repository: &Repository,
    manifest: &Manifest,
    tag: Option<&Tag>,
) {
    if at == 0 || !shared.options.fill {
        return;
    }
    let Ok(outline) = Outline::parse(&manifest.bytes) else { return };
    let mut push = PushManifest::new(manifest.descriptor.media_type.clone(), manifest.bytes.clone());
    push.digest = manifest.descriptor.digest;
    if shared.options.tags == TagPolicy::Last
        && let Some(tag) = tag
    {
        let here = shared.members[0].registry.resolve(repository, &tag.clone().into()).await;
        if here.is_ok_and(|here| here.digest == push.digest) {
            return;
        }
        push.tags.push(tag.clone());
    }
    let names = outline.blobs.iter().chain(&outline.manifests).map(|named| named.digest).collect();
    push_ready(shared, vec![Waiting { repository: repository.clone(), push, names }]).await;
}

/// Pushes manifests and then those that waited for them; what is not complete waits on.
async fn push_ready(shared: &Shared, mut ready: Vec<Waiting>) {
    let Some(first) = shared.members.first() else { return };
    while let Some(waiting) = ready.pop() {
        let Waiting { repository, push, .. } = &waiting;
        match first.registry.push_manifest(repository, push.clone()).await {
            Ok(_) => ready.extend(shared.filling.waiting_for(repository, &push.digest)),
            Err(error) if error.error_code() == ErrorCode::ManifestBlobUnknown => shared.filling.wait(waiting),
            Err(error) => not_copied(repository, &push.digest, &error),
        }
    }
}

fn not_copied(repository: &Repository, digest: &Digest, error: &RegistryError) {
    tracing::warn!(%repository, %digest, %error, "content was not copied into the first registry");
}

/// Copies a blob that comes from registry `at` while it is read, if all of it is.
pub(super) async fn blob(
    shared: &Arc<Shared>,
    at: usize,
    (repository, digest): (&Repository, &Digest),
    reader: BlobReader,
) -> BlobReader {
    if at == 0 || !shared.options.fill || reader.range != (0..reader.size) {
        return reader;
    }
    let Some(claim) = Claim::of(shared, repository, digest) else { return reader };
    let upload = match shared.members[0].registry.start_upload(repository).await {
        Ok(upload) => upload,
        Err(error) => {
            not_copied(repository, digest, &error);
            return reader;
        }
    };
    let tee = Tee {
        stream: reader.stream,
        hasher: Hasher::new(digest.algorithm()),
        left: reader.size,
        upload: Some(upload),
        claim,
    };
    BlobReader { stream: tee.into_stream(), ..reader }
}

/// The right to copy a blob; dropping it gives it back.
struct Claim {
    shared: Arc<Shared>,
    key: (Repository, Digest),
}

impl Claim {
    fn of(shared: &Arc<Shared>, repository: &Repository, digest: &Digest) -> Option<Self> {
        let key = (repository.clone(), *digest);
        let new = shared.filling.state().blobs.insert(key.clone());
        new.then(|| Self { shared: Arc::clone(shared), key })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.filling.state().blobs.remove(&self.key);
    }
}

/// A stream that is written to an upload session as it is read.
struct Tee {
    stream: ByteStream,
    hasher: Hasher,
    /// Bytes that are still to come.
    left: u64,
    upload: Option<Box<dyn Upload>>,
    claim: Claim,
}

impl Tee {
    fn into_stream(self) -> ByteStream {
        stream::try_unfold(self, |mut tee| async move { Ok(tee.next().await?.map(|chunk| (chunk, tee))) }).boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        let chunk = match self.stream.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => {
                self.give_up(None).await;
                return Err(error);
            }
            None => {
                if self.left == 0 {
                    self.finish().await?;
                } else {
                    self.give_up(None).await;
                }
                return Ok(None);
            }
        };
        self.hasher.update(&chunk);
        let before = self.left;
        self.left = before.saturating_sub(chunk.len() as u64);
        if let Some(upload) = &mut self.upload
            && let Err(error) = upload.append(chunk.clone()).await
        {
            self.give_up(Some(error)).await;
        }
        // The last bytes go out only after the check, and a reader that counts need not ask for more.
        if self.left == 0 && before > 0 {
            self.finish().await?;
        }
        Ok(Some(chunk))
    }

    /// Makes the copy visible, and what waited for it.
    async fn finish(&mut self) -> Result<(), SourceError> {
        let Some(upload) = self.upload.take() else { return Ok(()) };
        let (repository, digest) = &self.claim.key;
        let got = self.hasher.clone().finish();
        if got != *digest {
            cancel(upload).await;
            let detail = format!("expected content with this digest, got {got}");
            return Err(SourceError::Changed { id: SourceId::from(*digest), detail });
        }
        match upload.commit(digest).await {
            Ok(()) => {
                let ready = self.claim.shared.filling.waiting_for(repository, digest);
                push_ready(&self.claim.shared, ready).await;
            }
            Err(error) => not_copied(repository, digest, &error),
        }
        Ok(())
    }

    async fn give_up(&mut self, error: Option<RegistryError>) {
        if let Some(error) = error {
            not_copied(&self.claim.key.0, &self.claim.key.1, &error);
        }
        if let Some(upload) = self.upload.take() {
            cancel(upload).await;
        }
    }
}

impl Drop for Tee {
    /// A reader that goes away takes the session along, which would fill the disk otherwise.
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(cancel(upload));
        } else {
            tracing::debug!(digest = %self.claim.key.1, "an upload session was left open");
        }
    }
}

/// Cancels a session; one that cannot be cancelled expires.
async fn cancel(upload: Box<dyn Upload>) {
    if let Err(error) = upload.cancel().await {
        tracing::debug!(%error, "an upload session was left open");
    }
}
