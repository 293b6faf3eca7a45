//! What came into an archive, and what did not.

use std::fmt;

use crate::path::Shown;

/// What [`create`](super::create) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateReport {
    /// Files in the archive.
    pub files: u64,
    /// Symbolic links in the archive.
    pub symlinks: u64,
    /// Empty directories in the archive.
    pub empty_dirs: u64,
    /// Symbolic links that were followed to a file or directory, because the options say so; in directories that are
    /// reached in several ways, each time.
    pub followed_symlinks: u64,
    /// Symbolic links that were left out, because the options say so.
    pub skipped_symlinks: u64,
    /// Empty directories that were left out, because the options say so.
    pub skipped_empty_dirs: u64,
    /// Sockets, FIFOs and devices, which an archive does not hold.
    pub special: Listed,
    /// Names that cannot be stored and were left out, because the options say so.
    pub skipped_names: Listed,
    /// Files that are another name of a file in the archive; stored once, and each a file of its own when extracted.
    pub hard_linked: u64,
    /// Files with the same content as another, hard links not counted; stored once.
    pub deduplicated: u64,
    /// Bytes of hard-linked and deduplicated files that were not stored again.
    pub deduplicated_bytes: u64,
    /// Contents stored as they are, empty ones not counted.
    pub stored_raw: u64,
    /// Contents stored compressed.
    pub compressed: u64,
    /// The sizes of all files together, in bytes.
    pub original_bytes: u64,
    /// Bytes of content in the data blob.
    pub stored_bytes: u64,
}

/// How many paths there are of a kind, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// How many there are.
    pub count: u64,
    /// The first 20 in byte order.
    pub first: Vec<Box<[u8]>>,
}

impl Listed {
    const SHOWN: usize = 20;

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, path: Box<[u8]>) {
        self.count += 1;
        self.keep(path);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        other.first.into_iter().for_each(|path| self.keep(path));
    }

    fn keep(&mut self, path: Box<[u8]>) {
        let at = self.first.partition_point(|kept| *kept <= path);
        if at < Self::SHOWN {
            self.first.insert(at, path);
            self.first.truncate(Self::SHOWN);
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, path) in self.first.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}\"{}\"", Shown(path))?;
        }
        match self.count.saturating_sub(self.first.len() as u64) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_paths_are_kept_whatever_the_order() {
        let name = |number: usize| format!("n{number:03}").into_bytes().into_boxed_slice();
        let (mut left, mut right) = (Listed::default(), Listed::default());
        for number in (0..50).rev() {
            if number % 3 == 0 { left.add(name(number)) } else { right.add(name(number)) }
        }
        left.merge(right);
        assert_eq!(left.count, 50);
        assert_eq!(left.first, (0..20).map(name).collect::<Vec<_>>());
        assert!(left.to_string().ends_with("\"n019\" and 30 more"), "{left}");
    }
}
