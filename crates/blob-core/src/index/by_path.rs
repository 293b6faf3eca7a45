//! Finding nodes by their paths.

use std::hash::BuildHasher as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Slot;

/// Up to this many nodes the table is made when it is needed, which takes some milliseconds at most; beyond that when the
/// index is parsed, where nobody is held up.
const LATER: usize = 100_000;

/// For one search among so many nodes there is one more before the table is made: those who read a file or two do
/// without, and those who look up all of them hardly notice.
const SHARE: usize = 64;

/// Where the node with a path stands: by binary search as long as few ask, then by a table.
#[derive(Default)]
pub(super) struct ByPath {
    table: OnceLock<Table>,
    searches: AtomicU32,
}

struct Table {
    hasher: DefaultHashBuilder,
    positions: HashTable<u32>,
}

impl ByPath {
    /// Makes the table now where making it later would hold up somebody.
    pub(super) fn prepare(&self, nodes: &[Slot], bytes: &[u8]) {
        if nodes.len() > LATER {
            self.table.get_or_init(|| Table::new(nodes, bytes));
        }
    }

    /// The position of the node with `path` among `nodes`, which are sorted and always the same.
    pub(super) fn find(&self, nodes: &[Slot], bytes: &[u8], path: &[u8]) -> Option<u32> {
        let table = match self.table.get() {
            Some(table) => table,
            None if (self.searches.fetch_add(1, Ordering::Relaxed) as usize) < nodes.len() / SHARE => {
                return search(nodes, bytes, path);
            }
            None => self.table.get_or_init(|| Table::new(nodes, bytes)),
        };
        let same = |&at: &u32| nodes[at as usize].path(bytes) == path;
        table.positions.find(table.hasher.hash_one(path), same).copied()
    }
}

/// The position of the node with `path` among `nodes`, which are sorted.
pub(super) fn search(nodes: &[Slot], bytes: &[u8], path: &[u8]) -> Option<u32> {
    nodes.binary_search_by(|node| node.path(bytes).cmp(path)).ok().map(|at| at as u32)
}

impl Table {
    fn new(nodes: &[Slot], bytes: &[u8]) -> Self {
        let hasher = DefaultHashBuilder::default();
        let hash = |&at: &u32| hasher.hash_one(nodes[at as usize].path(bytes));
        let mut positions = HashTable::with_capacity(nodes.len());
        for at in 0..nodes.len() as u32 {
            positions.insert_unique(hash(&at), at, hash);
        }
        Self { hasher, positions }
    }
}
