//! One process after the other: what several of them want at the same time is fetched by one, and found in the cache by
//! the others.
//!
//! The turn is a lock on a file below `tmp/`, named by what is fetched, so that it ends with its process. The file stays
//! for a minute and tells those who come a moment too late that somebody was here: what they looked for in vain may have
//! come into the cache since. Whoever waits
//! looks at the counter file, which every store changes: when nothing has been stored for a while, the process whose turn
//! it is is stuck or stopped, and the one that waits goes on without.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use blob_core::{SourceId, Turn, Turns};

use crate::dir::CacheDir;
use crate::layout;
use crate::lock::FileLock;

/// How often somebody who waits looks again.
const STEP: Duration = Duration::from_millis(10);

/// How long nothing may have been stored before a turn counts as stuck: 10 seconds.
const STUCK: Duration = Duration::from_secs(10);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Turns for CacheDir {
    async fn turn(&self, what: &SourceId) -> Turn {
        let name = format!("turn-{}", &blake3::hash(what.as_str().as_bytes()).to_hex()[..32]);
        let path = self.root().join(layout::TMP).join(name);
        let started = Instant::now();
        let mut waited = path.exists();
        loop {
            match FileLock::acquire(&path, Duration::ZERO) {
                Ok(lock) => return Turn { waited, guard: Box::new(lock) },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A cache that cannot be written is of no use to the others either.
                Err(_) => return Turn { waited, guard: Box::new(()) },
            }
            let quiet = stored_last(&self.root().join(layout::USAGE)).min(started.elapsed());
            let has_clock = tokio::runtime::Handle::try_current().is_ok();
            if quiet > STUCK || !has_clock {
                tracing::debug!(%what, "somebody else fetches this and does not get anywhere; going on");
                return Turn { waited, guard: Box::new(()) };
            }
            waited = true;
            tokio::time::sleep(STEP).await;
        }
    }
}

/// How long ago the counter file was changed; a time from the future, or none, is long ago.
fn stored_last(usage: &Path) -> Duration {
    let changed = std::fs::metadata(usage).and_then(|meta| meta.modified());
    changed.ok().and_then(|changed| changed.elapsed().ok()).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::CacheOptions;

    #[tokio::test]
    async fn turns_are_taken_one_after_the_other() {
        let place = tempfile::tempdir().unwrap();
        let dir = CacheDir::open(place.path().join("cache"), CacheOptions::default()).unwrap();
        let (what, other) = (SourceId::new("a"), SourceId::new("b"));
        let first = dir.turn(&what).await;
        assert!(!first.waited && !dir.turn(&other).await.waited);
        let again = CacheDir::open(dir.root(), CacheOptions::default()).unwrap();
        let second = tokio::spawn(async move { again.turn(&SourceId::new("a")).await.waited });
        tokio::time::sleep(STEP * 5).await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        assert!(dir.turn(&what).await.waited, "somebody was here a moment ago");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_process_that_stores_nothing() {
        let place = tempfile::tempdir().unwrap();
        let dir = CacheDir::open(place.path().join("cache"), CacheOptions::default()).unwrap();
        assert_eq!(stored_last(&place.path().join("none")), Duration::MAX);
        assert!(stored_last(&dir.root().join(layout::USAGE)) < STUCK);
        let future = std::time::SystemTime::now() + Duration::from_secs(1000);
        let usage = std::fs::File::options().write(true).open(dir.root().join(layout::USAGE)).unwrap();
        usage.set_modified(future).unwrap();
        assert_eq!(stored_last(&dir.root().join(layout::USAGE)), Duration::MAX);
    }
}
