//! The tree as it is shown: one row for each thing that can be seen, directories opened one by one.

use blob::core::{ArchiveIndex, DirEntry, Node};

/// The most children that an opened directory shows; what is beyond is found by searching.
const SHOWN: usize = 20_000;

/// What a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Directory {
        open: bool,
    },
    File {
        executable: bool,
    },
    Symlink,
    /// As many children of the directory above are not shown.
    More(usize),
}

/// One line of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The path in the archive.
    pub(super) path: Box<[u8]>,
    pub(super) depth: u16,
    pub(super) what: What,
    /// Bytes of a file.
    pub(super) size: u64,
}

impl Row {
    /// The last element of the path.
    pub(super) fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    fn new(parent: &[u8], depth: u16, entry: &DirEntry<'_>) -> Self {
        let path = if parent.is_empty() { entry.name.to_vec() } else { [parent, b"/", entry.name].concat() };
        let (what, size) = match entry.node {
            Node::File(file) => (What::File { executable: file.mode() & 0o111 != 0 }, file.original_size()),
            Node::Symlink(_) => (What::Symlink, 0),
            Node::Directory(_) | Node::EmptyDir(_) => (What::Directory { open: false }, 0),
        };
        Self { path: path.into(), depth, what, size }
    }
}

/// All rows, from top to bottom.
#[derive(Clone, Debug)]
pub(super) struct Rows(Vec<Row>);

impl Rows {
    /// The root's children.
    pub(super) fn new(index: &ArchiveIndex) -> Self {
        Self(children(index, b"", 0))
    }

    pub(super) fn as_slice(&self) -> &[Row] {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Opens the directory at row `at`, if it is one and closed.
    pub(super) fn open(&mut self, index: &ArchiveIndex, at: usize) {
        let Some(row) = self.0.get_mut(at) else { return };
        if row.what != (What::Directory { open: false }) {
            return;
        }
        row.what = What::Directory { open: true };
        let inside = children(index, &row.path, row.depth + 1);
        let after = self.0.split_off(at + 1);
        self.0.extend(inside);
        self.0.extend(after);
    }

    /// Closes the directory at row `at`, if it is open.
    pub(super) fn close(&mut self, at: usize) {
        let Some(row) = self.0.get_mut(at) else { return };
        if row.what != (What::Directory { open: true }) {
            return;
        }
        row.what = What::Directory { open: false };
        let depth = row.depth;
        let inside = self.0[at + 1..].iter().take_while(|row| row.depth > depth).count();
        self.0.drain(at + 1..at + 1 + inside);
    }

    /// The row of the directory that row `at` is in; `None` at the root.
    pub(super) fn parent(&self, at: usize) -> Option<usize> {
        let depth = self.0.get(at)?.depth.checked_sub(1)?;
        self.0[..at].iter().rposition(|row| row.depth == depth)
    }

    /// Opens what leads to `path` and gives its row, or that of the row which stands for it.
    pub(super) fn reveal(&mut self, index: &ArchiveIndex, path: &[u8]) -> Option<usize> {
        let mut at = None;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain([path.len()]) {
            let first = at.map_or(0, |at| at + 1);
            let depth = at.map_or(0, |at: usize| self.0[at].depth + 1);
            let siblings = self.0[first..].iter().take_while(|row| row.depth >= depth).enumerate();
            let mut siblings = siblings.filter(|(_, row)| row.depth == depth);
            let found = siblings.find(|(_, row)| *row.path == path[..end] || matches!(row.what, What::More(_)));
            let row = first + found?.0;
            if end < path.len() {
                self.open(index, row);
            }
            at = Some(row);
        }
        at
    }
}

/// What a directory holds: directories first, each group in the order of the archive.
fn children(index: &ArchiveIndex, path: &[u8], depth: u16) -> Vec<Row> {
    let mut entries = index.read_dir(path).unwrap_or_default();
    entries.sort_by_key(|entry| !entry.node.is_dir());
    let hidden = entries.len().saturating_sub(SHOWN);
    let mut rows: Vec<Row> = entries.iter().take(SHOWN).map(|entry| Row::new(path, depth, entry)).collect();
    if hidden > 0 {
        rows.push(Row { path: path.into(), depth, what: What::More(hidden), size: 0 });
    }
    rows
}
