//! One connection's work: take a part, fetch it, write it where it belongs, take the next.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blob_core::{Digest, SourceError, SourceId};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::engine::offload;
use super::journal::{Found, Partial};
use super::plan::{Part, Plan};
use crate::copy::Place;
use crate::descriptor::Descriptor;
use crate::error::RegistryError;
use crate::reference::Repository;
use crate::registry::Registry;

/// Bytes that are gathered before they are written.
pub(super) const BATCH: u64 = 1 << 20;

/// The first part of a worker; the next ones are what comes in [`PART_TIME_MS`], up to [`MOST_PART`].
const FIRST_PART: u64 = 8 << 20;

/// See [`FIRST_PART`].
const MOST_PART: u64 = 64 << 20;

/// See [`FIRST_PART`].
const PART_TIME_MS: u64 = 2000;

/// Parts are not made smaller than this: a request has its cost.
const LEAST_PART: u64 = 1 << 20;

/// Who needs longer than this for the rest of a part gives half of it to an idle worker.
const SLOW: Duration = Duration::from_millis(500);

/// The journal is written when so much came since the last time.
const SAVE_EVERY: u64 = 8 << 20;

/// Pieces of blocking work at a time; there are fewer workers than that.
const MOST_WORK: u32 = 1 << 16;

/// What the workers of one download share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) action: String,
    pub(super) partial: Partial,
    pub(super) state: Mutex<State>,
    /// Bytes that came.
    pub(super) fetched: AtomicU64,
    /// Workers that there should be, and are.
    pub(super) wanted: AtomicUsize,
    pub(super) running: AtomicUsize,
    /// Ranges are answered with whole blobs.
    pub(super) no_ranges: AtomicBool,
    /// Something is complete that was not.
    pub(super) news: Notify,
    /// Held while the journal is written.
    saving: Mutex<()>,
    /// Each piece of blocking work holds one of these, so that its end can be waited for.
    idle: Arc<Semaphore>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) plan: Plan,
    /// The hash of the first bytes, which are on the disk.
    pub(super) hash: (u64, Vec<u8>),
    /// When parts were begun, and how many bytes of them came.
    speed: HashMap<Part, (Instant, u64)>,
    unsaved: u64,
}

/// Why a worker stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    NothingToDo,
    /// The far side answers ranges with whole blobs: parts would cost the blob many times.
    NoRanges,
}

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) chunks: Vec<Bytes>,
    pub(super) bytes: u64,
}

impl Batch {
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len() as u64;
        self.chunks.push(chunk);
    }
}

/// Gives a part back, however its worker ends.
struct Held<'a> {
    shared: &'a Shared,
    part: Part,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.plan.release(self.part);
        state.speed.remove(&self.part);
    }
}

impl Shared {
    pub(super) fn new(from: &Place, blob: &Descriptor, partial: Partial, found: &Found, action: String) -> Self {
        let state = State {
            plan: Plan::new(blob.size, &found.finished),
            hash: (found.hashed, found.hasher.state()),
            speed: HashMap::new(),
            unsaved: 0,
        };
        Self {
            registry: Arc::clone(&from.registry),
            repository: from.repository.clone(),
            digest: blob.digest,
            size: blob.size,
            action,
            partial,
            state: Mutex::new(state),
            fetched: AtomicU64::new(0),
            wanted: AtomicUsize::new(1),
            running: AtomicUsize::new(0),
            no_ranges: AtomicBool::new(false),
            news: Notify::new(),
            saving: Mutex::new(()),
            idle: Arc::new(Semaphore::new(MOST_WORK as usize)),
        }
    }

    /// Whether one more worker would find something to do.
    pub(super) fn has_work(&self) -> bool {
        let state = self.state();
        state.plan.bytes_free() > 0 || self.slowest(&state).is_some()
    }

    /// Works until nothing is left to take or there are too many workers.
    pub(super) async fn work(self: Arc<Self>) -> Result<Ended, RegistryError> {
        let mut most = FIRST_PART;
        while let Some((part, range)) = self.take(most) {
            let _held = Held { shared: &self, part };
            let began = Instant::now();
            if self.transfer(part, range.clone()).await? == Ended::NoRanges {
                return Ok(Ended::NoRanges);
            }
            let took = began.elapsed().as_millis().clamp(1, u64::MAX.into()) as u64;
            most = ((range.end - range.start).saturating_mul(PART_TIME_MS) / took).clamp(FIRST_PART, MOST_PART);
        }
        Ok(Ended::NothingToDo)
    }

    /// The next part: of what is nobody's, else half of what the slowest worker has.
    fn take(&self, most: u64) -> Option<(Part, Range<u64>)> {
        let wanted = self.wanted.load(Ordering::Relaxed);
        if self.running.load(Ordering::Relaxed) > wanted {
            return None;
        }
        let mut state = self.state();
        let free = state.plan.bytes_free();
        let taken = if free == 0 {
            let slowest = self.slowest(&state)?;
            state.plan.split(slowest)
        } else if self.no_ranges.load(Ordering::Relaxed) {
            state.plan.claim(u64::MAX)
        } else {
            // Towards the end parts get smaller, so that all workers end together.
            let share = (free / (2 * wanted.max(1) as u64)).max(LEAST_PART);
            state.plan.claim(if free <= 2 * LEAST_PART { free } else { most.min(share) })
        };
        if let Some((part, _)) = taken {
            state.speed.insert(part, (Instant::now(), 0));
        }
        taken
    }

    /// The part whose rest takes longest, if that is long.
    fn slowest(&self, state: &State) -> Option<Part> {
        if self.no_ranges.load(Ordering::Relaxed) {
            return None;
        }
        let rests = state.plan.under_way().filter(|&(_, left)| left >= 2 * LEAST_PART).map(|(part, left)| {
            let (since, bytes) = state.speed.get(&part).copied().unwrap_or_else(|| (Instant::now(), 0));
            let rate = bytes.max(1) as f64 / since.elapsed().as_secs_f64().max(1e-3);
            let rest = if since.elapsed() < SLOW { 0.0 } else { left as f64 / rate };
            (part, rest)
        });
        let (part, rest) = rests.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        (rest > SLOW.as_secs_f64()).then_some(part)
    }

    /// Fetches `range`, or as much of it as `part` keeps.
    async fn transfer(self: &Arc<Self>, part: Part, range: Range<u64>) -> Result<Ended, RegistryError> {
        // Parts that were cut before it was known that nobody answers ranges are given back.
        let known = self.no_ranges.load(Ordering::Relaxed);
        let reader = self.registry.read_blob(&self.repository, &self.digest, Some(range.clone())).await?;
        self.check_size(reader.size)?;
        if reader.range != range {
            let detail = format!("asked for bytes {range:?}, the registry sends {:?}", reader.range);
            return Err(RegistryError::Protocol { action: self.action.clone(), detail });
        }
        let all = range == (0..self.size);
        if !reader.ranged && !all && !known {
            self.no_ranges.store(true, Ordering::Relaxed);
            return Ok(Ended::NoRanges);
        }
        let (mut stream, mut batch) = (reader.stream, Batch::default());
        loop {
            let left = self.state().plan.left(part);
            if left.end - left.start <= batch.bytes {
                self.write(part, &mut batch).await?;
                return Ok(Ended::NothingToDo);
            }
            match stream.next().await {
                Some(Ok(chunk)) => batch.push(chunk),
                Some(Err(source)) => {
                    self.write(part, &mut batch).await?;
                    return Err(RegistryError::Source { action: self.action.clone(), source });
                }
                None => {
                    self.write(part, &mut batch).await?;
                    let left = self.state().plan.left(part);
                    let (id, expected, got) = (SourceId::from(self.digest), left.end, left.start);
                    let source = SourceError::Truncated { id, expected, got };
                    return Err(RegistryError::Source { action: self.action.clone(), source });
                }
            }
            if batch.bytes >= BATCH {
                self.write(part, &mut batch).await?;
            }
        }
    }

    /// Writes what was gathered, and what is here now to the journal.
    async fn write(self: &Arc<Self>, part: Part, batch: &mut Batch) -> Result<(), RegistryError> {
        let batch = std::mem::take(batch);
        if batch.bytes == 0 {
            return Ok(());
        }
        let shared = Arc::clone(self);
        self.offload(move || {
            let left = shared.state().plan.left(part);
            // Somebody may have taken the other half by now.
            let bytes = batch.bytes.min(left.end - left.start);
            write(&shared.partial.file, &batch.chunks, left.start, bytes)?;
            shared.fetched.fetch_add(bytes, Ordering::Relaxed);
            let due = {
                let mut state = shared.state();
                state.plan.advance(part, bytes);
                if let Some((_, came)) = state.speed.get_mut(&part) {
                    *came += bytes;
                }
                state.unsaved += bytes;
                let due = state.unsaved >= SAVE_EVERY;
                if due {
                    state.unsaved = 0;
                }
                due
            };
            shared.news.notify_one();
            if due { shared.save() } else { Ok(()) }
        })
        .await
    }

    /// Writes the journal.
    pub(super) fn save(&self) -> io::Result<()> {
        // Who comes while another one writes finds that it will be written soon again.
        let Ok(_saving) = self.saving.try_lock() else { return Ok(()) };
        let (finished, (hashed, state)) = {
            let state = self.state();
            (state.plan.finished(), state.hash.clone())
        };
        self.partial.save(&finished, hashed, &state)
    }

    /// Does blocking work on another thread.
    pub(super) async fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let permit = Arc::clone(&self.idle).acquire_owned().await;
        offload(&self.action, move || {
            let _permit = permit;
            work()
        })
        .await
    }

    /// Waits for the end of blocking work, also of what nobody waits for any more.
    pub(super) async fn quiet(&self) {
        drop(self.idle.acquire_many(MOST_WORK).await);
    }

    pub(super) fn check_size(&self, got: u64) -> Result<(), RegistryError> {
        if got == self.size {
            return Ok(());
        }
        Err(RegistryError::SizeMismatch { action: self.action.clone(), expected: self.size, got })
    }

    /// Refuses more bytes than there are.
    pub(super) fn check_length(&self, got: u64) -> Result<(), RegistryError> {
        if got <= self.size { Ok(()) } else { self.check_size(got) }
    }
}

/// Writes the first `bytes` of `chunks` one behind the other from `offset` on.
pub(super) fn write(file: &File, chunks: &[Bytes], offset: u64, bytes: u64) -> io::Result<()> {
    let mut written = 0;
    for chunk in chunks {
        let part = (bytes - written).min(chunk.len() as u64);
        file.write_all_at(&chunk[..part as usize], offset + written)?;
        written += part;
    }
    Ok(())
}
