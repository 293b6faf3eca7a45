//! Disks that are full, read-only or forbidden: reads go on, nothing panics.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;

use blob_cache::{
    BlockCache, BlockKey, BlockOptions, BlockStore, CacheAdmin, CacheDir, CacheOptions, OpenError, TagCache, TagEntry,
};
use blob_core::{ByteSourceExt as _, Cache, Digest, SourceId};
use blob_testkit::peers::{find, require};

use crate::processes::{child_command, role};
use crate::support::{Counting, content, entries, open, put, read};

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("cache");
    std::fs::write(&root, "x").unwrap();
    assert!(matches!(CacheDir::open(&root, CacheOptions::default()), Err(OpenError::Io { .. })));
}

#[tokio::test]
async fn what_stands_in_the_place_of_temporaries_goes() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 20);
    put(&dir.contents(), &content(1, 100)).await.unwrap();
    std::fs::remove_dir(place.path().join("tmp")).unwrap();
    std::fs::write(place.path().join("tmp"), "x").unwrap();
    assert!(put(&dir.contents(), &content(2, 100)).await.unwrap());
    dir.tags().put("r.io/a:1", &TagEntry::now(Digest::sha256_of(b"m"))).await.unwrap();
    assert!(dir.tags().get("r.io/a:1").await.unwrap().is_some());
    assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(2, 100))).await, Some(content(2, 100)));
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
    std::fs::remove_dir_all(&root).unwrap();
    let key = BlockKey::new(&SourceId::new("a"), 4096, 0);
    dir.blocks().put(&key, content(3, 4096)).await.unwrap();
    assert_eq!(dir.blocks().get(&key).await.unwrap(), Some(content(3, 4096)));
    open(&root, 1 << 20).prune(0).await.unwrap();
}

/// Everything a program does with a cache. Failures are fine, wrong bytes are not.
async fn exercise(root: &std::path::Path) {
    let Ok(dir) = CacheDir::open(root, CacheOptions { max_bytes: 200_000, ..CacheOptions::default() }) else { return };
    let remote = content(7, 30_000);
    let options = BlockOptions { block_size: 4096, ..BlockOptions::default() };
    let blocks = BlockCache::new(Arc::new(dir.blocks())).wrap(Counting::new(remote.clone()), options);
    for (seed, length) in [(1, 100), (2, 60_000), (3, 120_000), (4, 0)] {
        let bytes = content(seed, length);
        let _ = put(&dir.contents(), &bytes).await;
        if let Some(found) = read(&dir.contents(), &Digest::sha256_of(&bytes)).await {
            assert!(found == bytes);
        }
        let range = seed * 5000..seed * 5000 + 3000;
        let found = blocks.read(range.clone()).await.unwrap();
        assert!(found == remote[range.start as usize..range.end as usize]);
        let entry = TagEntry::now(Digest::sha256_of(b"m"));
        let _ = dir.tags().put("r.io/a:1", &entry).await;
        if let Ok(Some(found)) = dir.tags().get("r.io/a:1").await {
            assert_eq!(found.digest, entry.digest);
        }
    }
    let _ = dir.contents().remove(&Digest::sha256_of(&content(1, 100))).await;
    let _ = dir.prune(100_000).await;
    let _ = dir.verify().await;
    let _ = dir.clear().await;
}

const FAULTS: [&str; 7] =
    ["error=EIO", "error=ENOSPC", "error=EDQUOT", "error=EACCES", "error=EMFILE", "error=EINTR", "signal=KILL"];

/// The calls that change a cache.
const MUTATING: &str = "openat write pwrite64 rename mkdir unlink flock fsync";

/// Which calls fail in which way: call, fault, the how-manieth.
fn sample() -> Vec<(&'static str, &'static str, usize)> {
    let calls =
        "openat write pwrite64 pread64 preadv2 rename mkdir unlink flock statx utimensat fsync getdents64 access";
    let of = |(round, call)| {
        FAULTS.iter().enumerate().map(move |(step, fault)| (call, *fault, 1 + (round * 7 + step * 5) % 17))
    };
    calls.split(' ').enumerate().flat_map(of).collect()
}

/// Runs [`exercise`] with one of its system calls failing or killing; the answer is whether it got as far as that call.
/// Afterwards the cache has to be sound.
fn strike(place: &std::path::Path, call: &str, fault: &str, when: usize) -> bool {
    let (root, log) = (place.join("cache"), place.join("trace"));
    let child = child_command(TEST, "faults", &root, false);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o"]).arg(&log).arg("-e").arg(format!("trace={call}"));
    traced.arg("-e").arg(format!("inject={call}:{fault}:when={when}")).arg("--").arg(child.get_program());
    traced.args(child.get_args()).envs(child.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = traced.output().unwrap();
    let trace = std::fs::read_to_string(&log).unwrap();
    let what = format!("{call} {fault} at {when}: {}", String::from_utf8_lossy(&output.stderr));
    // The fault may as well strike the test harness, which then gives up in its own way.
    assert!(!what.contains("panicked at crates/"), "{what}");
    futures_executor::block_on(async {
        let dir = open(&root, 200_000);
        assert_eq!(dir.verify().await.unwrap().dropped, 0, "{what}");
        assert!(put(&dir.contents(), &content(9, 10)).await.unwrap(), "{what}");
        assert_eq!(read(&dir.contents(), &Digest::sha256_of(&content(9, 10))).await, Some(content(9, 10)));
        dir.contents().remove(&Digest::sha256_of(&content(9, 10))).await.unwrap();
    });
    trace.contains("INJECTED") || trace.contains("killed by SIGKILL")
}

const TEST: &str = "failing::faults_at_system_calls_leave_a_sound_cache";

/// A sample of calls; all calls that change the cache with `BLOB_SWEEP=full`, as `cargo xtask sweep` has it.
#[test]
fn faults_at_system_calls_leave_a_sound_cache() {
    if let Some(root) = role("faults") {
        // A thread of its own, so that its calls are counted from one.
        std::thread::spawn(move || futures_executor::block_on(exercise(&root))).join().unwrap();
        return;
    }
    if require("failing system calls under strace", find("strace")).is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    if !full_sweep() {
        let struck = sample().into_iter().filter(|(call, fault, when)| strike(place, call, fault, *when)).count();
        assert!(struck > 40, "only {struck} faults struck");
        return;
    }
    let mut total = 0;
    for call in MUTATING.split(' ') {
        let each = |fault: &str| {
            let strikes = |when: &usize| {
                if call == "mkdir" || call == "fsync" {
                    // Directories are made once.
                    let _ = std::fs::remove_dir_all(place.join("cache"));
                }
                strike(place, call, fault, *when)
            };
            (1..100_000).take_while(strikes).count()
        };
        let struck: usize = FAULTS.into_iter().map(each).sum();
        writeln!(std::io::stdout(), "{call}: {struck} faults, every read right, no entry damaged").unwrap();
        total += struck;
    }
    assert!(total > 300, "only {total} faults struck");
}

/// Whether everything is tried rather than a sample.
fn full_sweep() -> bool {
    std::env::var_os("BLOB_SWEEP").is_some_and(|sweep| sweep == "full")
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
