//! The partial file of a download, and beside it the journal that lets another process go on with it.
//!
//! The journal says which ranges of the partial file hold their bytes. It is written after the bytes, so it holds after
//! the death of the process at any point. A loss of power may take bytes that were not on the disk yet; therefore the
//! state of the hash is kept only for bytes that were, all others are hashed anew, and wrong ones show in the digest.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use blob_core::{Digest, Hasher};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A longer journal is none of ours.
const MAX_BYTES: u64 = 4 << 20;

/// How often a partial file is opened whose last owner gives it away meanwhile.
const CLAIMS: u32 = 8;

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    digest: Digest,
    size: u64,
    /// First byte and end of what is here, in order.
    finished: Vec<(u64, u64)>,
    /// How many bytes the state below took in, and the state in hexadecimal.
    hashed: u64,
    state: String,
}

/// A partial file that this process holds.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) file: File,
    path: PathBuf,
    /// `None` for a file that nobody takes up again.
    journal: Option<PathBuf>,
    digest: Digest,
    size: u64,
    done: AtomicBool,
}

/// What was found in a partial file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) finished: Vec<Range<u64>>,
    pub(super) hashed: u64,
    pub(super) hasher: Hasher,
}

impl Partial {
    /// Opens the partial file for `target`, and says what it holds. If another process holds it, or if `resume` is not
    /// wanted, a file of its own that vanishes with the value.
    pub(super) fn open(target: &Path, digest: Digest, size: u64, resume: bool) -> io::Result<(Self, Found)> {
        let nothing = Found { finished: Vec::new(), hashed: 0, hasher: Hasher::new(digest.algorithm()) };
        let hex = digest.hex();
        if resume {
            let path = beside(target, &format!(".{}.partial", &hex[..16]))?;
            if let Some(file) = claim(&path)? {
                let journal = beside(target, &format!(".{}.journal", &hex[..16]))?;
                let found = if file.metadata()?.len() == size { read(&journal, &digest, size) } else { None };
                let partial = Self { file, path, journal: Some(journal), digest, size, done: AtomicBool::new(false) };
                if found.is_none() {
                    // A journal must never speak of another file than the one it was written for.
                    partial.forget()?;
                    partial.reserve()?;
                }
                return Ok((partial, found.unwrap_or(nothing)));
            }
        }
        // Names of other attempts, alive or dead, are not touched.
        for attempt in 0_u32..1000 {
            let path = beside(target, &format!(".{}.{}-{attempt}.partial", &hex[..16], std::process::id()))?;
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let partial = Self { file, path, journal: None, digest, size, done: AtomicBool::new(false) };
                    partial.reserve()?;
                    return Ok((partial, nothing));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "all names for a partial file are taken"))
    }

    /// Writes down what is here. `state` is what the hash came to over the first bytes that are on the disk.
    pub(super) fn save(&self, finished: &[Range<u64>], hashed: u64, state: &[u8]) -> io::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let finished = finished.iter().map(|range| (range.start, range.end)).collect();
        let state = hex(state);
        let record = Record { version: 1, digest: self.digest, size: self.size, finished, hashed, state };
        let text = serde_json::to_vec(&record).map_err(io::Error::other)?;
        let fresh = journal.with_extension("journal-new");
        let mut options = OpenOptions::new();
        no_link(options.write(true).create(true).truncate(true)).open(&fresh)?.write_all(&text)?;
        fs::rename(&fresh, journal)
    }

    /// Forgets what is here: everything will be fetched anew.
    pub(super) fn forget(&self) -> io::Result<()> {
        match self.journal.as_deref().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives the file its final name.
    pub(super) fn finish(&self, target: &Path, sync: bool) -> io::Result<()> {
        if sync {
            self.file.sync_all()?;
        }
        // Without its file the journal means nothing; the other way round it would lie.
        self.forget()?;
        fs::rename(&self.path, target)?;
        self.done.store(true, Ordering::Relaxed);
        if sync {
            File::open(folder(target))?.sync_all()?;
        }
        Ok(())
    }

    /// Removes the file: what it holds is of no use.
    pub(super) fn discard(&self) {
        if let Err(error) = self.forget().and_then(|()| fs::remove_file(&self.path)) {
            tracing::debug!(%error, path = %self.path.display(), "a partial file stays");
        }
        self.done.store(true, Ordering::Relaxed);
    }

    /// Whether another process could take this up.
    pub(super) fn is_resumable(&self) -> bool {
        self.journal.is_some()
    }

    /// Makes the file as long as the blob, with its blocks where the file system can: a full disk is best found out
    /// before the transfer.
    fn reserve(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.set_len(self.size)?;
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, self.size.max(1)) {
            Err(error) if matches!(error, Errno::NOSPC | Errno::DQUOT) => Err(error.into()),
            // Not every file system can do this; then writing tells.
            _ => self.file.set_len(self.size),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done.load(Ordering::Relaxed) && self.journal.is_none() {
            // Best effort: there is nobody left to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file at `path` for this process alone, making it where there is none. `None` if somebody else has it, or if
/// what stands there is no ordinary file: whoever can write to the directory may have put a link there.
fn claim(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..CLAIMS {
        let mut options = OpenOptions::new();
        let file = match no_link(options.read(true).write(true).create(true).truncate(false)).open(path) {
            Ok(file) => file,
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::LOOP | Errno::ISDIR)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "no lock on a partial file");
                return Ok(None);
            }
        }
        let own = file.metadata()?;
        if !own.is_file() {
            return Ok(None);
        }
        // Whoever had the lock before may have given the file its final name: writing to it would change that.
        match fs::symlink_metadata(path) {
            Ok(named) if named.ino() == own.ino() && named.dev() == own.dev() => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// `options` that open no link: what is at its end is not ours.
fn no_link(options: &mut OpenOptions) -> &mut OpenOptions {
    // Never waits for the other end of a pipe, either.
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
}

/// What the journal says, if it is about this blob and makes sense.
fn read(journal: &Path, digest: &Digest, size: u64) -> Option<Found> {
    let mut text = Vec::new();
    no_link(OpenOptions::new().read(true)).open(journal).ok()?.take(MAX_BYTES + 1).read_to_end(&mut text).ok()?;
    if text.len() as u64 > MAX_BYTES {
        return None;
    }
    let record: Record = serde_json::from_slice(&text).ok()?;
    let ours = record.version == 1 && record.digest == *digest && record.size == size;
    let finished: Vec<_> = record.finished.iter().map(|&(start, end)| start..end).collect();
    let ordered = finished.windows(2).all(|pair| pair[0].end <= pair[1].start);
    let inside = finished.iter().all(|range| range.start < range.end && range.end <= size);
    if !(ours && ordered && inside) {
        return None;
    }
    let prefix = finished.first().filter(|range| range.start == 0).map_or(0, |range| range.end);
    let saved = unhex(&record.state).and_then(|state| Hasher::from_state(digest.algorithm(), &state));
    let (hashed, hasher) = match saved.filter(|_| record.hashed <= prefix) {
        Some(hasher) => (record.hashed, hasher),
        None => (0, Hasher::new(digest.algorithm())),
    };
    Some(Found { finished, hashed, hasher })
}

/// `target` with `suffix` behind its name.
fn beside(target: &Path, suffix: &str) -> io::Result<PathBuf> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name");
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().ok_or_else(no_name)?);
    name.push(suffix);
    Ok(target.with_file_name(name))
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(pair).collect::<Option<_>>())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    // Lists of ranges are what this is about.
    #![allow(clippy::single_range_in_vec_init)]
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_down_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("data");
        let digest = Digest::sha256_of(b"0123456789");
        let (partial, found) = Partial::open(&target, digest, 10, true).unwrap();
        assert!(found.finished.is_empty());
        partial.file.write_all_at(b"0123", 0).unwrap();
        let mut hasher = Hasher::sha256();
        hasher.update(b"01");
        partial.save(&[0..4, 6..7], 2, &hasher.state()).unwrap();
        let (other, none) = Partial::open(&target, digest, 10, true).unwrap();
        assert!(none.finished.is_empty(), "a file that is in use is left alone");
        drop((partial, other));
        assert_eq!(names(dir.path()).len(), 2, "the partial file and its journal stay, the other one's file does not");

        let (partial, found) = Partial::open(&target, digest, 10, true).unwrap();
        assert_eq!((found.finished, found.hashed), (vec![0..4, 6..7], 2));
        let mut hasher = found.hasher;
        hasher.update(b"23456789");
        assert_eq!(hasher.finish(), digest);
        partial.finish(&target, true).unwrap();
        assert_eq!(names(dir.path()), ["data"]);
        assert_eq!(fs::metadata(&target).unwrap().len(), 10);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, victim) = (dir.path().join("data"), dir.path().join("victim"));
        let digest = Digest::sha256_of(b"0123456789");
        let name = |kind: &str| dir.path().join(format!(".data.{}.{kind}", &digest.hex()[..16]));
        fs::write(&victim, "precious").unwrap();
        for kind in ["partial", "journal-new"] {
            std::os::unix::fs::symlink(&victim, name(kind)).unwrap();
            let (partial, found) = Partial::open(&target, digest, 10, true).unwrap();
            assert!(found.finished.is_empty());
            partial.file.write_all_at(b"0123456789", 0).unwrap();
            let (saved, resumable) = (partial.save(&[0..4, 6..7], 0, &[]), partial.is_resumable());
            assert_eq!(resumable, kind != "partial", "a file of its own is not taken up");
            assert_eq!(saved.is_err(), resumable, "{saved:?}");
            assert_eq!(fs::read(&victim).unwrap(), b"precious", "{kind}");
            partial.discard();
            fs::remove_file(name(kind)).unwrap();
        }
        std::os::unix::fs::symlink(&victim, name("journal")).unwrap();
        drop(Partial::open(&target, digest, 10, true).unwrap());
        assert!(victim.exists());
    }

    #[test]
    fn a_file_that_got_its_final_name_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (target, digest) = (dir.path().join("data"), Digest::sha256_of(b"0123456789"));
        let failed = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let (partial, _) = Partial::open(&target, digest, 10, true).unwrap();
                        partial.file.write_all_at(b"0123456789", 0).unwrap();
                        partial.finish(&target, false).unwrap();
                        // Whoever opened the file under its other name would have emptied it by now.
                        if fs::read(&target).unwrap() != b"0123456789" {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(failed.into_inner(), 0);
    }

    #[test]
    fn journals_that_make_no_sense_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("data");
        let digest = Digest::sha256_of(b"0123456789");
        let good = |finished: &str, hashed: u64| {
            let state = hex(&Hasher::sha256().state());
            format!(
                r#"{{"version":1,"digest":"{digest}","size":10,"finished":{finished},"hashed":{hashed},"state":"{state}"}}"#
            )
        };
        let cases = [
            (good("[[0,4]]", 0), vec![0..4], 0),
            (good("[[0,4]]", 4), vec![0..4], 4),
            (good("[[0,4]]", 5), vec![0..4], 0),
            (good("[[1,4]]", 1), vec![1..4], 0),
            (good("[[0,11]]", 0), vec![], 0),
            (good("[[4,4]]", 0), vec![], 0),
            (good("[[4,6],[0,1]]", 0), vec![], 0),
            (good("[[0,4]]", 0).replace("\"version\":1", "\"version\":2"), vec![], 0),
            (good("[[0,4]]", 0).replace("\"size\":10", "\"size\":9"), vec![], 0),
            (good("[[0,4]]", 2).replace("\"state\":\"", "\"state\":\"0"), vec![0..4], 0),
            ("{".to_owned(), vec![], 0),
            (String::new(), vec![], 0),
        ];
        for (text, finished, hashed) in cases {
            let (partial, _) = Partial::open(&target, digest, 10, true).unwrap();
            fs::write(partial.journal.as_ref().unwrap(), &text).unwrap();
            drop(partial);
            let (partial, found) = Partial::open(&target, digest, 10, true).unwrap();
            assert_eq!((found.finished, found.hashed), (finished, hashed), "{text}");
            drop(partial);
        }
    }
}
