//! What joins the async side of an extraction and its threads: work to do, memory to spare, word to stop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::task::AtomicWaker;

use super::ExtractError;
use crate::source::ByteSource;

/// Work for a thread.
#[derive(Debug)]
pub(super) enum Job {
    /// A batch of small files, by position, with its bytes.
    Batch { at: usize, bytes: Bytes, permit: Permit },
    /// Equal files, by position, whose content a cache has. The answer is whether it was the right content.
    Cached { at: usize, content: Arc<dyn ByteSource>, right: oneshot::Sender<bool> },
    /// A large file, by position, whose bytes are still coming.
    Large { at: usize, bytes: PipeReader, permit: Permit },
}

#[derive(Debug, Default)]
pub(super) struct Link {
    cancelled: AtomicBool,
    failure: Mutex<Option<ExtractError>>,
    queue: Mutex<Queue>,
    /// Threads wait here for jobs.
    filled: Condvar,
    /// The async side waits here for memory, and for the end.
    waker: AtomicWaker,
    used: AtomicU64,
    peak: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Stops everything. Jobs that nobody took are dropped.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        let jobs = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            std::mem::take(&mut queue.jobs)
        };
        drop(jobs);
        self.filled.notify_all();
        self.waker.wake();
    }

    /// Stops everything because of `error`; the first one counts.
    pub(super) fn fail(&self, error: ExtractError) {
        lock(&self.failure).get_or_insert(error);
        self.cancel();
    }

    /// What stopped everything.
    pub(super) fn failure(&self) -> Option<ExtractError> {
        lock(&self.failure).take()
    }

    pub(super) fn push(&self, job: Job) {
        let mut queue = lock(&self.queue);
        // After the end the job is dropped, and its memory with it.
        if !queue.closed {
            queue.jobs.push_back(job);
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// Says that no more jobs will come.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.filled.notify_all();
    }

    /// Lets jobs in again after [`close`](Self::close), unless everything was stopped.
    pub(super) fn reopen(&self) {
        let mut queue = lock(&self.queue);
        // Whoever stops everything says so before it closes the queue.
        queue.closed = self.is_cancelled();
    }

    /// The next job; waits for one, until there will be none. Blocks: for threads.
    pub(super) fn pop(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Asks for `bytes` of memory out of `limit`. Only one task asks, in the order of its needs, so what is too large
    /// for the limit gets its turn when nothing else is held.
    pub(super) fn admit(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Permit> {
        let used = self.used.load(Ordering::Acquire);
        if used != 0 && used.saturating_add(bytes) > limit {
            return None;
        }
        let used = self.used.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.peak.fetch_max(used, Ordering::Relaxed);
        Some(Permit { link: Arc::clone(self), bytes })
    }

    /// The most memory that was held at a time, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Has the current task woken when memory comes back or everything stops.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

/// Memory that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    link: Arc<Link>,
    bytes: u64,
}

impl Permit {
    /// Splits off the part for `bytes`.
    pub(super) fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { link: Arc::clone(&self.link), bytes }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.link.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.link.waker.wake();
    }
}

/// Bytes on their way from the async side to a thread, a bounded number at a time.
#[derive(Debug)]
struct Pipe {
    state: Mutex<PipeState>,
    filled: Condvar,
    drained: AtomicWaker,
}

#[derive(Debug, Default)]
struct PipeState {
    chunks: VecDeque<Bytes>,
    held: usize,
    end: Option<End>,
    reader_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Aborted,
}

/// The async end of a pipe. Dropped before [`finish`](Self::finish), it tells the reader that more should have come.
#[derive(Debug)]
pub(super) struct PipeWriter {
    pipe: Arc<Pipe>,
    capacity: usize,
}

/// The thread's end of a pipe.
#[derive(Debug)]
pub(super) struct PipeReader(Arc<Pipe>);

/// A pipe that takes a chunk as long as it holds less than `capacity` bytes.
pub(super) fn pipe(capacity: usize) -> (PipeWriter, PipeReader) {
    let pipe = Arc::new(Pipe { state: Mutex::default(), filled: Condvar::new(), drained: AtomicWaker::new() });
    (PipeWriter { pipe: Arc::clone(&pipe), capacity }, PipeReader(pipe))
}

impl PipeWriter {
    /// Waits for room, then hands `chunk` over. The answer is whether anybody wants more.
    pub(super) async fn write(&self, chunk: Bytes) -> bool {
        let mut chunk = Some(chunk);
        std::future::poll_fn(|cx| {
            self.pipe.drained.register(cx.waker());
            let mut state = lock(&self.pipe.state);
            if state.reader_gone {
                return Poll::Ready(false);
            }
            if state.held >= self.capacity {
                return Poll::Pending;
            }
            if let Some(chunk) = chunk.take() {
                state.held += chunk.len();
                state.chunks.push_back(chunk);
            }
            drop(state);
            self.pipe.filled.notify_one();
            Poll::Ready(true)
        })
        .await
    }

    /// Says that this was all.
    pub(super) fn finish(self) {
        lock(&self.pipe.state).end = Some(End::Complete);
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        lock(&self.pipe.state).end.get_or_insert(End::Aborted);
        self.pipe.filled.notify_one();
    }
}

impl PipeReader {
    /// The next chunk, `None` at the end; an error when the rest will not come. Blocks: for threads.
    pub(super) fn read(&self) -> Result<Option<Bytes>, Aborted> {
        let mut state = lock(&self.0.state);
        loop {
            if let Some(chunk) = state.chunks.pop_front() {
                state.held -= chunk.len();
                drop(state);
                self.0.drained.wake();
                return Ok(Some(chunk));
            }
            match state.end {
                Some(End::Complete) => return Ok(None),
                Some(End::Aborted) => return Err(Aborted),
                None => state = self.0.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The async side gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aborted;

impl Drop for PipeReader {
    fn drop(&mut self) {
        lock(&self.0.state).reader_gone = true;
        self.0.drained.wake();
    }
}
