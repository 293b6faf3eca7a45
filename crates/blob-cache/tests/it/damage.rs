//! Damage to a cache in use: no wrong byte, and everything healed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use blob_cache::{CacheAdmin, CacheOptions, DiskCache, TagCache, TagEntry};
use blob_core::{ByteSourceExt as _, Cache, Digest, Local, SourceError};
use bytes::Bytes;

use crate::support::{Random, content, entries, open, put, read};

/// Damages the entry at `path` in one of seven ways; links lead to `victim`.
fn damage(path: &Path, victim: &Path, random: &mut Random) {
    let kind = random.below(7);
    let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
    if kind > 2 {
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_dir_all(path);
    }
    let _ = match kind {
        0 if length > 0 => flip(path, random.below(length)),
        1 => cut(path, length / 2),
        2 => cut(path, 0),
        3 => std::fs::create_dir(path).and_then(|()| std::fs::write(path.join("inside"), "x")),
        4 => std::os::unix::fs::symlink(victim, path),
        5 => {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).map_err(Into::into)
        }
        _ => Ok(()),
    };
}

/// Opens a file to damage it: not what a link leads to, and without waiting for a reader should it be a pipe by now.
fn open_to_damage(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Cuts a file.
fn cut(path: &Path, length: u64) -> std::io::Result<()> {
    open_to_damage(path)?.set_len(length)
}

/// A file that is none of the cache's business, and stays what it is.
struct Victim(tempfile::TempDir);

impl Victim {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let victim = Self(tempfile::tempdir().unwrap());
        std::fs::write(victim.path(), "not yours").unwrap();
        std::fs::set_permissions(victim.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        victim
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("victim")
    }

    fn check(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::read(self.path()).unwrap(), b"not yours");
        assert_eq!(std::fs::metadata(self.path()).unwrap().permissions().mode() & 0o7777, 0o640);
    }
}

/// Flips a bit in place, as a disk or another program would.
fn flip(path: &Path, position: u64) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = open_to_damage(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, position)?;
    file.write_all_at(&[byte[0] ^ 0x20], position)
}

/// Reads entries at random and stores those that are missing, until told to stop.
async fn reader(cache: DiskCache, seed: u64, known: Arc<Known>, stop: Arc<AtomicBool>, hits: Arc<AtomicU64>) {
    let mut random = Random(seed + 1);
    while !stop.load(Ordering::Relaxed) {
        let (digest, bytes) = &known[random.below(24) as usize];
        match read(&cache, digest).await {
            Some(found) => {
                assert!(found == bytes, "wrong bytes of {digest}");
                hits.fetch_add(1, Ordering::Relaxed);
            }
            // Damage may strike between any two steps of the store as well.
            None => drop(put(&cache, bytes).await),
        }
    }
}

type Known = Vec<(Digest, Bytes)>;

fn known() -> Arc<Known> {
    let contents = (0..24).map(|number| content(number, 500 + number as usize * 3000));
    Arc::new(contents.map(|bytes| (Digest::sha256_of(&bytes), bytes)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_damage_under_eight_readers() {
    for verify_every_time in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let options = CacheOptions { verify_every_time, ..CacheOptions::default() };
        let cache = DiskCache::open(place.path(), options).unwrap();
        let (stop, hits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let readers: Vec<_> = (0..8)
            .map(|seed| tokio::spawn(reader(cache.clone(), seed, known(), Arc::clone(&stop), Arc::clone(&hits))))
            .collect();
        let (root, so_far) = (place.path().to_owned(), Arc::clone(&hits));
        let victim = Victim::new();
        let target = victim.path();
        let vandal = tokio::task::spawn_blocking(move || {
            let mut random = Random(99);
            let mut strikes = 0;
            while strikes < 1000 || so_far.load(Ordering::Relaxed) < 2000 {
                strikes += 1;
                std::thread::sleep(Duration::from_micros(500));
                let found = entries(&root);
                if !found.is_empty() {
                    damage(&found[random.below(found.len() as u64) as usize], &target, &mut random);
                }
            }
        });
        vandal.await.unwrap();
        victim.check();
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
        // Everything heals by being asked for.
        for (digest, bytes) in known().iter() {
            if read(&cache, digest).await.is_none() {
                assert!(put(&cache, bytes).await.unwrap());
            }
            assert!(read(&cache, digest).await.unwrap() == bytes);
        }
        let verified = cache.verify().await.unwrap();
        assert_eq!((verified.checked, verified.dropped), (24, 0));
    }
}

/// Sleeps until file times tell a change from what was before.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(80)).await;
}

#[tokio::test]
async fn checked_entries_are_checked_again_after_a_change() {
    let place = tempfile::tempdir().unwrap();
    let cache = open(place.path(), 1 << 30).contents();
    let bytes = content(1, 300_000);
    let digest = Digest::sha256_of(&bytes);
    put(&cache, &bytes).await.unwrap();
    settle().await;
    let hit = cache.get(&digest).await.unwrap().unwrap();
    assert!(matches!(hit.local(), Some(Local::File { offset: 0, .. })));
    assert!(hit.read(0..300_000).await.unwrap() == bytes);
    flip(&entries(place.path())[0], 150_000).unwrap();
    // Who holds the hit is told, who asks anew gets nothing, and the entry is gone.
    assert!(matches!(hit.read(0..10).await, Err(SourceError::Changed { .. })));
    assert!(cache.get(&digest).await.unwrap().is_none());
    assert!(entries(place.path()).is_empty());
}

#[tokio::test]
async fn what_a_power_loss_leaves_is_a_miss() {
    let place = tempfile::tempdir().unwrap();
    let cache = open(place.path(), 1 << 30).contents();
    let bytes = content(1, 100_000);
    let digest = Digest::sha256_of(&bytes);
    for left in [vec![], vec![0; 100_000], bytes[..65_536].to_vec(), [&bytes[..], b"x"].concat()] {
        put(&cache, &bytes).await.unwrap();
        let path = entries(place.path()).remove(0);
        std::fs::write(&path, &left).unwrap();
        settle().await;
        // A new process: nothing is known to be checked.
        let cache = open(place.path(), 1 << 30).contents();
        assert!(cache.get(&digest).await.unwrap().is_none(), "{} bytes", left.len());
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn verify_drops_exactly_what_is_damaged() {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path(), 1 << 30);
    for seed in 0..12 {
        put(&dir.contents(), &content(seed, 1000)).await.unwrap();
        dir.tags().put(&format!("r.io/a:{seed}"), &TagEntry::now(Digest::sha256_of(b"m"))).await.unwrap();
    }
    let found = entries(place.path());
    for path in found.iter().step_by(4) {
        flip(path, 20).unwrap();
    }
    let looked = dir.verify_only().await.unwrap();
    assert_eq!((looked.checked, looked.dropped, entries(place.path()).len()), (24, 6, 24));
    let verified = dir.verify().await.unwrap();
    assert_eq!((verified.checked, verified.dropped), (24, 6));
    assert_eq!(entries(place.path()).len(), 18);
    assert_eq!(dir.usage().await.unwrap().entries, 18);
}

#[tokio::test]
async fn damaged_tags_are_misses() {
    let place = tempfile::tempdir().unwrap();
    let tags = open(place.path(), 1 << 30).tags();
    let entry = TagEntry::now(Digest::sha256_of(b"m"));
    let (mut random, victim) = (Random(5), Victim::new());
    for _ in 0..60 {
        tags.put("r.io/a:v1", &entry).await.unwrap();
        damage(&entries(place.path())[0], &victim.path(), &mut random);
        assert_eq!(tags.get("r.io/a:v1").await.unwrap(), None);
        assert!(entries(place.path()).is_empty());
    }
    victim.check();
}

#[tokio::test]
async fn an_entry_with_another_name_is_checked_at_every_hit() {
    let place = tempfile::tempdir().unwrap();
    let cache = open(&place.path().join("cache"), 1 << 20).contents();
    for length in [1000, 200_000] {
        let bytes = content(3, length);
        put(&cache, &bytes).await.unwrap();
        let digest = Digest::sha256_of(&bytes);
        let entry = entries(place.path()).into_iter().find(|path| path.ends_with(digest.hex())).unwrap();
        crate::support::age(&entry, Duration::from_hours(1));
        assert!(read(&cache, &digest).await.is_some());
        let other = place.path().join(format!("other-{length}"));
        std::fs::hard_link(&entry, &other).unwrap();
        assert!(matches!(cache.get(&digest).await.unwrap().unwrap().local(), Some(Local::File { .. })));
        // Edited under its other name, and the time set back.
        let before = std::fs::metadata(&entry).unwrap().modified().unwrap();
        flip(&other, 10).unwrap();
        std::fs::File::open(&other).unwrap().set_modified(before).unwrap();
        assert_eq!(read(&cache, &digest).await, None, "{length}");
        assert!(!entry.exists() && other.exists());
    }
}

/// Puts something into the place of something else.
type Make = fn(&Path);

#[test]
fn what_stands_in_the_place_of_the_structure_goes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = tempfile::tempdir().unwrap();
    let kinds: [(&str, Make); 4] = [
        ("a file", |path| std::fs::write(path, "x").unwrap()),
        ("a link to nothing", |path| std::os::unix::fs::symlink("/nonexistent/place", path).unwrap()),
        ("a pipe", |path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }),
        ("a directory", |path| std::fs::create_dir_all(path.join("x")).unwrap()),
    ];
    let alone = [
        "content-v1",
        "content-v1/sha256",
        "blocks-v1",
        "tags-v1",
        "usage-v1",
        "lock",
        "blob-cache.json",
        "tmp",
        "CACHEDIR.TAG",
    ];
    let pairs = [
        ["blob-cache.json", "usage-v1"],
        ["blob-cache.json", "tmp"],
        ["blob-cache.json", "lock"],
        ["CACHEDIR.TAG", "tmp"],
        ["usage-v1", "tmp"],
        ["content-v1", "tmp"],
    ];
    let parts: Vec<&[&str]> =
        alone.iter().map(std::slice::from_ref).chain(pairs.iter().map(<[_; 2]>::as_slice)).collect();
    for (number, (parts, (kind, make))) in
        parts.iter().flat_map(|parts| kinds.iter().map(move |kind| (parts, kind))).enumerate()
    {
        let what = format!("{kind} in place of {parts:?}");
        let root = place.path().join(number.to_string());
        let bytes = content(number as u64, 5000);
        let digest = Digest::sha256_of(&bytes);
        runtime.block_on(async {
            put(&open(&root, 1 << 20).contents(), &bytes).await.unwrap();
            for part in *parts {
                let path = root.join(part);
                if path.is_dir() {
                    std::fs::remove_dir_all(&path).unwrap();
                } else {
                    let _ = std::fs::remove_file(&path);
                }
                make(&path);
            }
            // Two programs later everything is as it was.
            for _ in 0..2 {
                let dir = open(&root, 1 << 20);
                let contents = dir.contents();
                if read(&contents, &digest).await.is_none() {
                    let _ = put(&contents, &bytes).await;
                }
                let tags = dir.tags();
                let _ = tags.put("host/repository:tag", &TagEntry::now(digest)).await;
                let key = blob_cache::BlockKey::new(&blob_core::SourceId::new("source"), 4096, 0);
                let _ = blob_cache::BlockStore::put(&dir.blocks(), &key, bytes.slice(..4096)).await;
            }
            let dir = open(&root, 1 << 20);
            assert_eq!(read(&dir.contents(), &digest).await.as_ref(), Some(&bytes), "{what}");
            let named = dir.tags().get("host/repository:tag").await.unwrap().map(|entry| entry.digest);
            assert_eq!(named, Some(digest), "{what}");
            let key = blob_cache::BlockKey::new(&blob_core::SourceId::new("source"), 4096, 0);
            assert!(blob_cache::BlockStore::get(&dir.blocks(), &key).await.unwrap().is_some(), "{what}");
            dir.prune(0).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        });
    }
}
