//! What the caches save, and that they never change an answer.

use std::time::Duration;

use blob::cache::CacheOptions;
use blob::{Client, Layer, PullOptions, PushOptions};
use blob_testkit::proxy::ProxyOptions;

use crate::support::{at, client, proxy, serve, tree};

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
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let location = at(proxy.addr(), "v1");
    let archive = cached(dir.path()).pull(&location, &PullOptions::default()).await.unwrap();
    for entry in archive.entries() {
        archive.read(entry.path()).await.unwrap();
    }
    let _warming = proxy.take();
    let again = cached(dir.path()).pull(&location, &PullOptions::default()).await.unwrap();
    for entry in again.entries() {
        assert!(entry.digest().matches(&again.read(entry.path()).await.unwrap()));
    }
    assert_eq!(proxy.take().len(), 0);
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
