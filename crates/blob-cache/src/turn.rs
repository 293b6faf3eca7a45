//! One process after the other: what several of them want at the same time is fetched by one, and found in the cache by
//! the others.
//!
//! The turn is a lock on a file below `tmp/`, named by what is fetched, so that it ends with its process. The file stays
//! for a minute and tells those who come a moment too late that somebody was here: what they looked for in vain may have
//! come into the cache since. Whose turn it is touches the file again and again; when that stops, the process is stopped,
//! and the one that waits goes on without. It does so in the end in any case.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use blob_core::{SourceId, Turn, Turns};

use crate::dir::CacheDir;
use crate::layout;
use crate::lock::FileLock;

/// How often somebody who waits looks again.
const STEP: Duration = Duration::from_millis(10);

/// How long the file may stay untouched before its holder counts as stopped: 10 seconds.
const STUCK: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(10) };

/// How often the holder touches it.
const BEAT: Duration = Duration::from_millis(STUCK.as_millis() as u64 / 5);

/// How long anybody waits at most: 30 minutes.
const LONGEST: Duration = Duration::from_mins(30);

/// What names of turns begin with; 32 digits follow.
const PREFIX: &str = "turn-";

/// Whether `name` is that of a turn.
pub(crate) fn is_name(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Turns for CacheDir {
    async fn turn(&self, what: &SourceId) -> Turn {
        let name = format!("{PREFIX}{}", &blake3::hash(what.as_str().as_bytes()).to_hex()[..32]);
        let path = self.root().join(layout::TMP).join(name);
        let mut waited = path.exists();
        let started = Instant::now();
        let mut seen = (touched(&path), started);
        loop {
            match FileLock::acquire(&path, Duration::ZERO) {
                Ok(lock) => return Turn { waited, guard: Box::new(Held::new(lock)) },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A cache that cannot be written is of no use to the others either.
                Err(_) => return Turn { waited, guard: Box::new(()) },
            }
            // The clock of a file server may be another one: it is changes that count, not times.
            let now = touched(&path);
            if now != seen.0 {
                seen = (now, Instant::now());
            }
            let lost = seen.1.elapsed() > STUCK || started.elapsed() > LONGEST;
            if lost || !waited_a_step().await {
                tracing::debug!(%what, "somebody else fetches this and does not get anywhere; going on");
                return Turn { waited, guard: Box::new(()) };
            }
            waited = true;
        }
    }
}

/// Waits for a moment, in any runtime of tokio, with or without a clock. Outside of one nobody can wait: `false`.
async fn waited_a_step() -> bool {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return false };
    runtime.spawn_blocking(|| std::thread::sleep(STEP)).await.is_ok()
}

/// When the file was touched last.
fn touched(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// A turn that is had: the lock, and a thread that touches its file until this is dropped.
struct Held {
    _lock: FileLock,
    _alive: mpsc::Sender<()>,
}

impl Held {
    fn new(lock: FileLock) -> Self {
        let (alive, dropped) = mpsc::channel::<()>();
        if let Ok(file) = lock.file().try_clone() {
            let touch = move || {
                let _ = file.set_modified(SystemTime::now());
                while dropped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                    let _ = file.set_modified(SystemTime::now());
                }
            };
            // Without the thread others wait for 10 seconds only.
            let _ = std::thread::Builder::new().name("blob-cache-turn".into()).spawn(touch);
        }
        Self { _lock: lock, _alive: alive }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::CacheOptions;

    fn cache(place: &Path) -> CacheDir {
        CacheDir::open(place.join("cache"), CacheOptions::default()).unwrap()
    }

    fn file_of(dir: &CacheDir) -> std::path::PathBuf {
        let names = std::fs::read_dir(dir.root().join(layout::TMP)).unwrap();
        names.map(|entry| entry.unwrap()).find(|entry| is_name(entry.file_name().to_str().unwrap())).unwrap().path()
    }

    #[tokio::test]
    async fn turns_are_taken_one_after_the_other() {
        let place = tempfile::tempdir().unwrap();
        let dir = cache(place.path());
        let (what, other) = (SourceId::new("a"), SourceId::new("b"));
        let first = dir.turn(&what).await;
        assert!(!first.waited && !dir.turn(&other).await.waited);
        let again = cache(place.path());
        let second = tokio::spawn(async move { again.turn(&SourceId::new("a")).await.waited });
        // Longer than a holder may be silent: this one is not.
        tokio::time::sleep(STUCK * 3).await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        assert!(dir.turn(&what).await.waited, "somebody was here a moment ago");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_process_that_is_stopped_whatever_others_store() {
        let place = tempfile::tempdir().unwrap();
        let dir = cache(place.path());
        let what = SourceId::new("a");
        drop(dir.turn(&what).await);
        // A lock that nobody keeps alive.
        let _stopped = FileLock::acquire(&file_of(&dir), STUCK * 10).unwrap();
        let usage = std::fs::File::options().write(true).open(dir.root().join(layout::USAGE)).unwrap();
        let busy = tokio::spawn(async move {
            loop {
                usage.set_modified(SystemTime::now()).unwrap();
                tokio::time::sleep(STEP).await;
            }
        });
        assert!(dir.turn(&what).await.waited);
        busy.abort();
    }

    #[test]
    fn a_runtime_without_a_clock_will_do() {
        let place = tempfile::tempdir().unwrap();
        let dir = cache(place.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let what = SourceId::new("a");
            drop(dir.turn(&what).await);
            let _stopped = FileLock::acquire(&file_of(&dir), STUCK * 10).unwrap();
            assert!(dir.turn(&what).await.waited);
        });
    }
}
