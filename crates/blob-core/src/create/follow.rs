//! Following symbolic links: to what they lead to, whether that may be taken, and whether it leads round in a circle.
//!
//! The kernel follows nothing here. A link is read, and what it says is walked element by element, so the outcome is a
//! path without any link in it. Whatever is listed or read later is opened by that path, again without following: a tree
//! that changes meanwhile is an error, never another file.
//!
//! Paths here are absolute and written without their first slash; `/` itself is empty. What lies in the directory that is
//! archived is always opened beneath its descriptor.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, readlinkat, stat, statat};
use rustix::io::Errno;

use super::error::{Change, CreateError, LinkProblem};
use super::local;
use super::options::EntryKind;

/// How many links there may be on the way to something, as for the kernel.
const MAX_LINKS: u32 = 40;

/// What links are followed with.
#[derive(Debug)]
pub(super) struct Follow {
    slash: OwnedFd,
    /// Where the directory is that is archived.
    root: Box<[u8]>,
    /// Whether what lies elsewhere is taken, too.
    outside: bool,
}

/// The directory that is archived, and what its links are followed with, if they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) follow: Option<&'a Follow>,
}

/// The link by which something came to its path in the archive; for what is in a linked directory, that of the directory.
#[derive(Debug)]
pub(super) struct Via {
    /// What the link leads to.
    real: Box<[u8]>,
    /// How many bytes of the path in the archive are the link's.
    length: usize,
    /// How many links were followed up to here.
    links: u32,
    /// How the directory with the link was reached.
    from: Option<Arc<Via>>,
}

/// What a link leads to.
pub(super) struct Followed {
    pub(super) stat: Stat,
    pub(super) via: Arc<Via>,
    /// What the link says.
    target: Box<[u8]>,
}

/// A link that cannot be followed, and as what a filter should judge it: what is not wanted is no error.
pub(super) struct Refused {
    pub(super) error: CreateError,
    pub(super) kind: EntryKind,
}

/// A symbolic link in an open directory.
pub(super) struct Link<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    /// Its path in the archive.
    pub(super) path: &'a [u8],
    /// How the directory was reached.
    pub(super) via: Option<&'a Arc<Via>>,
}

impl Via {
    /// Where that lies which is at `path` in the archive, and was reached by this link.
    fn real(&self, path: &[u8]) -> Vec<u8> {
        join(&self.real, without_slash(&path[self.length..]))
    }
}

impl Follow {
    /// For the directory `dir`, which is open as `root`.
    pub(super) fn new(dir: &Path, root: BorrowedFd<'_>, outside: bool) -> Result<Self, CreateError> {
        let read = |error: std::io::Error| CreateError::read(b"", "find the real path of", error);
        let real = dir.canonicalize().map_err(read)?;
        let same = |a: Stat, b: Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let (opened, found) = (fstat(root).map_err(|errno| read(errno.into()))?, stat(&real));
        if !found.is_ok_and(|found| same(opened, found)) {
            return Err(CreateError::changed(b".", Change::Replaced));
        }
        let slash = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let slash = slash.map_err(|errno| read(errno.into()))?;
        Ok(Self { slash, root: without_slash(real.as_os_str().as_bytes()).into(), outside })
    }

    /// Opens what lies at `real`, without following any link.
    fn open(&self, root: BorrowedFd<'_>, real: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        match below(real, &self.root) {
            Some(path) => local::open(root, path, flags),
            None => local::open(self.slash.as_fd(), real, flags),
        }
    }

    /// Where that lies which is at `path` in the archive.
    fn real(&self, path: &[u8], via: Option<&Via>) -> Vec<u8> {
        match via {
            Some(via) => via.real(path),
            None => join(&self.root, path),
        }
    }

    /// Whether the directory at `target` is one of those that the link at `path` is in, however they were reached: then
    /// it would be in the archive again and again.
    fn is_around(&self, target: &[u8], path: &[u8], from: Option<&Via>) -> bool {
        let (mut dir, mut via) = (parent(path), from);
        // Each part of the way begins where a link led to, the first at the root, and ends where the next one is.
        loop {
            let (begin, end) = (via.map_or(&self.root, |via| &via.real), self.real(dir, via));
            if below(target, begin).is_some() && below(&end, target).is_some() {
                return true;
            }
            let Some(reached) = via else { return false };
            (dir, via) = (parent(&path[..reached.length]), reached.from.as_deref());
        }
    }
}

impl Source<'_> {
    /// Opens what is at `path` in the archive. No link is followed: `via` has the way without any.
    pub(super) fn open(&self, path: &[u8], via: Option<&Via>, flags: OFlags) -> Result<OwnedFd, Errno> {
        match (self.follow, via) {
            (Some(follow), Some(via)) => follow.open(self.root, &via.real(path), flags),
            _ => local::open(self.root, path, flags),
        }
    }

    /// Finds out what a link leads to; `None` where links are not followed.
    pub(super) fn follow(&self, link: &Link<'_>) -> Option<Result<Followed, Refused>> {
        let follow = self.follow?;
        Some(Walk::new(follow, self.root, link).walk(link))
    }

    /// Refuses a link to a directory that it is in itself.
    pub(super) fn check_circle(&self, link: &Link<'_>, followed: &Followed) -> Result<(), CreateError> {
        let around = |follow: &Follow| follow.is_around(&followed.via.real, link.path, link.via.map(Arc::as_ref));
        if self.follow.is_some_and(around) {
            return Err(CreateError::link(link.path, &followed.target, LinkProblem::Circle));
        }
        Ok(())
    }
}

/// On the way to what a link leads to.
struct Walk<'a> {
    follow: &'a Follow,
    root: BorrowedFd<'a>,
    /// The directory that was come to, and where it is.
    dir: Dir<'a>,
    at: Vec<u8>,
    /// What is to be walked yet.
    rest: VecDeque<Box<[u8]>>,
    links: u32,
}

enum Dir<'a> {
    Borrowed(BorrowedFd<'a>),
    Owned(OwnedFd),
}

/// Why a walk ends.
enum End {
    Problem(LinkProblem),
    Failed(Errno),
}

impl<'a> Walk<'a> {
    fn new(follow: &'a Follow, root: BorrowedFd<'a>, link: &Link<'a>) -> Self {
        let via = link.via.map(Arc::as_ref);
        let at = follow.real(parent(link.path), via);
        let links = via.map_or(0, |via| via.links);
        Self { follow, root, dir: Dir::Borrowed(link.dir), at, rest: VecDeque::new(), links }
    }

    fn dir(&self) -> BorrowedFd<'_> {
        match &self.dir {
            Dir::Borrowed(dir) => *dir,
            Dir::Owned(dir) => dir.as_fd(),
        }
    }

    fn walk(mut self, link: &Link<'_>) -> Result<Followed, Refused> {
        let as_link = |error| Refused { error, kind: EntryKind::Symlink };
        let target = read_link(link).map_err(as_link)?;
        let problem = |problem| CreateError::link(link.path, &target, problem);
        let leaf = self.count().and_then(|()| self.enter(&target)).and_then(|()| self.finish());
        let stat = leaf.and_then(|leaf| leaf.map_or_else(|| fstat(self.dir()).map_err(End::Failed), Ok));
        let stat = stat.map_err(|end| match end {
            End::Problem(what) => as_link(problem(what)),
            End::Failed(errno) => as_link(CreateError::read(link.path, "follow", errno)),
        })?;
        if !self.follow.outside && below(&self.at, &self.follow.root).is_none() {
            return Err(Refused { error: problem(LinkProblem::Outside), kind: kind_of(&stat) });
        }
        let (links, from) = (self.links, link.via.cloned());
        let via = Via { real: self.at.into(), length: link.path.len(), links, from };
        Ok(Followed { stat, via: Arc::new(via), target })
    }

    fn count(&mut self) -> Result<(), End> {
        self.links += 1;
        if self.links > MAX_LINKS { Err(End::Problem(LinkProblem::TooManyLinks)) } else { Ok(()) }
    }

    /// Goes on with what a link says.
    fn enter(&mut self, target: &[u8]) -> Result<(), End> {
        for element in target.split(|byte| *byte == b'/').rev() {
            self.rest.push_front(element.into());
        }
        if target.starts_with(b"/") {
            self.at.clear();
            self.reopen()?;
        }
        Ok(())
    }

    /// Opens the directory anew by its path.
    fn reopen(&mut self) -> Result<(), End> {
        let opened = self.follow.open(self.root, &self.at, local::PASS);
        self.dir = Dir::Owned(opened.map_err(End::Failed)?);
        Ok(())
    }

    /// Walks all that is left; the state of what is there unless it is the directory that was come to.
    fn finish(&mut self) -> Result<Option<Stat>, End> {
        while let Some(element) = self.rest.pop_front() {
            match &*element {
                b"" | b"." => continue,
                b".." => {
                    self.at.truncate(parent(&self.at).len());
                    self.reopen()?;
                    continue;
                }
                _ => {}
            }
            let found = statat(self.dir(), &*element, AtFlags::SYMLINK_NOFOLLOW).map_err(nowhere)?;
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Symlink => {
                    self.count()?;
                    let target = readlinkat(self.dir(), &*element, Vec::new()).map_err(End::Failed)?;
                    self.enter(target.as_bytes())?;
                }
                FileType::Directory => {
                    let opened = rustix::fs::openat(self.dir(), &*element, local::PASS, Mode::empty());
                    self.dir = Dir::Owned(opened.map_err(End::Failed)?);
                    self.at = join(&self.at, &element);
                }
                // A slash behind a name says that it is a directory.
                _ if !self.rest.is_empty() => return Err(End::Problem(LinkProblem::Nowhere)),
                _ => {
                    self.at = join(&self.at, &element);
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}

fn nowhere(errno: Errno) -> End {
    if errno == Errno::NOENT { End::Problem(LinkProblem::Nowhere) } else { End::Failed(errno) }
}

/// What a link says.
fn read_link(link: &Link<'_>) -> Result<Box<[u8]>, CreateError> {
    match readlinkat(link.dir, link.name, Vec::new()) {
        Ok(target) => Ok(target.into_bytes().into()),
        Err(Errno::INVAL) => Err(CreateError::changed(link.path, Change::Replaced)),
        Err(errno) => Err(local::open_error(link.path, errno)),
    }
}

/// What something is by its state.
pub(super) fn kind_of(stat: &Stat) -> EntryKind {
    EntryKind::of(FileType::from_raw_mode(stat.st_mode))
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

/// The part of `path` below `dir`: empty if it is that directory, `None` if it is elsewhere.
fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(dir)?;
    if dir.is_empty() || rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// The directory that something is in.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &path[..slash])
}

/// The path of `name`, which may be a path itself, in `dir`.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_directories_and_not_beside_them() {
        for (path, dir, expected) in [
            ("a/b", "a", Some("b")),
            ("a", "a", Some("")),
            ("ab", "a", None),
            ("a", "a/b", None),
            ("a/b", "", Some("a/b")),
            ("", "", Some("")),
        ] {
            assert_eq!(below(path.as_bytes(), dir.as_bytes()), expected.map(str::as_bytes), "{path} {dir}");
        }
        assert_eq!((parent(b"a/b/c"), parent(b"a"), parent(b"")), (&b"a/b"[..], &b""[..], &b""[..]));
        assert_eq!([join(b"", b"a"), join(b"a", b"b/c"), join(b"a", b"")], [&b"a"[..], b"a/b/c", b"a"]);
    }

    #[test]
    fn the_real_way_is_the_targets_and_what_is_below() {
        let via = Via { real: b"srv/data".as_slice().into(), length: 3, links: 1, from: None };
        assert_eq!(via.real(b"a/l"), b"srv/data");
        assert_eq!(via.real(b"a/l/x/y"), b"srv/data/x/y");
        let to_root = Via { real: Box::default(), length: 1, links: 1, from: None };
        assert_eq!(to_root.real(b"l/etc"), b"etc");
    }
}
