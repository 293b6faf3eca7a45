//! The examples keep the contracts that they show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blob_core::conformance::{cache, source};
use blob_core::{ByteSource, ByteSourceExt as _, Cache, Digest};
use blob_testkit::peers::{RedisServer, require};
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

#[allow(dead_code, unreachable_pub)]
#[path = "../../examples/custom_cache.rs"]
mod custom_cache;
#[allow(dead_code, unreachable_pub)]
#[path = "../../examples/custom_source.rs"]
mod custom_source;

use custom_cache::Redis;
use custom_source::ObjectSource;

/// Every clause on a database of its own.
macro_rules! redis_clauses {
    ($server:expr; $($clause:ident),*) => {
        let mut database = 0;
        $({
            let redis = Redis::connect(&format!("redis://{}/{database}", $server.addr())).await.unwrap();
            cache::$clause(&custom_cache::cache(redis)).await;
            database += 1;
        })*
        assert_eq!(database, 9);
    };
}

#[tokio::test]
async fn a_cache_in_redis_keeps_the_contract() {
    let Some(server) = require("redis-server", RedisServer::start()) else { return };
    redis_clauses!(server; absent_is_none, roundtrip, dropping_the_writer_stores_nothing, other_content_is_refused,
        other_sizes_are_refused, remove_is_idempotent, storing_twice_is_fine, hits_read_the_same_every_way,
        held_hits_survive_removal);
}

#[tokio::test]
async fn a_lie_of_redis_is_found_out_and_its_end_is_an_error() {
    use blob_cache::SimpleCache as _;
    let Some(server) = require("redis-server", RedisServer::start()) else { return };
    let redis = Redis::connect(&format!("redis://{}/", server.addr())).await.unwrap();
    let digest = Digest::sha256_of(b"the truth");
    redis.put(&digest, Bytes::from_static(b"something else")).await.unwrap();
    let cache = custom_cache::cache(redis.clone());
    assert!(cache.get(&digest).await.unwrap().is_none());
    assert_eq!(redis.get(&digest).await.unwrap(), None, "the lie is removed");
    drop(server);
    assert!(cache.get(&digest).await.is_err());
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

async fn object(store: Arc<dyn ObjectStore>, bytes: Bytes) -> Arc<dyn ByteSource> {
    let path = Path::from(format!("object-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    store.put(&path, bytes.into()).await.unwrap();
    Arc::new(ObjectSource::open(store, path).await.unwrap())
}

async fn clauses(store: Arc<dyn ObjectStore>) {
    let make = async |bytes: Bytes| object(Arc::clone(&store), bytes).await;
    source::ranges_are_exact(make).await;
    source::empty_ranges_yield_nothing(make).await;
    source::no_bytes_are_fine(make).await;
    source::ranges_outside_are_refused(make).await;
    source::ids_pin_the_bytes(make).await;
    source::local_bytes_are_the_same(make).await;
    source::streams_are_independent(make).await;
}

#[tokio::test]
async fn objects_in_memory_keep_the_contract() {
    clauses(Arc::new(InMemory::new())).await;
}

#[tokio::test]
async fn objects_in_files_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    clauses(Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap())).await;
}

#[tokio::test]
async fn an_object_that_is_replaced_is_an_error() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let path = Path::from("object");
    store.put(&path, "the first content".into()).await.unwrap();
    let source = ObjectSource::open(Arc::clone(&store), path.clone()).await.unwrap();
    store.put(&path, "another content".into()).await.unwrap();
    let error = source.read(0..5).await.unwrap_err();
    assert_eq!(error.kind(), blob_core::FailureKind::Integrity, "{error:?}");
}
