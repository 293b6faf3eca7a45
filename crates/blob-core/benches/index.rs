//! The index: opening with every check, random look-ups, listing, prefixes – and FlatBuffers' binary search beside it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use blob_core::{ArchiveIndex, ArchivePath, Compression, Digest, IndexBuilder, IndexLimits, NewFile};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// `count` files, 1,000 to a directory, with paths of about 40 bytes.
fn index(count: usize) -> ArchiveIndex {
    let mut builder = IndexBuilder::new();
    for number in 0..count {
        let path = format!("usr/share/some-package/{:05}/file-{number:07}.txt", number / 1000);
        let hash = *Digest::sha256_of(&number.to_le_bytes()).as_bytes().first_chunk().unwrap();
        builder.file(NewFile {
            path: ArchivePath::new(path).unwrap(),
            data_offset: number as u64 * 100,
            data_size: 100,
            original_size: 300,
            hash,
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            mtime_ns: 1_700_000_000_000_000_000,
            compression: Compression::Zstd,
        });
    }
    builder.finish(count as u64 * 100, &Digest::sha256_of(b"")).unwrap()
}

fn benches(c: &mut Criterion) {
    for count in [100, 10_000, 1_000_000] {
        let index = index(count);
        let bytes = index.as_bytes().clone();
        let mut group = c.benchmark_group("index");
        group.sample_size(if count > 10_000 { 10 } else { 50 });
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("open", count), |b| {
            b.iter(|| ArchiveIndex::parse(bytes.clone(), &IndexLimits::default()).unwrap());
        });
        let mut paths: Vec<Vec<u8>> = index.entries().map(|entry| entry.path().to_vec()).collect();
        // A fixed shuffle: neighbours in the list are far apart in the index.
        paths.sort_by_key(|path| *Digest::sha256_of(path).as_bytes().first_chunk::<8>().unwrap());
        paths.truncate(10_000);
        group.throughput(Throughput::Elements(paths.len() as u64));
        group.bench_function(BenchmarkId::new("lookup", count), |b| {
            b.iter(|| paths.iter().map(|path| index.entry(path).unwrap().data_offset()).sum::<u64>());
        });
        let children = index.read_dir("usr/share/some-package/00000").unwrap().len();
        group.throughput(Throughput::Elements(children as u64));
        group.bench_function(BenchmarkId::new("read_dir", count), |b| {
            b.iter(|| black_box(index.read_dir("usr/share/some-package/00000").unwrap()));
        });
        let beneath = index.entries_with_prefix("usr/share/some-package/00000/").count();
        group.throughput(Throughput::Elements(beneath as u64));
        group.bench_function(BenchmarkId::new("prefix", count), |b| {
            b.iter(|| index.entries_with_prefix("usr/share/some-package/00000/").map(|e| e.data_offset()).sum::<u64>());
        });
        group.finish();
    }
}

criterion_group!(index_benches, benches);
criterion_main!(index_benches);
