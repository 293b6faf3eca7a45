//! What the caches save, and that they never change an answer.

use std::sync::Arc;
use std::time::Duration;

use blob::cache::{CacheOptions, MemoryBlockStore};
use blob::core::{ArchivePath, ByteSourceExt as _, IndexBuilder, MemorySource, NewSymlink};
use blob::{Client, Layer, PullOptions, PushOptions};
use blob_testkit::proxy::{Action, Faults, Latch, ProxyOptions, Rule, Shape};
use bytes::Bytes;
use futures_util::FutureExt as _;

use crate::support::{at, client, compare_pulled, keep_all, proxy, serve, tree};

fn cached(dir: &std::path::Path) -> Client {
    Client::builder().cache_dir(dir).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_read_costs_nothing_within_the_time_and_one_request_after() {
    let (server, source, dir) = (serve().await, tree(50, 900), tempfile::tempdir().unwrap());
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let location = at(proxy.addr(), "v1");
    let read = async |client: &Client| {
        let archive = client.pull(&location, &PullOptions::default()).await.unwrap();
        assert_eq!(archive.read("run.sh").await.unwrap(), "#!/bin/sh\necho run\n");
        proxy.take().len()
    };
    assert_eq!(read(&cached(dir.path())).await, 3);
    assert_eq!(read(&cached(dir.path())).await, 0, "another client, the same directory");
    let impatient = CacheOptions { tag_ttl: Duration::ZERO, ..CacheOptions::default() };
    let client = Client::builder().cache_options(impatient).cache_dir(dir.path()).build().unwrap();
    assert_eq!(read(&client).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_cached_is_extracted_without_a_request() {
    let (server, source, dir) = (serve().await, tree(51, 50), tempfile::tempdir().unwrap());
    let noise = (0..9_u64 << 17).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    std::fs::write(source.path().join("large"), noise.collect::<Vec<u8>>()).unwrap();
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let location = at(proxy.addr(), "v1");
    compare_pulled(&cached(dir.path()), &location, source.path()).await;
    assert!(!proxy.take().is_empty());
    compare_pulled(&cached(dir.path()), &location, source.path()).await;
    let offline = Client::builder().cache_dir(dir.path()).offline().build().unwrap();
    compare_pulled(&offline, &location, source.path()).await;
    let archive = cached(dir.path()).pull(&location, &PullOptions::default()).await.unwrap();
    for entry in archive.entries() {
        assert!(entry.digest().matches(&archive.read(entry.path()).await.unwrap()));
    }
    assert_eq!(proxy.take().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_says_what_is_missing_and_asks_nobody() {
    let (server, source, dir) = (serve().await, tree(57, 900), tempfile::tempdir().unwrap());
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let (location, options) = (at(proxy.addr(), "v1"), PullOptions::default());
    let offline = |dir: &std::path::Path| {
        let impatient = CacheOptions { tag_ttl: Duration::ZERO, ..CacheOptions::default() };
        Client::builder().offline().cache_options(impatient).cache_dir(dir).build().unwrap()
    };
    let missing = async |expected: &str| {
        let error = offline(dir.path()).pull(&location, &options).await.unwrap_err();
        assert!(matches!(&error, blob::Error::Offline { missing, .. } if *missing == expected), "{error:?}");
        assert!(error.is_offline() && error.kind() == blob::ErrorKind::Network);
        assert_eq!(proxy.take().len(), 0);
    };
    missing("manifest").await;
    cached(dir.path()).fetch(&location).await.unwrap();
    let _ = proxy.take();
    missing("index").await;

    cached(dir.path()).pull(&location, &options).await.unwrap().read("run.sh").await.unwrap();
    let _ = proxy.take();
    let mut skip = PullOptions::default();
    skip.skip_cache = true;
    let archive = offline(dir.path()).pull(&location, &skip).await.unwrap();
    archive.read("run.sh").await.unwrap();
    let out = tempfile::tempdir().unwrap();
    let error = archive.copy_dir("", out.path().join("copy"), &keep_all()).await.unwrap_err();
    let error = blob::Error::from(error);
    assert!(error.is_offline() && error.kind() == blob::ErrorKind::Network, "{error:?}");
    let error = offline(dir.path()).tags(&location, &blob::registry::PageRequest::default()).await.unwrap_err();
    assert!(error.is_offline(), "{error:?}");
    assert_eq!(proxy.take().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_alone_saves_requests_within_a_client() {
    let (server, source) = (serve().await, tree(58, 3));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let (proxy, client) =
        (proxy(server.local_addr(), ProxyOptions::default()), Client::builder().memory_cache(8 << 20));
    let (client, location) = (client.build().unwrap(), at(proxy.addr(), "v1"));
    for expected in [1, 0] {
        let archive = client.pull(&location, &PullOptions::default()).await.unwrap();
        archive.read("run.sh").await.unwrap();
        assert_eq!(proxy.take().iter().filter(|request| request.path.contains("/blobs/")).count(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_one_client_read_a_file_once_at_a_time() {
    let (server, source) = (serve().await, tree(59, 3));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let latch = Latch::new();
    let rules = vec![Rule::every("/blobs/", Action::Hold(latch.clone())).method("GET")];
    let faults = ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() };
    let proxy = proxy(server.local_addr(), faults);
    let (client, location) = (client(), at(proxy.addr(), "v1"));
    let options = PullOptions::default();
    let archives = (0..4).map(|_| client.pull(&location, &options));
    let archives = futures_util::future::try_join_all(archives).await.unwrap();
    let _ = proxy.take();
    let mut reads: Vec<_> = (0..16).map(|number| Box::pin(archives[number % 4].read("run.sh"))).collect();
    // All of them have begun before the first one gets its answer.
    for read in &mut reads {
        assert!(read.as_mut().now_or_never().is_none());
    }
    latch.open();
    futures_util::future::try_join_all(reads).await.unwrap();
    assert_eq!(proxy.take().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_came_with_another_archive_is_not_fetched_again() {
    let (server, dir) = (serve().await, tempfile::tempdir().unwrap());
    for tag in ["a", "b"] {
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("shared"), "the same in both ".repeat(100)).unwrap();
        std::fs::write(source.path().join(tag), tag).unwrap();
        client().push(&at(server.local_addr(), tag), source.path(), &PushOptions::default()).await.unwrap();
    }
    let (proxy, client) = (proxy(server.local_addr(), ProxyOptions::default()), cached(dir.path()));
    let read = async |tag: &str| {
        let archive = client.pull(&at(proxy.addr(), tag), &PullOptions::default()).await.unwrap();
        archive.read("shared").await.unwrap();
        proxy.take().iter().filter(|request| request.path.contains("/blobs/")).count()
    };
    assert_eq!((read("a").await, read("b").await), (1, 0));

    // So it is with extraction: of the second archive, only what it does not share is fetched.
    let dir = tempfile::tempdir().unwrap();
    let client = cached(dir.path());
    let extract = async |tag: &str| {
        let archive = client.pull(&at(proxy.addr(), tag), &PullOptions::default()).await.unwrap();
        let out = tempfile::tempdir().unwrap();
        let report = archive.copy_dir("", out.path().join("copy"), &keep_all()).await.unwrap();
        assert_eq!(std::fs::read_to_string(out.path().join("copy").join(tag)).unwrap(), tag);
        let bytes = proxy.take().iter().filter(|request| request.path.contains("/blobs/")).count();
        (report.files, report.cached, bytes)
    };
    assert_eq!((extract("a").await, extract("b").await), ((2, 0, 1), (2, 1, 1)));
    assert_eq!((extract("a").await, extract("b").await), ((2, 2, 0), (2, 2, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn pushing_and_tagging_update_what_is_remembered() {
    let (server, source, dir) = (serve().await, tree(52, 3), tempfile::tempdir().unwrap());
    let (client, location) = (cached(dir.path()), at(server.local_addr(), "v1"));
    client.push(&location, source.path(), &PushOptions::default()).await.unwrap();
    client.pull(&location, &PullOptions::default()).await.unwrap();
    std::fs::write(source.path().join("a.txt"), "changed").unwrap();
    let second = client.push(&location, source.path(), &PushOptions::default()).await.unwrap();
    assert_eq!(client.fetch(&location).await.unwrap().digest(), second.digest());

    let first = client.tag(&location, &["moved".parse().unwrap()]).await.unwrap();
    assert_eq!(client.fetch(&at(server.local_addr(), "moved")).await.unwrap().digest(), &first.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_replaces_what_is_remembered() {
    let (server, source, dir) = (serve().await, tree(53, 3), tempfile::tempdir().unwrap());
    let (cached, location) = (cached(dir.path()), at(server.local_addr(), "v1"));
    let first = client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
    cached.fetch(&location).await.unwrap();
    std::fs::write(source.path().join("a.txt"), "changed").unwrap();
    // Another client moves the tag behind the cache's back.
    let second = client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
    assert_eq!(cached.fetch(&location).await.unwrap().digest(), first.digest());
    let mut refresh = PullOptions::default();
    refresh.skip_cache = true;
    cached.pull(&location, &refresh).await.unwrap();
    assert_eq!(cached.fetch(&location).await.unwrap().digest(), second.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_in_the_directory_is_healed() {
    let (server, source, dir) = (serve().await, tree(54, 900), tempfile::tempdir().unwrap());
    let location = at(server.local_addr(), "v1");
    client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
    let read = async || {
        let archive = cached(dir.path()).pull(&location, &PullOptions::default()).await.unwrap();
        for path in ["run.sh", "a.txt", "twins/one"] {
            let expected = std::fs::read(source.path().join(path)).unwrap();
            assert!(archive.read(path).await.unwrap() == expected, "{path}");
        }
    };
    read().await;
    let mut pending = vec![dir.path().to_owned()];
    let mut damaged = 0;
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if let Ok(mut bytes) = std::fs::read(entry.path())
                && bytes.len() > 60
                && !entry.path().ends_with("CACHEDIR.TAG")
            {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
                std::fs::write(entry.path(), bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged >= 4, "{damaged}");
    read().await;
    read().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_can_be_left_out_and_a_foreign_directory_is_refused() {
    let (server, source, dir) = (serve().await, tree(55, 3), tempfile::tempdir().unwrap());
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let client = Client::builder().without_cache(Layer::Tags).cache_dir(dir.path()).build().unwrap();
    for _ in 0..2 {
        client.fetch(&at(proxy.addr(), "v1")).await.unwrap();
        assert_eq!(proxy.take().len(), 1);
    }
    let error = Client::builder().cache_dir(source.path()).build().unwrap_err();
    assert!(matches!(error, blob::Error::Cache { .. }), "{error:?}");
    let nowhere = Client::builder().cache_dir("/proc/nowhere").build();
    assert!(nowhere.is_err());
}

/// A cache that neither answers nor fails.
#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl blob::core::Cache for Silent {
    async fn get(
        &self,
        _: &blob::core::Digest,
    ) -> Result<Option<Arc<dyn blob::core::ByteSource>>, blob::core::CacheError> {
        std::future::pending().await
    }

    async fn begin(
        &self,
        _: &blob::core::Digest,
        _: u64,
    ) -> Result<Option<Box<dyn blob::core::CacheWriter>>, blob::core::CacheError> {
        std::future::pending().await
    }

    async fn remove(&self, _: &blob::core::Digest) -> Result<(), blob::core::CacheError> {
        std::future::pending().await
    }
}

#[async_trait::async_trait]
impl blob::cache::BlockStore for Silent {
    async fn get(&self, _: &blob::cache::BlockKey) -> Result<Option<Bytes>, blob::core::CacheError> {
        std::future::pending().await
    }

    async fn put(&self, _: &blob::cache::BlockKey, _: Bytes) -> Result<(), blob::core::CacheError> {
        std::future::pending().await
    }

    async fn remove(&self, _: &blob::cache::BlockKey) -> Result<(), blob::core::CacheError> {
        std::future::pending().await
    }
}

#[async_trait::async_trait]
impl blob::cache::TagCache for Silent {
    async fn get(&self, _: &str) -> Result<Option<blob::cache::TagEntry>, blob::core::CacheError> {
        std::future::pending().await
    }

    async fn put(&self, _: &str, _: &blob::cache::TagEntry) -> Result<(), blob::core::CacheError> {
        std::future::pending().await
    }

    async fn remove(&self, _: &str) -> Result<(), blob::core::CacheError> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_that_never_answer_hold_up_nothing() {
    let (server, source) = (serve().await, tree(61, 30));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let silent = Client::builder()
        .cache_timeout(Duration::from_millis(20))
        .content_cache(Arc::new(Silent))
        .manifest_cache(Arc::new(Silent))
        .index_cache(Arc::new(Silent))
        .block_cache(Arc::new(Silent))
        .tag_cache(Arc::new(Silent))
        .build()
        .unwrap();
    let location = at(server.local_addr(), "v1");
    compare_pulled(&silent, &location, source.path()).await;
    let archive = silent.pull(&location, &PullOptions::default()).await.unwrap();
    assert_eq!(archive.read("run.sh").await.unwrap(), "#!/bin/sh\necho run\n");
    silent.push(&at(server.local_addr(), "v2"), source.path(), &PushOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_block_cache_asks_less_and_never_more() {
    let (server, source) = (serve().await, tempfile::tempdir().unwrap());
    let noise = (0..4_u64 << 17).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    std::fs::write(source.path().join("large"), noise.collect::<Vec<u8>>()).unwrap();
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    for round_trip in [0, 5] {
        let shape = Shape { round_trip: Duration::from_millis(round_trip), ..Shape::default() };
        let proxy = proxy(server.local_addr(), ProxyOptions { shape, ..ProxyOptions::default() });
        let read = async |blocks: bool, ranges: &[std::ops::Range<u64>]| {
            let mut builder = Client::builder();
            if blocks {
                builder = builder.block_cache(Arc::new(MemoryBlockStore::new(64 << 20)));
            }
            let archive = builder.build().unwrap();
            let archive = archive.pull(&at(proxy.addr(), "v1"), &PullOptions::default()).await.unwrap();
            let _ = proxy.take();
            for range in ranges {
                archive.source().read(range.clone()).await.unwrap();
            }
            proxy.take().len()
        };
        let size = 4_u64 << 20;
        for step in [4 << 10, 100 << 10, 300 << 10, 1 << 20] {
            let steps: Vec<_> = (0..size.div_ceil(step)).map(|n| n * step..size.min((n + 1) * step)).collect();
            let (without, with) = (read(false, &steps).await, read(true, &steps).await);
            assert!(without == steps.len() && with <= without, "{step}: {with} rather than {without}");
        }
        let mut state = 1_u64;
        let random: Vec<_> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 16) % (size - 4096)
        })
        .map(|start| start..start + 4096)
        .take(800)
        .collect();
        let (without, with) = (read(false, &random).await, read(true, &random).await);
        assert!(with * 10 <= without, "{with} rather than {without}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_checked_is_not_checked_again() {
    let (server, source) = (serve().await, tree(62, 30));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let (client, location, mut options) = (client(), at(server.local_addr(), "v1"), PullOptions::default());
    let first = client.pull(&location, &options).await.unwrap();
    let second = client.pull(&location, &options).await.unwrap();
    assert!(Arc::ptr_eq(first.index(), second.index()));
    options.skip_cache = true;
    let third = client.pull(&location, &options).await.unwrap();
    assert!(!Arc::ptr_eq(first.index(), third.index()));
}

/// An archive whose index is larger than 64 MiB: 17,500 links with the longest targets there may be.
fn with_a_large_index() -> blob::core::Archive {
    let mut builder = IndexBuilder::new();
    for number in 0..17_500 {
        let path = ArchivePath::new(format!("links/{number:05}")).unwrap();
        builder.symlink(NewSymlink { path, target: vec![b'x'; 4095], mtime_ns: 0 });
    }
    let index = builder.finish(0, &blob::core::Digest::sha256_of(b"")).unwrap();
    assert!(index.as_bytes().len() > 64 << 20);
    let data = Arc::new(MemorySource::new(Bytes::new()));
    blob::core::Archive::open(Arc::new(index), data, blob::core::ReadOptions::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_index_is_mapped_from_the_cache_and_fetched_again_when_damaged() {
    let (server, dir) = (serve().await, tempfile::tempdir().unwrap());
    let location = at(server.local_addr(), "large");
    client().push_archive(&location, &with_a_large_index(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let location = at(proxy.addr(), "large");
    let index_requests = async || {
        // A client of its own, so that nothing comes out of the memory of another one.
        let archive = cached(dir.path()).pull(&location, &PullOptions::default()).await.unwrap();
        assert_eq!(archive.index().root().symlinks().count(), 17_500);
        if cfg!(target_os = "linux") {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let path = dir.path().join("indexes-v1");
            assert!(maps.contains(path.to_str().unwrap()), "the index is not mapped:\n{maps}");
        }
        drop(archive);
        proxy.take().iter().filter(|request| request.path.contains("/blobs/")).count()
    };
    assert!(index_requests().await > 0);
    assert_eq!(index_requests().await, 0);

    // The cache's file is replaced, never written to, so what is mapped stays what it is.
    let held = cached(dir.path()).pull(&location, &PullOptions::default()).await.unwrap();
    let digest = client().fetch(&location).await.unwrap().index().digest.hex();
    let file = dir.path().join("indexes-v1/sha256").join(&digest[..2]).join(&digest);
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[1 << 20] ^= 1;
    let other = dir.path().join("other");
    std::fs::write(&other, damaged).unwrap();
    std::fs::rename(&other, &file).unwrap();
    let _ = proxy.take();
    assert!(index_requests().await > 0, "a damaged index was believed");
    assert_eq!(index_requests().await, 0, "it was not stored anew");
    assert_eq!(held.index().root().symlinks().count(), 17_500);
}

/// That something is not there is asked again each time: a moment later it may be.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_missing_is_found_as_soon_as_it_is_there() {
    let (server, source, dir) = (serve().await, tree(60, 3), tempfile::tempdir().unwrap());
    let (location, reader) = (at(server.local_addr(), "v1"), cached(dir.path()));
    for _ in 0..2 {
        let error = reader.pull(&location, &PullOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), blob::ErrorKind::NotFound, "{error:?}");
    }
    // By another client, with a cache of its own.
    client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
    reader.pull(&location, &PullOptions::default()).await.unwrap().read("run.sh").await.unwrap();
}

/// Each layer on the disk saves its own requests without the others, in whatever order the settings are made.
#[tokio::test(flavor = "multi_thread")]
async fn every_layer_works_alone_and_settings_have_no_order() {
    let (server, source) = (serve().await, tree(61, 900));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let location = at(proxy.addr(), "v1");
    let layers = [Layer::Contents, Layer::Blocks, Layer::Tags, Layer::Manifests, Layer::Indexes];
    // Without any there are three: manifest, index, data. A tag alone does not save the manifest, nor this the tag.
    for (alone, expected) in layers.into_iter().zip([2, 2, 3, 3, 2]) {
        for dir_first in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let build = || {
                let mut builder = Client::builder();
                if dir_first {
                    builder = builder.cache_dir(dir.path());
                }
                for other in layers.into_iter().filter(|other| *other != alone) {
                    builder = builder.without_cache(other);
                }
                builder = builder.cache_options(CacheOptions { max_bytes: 64 << 20, ..CacheOptions::default() });
                if dir_first { builder.build() } else { builder.cache_dir(dir.path()).build() }.unwrap()
            };
            let read = async || {
                let archive = build().pull(&location, &PullOptions::default()).await.unwrap();
                archive.read("run.sh").await.unwrap();
                proxy.take().len()
            };
            assert_eq!((read().await, read().await), (3, expected), "{alone:?}, {dir_first}");
        }
    }
}
