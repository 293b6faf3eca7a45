//! The bytes of archives: the same for the same content, and the same as ever.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use blob_core::Compression;
use blob_core::create::Reproducible;

use super::{archive, options, text, tick, tree};

const TIME: i64 = 1_705_314_600_123_456_789;

#[test]
fn a_small_archive_has_the_bytes_that_it_always_had() {
    let dir = tree(&[("a.txt", b"hello"), ("a/b", b"world!"), ("a-b", b"hello"), ("empty", b"")]);
    for path in ["a.txt", "a/b", "a-b", "empty"] {
        fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(dir.path().join("a/b"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("a/b", dir.path().join("link")).unwrap();
    fs::create_dir(dir.path().join("void")).unwrap();
    fs::set_permissions(dir.path().join("void"), fs::Permissions::from_mode(0o700)).unwrap();
    let options = options(|options| {
        options.compression = Compression::None;
        options.reproducible = Some(Reproducible { clamp_mtime_ns: Some(TIME) });
    });
    let (created, data) = archive(dir.path(), &options).unwrap();
    assert_eq!(data, b"helloworld!");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny.index.hex");
    let lines: Vec<String> = created.index.as_bytes().chunks(32).map(hex::encode).collect();
    assert_eq!(lines.join("\n"), fs::read_to_string(golden).unwrap_or_default().trim_end());
}

#[test]
fn equal_trees_give_equal_archives() {
    let reproducible = options(|options| options.reproducible = Some(Reproducible::default()));
    let make = |order: &[usize]| {
        let dir = tree(&[]);
        for &number in order {
            super::write(dir.path(), &format!("{}/f{number}", number % 3), &text(number as u64 % 5, 3000));
            tick();
        }
        symlink("x", dir.path().join("link")).unwrap();
        fs::create_dir(dir.path().join("void")).unwrap();
        archive(dir.path(), &reproducible).unwrap()
    };
    let ((first, data), (second, same)) = (make(&[0, 1, 2, 3, 4, 5, 6]), make(&[6, 3, 1, 5, 0, 2, 4]));
    assert_eq!(first.index.as_bytes(), second.index.as_bytes());
    assert_eq!(data, same);
    for entry in first.index.entries() {
        assert_eq!((entry.uid(), entry.gid(), entry.mtime_ns()), (0, 0, 0));
    }
}

#[test]
fn times_are_clamped_only_where_they_are_later() {
    let dir = tree(&[("old", b"1"), ("new", b"2")]);
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(dir.path().join("old")).unwrap().set_modified(old).unwrap();
    let clamp = options(|options| options.reproducible = Some(Reproducible { clamp_mtime_ns: Some(TIME) }));
    let (created, _) = archive(dir.path(), &clamp).unwrap();
    assert_eq!(created.index.entry("old").unwrap().mtime_ns(), 1_000_000_000_000_000_000);
    assert_eq!(created.index.entry("new").unwrap().mtime_ns(), TIME);
}
