//! Disks that are full, read-only or forbidden: reads go on, nothing panics.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use blob_cache::{CacheAdmin, CacheDir, CacheOptions, OpenError, TagCache, TagEntry};
use blob_core::{Cache, Digest};

use crate::processes::{child_command, role};
use crate::support::{content, entries, open, put, read};

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("cache");
    std::fs::write(&root, "x").unwrap();
    assert!(matches!(CacheDir::open(&root, CacheOptions::default()), Err(OpenError::Io { .. })));
}

#[tokio::test]
async fn nothing_is_stored_where_temporaries_cannot_be_made() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 20);
    put(&dir.contents(), &content(1, 100)).await.unwrap();
    std::fs::remove_dir(place.path().join("tmp")).unwrap();
    std::fs::write(place.path().join("tmp"), "x").unwrap();
    for _ in 0..2 {
        assert!(!put(&dir.contents(), &content(2, 100)).await.unwrap());
        dir.tags().put("r.io/a:1", &TagEntry::now(Digest::sha256_of(b"m"))).await.unwrap();
    }
    assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(1, 100))).await, Some(content(1, 100)));
}

#[tokio::test]
async fn a_cache_that_is_deleted_under_a_running_program_is_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("cache");
    let dir = open(&root, 1 << 20);
    put(&dir.contents(), &content(1, 100)).await.unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(1, 100))).await, None);
    put(&dir.contents(), &content(2, 100)).await.unwrap();
    assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(2, 100))).await, Some(content(2, 100)));
    dir.prune(0).await.unwrap();
}

/// What a program sees that may read a cache and not write it.
async fn use_read_only(root: &std::path::Path) {
    let dir = open(root, 1 << 20);
    assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(1, 100))).await, Some(content(1, 100)));
    assert!(!put(&dir.contents(), &content(2, 100)).await.unwrap());
    dir.tags().put("r.io/a:1", &TagEntry::now(Digest::sha256_of(b"m"))).await.unwrap();
    assert_eq!(dir.tags().get("r.io/a:1").await.unwrap(), None);
    // Damage cannot be removed here; it is a miss all the same.
    assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(3, 100))).await, None);
    assert!(dir.contents().remove(&Digest::sha256_of(&content(1, 100))).await.is_err());
    assert!(dir.prune(0).await.is_err() || !entries(root).is_empty());
    assert_eq!(dir.usage().await.unwrap().entries, 2);
}

#[test]
fn a_read_only_cache_serves_what_it_has() {
    if role("read-only").is_none() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("cache");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = open(&root, 1 << 20);
            put(&dir.contents(), &content(1, 100)).await.unwrap();
            put(&dir.contents(), &content(3, 100)).await.unwrap();
        });
        let damaged = Digest::sha256_of(&content(3, 100)).hex();
        let path = entries(&root).into_iter().find(|path| path.ends_with(&damaged)).unwrap();
        std::fs::write(path, "damaged").unwrap();
        // Readable by all, writable by none, and root gives up its powers.
        let mode = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let chmod =
            |which: &str| assert!(Command::new("chmod").args(["-R", which]).arg(&root).status().unwrap().success());
        mode(place.path(), 0o755);
        chmod("a+rX,a-w");
        let status = child_command("failing::a_read_only_cache_serves_what_it_has", "read-only", &root, true).status();
        chmod("u+w");
        assert!(status.unwrap().success());
        return;
    }
    let root = role("read-only").unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(use_read_only(&root));
}

#[test]
fn a_full_disk_costs_only_the_storing() {
    let Some(root) = role("full-disk") else {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("cache");
        drop(open(&root, 1 << 30));
        // Files may grow to 64 KiB; without the signal, exceeding that fails like a full disk.
        let child = child_command("failing::a_full_disk_costs_only_the_storing", "full-disk", &root, false);
        let mut shell = Command::new("bash");
        shell.arg("-c").arg("trap '' XFSZ; ulimit -f 64; exec \"$@\"").arg("bash").arg(child.get_program());
        shell.args(child.get_args()).envs(child.get_envs().filter_map(|(key, value)| Some((key, value?))));
        assert!(shell.status().unwrap().success());
        return;
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        let dir = open(&root, 1 << 30);
        assert!(put(&dir.contents(), &content(1, 30_000)).await.unwrap());
        assert!(put(&dir.contents(), &content(2, 100_000)).await.is_err(), "the disk is full");
        assert!(!put(&dir.contents(), &content(4, 10)).await.unwrap(), "for a while nothing is tried");
        assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(1, 30_000))).await, Some(content(1, 30_000)));
        assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(2, 100_000))).await, None);
        assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0, "half-written temporaries are removed");
        assert_eq!(dir.usage().await.unwrap().entries, 1);
    });
}
