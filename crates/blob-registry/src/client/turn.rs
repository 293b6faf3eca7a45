//! Taking turns at something that a registry cannot change in one step: within this process always, and with other
//! processes of this machine where a directory for locks is known.
//!
//! The locks are advisory and fall when their process does, however it ends. There is a fixed number of them, so they
//! need no clean-up: two things that share one wait for each other now and then, and nothing is wrong with that.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use blob_core::Digest;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

/// How many locks there are.
const LOCKS: usize = 256;

/// Whoever holds a lock for longer is not waited for: what is behind it is checked after the write anyway.
const PATIENCE: Duration = Duration::from_mins(1);

/// A turn; it ends when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _process: MutexGuard<'static, ()>,
    _machine: Option<File>,
}

/// Waits for a turn at `subject`, which names what is changed.
pub(super) async fn take(directory: Option<&Path>, subject: &str) -> Turn {
    let number = usize::from(Digest::sha256_of(subject.as_bytes()).as_bytes()[0]) % LOCKS;
    let process = of_process(number).lock().await;
    let machine = match directory {
        Some(directory) => of_machine(directory.join(format!("{number:02x}.lock"))).await,
        None => None,
    };
    Turn { _process: process, _machine: machine }
}

fn of_process(number: usize) -> &'static Mutex<()> {
    static ALL: OnceLock<Vec<Mutex<()>>> = OnceLock::new();
    &ALL.get_or_init(|| (0..LOCKS).map(|_| Mutex::new(())).collect())[number]
}

/// Locks the file at `path`; `None` if that cannot be done or takes too long.
async fn of_machine(path: PathBuf) -> Option<File> {
    let shown = path.display().to_string();
    let begin = Instant::now();
    let file = match tokio::task::spawn_blocking(move || open(&path)).await {
        Ok(Ok(file)) => file,
        Ok(Err(error)) => {
            tracing::warn!(path = shown, %error, "going on without a lock");
            return None;
        }
        Err(_) => return None,
    };
    loop {
        // Never waits, so it need not leave this thread.
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {}
            Err(error) => {
                tracing::warn!(path = shown, %error, "going on without a lock");
                return None;
            }
        }
        sleep(Duration::from_millis(2 + RandomState::new().hash_one(0) % 20)).await;
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory)?;
    }
    File::options().write(true).create(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let inside = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (inside, directory) = (Arc::clone(&inside), directory.path().join("locks"));
                tokio::spawn(async move {
                    let _turn = take(Some(&directory), "subject").await;
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // Another process would have a handle of its own, as this has.
        let turn = take(Some(&directory.path().join("locks")), "subject").await;
        let name = fs::read_dir(directory.path().join("locks")).unwrap().next().unwrap().unwrap().path();
        assert!(matches!(open(&name).unwrap().try_lock(), Err(TryLockError::WouldBlock)));
        drop(turn);
        assert!(open(&name).unwrap().try_lock().is_ok());
    }

    #[tokio::test]
    async fn without_a_place_for_locks_it_goes_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(of_machine(file.path().join("00.lock")).await.is_none());
        drop(take(Some(file.path()), "subject").await);
        drop(take(None, "subject").await);
    }
}
