//! Extraction: what arrives, what is refused, what is left behind.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::{Archive, Existing, ExtractError, ExtractOptions, ExtractReport, Layout, Selection, Symlinks};
use futures_executor::block_on;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{Far, MTIME, Pair, go_archive, noise};

/// What stands below a directory: contents of files, targets of links behind `->`, `/` for directories.
pub(crate) fn tree(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                found.insert(name, b"/".to_vec());
                walk(&path, root, found);
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path).unwrap().into_os_string().into_vec();
                found.insert(name, [b"-> ", &target[..]].concat());
            } else {
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

/// What an extraction of everything must give.
pub(crate) fn expected(archive: &Archive) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut expected = BTreeMap::new();
    let root = archive.index().root();
    for dir in root.directories() {
        expected.insert(dir.path().to_vec(), b"/".to_vec());
    }
    for dir in root.empty_dirs() {
        expected.insert(dir.path().to_vec(), b"/".to_vec());
    }
    for link in root.symlinks() {
        expected.insert(link.path().to_vec(), [b"-> ", link.target()].concat());
    }
    for entry in archive.entries() {
        expected.insert(entry.path().to_vec(), block_on(archive.read(entry.path())).unwrap().to_vec());
    }
    expected
}

fn sample() -> Pair {
    Pair::new()
        .plain("a/x", b"x of a")
        .zstd("a-b", &b"again ".repeat(1000))
        .plain("a.txt", b"")
        .plain("deep/er/file", b"down here")
        .zstd("deep/copy", &b"again ".repeat(1000))
        .link("deep/up", "../a.txt")
        .dir("hollow", 0o750)
}

fn options(change: impl FnOnce(&mut ExtractOptions)) -> ExtractOptions {
    let mut options = ExtractOptions::default();
    change(&mut options);
    options
}

fn extract(archive: &Archive, dest: &Path, options: &ExtractOptions) -> Result<ExtractReport, ExtractError> {
    block_on(archive.extract(Selection::everything(), dest, options))
}

/// Nothing temporary is left in `dir` or its sub-directories.
pub(crate) fn assert_no_leftovers(dir: &Path) {
    let leftovers: Vec<_> =
        tree(dir).into_keys().filter(|path| String::from_utf8_lossy(path).contains(".blob-")).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

/// The archive with its data at hand, in a file, and far away.
fn everywhere(pair: &Pair, dir: &TempDir) -> [Archive; 3] {
    let path = dir.path().join("data.blob");
    std::fs::write(&path, &pair.data).unwrap();
    let file = blob_core::source::FileSource::open(path).unwrap();
    [pair.local(), pair.over(Arc::new(file)), pair.over(Arc::new(Far(pair.remote())))]
}

#[test]
fn everything_arrives_from_every_kind_of_source() {
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 5).to_le_bytes()).collect();
    let pair = sample()
        .zstd("large.zst", &large)
        .zstd("same/large.zst", &large)
        .plain("large.bin", &noise((8 << 20) + 1, 1))
        .plain("medium", &noise(5 << 20, 2));
    let temp = tempfile::tempdir().unwrap();
    for (number, archive) in everywhere(&pair, &temp).iter().enumerate() {
        let expected = expected(archive);
        for (existing, made) in [("absent/below", false), ("empty", true), ("full", true)] {
            let dest = temp.path().join(format!("{number}-{existing}"));
            if made {
                std::fs::create_dir(&dest).unwrap();
            }
            if existing == "full" {
                std::fs::write(dest.join("other"), "stays").unwrap();
            }
            let report = extract(archive, &dest, &ExtractOptions::default()).unwrap();
            let mut found = tree(&dest);
            if existing == "full" {
                assert_eq!(found.remove(&b"other"[..]).unwrap(), b"stays");
            }
            assert!(found == expected, "{number} {existing}: {:?}", found.keys());
            let bytes: u64 = archive.entries().map(|entry| entry.original_size()).sum();
            assert_eq!((report.files, report.bytes, report.symlinks), (9, bytes, 1));
            assert_eq!((report.dirs, report.skipped, report.kept), (5, 0, 0));
        }
    }
    assert_no_leftovers(temp.path());
}

#[test]
fn selections_and_layouts_place_things() {
    let archive = sample().local();
    let names = |selection: Selection, layout: Layout| -> Vec<String> {
        let temp = tempfile::tempdir().unwrap();
        let options = options(|o| (o.layout, o.allow_external_symlinks) = (layout, true));
        block_on(archive.extract(selection, temp.path().join("out"), &options)).unwrap();
        tree(&temp.path().join("out")).into_keys().map(|path| String::from_utf8(path).unwrap()).collect()
    };
    let deep = || Selection::directory("/deep/");
    assert_eq!(names(deep(), Layout::Full), ["deep", "deep/copy", "deep/er", "deep/er/file", "deep/up"]);
    assert_eq!(names(deep(), Layout::Flat), ["copy", "file", "up"]);
    let some = || Selection::paths(["a.txt", "deep/er", "hollow", "deep/er/file"]);
    assert_eq!(names(some(), Layout::Full), ["a.txt", "deep", "deep/er", "deep/er/file", "hollow"]);
    assert_eq!(names(some(), Layout::Strip(b"deep".into())), ["a.txt", "er", "er/file", "hollow"]);
    assert_eq!(names(Selection::paths(["a.txt"]), Layout::Strip(b"a.txt".into())), ["a.txt"]);
    assert_eq!(names(Selection::directory("hollow"), Layout::Full), ["hollow"]);

    let temp = tempfile::tempdir().unwrap();
    let refused = |selection, layout| {
        block_on(archive.extract(selection, temp.path().join("out"), &options(|o| o.layout = layout))).unwrap_err()
    };
    assert!(refused(Selection::paths(["nope"]), Layout::Full).is_not_found());
    assert!(refused(Selection::directory("a.txt"), Layout::Full).to_string().contains("not a directory"));
    let twins = Pair::new().plain("a/same", b"1").plain("b/same", b"2").local();
    let error = extract(&twins, &temp.path().join("out"), &options(|o| o.layout = Layout::Flat)).unwrap_err();
    assert!(matches!(error, ExtractError::Collision { .. }), "{error}");
    assert_eq!(tree(temp.path()).len(), 0);

    // Stripping puts one file where another needs a directory.
    let nested = Pair::new().plain("p/x", b"1").plain("x/y", b"2").local();
    let error = extract(&nested, &temp.path().join("out"), &options(|o| o.layout = Layout::Strip(b"p".into())));
    assert!(matches!(error, Err(ExtractError::Collision { .. })));
}

#[test]
fn first_names_of_paths_are_taken_off() {
    let pair = Pair::new().plain("a/b/c", b"1").plain("a/d/e", b"2").plain("top", b"3").dir("a/hollow", 0o755);
    let archive = pair.link("x/y/l", "../e").local();
    let stripped = |components: usize| {
        let temp = tempfile::tempdir().unwrap();
        let report = extract(&archive, temp.path(), &options(|o| o.layout = Layout::StripComponents(components)));
        let left_out = report.unwrap().paths_left_out;
        (tree(temp.path()).into_keys().map(|path| String::from_utf8(path).unwrap()).collect::<Vec<_>>(), left_out)
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(stripped(0), (names(&["a", "a/b", "a/b/c", "a/d", "a/d/e", "a/hollow", "top", "x", "x/y", "x/y/l"]), 0));
    assert_eq!(stripped(1), (names(&["b", "b/c", "d", "d/e", "hollow", "y", "y/l"]), 1));
    let strip = |pair: Pair, components| {
        let temp = tempfile::tempdir().unwrap();
        let done = extract(&pair.local(), &temp.path().join("out"), &options(|o| o.layout = components));
        assert!(done.is_ok() || tree(temp.path()).is_empty(), "nothing was written");
        done
    };
    let two = || Layout::StripComponents(2);
    // What was inside leads out when the names above it go.
    let leading = Pair::new().plain("a/b/c", b"").link("x/y/l", "../e");
    assert!(matches!(strip(leading, two()), Err(ExtractError::Escapes { .. })));
    for twins in [
        Pair::new().plain("a/b/same", b"1").plain("c/d/same", b"2"),
        Pair::new().plain("a/b/same", b"1").plain("c/d/same/file", b"2"),
        Pair::new().plain("a/b/same", b"1").link("c/d/same", "x"),
    ] {
        assert!(matches!(strip(twins, two()), Err(ExtractError::Collision { .. })));
    }
    // Directories that become one are one.
    let shared = Pair::new().plain("a/d/1", b"1").plain("b/d/2", b"2");
    assert_eq!(strip(shared, Layout::StripComponents(1)).unwrap().files, 2);
    for (components, expected) in [(1, "1 name "), (usize::MAX, "names ")] {
        let error = strip(Pair::new().plain("top", b""), Layout::StripComponents(components)).unwrap_err();
        assert!(matches!(error, ExtractError::NothingLeft { .. }) && error.to_string().contains(expected), "{error}");
    }
    assert!(strip(Pair::new(), two()).is_ok(), "an empty archive has nothing to lose");
}

#[test]
fn single_files_get_exactly_the_name_asked_for() {
    let archive = sample().local();
    let temp = tempfile::tempdir().unwrap();
    let dest = temp.path().join("sub/dir/renamed");
    let copy = |path: &str, options: &ExtractOptions| block_on(archive.copy_file(path, &dest, options));
    assert_eq!(copy("deep/er/file", &ExtractOptions::default()).unwrap().files, 1);
    assert_eq!(std::fs::read(&dest).unwrap(), b"down here");
    let report = copy("a/x", &ExtractOptions::default()).unwrap();
    assert_eq!((report.files, report.skipped, &report.skipped_paths), (0, 1, &vec![dest.clone()]));
    assert!(matches!(copy("a/x", &options(|o| o.existing = Existing::KeepEqual)), Err(ExtractError::Exists { .. })));
    assert_eq!(copy("deep/er/file", &options(|o| o.existing = Existing::KeepEqual)).unwrap().kept, 1);
    assert_eq!(std::fs::read(&dest).unwrap(), b"down here");
    assert_eq!(copy("a/x", &options(|o| o.existing = Existing::Overwrite)).unwrap().files, 1);
    assert_eq!(std::fs::read(&dest).unwrap(), b"x of a");
    assert!(copy("deep", &ExtractOptions::default()).is_err());
    assert!(block_on(archive.copy_file("a/x", temp.path(), &options(|o| o.existing = Existing::Overwrite))).is_err());
    assert_no_leftovers(temp.path());
}

#[test]
fn existing_files_are_skipped_compared_or_replaced() {
    let archive = sample().local();
    let prepare = || {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("a")).unwrap();
        std::fs::write(temp.path().join("a/x"), "x of a").unwrap();
        std::fs::write(temp.path().join("a-b"), "other").unwrap();
        temp
    };
    let temp = prepare();
    let report = extract(&archive, temp.path(), &ExtractOptions::default()).unwrap();
    assert_eq!((report.files, report.skipped), (3, 2));
    assert_eq!(std::fs::read(temp.path().join("a-b")).unwrap(), b"other");

    let temp = prepare();
    let before = tree(temp.path());
    let keep_equal = options(|o| o.existing = Existing::KeepEqual);
    match extract(&archive, temp.path(), &keep_equal).unwrap_err() {
        ExtractError::Exists { paths, total } => {
            assert_eq!((paths, total), (vec![temp.path().canonicalize().unwrap().join("a-b")], 1));
        }
        other => panic!("{other}"),
    }
    assert_eq!(tree(temp.path()), before, "nothing was written");
    let conflicts = block_on(archive.conflicts(Selection::everything(), temp.path(), &keep_equal)).unwrap();
    assert_eq!(conflicts, [temp.path().join("a-b")]);
    assert!(block_on(archive.conflicts(Selection::everything(), "/nope/nope", &keep_equal)).unwrap().is_empty());
    std::fs::remove_file(temp.path().join("a-b")).unwrap();
    let report = extract(&archive, temp.path(), &keep_equal).unwrap();
    assert_eq!((report.files, report.kept), (4, 1));
    let report = extract(&archive, temp.path(), &keep_equal).unwrap();
    assert_eq!((report.files, report.kept, report.symlinks), (0, 7, 0), "again: links and directories too");

    let temp = prepare();
    symlink("a/x", temp.path().join("a.txt")).unwrap();
    let report = extract(&archive, temp.path(), &options(|o| o.existing = Existing::Overwrite)).unwrap();
    assert_eq!((report.files, report.skipped, report.kept), (5, 0, 0));
    assert_eq!(tree(temp.path()), expected(&archive), "the link was replaced, not followed");
    assert_no_leftovers(temp.path());
}

#[test]
fn clean_replaces_the_destination_as_a_whole() {
    let archive = sample().local();
    let temp = tempfile::tempdir().unwrap();
    let dest = temp.path().join("dest");
    let fill = || {
        std::fs::create_dir_all(dest.join("deep/old")).unwrap();
        std::fs::write(dest.join("deep/old/file"), "old").unwrap();
        std::fs::write(dest.join("beside"), "stays").unwrap();
    };
    let clean = options(|o| o.clean = true);
    fill();
    block_on(archive.copy_dir("deep", &dest, &clean)).unwrap();
    let names: Vec<_> = tree(&dest).into_keys().map(|path| String::from_utf8(path).unwrap()).collect();
    assert_eq!(names, ["beside", "deep", "deep/copy", "deep/er", "deep/er/file", "deep/up"]);
    fill();
    extract(&archive, &dest, &clean).unwrap();
    assert_eq!(tree(&dest), expected(&archive));
    extract(&archive, &temp.path().join("absent/too"), &clean).unwrap();
    block_on(archive.copy_dir("deep", temp.path().join("new"), &clean)).unwrap();
    assert_eq!(tree(&temp.path().join("new")).len(), 5);

    // What is refused leaves the old tree alone.
    let broken = Pair::new().plain("f", b"content");
    let damaged = blob_core::MemorySource::new(&b"CONTENT"[..]);
    let before = tree(&dest);
    assert!(extract(&broken.over(Arc::new(damaged)), &dest, &clean).unwrap_err().is_hash_mismatch());
    assert_eq!(tree(&dest), before);
    let error = extract(&archive, Path::new("/"), &clean).unwrap_err();
    assert!(matches!(error, ExtractError::CannotReplace { .. }), "{error}");
    let error = extract(&archive, Path::new("."), &clean).unwrap_err();
    assert!(matches!(error, ExtractError::CannotReplace { .. }), "{error}");
    // A link on the way to what is replaced is not followed.
    std::fs::create_dir(temp.path().join("outside")).unwrap();
    std::fs::create_dir_all(temp.path().join("tricked")).unwrap();
    symlink("../outside", temp.path().join("tricked/deep")).unwrap();
    assert!(block_on(archive.copy_dir("deep/er", temp.path().join("tricked"), &clean)).is_err());
    assert!(block_on(archive.copy_dir("deep", temp.path().join("tricked"), &clean)).is_err());
    assert_eq!(tree(&temp.path().join("outside")).len(), 0);
    assert_no_leftovers(temp.path());
}

#[test]
fn modes_and_times_are_restored_when_asked() {
    let pair = Pair::new()
        .file("run", b"#!", blob_core::Compression::None, 0o755)
        .file("secret", b"s", blob_core::Compression::Zstd, 0o600)
        .file("large", &noise(9 << 20, 1), blob_core::Compression::None, 0o640)
        .link("link", "run")
        .dir("hollow", 0o711);
    let archive = pair.local();
    // The umask of the tests: what a plain file gets.
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("probe")).unwrap();
    let umask = 0o777 & !std::fs::metadata(temp.path().join("probe")).unwrap().mode();
    for existing in [false, true] {
        let stat = |dest: &str, name: &str| {
            let meta = temp.path().join(dest).join(name).symlink_metadata().unwrap();
            (meta.permissions().mode() & 0o7777, meta.mtime() * 1_000_000_000 + meta.mtime_nsec())
        };
        let (plain, kept) = (format!("plain-{existing}"), format!("kept-{existing}"));
        if existing {
            for dest in [&plain, &kept] {
                std::fs::create_dir(temp.path().join(dest)).unwrap();
                std::fs::write(temp.path().join(dest).join("other"), "").unwrap();
            }
        }
        extract(&archive, &temp.path().join(&plain), &ExtractOptions::default()).unwrap();
        assert_eq!(stat(&plain, "run").0, 0o666 & !umask);
        assert_ne!(stat(&plain, "run").1, MTIME);
        let preserve = options(|o| (o.preserve_mode, o.preserve_times) = (true, true));
        extract(&archive, &temp.path().join(&kept), &preserve).unwrap();
        for (name, mode) in [("run", 0o755), ("secret", 0o600), ("large", 0o640), ("hollow", 0o711)] {
            assert_eq!(stat(&kept, name), (mode & !umask, MTIME), "{name}");
        }
        assert_eq!(stat(&kept, "link").1, MTIME);
    }
}

#[test]
fn the_mode_of_an_empty_destination_stays() {
    let temp = tempfile::tempdir().unwrap();
    let dest = temp.path().join("dest");
    std::fs::create_dir(&dest).unwrap();
    std::fs::set_permissions(&dest, std::fs::Permissions::from_mode(0o2710)).unwrap();
    extract(&sample().local(), &dest, &ExtractOptions::default()).unwrap();
    assert_eq!(std::fs::metadata(&dest).unwrap().mode() & 0o7777, 0o2710);
}

#[test]
fn modes_never_carry_more_than_permissions_and_times_never_overflow() {
    let temp = tempfile::tempdir().unwrap();
    let setuid = go_archive("cases/unix-S-IFREG-mode---setuid");
    extract(&setuid, &temp.path().join("setuid"), &options(|o| o.preserve_mode = true)).unwrap();
    for path in tree(&temp.path().join("setuid")).into_keys() {
        let path = temp.path().join("setuid").join(PathBuf::from(std::ffi::OsString::from_vec(path)));
        let meta = path.symlink_metadata().unwrap();
        assert!(meta.is_file() && meta.mode() & 0o7000 == 0, "{:o}", meta.mode());
    }
    for mtime_ns in [i64::MIN, -1, 0, i64::MAX] {
        let mut pair = Pair::new();
        pair.builder.file(blob_core::NewFile {
            path: blob_core::ArchivePath::new("f").unwrap(),
            data_offset: 0,
            data_size: 0,
            original_size: 0,
            hash: blob_core::Digest::sha256_of(b"").as_bytes().try_into().unwrap(),
            mode: 0o644,
            uid: u32::MAX,
            gid: u32::MAX,
            mtime_ns,
            compression: blob_core::Compression::None,
        });
        let dest = temp.path().join(mtime_ns.to_string());
        extract(&pair.local(), &dest, &options(|o| o.preserve_times = true)).unwrap();
        let meta = std::fs::metadata(dest.join("f")).unwrap();
        assert_ne!(meta.uid(), u32::MAX);
        if mtime_ns == -1 {
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (-1, 999_999_999));
        }
    }
}

#[test]
fn destinations_of_every_kind_are_told_apart() {
    let archive = sample().local();
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    std::fs::write(at("file"), "").unwrap();
    for dest in ["file", "file/below"] {
        let error = extract(&archive, &at(dest), &ExtractOptions::default()).unwrap_err();
        assert!(matches!(&error, ExtractError::Obstructed { .. }), "{dest}: {error}");
    }
    symlink("nowhere", at("dangling")).unwrap();
    assert!(extract(&archive, &at("dangling"), &ExtractOptions::default()).is_err());

    // The caller's own links are followed: to the destination, and on the way to it.
    std::fs::create_dir(at("real")).unwrap();
    symlink("real", at("link")).unwrap();
    extract(&archive, &at("link"), &ExtractOptions::default()).unwrap();
    assert_eq!(tree(&at("real")), expected(&archive));
    assert!(at("link").symlink_metadata().unwrap().is_symlink());
    extract(&archive, &at("link/sub"), &ExtractOptions::default()).unwrap();
    assert_eq!(tree(&at("real/sub")), expected(&archive));
    assert_no_leftovers(temp.path());
}

#[test]
fn links_below_the_destination_are_never_followed() {
    let archive = Pair::new().plain("d/f", b"content").link("d/l", "f").dir("d/e", 0o755).local();
    for existing in [Existing::Skip, Existing::KeepEqual, Existing::Overwrite] {
        let temp = tempfile::tempdir().unwrap();
        let (dest, outside) = (temp.path().join("dest"), temp.path().join("outside"));
        std::fs::create_dir(&dest).unwrap();
        std::fs::create_dir(&outside).unwrap();
        symlink(&outside, dest.join("d")).unwrap();
        let error = extract(&archive, &dest, &options(|o| o.existing = existing)).unwrap_err();
        assert!(matches!(&error, ExtractError::Obstructed { .. }), "{error}");
        std::fs::remove_file(dest.join("d")).unwrap();
        std::fs::write(dest.join("d"), "a file").unwrap();
        assert!(extract(&archive, &dest, &options(|o| o.existing = existing)).is_err());
        assert_eq!((tree(&outside).len(), tree(&dest).len()), (0, 1));

        // At the final name a link is an existing thing like others.
        std::fs::remove_file(dest.join("d")).unwrap();
        std::fs::create_dir(dest.join("d")).unwrap();
        std::fs::write(outside.join("target"), "untouched").unwrap();
        symlink(outside.join("target"), dest.join("d/f")).unwrap();
        let result = extract(&archive, &dest, &options(|o| o.existing = existing));
        assert_eq!(result.is_err(), existing == Existing::KeepEqual);
        assert_eq!(std::fs::read(outside.join("target")).unwrap(), b"untouched");
        assert_eq!(dest.join("d/f").symlink_metadata().unwrap().is_symlink(), existing != Existing::Overwrite);
    }
}

#[test]
fn a_directory_that_flips_to_a_link_catches_nothing() {
    let archive = Pair::new().plain("d/e/f", b"content").plain("d/g", b"more").local();
    let temp = tempfile::tempdir().unwrap();
    let (dest, outside) = (temp.path().join("dest"), temp.path().join("outside"));
    std::fs::create_dir_all(dest.join("d")).unwrap();
    std::fs::create_dir_all(outside.join("e")).unwrap();
    symlink(&outside, temp.path().join("trap")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut good = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, trap) = (dest.join("d"), temp.path().join("trap"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                rustix::fs::renameat_with(cwd, &real, cwd, &trap, flags).unwrap();
            }
        });
        let overwrite = options(|o| o.existing = Existing::Overwrite);
        for _ in 0..3000 {
            good += usize::from(extract(&archive, &dest, &overwrite).is_ok());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(tree(&outside).into_keys().collect::<Vec<_>>(), [b"e".to_vec()]);
    assert!(good > 0, "some rounds found the directory");
}

#[test]
fn links_that_leave_the_destination_are_refused_unless_allowed() {
    let escaping = [
        Pair::new().link("l", "/etc/passwd"),
        Pair::new().link("d/l", "../../x"),
        Pair::new().plain("b/c/f", b"").link("a", "b/c").link("x", "a/../../../y"),
    ];
    for pair in escaping {
        let temp = tempfile::tempdir().unwrap();
        let archive = pair.plain("file", b"content").local();
        let error = extract(&archive, &temp.path().join("out"), &ExtractOptions::default()).unwrap_err();
        assert!(matches!(&error, ExtractError::Escapes { total: 1, .. }), "{error}");
        assert_eq!(tree(temp.path()).len(), 0, "nothing was written");
        let allowed = options(|o| o.allow_external_symlinks = true);
        extract(&archive, &temp.path().join("out"), &allowed).unwrap();
        assert_eq!(tree(&temp.path().join("out")), expected(&archive));
        let without = options(|o| o.symlinks = Symlinks::Skip);
        let report = extract(&archive, &temp.path().join("without"), &without).unwrap();
        assert!(report.links_left_out > 0 && report.symlinks == 0);
    }
    // All of them are named at once.
    let pair = Pair::new().link("a", "/etc").link("b", "f").link("c", "..").plain("f", b"");
    let temp = tempfile::tempdir().unwrap();
    let error = extract(&pair.local(), &temp.path().join("out"), &ExtractOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("to \"/etc\", and so does another one"), "{error}");
    let ExtractError::Escapes { paths, total: 2, .. } = error else { panic!("{error}") };
    assert_eq!(paths, [Box::from(*b"a"), Box::from(*b"c")]);
    // Where a subtree becomes the root, a link out of the subtree leaves.
    let pair = Pair::new().plain("f", b"").plain("d/g", b"").link("d/l", "../f");
    let temp = tempfile::tempdir().unwrap();
    let strip = options(|o| o.layout = Layout::Strip(b"d".into()));
    assert!(block_on(pair.local().copy_dir("d", temp.path().join("out"), &strip)).is_err());
}

#[test]
fn limits_and_long_names_are_refused_before_anything_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let archive = sample().local();
    for limit in [|o: &mut ExtractOptions| o.limits.max_files = 4, |o: &mut ExtractOptions| o.limits.max_bytes = 12_000]
    {
        let error = extract(&archive, &out, &options(limit)).unwrap_err();
        assert!(matches!(error, ExtractError::Limit { .. }), "{error}");
    }
    let long = format!("d/{}", "n".repeat(256));
    let error = extract(&Pair::new().plain(&long, b"").plain("a", b"").local(), &out, &ExtractOptions::default());
    assert!(error.unwrap_err().to_string().contains(&long));
    let deep = vec!["d"; 3000].join("/");
    let error = extract(&Pair::new().plain(&deep, b"").local(), &out, &ExtractOptions::default()).unwrap_err();
    assert!(matches!(error, ExtractError::Io { .. }), "{error}");
    assert_eq!(tree(temp.path()).len(), 0);
}

#[test]
fn archives_of_the_go_program_extract_whole() {
    let temp = tempfile::tempdir().unwrap();
    for name in [
        "basic-none",
        "empty",
        "sizes-zstd",
        "unsorted-none",
        "nonutf8-name",
        "cases/dedup-shared-offsets",
        "cases/overlapping",
        "cases/zstd-multi-seektable-zst",
    ] {
        let archive = go_archive(name);
        extract(&archive, &temp.path().join(name), &ExtractOptions::default()).unwrap();
        assert_eq!(tree(&temp.path().join(name)), expected(&archive), "{name}");
    }
    assert_eq!(std::fs::read(temp.path().join("basic-none/d/b.txt")).unwrap(), b"world!");
    assert_eq!(tree(&temp.path().join("unsorted-none")).len(), 8);
}

#[test]
fn the_current_directory_is_written_in_place() {
    // Another process, since the current directory belongs to all tests.
    if let Some(dest) = std::env::var_os("BLOB_TEST_CWD") {
        let inode = std::fs::metadata(".").unwrap().ino();
        extract(&sample().local(), Path::new("."), &ExtractOptions::default()).unwrap();
        assert_eq!(tree(Path::new(&dest)), expected(&sample().local()));
        assert_eq!(std::fs::metadata(&dest).unwrap().ino(), inode, "it is still the same directory");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "extract::the_current_directory_is_written_in_place"])
        .current_dir(temp.path())
        .env("BLOB_TEST_CWD", temp.path())
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    assert_eq!(tree(temp.path()), expected(&sample().local()));
}

#[test]
fn local_archives_are_saved_opened_and_read_with_seeking() {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 5).to_le_bytes()).collect();
    let pair = sample().zstd("large.zst", &large).plain("large.bin", &noise(9 << 20, 3));
    let temp = tempfile::tempdir().unwrap();
    let (index, data) = (temp.path().join("sub/index.blob"), temp.path().join("sub/data.blob"));
    let far = pair.over(Arc::new(Far(pair.remote())));
    block_on(far.save(&index, &data)).unwrap();
    assert_eq!(std::fs::read(&data).unwrap(), pair.data);
    assert!(matches!(far.open_local("a/x"), Err(blob_core::ReadError::NotLocal { .. })));

    let archive = Archive::open_file(&index, &data, blob_core::ReadOptions::default()).unwrap();
    assert_eq!(archive.source().id().as_str(), blob_core::Digest::sha256_of(&pair.data).to_string());
    for entry in archive.entries() {
        let content = block_on(archive.read(entry.path())).unwrap();
        let mut file = archive.open_local(entry.path()).unwrap();
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        assert!(all == content && file.size() == content.len() as u64);
        for at in [content.len() / 2, 0, content.len().saturating_sub(3), content.len() / 3, content.len() + 5] {
            let mut some = [0; 7];
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut got = 0;
            while got < some.len() {
                match file.read(&mut some[got..]).unwrap() {
                    0 => break,
                    more => got += more,
                }
            }
            let from = at.min(content.len());
            assert_eq!(some[..got], content[from..content.len().min(from + 7)], "{entry:?} at {at}");
        }
        assert!(file.seek(SeekFrom::Current(-1 << 40)).is_err());
    }

    // Damage is found before a byte is handed out, and a failed save leaves the old pair.
    for name in ["a/x", "a-b", "large.zst", "large.bin"] {
        let mut damaged = pair.data.clone();
        let middle = archive.entry(name).unwrap().range();
        damaged[u64::midpoint(middle.start, middle.end) as usize] ^= 1;
        let source = blob_core::MemorySource::new(damaged);
        let bad = pair.over(Arc::new(source));
        assert!(bad.open_local(name).unwrap_err().is_corrupt(), "{name}");
        assert!(block_on(bad.save(&index, &data)).unwrap_err().is_hash_mismatch());
    }
    assert_eq!(std::fs::read(&data).unwrap(), pair.data);
    std::fs::write(&data, &pair.data[1..]).unwrap();
    assert!(matches!(
        Archive::open_file(&index, &data, blob_core::ReadOptions::default()),
        Err(blob_core::ReadError::Index(_))
    ));
    assert_no_leftovers(temp.path());
}

fn any_tree() -> impl Strategy<Value = Vec<(String, u8, Vec<u8>)>> {
    let path = "[abA.-]{1,2}(/[abA.-]{1,2}){0,3}";
    prop::collection::vec((path, 0_u8..4, prop::collection::vec(any::<u8>(), 0..300)), 0..25)
}

/// Any set of paths as an archive: what would contradict what came before is left out.
fn build(things: &[(String, u8, Vec<u8>)], target: impl Fn(&str) -> String) -> Pair {
    let mut paths: Vec<&str> = Vec::new();
    let mut pair = Pair::new();
    for (path, kind, content) in things {
        let nested = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        if blob_core::ArchivePath::new(path).is_err()
            || paths.iter().any(|other| nested(path, other) || nested(other, path))
        {
            continue;
        }
        paths.push(path);
        pair = match kind {
            0 => pair.plain(path, content),
            1 => pair.zstd(path, content),
            2 => pair.dir(path, 0o755),
            _ => pair.link(path, &target(path)),
        };
    }
    pair
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_comes_out_as_it_went_in(things in any_tree(), far in any::<bool>(), chunk in 1_u64..2000) {
        let pair = build(&things, |_| "b".into());
        let archive = if far { pair.over(Arc::new(Far(pair.remote()))) } else { pair.local() };
        let temp = tempfile::tempdir().unwrap();
        let options = options(|o| {
            (o.chunk_bytes, o.max_gap, o.read_ahead_bytes) = (chunk, chunk / 3, chunk * 2);
            o.allow_external_symlinks = true;
        });
        for dest in ["out", "."] {
            let report = extract(&archive, &temp.path().join(dest), &options).unwrap();
            prop_assert_eq!(report.files, archive.len() as u64);
            prop_assert_eq!(tree(&temp.path().join(dest)), expected(&archive));
            std::fs::remove_dir_all(temp.path().join("out")).ok();
        }
    }

    #[test]
    fn nothing_is_ever_written_outside(
        things in any_tree(),
        planted in prop::collection::vec("[abA.-]{1,2}(/[abA.-]{1,2}){0,2}", 0..6),
        target in "(\\.\\./){0,4}[abA.-]{1,2}",
        overwrite in any::<bool>(),
        stripped in 0_usize..3,
    ) {
        let temp = tempfile::tempdir().unwrap();
        let (dest, outside) = (temp.path().join("out"), temp.path().join("outside"));
        std::fs::create_dir_all(outside.join("a/a")).unwrap();
        std::fs::create_dir_all(&dest).unwrap();
        for path in planted.iter().filter(|path| blob_core::ArchivePath::new(path).is_ok()) {
            if let Some(parent) = dest.join(path).parent() && std::fs::create_dir_all(parent).is_ok() {
                // Planted beforehand: links to a place that extraction must not touch.
                symlink(&outside, dest.join(path)).ok();
            }
        }
        let before = tree(&outside);
        let pair = build(&things, |_| target.clone());
        let options = options(|o| {
            o.existing = if overwrite { Existing::Overwrite } else { Existing::Skip };
            o.allow_external_symlinks = overwrite;
            o.layout = if stripped > 0 { Layout::StripComponents(stripped) } else { Layout::Full };
        });
        // Whether it works or is refused does not matter here.
        extract(&pair.local(), &dest, &options).ok();
        extract(&pair.local(), &dest, &options).ok();
        prop_assert_eq!(tree(&outside), before);
        let names: Vec<_> = std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(names.len(), 2, "{:?}", names);
    }
}
