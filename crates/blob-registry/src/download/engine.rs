//! The course of one download: workers, follower, verdict.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use blob_core::{Digest, Event, Hasher};
use futures_util::StreamExt as _;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::journal::{Found, Partial};
use super::pace::Pace;
use super::worker::{BATCH, Batch, Ended, Shared, State, write};
use super::{DownloadOptions, Downloaded};
use crate::copy::Place;
use crate::descriptor::Descriptor;
use crate::error::RegistryError;

/// How often the pace is looked at and progress told.
const TICK: Duration = Duration::from_millis(100);

/// The follower hashes this much at a time.
const HASH_STEP: u64 = 32 << 20;

/// So much is hashed before the disk is asked to keep it, so that its hash need not be computed again.
const SYNC_EVERY: u64 = 256 << 20;

/// Workers that failed, each after its own repetitions, before the download does.
const MAX_FAILURES: u32 = 64;

pub(super) async fn run(
    from: &Place,
    blob: &Descriptor,
    path: &Path,
    options: &DownloadOptions,
) -> Result<Downloaded, RegistryError> {
    let action = format!("downloading blob {}@{} to {}", from.repository, blob.digest, path.display());
    let (target, digest, size, resume) = (path.to_owned(), blob.digest, blob.size, options.resume);
    let opened = offload(&action, move || Partial::open(&target, digest, size, resume)).await?;
    let (partial, found) = opened;
    let resumed = found.finished.iter().map(|range| range.end - range.start).sum();
    let run = Run {
        shared: Arc::new(Shared::new(from, blob, partial, &found, action)),
        options,
        began: Instant::now(),
        pace: Pace::new(options.connections),
        most: 0,
        resumed,
    };
    run.finish(found, path).await
}

/// A download under way.
struct Run<'a> {
    shared: Arc<Shared>,
    options: &'a DownloadOptions,
    began: Instant,
    pace: Pace,
    /// The most workers at a time.
    most: usize,
    resumed: u64,
}

impl Run<'_> {
    async fn finish(mut self, found: Found, path: &Path) -> Result<Downloaded, RegistryError> {
        // Where the bytes are in this process there is nothing to wait for together.
        let shared = Arc::clone(&self.shared);
        if shared.registry.local_blob(&shared.repository, &shared.digest).await?.is_some() {
            self.pace = Pace::new(1);
        }
        let mut follower = JoinSet::new();
        follower.spawn(follow(Arc::clone(&shared), found.hashed, found.hasher));
        let mut workers = JoinSet::new();
        let early = match self.fetch(&mut workers, &mut follower).await {
            Ok(early) => early,
            Err(error) => {
                // Who tries again at once finds the files at rest.
                workers.shutdown().await;
                follower.shutdown().await;
                shared.quiet().await;
                // What came since the journal was last written is not fetched again.
                let file = Arc::clone(&shared);
                shared.offload(move || file.save()).await.unwrap_or_else(|error| tracing::debug!(%error));
                return Err(error);
            }
        };
        let got = match (early, follower.join_next().await) {
            (Some(got), _) => got,
            (None, Some(joined)) => unjoin(joined)?,
            (None, None) => Hasher::new(shared.digest.algorithm()).finish(),
        };
        let repeated = got != shared.digest;
        if repeated {
            tracing::warn!(expected = %shared.digest, %got, "wrong bytes came; everything is fetched once more");
            self.repeat().await?;
        }
        self.tell(shared.size)?;
        let (file, target, sync) = (Arc::clone(&shared), path.to_owned(), self.options.sync);
        shared.offload(move || file.partial.finish(&target, sync)).await?;
        let fetched = shared.fetched.load(Ordering::Relaxed);
        Ok(Downloaded { resumed: self.resumed, fetched, connections: self.most, repeated })
    }

    /// Brings everything that is missing. The follower's result, if it ended meanwhile.
    async fn fetch(
        &mut self,
        workers: &mut JoinSet<Result<Ended, RegistryError>>,
        follower: &mut JoinSet<Result<Digest, RegistryError>>,
    ) -> Result<Option<Digest>, RegistryError> {
        let shared = Arc::clone(&self.shared);
        let mut failures = Failures::default();
        let mut got = None;
        while shared.state().plan.bytes_left() > 0 {
            shared.wanted.store(self.pace.wanted(), Ordering::Relaxed);
            while workers.len() < self.pace.wanted() && shared.has_work() {
                shared.running.fetch_add(1, Ordering::Relaxed);
                workers.spawn(Arc::clone(&shared).work());
                self.most = self.most.max(workers.len());
            }
            tokio::select! {
                Some(joined) = workers.join_next() => {
                    shared.running.fetch_sub(1, Ordering::Relaxed);
                    match unjoin(joined) {
                        Ok(Ended::NothingToDo) => {}
                        Ok(Ended::NoRanges) => self.pace = Pace::new(1),
                        Err(error) => {
                            let fetched = shared.fetched.load(Ordering::Relaxed);
                            failures.survives(error, fetched, workers.is_empty())?;
                            self.pace.congested();
                        }
                    }
                }
                // It ends early when it fails, or together with the last worker.
                Some(joined) = follower.join_next() => got = Some(unjoin(joined)?),
                () = sleep(TICK) => {
                    self.pace.observe(self.began.elapsed(), shared.fetched.load(Ordering::Relaxed));
                    let here = shared.size - shared.state().plan.bytes_left();
                    self.tell(here)?;
                }
            }
        }
        Ok(got)
    }

    /// Fetches everything in one piece, without ranges.
    async fn repeat(&mut self) -> Result<(), RegistryError> {
        let shared = Arc::clone(&self.shared);
        let file = Arc::clone(&shared);
        shared.offload(move || file.partial.forget()).await?;
        let reader = shared.registry.read_blob(&shared.repository, &shared.digest, None).await?;
        shared.check_size(reader.size)?;
        let (mut stream, mut hasher) = (reader.stream, Hasher::new(shared.digest.algorithm()));
        let (mut at, mut batch) = (0, Batch::default());
        loop {
            let item = stream.next().await;
            let over = item.is_none();
            match item {
                Some(Ok(bytes)) => {
                    hasher.update(&bytes);
                    batch.push(bytes);
                }
                Some(Err(source)) => {
                    if source.kind() == blob_core::FailureKind::Integrity {
                        shared.partial.discard();
                    }
                    return Err(RegistryError::Source { action: shared.action.clone(), source });
                }
                None => {}
            }
            if batch.bytes >= BATCH || over {
                let (ready, offset, file) = (std::mem::take(&mut batch), at, Arc::clone(&shared));
                at += ready.bytes;
                shared.check_length(at)?;
                shared.fetched.fetch_add(ready.bytes, Ordering::Relaxed);
                shared.offload(move || write(&file.partial.file, &ready.chunks, offset, ready.bytes)).await?;
                self.tell(at)?;
            }
            if over {
                break;
            }
        }
        let got = hasher.finish();
        if got == shared.digest {
            return Ok(());
        }
        shared.partial.discard();
        Err(RegistryError::DigestMismatch { action: shared.action.clone(), expected: shared.digest, got })
    }

    fn tell(&self, bytes: u64) -> Result<(), RegistryError> {
        let Some((what, progress)) = &self.options.progress else { return Ok(()) };
        match progress.event(&Event::Downloading { what, bytes, bytes_total: self.shared.size }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(RegistryError::Cancelled { action: self.shared.action.clone() }),
        }
    }
}

/// Counts workers that failed.
#[derive(Default)]
struct Failures {
    count: u32,
    fetched: u64,
}

impl Failures {
    /// Whether the download goes on after `error`: others may still bring bytes, or some came since the last time.
    fn survives(&mut self, error: RegistryError, fetched: u64, alone: bool) -> Result<(), RegistryError> {
        self.count += 1;
        let stuck = alone && fetched == self.fetched;
        if !error.is_transient() || stuck || self.count > MAX_FAILURES {
            return Err(error);
        }
        tracing::debug!(%error, "a connection is given up");
        self.fetched = fetched;
        Ok(())
    }
}

/// Hashes what is complete, in order, until everything is.
async fn follow(shared: Arc<Shared>, mut hashed: u64, mut hasher: Hasher) -> Result<Digest, RegistryError> {
    let mut synced = hashed;
    while hashed < shared.size {
        let prefix = shared.state().plan.prefix();
        if prefix == hashed {
            shared.news.notified().await;
            continue;
        }
        let end = prefix.min(hashed + HASH_STEP);
        let sync = shared.partial.is_resumable() && end - synced >= SYNC_EVERY;
        let file = Arc::clone(&shared);
        let step = move || {
            let mut block = vec![0; (1 << 20).min((end - hashed) as usize)];
            let mut at = hashed;
            while at < end {
                let part = (end - at).min(block.len() as u64) as usize;
                read_exact_at(&file.partial.file, &mut block[..part], at)?;
                hasher.update(&block[..part]);
                at += part as u64;
            }
            if sync {
                file.partial.file.sync_data()?;
                file.state().hash = (end, hasher.state());
            }
            Ok(hasher)
        };
        hasher = shared.offload(step).await?;
        hashed = end;
        if sync {
            synced = end;
        }
    }
    Ok(hasher.finish())
}

fn read_exact_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Does blocking work on another thread.
pub(super) async fn offload<T: Send + 'static>(
    action: &str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, RegistryError> {
    let failed = |source| RegistryError::Io { action: action.to_owned(), transient: false, source: Box::new(source) };
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(failed),
        Err(error) => Err(failed(resume(error))),
    }
}

fn unjoin<T>(joined: Result<Result<T, RegistryError>, JoinError>) -> Result<T, RegistryError> {
    match joined {
        Ok(result) => result,
        Err(error) => {
            let action = "downloading".to_owned();
            Err(RegistryError::Io { action, transient: false, source: Box::new(resume(error)) })
        }
    }
}

/// Panics go on where the work was asked for; a task that was stopped because its runtime ends is an error.
fn resume(error: JoinError) -> std::io::Error {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => std::io::Error::other(error),
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
