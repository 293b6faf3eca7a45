//! Parsing and checking an index, whole and once.

use std::hash::BuildHasher as _;

use bytes::Bytes;
use hashbrown::HashTable;

use super::by_path::{ByPath, search};
use super::wire::{Table, malformed};
use super::{ArchiveIndex, Dir, IndexError, IndexLimits, Kind, Slot, Summary};
use crate::digest::Digest;
use crate::entry::slot;
use crate::path::{self, PathError};

/// Field ids of the `Index` table.
mod index_slot {
    pub(super) const VERSION: u16 = 0;
    pub(super) const HASH_ALGORITHM: u16 = 1;
    pub(super) const ENTRIES: u16 = 2;
    pub(super) const DATA_SIZE: u16 = 3;
    pub(super) const DATA_HASH: u16 = 4;
    pub(super) const SYMLINKS: u16 = 16;
    pub(super) const EMPTY_DIRS: u16 = 17;
}

/// Longer paths cannot be made on the systems that archives come from, but for tools that go there step by step.
const MAX_PATH: usize = 65_535;
const MAX_DEPTH: usize = 4096;

/// From this many nodes on, a second thread pays.
const PARALLEL: usize = 20_000;

/// How many layouts of entries are remembered. There is one for every set of fields that differ from their defaults: a few
/// in an archive.
const LAYOUTS: usize = 8;

/// Longer targets cannot exist on the systems that archives come from.
const MAX_TARGET: usize = 4095;

impl ArchiveIndex {
    /// Parses `bytes` and checks everything: structure, version, paths, order, sizes, hashes. Entries that are out of
    /// order are sorted; what two readers could read differently is refused.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn parse(bytes: impl Into<Bytes>, limits: &IndexLimits) -> Result<Self, IndexError> {
        let bytes = bytes.into();
        let max_bytes = limits.max_bytes.min(u64::from(i32::MAX.unsigned_abs()));
        if bytes.len() as u64 > max_bytes {
            return Err(IndexError::TooLarge { got: bytes.len() as u64, unit: "bytes", limit: max_bytes });
        }
        let mut check =
            Check { buffer: &bytes, nodes: Vec::new(), summary: Summary::default(), layouts: Vec::new(), paths: 0 };
        check.head_and_tables(limits.max_entries)?;
        let files = check.nodes.iter().filter(|node| node.kind() == Kind::File).count();
        let Check { mut nodes, mut summary, .. } = check;
        summary.sorted = sort(&bytes, &mut nodes)?;

        let mut index = Self { by_path: ByPath::default(), dirs: Vec::new(), bytes, nodes, files, summary };
        if index.nodes.len() < PARALLEL {
            index.check_hashes()?;
            index.dirs = index.directories(limits.max_directories)?;
            return Ok(index);
        }
        // The passes are bound by memory latency and touch different parts of the index.
        let (dirs, hashes) = std::thread::scope(|scope| {
            let hashes = scope.spawn(|| index.check_hashes());
            let dirs = index.directories(limits.max_directories);
            index.by_path.prepare(&index.nodes, &index.bytes);
            (dirs, hashes.join())
        });
        hashes.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        index.dirs = dirs?;
        Ok(index)
    }

    /// Every directory, found in one pass: in byte order, what lies beneath a directory is contiguous.
    fn directories(&self, limit: usize) -> Result<Vec<Dir>, IndexError> {
        let mut dirs = vec![Dir { first: 0, end: self.nodes.len() as u32, length: 0, next: 0 }];
        // Open directories, innermost last.
        let mut open: Vec<usize> = Vec::new();
        let mut before: &[u8] = b"";
        for (at, node) in self.nodes.iter().enumerate() {
            let path = node.path(&self.bytes);
            let innermost = open.last().map_or(0, |&dir| dirs[dir].length as usize);
            let beneath = path.get(innermost) == Some(&b'/') && path[..innermost] == before[..innermost];
            let rest = if innermost > 0 && beneath { innermost + 1 } else { 0 };
            if (rest > 0 || open.is_empty()) && !path[rest..].contains(&b'/') {
                before = path;
                continue;
            }
            let shared = shared(before, path);
            while open.last().is_some_and(|&dir| dirs[dir].length as usize >= shared) {
                close(&mut dirs, &mut open, at);
            }
            before = path;
            let mut from = open.last().map_or(0, |&dir| dirs[dir].length as usize + 1);
            while let Some(slash) = path[from..].iter().position(|&byte| byte == b'/') {
                let inside = &path[..from + slash];
                // Whatever stands between a node and what is beneath its path begins with that path, and so does the last
                // of it, which is the node before.
                if inside.len() == shared && search(&self.nodes[..at], &self.bytes, inside).is_some() {
                    return Err(IndexError::FileAndDirectory { path: inside.into() });
                }
                if dirs.len() > limit {
                    return Err(IndexError::TooLarge {
                        got: dirs.len() as u64,
                        unit: "directories",
                        limit: limit as u64,
                    });
                }
                open.push(dirs.len());
                dirs.push(Dir { first: at as u32, end: 0, length: inside.len() as u32, next: 0 });
                from += slash + 1;
            }
        }
        while !open.is_empty() {
            close(&mut dirs, &mut open, self.nodes.len());
        }
        dirs[0].next = dirs.len() as u32;
        Ok(dirs)
    }

    /// Equal hashes mean equal contents, so they must come with equal sizes.
    fn check_hashes(&self) -> Result<(), IndexError> {
        let hash_of = |at: u32| self.table(self.nodes[at as usize]).bytes(slot::entry::HASH).unwrap_or_default();
        let hasher = hashbrown::DefaultHashBuilder::default();
        let mut seen: HashTable<u32> = HashTable::with_capacity(self.files);
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.kind() == Kind::File) {
            let (at, hash) = (at as u32, hash_of(at as u32));
            let key = hasher.hash_one(hash);
            match seen.find(key, |&other| hash_of(other) == hash) {
                None => {
                    seen.insert_unique(key, at, |&other| hasher.hash_one(hash_of(other)));
                }
                Some(&other) => {
                    let size = |at: u32| self.table(self.nodes[at as usize]).u64(slot::entry::ORIGINAL_SIZE);
                    if size(other) != size(at) {
                        let problem = format!("{} bytes, but content with its hash has {}", size(at), size(other));
                        return Err(IndexError::Entry { path: node.path(&self.bytes).into(), problem });
                    }
                }
            }
        }
        Ok(())
    }
}

/// How many bytes two paths have in common at their beginning.
fn shared(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8)).take_while(|(a, b)| a == b).count() * 8;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// Ends the innermost open directory before node `at`.
fn close(dirs: &mut [Dir], open: &mut Vec<usize>, at: usize) {
    if let Some(dir) = open.pop() {
        dirs[dir].end = at as u32;
        dirs[dir].next = dirs.len() as u32;
    }
}

/// Sorts by path bytes and refuses duplicates; tells whether the nodes were in order.
fn sort(bytes: &[u8], nodes: &mut [Slot]) -> Result<bool, IndexError> {
    let in_order = |nodes: &[Slot]| nodes.windows(2).all(|pair| pair[0].path(bytes) < pair[1].path(bytes));
    if in_order(nodes) {
        return Ok(true);
    }
    let files = nodes.partition_point(|node| node.kind() == Kind::File);
    let files_in_order = in_order(&nodes[..files]);
    nodes.sort_unstable_by(|a, b| a.path(bytes).cmp(b.path(bytes)));
    match nodes.windows(2).find(|pair| pair[0].path(bytes) == pair[1].path(bytes)) {
        Some(pair) => Err(IndexError::Duplicate { path: pair[0].path(bytes).into() }),
        None => Ok(files_in_order),
    }
}

/// The state of the first pass.
struct Check<'a> {
    buffer: &'a [u8],
    nodes: Vec<Slot>,
    summary: Summary,
    /// Those of the entries before, at most [`LAYOUTS`].
    layouts: Vec<Layout>,
    /// The bytes of all paths until now.
    paths: usize,
}

impl<'a> Check<'a> {
    fn head_and_tables(&mut self, max_entries: usize) -> Result<(), IndexError> {
        let root = Table::root(self.buffer)?;
        for (field, size) in [(index_slot::VERSION, 4), (index_slot::HASH_ALGORITHM, 1), (index_slot::DATA_SIZE, 8)] {
            root.check_field(field, size)?;
        }
        match root.u32(index_slot::VERSION, 1) {
            1 => {}
            0 => return Err(malformed("its version is 0", root.position() as usize)),
            got => return Err(IndexError::Newer { what: "the index version", got: i64::from(got) }),
        }
        match root.i8(index_slot::HASH_ALGORITHM) {
            0 => {}
            got => return Err(IndexError::Newer { what: "the hash algorithm", got: i64::from(got) }),
        }
        for field in [index_slot::ENTRIES, index_slot::SYMLINKS, index_slot::EMPTY_DIRS] {
            root.check_vector(field, 4)?;
        }
        self.data_hash(root)?;

        let tables = |field| root.tables(field);
        let entries = tables(index_slot::ENTRIES).len();
        let total = entries + tables(index_slot::SYMLINKS).len() + tables(index_slot::EMPTY_DIRS).len();
        if total > max_entries {
            return Err(IndexError::TooLarge { got: total as u64, unit: "entries", limit: max_entries as u64 });
        }
        self.nodes.reserve_exact(total);
        for table in tables(index_slot::ENTRIES) {
            self.entry(table?)?;
        }
        for table in tables(index_slot::SYMLINKS) {
            self.symlink(table?)?;
        }
        for table in tables(index_slot::EMPTY_DIRS) {
            self.empty_dir(table?)?;
        }
        Ok(())
    }

    fn data_hash(&mut self, root: Table<'a>) -> Result<(), IndexError> {
        root.check_vector(index_slot::DATA_HASH, 1)?;
        self.summary.data_size = root.u64(index_slot::DATA_SIZE);
        self.summary.data_digest = match root.bytes(index_slot::DATA_HASH) {
            None | Some([]) => None,
            Some(hash) => {
                let fail = || malformed("its data hash does not have 32 bytes", root.position() as usize);
                Some(Digest::Sha256(hash.try_into().map_err(|_| fail())?))
            }
        };
        Ok(())
    }

    fn layout(&mut self, entry: Table<'a>) -> Result<Layout, IndexError> {
        let vtable = entry.vtable();
        if let Some(known) = self.layouts.iter().find(|known| Some(known.vtable) == vtable) {
            return Ok(*known);
        }
        if self.layouts.len() == LAYOUTS {
            self.layouts.clear();
        }
        let layout = Layout::of(entry)?;
        self.layouts.push(layout);
        Ok(layout)
    }

    fn entry(&mut self, table: Table<'a>) -> Result<(), IndexError> {
        let layout = self.layout(table)?;
        let (at, path) = self.path(table, layout.path)?;
        let fail = |problem| Err(IndexError::Entry { path: path.into(), problem });
        match table.bytes_at(layout.hash)?.map(|(_, hash)| hash.len()) {
            Some(32) => {}
            Some(length) => return fail(format!("its hash has {length} bytes instead of 32")),
            None => return fail("it has no hash".into()),
        }
        let number = |offset| u64::from_le_bytes(table.at(offset));
        let (offset, stored, original) = (number(layout.data_offset), number(layout.stored), number(layout.original));
        match i8::from_le_bytes(table.at(layout.compression)) {
            0 if stored != original => {
                return fail(format!("{stored} bytes are stored as they are, but its size is {original}"));
            }
            0 | 1 => {}
            got => return Err(IndexError::Newer { what: "the compression of a file", got: i64::from(got) }),
        }
        let Some(end) = offset.checked_add(stored) else {
            return fail(format!("its {stored} bytes at {offset} pass the largest offset there is"));
        };
        let summary = &mut self.summary;
        summary.data_end = summary.data_end.max(end);
        summary.original_bytes = summary.original_bytes.saturating_add(original);
        summary.stored_bytes = summary.stored_bytes.saturating_add(stored);
        self.nodes.push(Slot::new(Kind::File, table.position(), at, path.len()));
        Ok(())
    }

    fn symlink(&mut self, table: Table<'a>) -> Result<(), IndexError> {
        let (at, path) = self.path(table, table.offset(slot::symlink::PATH, 4)?)?;
        table.check_field(slot::symlink::MTIME_NS, 8)?;
        table.check_vector(slot::symlink::TARGET, 1)?;
        let target = table.bytes(slot::symlink::TARGET).unwrap_or_default();
        if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
            let problem = format!("its target is empty, longer than {MAX_TARGET} bytes or holds a NUL byte");
            return Err(IndexError::Entry { path: path.into(), problem });
        }
        self.nodes.push(Slot::new(Kind::Symlink, table.position(), at, path.len()));
        Ok(())
    }

    fn empty_dir(&mut self, table: Table<'a>) -> Result<(), IndexError> {
        let (at, path) = self.path(table, table.offset(slot::empty_dir::PATH, 4)?)?;
        table.check_field(slot::empty_dir::MODE, 4)?;
        table.check_field(slot::empty_dir::MTIME_NS, 8)?;
        self.nodes.push(Slot::new(Kind::EmptyDir, table.position(), at, path.len()));
        Ok(())
    }

    /// The path that the field at `offset` names, and where it begins.
    fn path(&mut self, table: Table<'a>, offset: usize) -> Result<(u32, &'a [u8]), IndexError> {
        let (at, path) = table.bytes_at(offset)?.unwrap_or_default();
        // Entries that share a long path would have it read and compared once for each of them. Real ones have bytes of
        // their own.
        self.paths += path.len();
        if self.paths > self.buffer.len() {
            return Err(malformed("its paths overlap", table.position() as usize));
        }
        if path.len() > MAX_PATH {
            return Err(malformed("a path is longer than 65,535 bytes", table.position() as usize));
        }
        // Every element but the first has a slash before it.
        if path.len() > MAX_DEPTH && path.split(|&byte| byte == b'/').nth(MAX_DEPTH).is_some() {
            return Err(malformed("a path has more than 4,096 elements", table.position() as usize));
        }
        path::check(path).map_err(|problem| PathError { path: path.into(), problem })?;
        Ok((at, path))
    }
}

/// Where the fields of the entries that share a vtable stand, as [`Table::offset`] gives it.
#[derive(Clone, Copy, Debug)]
struct Layout {
    vtable: usize,
    path: usize,
    hash: usize,
    data_offset: usize,
    stored: usize,
    original: usize,
    compression: usize,
}

impl Layout {
    /// The layout of `entry`, every field of which lies in its table.
    fn of(entry: Table<'_>) -> Result<Self, IndexError> {
        use slot::entry::{COMPRESSION, DATA_OFFSET, DATA_SIZE, GID, HASH, MODE, MTIME_NS, ORIGINAL_SIZE, PATH, UID};
        for (field, size) in [(MODE, 4), (UID, 4), (GID, 4), (MTIME_NS, 8)] {
            entry.check_field(field, size)?;
        }
        let vtable = entry.vtable().ok_or_else(|| malformed("a vtable lies before the index", 0))?;
        Ok(Self {
            vtable,
            path: entry.offset(PATH, 4)?,
            hash: entry.offset(HASH, 4)?,
            data_offset: entry.offset(DATA_OFFSET, 8)?,
            stored: entry.offset(DATA_SIZE, 8)?,
            original: entry.offset(ORIGINAL_SIZE, 8)?,
            compression: entry.offset(COMPRESSION, 1)?,
        })
    }
}
