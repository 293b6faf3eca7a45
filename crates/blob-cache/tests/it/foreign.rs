//! What is not the cache's own, in the middle of its directory: it stays, and it stops nothing.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blob_cache::CacheAdmin as _;
use blob_core::Digest;

use crate::processes::{child_command, role};
use crate::support::{age, content, open, put, read};

const LONG_AGO: Duration = Duration::from_hours(24 * 30);

/// A name that temporaries of ours have.
const OURS: &str = "0123456789abcdef-7";

fn write(path: &Path) {
    std::fs::write(path, "precious").unwrap();
    age(path, LONG_AGO);
}

#[test]
fn only_our_own_leftovers_are_reclaimed() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("cache");
    drop(open(&root, 1 << 20));
    let tmp = root.join("tmp");
    std::fs::create_dir(tmp.join("photos")).unwrap();
    for name in ["thesis", "photos/one", OURS, "0123456789abcdef-x"] {
        write(&tmp.join(name));
    }
    age(&tmp.join("photos"), LONG_AGO);
    drop(open(&root, 1 << 20));
    for (name, stays) in [("thesis", true), ("photos/one", true), ("0123456789abcdef-x", true), (OURS, false)] {
        assert_eq!(tmp.join(name).exists(), stays, "{name}");
    }

    // A link to elsewhere in the place of the directory.
    let elsewhere = place.path().join("elsewhere");
    std::fs::rename(&tmp, &elsewhere).unwrap();
    write(&elsewhere.join(OURS));
    symlink(&elsewhere, &tmp).unwrap();
    drop(open(&root, 1 << 20));
    assert!(elsewhere.join(OURS).exists());
}

#[tokio::test]
async fn counter_and_lock_of_another_kind_are_replaced() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("cache");
    let victim = place.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let dir = open(&root, 100_000);
    for (number, name) in ["usage-v1", "lock"].into_iter().cycle().take(4).enumerate() {
        let path = root.join(name);
        let _ = std::fs::remove_file(&path);
        if number < 2 {
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("inside"), "").unwrap();
        } else {
            symlink(&victim, &path).unwrap();
        }
        let seed = number as u64;
        assert!(put(&dir.contents(), &content(seed, 4000)).await.unwrap(), "{name}");
        // Makes room, which needs both.
        assert!(dir.prune(1 << 20).await.is_ok(), "{name}");
        assert!(path.symlink_metadata().unwrap().is_file(), "{name}");
        assert_eq!(dir.usage().await.unwrap().entries, seed + 1, "{name}");
    }
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn a_directory_that_cannot_be_listed_stops_nothing() {
    let Some(root) = role("unlisted") else {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("cache");
        drop(open(&root, 1 << 20));
        let unlisted = root.join("content-v1/sha256/zz");
        std::fs::create_dir_all(&unlisted).unwrap();
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let chmod = |mode: &str, path: &Path| {
            assert!(Command::new("chmod").args(["-R", mode]).arg(path).status().unwrap().success());
        };
        chmod("a+rwX", &root);
        chmod("0000", &unlisted);
        let test = "foreign::a_directory_that_cannot_be_listed_stops_nothing";
        let status = child_command(test, "unlisted", &root, true).status().unwrap();
        chmod("0700", &unlisted);
        assert!(status.success());
        return;
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let dir = open(&root, 50_000);
        assert!(std::fs::read_dir(root.join("content-v1/sha256/zz")).is_err(), "this user may list everything");
        for seed in 0..30 {
            assert!(put(&dir.contents(), &content(seed, 4000)).await.unwrap(), "{seed}");
        }
        let last = Digest::sha256_of(&content(29, 4000));
        assert!(read(&dir.contents(), &last).await.is_some());
        assert_eq!(dir.verify().await.unwrap().dropped, 0);
        dir.prune(10_000).await.unwrap();
        assert!(dir.usage().await.unwrap().bytes <= 10_000);
        dir.clear().await.unwrap();
        assert_eq!(dir.usage().await.unwrap().entries, 0);
    });
}
