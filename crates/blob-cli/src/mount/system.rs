//! What the kernel asks, answered. Everything that the index knows is answered at once; contents that are not held are
//! fetched by tasks, which answer when they have them, so that nobody waits for somebody else's bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use blob::core::{Node, NodeId};
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyXattr, Request,
};
use tokio::runtime::Handle;

use super::listings::Listings;
use super::tree::{BLOCK, MAX_NAME, Tree, inode, is_long, name};
use crate::contents::{Content, Contents, Unreadable};

/// How long the kernel may believe what it was told: an archive never changes.
const FOR_EVER: Duration = Duration::from_hours(365 * 24);
/// Numbers are never used again.
const GENERATION: Generation = Generation(0);
/// Reads ahead that the kernel may have under way at a time.
const MAX_BACKGROUND: u16 = 64;
/// The attributes that say what one has before one.
const DIGEST: &str = "user.blob.digest";
const MANIFEST: &str = "user.blob.manifest";

/// What is nice to have of a kernel, each asked for by itself.
const WANTED: [InitFlags; 6] = [
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
];

/// A file system that answers for one archive.
pub(super) struct System {
    tree: Tree,
    contents: Arc<Contents>,
    runtime: Handle,
    listings: Listings,
    /// Whether the kernel can do without being told that files and directories are opened.
    opens: bool,
}

impl System {
    pub(super) fn new(tree: Tree, contents: Contents, runtime: Handle) -> Self {
        Self { tree, contents: Arc::new(contents), runtime, listings: Listings::default(), opens: true }
    }

    /// A name that is not there is not there for ever, too.
    fn absent(&self, reply: ReplyEntry) {
        let mut nothing = self.tree.attributes(NodeId::ROOT, &Node::Directory(self.tree.index().root()));
        nothing.ino = INodeNo(0);
        reply.entry(&FOR_EVER, &nothing, GENERATION);
    }

    /// The names of a directory from `offset` on: inode, position behind it, name, attributes. `each` says when to stop.
    fn list(
        &self,
        directory: INodeNo,
        offset: u64,
        mut each: impl FnMut(INodeNo, u64, &[u8], &FileAttr) -> bool,
    ) -> Result<(), Errno> {
        let (id, node) = self.tree.node(directory).ok_or(Errno::ENOENT)?;
        let children = match &node {
            Node::Directory(dir) => self.listings.find(id, || dir.child_ids()),
            Node::EmptyDir(_) => Arc::from([]),
            Node::File(_) | Node::Symlink(_) => return Err(Errno::ENOTDIR),
        };
        let dots = [(&b"."[..], id), (b"..", self.tree.parent(node.path()))];
        let all = dots.len() as u64 + children.len() as u64;
        for at in offset..all {
            let dot = usize::try_from(at).ok().and_then(|at| dots.get(at));
            let (given, id) = match dot {
                Some((given, id)) => (Some(*given), *id),
                None => (None, children[at as usize - dots.len()]),
            };
            let Some(node) = self.tree.index().by_id(id) else { continue };
            let name = given.unwrap_or_else(|| name(node.path()));
            if is_long(name) {
                continue;
            }
            if each(inode(id), at + 1, name, &self.tree.attributes(id, &node)) {
                break;
            }
        }
        Ok(())
    }

    /// The value of an extended attribute.
    fn attribute(&self, inode: INodeNo, name: &[u8]) -> Result<String, Errno> {
        match self.tree.node(inode).ok_or(Errno::ENOENT)? {
            (_, Node::File(file)) if name == DIGEST.as_bytes() => Ok(file.digest().to_string()),
            (NodeId::ROOT, _) if name == MANIFEST.as_bytes() => Ok(self.tree.manifest.clone()),
            _ => Err(Errno::NO_XATTR),
        }
    }
}

/// Answers with `value` as extended attributes are asked for: its size first.
fn answer_attribute(value: &[u8], room: u32, reply: ReplyXattr) {
    match room {
        0 => reply.size(value.len() as u32),
        room if value.len() > room as usize => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

/// Answers with what is meant of a content. What lies on disk is read by the caller's thread.
fn answer(content: &Content, offset: u64, size: u32, reply: ReplyData) {
    match content {
        Content::Memory(bytes) => {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let end = start.saturating_add(size as usize).min(bytes.len());
            reply.data(&bytes[start..end]);
        }
        Content::Disk(spooled) => {
            let wanted = spooled.size.saturating_sub(offset).min(u64::from(size));
            let mut buffer = vec![0; wanted as usize];
            match spooled.file.read_exact_at(&mut buffer, offset.min(spooled.size)) {
                Ok(()) => reply.data(&buffer),
                Err(error) => {
                    tracing::error!("cannot read a temporary file: {error}");
                    reply.error(Errno::EIO);
                }
            }
        }
    }
}

impl From<Unreadable> for Errno {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Failed | Unreadable::Damaged | Unreadable::Busy => Self::EIO,
            Unreadable::NoRoom => Self::ENOSPC,
        }
    }
}

impl Filesystem for System {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for flag in WANTED {
            // An older kernel does without.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        let unopened = InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        self.opens = !config.capabilities().contains(unopened);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some((_, parent)) = self.tree.node(parent) else { return reply.error(Errno::ENOENT) };
        if is_long(name.as_bytes()) {
            return reply.error(Errno::ENAMETOOLONG);
        }
        match self.tree.child(parent.path(), name.as_bytes()) {
            Some((id, node)) => reply.entry(&FOR_EVER, &self.tree.attributes(id, &node), GENERATION),
            None => self.absent(reply),
        }
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.node(inode) {
            Some((id, node)) => reply.attr(&FOR_EVER, &self.tree.attributes(id, &node)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        match self.tree.node(inode) {
            Some((_, Node::Symlink(link))) => reply.data(link.target()),
            Some(_) => reply.error(Errno::EINVAL),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        } else {
            // From now on the kernel does not ask, and keeps what it has read.
            reply.error(Errno::ENOSYS);
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (id, entry) = match self.tree.node(inode) {
            Some((id, Node::File(entry))) => (id, entry),
            Some((_, Node::Directory(_) | Node::EmptyDir(_))) => return reply.error(Errno::EISDIR),
            Some(_) => return reply.error(Errno::EINVAL),
            None => return reply.error(Errno::ENOENT),
        };
        if let Some(content) = self.contents.held(&entry) {
            return answer(&content, offset, size, reply);
        }
        let contents = Arc::clone(&self.contents);
        self.runtime.spawn(async move {
            match contents.read(id).await {
                Ok(content @ Content::Memory(_)) => answer(&content, offset, size, reply),
                Ok(content) => drop(tokio::task::spawn_blocking(move || answer(&content, offset, size, reply))),
                Err(why) => reply.error(why.into()),
            }
        });
    }

    fn flush(&self, _request: &Request, _inode: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
        } else {
            reply.error(Errno::ENOSYS);
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        directory: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.list(directory, offset, |inode, next, name, attributes| {
            reply.add(inode, next, attributes.kind, OsStr::from_bytes(name))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        directory: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.list(directory, offset, |inode, next, name, attributes| {
            reply.add(inode, next, OsStr::from_bytes(name), &FOR_EVER, attributes, GENERATION)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let index = self.tree.index();
        let blocks = index.original_bytes().div_ceil(u64::from(BLOCK));
        reply.statfs(blocks, 0, 0, u64::from(index.ids()), 0, BLOCK, MAX_NAME as u32, BLOCK);
    }

    fn getxattr(&self, _request: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.attribute(inode, name.as_bytes()) {
            Ok(value) => answer_attribute(value.as_bytes(), size, reply),
            Err(error) => reply.error(error),
        }
    }

    fn listxattr(&self, _request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let name = match self.tree.node(inode) {
            Some((_, Node::File(_))) => DIGEST,
            Some((NodeId::ROOT, _)) => MANIFEST,
            Some(_) => return answer_attribute(b"", size, reply),
            None => return reply.error(Errno::ENOENT),
        };
        answer_attribute(&[name.as_bytes(), b"\0"].concat(), size, reply);
    }
}
