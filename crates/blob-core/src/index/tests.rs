//! Our reader against the generated code, against damage, and against itself.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::index_generated::blob as wire;
use super::*;
use crate::entry::Compression;
use crate::path::ArchivePath;

fn file(path: &str, offset: u64, content: &[u8]) -> NewFile {
    NewFile {
        path: ArchivePath::new(path).unwrap(),
        data_offset: offset,
        data_size: content.len() as u64,
        original_size: content.len() as u64,
        hash: Digest::sha256_of(content).as_bytes().try_into().unwrap(),
        mode: 0o644,
        uid: 1000,
        gid: 1001,
        mtime_ns: 1_700_000_000_123_456_789,
        compression: Compression::None,
    }
}

fn sample() -> ArchiveIndex {
    let mut builder = IndexBuilder::new();
    for (number, path) in ["a/x", "a-b", "a.txt", "foo/bar/y", "foo/y", "foo.txt", "zz", "größe"].iter().enumerate() {
        builder.file(file(path, 0, number.to_string().as_bytes()));
    }
    builder.symlink(NewSymlink { path: ArchivePath::new("a/link").unwrap(), target: b"../zz".to_vec(), mtime_ns: -5 });
    builder.empty_dir(NewDirectory { path: ArchivePath::new("foo/empty").unwrap(), mode: 0o750, mtime_ns: 7 });
    builder.finish(1, &Digest::sha256_of(b"0")).unwrap()
}

#[test]
fn listings_are_by_name_and_lookups_find_everything() {
    let index = sample();
    let names = |path: &str| -> Vec<String> {
        let entries = index.read_dir(path).unwrap();
        entries.iter().map(|entry| String::from_utf8_lossy(entry.name).into_owned()).collect()
    };
    assert_eq!(names(""), ["a", "a-b", "a.txt", "foo", "foo.txt", "größe", "zz"]);
    assert_eq!(names("a"), ["link", "x"]);
    assert_eq!(names("foo"), ["bar", "empty", "y"]);
    assert_eq!(names("foo/empty"), [""; 0]);
    assert!(index.read_dir("zz").is_none() && index.read_dir("fo").is_none() && index.read_dir("a/link").is_none());
    assert!(matches!(index.lookup("a"), Some(Node::Directory(_))));
    assert!(matches!(index.lookup("foo/empty"), Some(Node::EmptyDir(dir)) if dir.mode() == 0o750));
    assert!(matches!(index.lookup("a/link"), Some(Node::Symlink(link)) if link.target() == b"../zz"));
    assert_eq!(index.root().files().count(), 8);
    assert_eq!(index.directory("foo").unwrap().files().count(), 2);
    assert_eq!(index.root().directories().count(), 3);
    assert_eq!(index.entries_with_prefix("foo").count(), 3);
    assert_eq!(index.entries_with_prefix("nope").count(), 0);
}

#[test]
fn the_generated_code_reads_what_we_write() {
    let index = sample();
    let root = flatbuffers::root::<wire::Index>(index.as_bytes()).unwrap();
    assert_eq!(root.version(), 1);
    assert_eq!(root.data_hash().unwrap().bytes(), Digest::sha256_of(b"0").as_bytes());
    let theirs: Vec<_> = root.entries().iter().collect();
    let ours: Vec<_> = index.entries().collect();
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs.path().bytes(), ours.path());
        assert_eq!(theirs.hash().bytes(), ours.digest().as_bytes());
        assert_eq!((theirs.data_offset(), theirs.data_size()), (ours.data_offset(), ours.data_size()));
        assert_eq!((theirs.mode(), theirs.uid(), theirs.gid()), (ours.mode(), ours.uid(), ours.gid()));
        assert_eq!((theirs.original_size(), theirs.mtime_ns()), (ours.original_size(), ours.mtime_ns()));
    }
    assert_eq!(root.symlinks().unwrap().get(0).target().bytes(), b"../zz");
    assert_eq!(root.empty_dirs().unwrap().get(0).mode(), 0o750);
}

/// Touches everything that an index offers.
fn walk(index: &ArchiveIndex) -> usize {
    let mut seen = index.root().symlinks().map(|link| link.target().len()).sum::<usize>();
    for entry in index.entries() {
        assert_eq!(index.entry(entry.path()).unwrap().range(), entry.range());
        seen += usize::from(entry.digest().algorithm() == crate::digest::Algorithm::Sha256) + entry.mode() as usize;
        seen += entry.compression() as usize + (entry.uid() ^ entry.gid()) as usize + usize::from(entry.mtime_ns() > 0);
    }
    let mut pending = vec![index.root()];
    while let Some(dir) = pending.pop() {
        for child in dir.entries() {
            if let Node::Directory(dir) = child.node {
                pending.push(dir);
            }
            seen += child.name.len();
        }
    }
    seen
}

#[test]
fn no_flipped_bit_and_no_cut_makes_the_reader_panic() {
    let bytes = sample().as_bytes().to_vec();
    let limits = IndexLimits::default();
    let mut survived = 0;
    for at in 0..bytes.len() {
        if let Ok(index) = ArchiveIndex::parse(bytes[..at].to_vec(), &limits) {
            walk(&index);
        }
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(index) = ArchiveIndex::parse(damaged, &limits) {
                survived += usize::from(walk(&index) > 0);
            }
        }
    }
    // Modes, times, owners and the like are not structure: the manifest's digest covers them.
    assert!(survived > 0);
    assert!(ArchiveIndex::parse(bytes[..bytes.len() / 2].to_vec(), &limits).is_err());
    assert!(ArchiveIndex::parse(Vec::new(), &limits).is_err());
}

#[test]
fn contradictions_are_refused() {
    let build = |files: &[NewFile]| {
        let mut builder = IndexBuilder::new();
        files.iter().cloned().for_each(|file| builder.file(file));
        builder.finish(100, &Digest::sha256_of(b"")).map(drop)
    };
    assert!(matches!(build(&[file("a", 0, b"x"), file("a", 0, b"x")]), Err(IndexError::Duplicate { .. })));
    let inside = [file("a/b", 0, b"x"), file("a", 0, b"x"), file("a-b", 0, b"x"), file("a.c", 0, b"x")];
    assert!(matches!(build(&inside), Err(IndexError::FileAndDirectory { .. })));
    let sizes = [file("a", 0, b"x"), NewFile { original_size: 2, data_size: 2, ..file("b", 0, b"x") }];
    assert!(matches!(build(&sizes), Err(IndexError::Entry { .. })));
    assert!(matches!(build(&[file("a", 100, b"x")]), Err(IndexError::Data { .. })));
    assert!(matches!(build(&[file("a", u64::MAX, b"x")]), Err(IndexError::Entry { .. })));
    let not_utf8 = NewFile { path: ArchivePath::new(b"\xff").unwrap(), ..file("a", 0, b"") };
    assert!(matches!(build(&[not_utf8]), Err(IndexError::Path(_))));
    assert_eq!(build(&[file("b", 0, b"x"), file("a", 0, b"x")]), Ok(()));
}

#[test]
fn slots_that_share_one_table_cost_linear_time_and_are_refused() {
    // Ten million entries claimed by pointing every slot at one table: the second occurrence ends it.
    let mut fbb = flatbuffers::FlatBufferBuilder::new();
    let path = fbb.create_vector(b"a");
    let hash = fbb.create_vector(&[0_u8; 32]);
    let args = wire::EntryArgs { path: Some(path), hash: Some(hash), ..Default::default() };
    let entry = wire::Entry::create(&mut fbb, &args);
    let entries = fbb.create_vector(&vec![entry; 1_000_000]);
    let root = wire::Index::create(&mut fbb, &wire::IndexArgs { entries: Some(entries), ..Default::default() });
    fbb.finish_minimal(root);
    let bytes = fbb.finished_data().to_vec();
    let error = ArchiveIndex::parse(bytes.clone(), &IndexLimits::default()).unwrap_err();
    assert!(matches!(error, IndexError::Duplicate { .. }), "{error}");
    let limits = IndexLimits { max_entries: 999_999, ..IndexLimits::default() };
    assert!(matches!(ArchiveIndex::parse(bytes, &limits), Err(IndexError::TooLarge { .. })));
}

#[test]
fn long_and_deep_paths_are_bounded_and_cost_linear_time() {
    let build = |paths: &[String]| {
        let mut builder = IndexBuilder::new();
        for path in paths {
            builder.file(file(path, 0, b"x"));
        }
        builder.finish(1, &Digest::sha256_of(b"x"))
    };
    let deep = |levels: usize| "d/".repeat(levels - 1) + "f";
    assert!(build(&[deep(4096)]).is_ok());
    assert!(matches!(build(&[deep(4097)]), Err(IndexError::Malformed { .. })));
    assert!(build(&["x".repeat(65_535)]).is_ok());
    assert!(matches!(build(&["x".repeat(65_536)]), Err(IndexError::Malformed { .. })));
    // Each path leaves the one before in the middle of a deep tree, with a long common beginning.
    let paths: Vec<String> =
        (0..500).map(|n| format!("{}{}{n:04}/{}f", "l".repeat(30_000), "/d".repeat(1000), "e/".repeat(1000))).collect();
    let index = build(&paths).unwrap();
    assert_eq!(index.root().directories().count(), 1000 + 500 * 1001);
    assert!(paths.iter().all(|path| index.entry(path).is_some()));
}

#[test]
fn tables_that_share_a_long_path_are_refused_at_once() {
    let mut fbb = flatbuffers::FlatBufferBuilder::new();
    let path = fbb.create_vector("a\\".repeat(30_000).as_bytes());
    let hash = fbb.create_vector(&[0_u8; 32]);
    let args = wire::EntryArgs { path: Some(path), hash: Some(hash), ..Default::default() };
    let tables = [wire::Entry::create(&mut fbb, &args), wire::Entry::create(&mut fbb, &args)];
    let entries = fbb.create_vector(&tables.repeat(500_000));
    let root = wire::Index::create(&mut fbb, &wire::IndexArgs { entries: Some(entries), ..Default::default() });
    fbb.finish_minimal(root);
    let started = std::time::Instant::now();
    let error = ArchiveIndex::parse(fbb.finished_data().to_vec(), &IndexLimits::default()).unwrap_err();
    assert!(matches!(error, IndexError::Malformed { what: "its paths overlap", .. }), "{error}");
    let long = IndexError::Duplicate { path: vec![b'x'; 60_000].into() }.to_string();
    assert!(long.ends_with("x… (60000 bytes)\" occurs twice") && long.len() < 700, "{long}");
    // A hundred looks at the path rather than a million, which take the better part of an hour.
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn directories_are_limited() {
    let mut builder = IndexBuilder::new();
    for path in ["a/b/c/d/e", "a/b/x/f", "y/g"] {
        builder.file(file(path, 0, b"x"));
    }
    let bytes = builder.finish(1, &Digest::sha256_of(b"x")).unwrap().as_bytes().clone();
    let parse = |max_directories| {
        ArchiveIndex::parse(bytes.clone(), &IndexLimits { max_directories, ..IndexLimits::default() })
    };
    assert_eq!(parse(6).unwrap().root().directories().count(), 6);
    assert!(matches!(parse(5), Err(IndexError::TooLarge { unit: "directories", limit: 5, .. })));
}

#[test]
fn many_nodes_are_checked_and_found_like_few() {
    // Enough for a second thread, and for a table that is made at once.
    let path = |number: u32| format!("{:03}/{number:06}", number % 200);
    let mut builder = IndexBuilder::new();
    (0..101_000).for_each(|number| builder.file(file(&path(number), 0, b"x")));
    let index = builder.finish(1, &Digest::sha256_of(b"x")).unwrap();
    assert_eq!((index.len(), index.root().directories().count()), (101_000, 200));
    for number in (0..101_000).step_by(97) {
        assert_eq!(index.entry(path(number)).unwrap().path(), path(number).as_bytes());
        assert!(index.entry(format!("{}x", path(number))).is_none());
    }
    let mut builder = IndexBuilder::new();
    (0..21_000).for_each(|number| builder.file(file(&path(number), 0, b"x")));
    builder.file(file("100", 0, b"x"));
    let refused = builder.finish(1, &Digest::sha256_of(b"x")).map(drop);
    assert!(matches!(refused, Err(IndexError::FileAndDirectory { .. })), "{refused:?}");
}

#[test]
fn few_look_ups_and_many_find_the_same() {
    let mut builder = IndexBuilder::new();
    let paths: Vec<String> = (0..3000).map(|n| format!("d{}/{}x{n}", n % 50, "y/".repeat(n % 3))).collect();
    for path in &paths {
        builder.file(file(path, 0, b"x"));
    }
    let index = builder.finish(1, &Digest::sha256_of(b"x")).unwrap();
    // The first of them are searched for, the others looked up in a table.
    for _ in 0..2 {
        for path in &paths {
            assert_eq!(index.entry(path).unwrap().path(), path.as_bytes());
            for missing in [&path[..path.len() - 1], &format!("{path}0"), &format!("{path}/"), ""] {
                assert_eq!(index.entry(missing).is_some(), paths.iter().any(|path| path == missing), "{missing}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_a_file_and_a_directory_is_refused(
        paths in prop::collection::btree_set("[ab.-]{1,2}(/[ab.-]{1,2}){0,2}", 0..12),
    ) {
        let paths: Vec<String> = paths.into_iter().filter(|path| crate::path::check(path.as_bytes()).is_ok()).collect();
        let both = paths.iter().any(|path| paths.iter().any(|other| other.starts_with(&format!("{path}/"))));
        let mut builder = IndexBuilder::new();
        for path in &paths {
            builder.file(file(path, 0, path.as_bytes()));
        }
        let built = builder.finish(100, &Digest::sha256_of(b""));
        prop_assert_eq!(matches!(built, Err(IndexError::FileAndDirectory { .. })), both, "{:?}", paths);
        prop_assert_eq!(built.is_ok(), !both);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_index_gives_back_what_was_put_in(
        paths in prop::collection::btree_set("[ab.-]{1,2}(/[ab.-]{1,2}){0,3}", 0..40),
        shuffle in any::<u64>(),
    ) {
        let mut paths: Vec<String> = paths.into_iter().filter(|path| crate::path::check(path.as_bytes()).is_ok()).collect();
        // A file may not be a directory too: keep the longer paths.
        let all = paths.clone();
        paths.retain(|path| !all.iter().any(|other| other.starts_with(&format!("{path}/"))));
        let mut order: Vec<usize> = (0..paths.len()).collect();
        order.sort_by_key(|&at| (at as u64).wrapping_mul(shuffle | 1));
        let mut builder = IndexBuilder::new();
        for at in order {
            builder.file(file(&paths[at], at as u64, paths[at].as_bytes()));
        }
        let index = builder.finish(1 << 20, &Digest::sha256_of(b"")).unwrap();
        prop_assert_eq!(index.len(), paths.len());
        let mut sorted = paths.clone();
        sorted.sort();
        prop_assert!(index.entries().map(|entry| entry.path()).eq(sorted.iter().map(String::as_bytes)));
        for (at, path) in paths.iter().enumerate() {
            let entry = index.entry(path).unwrap();
            prop_assert_eq!(entry.data_offset(), at as u64);
            prop_assert!(entry.digest().matches(path.as_bytes()));
        }
        // Every directory lists exactly its children, by name.
        let mut dirs: std::collections::BTreeSet<String> = paths.iter().flat_map(|path| {
            path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(index.root().directories().count(), dirs.len());
        dirs.insert(String::new());
        for dir in &dirs {
            let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
            let children: std::collections::BTreeSet<&str> =
                paths.iter().filter_map(|path| path.strip_prefix(&prefix)?.split('/').next()).collect();
            let listed = index.read_dir(dir).unwrap();
            prop_assert!(listed.iter().map(|entry| entry.name).eq(children.iter().map(|name| name.as_bytes())));
            prop_assert_eq!(index.directory(dir).unwrap().path(), dir.as_bytes());
            for none in [format!("{dir}-"), format!("{dir}/"), format!("{dir}a"), format!("{dir}.")] {
                prop_assert_eq!(index.directory(&none).is_some(), dirs.contains(&none), "{}", none);
            }
        }
        walk(&index);
    }
}
