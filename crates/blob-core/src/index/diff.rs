//! What differs between two archives, told by their indexes alone: no content is read.

use super::{ArchiveIndex, Node};

/// Something that is not the same in two archives.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Difference<'a> {
    /// It is in the second one only.
    Added(Node<'a>),
    /// It is in the first one only.
    Removed(Node<'a>),
    /// It is in both, and not the same.
    Changed {
        /// What it is in the first one.
        from: Node<'a>,
        /// What it is in the second one.
        to: Node<'a>,
        /// In what it differs.
        changes: Changes,
    },
}

/// In what two things with one path differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// One is a file, say, and the other a link.
    pub kind: bool,
    /// The content of a file, or the target of a link.
    pub content: bool,
    /// The permission bits.
    pub mode: bool,
    /// The modification time.
    pub mtime: bool,
}

impl Changes {
    /// Whether there is any.
    pub fn any(self) -> bool {
        self.kind || self.content || self.mode || self.mtime
    }

    fn of(from: &Node<'_>, to: &Node<'_>) -> Self {
        let same = Self::default();
        match (from, to) {
            (Node::File(a), Node::File(b)) => Self {
                content: a.digest() != b.digest(),
                mode: a.mode() != b.mode(),
                mtime: a.mtime_ns() != b.mtime_ns(),
                ..same
            },
            (Node::Symlink(a), Node::Symlink(b)) => {
                Self { content: a.target() != b.target(), mtime: a.mtime_ns() != b.mtime_ns(), ..same }
            }
            (Node::EmptyDir(a), Node::EmptyDir(b)) => {
                Self { mode: a.mode() != b.mode(), mtime: a.mtime_ns() != b.mtime_ns(), ..same }
            }
            (Node::Directory(_), Node::Directory(_)) => same,
            _ => Self { kind: true, content: true, ..same },
        }
    }
}

impl Difference<'_> {
    /// The path of what differs.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Added(node) | Self::Removed(node) | Self::Changed { to: node, .. } => node.path(),
        }
    }
}

/// Everything that differs between `first` and `second`, sorted by path bytes. Modes and times count only with `metadata`.
/// A directory that is empty in one of them and holds something in the other is no difference of its own.
///
/// ```
/// use blob_core::{ArchivePath, Digest, IndexBuilder, NewDirectory};
/// use blob_core::index::{Difference, diff};
///
/// let with = |paths: &[&str]| {
///     let mut builder = IndexBuilder::new();
///     for path in paths {
///         builder.empty_dir(NewDirectory { path: ArchivePath::new(path)?, mode: 0o755, mtime_ns: 0 });
///     }
///     Ok::<_, Box<dyn std::error::Error>>(builder.finish(0, &Digest::sha256_of(b""))?)
/// };
/// let (old, new) = (with(&["a", "b"])?, with(&["b", "c"])?);
/// assert_eq!(diff(&old, &new, false).count(), 2);
/// assert!(matches!(diff(&old, &new, false).next(), Some(Difference::Removed(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn diff<'a>(
    first: &'a ArchiveIndex,
    second: &'a ArchiveIndex,
    metadata: bool,
) -> impl Iterator<Item = Difference<'a>> {
    let mut sides = (first.root().nodes().peekable(), second.root().nodes().peekable());
    std::iter::from_fn(move || {
        loop {
            let (left, right) = (sides.0.peek().copied(), sides.1.peek().copied());
            let order = match (&left, &right) {
                (None, None) => return None,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.path().cmp(b.path()),
            };
            let left = if order.is_le() { sides.0.next() } else { None };
            let right = if order.is_ge() { sides.1.next() } else { None };
            let found = match (left, right) {
                (Some(from), Some(to)) => {
                    let changes = Changes::of(&from, &to);
                    let relevant = if metadata { changes.any() } else { changes.kind || changes.content };
                    relevant.then_some(Difference::Changed { from, to, changes })
                }
                (Some(from), None) => (!fills(&from, second)).then_some(Difference::Removed(from)),
                (None, Some(to)) => (!fills(&to, first)).then_some(Difference::Added(to)),
                (None, None) => None,
            };
            if found.is_some() {
                return found;
            }
        }
    })
}

/// Whether an empty directory is one that holds something in `other`.
fn fills(node: &Node<'_>, other: &ArchiveIndex) -> bool {
    matches!(node, Node::EmptyDir(dir) if other.directory(dir.path()).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{IndexBuilder, NewDirectory, NewFile, NewSymlink};
    use super::*;
    use crate::digest::Digest;
    use crate::entry::Compression;
    use crate::path::ArchivePath;

    fn index(things: &str) -> ArchiveIndex {
        let mut builder = IndexBuilder::new();
        for thing in things.split_whitespace() {
            let (name, rest) = thing.split_once('=').unwrap();
            let path = ArchivePath::new(name).unwrap();
            match rest.split_once(':').unwrap() {
                ("f", content) => builder.file(NewFile {
                    path,
                    data_offset: 0,
                    data_size: 1,
                    original_size: 1,
                    hash: *Digest::sha256_of(content.as_bytes()).as_bytes().first_chunk().unwrap(),
                    mode: if content.ends_with('x') { 0o755 } else { 0o644 },
                    uid: 0,
                    gid: 0,
                    mtime_ns: 0,
                    compression: Compression::None,
                }),
                ("l", target) => builder.symlink(NewSymlink { path, target: target.into(), mtime_ns: 0 }),
                (_, mode) => {
                    builder.empty_dir(NewDirectory { path, mode: mode.parse().unwrap(), mtime_ns: 0 });
                }
            }
        }
        builder.finish(1, &Digest::sha256_of(b"")).unwrap()
    }

    fn told(from: &str, to: &str, metadata: bool) -> String {
        let (from, to) = (index(from), index(to));
        let word = |difference: Difference<'_>| {
            let path = String::from_utf8(difference.path().to_vec()).unwrap();
            match difference {
                Difference::Added(_) => format!("+{path}"),
                Difference::Removed(_) => format!("-{path}"),
                Difference::Changed { changes, .. } => {
                    let bits = [changes.kind, changes.content, changes.mode, changes.mtime];
                    let letters = bits.iter().zip("kcmt".chars()).filter(|(set, _)| **set).map(|(_, letter)| letter);
                    format!("{path}:{}", letters.collect::<String>())
                }
            }
        };
        diff(&from, &to, metadata).map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn differences_come_in_path_order() {
        for (from, to, metadata, expected) in [
            ("", "", true, ""),
            ("a=f:1 b=f:2", "a=f:1 b=f:2", true, ""),
            ("a=f:1 c=f:3", "b=f:2 c=f:4", false, "-a +b c:c"),
            ("a=f:1", "a=l:x", false, "a:kc"),
            ("a=l:x", "a=l:y", false, "a:c"),
            ("a=f:1", "a=f:1x", false, "a:cm"),
            ("d=d:448", "d=d:493", false, ""),
            ("d=d:448", "d=d:493", true, "d:m"),
            ("d=d:448", "d/x=f:1", false, "+d/x"),
            ("d/x=f:1", "d=d:448", false, "-d/x"),
            ("d=f:1", "d/x=f:1", false, "-d +d/x"),
            ("a=f:1", "", false, "-a"),
        ] {
            assert_eq!(told(from, to, metadata), expected, "{from} | {to}");
        }
    }
}
