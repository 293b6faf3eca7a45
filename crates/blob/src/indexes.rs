//! Indexes that were parsed a moment ago: opening an archive again costs neither hashing nor checking its index.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use blob_core::{ArchiveIndex, Digest};

/// How many bytes of indexes are held for archives that nobody has open: 16 MiB, and some more for what is derived from
/// them.
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
        let size = |index: &ArchiveIndex| index.as_bytes().len() as u64;
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
}
