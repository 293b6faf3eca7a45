//! Looking things up in a checked index.

use bytes::Bytes;

use super::wire::Table;
use super::{ArchiveIndex, Dir, IndexError, Kind, Slot};
use crate::digest::Digest;
use crate::entry::{EmptyDir, Entry, Symlink};

/// What stands at a path.
#[derive(Clone, Copy, Debug)]
pub enum Node<'a> {
    /// A file.
    File(Entry<'a>),
    /// A symbolic link.
    Symlink(Symlink<'a>),
    /// A directory that holds something, the root always among them.
    Directory(Directory<'a>),
    /// A directory that holds nothing.
    EmptyDir(EmptyDir<'a>),
}

impl<'a> Node<'a> {
    /// Its path; empty for the root.
    pub fn path(&self) -> &'a [u8] {
        match self {
            Self::File(file) => file.path(),
            Self::Symlink(link) => link.path(),
            Self::Directory(directory) => directory.path(),
            Self::EmptyDir(directory) => directory.path(),
        }
    }

    /// Whether it is a directory of either kind.
    pub fn is_dir(&self) -> bool {
        matches!(self, Self::Directory(_) | Self::EmptyDir(_))
    }
}

/// A directory that follows from the paths beneath it.
#[derive(Clone, Copy)]
pub struct Directory<'a> {
    pub(super) index: &'a ArchiveIndex,
    pub(super) at: usize,
}

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The last element of the path.
    pub name: &'a [u8],
    /// What it is.
    pub node: Node<'a>,
}

impl std::fmt::Debug for Directory<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Directory(\"{}\")", crate::path::Shown(self.path()))
    }
}

impl<'a> Directory<'a> {
    pub(super) fn dir(&self) -> &'a Dir {
        &self.index.dirs[self.at]
    }

    /// Its path; empty for the root.
    pub fn path(&self) -> &'a [u8] {
        self.index.dir_path(self.dir())
    }

    /// What it holds, sorted by name.
    pub fn entries(&self) -> Vec<DirEntry<'a>> {
        let (index, dir) = (self.index, *self.dir());
        let skip = if dir.length == 0 { 0 } else { dir.length as usize + 1 };
        let mut children = Vec::new();
        let (mut node, mut child) = (dir.first, self.at as u32 + 1);
        while node < dir.end {
            // Directories stand in the order of their first node, so the next child directory is always at hand.
            if child < dir.next && index.dirs[child as usize].first == node {
                let sub = Self { index, at: child as usize };
                children.push(DirEntry { name: &sub.path()[skip..], node: Node::Directory(sub) });
                (node, child) = (sub.dir().end, sub.dir().next);
            } else {
                let slot = index.nodes[node as usize];
                children.push(DirEntry { name: &slot.path(&index.bytes)[skip..], node: index.node(slot) });
                node += 1;
            }
        }
        // Byte order puts `a/…` behind `a-b`; by name `a` comes first. Nearly sorted input makes this cheap.
        children.sort_unstable_by(|a, b| a.name.cmp(b.name));
        children
    }

    /// The files beneath it, at any depth, sorted by path bytes.
    pub fn files(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (index, dir) = (self.index, self.dir());
        index.files_in(dir.first as usize..dir.end as usize)
    }

    /// The links beneath it, at any depth, sorted by path bytes.
    pub fn symlinks(&self) -> impl Iterator<Item = Symlink<'a>> + use<'a> {
        self.nodes().filter_map(|node| if let Node::Symlink(link) = node { Some(link) } else { None })
    }

    /// The empty directories beneath it, at any depth, sorted by path bytes.
    pub fn empty_dirs(&self) -> impl Iterator<Item = EmptyDir<'a>> + use<'a> {
        self.nodes().filter_map(|node| if let Node::EmptyDir(dir) = node { Some(dir) } else { None })
    }

    /// The directories beneath it that hold something, at any depth, parents first.
    pub fn directories(&self) -> impl Iterator<Item = Directory<'a>> + use<'a> {
        let index = self.index;
        (self.at + 1..self.dir().next as usize).map(move |at| Directory { index, at })
    }

    /// Where its nodes stand among all, for [`ArchiveIndex::at`].
    #[cfg(feature = "fs")]
    pub(crate) fn positions(&self) -> std::ops::Range<u32> {
        self.dir().first..self.dir().end
    }

    /// Everything that is recorded beneath it, at any depth, sorted by path bytes: files, links and empty directories.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let (index, dir) = (self.index, self.dir());
        index.nodes[dir.first as usize..dir.end as usize].iter().map(move |&slot| index.node(slot))
    }
}

impl ArchiveIndex {
    /// The bytes that were parsed.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// About how much memory it takes, in bytes: what was parsed, and what was made of that.
    pub fn memory(&self) -> usize {
        let derived = size_of_val(self.nodes.as_slice()) + size_of_val(self.dirs.as_slice());
        // The table of paths takes about eight bytes for each of them.
        self.bytes.len() + derived + 8 * self.nodes.len()
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files == 0
    }

    /// Whether the files stood in byte order, as they should; other implementations look some of them up in vain
    /// otherwise.
    pub fn was_sorted(&self) -> bool {
        self.summary.sorted
    }

    /// The digest of the data blob, if the index records it.
    pub fn data_digest(&self) -> Option<Digest> {
        self.summary.data_digest
    }

    /// The size of the data blob in bytes, if the index records it (which it does together with the digest).
    pub fn data_size(&self) -> Option<u64> {
        self.summary.data_digest.map(|_| self.summary.data_size)
    }

    /// Where the last stored byte ends: the data blob has at least this many bytes.
    pub fn data_end(&self) -> u64 {
        self.summary.data_end
    }

    /// The sum of the sizes of all files, in bytes.
    pub fn original_bytes(&self) -> u64 {
        self.summary.original_bytes
    }

    /// The sum of the stored sizes of all files, in bytes; files that share bytes count each.
    pub fn stored_bytes(&self) -> u64 {
        self.summary.stored_bytes
    }

    /// Compares the index with the data blob it is to be used with, as a trusted manifest describes it.
    ///
    /// # Errors
    /// [`IndexError::Data`] when digest or size differ.
    pub fn check_data(&self, digest: &Digest, size: u64) -> Result<(), IndexError> {
        let fail = |what, expected: String, got: String| Err(IndexError::Data { what, expected, got });
        match self.data_digest() {
            Some(own) if own != *digest => return fail("digest", digest.to_string(), own.to_string()),
            Some(_) if self.summary.data_size != size => {
                return fail("size in bytes", size.to_string(), self.summary.data_size.to_string());
            }
            _ => {}
        }
        self.check_end(size)
    }

    /// Refuses a data blob that is too short for the files.
    ///
    /// # Errors
    /// [`IndexError::Data`].
    pub fn check_end(&self, size: u64) -> Result<(), IndexError> {
        if self.summary.data_end <= size {
            return Ok(());
        }
        let expected = format!("files end within {size}");
        Err(IndexError::Data { what: "size in bytes", expected, got: format!("one ends at {}", self.summary.data_end) })
    }

    /// The file at `path`.
    pub fn entry(&self, path: impl AsRef<[u8]>) -> Option<Entry<'_>> {
        match self.node_at(path.as_ref())? {
            Node::File(entry) => Some(entry),
            _ => None,
        }
    }

    /// What stands at `path`; the empty path is the root.
    pub fn lookup(&self, path: impl AsRef<[u8]>) -> Option<Node<'_>> {
        let path = path.as_ref();
        self.node_at(path).or_else(|| self.directory(path).map(Node::Directory))
    }

    /// The directory at `path`, if it holds something; the empty path is the root, which always exists.
    pub fn directory(&self, path: impl AsRef<[u8]>) -> Option<Directory<'_>> {
        let path = path.as_ref();
        if path.is_empty() {
            return Some(self.root());
        }
        // What lies beneath it begins where its path and a slash would stand.
        let first = self.nodes.partition_point(|node| {
            let node = node.path(&self.bytes);
            match node.get(..path.len()) {
                Some(start) if start == path => node.get(path.len()).is_none_or(|&byte| byte < b'/'),
                _ => node < path,
            }
        });
        let found =
            self.dirs.binary_search_by_key(&(first, path.len()), |dir| (dir.first as usize, dir.length as usize));
        let dir = Directory { index: self, at: found.ok()? };
        (dir.path() == path).then_some(dir)
    }

    /// The root directory.
    pub fn root(&self) -> Directory<'_> {
        Directory { index: self, at: 0 }
    }

    /// What the directory at `path` holds, sorted by name; `None` when there is no such directory.
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Option<Vec<DirEntry<'_>>> {
        match self.lookup(path)? {
            Node::Directory(dir) => Some(dir.entries()),
            Node::EmptyDir(_) => Some(Vec::new()),
            Node::File(_) | Node::Symlink(_) => None,
        }
    }

    /// All files, sorted by path bytes.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.files_in(0..self.nodes.len())
    }

    /// The files whose path begins with these bytes, sorted: `assets` matches `assets/x` and `assets2`.
    pub fn entries_with_prefix(&self, prefix: impl AsRef<[u8]>) -> impl Iterator<Item = Entry<'_>> {
        let prefix = prefix.as_ref();
        let start = self.nodes.partition_point(|node| node.path(&self.bytes) < prefix);
        let length = self.nodes[start..].partition_point(|node| node.path(&self.bytes).starts_with(prefix));
        self.files_in(start..start + length)
    }

    fn files_in(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = Entry<'_>> + use<'_> {
        self.nodes[range].iter().filter(|slot| slot.kind() == Kind::File).map(|&slot| self.file(slot))
    }

    pub(super) fn node_at(&self, path: &[u8]) -> Option<Node<'_>> {
        self.position(path).map(|at| self.at(at))
    }

    /// Where the file, link or empty directory at `path` stands among all: four bytes that stand for it in plans.
    pub(crate) fn position(&self, path: &[u8]) -> Option<u32> {
        self.by_path.find(&self.nodes, &self.bytes, path)
    }

    /// What stands at a position, which came from this index.
    pub(crate) fn at(&self, position: u32) -> Node<'_> {
        self.node(self.nodes[position as usize])
    }

    fn dir_path(&self, dir: &Dir) -> &[u8] {
        let first = self.nodes.get(dir.first as usize);
        first.map_or(b"", |slot| &slot.path(&self.bytes)[..dir.length as usize])
    }

    pub(super) fn table(&self, slot: Slot) -> Table<'_> {
        Table::trusted(&self.bytes, slot.table)
    }

    fn file(&self, slot: Slot) -> Entry<'_> {
        Entry { table: self.table(slot), path: slot.path(&self.bytes) }
    }

    pub(super) fn node(&self, slot: Slot) -> Node<'_> {
        let (table, path) = (self.table(slot), slot.path(&self.bytes));
        match slot.kind() {
            Kind::File => Node::File(Entry { table, path }),
            Kind::Symlink => Node::Symlink(Symlink { table, path }),
            Kind::EmptyDir => Node::EmptyDir(EmptyDir { table, path }),
        }
    }
}
