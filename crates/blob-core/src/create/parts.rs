//! Making an archive of things that are no directory: the members of a tar stream, or what a program made up.
//!
//! The caller writes contents behind one another to a file and says which part of it belongs to which path; everything
//! else is as for a directory, so the same tree gives the same archive either way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use super::encode::Origin;
use super::error::{CreateError, LinkProblem};
use super::local::Stamp;
use super::options::{CreateOptions, EntryKind, Links, Presence};
use super::walk::{Found, MAX_TARGET, Tree};
use super::{Created, assemble};
use crate::index::{NewDirectory, NewSymlink};
use crate::path::ArchivePath;

/// Something that is to be archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits; masked to `0o777`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The modification time, in nanoseconds since 1970-01-01T00:00:00Z.
    pub mtime_ns: i64,
}

/// What a [`Member`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberKind {
    /// A file: where its content begins in the file of contents, and how many bytes it has. Members with the same
    /// beginning are names of one file.
    File {
        /// Offset in bytes.
        start: u64,
        /// Size in bytes.
        size: u64,
    },
    /// A symbolic link and what it points at: 1 to 4,095 bytes without NUL.
    Symlink(Vec<u8>),
    /// A directory. It is kept if nothing is in it.
    Directory,
    /// A socket, FIFO or device, which is left out and counted.
    Special,
}

/// Things to be archived, by path. Whatever has a path last replaces what had it before.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    members: BTreeMap<Vec<u8>, Member>,
}

impl Parts {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `member` for `path`, in place of what was there; that is returned.
    pub fn insert(&mut self, path: Vec<u8>, member: Member) -> Option<Member> {
        self.members.insert(path, member)
    }

    /// What was taken for `path` last.
    pub fn get(&self, path: &[u8]) -> Option<&Member> {
        self.members.get(path)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sorts the members out as the walk of a directory would.
    fn into_tree(self, options: &CreateOptions) -> Result<Tree, CreateError> {
        let mut tree = Tree::default();
        let mut starts: BTreeMap<u64, u32> = BTreeMap::new();
        for member in self.members.values() {
            if let MemberKind::File { start, size: 1.. } = member.kind {
                *starts.entry(start).or_default() += 1;
            }
        }
        // A directory holds something if a path below it comes; those are right behind it but for names like `a-b`.
        let mut dirs: Vec<(Vec<u8>, Member)> = Vec::new();
        let mut parents = std::collections::HashSet::new();
        for (path, member) in self.members {
            if !wanted(&path, &member.kind, options) {
                continue;
            }
            let Some(stored) = ArchivePath::new(&path).ok().filter(|path| path.as_str().is_some()) else {
                tree.names.add(path.into());
                continue;
            };
            match member.kind {
                MemberKind::Special => {
                    tree.special.add(path.into());
                    continue;
                }
                MemberKind::Symlink(_) if options.symlinks == Links::Skip => {
                    tree.skipped_symlinks += 1;
                    continue;
                }
                MemberKind::Symlink(target) if options.symlinks.are_followed() => {
                    return Err(CreateError::link(&path, &target, LinkProblem::NoDirectory));
                }
                _ => {}
            }
            for slash in path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
                // Whoever named this parent before, named those above it too.
                if !parents.insert(path[..slash].to_vec()) {
                    break;
                }
            }
            match member.kind {
                MemberKind::File { start, size } => {
                    let linked = starts.get(&start).is_some_and(|names| *names > 1);
                    tree.files.push(found(stored, &member, (start, size), linked));
                }
                MemberKind::Symlink(target) => {
                    if target.is_empty() || target.len() > MAX_TARGET {
                        return Err(CreateError::Target { path: path.into(), length: target.len() });
                    }
                    tree.symlinks.push(NewSymlink { path: stored, target, mtime_ns: options.mtime(member.mtime_ns) });
                }
                MemberKind::Directory | MemberKind::Special => dirs.push((path, member)),
            }
        }
        for (path, member) in dirs {
            if parents.contains(&path) {
                continue;
            }
            if options.empty_dirs == Presence::Skip {
                tree.skipped_empty_dirs += 1;
                continue;
            }
            let path = ArchivePath::new(&path).expect("it was checked with the others");
            let (mode, mtime_ns) = (member.mode & 0o777, options.mtime(member.mtime_ns));
            tree.empty_dirs.push(NewDirectory { path, mode, mtime_ns });
        }
        let limit = options.max_files;
        if (tree.files.len() + tree.symlinks.len() + tree.empty_dirs.len()) as u64 > limit {
            return Err(CreateError::TooManyFiles { limit });
        }
        tree.judge(options)?;
        Ok(tree)
    }
}

/// Whether the filter takes a path and every directory above it.
fn wanted(path: &[u8], kind: &MemberKind, options: &CreateOptions) -> bool {
    let Some(filter) = &options.filter else { return true };
    let kind = match kind {
        MemberKind::File { .. } => EntryKind::File,
        MemberKind::Symlink(_) => EntryKind::Symlink,
        MemberKind::Directory => EntryKind::Directory,
        MemberKind::Special => EntryKind::Special,
    };
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at).all(|at| filter(&path[..at], EntryKind::Directory)) && filter(path, kind)
}

fn found(path: ArchivePath, member: &Member, (start, size): (u64, u64), linked: bool) -> Found {
    // The number of a file tells which part it is, and files with two names from one another.
    let stamp = Stamp { dev: 0, ino: start, size, mtime: member.mtime_ns, ctime: member.mtime_ns };
    let (mode, uid, gid) = (member.mode & 0o777, member.uid, member.gid);
    Found { path, stamp, mode, uid, gid, linked: linked && size > 0, via: None }
}

/// Archives `parts`, whose contents are in `contents`: writes the data blob to `data`, and returns the index. What the
/// options say about the way a directory is watched and listed has no effect. Links cannot be followed.
///
/// # Errors
/// [`CreateError`], also [`CreateError::Changed`] when `contents` ends before a part of it does. What was written to
/// `data` is then of no use.
///
/// # Panics
/// As [`create`](super::create).
pub fn create_from_parts(
    parts: Parts,
    contents: &File,
    data: &mut dyn Write,
    options: &CreateOptions,
) -> Result<Created, CreateError> {
    let tree = parts.into_tree(options)?;
    assemble(Origin::Spool(contents), tree, data, options)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::create::{Reproducible, UnstorableNames, create};

    fn options() -> CreateOptions {
        CreateOptions { reproducible: Some(Reproducible::default()), ..CreateOptions::default() }
    }

    fn member(kind: MemberKind, mode: u32) -> Member {
        Member { kind, mode, uid: 7, gid: 8, mtime_ns: 9 }
    }

    #[test]
    fn parts_and_the_directory_they_are_of_give_one_archive() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let large = b"pseudo-random ".repeat(700_000);
        std::fs::create_dir_all(at("d/empty")).unwrap();
        for (name, content) in [("a", &b"same"[..]), ("d/b", b"same"), ("d/c", b""), ("large", &large)] {
            std::fs::write(at(name), content).unwrap();
        }
        symlink("a", at("link")).unwrap();
        std::fs::hard_link(at("large"), at("d/other-name")).unwrap();
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().mode();

        let contents = tempfile::tempfile().unwrap();
        (&contents).write_all(b"xsame").unwrap();
        (&contents).write_all(&large).unwrap();
        let file = |start: u64, size: u64| MemberKind::File { start, size };
        let length = large.len() as u64;
        let mut parts = Parts::new();
        for (path, kind, mode) in [
            ("large", file(5, length), mode("large")),
            ("d/other-name", file(5, length), mode("large")),
            ("d", MemberKind::Directory, 0o700),
            ("a", file(1, 4), mode("a")),
            ("link", MemberKind::Symlink(b"a".to_vec()), 0o777),
            ("d/empty", MemberKind::Directory, mode("d/empty")),
            ("d/b", file(1, 4), mode("d/b")),
            ("d/c", file(5, 0), mode("d/c")),
        ] {
            assert!(parts.insert(path.into(), member(kind, mode)).is_none());
        }
        let (mut from_dir, mut from_parts) = (Vec::new(), Vec::new());
        let expected = create(dir.path(), &mut from_dir, &options()).unwrap();
        let got = create_from_parts(parts, &contents, &mut from_parts, &options()).unwrap();
        assert_eq!(got.index.as_bytes(), expected.index.as_bytes());
        assert!(from_dir == from_parts);
        assert_eq!((got.report.files, got.report.symlinks, got.report.empty_dirs), (5, 1, 1));
        assert_eq!(got.report.original_bytes, expected.report.original_bytes);
    }

    #[test]
    fn contents_that_end_too_early_are_an_error() {
        let mut parts = Parts::new();
        parts.insert(b"a".to_vec(), member(MemberKind::File { start: 0, size: 4 }, 0o644));
        let contents = tempfile::tempfile().unwrap();
        let failed = create_from_parts(parts, &contents, &mut Vec::new(), &options()).unwrap_err();
        assert!(failed.is_changed(), "{failed}");
    }

    #[test]
    fn a_file_that_is_a_directory_too_is_refused() {
        let mut parts = Parts::new();
        for path in [&b"a"[..], b"a/b"] {
            parts.insert(path.to_vec(), member(MemberKind::File { start: 0, size: 0 }, 0o644));
        }
        let contents = tempfile::tempfile().unwrap();
        let failed = create_from_parts(parts, &contents, &mut Vec::new(), &options()).unwrap_err();
        assert!(matches!(failed, CreateError::Index(_)), "{failed}");
    }

    #[test]
    fn what_cannot_be_stored_is_counted_or_refused() {
        let parts = || {
            let mut parts = Parts::new();
            parts.insert(b"fifo".to_vec(), member(MemberKind::Special, 0));
            parts.insert(b"\xff".to_vec(), member(MemberKind::Directory, 0o755));
            parts
        };
        let contents = tempfile::tempfile().unwrap();
        let refused = create_from_parts(parts(), &contents, &mut Vec::new(), &options()).unwrap_err();
        assert!(matches!(refused, CreateError::Names { .. }), "{refused}");
        let mut lenient = options();
        lenient.unstorable_names = UnstorableNames::Skip;
        let report = create_from_parts(parts(), &contents, &mut Vec::new(), &lenient).unwrap().report;
        assert_eq!((report.special.count, report.skipped_names.count, report.files), (1, 1, 0));
    }

    #[test]
    fn links_are_not_followed_in_what_is_no_directory() {
        let mut parts = Parts::new();
        parts.insert(b"l".to_vec(), member(MemberKind::Symlink(b"a".to_vec()), 0o777));
        let mut follow = options();
        follow.symlinks = Links::Follow;
        let failed = create_from_parts(parts, &tempfile::tempfile().unwrap(), &mut Vec::new(), &follow).unwrap_err();
        assert!(matches!(failed, CreateError::Link { problem: LinkProblem::NoDirectory, .. }), "{failed}");
    }
}
