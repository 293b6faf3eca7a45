//! Several processes on one cache, and processes that die in the middle.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use blob_cache::{BlockCache, BlockOptions, CacheAdmin, TagCache, TagEntry};
use blob_core::{ByteSource, ByteSourceExt as _, Cache, Digest};

use crate::support::{Counting, Random, age, content, entries, open, put, read};

const ROLE: &str = "BLOB_CACHE_TEST_ROLE";
const ROOT: &str = "BLOB_CACHE_TEST_ROOT";

/// The cache to work on, if this process was started as `name`.
pub(crate) fn role(name: &str) -> Option<PathBuf> {
    (std::env::var_os(ROLE)? == name).then(|| std::env::var_os(ROOT).unwrap().into())
}

/// This binary, to run `test` in the role `name`; as nobody, if asked for and possible.
pub(crate) fn child_command(test: &str, name: &str, root: &Path, drop_privileges: bool) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = if drop_privileges && rustix::process::geteuid().is_root() {
        // The binary may lie where nobody may look, so a copy is started.
        let copy = root.parent().unwrap().join("it");
        // By another process: a file that this one writes is busy until its own children have closed it.
        assert!(Command::new("cp").arg(&binary).arg(&copy).status().unwrap().success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(copy);
        command
    } else {
        Command::new(binary)
    };
    command.args([test, "--exact", "--nocapture"]).env(ROLE, name).env(ROOT, root);
    command
}

fn start(test: &str, name: &str, root: &Path) -> Child {
    child_command(test, name, root, false).stdout(Stdio::piped()).spawn().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

/// Reads, stores and evicts at random; every byte has to be right.
async fn work(root: &Path, seed: u64) {
    let dir = open(root, 300_000);
    let contents = dir.contents();
    let source = Counting::new(content(500, 300_000));
    let blocks = BlockCache::new(std::sync::Arc::new(dir.blocks()));
    let cached = blocks.wrap(source.clone() as std::sync::Arc<dyn ByteSource>, BlockOptions::default());
    let plain = content(500, 300_000);
    let mut random = Random(seed);
    for round in 0..150 {
        let bytes = content(random.below(40), 200 + random.below(5) as usize * 3000);
        let digest = Digest::sha256_of(&bytes);
        match read(&contents, &digest).await {
            Some(found) => assert!(found == bytes),
            None => drop(put(&contents, &bytes).await.unwrap()),
        }
        let start = random.below(290_000);
        assert!(cached.read(start..start + 5000).await.unwrap() == plain[start as usize..start as usize + 5000]);
        let key = format!("r.io/a:{}", random.below(5));
        if let Some(entry) = dir.tags().get(&key).await.unwrap() {
            assert_eq!(entry.digest, Digest::sha256_of(key.as_bytes()));
        }
        dir.tags().put(&key, &TagEntry::now(Digest::sha256_of(key.as_bytes()))).await.unwrap();
        if round % 50 == 49 {
            dir.prune(random.below(300_000)).await.unwrap();
        }
    }
}

#[test]
fn processes_share_a_cache() {
    if let Some(root) = role("worker") {
        runtime().block_on(work(&root, u64::from(std::process::id())));
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let children: Vec<_> =
        (0..4).map(|_| start("processes::processes_share_a_cache", "worker", place.path())).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    runtime().block_on(async {
        let dir = open(place.path(), 300_000);
        assert_eq!(dir.verify().await.unwrap().dropped, 0);
        dir.prune(300_000).await.unwrap();
        assert!(dir.usage().await.unwrap().bytes <= 300_000);
        assert_eq!(std::fs::read_dir(place.path().join("tmp")).unwrap().count(), 0);
    });
}

#[test]
fn killing_a_writer_leaves_a_sound_cache() {
    if let Some(root) = role("writer") {
        runtime().block_on(async {
            let dir = open(&root, 1 << 30);
            // Not by `println!`, which the test harness may capture.
            writeln!(std::io::stdout(), "writing").unwrap();
            for seed in 0.. {
                let bytes = content(seed % 50, 2_000_000 + seed as usize % 50);
                put(&dir.contents(), &bytes).await.unwrap();
                dir.contents().remove(&Digest::sha256_of(&bytes)).await.unwrap();
                put(&dir.contents(), &content(1000 + seed % 50, 50)).await.unwrap();
            }
        });
    }
    let place = tempfile::tempdir().unwrap();
    let tmp = place.path().join("tmp");
    for round in 0..8_u64 {
        let mut child = start("processes::killing_a_writer_leaves_a_sound_cache", "writer", place.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("writing")));
        std::thread::sleep(Duration::from_millis(10 + round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        runtime().block_on(async {
            let dir = open(place.path(), 1 << 30);
            assert_eq!(dir.verify().await.unwrap().dropped, 0, "an entry is whole or absent");
            assert!(put(&dir.contents(), &content(2000 + round, 100)).await.unwrap(), "the next one is not blocked");
        });
        for entry in std::fs::read_dir(&tmp).unwrap() {
            age(&entry.unwrap().path(), Duration::from_mins(2));
        }
        drop(open(place.path(), 1 << 30));
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0, "leftovers are reclaimed");
    }
    assert!(!entries(place.path()).is_empty());
}

#[tokio::test]
async fn temporaries_of_living_writers_stay() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 30);
    let bytes = content(1, 3_000_000);
    let digest = Digest::sha256_of(&bytes);
    let mut writer = dir.contents().begin(&digest, bytes.len() as u64).await.unwrap().unwrap();
    writer.write(bytes.slice(..2_000_000)).await.unwrap();
    let temp = std::fs::read_dir(place.path().join("tmp")).unwrap().next().unwrap().unwrap().path();
    age(&temp, Duration::from_hours(100));
    open(place.path(), 1 << 30).prune(0).await.unwrap();
    writer.write(bytes.slice(2_000_000..)).await.unwrap();
    writer.commit().await.unwrap();
    assert!(read(&dir.contents(), &digest).await.unwrap() == bytes);
}
