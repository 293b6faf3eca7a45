//! Parsing indexes, and holding those that were parsed a moment ago: opening an archive again costs neither hashing nor
//! checking its index.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use blob_core::{ArchiveIndex, Digest, IndexError, IndexLimits};
use bytes::Bytes;

/// How many bytes of indexes are held for archives that nobody has open, what is derived from them included: 16 MiB.
const HELD: u64 = 16 << 20;

/// Indexes by their digests, each of which was checked.
#[derive(Default)]
pub(crate) struct Indexes(Mutex<VecDeque<(Digest, Arc<ArchiveIndex>)>>);

impl fmt::Debug for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexes").finish_non_exhaustive()
    }
}

impl Indexes {
    /// The index with `digest`, if it is held.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Arc<ArchiveIndex>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = held.iter().position(|(known, _)| known == digest)?;
        let found = held.remove(at)?;
        let index = Arc::clone(&found.1);
        held.push_back(found);
        Some(index)
    }

    /// Holds `index`, and lets go of those that were not asked for for longest.
    pub(crate) fn hold(&self, digest: Digest, index: &Arc<ArchiveIndex>) {
        let size = |index: &ArchiveIndex| index.memory() as u64;
        if size(index) > HELD {
            return;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(known, _)| *known != digest);
        held.push_back((digest, Arc::clone(index)));
        while held.iter().map(|(_, index)| size(index)).sum::<u64>() > HELD {
            held.pop_front();
        }
    }
}

/// Up to this size an index is worked on in place: its parts take less time than it takes to change threads.
const IN_PLACE: usize = 256 << 10;

/// Parses an index whose digest was checked; a large one on a thread of its own, since that takes a while.
pub(crate) async fn parse(bytes: Bytes, limits: IndexLimits) -> Result<ArchiveIndex, IndexError> {
    if bytes.len() <= IN_PLACE {
        return ArchiveIndex::parse(bytes, &limits);
    }
    on_a_thread(move || ArchiveIndex::parse(bytes, &limits)).await
}

/// Parses an index and hashes it at the same time: either takes about as long, and the parser trusts no byte anyway.
/// `None` when the digest is another one, whatever the parser said.
pub(crate) async fn parse_and_hash(
    bytes: Bytes,
    digest: Digest,
    limits: IndexLimits,
) -> Option<Result<ArchiveIndex, IndexError>> {
    if bytes.len() <= IN_PLACE {
        return digest.matches(&bytes).then(|| ArchiveIndex::parse(bytes, &limits));
    }
    let hashed = bytes.clone();
    let matches = on_a_thread(move || digest.matches(&hashed));
    let (matches, parsed) = tokio::join!(matches, parse(bytes, limits));
    matches.then_some(parsed)
}

/// Begins at once, not when it is first polled.
fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let task = tokio::task::spawn_blocking(work);
    async { task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use blob_core::{IndexBuilder, NewSymlink};

    fn index(links: u32) -> Arc<ArchiveIndex> {
        let mut builder = IndexBuilder::new();
        for number in 0..links {
            let path = blob_core::ArchivePath::new(format!("{number:08}-{}", "x".repeat(3000)).as_str()).unwrap();
            builder.symlink(NewSymlink { path, target: b"x".to_vec(), mtime_ns: 0 });
        }
        Arc::new(builder.finish(0, &Digest::sha256_of(b"")).unwrap())
    }

    #[test]
    fn what_was_not_asked_for_for_longest_goes_first() {
        let (indexes, large) = (Indexes::default(), index(2000));
        let digest = |number: u8| Digest::sha256_of(&[number]);
        indexes.hold(digest(1), &large);
        indexes.hold(digest(2), &large);
        assert!(indexes.find(&digest(1)).is_some());
        indexes.hold(digest(3), &large);
        let there = [1, 2, 3].map(|number| indexes.find(&digest(number)).is_some());
        assert_eq!(there, [true, false, true]);
        indexes.hold(digest(4), &index(6000));
        assert!(indexes.find(&digest(4)).is_none(), "larger than all that is held");
    }

    #[tokio::test]
    async fn an_index_counts_only_with_its_digest_whatever_its_size() {
        for links in [1, 2000] {
            let bytes = index(links).as_bytes().clone();
            let digest = Digest::sha256_of(&bytes);
            let good = parse_and_hash(bytes.clone(), digest, IndexLimits::default()).await.unwrap().unwrap();
            assert_eq!(good.as_bytes(), &bytes);
            let other = Digest::sha256_of(b"other");
            assert!(parse_and_hash(bytes.clone(), other, IndexLimits::default()).await.is_none());
            let damaged = bytes.slice(..bytes.len() - 8);
            assert!(parse_and_hash(damaged.clone(), digest, IndexLimits::default()).await.is_none());
            let named = Digest::sha256_of(&damaged);
            assert!(parse_and_hash(damaged, named, IndexLimits::default()).await.unwrap().is_err());
        }
    }
}
