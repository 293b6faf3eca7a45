//! Numbers for what stands in an index, for those who have to speak of it by numbers, as file systems do.

use super::{ArchiveIndex, Directory, Node};

/// The number of a file, link or directory within one index, from 0, which is the root, without gaps. The same index
/// gives the same numbers, whoever parses it; of another archive they say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    /// The number, less than [`ArchiveIndex::ids`].
    pub fn number(self) -> u32 {
        self.0
    }
}

impl ArchiveIndex {
    /// How many numbers there are: for files, links, empty directories, and directories that follow from paths.
    pub fn ids(&self) -> u32 {
        // Both are limited far below this when an index is parsed.
        (self.dirs.len() + self.nodes.len()) as u32
    }

    /// What has the number `number`; `None` from [`ids`](Self::ids) on.
    pub fn id(&self, number: u32) -> Option<NodeId> {
        (number < self.ids()).then_some(NodeId(number))
    }

    /// The number of what stands at `path`; the empty path is the root.
    pub fn id_at(&self, path: impl AsRef<[u8]>) -> Option<NodeId> {
        let path = path.as_ref();
        let node = || self.position(path).map(|at| NodeId(self.dirs.len() as u32 + at));
        let directory = || self.directory(path).map(|dir| NodeId(dir.at as u32));
        if path.is_empty() { Some(NodeId::ROOT) } else { node().or_else(directory) }
    }

    /// What `id`, a number of this index, is for; `None` for one of a larger index.
    pub fn by_id(&self, id: NodeId) -> Option<Node<'_>> {
        let number = id.0 as usize;
        if number < self.dirs.len() {
            return Some(Node::Directory(Directory { index: self, at: number }));
        }
        self.nodes.get(number - self.dirs.len()).map(|&slot| self.node(slot))
    }
}

impl Directory<'_> {
    /// Its number.
    pub fn id(&self) -> NodeId {
        NodeId(self.at as u32)
    }

    /// The numbers of what it holds, sorted by name: four bytes for each, where
    /// [`entries`](Self::entries) takes some seventy.
    pub fn child_ids(&self) -> Vec<NodeId> {
        let (index, dir) = (self.index, *self.dir());
        let skip = if dir.length == 0 { 0 } else { dir.length as usize + 1 };
        let nodes = index.dirs.len() as u32;
        let (mut node, mut child) = (dir.first, self.at as u32 + 1);
        let mut ids = Vec::new();
        while node < dir.end {
            // Directories stand in the order of their first node, so the next child directory is always at hand.
            if child < dir.next && index.dirs[child as usize].first == node {
                ids.push(NodeId(child));
                (node, child) = (index.dirs[child as usize].end, index.dirs[child as usize].next);
            } else {
                ids.push(NodeId(nodes + node));
                node += 1;
            }
        }
        // Byte order puts `a/…` behind `a-b`; by name `a` comes first. Nearly sorted input makes this cheap.
        ids.sort_by(|&a, &b| index.path_of(a)[skip..].cmp(&index.path_of(b)[skip..]));
        ids
    }
}

impl ArchiveIndex {
    fn path_of(&self, id: NodeId) -> &[u8] {
        self.by_id(id).map_or(b"", |node| node.path())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::digest::Digest;
    use crate::index::{IndexBuilder, NewFile};
    use crate::path::ArchivePath;

    fn index(paths: &[&str]) -> ArchiveIndex {
        let mut builder = IndexBuilder::new();
        for path in paths {
            builder.file(NewFile {
                path: ArchivePath::new(*path).unwrap(),
                data_offset: 0,
                data_size: 0,
                original_size: 0,
                hash: *Digest::sha256_of(b"").as_bytes().first_chunk().unwrap(),
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime_ns: 0,
                compression: crate::entry::Compression::None,
            });
        }
        builder.finish(0, &Digest::sha256_of(b"")).unwrap()
    }

    #[test]
    fn numbers_lead_there_and_back() {
        let index = index(&["a-b", "a/x", "a/b/y", "a/b.c", "z"]);
        let mut paths = Vec::new();
        for number in 0..index.ids() {
            let id = index.id(number).unwrap();
            let node = index.by_id(id).unwrap();
            assert_eq!(index.id_at(node.path()), Some(id), "{node:?}");
            assert_eq!(id.number(), number);
            paths.push(String::from_utf8(node.path().to_vec()).unwrap());
        }
        assert_eq!(paths, ["", "a", "a/b", "a-b", "a/b.c", "a/b/y", "a/x", "z"]);
        assert!(index.id(index.ids()).is_none() && index.by_id(NodeId(99)).is_none());
        assert_eq!(index.id_at("a/nothing"), None);
    }

    #[test]
    fn children_come_by_name() {
        let index = index(&["a-b", "a/x", "a/b/y", "a/b.c", "z"]);
        let names = |path: &str| -> Vec<&[u8]> {
            let dir = index.directory(path).unwrap();
            let listed: Vec<&[u8]> = dir.entries().iter().map(|entry| entry.node.path()).collect();
            let numbered: Vec<&[u8]> = dir.child_ids().into_iter().map(|id| index.by_id(id).unwrap().path()).collect();
            assert_eq!(numbered, listed);
            numbered
        };
        assert_eq!(names(""), [&b"a"[..], b"a-b", b"z"]);
        assert_eq!(names("a"), [&b"a/b"[..], b"a/b.c", b"a/x"]);
        assert_eq!(index.directory("a").unwrap().id(), index.id_at("a").unwrap());
    }
}
