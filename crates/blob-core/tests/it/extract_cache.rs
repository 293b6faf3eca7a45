//! Extraction and reads beside a content cache, and reads beside each other.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use blob_core::source::FileSource;
use blob_core::{
    Archive, ByteSource, Cache, CacheError, CacheWriter, Digest, Existing, ExtractOptions, ExtractReport, FailureKind,
    FromCache, ReadOptions,
};
use bytes::Bytes;
use futures_executor::block_on;
use futures_util::future::{FutureExt as _, join_all};
use tempfile::TempDir;

use crate::extract::{expected, tree};
use crate::support::{Far, Fault, MapCache, Pair, Remote, SharedCache, noise};

/// Small and large, stored and compressed, equal and empty files.
fn sample() -> Pair {
    let text = "line of a file\n".repeat(9_000);
    let mut pair = Pair::new().plain("large", &noise(9 << 20, 1)).zstd("large.zst", &noise(9 << 20, 2));
    pair = pair.zstd("text", text.as_bytes()).zstd("same", text.as_bytes()).plain("empty", b"").link("link", "text");
    for number in 0..40 {
        pair = pair.plain(&format!("many/{number}"), &noise(3000 + number * 7, 100 + number as u64));
    }
    pair
}

fn over(pair: &Pair, remote: &Arc<Remote>, cache: Arc<dyn Cache>) -> Archive {
    let mut options = ReadOptions::default();
    options.cache = Some(cache);
    Archive::open(pair.index(), Arc::new(Far(Arc::clone(remote))), options).unwrap()
}

/// Extracts everything and compares it with the local archive.
fn extract(pair: &Pair, archive: &Archive, options: &ExtractOptions) -> ExtractReport {
    let place = TempDir::new().unwrap();
    let dest = place.path().join("out");
    let report = block_on(archive.copy_dir("", &dest, options)).unwrap();
    assert!(tree(&dest) == expected(&pair.local()), "the trees differ");
    report
}

/// Hits are files, as those of a cache directory.
#[derive(Debug)]
struct OnDisk(SharedCache, TempDir);

#[async_trait]
impl Cache for OnDisk {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        let Some(bytes) = self.0.0.map.lock().unwrap().get(digest).cloned() else { return Ok(None) };
        let path = self.1.path().join(digest.hex());
        std::fs::write(&path, &bytes).unwrap();
        Ok(Some(Arc::new(FileSource::open(&path).unwrap())))
    }

    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        self.0.begin(digest, size).await
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.0.remove(digest).await
    }
}

#[test]
fn what_was_extracted_once_is_extracted_again_without_a_request() {
    let (pair, memory) = (sample(), SharedCache::default());
    let caches: [Arc<dyn Cache>; 2] =
        [Arc::new(memory.clone()), Arc::new(OnDisk(memory.clone(), TempDir::new().unwrap()))];
    let first = extract(&pair, &over(&pair, &pair.remote(), Arc::clone(&caches[0])), &ExtractOptions::default());
    assert_eq!((first.cached, first.files), (0, 45));
    for cache in caches {
        for from_cache in [FromCache::Copy, FromCache::Reflink, FromCache::HardLink] {
            let remote = pair.remote();
            let mut options = ExtractOptions::default();
            options.from_cache = from_cache;
            let report = extract(&pair, &over(&pair, &remote, Arc::clone(&cache)), &options);
            assert_eq!((remote.requests(), report.files, report.cached), (0, 45, 44), "{from_cache:?}");
            assert_eq!(report.cached_bytes, report.bytes);
        }
    }
}

#[test]
fn only_what_is_missing_or_damaged_is_fetched() {
    let (pair, memory) = (sample(), SharedCache::default());
    let disk: Arc<dyn Cache> = Arc::new(OnDisk(memory.clone(), TempDir::new().unwrap()));
    extract(&pair, &over(&pair, &pair.remote(), Arc::clone(&disk)), &ExtractOptions::default());
    let sound = memory.0.map.lock().unwrap().clone();
    for from_cache in [FromCache::Copy, FromCache::Reflink, FromCache::HardLink] {
        for (path, twins) in [("large", 1), ("large.zst", 1), ("text", 2), ("many/7", 1)] {
            let digest = pair.local().entry(path).unwrap().digest();
            let mut other = sound[&digest].to_vec();
            other[0] ^= 1;
            for damage in [None, Some(&other[..]), Some(&other[1..])] {
                let removed = memory.0.removed.load(Ordering::SeqCst);
                match damage {
                    None => memory.0.map.lock().unwrap().remove(&digest),
                    Some(damage) => memory.0.map.lock().unwrap().insert(digest, Bytes::copy_from_slice(damage)),
                };
                let remote = pair.remote();
                let mut options = ExtractOptions::default();
                options.from_cache = from_cache;
                let report = extract(&pair, &over(&pair, &remote, Arc::clone(&disk)), &options);
                assert_eq!((remote.requests(), report.cached, report.files), (1, 44 - twins, 45), "{path}");
                let removed = memory.0.removed.load(Ordering::SeqCst) - removed;
                assert_eq!(removed, u64::from(damage.is_some()), "{path}");
                assert!(*memory.0.map.lock().unwrap() == sound, "the cache is whole again");
            }
        }
    }
}

/// A cache of which every hit is one and the same file each time.
#[derive(Debug)]
struct Files(TempDir);

impl Files {
    fn path(&self, digest: &Digest) -> std::path::PathBuf {
        self.0.path().join(digest.hex())
    }
}

#[async_trait]
impl Cache for Files {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        Ok(FileSource::open(self.path(digest)).ok().map(|file| Arc::new(file) as Arc<dyn ByteSource>))
    }

    async fn begin(&self, _: &Digest, _: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        Ok(None)
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        std::fs::remove_file(self.path(digest)).unwrap();
        Ok(())
    }
}

/// An archive of three equal pairs, the second of which may be executed, beside a cache that has it all.
fn linkable() -> (Pair, Files) {
    let mut pair = Pair::new();
    let cache = Files(TempDir::new().unwrap());
    for number in 0..3_u64 {
        let content = noise(2000, number);
        pair = pair.plain(&format!("{number}"), &content).plain(&format!("{number}-twin"), &content);
        std::fs::write(cache.path(&Digest::sha256_of(&content)), content).unwrap();
    }
    (pair, cache)
}

#[test]
fn hard_links_are_the_files_of_the_cache_and_can_be_read_only() {
    let (pair, cache) = linkable();
    let cache = Arc::new(cache);
    let place = TempDir::new().unwrap();
    let archive = over(&pair, &pair.remote(), Arc::clone(&cache) as Arc<dyn Cache>);
    let mut options = ExtractOptions::default();
    options.from_cache = FromCache::HardLink;
    options.preserve_times = true;
    // A new tree, one written in place, and one over links that are there already.
    std::fs::create_dir(place.path().join("two")).unwrap();
    std::fs::write(place.path().join("two/other"), "").unwrap();
    for (dest, existing) in [("one", Existing::Skip), ("two", Existing::KeepEqual), ("two", Existing::Overwrite)] {
        options.existing = existing;
        let report = block_on(archive.copy_dir("", place.path().join(dest), &options)).unwrap();
        assert_eq!((report.files, report.cached, report.linked), (6, 6, 6), "{dest}");
    }
    for entry in archive.entries() {
        let inode = std::fs::metadata(cache.path(&entry.digest())).unwrap();
        assert_eq!((inode.nlink(), inode.mode() & 0o222), (5, 0));
        for dest in ["one", "two"] {
            let path = place.path().join(dest).join(str::from_utf8(entry.path()).unwrap());
            assert_eq!(std::fs::metadata(path).unwrap().ino(), inode.ino());
        }
    }
    assert_eq!(std::fs::read_dir(place.path().join("two")).unwrap().count(), 7, "nothing temporary stays");
}

#[test]
fn what_cannot_be_a_hard_link_is_a_copy() {
    let (pair, cache) = linkable();
    let digests: Vec<Digest> = (0..3).map(|number| Digest::sha256_of(&noise(2000, number))).collect();
    // One is linked elsewhere with other permissions, one is damaged.
    std::fs::hard_link(cache.path(&digests[0]), cache.0.path().join("elsewhere")).unwrap();
    std::fs::write(cache.path(&digests[1]), noise(2000, 9)).unwrap();
    let cache = Arc::new(cache);
    let remote = pair.remote();
    let archive = over(&pair, &remote, Arc::clone(&cache) as Arc<dyn Cache>);
    let mut options = ExtractOptions::default();
    options.from_cache = FromCache::HardLink;
    let place = TempDir::new().unwrap();
    let report = block_on(archive.copy_dir("", place.path().join("out"), &options)).unwrap();
    assert_eq!((report.files, report.cached, report.linked, remote.requests()), (6, 4, 2, 1));
    assert!(tree(&place.path().join("out")) == expected(&pair.local()));
    assert!(!cache.path(&digests[1]).exists(), "what is damaged is dropped");
    assert_ne!(std::fs::metadata(place.path().join("out/0")).unwrap().mode() & 0o200, 0);
}

#[test]
fn an_update_replaces_what_differs_and_fetches_nothing_else() {
    let pair = sample();
    let place = TempDir::new().unwrap();
    let mut options = ExtractOptions::default();
    let all = |remote: &Arc<Remote>, options: &ExtractOptions| {
        let archive = pair.over(Arc::new(Far(Arc::clone(remote))));
        block_on(archive.copy_dir("", place.path(), options)).unwrap()
    };
    all(&pair.remote(), &options);
    std::fs::write(place.path().join("many/7"), "edited").unwrap();
    std::fs::remove_file(place.path().join("link")).unwrap();
    options.existing = Existing::Update;
    let remote = pair.remote();
    let report = all(&remote, &options);
    assert_eq!((report.files, report.kept, report.symlinks, remote.requests()), (1, 44, 1, 1));
    assert!(tree(place.path()) == expected(&pair.local()));
}

#[test]
fn a_broken_cache_changes_nothing() {
    let pair = sample();
    let broken = SharedCache(Arc::new(MapCache { broken: true, ..MapCache::default() }));
    let (remote, plain) = (pair.remote(), pair.remote());
    let report = extract(&pair, &over(&pair, &remote, Arc::new(broken)), &ExtractOptions::default());
    extract(&pair, &pair.over(Arc::new(Far(Arc::clone(&plain)))), &ExtractOptions::default());
    assert_eq!((report.cached, remote.requests()), (0, plain.requests()));
}

#[test]
fn nothing_of_a_damaged_archive_is_kept() {
    let pair = Pair::new().plain("large", &noise(9 << 20, 1));
    let cache = SharedCache::default();
    let remote = Remote::faulty(pair.data.clone(), 5 << 20, Fault::Flip);
    let place = TempDir::new().unwrap();
    let archive = over(&pair, &remote, Arc::new(cache.clone()));
    block_on(archive.copy_dir("", place.path().join("out"), &ExtractOptions::default())).unwrap_err();
    assert!(cache.0.map.lock().unwrap().is_empty());
}

#[test]
fn readers_of_one_file_share_one_request_and_its_failure() {
    let pair = Pair::new().zstd("text", &noise(100_000, 3)).plain("large", &noise(9 << 20, 4));
    for path in ["text", "large"] {
        let remote = pair.remote();
        let archive = pair.over(Arc::new(Far(Arc::clone(&remote))));
        let all = block_on(join_all((0..16).map(|_| archive.read(path))));
        let expected = block_on(pair.local().read(path)).unwrap();
        assert!(all.into_iter().all(|read| read.unwrap() == expected));
        assert_eq!(remote.requests(), 1, "{path}");
        block_on(archive.read(path)).unwrap();
        assert_eq!(remote.requests(), 2, "nothing is remembered");
    }
    let remote = Remote::faulty(pair.data.clone(), 10, Fault::Fail);
    let archive = pair.over(Arc::new(Far(Arc::clone(&remote))));
    for error in block_on(join_all((0..16).map(|_| archive.read("text")))) {
        assert_eq!(error.unwrap_err().source_kind(), Some(FailureKind::Network));
    }
    assert_eq!(remote.requests(), 1);
}

#[test]
fn a_reader_that_goes_away_harms_nobody() {
    let pair = Pair::new().plain("text", &noise(100_000, 3));
    let remote = pair.remote();
    let archive = pair.over(Arc::new(Far(Arc::clone(&remote))));
    let expected = block_on(pair.local().read("text")).unwrap();
    let mut first = Box::pin(archive.read("text"));
    let mut second = Box::pin(archive.read("text"));
    // Both are under way; the one that reads is dropped.
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    drop(first);
    assert!(block_on(second).unwrap() == expected);
    assert_eq!(remote.requests(), 2);
}
