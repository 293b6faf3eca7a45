//! Trees that change while they are archived: an error that names the file, never a wrong hash, never a hang.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Once};

use blob_core::create::{Change, ChangeDetection, SkipCompression};
use blob_core::{Compression, CreateError, CreateOptions, Event};

use super::{archive, noise, options, read, text, threads, tick, tree, watch};

const SIZE: usize = 5000;
const LARGE: usize = 9 << 20;

/// Runs `change` on the file "f" after the tree has been listed.
fn after_listing(dir: &Path, change: fn(&Path)) -> CreateOptions {
    let (path, once) = (dir.join("f"), Once::new());
    options(|options| {
        options.progress = watch(move |event| {
            if matches!(event, Event::Scanning { .. }) {
                once.call_once(|| change(&path));
            }
        });
    })
}

fn grow(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn shrink(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(10).unwrap();
}

/// Other bytes, with the time put back: the time of the change itself cannot be.
fn rewrite(path: &Path) {
    let times = fs::metadata(path).unwrap();
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(b"other").unwrap();
    file.set_times(FileTimes::new().set_modified(times.modified().unwrap())).unwrap();
}

fn replace(path: &Path) {
    let content = fs::read(path).unwrap();
    fs::write(path.with_extension("new"), content).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn to_link(path: &Path) {
    fs::remove_file(path).unwrap();
    symlink("/etc/passwd", path).unwrap();
}

fn to_directory(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

fn to_fifo(path: &Path) {
    fs::remove_file(path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn to_socket(path: &Path) {
    fs::remove_file(path).unwrap();
    std::os::unix::net::UnixListener::bind(path).unwrap();
}

#[test]
fn every_change_is_noticed_and_named() {
    type Case = (fn(&Path), fn(u64) -> Change);
    // The first two need some content.
    let cases: [Case; 9] = [
        (shrink, |from| Change::Shrank { from, to: 10 }),
        (rewrite, |_| Change::Rewritten),
        (grow, |from| Change::Grew { from, to: from + 4 }),
        (replace, |_| Change::Replaced),
        (remove, |_| Change::Vanished),
        (to_link, |_| Change::Replaced),
        (to_directory, |_| Change::Replaced),
        (to_fifo, |_| Change::Replaced),
        (to_socket, |_| Change::Replaced),
    ];
    for size in [0, SIZE, LARGE] {
        for (change, expected) in &cases[if size == 0 { 2 } else { 0 }..] {
            let dir = tree(&[("f", &noise(1, size)), ("other", b"x")]);
            tick();
            let error = archive(dir.path(), &after_listing(dir.path(), *change)).unwrap_err();
            let CreateError::Changed { path, change } = &error else { panic!("{error:?}") };
            assert_eq!((&**path, *change), (&b"f"[..], expected(size as u64)));
            assert!(error.is_changed());
            assert!(error.to_string().starts_with("\"f\" changed while it was archived: "), "{error}");
        }
    }
}

#[test]
fn without_detection_only_missing_bytes_are_an_error() {
    for size in [SIZE, LARGE] {
        for (change, works) in [
            (grow as fn(&Path), true),
            (rewrite, true),
            (replace, true),
            (shrink, false),
            (remove, false),
            (to_link, false),
            (to_fifo, false),
        ] {
            let dir = tree(&[("f", &noise(1, size)), ("other", b"x")]);
            let mut options = after_listing(dir.path(), change);
            options.change_detection = ChangeDetection::Off;
            match archive(dir.path(), &options) {
                Ok((created, data)) => {
                    assert!(works);
                    assert_eq!(read(&created.index, &data, "f").len(), size);
                }
                Err(error) => assert!(!works && error.is_changed(), "{error:?}"),
            }
        }
    }
}

#[test]
fn a_large_file_is_watched_until_its_end() {
    for (compression, change, expected) in [
        (Compression::None, shrink as fn(&Path), None),
        (Compression::None, rewrite, Some(Change::Rewritten)),
        (Compression::None, grow, Some(Change::Grew { from: 40 << 20, to: (40 << 20) + 4 })),
        (Compression::Zstd, rewrite, Some(Change::Rewritten)),
    ] {
        let mut content = noise(1, 40 << 20);
        content[..2 << 20].copy_from_slice(&text(1, 2 << 20));
        let dir = tree(&[("f", &content)]);
        tick();
        let (path, once) = (dir.path().join("f"), Once::new());
        let options = options(|options| {
            options.compression = compression;
            // The first part has been written: the reader is some parts ahead, but far from the end.
            options.progress = watch(move |event| {
                if matches!(event, Event::Archived { files: 0, .. }) {
                    once.call_once(|| change(&path));
                }
            });
        });
        let error = archive(dir.path(), &options).unwrap_err();
        let CreateError::Changed { change, .. } = error else { panic!("{error:?}") };
        match expected {
            Some(expected) => assert_eq!(change, expected),
            None => assert!(matches!(change, Change::Shrank { .. }), "{change:?}"),
        }
    }
}

#[test]
fn a_large_file_that_differs_from_its_own_hash_is_refused() {
    // Files of one size are hashed before they are read again to be stored. Between the two, the predicate is asked.
    let dir = tree(&[("e", &noise(1, LARGE)), ("f", &noise(2, LARGE))]);
    for count in [1, 2] {
        let path = dir.path().join("f");
        let mut options = threads(count);
        options.change_detection = ChangeDetection::Off;
        options.skip_compression = SkipCompression::new(move |asked, _| {
            if asked == b"f" {
                fs::write(&path, noise(99 + count as u64, LARGE)).unwrap();
            }
            true
        });
        let error = archive(dir.path(), &options).unwrap_err();
        assert!(
            matches!(&error, CreateError::Changed { path, change: Change::Rewritten } if &**path == b"f"),
            "{error:?}"
        );
    }
}

#[test]
fn a_parent_that_becomes_a_link_is_not_followed() {
    let dir = tree(&[("d/f", b"inside"), ("aside/f", b"inside")]);
    let (at, once) = (dir.path().to_path_buf(), Once::new());
    let mut options = threads(1);
    options.progress = watch(move |event| {
        if matches!(event, Event::Scanning { found: 2 }) {
            once.call_once(|| {
                fs::rename(at.join("d"), at.join("gone")).unwrap();
                symlink("aside", at.join("d")).unwrap();
            });
        }
    });
    let error = archive(dir.path(), &options).unwrap_err();
    assert!(
        matches!(&error, CreateError::Changed { path, change: Change::Replaced } if &**path == b"d/f"),
        "{error:?}"
    );
}

#[test]
fn a_directory_that_vanishes_before_it_is_listed_is_named() {
    let dir = tree(&[("d/f", b"x"), ("z", b"x")]);
    for (replacement, expected) in [(None, Change::Vanished), (Some("/etc"), Change::Replaced)] {
        fs::create_dir_all(dir.path().join("d")).unwrap();
        let gone = dir.path().join("d");
        let options = options(|options| {
            options.filter = Some(Arc::new(move |path: &[u8], _| {
                if path == b"d" {
                    fs::remove_dir_all(&gone).unwrap();
                    if let Some(target) = replacement {
                        symlink(target, &gone).unwrap();
                    }
                }
                true
            }));
        });
        let error = archive(dir.path(), &options).unwrap_err();
        assert!(
            matches!(&error, CreateError::Changed { path, change } if &**path == b"d" && *change == expected),
            "{error:?}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn content_without_a_size_is_not_lost() {
    let options = options(|options| options.filter = Some(Arc::new(|path: &[u8], _| path == b"boot_id")));
    let error = archive(Path::new("/proc/sys/kernel/random"), &options).unwrap_err();
    assert!(matches!(&error, CreateError::Changed { path, .. } if &**path == b"boot_id"), "{error:?}");
}

#[test]
fn what_cannot_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt as _;

    for name in ["secret", "dir"] {
        let dir = tree(&[("a", b"x"), ("dir/f", b"x"), ("secret", b"x")]);
        let path = dir.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        // Whoever may read everything archives everything.
        let allowed = File::open(&path).is_ok();
        match archive(dir.path(), &threads(2)) {
            Ok((created, _)) => assert!(allowed && created.report.files == 3),
            Err(error) => {
                assert!(matches!(&error, CreateError::Read { path, .. } if &**path == name.as_bytes()), "{error:?}");
                assert!(!allowed);
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}
