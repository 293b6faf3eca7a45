//! Asks the content cache of an archive for the files of an extraction, a few at a time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures_channel::oneshot;
use futures_util::{StreamExt as _, stream};

use super::link::{Job, Link};
use super::run::Prepared;
use super::select::Placed;
use crate::cache::{Alarm, Cache, CacheError, Turn};
use crate::codec::SMALL;
use crate::digest::Digest;
use crate::source::{ByteSource, ByteSourceExt as _, MemorySource};

/// How many files are looked up or written at a time; it bounds the open files.
const ASKED: usize = 32;

/// After this many failures the cache is left alone: each of them may have taken long.
const GIVE_UP: usize = 8;

/// Hands what the cache has to the threads, and tells the files that it lacks or has wrong. Nobody gets an answer when
/// everything was stopped. The turn to fetch the rest is the caller's to keep.
pub(super) async fn ask(link: &Arc<Link>, prepared: &Prepared, missed: oneshot::Sender<Vec<Placed>>) -> Option<Turn> {
    let options = prepared.tree.archive.options();
    let cache = options.cache.as_ref()?;
    let asking = Asking { link, prepared, cache, failures: AtomicUsize::new(0) };
    let mut lacking = stoppable(link, asking.lacking((0..prepared.plan.asked.len()).collect())).await?;
    let mut turn = None;
    if let Some(turns) = options.turns.as_ref().filter(|_| !lacking.is_empty()) {
        let taken = stoppable(link, turns.turn(prepared.source().id())).await?;
        if taken.waited {
            lacking = stoppable(link, asking.lacking(lacking)).await?;
        }
        turn = Some(taken).filter(|_| !lacking.is_empty());
    }
    // What the cache was not asked for has no stored bytes, and has to be written too.
    let is_empty = |placed: &Placed| prepared.tree.entry(*placed).data_size() == 0;
    let mut rest: Vec<Placed> = prepared.tree.files.iter().copied().filter(is_empty).collect();
    for group in lacking {
        rest.extend(&prepared.plan.files[prepared.plan.asked[group].clone()]);
    }
    // The threads may have stopped.
    let _ = missed.send(rest);
    turn
}

/// What `future` yields, or `None` when everything was stopped.
pub(super) async fn stoppable<T>(link: &Link, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        link.watch(cx);
        if link.is_cancelled() { Poll::Ready(None) } else { future.as_mut().poll(cx).map(Some) }
    })
    .await
}

struct Asking<'a> {
    link: &'a Link,
    prepared: &'a Prepared,
    cache: &'a Arc<dyn Cache>,
    failures: AtomicUsize,
}

impl Asking<'_> {
    /// Those of `groups` that were not written from the cache.
    async fn lacking(&self, groups: Vec<usize>) -> Vec<usize> {
        let asked = stream::iter(groups).map(|at| async move { (at, self.is_written(at).await) }).buffered(ASKED);
        asked.filter_map(|(at, written)| std::future::ready((!written).then_some(at))).collect().await
    }

    /// Whether the files of a group were written from the cache.
    async fn is_written(&self, at: usize) -> bool {
        let plan = &self.prepared.plan;
        let entry = self.prepared.tree.entry(plan.files[plan.asked[at].start]);
        let (digest, size) = (entry.digest(), entry.original_size());
        let Some(content) = self.look_up(&digest, size).await else { return false };
        let (right, answered) = oneshot::channel();
        self.link.push(Job::Cached { at, content, right });
        match answered.await {
            Ok(true) => true,
            Ok(false) => {
                self.forget(&digest).await;
                false
            }
            // Everything was stopped.
            Err(oneshot::Canceled) => false,
        }
    }

    /// What the cache has, if a thread can read it without waiting for anybody. Contents of more than 8 MiB that are
    /// elsewhere are fetched with everything else, as streams.
    async fn look_up(&self, digest: &Digest, size: u64) -> Option<Arc<dyn ByteSource>> {
        if self.failures.load(Ordering::Relaxed) >= GIVE_UP {
            return None;
        }
        let found = match self.cache.get(digest).await {
            Ok(found) => found?,
            Err(error) => return self.failed(digest, &error),
        };
        if found.size() != size {
            let got = found.size();
            let why = format!("it has {got} bytes rather than {size}");
            self.alarm().raise(format_args!("{digest}: the content cache cannot be used"), why);
            self.forget(digest).await;
            return None;
        }
        if found.local().is_some() {
            return Some(found);
        }
        if size > SMALL {
            return None;
        }
        match found.read(0..size).await {
            Ok(bytes) => Some(Arc::new(MemorySource::with_id(bytes, (*digest).into()))),
            Err(error) => self.failed(digest, &error),
        }
    }

    fn alarm(&self) -> &Alarm {
        &self.prepared.tree.archive.options().alarm
    }

    fn failed<T>(&self, digest: &Digest, error: &(dyn std::error::Error + 'static)) -> Option<T> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.alarm().failed(format_args!("{digest}: asking for it in the content cache failed"), error);
        None
    }

    async fn forget(&self, digest: &Digest) {
        if let Err(error) = self.cache.remove(digest).await {
            let error: &CacheError = &error;
            self.failed::<()>(digest, error);
        }
    }
}
