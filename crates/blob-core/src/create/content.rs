//! Which files have the same content.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::walk::Found;
use crate::codec::SMALL;

/// A SHA-256 digest.
pub(super) type Sha256 = [u8; 32];

/// The digests of all files, and for each content the first file that has it. The first in order is the one that is
/// stored, whichever thread was faster.
pub(super) struct Contents {
    digests: Vec<Sha256>,
    first: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Contents {
    pub(super) fn new(files: usize) -> Self {
        Self { digests: vec![[0; 32]; files], first: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }

    /// Records the digest of `file`, and tells the first file so far that has this content: perhaps itself.
    pub(super) fn claim(&mut self, file: usize, digest: Sha256) -> usize {
        let Self { digests, first, hasher } = self;
        digests[file] = digest;
        let hash = hasher.hash_one(digest);
        if let Some(known) = first.find_mut(hash, |&other| digests[other as usize] == digest) {
            *known = (*known).min(file as u32);
            return *known as usize;
        }
        first.insert_unique(hash, file as u32, |&other| hasher.hash_one(digests[other as usize]));
        file
    }

    /// Records the digest of a file whose content nobody else can have.
    pub(super) fn set(&mut self, file: usize, digest: Sha256) {
        self.digests[file] = digest;
    }

    /// The digest of `file`, once it is known.
    pub(super) fn digest(&self, file: usize) -> Sha256 {
        self.digests[file]
    }

    /// The first file with the content of `file`, which must have been claimed.
    pub(super) fn first(&self, file: usize) -> usize {
        let digest = self.digests[file];
        let hash = self.hasher.hash_one(digest);
        self.first.find(hash, |&other| self.digests[other as usize] == digest).map_or(file, |&first| first as usize)
    }
}

/// What is known about equal contents before anything is read.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Files that are another name of a file before them.
    links: HashMap<usize, usize>,
    /// Sizes that several large files have.
    twins: HashSet<u64>,
}

impl Known {
    pub(super) fn of(files: &[Found]) -> Self {
        let (mut known, mut names, mut sizes) = (Self::default(), HashMap::new(), HashSet::new());
        for (at, file) in files.iter().enumerate() {
            if file.linked {
                let first = *names.entry((file.stamp.dev, file.stamp.ino)).or_insert(at);
                if first != at {
                    known.links.insert(at, first);
                    continue;
                }
            }
            if file.stamp.size > SMALL && !sizes.insert(file.stamp.size) {
                known.twins.insert(file.stamp.size);
            }
        }
        known
    }

    /// The file of which `file` is another name, if it comes before.
    pub(super) fn link(&self, file: usize) -> Option<usize> {
        self.links.get(&file).copied()
    }

    /// Whether a large file of `size` bytes may have the content of another.
    pub(super) fn may_have_twin(&self, size: u64) -> bool {
        self.twins.contains(&size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_in_order_has_the_content_whoever_claims_first() {
        let mut contents = Contents::new(100);
        assert_eq!(contents.claim(50, [1; 32]), 50);
        assert_eq!(contents.claim(70, [1; 32]), 50);
        assert_eq!(contents.claim(20, [1; 32]), 20);
        assert_eq!(contents.claim(60, [2; 32]), 60);
        for file in [20, 50, 70] {
            assert_eq!((contents.first(file), contents.digest(file)), (20, [1; 32]));
        }
        assert_eq!(contents.first(60), 60);
    }
}
