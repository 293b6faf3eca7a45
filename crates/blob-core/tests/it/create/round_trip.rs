//! What goes in comes out, once, in the same form whoever does the work.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use blob_core::create::SkipCompression;
use blob_core::{Compression, Digest, Node};
use proptest::prelude::*;

use super::{archive, noise, options, paths, read, text, threads, tree};

/// Files by path; paths that would need a file to be a directory are left out.
fn trees() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let name =
        prop::sample::select(vec!["a", "a.txt", "a-b", "a b", "a+", "A", "\u{fc}", "e\u{301}", "z.GZ", "n\nl", "-"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let size = prop::sample::select(vec![0_usize, 1, 2, 1023, 1024, 1025, 5000, 131_071, 131_072, 131_073]);
    let content = (size, any::<bool>(), 0..3_u64)
        .prop_map(|(size, noisy, seed)| if noisy { noise(seed, size) } else { text(seed, size) });
    prop::collection::btree_map(path, content, 0..25).prop_map(|files: BTreeMap<String, Vec<u8>>| {
        let is_dir = |path: &str| files.keys().any(|other| other.starts_with(&format!("{path}/")));
        files.iter().filter(|(path, _)| !is_dir(path)).map(|(path, content)| (path.clone(), content.clone())).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_tree_survives(files in trees(), compress in any::<bool>(), memory in prop::sample::select(vec![0, 100_000, 64 << 20])) {
        let list: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
        let dir = tree(&list);
        let mut alone = threads(1);
        alone.compression = if compress { Compression::Zstd } else { Compression::None };
        let mut together = threads(4);
        together.compression = alone.compression;
        together.memory = memory;
        let (created, data) = archive(dir.path(), &alone).unwrap();
        let (again, same) = archive(dir.path(), &together).unwrap();
        prop_assert_eq!(again.index.as_bytes(), created.index.as_bytes());
        prop_assert_eq!(&same, &data);
        prop_assert_eq!(&again.report, &created.report);

        prop_assert_eq!(paths(&created.index), files.keys().cloned().collect::<Vec<_>>());
        for (path, content) in &files {
            prop_assert_eq!(&read(&created.index, &data, path), content);
            let entry = created.index.entry(path).unwrap();
            prop_assert_eq!(entry.mtime_ns(), {
                let meta = fs::metadata(dir.path().join(path)).unwrap();
                meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
            });
            let smaller = entry.compression() == Compression::Zstd && entry.data_size() < entry.original_size();
            let raw = entry.compression() == Compression::None && entry.data_size() == entry.original_size();
            prop_assert!(smaller || raw, "{:?}", entry);
        }
        // Every content once, without a gap.
        let contents: HashSet<&Vec<u8>> = files.values().filter(|content| !content.is_empty()).collect();
        let mut ranges: Vec<_> = created.index.entries().map(|entry| entry.range()).filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| range.start);
        ranges.dedup();
        prop_assert_eq!(ranges.len(), contents.len());
        prop_assert_eq!(created.report.stored_raw + created.report.compressed, contents.len() as u64);
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        prop_assert_eq!(ranges.last().map_or(1, |last| last.end), created.data_size);
    }
}

#[test]
fn large_files_are_streamed_and_stored_once() {
    let (nine, twenty) = (9 << 20, (20 << 20) + 12_345);
    let mut half = text(3, nine);
    half[5 << 20..].copy_from_slice(&noise(3, 4 << 20));
    let mut late = noise(4, nine);
    late[1 << 20..].copy_from_slice(&text(4, 8 << 20));
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("a/noise", noise(1, nine)),
        ("b/half", half),
        ("c/late", late),
        ("d/text", text(2, twenty)),
        ("small", text(5, 2000)),
        ("u/noise again", noise(1, nine)),
        ("v/other noise", noise(9, nine)),
        ("w/text again", text(2, twenty)),
        ("x/8 MiB", text(6, 8 << 20)),
        ("y/8 MiB and 1", text(6, (8 << 20) + 1)),
    ];
    let list: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (*path, content.as_slice())).collect();
    let dir = tree(&list);
    let (created, data) = archive(dir.path(), &threads(1)).unwrap();
    for count in [2, 3, 7] {
        let (again, same) = archive(dir.path(), &threads(count)).unwrap();
        assert_eq!(again.index.as_bytes(), created.index.as_bytes());
        assert!(same == data);
    }
    for (path, content) in &files {
        assert!(read(&created.index, &data, path) == *content, "{path}");
    }
    let compression = |path: &str| created.index.entry(path).unwrap().compression();
    let offset = |path: &str| created.index.entry(path).unwrap().data_offset();
    assert_eq!(compression("a/noise"), Compression::None);
    assert_eq!(compression("b/half"), Compression::Zstd);
    assert_eq!(compression("c/late"), Compression::None, "its beginning does not compress");
    assert_eq!(compression("d/text"), Compression::Zstd);
    assert_eq!(offset("u/noise again"), offset("a/noise"));
    assert_eq!(offset("w/text again"), offset("d/text"));
    assert_eq!((created.report.deduplicated, created.report.deduplicated_bytes), (2, (nine + twenty) as u64));
}

#[test]
fn equal_files_share_the_form_of_the_first() {
    let content = text(1, 5000);
    let dir = tree(&[("a.png", &content), ("b.txt", &content), ("c.txt", &text(2, 5000)), ("d.png", &text(2, 5000))]);
    let (created, data) = archive(dir.path(), &threads(2)).unwrap();
    let form = |path: &str| {
        let entry = created.index.entry(path).unwrap();
        (entry.compression(), entry.range())
    };
    assert_eq!(form("a.png"), (Compression::None, 0..5000));
    assert_eq!(form("b.txt"), form("a.png"));
    assert_eq!(form("c.txt").0, Compression::Zstd);
    assert_eq!(form("d.png"), form("c.txt"));
    assert_eq!(read(&created.index, &data, "d.png"), text(2, 5000));
}

#[test]
fn hard_links_are_equal_files_with_the_same_bytes() {
    let dir = tree(&[("a", &noise(1, 3000)), ("z", b"z")]);
    fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::hard_link(dir.path().join("a"), dir.path().join("d/c")).unwrap();
    let (created, data) = archive(dir.path(), &threads(3)).unwrap();
    assert_eq!(data.len(), 3001);
    for path in ["a", "b", "d/c"] {
        assert_eq!(read(&created.index, &data, path), noise(1, 3000));
    }
    let report = &created.report;
    assert_eq!((report.hard_linked, report.deduplicated, report.deduplicated_bytes), (2, 0, 6000));
}

#[test]
fn links_and_empty_directories_are_kept_as_they_are() {
    let dir = tree(&[("dir/file", b"x")]);
    let targets = ["file", "../elsewhere", "/etc/passwd", "dir", "nowhere", "\u{fc} space", "loop"];
    for (number, target) in targets.iter().enumerate() {
        symlink(target, dir.path().join(format!("link{number}"))).unwrap();
    }
    symlink("loop", dir.path().join("loop")).unwrap();
    fs::create_dir_all(dir.path().join("e/f/g")).unwrap();
    fs::set_permissions(dir.path().join("e/f/g"), fs::Permissions::from_mode(0o2751)).unwrap();
    let (created, _) = archive(dir.path(), &threads(2)).unwrap();
    for (number, target) in targets.iter().enumerate() {
        let Some(Node::Symlink(link)) = created.index.lookup(format!("link{number}")) else {
            panic!("no link {number}")
        };
        let meta = fs::symlink_metadata(dir.path().join(format!("link{number}"))).unwrap();
        assert_eq!(link.target(), target.as_bytes());
        assert_eq!(link.mtime_ns(), meta.mtime() * 1_000_000_000 + meta.mtime_nsec());
    }
    let Some(Node::EmptyDir(empty)) = created.index.lookup("e/f/g") else { panic!("no empty directory") };
    let meta = fs::metadata(dir.path().join("e/f/g")).unwrap();
    assert_eq!(empty.mode(), 0o751);
    assert_eq!(empty.mtime_ns(), meta.mtime() * 1_000_000_000 + meta.mtime_nsec());
    assert_eq!(paths(&created.index), ["dir/file"]);
    assert_eq!((created.report.symlinks, created.report.empty_dirs), (8, 1));
}

#[test]
fn modes_and_owners_are_recorded() {
    let dir = tree(&[("plain", b"1"), ("tool", b"2")]);
    fs::set_permissions(dir.path().join("plain"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(dir.path().join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    let (created, _) = archive(dir.path(), &threads(1)).unwrap();
    let meta = fs::metadata(dir.path().join("tool")).unwrap();
    let tool = created.index.entry("tool").unwrap();
    assert_eq!((tool.mode(), tool.uid(), tool.gid()), (0o755, meta.uid(), meta.gid()));
    assert_eq!(created.index.entry("plain").unwrap().mode(), 0o640);
}

#[test]
fn a_tree_without_content_has_one_byte_of_data() {
    for files in [&[][..], &[("empty", &b""[..]), ("sub/empty too", b"")]] {
        let dir = tree(files);
        let (created, data) = archive(dir.path(), &threads(2)).unwrap();
        assert_eq!((created.index.len(), data), (files.len(), vec![0]));
        assert_eq!((created.report.stored_bytes, created.report.stored_raw), (0, 0));
        for entry in created.index.entries() {
            assert_eq!((entry.range(), entry.digest()), (0..0, Digest::sha256_of(b"")));
        }
    }
}

#[test]
fn the_predicate_decides_what_is_tried() {
    let dir = tree(&[("a.bin", &text(1, 4000)), ("b.gz", &text(2, 4000)), ("c.txt", &text(3, 500))]);
    let forms = |skip: SkipCompression| {
        let (created, _) = archive(dir.path(), &options(|options| options.skip_compression = skip)).unwrap();
        created.index.entries().map(|entry| entry.compression() == Compression::Zstd).collect::<Vec<_>>()
    };
    assert_eq!(forms(SkipCompression::default()), [true, false, false]);
    assert_eq!(forms(SkipCompression::none()), [true, true, true]);
    assert_eq!(forms(SkipCompression::new(|path, size| path == b"a.bin" && size == 4000)), [false, true, true]);
}

#[test]
fn very_long_paths_are_no_obstacle() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};

    let dir = tree(&[("x", b"x")]);
    let mut at = rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
    let (name, mut path) = ("d".repeat(11), String::new());
    for _ in 0..700 {
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = openat(&at, name.as_str(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        path = path + &name + "/";
    }
    let file = openat(&at, "file", OFlags::WRONLY | OFlags::CREATE, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let (created, data) = archive(dir.path(), &threads(2)).unwrap();
    assert!(path.len() > 8000);
    assert_eq!(read(&created.index, &data, &(path + "file")), b"deep");
}
