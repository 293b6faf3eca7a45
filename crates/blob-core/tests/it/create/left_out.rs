//! What does not come into an archive: counted, listed, refused where that is asked for, never silently lost.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use blob_core::create::{EntryKind, Links, Presence, UnstorableNames};
use blob_core::{CreateError, create};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{archive, options, paths, threads, tree};

#[test]
fn special_files_are_reported() {
    let dir = tree(&[("file", b"x")]);
    fs::create_dir(dir.path().join("run")).unwrap();
    mknodat(CWD, dir.path().join("run/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    let (created, _) = archive(dir.path(), &threads(2)).unwrap();
    assert_eq!(created.report.special.count, 2);
    assert_eq!(created.report.special.to_string(), "\"run/fifo\", \"socket\"");
    // A directory that held nothing else is there all the same.
    assert_eq!((created.report.files, created.report.empty_dirs), (1, 1));

    let error = archive(dir.path(), &options(|options| options.strict_loss = true)).unwrap_err();
    assert_eq!(error.to_string(), "2 special files or names would be left out: \"run/fifo\", \"socket\"");
}

#[test]
fn names_that_cannot_be_stored_are_refused_or_listed() {
    let dir = tree(&[("good", b"x"), ("C:/x", b"x"), ("..\\up", b"x"), ("\\\\host", b"x"), ("back\\slash", b"x")]);
    for number in 0..30 {
        let name = [b"bad\xff".as_slice(), format!("{number:02}").as_bytes()].concat();
        fs::write(dir.path().join(OsStr::from_bytes(&name)), "x").unwrap();
    }
    fs::create_dir_all(dir.path().join(OsStr::from_bytes(b"dir\xff/sub"))).unwrap();
    let mut data = Vec::new();
    let error = create(dir.path(), &mut data, &threads(2)).unwrap_err();
    let CreateError::Names { names } = &error else { panic!("{error:?}") };
    assert_eq!((names.count, names.first.len()), (34, 20));
    assert_eq!(&*names.first[0], b"..\\up");
    assert!(names.first.is_sorted() && data.is_empty());
    assert!(error.to_string().ends_with(" and 14 more"), "{error}");

    let mut skip = threads(2);
    skip.unstorable_names = UnstorableNames::Skip;
    let (created, _) = archive(dir.path(), &skip).unwrap();
    assert_eq!(paths(&created.index), ["back\\slash", "good"]);
    assert_eq!(created.report.skipped_names, *names);
    skip.strict_loss = true;
    assert!(matches!(archive(dir.path(), &skip), Err(CreateError::Loss { left_out }) if left_out == *names));
}

#[test]
fn links_and_empty_directories_can_be_left_out() {
    let dir = tree(&[("file", b"x")]);
    symlink("file", dir.path().join("link")).unwrap();
    fs::create_dir_all(dir.path().join("empty/er")).unwrap();
    let options = options(|options| (options.symlinks, options.empty_dirs) = (Links::Skip, Presence::Skip));
    let (created, _) = archive(dir.path(), &options).unwrap();
    let report = &created.report;
    assert_eq!((report.symlinks, report.empty_dirs, report.files), (0, 0, 1));
    assert_eq!((report.skipped_symlinks, report.skipped_empty_dirs), (1, 1));
    assert!(created.index.lookup("link").is_none() && created.index.lookup("empty").is_none());
}

#[test]
fn the_filter_sees_everything_and_prunes_directories() {
    let dir = tree(&[("a/keep", b"1"), ("a/drop.tmp", b"2"), ("node/x/y", b"3"), ("only/drop.tmp", b"4")]);
    symlink("keep", dir.path().join("a/link")).unwrap();
    let options = options(|options| {
        options.filter = Some(Arc::new(|path: &[u8], kind| match kind {
            EntryKind::Directory => path != b"node",
            EntryKind::Symlink => false,
            _ => {
                assert!(!path.starts_with(b"node"), "nothing in it is looked at");
                !path.ends_with(b".tmp")
            }
        }));
    });
    let (created, _) = archive(dir.path(), &options).unwrap();
    assert_eq!(paths(&created.index), ["a/keep"]);
    let empty: Vec<_> = created.index.root().empty_dirs().map(|dir| dir.path().to_vec()).collect();
    assert_eq!(empty, [b"only"]);
}

#[test]
fn the_limit_counts_before_anything_is_written() {
    let dir = tree(&[("a", b"1"), ("b/c", b"2")]);
    symlink("a", dir.path().join("link")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for (limit, works) in [(0, false), (3, false), (4, true), (u64::MAX, true)] {
        let mut data = Vec::new();
        let result = create(dir.path(), &mut data, &options(|options| options.max_files = limit));
        match result {
            Ok(created) => assert!(works && created.report.files == 2),
            Err(error) => {
                assert!(matches!(error, CreateError::TooManyFiles { limit: got } if got == limit), "{error:?}");
                assert!(!works && data.is_empty());
            }
        }
    }
}

#[test]
fn what_is_no_directory_is_told_apart() {
    let dir = tree(&[("file", b"x"), ("sub/x", b"x")]);
    symlink("sub", dir.path().join("link")).unwrap();
    assert!(matches!(archive(&dir.path().join("none"), &threads(1)), Err(CreateError::NotFound { .. })));
    assert!(matches!(archive(&dir.path().join("file"), &threads(1)), Err(CreateError::NotADirectory { .. })));
    let (created, _) = archive(&dir.path().join("link"), &threads(1)).unwrap();
    assert_eq!(paths(&created.index), ["x"]);
}
