//! A cache of many entries: opening, storing and evicting must not cost more for it, and memory must not grow.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use blob_cache::{CacheAdmin, CacheDir};
use blob_core::{Cache as _, Digest};

use crate::support::{content, open, put, read};

const CAP: u64 = 1 << 40;

/// How many entries: a sample, or a million with `BLOB_SWEEP=full`, as `cargo xtask sweep` has it.
fn many() -> u32 {
    if std::env::var_os("BLOB_SWEEP").is_some_and(|sweep| sweep == "full") { 1_000_000 } else { 2000 }
}

/// Puts entries of eight bytes in place, as the cache would.
fn plant(root: &Path, numbers: std::ops::Range<u32>) {
    let shards = root.join("content-v1/sha256");
    for shard in 0..=255_u8 {
        std::fs::create_dir_all(shards.join(format!("{shard:02x}"))).unwrap();
    }
    for number in numbers {
        let bytes = u64::from(number).to_le_bytes();
        let hex = Digest::sha256_of(&bytes).hex();
        std::fs::write(shards.join(&hex[..2]).join(&hex), bytes).unwrap();
    }
    // What the counter does not know it learns by a walk.
    std::fs::remove_file(root.join("usage-v1")).unwrap();
}

/// The middle of some measurements.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The most memory that this process has held so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

/// How long opening and storing take.
async fn costs(root: &Path, seed: u64) -> (Duration, Duration) {
    let timed = |work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        started.elapsed()
    };
    let opens = (0..21).map(|_| timed(&mut || drop(open(root, CAP)))).collect();
    let contents = open(root, CAP).contents();
    let mut puts = Vec::new();
    for number in 0..201 {
        let bytes = content(seed + number, 4000);
        let started = Instant::now();
        assert!(put(&contents, &bytes).await.unwrap());
        puts.push(started.elapsed());
    }
    (median(opens), median(puts))
}

#[tokio::test]
async fn costs_do_not_grow_with_the_number_of_entries() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("cache");
    let dir: CacheDir = open(&root, CAP);
    let few = costs(&root, 1 << 20).await;
    plant(&root, 0..many());
    let counted = dir.usage().await.unwrap();
    assert_eq!(counted.entries, u64::from(many()) + 201);
    let (before, loaded) = (peak(), costs(&root, 1 << 30).await);
    let usage = dir.usage().await.unwrap();
    assert_eq!((usage.entries, usage.bytes), (counted.entries + 201, counted.bytes + 201 * 4096));

    let started = Instant::now();
    let freed = dir.prune(usage.bytes / 10 * 9).await.unwrap();
    let (walk, evicted) = (started.elapsed(), usage.entries - dir.usage().await.unwrap().entries);
    assert_eq!(freed, evicted * 4096);
    assert!(dir.usage().await.unwrap().bytes <= usage.bytes / 10 * 9);
    let mut held = 0;
    // Those that were written last.
    for number in many() - 200..many() {
        let digest = Digest::sha256_of(&u64::from(number).to_le_bytes());
        held += usize::from(read(&dir.contents(), &digest).await.is_some());
    }
    assert!(held > 100, "a tenth was to go, {held} of 200 are left");
    // Bounded by the number of ages, not of entries.
    assert!(peak() - before < 48 << 10, "{} KiB more", peak() - before);
    let per_entry = walk.as_secs_f64() * 1e6 / evicted.max(1) as f64;
    writeln!(
        std::io::stdout(),
        "{} entries: open {:?} (201 entries: {:?}), put {:?} ({:?}), evicting {evicted} took {walk:?}, {per_entry:.0} µs \
         for each, and {} KiB of memory",
        usage.entries,
        loaded.0,
        few.0,
        loaded.1,
        few.1,
        peak() - before
    )
    .unwrap();
    dir.contents().remove(&Digest::sha256_of(b"")).await.unwrap();
}
