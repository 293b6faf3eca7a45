//! Cached reads beside the plain ones they cannot beat: open, read and close of the same file.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;

use blob_cache::{CacheDir, CacheOptions, DiskCache, MemoryCache};
use blob_core::{ByteSource, ByteSourceExt as _, Cache, Digest, Local};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

fn read_local(source: &dyn ByteSource) -> Vec<u8> {
    let Some(Local::File { file, offset }) = source.local() else { panic!("a checked entry is a file") };
    let mut bytes = vec![0; source.size() as usize];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

async fn put(cache: &dyn Cache, bytes: &Bytes) -> Digest {
    let digest = Digest::sha256_of(bytes);
    if let Some(mut writer) = cache.begin(&digest, bytes.len() as u64).await.unwrap() {
        writer.write(bytes.clone()).await.unwrap();
        writer.commit().await.unwrap();
    }
    digest
}

/// Not on a file system in memory: those cannot tell whether a read has to wait.
fn caches() -> (DiskCache, DiskCache, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let open = |verify_every_time| {
        let options = CacheOptions { verify_every_time, ..CacheOptions::default() };
        CacheDir::open(place.path(), options).unwrap().contents()
    };
    (open(false), open(true), place)
}

fn reads(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (once, always, place) = caches();
    let memory = MemoryCache::default();
    for kib in [4, 64, 1024_usize] {
        let bytes = Bytes::from((0..kib * 1024).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let digest = runtime.block_on(put(&once, &bytes));
        runtime.block_on(put(&memory, &bytes));
        let hex = digest.hex();
        let path = place.path().join("content-v1/sha256").join(&hex[..2]).join(&hex);
        // File times have to tell a later change before a check is remembered.
        std::thread::sleep(std::time::Duration::from_millis(100));
        runtime.block_on(once.get(&digest)).unwrap().unwrap();
        let mut group = criterion.benchmark_group(format!("get/{kib}KiB"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("plain open+pread", |bencher| {
            bencher.iter(|| {
                let file = File::open(&path).unwrap();
                let mut buffer = vec![0; bytes.len()];
                file.read_exact_at(&mut buffer, 0).unwrap();
                black_box(buffer)
            });
        });
        group.bench_function("disk, checked once", |bencher| {
            bencher.iter(|| {
                runtime.block_on(async { black_box(read_local(&*once.get(&digest).await.unwrap().unwrap())) })
            });
        });
        group.bench_function("disk, checked once, as a stream", |bencher| {
            bencher.iter(|| runtime.block_on(async { black_box(read(&once, &digest).await) }));
        });
        group.bench_function("disk, checked every time", |bencher| {
            bencher.iter(|| runtime.block_on(async { black_box(read(&always, &digest).await) }));
        });
        if kib < 1024 {
            group.bench_function("memory", |bencher| {
                bencher.iter(|| runtime.block_on(async { black_box(read(&memory, &digest).await) }));
            });
        }
        group.finish();
    }
}

async fn read(cache: &dyn Cache, digest: &Digest) -> Bytes {
    let hit = cache.get(digest).await.unwrap().unwrap();
    hit.read(0..hit.size()).await.unwrap()
}

/// The same file of 64 KiB, read by several threads at a time.
fn threads(criterion: &mut Criterion) {
    const SIZE: usize = 64 << 10;
    const ROUNDS: u64 = 64;
    let runtime = Runtime::new().unwrap();
    let (cache, _, place) = caches();
    let digest = runtime.block_on(put(&cache, &vec![7; SIZE].into()));
    let hex = digest.hex();
    let path = place.path().join("content-v1/sha256").join(&hex[..2]).join(&hex);
    // File times have to tell a later change before a check is remembered.
    std::thread::sleep(std::time::Duration::from_millis(100));
    runtime.block_on(cache.get(&digest)).unwrap().unwrap();
    let plain = || {
        let mut buffer = vec![0; SIZE];
        File::open(&path).unwrap().read_exact_at(&mut buffer, 0).unwrap();
        buffer
    };
    let cached = || runtime.block_on(async { read_local(&*cache.get(&digest).await.unwrap().unwrap()) });
    let rounds = |count: u64, read: &(dyn Fn() -> Vec<u8> + Sync)| {
        std::thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(|| (0..ROUNDS).for_each(|_| drop(black_box(read()))));
            }
        });
    };
    for count in [1, 2, 4, 8_u64] {
        let mut group = criterion.benchmark_group(format!("threads/{count}"));
        group.throughput(Throughput::Bytes(count * ROUNDS * SIZE as u64));
        group.bench_function("plain open+pread", |bencher| bencher.iter(|| rounds(count, &plain)));
        group.bench_function("disk, checked once", |bencher| bencher.iter(|| rounds(count, &cached)));
        group.finish();
    }
}

fn puts(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (cache, _, _place) = caches();
    let mut number = 0_u64;
    criterion.bench_function("put/4KiB", |bencher| {
        bencher.iter(|| {
            number += 1;
            let mut bytes = vec![0; 4096];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            runtime.block_on(put(&cache, &bytes.into()))
        });
    });
}

criterion_group!(benches, reads, threads, puts);
criterion_main!(benches);
