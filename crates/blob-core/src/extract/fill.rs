//! Keeps what was fetched and verified in the content cache of the archive.
//!
//! Threads hand content over, at most [`LIMIT`] bytes at a time; the async side stores it while more is fetched. The
//! first failure ends it, with a warning: the extraction goes on without.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;

use crate::cache::{Alarm, Cache, CacheError};
use crate::digest::Digest;

/// How many bytes wait to be stored: 16 MiB. Threads wait for room; larger contents pass alone.
const LIMIT: u64 = 16 << 20;

/// How many whole contents are stored at a time.
const STORED: usize = 8;

/// Between the threads and the cache.
#[derive(Debug, Default)]
pub(super) struct Fill {
    state: Mutex<State>,
    /// Threads wait here for room.
    room: Condvar,
    /// The async side waits here for content, and for the end.
    waker: AtomicWaker,
    alarm: Alarm,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Piece>,
    held: u64,
    /// No more will come.
    closed: bool,
    /// No more is wanted.
    off: bool,
}

#[derive(Debug)]
enum Piece {
    Whole { digest: Digest, content: Bytes },
    Stream { digest: Digest, size: u64, parts: mpsc::UnboundedReceiver<Part> },
}

#[derive(Debug)]
enum Part {
    Chunk(Bytes),
    /// The content was complete and right.
    Commit,
}

impl Fill {
    /// Nothing yet; `alarm` tells of the cache's failures.
    pub(super) fn new(alarm: Alarm) -> Self {
        Self { alarm, ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes verified content in; waits for room. Blocks: for threads.
    pub(super) fn offer(&self, digest: Digest, content: &[u8]) {
        if !content.is_empty() && self.hold(content.len() as u64) {
            // A copy, since the bytes may be a small part of a large buffer.
            self.push(Piece::Whole { digest, content: Bytes::copy_from_slice(content) });
        }
    }

    /// Takes in content that is verified in the end.
    pub(super) fn stream(&self, digest: Digest, size: u64) -> Tee<'_> {
        let (sender, parts) = mpsc::unbounded();
        self.push(Piece::Stream { digest, size, parts });
        Tee { fill: self, sender: Some(sender) }
    }

    /// Waits for room for `bytes`; the answer is whether they are wanted.
    fn hold(&self, bytes: u64) -> bool {
        let mut state = self.state();
        while !state.off && state.held != 0 && state.held + bytes > LIMIT {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.held += bytes;
        !state.off
    }

    fn release(&self, bytes: u64) {
        self.state().held -= bytes;
        self.room.notify_all();
    }

    fn push(&self, piece: Piece) {
        let mut state = self.state();
        if !state.off {
            state.queue.push_back(piece);
            drop(state);
            self.waker.wake();
        }
    }

    /// Says that no more will come.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.waker.wake();
    }

    /// Takes nothing more in, and drops what waits.
    pub(super) fn stop(&self) {
        let waiting = {
            let mut state = self.state();
            state.off = true;
            std::mem::take(&mut state.queue)
        };
        drop(waiting);
        self.room.notify_all();
    }

    /// Stores what comes, until [`close`](Self::close).
    pub(super) async fn serve(&self, cache: &Arc<dyn Cache>) {
        let mut storing = FuturesUnordered::new();
        let mut wholes = 0;
        std::future::poll_fn(|cx| {
            loop {
                self.waker.register(cx.waker());
                // Streams wait for threads that may wait for room, so they never keep whole contents from being stored.
                while let Some(piece) = self.next(wholes < STORED) {
                    wholes += usize::from(matches!(piece, Piece::Whole { .. }));
                    storing.push(self.store(cache, piece));
                }
                match storing.poll_next_unpin(cx) {
                    Poll::Ready(Some((was_whole, result))) => {
                        wholes -= usize::from(was_whole);
                        if let Err(error) = result {
                            self.failed(&error);
                        }
                    }
                    Poll::Ready(None) if self.is_over() => return Poll::Ready(()),
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    /// What comes next, if it is a stream or a whole content is wanted.
    fn next(&self, whole: bool) -> Option<Piece> {
        let mut state = self.state();
        match state.queue.front()? {
            Piece::Whole { .. } if !whole => None,
            _ => state.queue.pop_front(),
        }
    }

    fn is_over(&self) -> bool {
        let state = self.state();
        state.closed && state.queue.is_empty()
    }

    fn failed(&self, error: &CacheError) {
        let first = !std::mem::replace(&mut self.state().off, true);
        if first {
            self.alarm.failed("storing in the content cache failed; nothing more of this extraction is stored", error);
        }
        self.stop();
    }

    fn store<'a>(&'a self, cache: &'a Arc<dyn Cache>, piece: Piece) -> BoxFuture<'a, (bool, Result<(), CacheError>)> {
        async move {
            match piece {
                Piece::Whole { digest, content } => {
                    let size = content.len() as u64;
                    let stored = store_whole(cache, &digest, content).await;
                    self.release(size);
                    (true, stored)
                }
                Piece::Stream { digest, size, parts } => (false, self.store_stream(cache, &digest, size, parts).await),
            }
        }
        .boxed()
    }

    async fn store_stream(
        &self,
        cache: &Arc<dyn Cache>,
        digest: &Digest,
        size: u64,
        mut parts: mpsc::UnboundedReceiver<Part>,
    ) -> Result<(), CacheError> {
        let mut result = cache.begin(digest, size).await;
        // Chunks are taken even if nobody wants them, since the thread waits for their room.
        while let Some(part) = parts.next().await {
            match part {
                Part::Chunk(chunk) => {
                    let length = chunk.len() as u64;
                    if let Ok(Some(writer)) = &mut result
                        && let Err(error) = writer.write(chunk).await
                    {
                        result = Err(error);
                    }
                    self.release(length);
                }
                Part::Commit => {
                    if let Some(writer) = result? {
                        writer.commit().await?;
                    }
                    return Ok(());
                }
            }
        }
        result.map(|_| ())
    }
}

async fn store_whole(cache: &Arc<dyn Cache>, digest: &Digest, content: Bytes) -> Result<(), CacheError> {
    let Some(mut writer) = cache.begin(digest, content.len() as u64).await? else { return Ok(()) };
    writer.write(content).await?;
    writer.commit().await
}

/// A content on its way into the cache. Dropped before [`commit`](Self::commit), nothing of it is kept.
#[derive(Debug)]
pub(super) struct Tee<'a> {
    fill: &'a Fill,
    sender: Option<mpsc::UnboundedSender<Part>>,
}

impl Tee<'_> {
    /// Takes the next bytes; waits for room. Blocks: for threads.
    pub(super) fn write(&mut self, content: &[u8]) {
        let Some(sender) = &self.sender else { return };
        let wanted = !content.is_empty() && self.fill.hold(content.len() as u64);
        if wanted && sender.unbounded_send(Part::Chunk(Bytes::copy_from_slice(content))).is_err() {
            self.sender = None;
        }
    }

    /// Says that the content was complete and right.
    pub(super) fn commit(self) {
        if let Some(sender) = self.sender {
            // Whoever would have stored it has given up.
            let _ = sender.unbounded_send(Part::Commit);
        }
    }
}
