//! The contract of content caches: verified bytes by digest.
//!
//! Only the contract lives here, so that readers can use any cache; `blob-cache` has the implementations.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::digest::Digest;
use crate::source::{ByteSource, SourceId};

/// A content-addressed cache: it may forget, it must not lie.
///
/// Readers treat every error as a miss, with one [warning](Alarm): a cache never fails a read. `conformance::cache` (feature
/// `conformance`) checks an implementation.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync {
    /// The content with `digest`, or `None`.
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError>;

    /// Starts to store `size` bytes under `digest`; `None` when the cache does not want them.
    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError>;

    /// Whether what [`get`](Self::get) gives was hashed already, here and in this process, and its streams end in an error
    /// if it changed since. Readers then do not hash it once more; to others they listen with suspicion.
    fn verifies(&self) -> bool {
        false
    }

    /// Forgets the content with `digest`; one that is absent is fine.
    async fn remove(&self, digest: &Digest) -> Result<(), CacheError>;
}

/// Content on its way into a cache. Dropping it aborts: nothing is stored.
#[async_trait]
pub trait CacheWriter: Send {
    /// Takes the next bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError>;

    /// Publishes the content, if it has the size and digest that were announced; otherwise an error, and nothing is
    /// stored.
    async fn commit(self: Box<Self>) -> Result<(), CacheError>;
}

/// Lets one process after the other fetch what all of them want, so that the others find it in the cache that they share.
///
/// A turn is economy and nothing else: whoever cannot have one goes on without.
#[async_trait]
pub trait Turns: fmt::Debug + Send + Sync {
    /// Waits until nobody else fetches `what`, or does not seem to get anywhere.
    async fn turn(&self, what: &SourceId) -> Turn;
}

/// The turn to fetch something. Dropping it lets the next one.
pub struct Turn {
    /// Whether somebody else had it meanwhile, or a moment ago: the cache may have more than before.
    pub waited: bool,
    /// Whatever ends the turn when it is dropped.
    pub guard: Box<dyn Send + Sync>,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("waited", &self.waited).finish_non_exhaustive()
    }
}

/// Tells that a cache fails, and that it gives something else than was asked for: with one warning for each of the two,
/// since a cache that does so once does so often. What comes after the first time is logged at debug level, and how often
/// it was in all at info level when the last clone goes.
///
/// Clones are the same alarm: whoever uses one cache in several places shares one.
///
/// ```
/// use blob_core::cache::Alarm;
///
/// let alarm = Alarm::default();
/// for path in ["a", "b"] {
///     alarm.raise(format_args!("asking the cache for {path} failed"), "connection refused");
/// }
/// assert_eq!(alarm.count(), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Alarm(Arc<Raised>);

#[derive(Debug, Default)]
struct Raised {
    lies: AtomicU64,
    failures: AtomicU64,
}

impl Alarm {
    /// Says that something was not what was asked for: `what`, of which object, and `why` that is known.
    pub fn raise(&self, what: impl fmt::Display, why: impl fmt::Display) {
        tell(&self.0.lies, what, why);
    }

    /// Says that `what` failed, with which object; why is the error and what caused it.
    pub fn failed(&self, what: impl fmt::Display, error: &(dyn Error + 'static)) {
        tell(&self.0.failures, what, Chain(error));
    }

    /// How many times it was raised, for either.
    pub fn count(&self) -> u64 {
        self.0.lies.load(Ordering::Relaxed) + self.0.failures.load(Ordering::Relaxed)
    }
}

fn tell(times: &AtomicU64, what: impl fmt::Display, why: impl fmt::Display) {
    if times.fetch_add(1, Ordering::Relaxed) == 0 {
        tracing::warn!(%why, "{what} (said once)");
    } else {
        tracing::debug!(%why, "{what}");
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let (lies, failures) = (*self.lies.get_mut(), *self.failures.get_mut());
        if lies > 1 || failures > 1 {
            tracing::info!(lies, failures, "a cache failed or gave something else again and again");
        }
    }
}

/// An error and its causes, in one line.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A cache failed; the read goes on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// What was written is not what was announced.
    #[error("content for {digest} does not match: {detail}")]
    Mismatch {
        /// The digest that was announced.
        digest: Digest,
        /// What differs, expected and got.
        detail: String,
    },
    /// The store behind the cache failed.
    #[error("{action}")]
    Backend {
        /// What was being done, to what.
        action: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}
