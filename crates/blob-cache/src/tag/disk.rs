//! Tags in files of five lines: a title, the key, the digest, the time, a checksum of these.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use blob_core::CacheError;

use super::{TagCache, TagEntry};
use crate::admin::{CacheAdmin, Usage, Verified};
use crate::blocking;
use crate::check::{Damage, Outcome};
use crate::dir::{Shared, admin};
use crate::error::disk;
use crate::evict::{self, Scope};
use crate::files::{discard, is_absent, open_regular, touch};
use crate::layout::{Bucket, keyed_path};

const TITLE: &str = "blob-tag 1";
/// The longest key that is remembered, in bytes; references are shorter.
const LONGEST_KEY: usize = 1024;
/// More than any entry has, in bytes.
const LONGEST: u64 = 4096;

/// Remembers tags in a cache directory: [`CacheDir::tags`](crate::CacheDir::tags). All disk work is done on threads for
/// blocking work.
#[derive(Clone, Debug)]
pub struct DiskTagCache {
    shared: Arc<Shared>,
}

impl DiskTagCache {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn path(&self, key: &str) -> PathBuf {
        keyed_path(&self.shared.root, Bucket::Tags, &blake3::hash(key.as_bytes()).to_hex())
    }

    fn load(&self, key: &str) -> io::Result<Option<TagEntry>> {
        let path = self.path(key);
        let (file, meta) = match open_regular(&path) {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                self.shared.heal(Bucket::Tags, &path, 0, "not a regular file");
                return Ok(None);
            }
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        touch(&file, &meta);
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text)?;
        match decode(&text) {
            Some((named, entry)) if named == key => {
                Ok(entry.is_fresh(self.shared.options.tag_ttl, SystemTime::now()).then_some(entry))
            }
            _ => {
                self.shared.heal(Bucket::Tags, &path, text.len() as u64, "malformed");
                Ok(None)
            }
        }
    }

    fn store(&self, key: &str, entry: &TagEntry) -> io::Result<()> {
        let Some(text) = encode(key, entry) else { return Ok(()) };
        let bytes = text.len() as u64;
        if !self.shared.wants(Bucket::Tags, bytes) {
            return Ok(());
        }
        let mut temp = self.shared.temporary()?;
        temp.file().write_all(text.as_bytes())?;
        let path = self.path(key);
        let reservation = evict::reserve(&self.shared, Bucket::Tags, 1, evict::charge(bytes))?;
        let replaced = path.exists();
        temp.publish(&path, &self.shared.tmp)?;
        reservation.keep(replaced);
        Ok(())
    }

    /// The keys that begin with `prefix`, sorted: what was remembered at any time and is still there, fresh or not. At
    /// most `most` entries are looked at, whatever they are.
    ///
    /// # Errors
    /// [`CacheError`] when the directory cannot be read; entries that cannot are passed over.
    pub async fn keys(&self, prefix: &str, most: usize) -> Result<Vec<String>, CacheError> {
        self.run("listing the remembered tags in", prefix, move |this, prefix| this.list(prefix, most)).await
    }

    fn list(&self, prefix: &str, most: usize) -> io::Result<Vec<String>> {
        let dirs = match std::fs::read_dir(self.shared.root.join(Bucket::Tags.name())) {
            Ok(dirs) => dirs,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let files = dirs.flatten().filter_map(|dir| std::fs::read_dir(dir.path()).ok()).flatten().flatten();
        let mut keys = Vec::new();
        for file in files.take(most) {
            let Ok(Some((file, _))) = open_regular(&file.path()) else { continue };
            let mut text = Vec::new();
            if file.take(LONGEST).read_to_end(&mut text).is_ok()
                && let Some((key, _)) = decode(&text).filter(|(key, _)| key.starts_with(prefix))
            {
                keys.push(key.to_owned());
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        match discard(&self.path(key), &self.shared.tmp) {
            Ok(true) => evict::uncount(&self.shared, Bucket::Tags, 1),
            Ok(false) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Runs `work` on a thread, and names the file in its failure.
    async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        key: &str,
        work: impl FnOnce(&Self, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T, CacheError> {
        let (this, key) = (self.clone(), key.to_owned());
        blocking::run(move || {
            work(&this, &key).map_err(|error| {
                this.shared.note_failure(&error);
                disk(action, &this.path(&key), error)
            })
        })
        .await
    }
}

/// The text of an entry; `None` for keys that are not remembered.
fn encode(key: &str, entry: &TagEntry) -> Option<String> {
    if key.is_empty() || key.len() > LONGEST_KEY || key.contains(char::is_control) {
        return None;
    }
    let since = entry.resolved_at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
    let text = format!("{TITLE}\n{key}\n{}\n{seconds}.{nanos:09}\n", entry.digest);
    let sum = blake3::hash(text.as_bytes());
    Some(format!("{text}{sum}\n"))
}

/// The key and entry in a text, if it is one that [`encode`] made.
fn decode(text: &[u8]) -> Option<(&str, TagEntry)> {
    let text = str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let (body, sum) = text.split_at(text.rfind('\n')? + 1);
    if blake3::hash(body.as_bytes()).to_hex().as_str() != sum {
        return None;
    }
    let mut lines = body.lines();
    let (title, key, digest, time) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let (seconds, nanos) = time.split_once('.')?;
    let nanos = nanos.parse().ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let resolved_at = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, nanos))?;
    (title == TITLE && lines.next().is_none()).then_some((key, TagEntry { digest: digest.parse().ok()?, resolved_at }))
}

/// Whether the file at `path` is an entry.
pub(crate) fn check_file(path: &Path) -> io::Result<Outcome> {
    let Some((file, _)) = open_regular(path)? else { return Ok(Outcome::Damaged) };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(if decode(&text).is_some() { Outcome::GOOD } else { Outcome::Damaged })
}

#[async_trait]
impl TagCache for DiskTagCache {
    async fn get(&self, key: &str) -> Result<Option<TagEntry>, CacheError> {
        self.run("reading the remembered tag", key, Self::load).await
    }

    async fn put(&self, key: &str, entry: &TagEntry) -> Result<(), CacheError> {
        let entry = *entry;
        self.run("remembering a tag in", key, move |this, key| this.store(key, &entry)).await
    }

    async fn remove(&self, key: &str) -> Result<(), CacheError> {
        self.run("forgetting the tag", key, Self::delete).await
    }
}

#[async_trait]
impl CacheAdmin for DiskTagCache {
    async fn usage(&self) -> Result<Usage, CacheError> {
        admin(&self.shared, Scope::One(Bucket::Tags)).usage().await
    }

    async fn prune(&self, target_bytes: u64) -> Result<u64, CacheError> {
        admin(&self.shared, Scope::One(Bucket::Tags)).prune(target_bytes).await
    }

    async fn clear(&self) -> Result<(), CacheError> {
        admin(&self.shared, Scope::One(Bucket::Tags)).clear().await
    }

    async fn verify(&self) -> Result<Verified, CacheError> {
        admin(&self.shared, Scope::One(Bucket::Tags)).verify(Damage::Drop).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use blob_core::Digest;

    #[test]
    fn keys_are_listed_by_their_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let cache = crate::CacheDir::open(dir.path(), crate::CacheOptions::default()).unwrap().tags();
        let entry = TagEntry::now(Digest::sha256_of(b"m"));
        for key in ["h/a:v2", "h/a:v1", "h/b:v1"] {
            cache.store(key, &entry).unwrap();
        }
        assert_eq!(cache.list("h/a:", 100).unwrap(), ["h/a:v1", "h/a:v2"]);
        assert_eq!(cache.list("", 100).unwrap().len(), 3);
        assert_eq!(cache.list("", 2).unwrap().len(), 2, "the limit counts files");
        std::fs::write(cache.path("h/a:v1"), "damaged").unwrap();
        assert_eq!(cache.list("h/a:", 100).unwrap(), ["h/a:v2"]);
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(cache.list("", 100).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_damaged_byte_makes_an_entry_malformed() {
        let entry = TagEntry::now(Digest::sha256_of(b"m"));
        let text = encode("ghcr.io/a/b:v1", &entry).unwrap().into_bytes();
        assert_eq!(decode(&text), Some(("ghcr.io/a/b:v1", entry)));
        for position in 0..text.len() {
            let mut bad = text.clone();
            bad[position] ^= 1;
            assert_eq!(decode(&bad), None, "byte {position}");
            assert_eq!(decode(&text[..position]), None, "cut at {position}");
        }
    }

    #[test]
    fn odd_keys_are_not_remembered() {
        let entry = TagEntry::now(Digest::sha256_of(b"m"));
        for key in [String::new(), "a\nb".into(), "x".repeat(1025)] {
            assert_eq!(encode(&key, &entry), None);
        }
    }
}
