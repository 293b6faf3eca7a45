//! Users in an htpasswd file with bcrypt hashes, as `htpasswd -B` writes it and other registries read it.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use blob_core::{Digest, Hasher, plain};
use tokio::sync::Semaphore;

use super::passwords::Passwords;

/// Larger files are refused: 16 MiB, far above 100,000 users.
const MAX_BYTES: u64 = 16 << 20;

/// Hashes that cost more are refused: 2^17 rounds take seconds.
const MAX_COST: u32 = 17;

/// Verified credentials are remembered for this long, so that a client with a hundred requests costs one hash.
const REMEMBERED: Duration = Duration::from_mins(10);

/// At most this many of them.
const MAX_REMEMBERED: usize = 10_000;

/// The file is looked at again at most this often.
const LOOK: Duration = Duration::from_secs(1);

/// An htpasswd file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HtpasswdError {
    /// It cannot be read.
    #[error("reading {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line is none that we take. Its content is not shown: it is a secret.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

/// Users of an htpasswd file.
///
/// Only bcrypt is taken (`htpasswd -B`): the other forms of the file are broken by anybody who gets hold of it. The file
/// is read again when it changes; a changed file that cannot be used leaves the users as they were, with a warning.
///
/// Hashes are computed on threads that may block, one for each processor, so that guessing passwords does not stop the
/// server. Credentials that were right are remembered for ten minutes, as keyed digests; a change of the file forgets
/// them.
pub struct Htpasswd {
    state: Arc<State>,
    places: Arc<Semaphore>,
}

struct State {
    path: PathBuf,
    /// Makes the digests of remembered credentials useless to anybody who reads them.
    key: String,
    inner: Mutex<Inner>,
}

struct Inner {
    users: HashMap<String, String>,
    /// Verified against for unknown users, so that they take as long as known ones.
    decoy: String,
    stamp: Option<Stamp>,
    looked: Instant,
    remembered: HashMap<[u8; 32], Instant>,
}

/// What changes with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    size: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Htpasswd {
    /// Reads the file at `path`. This blocks.
    ///
    /// # Errors
    /// [`HtpasswdError`]: the file cannot be read, or a line of it is not `user:bcrypt-hash`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, HtpasswdError> {
        let path = path.into();
        let failed = |source| HtpasswdError::Io { path: path.clone(), source };
        let (users, stamp) = read(&path)?;
        let key = crate::token::random().map_err(|error| failed(io::Error::other(error)))?;
        let inner = Inner { decoy: decoy(&users), users, stamp, looked: Instant::now(), remembered: HashMap::new() };
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let state = State { path, key, inner: Mutex::new(inner) };
        Ok(Self { state: Arc::new(state), places: Arc::new(Semaphore::new(threads)) })
    }
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.state.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Passwords for Htpasswd {
    async fn verify(&self, user: &str, password: &str) -> bool {
        if self.state.remembers(user, password) {
            return true;
        }
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return false };
        // Others with the same credentials may have been quicker.
        if self.state.remembers(user, password) {
            return true;
        }
        let (state, user, password) = (Arc::clone(&self.state), user.to_owned(), password.to_owned());
        let verified = tokio::task::spawn_blocking(move || {
            let verified = state.verify(&user, &password);
            drop(place);
            verified
        });
        verified.await.unwrap_or(false)
    }

    async fn standing(&self, user: &str) -> Option<Digest> {
        let (state, user) = (Arc::clone(&self.state), user.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            state.reload();
            let inner = state.lock();
            inner.users.get(&user).map(|hash| Digest::sha256_of(format!("{}:{user}:{hash}", state.key).as_bytes()))
        });
        found.await.ok().flatten()
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Changes are single assignments: the state is whole even if a thread panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembers(&self, user: &str, password: &str) -> bool {
        let digest = self.digest(user, password);
        let inner = self.lock();
        // Somebody has to look at the file; that is done where it may block.
        inner.looked.elapsed() < LOOK && inner.remembered.get(&digest).is_some_and(|until| *until > Instant::now())
    }

    /// Looks at the file and checks the password. Blocks.
    fn verify(&self, user: &str, password: &str) -> bool {
        self.reload();
        let digest = self.digest(user, password);
        let (known, hash, stamp) = {
            let inner = self.lock();
            if inner.remembered.get(&digest).is_some_and(|until| *until > Instant::now()) {
                return true;
            }
            let hash = inner.users.get(user);
            (hash.is_some(), hash.unwrap_or(&inner.decoy).clone(), inner.stamp)
        };
        let equal = bcrypt::verify(password, &hash).unwrap_or(false);
        if !(known && equal) {
            return false;
        }
        let mut inner = self.lock();
        // Whatever was right for another file is not remembered for this one.
        if inner.stamp == stamp {
            inner.remember(digest);
        }
        true
    }

    fn reload(&self) {
        {
            let mut inner = self.lock();
            if inner.looked.elapsed() < LOOK {
                return;
            }
            inner.looked = Instant::now();
            if stamp(&self.path).ok() == inner.stamp && inner.stamp.is_some() {
                return;
            }
        }
        match read(&self.path) {
            Ok((users, stamp)) => {
                let decoy = decoy(&users);
                let mut inner = self.lock();
                inner.remembered.clear();
                (inner.users, inner.decoy, inner.stamp) = (users, decoy, stamp);
                tracing::info!(path = %self.path.display(), users = inner.users.len(), "the htpasswd file was read again");
            }
            Err(error) => tracing::warn!(%error, "the changed htpasswd file is not used"),
        }
    }

    fn digest(&self, user: &str, password: &str) -> [u8; 32] {
        let mut hasher = Hasher::sha256();
        for part in [&self.key, user, password] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hasher.finish().as_bytes());
        digest
    }
}

impl Inner {
    fn remember(&mut self, digest: [u8; 32]) {
        let now = Instant::now();
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.retain(|_, until| *until > now);
        }
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(digest, now + REMEMBERED);
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    Ok(Stamp {
        modified: meta.modified()?,
        size: meta.len(),
        #[cfg(unix)]
        inode: std::os::unix::fs::MetadataExt::ino(&meta),
    })
}

fn read(path: &Path) -> Result<(HashMap<String, String>, Option<Stamp>), HtpasswdError> {
    let failed = |source| HtpasswdError::Io { path: path.to_owned(), source };
    // Taken before the content: a change in between is seen the next time.
    let stamp = stamp(path).map_err(failed)?;
    let bytes = plain::read(path, MAX_BYTES).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let mut users = HashMap::new();
    for (position, line) in text.lines().enumerate() {
        let wrong = |problem: &str| HtpasswdError::Line {
            path: path.to_owned(),
            line: position + 1,
            problem: problem.to_owned(),
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) = line.split_once(':').ok_or_else(|| wrong("expected user:hash"))?;
        check_hash(hash).map_err(wrong)?;
        if users.insert(user.to_owned(), hash.to_owned()).is_some() {
            return Err(wrong("the user has a line already"));
        }
    }
    Ok((users, Some(stamp)))
}

/// `$2y$10$` and 53 characters.
fn check_hash(hash: &str) -> Result<(), &'static str> {
    const FORM: &str = "the hash is not bcrypt: write the line with `htpasswd -B`";
    let rest = ["$2y$", "$2b$", "$2a$"].iter().find_map(|form| hash.strip_prefix(form)).ok_or(FORM)?;
    let (cost, rest) = rest.split_once('$').ok_or(FORM)?;
    if rest.len() != 53 || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')) {
        return Err(FORM);
    }
    match cost.parse() {
        Ok(4..=MAX_COST) => Ok(()),
        _ => Err("the cost of the hash is not between 4 and 17"),
    }
}

/// A hash of nobody's password with the cost that most users' have.
fn decoy(users: &HashMap<String, String>) -> String {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for cost in users.values().filter_map(|hash| hash.get(4..6)) {
        *counts.entry(cost).or_default() += 1;
    }
    let cost = counts.into_iter().max_by_key(|(cost, count)| (*count, *cost)).map_or("10", |(cost, _)| cost);
    format!("$2y${cost}$......................AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bcrypt_is_taken() {
        let good = bcrypt::hash("p", 4).expect("hash");
        assert_eq!(check_hash(&good), Ok(()));
        assert_eq!(check_hash(&good.replace("$2b$", "$2y$")), Ok(()));
        for bad in
            ["", "p", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "$apr1$x$y", &good[..59], &good.replace("$04$", "$31$")]
        {
            assert!(check_hash(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_decoy_is_a_hash_that_is_computed() {
        let users = HashMap::from([("a".to_owned(), bcrypt::hash("p", 5).expect("hash"))]);
        let decoy = decoy(&users);
        assert!(decoy.starts_with("$2y$05$"));
        assert_eq!(check_hash(&decoy), Ok(()));
        assert!(!bcrypt::verify("p", &decoy).expect("a decoy that is refused unread would be told apart"));
    }
}
