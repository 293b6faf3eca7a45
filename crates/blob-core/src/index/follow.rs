//! Following symbolic links within an archive, as a file system would do it with the archive as its root.

use std::collections::VecDeque;

use super::{ArchiveIndex, Node};

/// Links that are followed on the way to one thing: as many as Linux does.
const MAX_LINKS: usize = 40;

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// Nothing stands there, or where a link on the way points.
    #[error("nothing in the archive stands there")]
    NotFound,
    /// A link on the way is absolute, or climbs above the root of the archive.
    #[error("a symbolic link on the way leads out of the archive")]
    Outside,
    /// There are more than 40 links on the way: most likely they go in circles.
    #[error("there are too many symbolic links on the way")]
    TooManyLinks,
}

impl ArchiveIndex {
    /// What stands at `path`, with symbolic links followed on the way and at its end. `path` is normalised; links never
    /// lead out of the archive.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn follow(&self, path: impl AsRef<[u8]>) -> Result<Node<'_>, FollowError> {
        let mut ahead: VecDeque<Vec<u8>> = elements(path.as_ref()).collect();
        let (mut at, mut links): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
        while let Some(element) = ahead.pop_front() {
            if element == b".." {
                at.pop().ok_or(FollowError::Outside)?;
                continue;
            }
            at.push(element);
            match self.lookup(at.join(&b'/')) {
                Some(Node::Symlink(link)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(FollowError::TooManyLinks);
                    }
                    if link.target().starts_with(b"/") {
                        return Err(FollowError::Outside);
                    }
                    at.pop();
                    elements(link.target()).rev().for_each(|element| ahead.push_front(element));
                }
                Some(Node::Directory(_)) => {}
                Some(_) if ahead.is_empty() => {}
                _ => return Err(FollowError::NotFound),
            }
        }
        self.lookup(at.join(&b'/')).ok_or(FollowError::NotFound)
    }
}

fn elements(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|element| !element.is_empty() && *element != b".").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{IndexBuilder, NewDirectory, NewSymlink};
    use super::*;
    use crate::digest::Digest;
    use crate::path::ArchivePath;

    #[test]
    fn links_are_followed_within_the_archive_alone() {
        let mut builder = IndexBuilder::new();
        let at = |path: &str| ArchivePath::new(path).unwrap();
        for path in ["a/b/c", "d"] {
            builder.empty_dir(NewDirectory { path: at(path), mode: 0o755, mtime_ns: 0 });
        }
        for (path, target) in [
            ("to-c", "a/b/c"),
            ("a/up", "../a/b"),
            ("twice", "a/up/c"),
            ("self", "self"),
            ("out", "../x"),
            ("abs", "/etc/passwd"),
            ("dangling", "nowhere"),
            ("root", "."),
            ("a/slash", "b//c/"),
        ] {
            builder.symlink(NewSymlink { path: at(path), target: target.into(), mtime_ns: 0 });
        }
        let index = builder.finish(0, &Digest::sha256_of(b"")).unwrap();
        for (path, expected) in [
            ("to-c", Ok("a/b/c")),
            ("a/up/c", Ok("a/b/c")),
            ("twice", Ok("a/b/c")),
            ("a/slash", Ok("a/b/c")),
            ("root/d", Ok("d")),
            ("a/up", Ok("a/b")),
            ("self", Err(FollowError::TooManyLinks)),
            ("out", Err(FollowError::Outside)),
            ("abs", Err(FollowError::Outside)),
            ("dangling", Err(FollowError::NotFound)),
            ("d/x", Err(FollowError::NotFound)),
            ("nothing", Err(FollowError::NotFound)),
        ] {
            let got = index.follow(path).map(|node| String::from_utf8(node.path().to_vec()).unwrap());
            assert_eq!(got, expected.map(str::to_owned), "{path}");
        }
    }
}
