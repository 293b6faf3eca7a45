//! Reading archives: listing, whole files, streams, the content cache.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use blob_core::codec::{DecodeError, SMALL};
use blob_core::{Archive, Digest, FileKind, MemorySource, Node, ReadError, ReadOptions};
use bytes::Bytes;
use futures_executor::block_on;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};

use crate::support::{Far, Fault, MTIME, Pair, Remote, SharedCache, go_archive, noise};

fn sample() -> Pair {
    Pair::new()
        .plain("a/x", b"x of a")
        .zstd("a-b", &b"again ".repeat(1000))
        .plain("a.txt", b"")
        .zstd("empty.zst", b"")
        .plain("deep/er/file", b"down here")
        .link("a/link", "../a.txt")
        .dir("hollow", 0o750)
}

fn collect(archive: &Archive, path: &str) -> Result<Vec<u8>, ReadError> {
    block_on(async {
        let chunks: Vec<Bytes> = archive.stream(path).await?.try_collect().await?;
        Ok(chunks.concat())
    })
}

#[test]
fn paths_are_taken_as_people_type_them() {
    let archive = sample().local();
    let names = |path: &str| -> Vec<String> {
        let entries = archive.read_dir(path).unwrap();
        entries.iter().map(|entry| String::from_utf8_lossy(entry.name).into_owned()).collect()
    };
    for root in ["", ".", "/", "///", "./"] {
        assert_eq!(names(root), ["a", "a-b", "a.txt", "deep", "empty.zst", "hollow"], "{root:?}");
    }
    assert_eq!(names("/deep//er/"), ["file"]);
    assert_eq!(names("hollow"), [""; 0]);
    assert!(matches!(archive.read_dir("a.txt"), Err(ReadError::NotADirectory { .. })));
    assert!(matches!(archive.read_dir("b"), Err(ReadError::NotFound { .. })));
    assert!(matches!(archive.read_dir("a/../a"), Err(ReadError::InvalidPath(_))));
    assert!(
        archive.entry("/a/x").is_some() && archive.is_file("a/x") && !archive.is_file("a") && !archive.is_dir("a/x")
    );
    assert!(archive.is_dir(".") && archive.is_dir("deep/") && archive.is_dir("hollow") && archive.exists("a/link"));
    assert!(!archive.exists("a/lin") && !archive.is_file("a/link"));
    assert_eq!(archive.entries_with_prefix("a").count(), 3);
    assert_eq!((archive.len(), archive.entries().count()), (5, 5));

    let empty = Pair::new().local();
    assert!(empty.is_dir("/") && empty.is_empty() && empty.read_dir("").unwrap().is_empty());
}

#[test]
fn the_index_answers_questions_about_paths() {
    let archive = sample().local();
    let file = archive.stat("a/x").unwrap();
    assert_eq!((file.kind, file.size, file.mode, file.mtime_ns), (FileKind::File, 6, Some(0o644), Some(MTIME)));
    assert_eq!(file.digest, Some(Digest::sha256_of(b"x of a")));
    let link = archive.stat("a/link").unwrap();
    assert_eq!((link.kind, link.target.as_deref(), link.digest), (FileKind::Symlink, Some(&b"../a.txt"[..]), None));
    assert_eq!(archive.stat("deep").unwrap().mode, None);
    assert_eq!(archive.stat("hollow").unwrap().mode, Some(0o750));
    assert!(archive.stat("nope").unwrap_err().is_not_found());

    let stats = archive.dir_stats("a");
    assert_eq!((stats.files, stats.original_bytes, stats.stored_bytes), (1, 6, 6));
    assert_eq!(archive.dir_stats("a.txt").files, 1);
    assert_eq!(archive.dir_stats("nope").files, 0);
    let all = archive.dir_stats(".");
    assert_eq!((all.files, all.original_bytes), (5, 6 + 6000 + 9));
    assert!(all.stored_bytes < 200);

    let paths = archive.validate_files(["/a/x", "deep//er/file"]).unwrap();
    assert_eq!(paths.iter().map(|path| path.as_str().unwrap()).collect::<Vec<_>>(), ["a/x", "deep/er/file"]);
    assert!(matches!(archive.validate_files(["a"]), Err(ReadError::IsDirectory { .. })));
    assert!(matches!(archive.validate_files(["a/link"]), Err(ReadError::NotAFile { .. })));
    assert!(matches!(archive.validate_files(["a/x", "nope"]), Err(ReadError::NotFound { .. })));
    assert!(matches!(archive.validate_files([".."]), Err(ReadError::InvalidPath(_))));
    assert!(archive.validate_files([""; 0]).unwrap().is_empty());
}

#[test]
fn a_file_costs_one_request_and_an_empty_one_none() {
    let pair = sample().plain("large", &noise(9 << 20, 1)).zstd("larger", &noise(3 << 20, 2).repeat(4));
    let remote = pair.remote();
    let archive = pair.over(Arc::new(Far(Arc::clone(&remote))));
    for (path, requests) in [("a/x", 1), ("a-b", 1), ("a.txt", 0), ("large", 1), ("larger", 1)] {
        let before = remote.requests();
        let content = block_on(archive.read(path)).unwrap();
        assert!(archive.entry(path).unwrap().digest().matches(&content));
        assert_eq!(remote.requests() - before, requests, "read {path}");
        assert_eq!(collect(&archive, path).unwrap(), content);
        assert_eq!(remote.requests() - before, 2 * requests, "stream {path}");
    }
    assert_eq!(remote.held(), 0);
}

#[test]
fn local_files_read_as_remote_ones_do() {
    let pair = sample().plain("large", &noise(9 << 20, 1));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), &pair.data).unwrap();
    let file = blob_core::source::FileSource::open(dir.path().join("data")).unwrap();
    let archives = [pair.local(), pair.over(Arc::new(file)), pair.over(Arc::new(Far(pair.remote())))];
    for entry in archives[0].entries() {
        for archive in &archives {
            let content = block_on(archive.read(entry.path())).unwrap();
            assert!(entry.digest().matches(&content), "{entry:?}");
        }
    }
}

#[test]
fn limits_hold_before_anything_is_read() {
    let pair = sample();
    let remote = pair.remote();
    let mut options = ReadOptions::default();
    options.limits.max_file_bytes = 8;
    let archive = Archive::open(pair.index(), Arc::new(Far(Arc::clone(&remote))), options).unwrap();
    let error = block_on(archive.read("deep/er/file")).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { size: 9, limit: 8, .. }), "{error}");
    assert!(block_on(archive.read("a")).is_err_and(|error| matches!(error, ReadError::IsDirectory { .. })));
    assert_eq!(remote.requests(), 0);
    assert_eq!(block_on(archive.read("a/x")).unwrap(), "x of a");

    let cut = MemorySource::new(&b"too short"[..]);
    assert!(matches!(Archive::open(pair.index(), Arc::new(cut), ReadOptions::default()), Err(ReadError::Index(_))));
}

#[test]
fn a_changed_byte_anywhere_is_an_error() {
    let pair = Pair::new().plain("plain", b"some plain content").zstd("packed", &b"packed ".repeat(20));
    for at in 0..pair.data.len() {
        let archive = pair.over(Arc::new(Far(Remote::faulty(pair.data.clone(), at as u64, Fault::Flip))));
        let results = ["plain", "packed"].map(|path| block_on(archive.read(path)));
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1, "byte {at}");
        let error = results.into_iter().find_map(Result::err).unwrap();
        assert!(matches!(&error, ReadError::Decode { .. }) && error.is_corrupt(), "{error}");
    }
    let archive = pair.over(Arc::new(Far(Remote::faulty(pair.data.clone(), 3, Fault::Flip))));
    assert!(block_on(archive.read("plain")).unwrap_err().is_hash_mismatch());
}

#[test]
fn small_streams_begin_verified_and_large_ones_say_that_they_do_not() {
    let pair = Pair::new().plain("small", &noise(SMALL as usize, 1)).plain("large", &noise(SMALL as usize + 1, 2));
    let flipped = |at| pair.over(Arc::new(Far(Remote::faulty(pair.data.clone(), at, Fault::Flip))));
    let sound = pair.local();
    let is_provisional = |path| block_on(sound.stream(path)).unwrap().is_provisional();
    assert_eq!(["small", "large"].map(is_provisional), [false, true]);
    let at_small = pair.index().entry("small").unwrap().range().end - 1;
    assert!(block_on(flipped(at_small).stream("small")).unwrap_err().is_hash_mismatch());

    let damaged = flipped(pair.index().entry("large").unwrap().range().start);
    block_on(async {
        let mut stream = damaged.stream("large").await.unwrap();
        let mut seen = 0;
        let error = loop {
            match stream.next().await {
                Some(Ok(chunk)) => seen += chunk.len() as u64,
                Some(Err(error)) => break error,
                None => panic!("the stream ended well"),
            }
        };
        assert!(error.is_hash_mismatch() && seen == SMALL + 1, "{error} after {seen}");
        assert!(stream.next().await.is_none());
    });
    assert!(block_on(damaged.read("large")).unwrap_err().is_hash_mismatch());
}

#[test]
fn sources_that_fail_fail_the_read() {
    let pair = Pair::new().zstd("small", &noise(100_000, 3)).plain("large", &noise(9 << 20, 4));
    for path in ["small", "large"] {
        let middle = pair.index().entry(path).unwrap().range().start + 70_000;
        let read = |fault| {
            let archive = pair.over(Arc::new(Far(Remote::faulty(pair.data.clone(), middle, fault))));
            (block_on(archive.read(path)).unwrap_err(), collect(&archive, path).unwrap_err())
        };
        let (read_error, stream_error) = read(Fault::Fail);
        assert!(read_error.is_transient() && stream_error.is_transient(), "{read_error} {stream_error}");
        let (read_error, stream_error) = read(Fault::Truncate);
        for error in [read_error, stream_error] {
            assert!(matches!(error, ReadError::Source { .. }) && error.is_transient(), "{error}");
        }
    }
}

#[test]
fn a_stalled_read_can_be_dropped() {
    let pair = Pair::new().plain("large", &noise(9 << 20, 5));
    let remote = Remote::faulty(pair.data.clone(), 8 << 20, Fault::Stall);
    let archive = pair.over(Arc::new(Far(Arc::clone(&remote))));
    let mut read = Box::pin(archive.read("large"));
    for _ in 0..2000 {
        assert!(read.as_mut().now_or_never().is_none());
    }
    drop(read);
    assert_eq!((remote.held(), remote.streams.load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn readers_of_tokio_see_the_same_bytes_and_repeat_their_error() {
    let content: Vec<u8> = (0..2_500_000_u32).flat_map(|n| (n / 9).to_le_bytes()).collect();
    let pair = Pair::new().zstd("large", &content).plain("lines", b"one\ntwo\nthree");
    let archive = pair.over(Arc::new(Far(pair.remote())));
    block_on(async {
        let mut all = Vec::new();
        archive.stream("large").await.unwrap().into_async_read().read_to_end(&mut all).await.unwrap();
        assert!(all == content);
        let mut lines = archive.stream("lines").await.unwrap().into_async_read().lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("one"));

        let damaged =
            Remote::faulty(pair.data.clone(), pair.index().entry("large").unwrap().range().end - 9, Fault::Flip);
        let mut reader = pair.over(Arc::new(Far(damaged))).stream("large").await.unwrap().into_async_read();
        assert!(reader.is_provisional());
        let first = reader.read_to_end(&mut all).await.unwrap_err();
        let again = reader.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!((first.kind(), again.kind()), (std::io::ErrorKind::InvalidData, std::io::ErrorKind::InvalidData));
        assert_eq!(first.to_string(), again.to_string());
    });
}

#[test]
fn a_small_frame_of_a_large_file_is_not_unpacked_at_once() {
    let pair = Pair::new().zstd("bomb", &vec![0; 200 << 20]);
    assert!(pair.data.len() < 100_000);
    let archive = pair.local();
    block_on(async {
        let mut stream = archive.stream("bomb").await.unwrap();
        let mut sum = 0;
        while let Some(chunk) = stream.try_next().await.unwrap() {
            assert!(chunk.len() <= 256 << 10);
            sum += chunk.len();
        }
        assert_eq!(sum, 200 << 20);
    });
}

fn cached(pair: &Pair, remote: &Arc<Remote>, cache: &SharedCache) -> Archive {
    let mut options = ReadOptions::default();
    options.cache = Some(Arc::new(cache.clone()));
    Archive::open(pair.index(), Arc::new(Far(Arc::clone(remote))), options).unwrap()
}

#[test]
fn the_content_cache_saves_requests_and_heals() {
    let pair = Pair::new().zstd("small", &noise(300_000, 6)).plain("large", &noise(9 << 20, 7)).zstd("empty", b"");
    let (remote, cache) = (pair.remote(), SharedCache::default());
    let archive = cached(&pair, &remote, &cache);
    for path in ["small", "large"] {
        let digest = archive.entry(path).unwrap().digest();
        let before = remote.requests();
        let first = block_on(archive.read(path)).unwrap();
        assert_eq!((remote.requests() - before, cache.0.map.lock().unwrap().contains_key(&digest)), (1, true));
        assert_eq!(block_on(archive.read(path)).unwrap(), first);
        assert_eq!(collect(&archive, path).unwrap(), first);
        assert_eq!(remote.requests() - before, 1, "{path} came from the cache");

        for damage in [&first[..first.len() - 1], &[&[first[0] ^ 1], &first[1..]].concat()] {
            let (before, removed) = (remote.requests(), cache.0.removed.load(Ordering::SeqCst));
            cache.0.map.lock().unwrap().insert(digest, Bytes::copy_from_slice(damage));
            assert_eq!(block_on(archive.read(path)).unwrap(), first, "damage in the cache does not show");
            assert_eq!(remote.requests() - before, 1);
            assert_eq!(cache.0.removed.load(Ordering::SeqCst) - removed, 1);
            assert_eq!(cache.0.map.lock().unwrap().get(&digest), Some(&first));
        }
    }
    assert_eq!(block_on(archive.read("empty")).unwrap(), "");
}

#[test]
fn a_broken_cache_costs_nothing_but_time() {
    let pair = Pair::new().zstd("small", &noise(300_000, 6)).plain("large", &noise(9 << 20, 7));
    let broken = broken_cache();
    let archive = cached(&pair, &pair.remote(), &broken);
    for entry in archive.entries() {
        let content = block_on(archive.read(entry.path())).unwrap();
        assert!(entry.digest().matches(&content));
        assert!(entry.digest().matches(&collect(&archive, std::str::from_utf8(entry.path()).unwrap()).unwrap()));
    }
}

fn broken_cache() -> SharedCache {
    SharedCache(Arc::new(crate::support::MapCache { broken: true, ..Default::default() }))
}

#[test]
fn nothing_unverified_reaches_the_cache() {
    let pair = Pair::new().plain("small", &noise(1000, 8)).plain("large", &noise(9 << 20, 9));
    for at in [5, 5000] {
        let cache = SharedCache::default();
        let archive = cached(&pair, &Remote::faulty(pair.data.clone(), at, Fault::Flip), &cache);
        let results = ["small", "large"].map(|path| block_on(archive.read(path)).is_ok());
        assert_eq!(results, [at != 5, at != 5000]);
        assert_eq!(cache.0.map.lock().unwrap().len(), 1, "the sound file alone");
    }
}

#[test]
fn archives_of_the_go_program_have_the_expected_contents() {
    let basic = go_archive("basic-none");
    assert_eq!(block_on(basic.read("a.txt")).unwrap(), "hello");
    assert_eq!(block_on(basic.read("d/b.txt")).unwrap(), "world!");
    assert!(go_archive("empty").is_empty());

    let sizes = go_archive("sizes-zstd");
    let mut seen = 0;
    for entry in sizes.entries() {
        let name = std::str::from_utf8(entry.path()).unwrap();
        let content = block_on(sizes.read(name)).unwrap();
        if let Some(size) = name.strip_prefix('f').and_then(|digits| digits.parse::<usize>().ok()) {
            assert_eq!(content.len(), size, "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 14);

    let odd = go_archive("nonutf8-name");
    assert!(block_on(odd.read(b"bad\xff")).is_ok());
    let unsorted = go_archive("unsorted-none");
    for path in ["a/x", "a-b", "a.txt", "foo/y", "foo.txt", "zz"] {
        assert!(block_on(unsorted.read(path)).is_ok(), "{path}");
    }
    assert!(matches!(unsorted.index().lookup("foo"), Some(Node::Directory(_))));

    let shared = go_archive("cases/dedup-shared-offsets");
    for entry in shared.entries() {
        assert!(entry.digest().matches(&block_on(shared.read(entry.path())).unwrap()));
    }
}

#[test]
fn decode_errors_name_the_file() {
    let archive = go_archive("cases/zstd-trunc-zst");
    let path = archive.entries().next().unwrap().path().to_vec();
    let error = block_on(archive.read(&path)).unwrap_err();
    assert_eq!(error.path(), Some(&path[..]));
    assert!(matches!(error, ReadError::Decode { source: DecodeError::Zstd(_), .. }), "{error}");
}

#[test]
fn one_damaged_file_leaves_the_others_readable() {
    let large = noise(SMALL as usize + 1, 7);
    let pair = Pair::new()
        .plain("a", b"first")
        .plain("b", b"second")
        .zstd("c", &b"third ".repeat(1000))
        .plain("d", &large)
        .plain("e", b"last");
    let read = |data: Arc<Remote>| {
        let archive = pair.over(Arc::new(Far(data)));
        block_on(
            archive
                .each_content(archive.entries().collect())
                .then(async |(file, content)| {
                    let read = match content {
                        Ok(content) => content.try_collect::<Vec<Bytes>>().await.map(|chunks| chunks.concat()),
                        Err(error) => Err(error),
                    };
                    (String::from_utf8_lossy(file.path()).into_owned(), read)
                })
                .collect::<Vec<_>>(),
        )
    };
    let index = pair.index();
    let starts: Vec<usize> = index.entries().map(|file| file.range().start as usize).collect();
    let data = |flipped: &[usize]| {
        let mut data = pair.data.clone();
        for at in flipped {
            data[starts[*at]] ^= 1;
        }
        data
    };
    for flipped in [&[][..], &[0], &[1, 3], &[2], &[0, 1, 2, 3, 4]] {
        let found = read(Remote::new(data(flipped)));
        assert_eq!(found.iter().map(|(path, _)| path.as_str()).collect::<String>(), "abcde");
        for (at, (path, content)) in found.iter().enumerate() {
            let damaged = content.as_ref().is_err_and(ReadError::is_about_one_file);
            assert_eq!(
                (content.is_ok(), damaged),
                (!flipped.contains(&at), flipped.contains(&at)),
                "{path} {flipped:?}"
            );
        }
    }
    // A source that fails is no matter of one file.
    let found = read(Remote::faulty(data(&[]), starts[1] as u64, Fault::Fail));
    assert_eq!(found.len(), 1, "the stream is over then");
    assert!(found[0].1.as_ref().is_err_and(|error| !error.is_about_one_file()), "{:?}", found[0]);
}
