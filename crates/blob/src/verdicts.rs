//! Verdicts that were reached a moment ago, so that reading ten files of an archive verifies it once.
//!
//! Only what was admitted is remembered, for a few minutes, under everything that the verdict followed from: the
//! manifest's digest, the fingerprint of the policies with their keys and trust roots, and the reference. A changed
//! policy therefore never finds an old verdict. A verdict in the cache directory lets an archive in, so one counts only
//! if it is a plain file of the very user who asks, in folders of theirs, and nobody else can write to any of them.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use blob_core::Digest;
use blob_policy::{Check, Report};
use serde::{Deserialize, Serialize};

/// How long a verdict holds unless another time is chosen.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_mins(5);
/// Verdicts that are kept in memory.
const MAX_REMEMBERED: usize = 1024;
/// Bytes of a verdict on disk.
const MAX_FILE_BYTES: u64 = 256 << 10;
/// Verdicts in one of the 256 folders on disk: 4,096 in all.
const MAX_IN_FOLDER: usize = 16;
/// The directory below that of the cache.
const DIR: &str = "verdicts-v1";

/// Everything that a verdict follows from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct VerdictKey {
    #[serde(with = "as_text")]
    pub(crate) manifest: Digest,
    #[serde(with = "as_text")]
    pub(crate) policy: Digest,
    pub(crate) reference: String,
}

/// Digests as JSON strings.
mod as_text {
    use blob_core::Digest;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A verdict as it lies on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    key: VerdictKey,
    /// Seconds since 1970.
    judged_at: u64,
    /// Policy and finding of each check.
    checks: Vec<(String, String)>,
    refused: Vec<String>,
}

/// What was admitted a moment ago, in memory and perhaps on disk. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Verdicts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ttl: Duration,
    /// The cache directory, which `DIR` is in.
    root: Option<PathBuf>,
    memory: Mutex<HashMap<VerdictKey, (SystemTime, Report)>>,
}

impl Verdicts {
    /// Verdicts hold for `ttl`; zero remembers nothing. They are kept in memory, and below `cache_dir` if there is one.
    pub(crate) fn new(ttl: Duration, cache_dir: Option<&Path>) -> Self {
        Self(Arc::new(Inner { ttl, root: cache_dir.map(Path::to_owned), memory: Mutex::default() }))
    }

    /// A panic elsewhere leaves the map as it was.
    fn memory(&self) -> MutexGuard<'_, HashMap<VerdictKey, (SystemTime, Report)>> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something that was judged at `time` still holds; the future never does.
    fn holds(&self, time: SystemTime) -> bool {
        SystemTime::now().duration_since(time).is_ok_and(|age| age < self.0.ttl)
    }

    /// The report of a verdict that still holds.
    pub(crate) async fn find(&self, key: &VerdictKey) -> Option<Report> {
        if let Some((time, report)) = self.memory().get(key)
            && self.holds(*time)
        {
            return Some(report.clone());
        }
        let (root, name) = (self.0.root.clone()?, name_of(key)?);
        let stored = tokio::task::spawn_blocking(move || read(&root, &name)).await.ok()??;
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(stored.judged_at))?;
        if stored.key != *key || !self.holds(time) {
            return None;
        }
        let mut report = Report::default();
        for (policy, finding) in stored.checks {
            report.extend(Report::admitted(policy, finding));
        }
        report.refused = stored.refused;
        self.remember(key, time, &report);
        Some(report)
    }

    fn remember(&self, key: &VerdictKey, time: SystemTime, report: &Report) {
        let mut memory = self.memory();
        if memory.len() >= MAX_REMEMBERED {
            memory.retain(|_, (time, _)| self.holds(*time));
        }
        if memory.len() < MAX_REMEMBERED {
            memory.insert(key.clone(), (time, report.clone()));
        }
    }

    /// Remembers that something was admitted now. What cannot be kept is not kept.
    pub(crate) async fn keep(&self, key: &VerdictKey, report: &Report) {
        if self.0.ttl.is_zero() {
            return;
        }
        let now = SystemTime::now();
        self.remember(key, now, report);
        let (Some(root), Some(name)) = (self.0.root.clone(), name_of(key)) else { return };
        let judged_at = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let checks = report.checks.iter().map(|Check { policy, finding, .. }| (policy.clone(), finding.clone()));
        let stored = Stored { key: key.clone(), judged_at, checks: checks.collect(), refused: report.refused.clone() };
        let ttl = self.0.ttl;
        let written = tokio::task::spawn_blocking(move || write(&root, &name, &stored, ttl)).await;
        if let Ok(Err(error)) = written {
            tracing::debug!("a verdict was not kept: {error}");
        }
    }

    #[cfg(test)]
    fn path(&self, key: &VerdictKey) -> Option<PathBuf> {
        let name = name_of(key)?;
        Some(self.0.root.as_ref()?.join(DIR).join(&name[..2]).join(name))
    }
}

/// The file that a verdict is in; its folder is named by the first two letters.
fn name_of(key: &VerdictKey) -> Option<String> {
    Some(Digest::sha256_of(&serde_json::to_vec(key).ok()?).hex())
}

/// Reads a verdict, if it is our own.
fn read(root: &Path, name: &str) -> Option<Stored> {
    let file = own_file(root, name)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return None;
    }
    serde_json::from_slice(&bytes).ok()
}

/// Opens a plain file that belongs to this user, and that nobody else can write to; and neither can they to the folders
/// that it is in, up to the cache directory: a file of ours that somebody else put there is not a verdict.
#[cfg(unix)]
fn own_file(root: &Path, name: &str) -> Option<std::fs::File> {
    use rustix::fd::OwnedFd;
    use rustix::fs::{FileType, Mode, OFlags};
    let ours = |opened: OwnedFd, kind: FileType| {
        let stat = rustix::fs::fstat(&opened).ok()?;
        let own = stat.st_uid == rustix::process::geteuid().as_raw();
        let closed = stat.st_mode & 0o022 == 0;
        (own && closed && FileType::from_raw_mode(stat.st_mode) == kind).then_some(opened)
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // The cache directory itself may be named by a link.
    let mut dir = ours(rustix::fs::open(root, flags, Mode::empty()).ok()?, FileType::Directory)?;
    for folder in [DIR, &name[..2]] {
        let below = rustix::fs::openat(&dir, folder, flags | OFlags::NOFOLLOW, Mode::empty()).ok()?;
        dir = ours(below, FileType::Directory)?;
    }
    let file = rustix::fs::openat(&dir, name, flags | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    ours(file, FileType::RegularFile).map(Into::into)
}

/// Elsewhere nobody could tell whose file it is: verdicts are kept in memory alone.
#[cfg(not(unix))]
fn own_file(_: &Path, _: &str) -> Option<std::fs::File> {
    None
}

/// Writes a verdict beside the others, and removes those of its folder that hold no more.
fn write(root: &Path, name: &str, stored: &Stored, ttl: Duration) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(stored)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Ok(());
    }
    let folder = root.join(DIR).join(&name[..2]);
    create_private(&folder)?;
    make_room(&folder, ttl)?;
    // Temporary files are for their owner alone.
    let mut file = tempfile::NamedTempFile::new_in(&folder)?;
    file.write_all(&bytes)?;
    file.persist(folder.join(name)).map(drop).map_err(|error| error.error)
}

/// Creates a directory, and what it is in, for this user alone.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Removes from a folder what holds no more, and the oldest where there is no room for one more.
fn make_room(folder: &Path, ttl: Duration) -> std::io::Result<()> {
    let written = |entry: &std::fs::DirEntry| entry.metadata().and_then(|data| data.modified());
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| (written(&entry).unwrap_or(SystemTime::UNIX_EPOCH), entry.path()))
        .collect();
    files.sort();
    let too_many = (files.len() + 1).saturating_sub(MAX_IN_FOLDER);
    for (at, (time, path)) in files.iter().enumerate() {
        if at < too_many || time.elapsed().is_ok_and(|age| age > ttl) {
            // Another process may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

/// Forgets the verdicts that are kept below `cache_dir`; blocks.
///
/// # Errors
/// When something there cannot be removed.
pub fn forget_verdicts(cache_dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(cache_dir.join(DIR)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn key(policy: &[u8]) -> VerdictKey {
        let manifest = Digest::sha256_of(b"manifest");
        VerdictKey { manifest, policy: Digest::sha256_of(policy), reference: "h/r:t".into() }
    }

    #[tokio::test]
    async fn verdicts_are_found_by_everything_they_follow_from() {
        let dir = tempfile::tempdir().unwrap();
        let report = Report::admitted("p", "f");
        Verdicts::new(DEFAULT_TTL, Some(dir.path())).keep(&key(b"one"), &report).await;
        // Another process has nothing but the directory.
        let other = Verdicts::new(DEFAULT_TTL, Some(dir.path()));
        assert_eq!(other.find(&key(b"one")).await.unwrap(), report);
        assert!(other.find(&key(b"two")).await.is_none());
        assert!(other.find(&VerdictKey { reference: "h/r:u".into(), ..key(b"one") }).await.is_none());
        let manifest = Digest::sha256_of(b"another");
        assert!(other.find(&VerdictKey { manifest, ..key(b"one") }).await.is_none());
        let late = Verdicts::new(Duration::ZERO, Some(dir.path()));
        assert!(late.find(&key(b"one")).await.is_none());
        late.keep(&key(b"two"), &report).await;
        assert!(other.find(&key(b"two")).await.is_none());
    }

    #[tokio::test]
    async fn there_are_only_so_many_and_all_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let verdicts = Verdicts::new(DEFAULT_TTL, Some(dir.path()));
        let path = verdicts.path(&key(b"one")).unwrap();
        let folder = path.parent().unwrap();
        create_private(folder).unwrap();
        for at in 0..40 {
            let file = fs::File::create(folder.join(format!("{at:02}"))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(100 - at)).unwrap();
        }
        verdicts.keep(&key(b"one"), &Report::admitted("p", "f")).await;
        let mut kept: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        kept.sort();
        assert_eq!(kept.len(), MAX_IN_FOLDER);
        assert!(kept.contains(&path.file_name().unwrap().to_owned()) && kept.contains(&"39".into()), "{kept:?}");
        assert!(!kept.contains(&"24".into()) && kept.contains(&"25".into()), "the oldest go: {kept:?}");
        forget_verdicts(dir.path()).unwrap();
        let other = Verdicts::new(DEFAULT_TTL, Some(dir.path()));
        assert!(other.find(&key(b"one")).await.is_none());
        forget_verdicts(dir.path()).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_not_ours_alone_is_no_verdict() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Verdicts::new(DEFAULT_TTL, Some(dir.path()));
        let (key, path) = (key(b"one"), writer.path(&key(b"one")).unwrap());
        let fresh = || Verdicts::new(DEFAULT_TTL, Some(dir.path()));
        writer.keep(&key, &Report::admitted("p", "f")).await;
        let whole = fs::read(&path).unwrap();
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(fresh().find(&key).await.is_none(), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(fresh().find(&key).await.is_some());
        for bad in [&b"{}"[..], b"", &whole[..whole.len() - 1], &vec![b' '; (256 << 10) + 1]] {
            fs::write(&path, bad).unwrap();
            assert!(fresh().find(&key).await.is_none());
        }
        fs::write(&path, &whole).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(fresh().find(&key).await.is_some());
        // Others could have put a file of ours into a folder that they can write to.
        for folder in [path.parent().unwrap(), &dir.path().join(DIR), dir.path()] {
            for mode in [0o770, 0o702] {
                fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
                assert!(fresh().find(&key).await.is_none(), "{} {mode:o}", folder.display());
            }
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
            assert!(fresh().find(&key).await.is_some(), "{}", folder.display());
        }
        let (folder, aside) = (dir.path().join(DIR), dir.path().join("elsewhere"));
        fs::rename(&folder, &aside).unwrap();
        symlink(&aside, &folder).unwrap();
        assert!(fresh().find(&key).await.is_none(), "a link to a folder");
        fs::remove_file(&folder).unwrap();
        fs::rename(&aside, &folder).unwrap();
        let later = String::from_utf8(whole.clone()).unwrap().replace("\"judged_at\":1", "\"judged_at\":9");
        fs::write(&path, later).unwrap();
        assert!(fresh().find(&key).await.is_none(), "judged in the future");
        let aside = dir.path().join("aside");
        fs::write(&aside, &whole).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&aside, &path).unwrap();
        assert!(fresh().find(&key).await.is_none(), "a link");
    }
}
