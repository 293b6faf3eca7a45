//! The index as inodes. The number of an inode is that of its node plus one, so nothing is kept beside the index.

use std::time::{Duration, SystemTime};

use blob::Archive;
use blob::core::{ArchiveIndex, Node, NodeId};
use fuser::{FileAttr, FileType, INodeNo};
use std::sync::Arc;

/// Names that are longer have no place in a directory.
pub(super) const MAX_NAME: usize = 255;
/// The size of a block as `stat` counts them.
const SECTOR: u64 = 512;
/// What file systems call the size of their blocks.
pub(super) const BLOCK: u32 = 4096;

/// Files, links and directories by inode.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    index: Arc<ArchiveIndex>,
    /// The digest of the archive's manifest.
    pub(super) manifest: String,
    /// The time of directories, for which archives have none unless they are empty.
    made: SystemTime,
    user: u32,
    group: u32,
}

impl Tree {
    pub(super) fn new(archive: &Archive) -> Self {
        let created = archive.manifest().created().map(SystemTime::from);
        Self {
            index: Arc::clone(archive.index()),
            manifest: archive.manifest().digest().to_string(),
            made: created.unwrap_or(SystemTime::UNIX_EPOCH),
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        }
    }

    /// Says how many names cannot be shown.
    pub(super) fn warn_of_long_names(&self) {
        // Directories have their names from the paths beneath them.
        let is_long = |path: &[u8]| path.len() > MAX_NAME && path.split(|byte| *byte == b'/').any(is_long);
        let hidden = self.index.root().nodes().filter(|node| is_long(node.path())).count();
        if hidden > 0 {
            tracing::warn!("left out: {hidden} of the archive's paths, with names of more than {MAX_NAME} bytes");
        }
    }

    pub(super) fn index(&self) -> &ArchiveIndex {
        &self.index
    }

    /// What has the number `inode`.
    pub(super) fn node(&self, inode: INodeNo) -> Option<(NodeId, Node<'_>)> {
        let number = u32::try_from(inode.0.checked_sub(1)?).ok()?;
        let id = self.index.id(number)?;
        Some((id, self.index.by_id(id)?))
    }

    /// What the directory at `path` has under `name`.
    pub(super) fn child(&self, path: &[u8], name: &[u8]) -> Option<(NodeId, Node<'_>)> {
        let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        let id = self.index.id_at(path)?;
        Some((id, self.index.by_id(id)?))
    }

    /// The directory that holds what stands at `path`; the root holds itself.
    pub(super) fn parent(&self, path: &[u8]) -> NodeId {
        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.index.id_at(&path[..end]).unwrap_or(NodeId::ROOT)
    }

    pub(super) fn attributes(&self, id: NodeId, node: &Node<'_>) -> FileAttr {
        let (size, mode, modified) = match node {
            Node::File(file) => (file.original_size(), file.mode(), time(file.mtime_ns())),
            Node::Symlink(link) => (link.target().len() as u64, 0o777, time(link.mtime_ns())),
            Node::Directory(_) => (0, 0o755, self.made),
            Node::EmptyDir(dir) => (0, dir.mode(), time(dir.mtime_ns())),
        };
        // Nobody can write; links have no modes of their own.
        let mode = if matches!(node, Node::Symlink(_)) { mode } else { mode & 0o555 };
        FileAttr {
            ino: inode(id),
            size,
            blocks: size.div_ceil(SECTOR),
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: modified,
            kind: kind(node),
            perm: mode as u16,
            // For directories: nobody counted, as in Btrfs.
            nlink: 1,
            uid: self.user,
            gid: self.group,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        }
    }
}

/// The inode of a node.
pub(super) fn inode(id: NodeId) -> INodeNo {
    INodeNo(u64::from(id.number()) + 1)
}

fn kind(node: &Node<'_>) -> FileType {
    match node {
        Node::File(_) => FileType::RegularFile,
        Node::Symlink(_) => FileType::Symlink,
        Node::Directory(_) | Node::EmptyDir(_) => FileType::Directory,
    }
}

/// The last element of a path.
pub(super) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Whether a name is too long for a directory.
pub(super) fn is_long(name: &[u8]) -> bool {
    name.len() > MAX_NAME
}

/// Nanoseconds since 1970, or before it.
fn time(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    let time = if nanoseconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_times() {
        for nanoseconds in [0, 1, -1, 1_700_000_000_000_000_001, i64::MIN, i64::MAX] {
            let time = time(nanoseconds);
            let distance = match time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => i128::try_from(after.as_nanos()).unwrap_or_default(),
                Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or_default(),
            };
            assert_eq!(distance, i128::from(nanoseconds));
        }
    }

    #[test]
    fn names_are_last_elements() {
        for (path, expected) in [("", ""), ("a", "a"), ("a/b", "b"), ("a/b.c/d e", "d e")] {
            assert_eq!(name(path.as_bytes()), expected.as_bytes());
        }
        assert!(is_long(&[b'a'; 256]) && !is_long(&[b'a'; 255]));
    }
}
