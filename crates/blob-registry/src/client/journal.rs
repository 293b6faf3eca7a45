//! What an upload leaves behind for the process after this one: where its session is and how far it got.
//!
//! One small file for each blob under way, named by registry, repository and digest, readable by its owner only: the
//! location of a session may authorise whoever has it. The digest names the content, so a changed source has another
//! file; what nobody took up for a week is removed. A lock keeps two processes from using one session. A journal that
//! fails costs its benefit, never the push.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blob_core::Digest;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::reference::Repository;

/// Sessions are forgotten by registries, most often within a day or a week.
const MAX_AGE: Duration = Duration::from_hours(7 * 24);

/// More files are not looked at when old ones are removed.
const MAX_SWEPT: usize = 1000;

/// A longer record is none of ours.
const MAX_BYTES: u64 = 64 << 10;

/// A directory of records.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    dir: Arc<Path>,
}

/// Whose upload it is.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) host: String,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u32,
    host: String,
    repository: String,
    digest: Digest,
    size: u64,
    /// The newest location of the session.
    pub(super) location: String,
    /// Bytes that the registry said it has.
    pub(super) offset: u64,
}

/// The record of one upload, held by this process.
#[derive(Debug)]
pub(super) struct Entry {
    key: Key,
    path: PathBuf,
    _lock: File,
}

impl Journal {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir: dir.into() }
    }

    /// Takes hold of the record for `key`, and reads it if there is one. `None` if another process has it, or if the
    /// directory cannot be used.
    pub(super) async fn open(&self, key: Key) -> Option<(Entry, Option<Record>)> {
        let journal = self.clone();
        let opened =
            spawn_blocking(move || journal.open_now(key)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        opened.unwrap_or_else(|error| {
            tracing::warn!(dir = %self.dir.display(), %error, "the upload cannot be written down; interrupted, it will begin anew");
            None
        })
    }

    fn open_now(&self, key: Key) -> io::Result<Option<(Entry, Option<Record>)>> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        builder.mode(0o700);
        builder.create(&self.dir)?;
        self.sweep();
        let name = Digest::sha256_of(format!("{}\n{}\n{}", key.host, key.repository, key.digest).as_bytes()).hex();
        let lock = private().write(true).create(true).truncate(false).open(self.dir.join(format!("{name}.lock")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let path = self.dir.join(format!("{name}.json"));
        let record = read(&path, &key);
        Ok(Some((Entry { key, path, _lock: lock }, record)))
    }

    /// Removes what nobody will take up.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.take(MAX_SWEPT).flatten() {
            let path = entry.path();
            let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
            let ours = path.extension().is_some_and(|kind| kind == "json" || kind == "lock" || kind == "new");
            if ours && age.is_some_and(|age| age > MAX_AGE) {
                // Another process may have done it.
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl Entry {
    /// Writes down where the session is and how many bytes it holds.
    pub(super) async fn save(&self, location: &str, offset: u64) {
        let record = Record {
            version: 1,
            host: self.key.host.clone(),
            repository: self.key.repository.to_string(),
            digest: self.key.digest,
            size: self.key.size,
            location: location.to_owned(),
            offset,
        };
        let path = self.path.clone();
        let written = spawn_blocking(move || {
            let fresh = path.with_extension(format!("{}.new", stamp()));
            let mut file = private().write(true).create_new(true).open(&fresh)?;
            file.write_all(&serde_json::to_vec(&record).map_err(io::Error::other)?)?;
            fs::rename(fresh, path)
        });
        if let Err(error) = written.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(%error, "the upload cannot be written down; interrupted, it will begin anew");
        }
    }

    /// Removes the record: there is nothing to take up.
    pub(super) async fn clear(self) {
        let path = self.path.clone();
        let removed = spawn_blocking(move || {
            let lock = path.with_extension("lock");
            fs::remove_file(path).and(fs::remove_file(lock))
        });
        // It may never have been written.
        drop(removed.await);
    }
}

/// Files for their owner's eyes.
fn private() -> OpenOptions {
    #[allow(unused_mut)] // only Unix has modes
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    options.mode(0o600);
    options
}

/// Makes names that differ within this machine.
fn stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}

fn read(path: &Path, key: &Key) -> Option<Record> {
    if fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let same = record.host == key.host && record.repository == key.repository.as_str() && record.digest == key.digest;
    (record.version == 1 && same && record.size == key.size && record.offset <= key.size).then_some(record)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(content: &str) -> Key {
        let digest = Digest::sha256_of(content.as_bytes());
        Key { host: "host".into(), repository: Repository::new("a/b").unwrap(), digest, size: content.len() as u64 }
    }

    #[tokio::test]
    async fn records_are_found_again_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path().join("new/uploads"));
        let (entry, found) = journal.open(key("content")).await.unwrap();
        assert!(found.is_none());
        entry.save("http://host/1", 3).await;
        entry.save("http://host/2", 5).await;
        assert!(journal.open(key("content")).await.is_none(), "it is in use");
        assert!(journal.open(key("other")).await.unwrap().1.is_none());
        drop(entry);
        let (entry, found) = journal.open(key("content")).await.unwrap();
        let found = found.unwrap();
        assert_eq!((found.location.as_str(), found.offset), ("http://host/2", 5));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&entry.path), mode(&journal.dir)), (0o600, 0o700));
        }
        entry.clear().await;
        assert!(journal.open(key("content")).await.unwrap().1.is_none());
    }

    #[tokio::test]
    async fn records_of_something_else_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path().to_owned());
        for damage in ["", "{", "{\"version\":2}"] {
            let (entry, _) = journal.open(key("content")).await.unwrap();
            entry.save("http://host/1", 3).await;
            fs::write(&entry.path, damage).unwrap();
            drop(entry);
            assert!(journal.open(key("content")).await.unwrap().1.is_none(), "{damage}");
        }
        let unusable = dir.path().join("file");
        fs::write(&unusable, "").unwrap();
        assert!(Journal::new(unusable).open(key("content")).await.is_none());
    }
}
