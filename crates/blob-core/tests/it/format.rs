//! Archives that the Go program wrote or read: the verdict for each, as `docs/format.md` lists them.

use std::path::{Path, PathBuf};

use blob_core::codec::{DecodeLimits, Decoder, Expected};
use blob_core::{ArchiveIndex, Digest, IndexLimits};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/go-archives")
}

/// Opens a pair and decodes every file. The answer is one word per outcome: what refuses the archive when it is
/// opened, else what becomes of each file in path order.
fn verdict(dir: &Path, limits: DecodeLimits) -> String {
    let data = std::fs::read(dir.join("data.blob")).unwrap();
    let parsed = ArchiveIndex::parse(std::fs::read(dir.join("index.blob")).unwrap(), &IndexLimits::default());
    let index = match parsed.and_then(|index| index.check_end(data.len() as u64).map(|()| index)) {
        Ok(index) => index,
        Err(error) => return format!("refused: {error}"),
    };
    let mut decoder = Decoder::new(limits);
    let mut words = Vec::new();
    for entry in index.entries() {
        let range = entry.range();
        let mut content = Vec::new();
        let stored = &data[range.start as usize..range.end as usize];
        words.push(match decoder.decode(&Expected::from(&entry), stored, &mut content) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        });
    }
    words.join(", ")
}

#[test]
fn every_odd_case_has_its_verdict() {
    let cases = [
        ("beyond-source", "refused: the index does not belong to this data"),
        ("compression--1", "refused: the archive was written by a newer version: the compression of a file is -1"),
        ("compression-2--sizes-differ", "refused: the archive was written by a newer version: the compression"),
        ("dedup-shared-offsets", "ok, ok, ok, ok, ok"),
        ("dir-entry-mode-Go-ModeDir", "ok"),
        ("duplicate-paths", "refused: the index is corrupt: \"a\" occurs twice"),
        ("empty-archive", ""),
        ("hash-algorithm-1-with-other-32-byte-hash", "refused: the archive was written by a newer version: the hash"),
        ("hash-algorithm-1-with-sha256-hashes", "refused: the archive was written by a newer version: the hash"),
        ("missing-hash", "refused: the index is corrupt: \"a\": it has no hash"),
        ("none-zero-bytes-at-offset-end", "refused: the index does not belong to this data"),
        ("orig-size-short--none-", "refused: the index is corrupt: \"a\": 10 bytes are stored as they are"),
        ("overlapping", "ok, ok, ok"),
        ("path--abs", "refused: the index is corrupt"),
        ("path-backslash", "ok"),
        ("path-dot", "refused: the index is corrupt"),
        ("symlink-Go-bit", "ok"),
        ("unix-S-IFREG-mode---setuid", "ok"),
        ("unknown-entry-index-fields", "ok, ok"),
        ("version-0", "refused: the index is corrupt: its version is 0"),
        ("zstd-bad-check-zst", "damaged zstd data: Restored data doesn't match checksum"),
        ("zstd-dict-zst", "damaged zstd data: Dictionary mismatch"),
        ("zstd-l19-zst", "ok"),
        ("zstd-multi-seektable-zst", "ok"),
        ("zstd-multi-zst", "ok"),
        ("zstd-orig-too-small", "content has more than"),
        ("zstd-single-l3-zst", "ok"),
        ("zstd-single-nocheck-nofcs-zst", "ok"),
        ("zstd-trailing-garbage8-zst", "damaged zstd data: Src size is incorrect"),
        ("zstd-trunc-zst", "damaged zstd data"),
        ("zstd-ultra22-long27-zst", "ok"),
        ("zstd-win27-zst", "ok"),
        ("zstd-win28-zst", "zstd data needs a window of 268435456 bytes, over the limit of 134217728"),
    ];
    let mut found: Vec<String> = std::fs::read_dir(fixtures().join("cases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, cases.map(|(name, _)| name), "every case has a row");
    let document =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format.md")).unwrap();
    let mut bad: Vec<String> = Vec::new();
    for (name, expected) in cases {
        let got = verdict(&fixtures().join("cases").join(name), DecodeLimits::default());
        let matches =
            if expected.is_empty() || expected.starts_with("ok") { got == expected } else { got.starts_with(expected) };
        bad.extend((!matches).then(|| format!("{name}: expected {expected:?}, got {got:?}")));
        assert!(document.contains(&format!("| `{name}` |")), "{name} has no row in format.md");
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_raised_limit_reads_the_largest_windows_there_are() {
    let mut limits = DecodeLimits::default();
    limits.window_log = 28;
    assert_eq!(verdict(&fixtures().join("cases/zstd-win28-zst"), limits), "ok");
}

#[test]
fn archives_of_the_go_program_are_read_whole() {
    for (name, files) in
        [("basic-none", 2), ("empty", 0), ("sizes-zstd", 16), ("unsorted-none", 6), ("nonutf8-name", 5)]
    {
        let got = verdict(&fixtures().join(name), DecodeLimits::default());
        assert_eq!(got, vec!["ok"; files].join(", "), "{name}");
    }
}

#[test]
fn paths_that_the_go_program_cannot_find_are_found() {
    let bytes = std::fs::read(fixtures().join("unsorted-none/index.blob")).unwrap();
    let index = ArchiveIndex::parse(bytes, &IndexLimits::default()).unwrap();
    assert!(!index.was_sorted());
    for path in ["a/x", "a-b", "a.txt", "foo/y", "foo.txt", "zz"] {
        assert!(index.entry(path).is_some(), "{path}");
    }
    assert_eq!(index.read_dir("foo").unwrap().len(), 1);

    let bytes = std::fs::read(fixtures().join("nonutf8-name/index.blob")).unwrap();
    let index = ArchiveIndex::parse(bytes, &IndexLimits::default()).unwrap();
    assert!(index.entry(b"bad\xff").is_some());

    let bytes = std::fs::read(fixtures().join("basic-none/index.blob")).unwrap();
    let index = ArchiveIndex::parse(bytes, &IndexLimits::default()).unwrap();
    let entry = index.entry("d/b.txt").unwrap();
    assert_eq!((entry.mode(), entry.uid(), entry.gid(), entry.original_size()), (0o750, 1000, 1000, 6));
    assert_eq!(entry.mtime_ns(), 1_705_314_600_123_456_789);
    assert_eq!(entry.digest(), Digest::sha256_of(b"world!"));
}
