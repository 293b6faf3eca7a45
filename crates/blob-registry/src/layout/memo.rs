//! What a process remembers of a layout, so that not every question reads every file.
//!
//! Nothing here is believed without a look: the index is taken only while `index.json` is the very file it was read
//! from, and what is remembered of a manifest is named by its digest, which says all there is.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use blob_core::{Digest, Hasher};

use super::refs::Index;
use crate::descriptor::Descriptor;

/// Tells one `index.json` from another. Writers of this crate set its time to the nanosecond, so that two of them
/// differ even where the file system's own clock does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: SystemTime,
    size: u64,
    inode: u64,
    device: u64,
}

impl Stamp {
    /// That of the file at `path`.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Self::from(&fs::metadata(path)?)
    }

    /// Whether both are of one file, however it changed.
    pub(super) fn same_file(&self, other: &Self) -> bool {
        (self.inode, self.device) == (other.inode, other.device)
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// That of a file.
    pub(super) fn from(meta: &fs::Metadata) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        Ok(Self { modified: meta.modified()?, size: meta.len(), inode: meta.ino(), device: meta.dev() })
    }
}

/// What the layout lists about another manifest: the subject, and the entry in the list of its referrers.
#[derive(Clone, Debug)]
pub(super) struct Referrer {
    pub(super) subject: Digest,
    pub(super) entry: Descriptor,
}

/// What a manifest says about others.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// It has no subject, or is no manifest.
    Nothing,
    /// It has one.
    About(Arc<Referrer>),
}

/// The hashes of more upload sessions than this are not remembered; the files of the others are read again.
const MAX_HASHED: usize = 1024;

/// More blobs than this are not known to be sound; then all are hashed again when they are read.
const MAX_SOUND: usize = 65_536;

/// What manifests say is remembered up to about this many bytes; then all is forgotten, and they are read again. Their
/// annotations are as long as those who pushed them liked.
const MAX_SAID_BYTES: usize = 8 << 20;

/// The manifests of indexes are remembered up to about so many; then all are forgotten.
const MAX_CHILDREN: usize = 50_000;

/// A manifest of an index.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) media_type: Arc<str>,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// The manifests of each index that was looked at.
#[derive(Debug, Default)]
struct Families {
    all: HashMap<Digest, Arc<[Child]>>,
    children: usize,
}

/// What manifests say about others, and how many bytes that is.
#[derive(Debug, Default)]
struct Sayings {
    all: HashMap<Digest, Said>,
    bytes: usize,
}

impl Said {
    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        let Self::About(referrer) = self else { return 128 };
        let Descriptor { media_type, annotations, artifact_type, .. } = &referrer.entry;
        let notes: usize = annotations.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        512 + media_type.len() + artifact_type.as_ref().map_or(0, String::len) + notes
    }
}

/// What is remembered of one layout. Shared by all handles on it.
#[derive(Debug, Default)]
pub(super) struct Memo {
    index: Mutex<Option<(Stamp, Arc<Index>)>>,
    /// Of manifests that were looked at.
    said: Mutex<Sayings>,
    /// Of indexes that were looked at.
    families: Mutex<Families>,
    /// Of each upload session: how many bytes were written by this process, from the beginning, and their hash.
    hashed: Mutex<HashMap<String, (u64, Hasher)>>,
    /// Of blobs whose files have the content that they should have: those files.
    sound: Mutex<HashMap<Digest, Stamp>>,
}

impl Memo {
    /// Whether the content of a blob's file was looked at and found right.
    pub(super) fn is_sound(&self, digest: &Digest, stamp: Stamp) -> bool {
        lock(&self.sound).get(digest) == Some(&stamp)
    }

    /// Remembers that the content of a blob's file is right.
    pub(super) fn remember_sound(&self, digest: Digest, stamp: Stamp) {
        let mut sound = lock(&self.sound);
        if sound.len() >= MAX_SOUND && !sound.contains_key(&digest) {
            sound.clear();
        }
        sound.insert(digest, stamp);
    }

    /// Takes note of a change that left the content of a blob's file alone.
    pub(super) fn restamp(&self, digest: &Digest, before: Stamp, after: Stamp) {
        if let Some(known) = lock(&self.sound).get_mut(digest).filter(|known| **known == before) {
            *known = after;
        }
    }

    /// The index that was read from the file with this stamp.
    pub(super) fn index(&self, stamp: Stamp) -> Option<Arc<Index>> {
        lock(&self.index).as_ref().filter(|(known, _)| *known == stamp).map(|(_, index)| Arc::clone(index))
    }

    /// Remembers what was read from, or written to, the file with this stamp.
    pub(super) fn remember(&self, stamp: Stamp, index: Arc<Index>) {
        *lock(&self.index) = Some((stamp, index));
    }

    /// The hash of the first `length` bytes of an upload session, if this process wrote them. Sessions only grow, so
    /// it holds whoever else wrote something and took it back.
    pub(super) fn hashed(&self, session: &str, length: u64) -> Option<Hasher> {
        lock(&self.hashed).get(session).filter(|(known, _)| *known == length).map(|(_, hasher)| hasher.clone())
    }

    /// Remembers the hash of the first `length` bytes of an upload session.
    pub(super) fn remember_hashed(&self, session: &str, length: u64, hasher: &Hasher) {
        let mut hashed = lock(&self.hashed);
        if hashed.len() >= MAX_HASHED && !hashed.contains_key(session) {
            hashed.clear();
        }
        hashed.insert(session.to_owned(), (length, hasher.clone()));
    }

    /// Forgets an upload session that came to its end.
    pub(super) fn forget_hashed(&self, session: &str) {
        lock(&self.hashed).remove(session);
    }

    /// The manifests of an index.
    pub(super) fn children(&self, index: &Digest) -> Option<Arc<[Child]>> {
        lock(&self.families).all.get(index).cloned()
    }

    /// Remembers the manifests of an index.
    pub(super) fn remember_children(&self, index: Digest, children: &Arc<[Child]>) {
        // An index without manifests takes room, too.
        let more = children.len() + 1;
        let mut known = lock(&self.families);
        if known.children + more > MAX_CHILDREN {
            *known = Families::default();
        }
        if more <= MAX_CHILDREN && known.all.insert(index, Arc::clone(children)).is_none() {
            known.children += more;
        }
    }

    /// What is known of a manifest.
    pub(super) fn said(&self, digest: &Digest) -> Option<Said> {
        lock(&self.said).all.get(digest).cloned()
    }

    /// Remembers what a manifest says about another one.
    pub(super) fn remember_said(&self, digest: Digest, said: Said) {
        let mut known = lock(&self.said);
        let bytes = said.bytes();
        known.bytes -= known.all.remove(&digest).map_or(0, |before| before.bytes());
        if known.bytes + bytes > MAX_SAID_BYTES {
            *known = Sayings::default();
        }
        if bytes <= MAX_SAID_BYTES {
            known.all.insert(digest, said);
            known.bytes += bytes;
        }
    }

    /// Forgets manifests that are listed no more, when they are most of what is remembered.
    pub(super) fn trim(&self, listed: &HashSet<Digest>) {
        let mut said = lock(&self.said);
        if said.all.len() > 2 * listed.len() + 1024 {
            said.all.retain(|digest, _| listed.contains(digest));
            said.bytes = said.all.values().map(Said::bytes).sum();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change is left half-way by code that panics: what is there is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_manifests_has_a_limit() {
        let memo = Memo::default();
        let about = |length: usize| {
            let mut entry = Descriptor::of("a/b", b"x");
            entry.annotations.insert("note".into(), "n".repeat(length));
            Said::About(Arc::new(Referrer { subject: entry.digest, entry }))
        };
        let mut most = 0;
        for number in 0..50 {
            let digest = Digest::sha256_of(&[number]);
            memo.remember_said(digest, about(1 << 20));
            memo.remember_said(digest, about(1 << 20));
            assert!(memo.said(&digest).is_some());
            let known = lock(&memo.said);
            assert_eq!(known.bytes, known.all.values().map(Said::bytes).sum::<usize>());
            assert!(known.bytes <= MAX_SAID_BYTES);
            most = most.max(known.all.len());
        }
        assert_eq!(most, 7, "as many as fit");
        memo.remember_said(Digest::sha256_of(b"long"), about(MAX_SAID_BYTES));
        assert!(memo.said(&Digest::sha256_of(b"long")).is_none());
    }
}
