//! What stands at the destination already, looked at before anything is written.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Handles, Root, io_error, obstructed, root};
use crate::digest::Hasher;
use crate::entry::Entry;
use crate::extract::select::{Placed, Tree};
use crate::extract::{Existing, ExtractError};
use crate::index::Node;

/// How much of a file is hashed at once: 128 KiB.
const STEP: usize = 128 << 10;

/// What there is to do about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::extract) enum Standing {
    /// Nothing is in the way.
    Write,
    /// What is there gets replaced.
    Replace,
    /// It stands there as the archive has it, but for its permission bits.
    Mode,
    /// It stands there as the archive has it.
    Kept,
    /// Something stands there, and stays.
    Skipped,
    /// Something else stands there, and nobody said what to do with it.
    Differs,
}

/// Looks at a destination for everything that a tree would write.
pub(in crate::extract) struct Scan<'a> {
    pub(in crate::extract) tree: &'a Tree,
    pub(in crate::extract) root: &'a Root,
    pub(in crate::extract) existing: Existing,
    /// Whether a file with other permission bits than it would get is another file, where files are updated.
    pub(in crate::extract) modes: bool,
    /// Paths below the root at which something stands that will be gone before anything is written.
    pub(in crate::extract) gone: Option<&'a HashSet<Box<[u8]>>>,
    pub(in crate::extract) threads: usize,
}

impl Scan<'_> {
    /// Which directories of the tree there are; what stands in the way of one is an error.
    pub(in crate::extract) fn dirs(&self) -> Result<Vec<bool>, ExtractError> {
        let mut present = vec![true];
        for dir in &self.tree.dirs[1..] {
            let there = present[dir.parent as usize]
                && !self.is_gone(&dir.path)
                && match self.root.dir(&dir.path) {
                    Ok(_) => true,
                    Err(Errno::NOENT) => false,
                    Err(error) => {
                        let path = self.root.path(&dir.path);
                        return Err(if root::is_obstacle(error) {
                            obstructed(&path, "a symbolic link or a file", "a directory")
                        } else {
                            io_error("opening the directory", path, error)
                        });
                    }
                };
            present.push(there);
        }
        Ok(present)
    }

    fn is_gone(&self, path: &[u8]) -> bool {
        self.gone.is_some_and(|gone| gone.contains(path))
    }

    /// What stands where `things` go, in their order. Files are compared by several threads.
    pub(in crate::extract) fn things(
        &self,
        things: &[Placed],
        present: &[bool],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Standing>, ExtractError> {
        const PIECE: usize = 64;
        let pieces: Vec<&[Placed]> = things.chunks(PIECE).collect();
        let (next, answers) = (AtomicUsize::new(0), Mutex::new(vec![Vec::new(); pieces.len()]));
        let work = || -> Result<(), ExtractError> {
            let mut handles = Handles::new(self.root, self.tree);
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(piece) = pieces.get(at) else { return Ok(()) };
                if stop() {
                    return Err(ExtractError::Cancelled);
                }
                let mut found = Vec::with_capacity(piece.len());
                for &placed in *piece {
                    let there = present[placed.dir as usize];
                    found.push(if there { self.one(&mut handles, placed)? } else { Standing::Write });
                }
                answers.lock().unwrap_or_else(PoisonError::into_inner)[at] = found;
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.threads.min(pieces.len())).map(|_| scope.spawn(work)).collect();
            let own = work();
            others.into_iter().fold(own, |so_far, other| match other.join() {
                Ok(result) => so_far.and(result),
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        Ok(answers.into_inner().unwrap_or_else(PoisonError::into_inner).concat())
    }

    fn one(&self, handles: &mut Handles<'_>, placed: Placed) -> Result<Standing, ExtractError> {
        let name = self.tree.name(placed);
        let path = || self.root.path(&self.tree.target(placed));
        let dir = handles.get(placed.dir)?;
        let standing = root::stat(dir.as_fd(), name).map_err(|error| io_error("looking at", path(), error))?;
        let Some(stat) = standing else { return Ok(Standing::Write) };
        if self.gone.is_some() && self.is_gone(&self.tree.target(placed)) {
            return Ok(Standing::Write);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let node = self.tree.archive.index().at(placed.node);
        if let (Node::EmptyDir(_), FileType::Directory) = (&node, kind) {
            return Ok(Standing::Kept);
        }
        match (self.existing, &node) {
            (Existing::Skip, _) => Ok(Standing::Skipped),
            (existing, node) if existing.replaces() && (node.is_dir() || kind == FileType::Directory) => {
                Err(if node.is_dir() {
                    obstructed(&path(), "a symbolic link or a file", "a directory")
                } else {
                    obstructed(&path(), "a directory", "a file or a link")
                })
            }
            (Existing::Overwrite, _) => Ok(Standing::Replace),
            (_, node) => {
                let same = match node {
                    Node::File(entry) => {
                        kind == FileType::RegularFile
                            && u64::try_from(stat.st_size) == Ok(entry.original_size())
                            && has_content(dir, name, *entry).map_err(|error| io_error("comparing", path(), error))?
                    }
                    Node::Symlink(link) => {
                        kind == FileType::Symlink
                            && fs::readlinkat(dir, name, Vec::new())
                                .is_ok_and(|found| found.as_bytes() == link.target())
                    }
                    Node::EmptyDir(_) | Node::Directory(_) => false,
                };
                Ok(self.judge(node, &stat, same))
            }
        }
    }

    /// What is done about something that may be the same as in the archive.
    #[allow(clippy::unnecessary_cast, reason = "the type differs by system")]
    fn judge(&self, node: &Node<'_>, stat: &fs::Stat, same: bool) -> Standing {
        match self.existing {
            Existing::Update | Existing::UpdateOlder if same && self.has_other_mode(node, stat) => {
                // Other names of the file may be anybody's, such as those in a cache.
                if stat.st_nlink as u64 == 1 { Standing::Mode } else { Standing::Replace }
            }
            _ if same => Standing::Kept,
            Existing::UpdateOlder if !is_older(stat, node) => Standing::Skipped,
            existing if existing.replaces() => Standing::Replace,
            _ => Standing::Differs,
        }
    }

    /// Gives a file that was found to differ in its permission bits those of the archive.
    #[allow(clippy::unnecessary_cast, reason = "the type differs by system")]
    pub(in crate::extract) fn set_mode(&self, dir: &OwnedFd, placed: Placed) -> Result<(), ExtractError> {
        let name = self.tree.name(placed);
        let set = || -> rustix::io::Result<()> {
            let file = open(dir, name)?;
            let stat = fs::fstat(&file)?;
            let mode = self.tree.entry(placed).mode() & 0o777 & !umask().unwrap_or(0o022);
            // What has the name by now may be something else.
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink as u64 != 1 {
                return Ok(());
            }
            fs::fchmod(&file, Mode::from_raw_mode(mode as fs::RawMode))
        };
        set().map_err(|error| io_error("setting the mode of", self.root.path(&self.tree.target(placed)), error))
    }

    /// Whether a file has other permission bits than it would be created with.
    #[allow(clippy::unnecessary_cast, reason = "the type differs by system")]
    fn has_other_mode(&self, node: &Node<'_>, stat: &fs::Stat) -> bool {
        match (node, umask()) {
            (Node::File(entry), Some(umask)) if self.modes => stat.st_mode as u32 & 0o777 != entry.mode() & !umask,
            _ => false,
        }
    }

    /// Whether the file `placed` stands at the destination with the content of the archive.
    pub(in crate::extract) fn is_same(&self, dir: &OwnedFd, placed: Placed) -> Result<bool, ExtractError> {
        let name = self.tree.name(placed);
        let failed = |error: std::io::Error| io_error("comparing", self.root.path(&self.tree.target(placed)), error);
        match root::stat(dir.as_fd(), name).map_err(|error| failed(error.into()))? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                has_content(dir, name, self.tree.entry(placed)).map_err(failed)
            }
            _ => Ok(false),
        }
    }

    /// The error for things that differ, if there are any.
    pub(in crate::extract) fn refuse(&self, differing: &[Placed]) -> Result<(), ExtractError> {
        const NAMED: usize = 1000;
        if differing.is_empty() {
            return Ok(());
        }
        let name = |&placed: &Placed| self.root.path(&self.tree.target(placed));
        let mut paths: Vec<PathBuf> = differing.iter().take(NAMED).map(name).collect();
        paths.sort();
        Err(ExtractError::Exists { paths, total: differing.len() as u64 })
    }
}

/// The bits that this process takes from the modes of new files, where the system tells without changing them.
fn umask() -> Option<u32> {
    static UMASK: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
        u32::from_str_radix(digits.trim(), 8).ok()
    })
}

/// Whether what stands there was changed before the archive's was.
#[allow(clippy::unnecessary_cast, reason = "the types differ by system")]
fn is_older(stat: &fs::Stat, node: &Node<'_>) -> bool {
    let there = stat.st_mtime as i128 * 1_000_000_000 + stat.st_mtime_nsec as i128;
    let ours = match node {
        Node::File(entry) => entry.mtime_ns(),
        Node::Symlink(link) => link.mtime_ns(),
        Node::EmptyDir(_) | Node::Directory(_) => return false,
    };
    there < i128::from(ours)
}

/// Opens a file to be looked at.
fn open(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    // Not blocking, should something that is no file have taken the name since it was looked at.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::empty())
}

/// Whether the file `name` holds what `entry` describes.
fn has_content(dir: &OwnedFd, name: &[u8], entry: Entry<'_>) -> std::io::Result<bool> {
    let mut file = File::from(open(dir, name)?);
    let mut hasher = Hasher::new(entry.digest().algorithm());
    let (mut step, mut left) = (vec![0; STEP.min(entry.original_size() as usize + 1)], entry.original_size());
    loop {
        match file.read(&mut step)? {
            0 => return Ok(left == 0 && hasher.finish() == entry.digest()),
            // It grows while it is read: what it was does not matter.
            got if got as u64 > left => return Ok(false),
            got => {
                hasher.update(&step[..got]);
                left -= got as u64;
            }
        }
    }
}
