//! What an upload leaves behind for the process after this one: where its session is and how far it got.
//!
//! One small file for each blob under way, named by registry, repository and content, readable by its owner only: the
//! location of a session may authorise whoever has it. Content is named by its digest, or, where that is computed while it
//! is sent, by the place it comes from; the record then has the state of the hash, and says which version of that place
//! it is about. What nobody took up for a week is removed. A lock keeps two processes from using one session. A journal
//! that fails costs its benefit, never the push.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blob_core::{Algorithm, Digest, Hasher};
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
    /// Where the content comes from: the digest, or the name of a place.
    pub(super) place: String,
    /// Which content it is: the digest, or the identity of what is at that place.
    pub(super) content: String,
    pub(super) size: u64,
}

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    host: String,
    repository: String,
    place: String,
    content: String,
    size: u64,
    #[serde(flatten)]
    standing: Standing,
}

/// Where a session stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Standing {
    /// The newest location of the session.
    pub(super) location: String,
    /// Bytes that the registry said it has.
    pub(super) offset: u64,
    /// What the content was hashed to so far, if its digest is computed on the way.
    pub(super) hash: Option<Hashed>,
}

/// The state of a hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hashed {
    /// Which version of this library wrote it: another one might keep its states otherwise.
    by: String,
    /// How many bytes it took in.
    at: u64,
    /// In hexadecimal.
    state: String,
}

impl Hashed {
    fn new(at: u64, hasher: &Hasher) -> Self {
        let mut state = String::new();
        for byte in hasher.state() {
            state.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
        }
        Self { by: env!("CARGO_PKG_VERSION").to_owned(), at, state }
    }

    /// The hash, and how many bytes it took in; `None` if it cannot be gone on with.
    pub(super) fn resume(&self, algorithm: Algorithm) -> Option<(Hasher, u64)> {
        let digits = self.state.as_bytes().chunks_exact(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let state: Option<Vec<u8>> = digits.map(byte).collect();
        let hasher = Hasher::from_state(algorithm, &state?)?;
        (self.by == env!("CARGO_PKG_VERSION")).then_some((hasher, self.at))
    }
}

/// What was found of an earlier process.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// An upload of the same content.
    Same(Standing),
    /// An upload of what was at the same place before; its session is of no use any more.
    Other(Standing),
}

/// The record of one upload, held by this process.
#[derive(Debug)]
pub(super) struct Entry {
    key: Key,
    path: PathBuf,
    /// `None` once there is nothing to take up.
    standing: Mutex<Option<Standing>>,
    _lock: File,
}

impl Journal {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir: dir.into() }
    }

    /// Takes hold of the record for `key`, and reads it if there is one. `None` if another process has it, or if the
    /// directory cannot be used.
    pub(super) async fn open(&self, key: Key) -> Option<(Arc<Entry>, Found)> {
        let journal = self.clone();
        let opened =
            spawn_blocking(move || journal.open_now(key)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        opened.unwrap_or_else(|error| {
            tracing::warn!(dir = %self.dir.display(), %error, "the upload cannot be written down; interrupted, it will begin anew");
            None
        })
    }

    fn open_now(&self, key: Key) -> io::Result<Option<(Arc<Entry>, Found)>> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        builder.mode(0o700);
        builder.create(&self.dir)?;
        self.sweep();
        let name = Digest::sha256_of(format!("{}\n{}\n{}", key.host, key.repository, key.place).as_bytes()).hex();
        let Some(lock) = claim(&self.dir.join(format!("{name}.lock")))? else { return Ok(None) };
        let path = self.dir.join(format!("{name}.json"));
        let found = read(&path, &key);
        let standing = Mutex::new(Some(Standing::default()));
        Ok(Some((Arc::new(Entry { key, path, standing, _lock: lock }), found)))
    }

    /// Removes what nobody will take up.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.take(MAX_SWEPT).flatten() {
            // Of a link, what it is itself. Other names, and what is no file, are somebody else's.
            let Some(data) = entry.metadata().ok().filter(fs::Metadata::is_file) else { continue };
            let age = data.modified().ok().and_then(|time| time.elapsed().ok());
            if !is_ours(&entry.file_name()) || age.is_none_or(|age| age <= MAX_AGE) {
                continue;
            }
            let path = entry.path();
            let is_lock = path.extension().is_some_and(|kind| kind == "lock");
            // A lock is held until its file is gone: nobody else has the session then.
            let claimed = if is_lock { claim(&path).ok().flatten() } else { None };
            if !is_lock || claimed.is_some() {
                // Another process may have done it.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Takes a lock, which is young again then. `None` if another process has it.
fn claim(path: &Path) -> io::Result<Option<File>> {
    // Whoever is done removes the file: one that was opened before and is locked after that is nobody's lock.
    for _ in 0..8 {
        let lock = private().write(true).create(true).truncate(false).open(path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        if is_named(&lock, path) {
            lock.set_modified(SystemTime::now())?;
            return Ok(Some(lock));
        }
    }
    Ok(None)
}

/// Whether the file that was opened is the one that has the name now.
#[cfg(unix)]
fn is_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(own), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (own.ino(), own.dev()) == (named.ino(), named.dev())
}

/// Elsewhere files that are open keep their names.
#[cfg(not(unix))]
fn is_named(_: &File, _: &Path) -> bool {
    true
}

/// Whether a file has a name that this module gives: `<64 digits>.json`, `.lock`, or `.<stamp>.new`.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    let Some((digits, rest)) = name.to_str().and_then(|name| name.split_once('.')) else { return false };
    let digest = digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    digest && (matches!(rest, "json" | "lock") || rest.strip_suffix(".new").is_some())
}

impl Entry {
    /// Writes down where the session is and how many bytes it holds.
    pub(super) async fn save(self: &Arc<Self>, location: &str, offset: u64) {
        let (entry, location) = (Arc::clone(self), location.to_owned());
        let written = spawn_blocking(move || {
            entry.update(|standing| {
                standing.location = location;
                standing.offset = offset;
            });
        });
        // A panic of the task has been reported.
        drop(written.await);
    }

    /// Writes down what the first `at` bytes were hashed to; blocks.
    pub(super) fn save_hash(&self, at: u64, hasher: &Hasher) {
        self.update(|standing| standing.hash = Some(Hashed::new(at, hasher)));
    }

    fn standing(&self) -> MutexGuard<'_, Option<Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Standing)) {
        // Held while it is written, so that what is newer is written later.
        let mut held = self.standing();
        let Some(standing) = held.as_mut() else { return };
        change(standing);
        if let Err(error) = self.write(standing) {
            tracing::warn!(%error, "the upload cannot be written down; interrupted, it will begin anew");
        }
    }

    fn write(&self, standing: &Standing) -> io::Result<()> {
        let record = Record {
            version: 2,
            host: self.key.host.clone(),
            repository: self.key.repository.to_string(),
            place: self.key.place.clone(),
            content: self.key.content.clone(),
            size: self.key.size,
            standing: standing.clone(),
        };
        let fresh = self.path.with_extension(format!("{}.new", stamp()));
        let mut file = private().write(true).create_new(true).open(&fresh)?;
        file.write_all(&serde_json::to_vec(&record).map_err(io::Error::other)?)?;
        fs::rename(fresh, &self.path)
    }

    /// Removes the record: there is nothing to take up.
    pub(super) async fn clear(self: Arc<Self>) {
        let removed = spawn_blocking(move || {
            let mut standing = self.standing();
            *standing = None;
            let lock = self.path.with_extension("lock");
            fs::remove_file(&self.path).and(fs::remove_file(lock))
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

fn read(path: &Path, key: &Key) -> Found {
    let record = || -> Option<Record> {
        if fs::metadata(path).ok()?.len() > MAX_BYTES {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    };
    let Some(record) = record().filter(|record| record.version == 2) else { return Found::Nothing };
    let same = record.host == key.host && record.repository == key.repository.as_str() && record.place == key.place;
    match record.standing {
        _ if !same => Found::Nothing,
        standing if record.content != key.content || record.size != key.size => Found::Other(standing),
        standing if standing.offset > key.size => Found::Nothing,
        standing => Found::Same(standing),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(content: &str) -> Key {
        let digest = Digest::sha256_of(content.as_bytes()).to_string();
        let (host, repository) = ("host".into(), Repository::new("a/b").unwrap());
        Key { host, repository, place: digest.clone(), content: digest, size: content.len() as u64 }
    }

    async fn open(journal: &Journal, key: Key) -> (Arc<Entry>, Option<Standing>) {
        match journal.open(key).await.unwrap() {
            (entry, Found::Same(standing)) => (entry, Some(standing)),
            (entry, _) => (entry, None),
        }
    }

    #[tokio::test]
    async fn records_are_found_again_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path().join("new/uploads"));
        let (entry, found) = open(&journal, key("content")).await;
        assert!(found.is_none());
        entry.save("http://host/1", 3).await;
        entry.save("http://host/2", 5).await;
        assert!(journal.open(key("content")).await.is_none(), "it is in use");
        assert!(open(&journal, key("other")).await.1.is_none());
        drop(entry);
        let (entry, found) = open(&journal, key("content")).await;
        let found = found.unwrap();
        assert_eq!((found.location.as_str(), found.offset), ("http://host/2", 5));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&entry.path), mode(&journal.dir)), (0o600, 0o700));
        }
        Arc::clone(&entry).clear().await;
        entry.save("http://host/3", 6).await;
        drop(entry);
        assert!(open(&journal, key("content")).await.1.is_none(), "what is cleared is not written again");
    }

    #[tokio::test]
    async fn what_is_old_and_ours_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path().to_owned());
        let digits = Digest::sha256_of(b"x").hex();
        let ours = [format!("{digits}.json"), format!("{digits}.lock"), format!("{digits}.1-2.new")];
        let (kept, _) = open(&journal, key("in use")).await;
        kept.save("http://host/1", 3).await;
        let held = kept.path.with_extension("lock").file_name().unwrap().to_str().unwrap().to_owned();
        let (short, upper) = (format!("{}.json", &digits[1..]), format!("{}.json", digits.to_uppercase()));
        let others = ["settings.json", "app.lock", "draft.new", &short, &upper, &format!("{digits}.txt"), &held];
        let old = SystemTime::now() - MAX_AGE - Duration::from_mins(1);
        for name in ours.iter().map(String::as_str).chain(others) {
            let file = private().write(true).create(true).truncate(false).open(dir.path().join(name)).unwrap();
            file.set_modified(old).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink("settings.json", dir.path().join(format!("{}.json", "0".repeat(64)))).unwrap();
        drop(open(&journal, key("another")).await);
        assert!(ours.iter().all(|name| !dir.path().join(name).exists()));
        assert!(others.iter().all(|name| dir.path().join(name).exists()), "and the lock is in use");
        #[cfg(unix)]
        assert!(dir.path().join(format!("{}.json", "0".repeat(64))).exists());
    }

    /// Whoever waits for a lock and whoever finds none after it was removed do not both have it.
    #[tokio::test]
    async fn a_lock_that_was_removed_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let first = claim(&path).unwrap().unwrap();
        let late = private().write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        drop(first);
        late.try_lock().unwrap();
        assert!(!is_named(&late, &path));
        let second = claim(&path).unwrap().unwrap();
        assert!(is_named(&second, &path) && claim(&path).unwrap().is_none());
    }

    #[tokio::test]
    async fn records_of_something_else_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path().to_owned());
        for damage in ["", "{", "{\"version\":2}"] {
            let (entry, _) = open(&journal, key("content")).await;
            entry.save("http://host/1", 3).await;
            fs::write(&entry.path, damage).unwrap();
            drop(entry);
            assert!(open(&journal, key("content")).await.1.is_none(), "{damage}");
        }
        let unusable = dir.path().join("file");
        fs::write(&unusable, "").unwrap();
        assert!(Journal::new(unusable).open(key("content")).await.is_none());
    }

    #[tokio::test]
    async fn the_state_of_a_hash_is_kept_and_what_became_of_its_place_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path().to_owned());
        let at_place = |content: &str| Key { place: "/a/file".into(), content: content.into(), ..key("content") };
        let (entry, _) = open(&journal, at_place("first")).await;
        let mut hasher = Hasher::sha256();
        hasher.update(b"con");
        entry.save("http://host/1", 2).await;
        entry.save_hash(3, &hasher);
        drop(entry);
        let (entry, found) = open(&journal, at_place("first")).await;
        let hashed = found.unwrap().hash.unwrap();
        let (mut hasher, at) = hashed.resume(Algorithm::Sha256).unwrap();
        hasher.update(b"tent");
        assert_eq!((hasher.finish(), at), (Digest::sha256_of(b"content"), 3));
        assert!(hashed.resume(Algorithm::Sha512).is_none());
        assert!(Hashed { by: "0.0.0".into(), ..hashed }.resume(Algorithm::Sha256).is_none());
        drop(entry);
        let (_, found) = journal.open(at_place("second")).await.unwrap();
        assert!(matches!(found, Found::Other(standing) if standing.location == "http://host/1"));
    }
}
