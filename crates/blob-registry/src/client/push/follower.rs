//! Hashes content while it is sent, on a thread of its own.

use std::sync::Arc;

use blob_core::{ByteSource, ByteStream, Digest, Hasher, SourceError};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::super::journal::Entry;

/// How many chunks wait for the thread; those of files have 1 MiB.
const WAITING: usize = 8;

/// After so many bytes the state of the hash is written down: 16 MiB. That much a later process reads again at most, in
/// no more than the time in which it would be sent.
const SAVE_EVERY: u64 = 16 << 20;

/// Hashes bytes in order, whichever way and how often they are sent. Clones are the same.
#[derive(Clone, Debug)]
pub(in super::super) struct Follower {
    queue: mpsc::Sender<Task>,
    /// How many bytes it was given. Held while some are given: the body of a request that was answered early may still be
    /// read while the next one is.
    given: Arc<Mutex<u64>>,
}

#[derive(Debug)]
enum Task {
    Hash(Bytes),
    /// What everything until here comes to.
    Digest(oneshot::Sender<Digest>),
    /// Nothing more will be asked.
    End(oneshot::Sender<()>),
}

impl Follower {
    /// Goes on with `hasher`, which took in `at` bytes; the state is written down in `entry`.
    pub(super) fn start(hasher: Hasher, at: u64, entry: Option<Arc<Entry>>) -> Self {
        let (queue, tasks) = mpsc::channel(WAITING);
        // It ends when nobody can give it anything any more.
        spawn_blocking(move || work(tasks, (hasher, at), entry));
        Self { queue, given: Arc::new(Mutex::new(at)) }
    }

    /// Takes the bytes that begin at `at`, as far as it has not had them. Those behind a gap are left to
    /// [`catch_up`](Self::catch_up).
    async fn take(&self, at: u64, bytes: &Bytes) {
        let (mut given, end) = (self.given.lock().await, at + bytes.len() as u64);
        if at <= *given && end > *given {
            let fresh = bytes.slice((*given - at) as usize..);
            if self.queue.send(Task::Hash(fresh)).await.is_ok() {
                *given = end;
            }
        }
    }

    /// `stream`, whose first byte is the content's byte `at`, hashed as it goes by.
    pub(in super::super) fn watch(&self, stream: ByteStream, at: u64) -> ByteStream {
        let watching = (stream, self.clone(), at);
        futures_util::stream::try_unfold(watching, |(mut stream, follower, at)| async move {
            let Some(bytes) = stream.try_next().await? else { return Ok(None) };
            follower.take(at, &bytes).await;
            let at = at + bytes.len() as u64;
            Ok(Some((bytes, (stream, follower, at))))
        })
        .boxed()
    }

    /// Reads what it lacks of the first `end` bytes.
    pub(super) async fn catch_up(&self, source: &dyn ByteSource, end: u64) -> Result<(), SourceError> {
        let given = *self.given.lock().await;
        if given < end {
            let mut stream = self.watch(source.open(given..end).await?, given);
            while stream.try_next().await?.is_some() {}
        }
        Ok(())
    }

    /// Waits until everything that it was given is hashed and written down, and lets go of the journal. What is still
    /// sent by anybody is not hashed any more.
    pub(super) async fn end(self) {
        let (answer, ended) = oneshot::channel();
        if self.queue.send(Task::End(answer)).await.is_ok() {
            // It cannot be told when its thread is gone, which is as good.
            drop(ended.await);
        }
    }

    /// The digest of everything that it was given; `None` if its thread is gone, with the runtime.
    pub(super) async fn digest(&self) -> Option<Digest> {
        let (answer, digest) = oneshot::channel();
        self.queue.send(Task::Digest(answer)).await.ok()?;
        digest.await.ok()
    }
}

fn work(mut tasks: mpsc::Receiver<Task>, (mut hasher, mut at): (Hasher, u64), entry: Option<Arc<Entry>>) {
    let mut saved = at;
    while let Some(task) = tasks.blocking_recv() {
        match task {
            Task::Hash(bytes) => {
                hasher.update(&bytes);
                at += bytes.len() as u64;
                if let Some(entry) = &entry
                    && at - saved >= SAVE_EVERY
                {
                    entry.save_hash(at, &hasher);
                    saved = at;
                }
            }
            Task::Digest(answer) => {
                let _ = answer.send(hasher.clone().finish());
            }
            Task::End(answer) => {
                drop(entry);
                // Who asked may be gone.
                let _ = answer.send(());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use blob_core::MemorySource;

    #[tokio::test]
    async fn bytes_count_once_and_in_order_however_they_are_sent() {
        let content: Vec<u8> = (0..100_000_u32).map(|at| (at % 253) as u8).collect();
        let source = MemorySource::new(content.clone());
        let follower = Follower::start(Hasher::sha256(), 0, None);
        // The whole breaks after a part; a later attempt begins before, and one behind what was hashed.
        let read = async |range: std::ops::Range<u64>| {
            let (start, length) = (range.start, range.end - range.start);
            let chunks = (0..length).step_by(1000).map(|at| {
                let at = (start + at) as usize;
                Ok(Bytes::copy_from_slice(&content[at..(at + 1000).min(range.end as usize)]))
            });
            let stream = futures_util::stream::iter(chunks.collect::<Vec<_>>()).boxed();
            follower.watch(stream, start).try_collect::<Vec<_>>().await.unwrap();
        };
        read(0..30_000).await;
        read(10_500..40_000).await;
        follower.catch_up(&source, 60_000).await.unwrap();
        read(60_000..99_000).await;
        follower.catch_up(&source, 100_000).await.unwrap();
        assert_eq!(follower.digest().await, Some(Digest::sha256_of(&content)));
        assert_eq!(follower.digest().await, Some(Digest::sha256_of(&content)), "as often as one asks");
    }

    /// The transport goes on with a body that was answered early while the next one is on its way.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn bodies_that_are_read_at_the_same_time_are_hashed_once() {
        let content: Arc<Vec<u8>> = Arc::new((0..400_000_u32).map(|at| (at % 251) as u8).collect());
        for _ in 0..20 {
            let follower = Follower::start(Hasher::sha256(), 0, None);
            let bodies = (0..4_usize).map(|body| {
                let (follower, content) = (follower.clone(), Arc::clone(&content));
                tokio::spawn(async move {
                    let (start, step) = (body * 700, 900 + body * 130);
                    let chunks = (start..content.len())
                        .step_by(step)
                        .map(|at| Ok(Bytes::copy_from_slice(&content[at..(at + step).min(content.len())])));
                    let stream = futures_util::stream::iter(chunks.collect::<Vec<_>>()).boxed();
                    follower.watch(stream, start as u64).try_for_each(|_| async { Ok(()) }).await.unwrap();
                })
            });
            for body in bodies.collect::<Vec<_>>() {
                body.await.unwrap();
            }
            // A body that began behind a gap may have left one.
            follower.catch_up(&MemorySource::new(content.to_vec()), content.len() as u64).await.unwrap();
            assert_eq!(follower.digest().await, Some(Digest::sha256_of(&content)));
        }
    }
}
