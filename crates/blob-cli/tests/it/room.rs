//! Room on disk, and limits for what is pushed: found out before anything is written.

use std::fs::{self, File};
use std::process::Stdio;
use std::sync::Arc;

use blob::core::{Archive, ArchivePath, Compression, Digest, IndexBuilder, MemorySource, NewFile, ReadOptions};
use blob::{Client, Location, PushOptions};

use crate::support::{Place, stderr};

/// A size that no disk of today has room for and that fits the numbers of tar streams: 2 TiB in octal digits of a header
/// would not, so that one is written in base 256.
const HUGE: u64 = 1 << 52;

/// A tar stream of one member that says that it has `size` bytes, and has none.
fn lying_tar(size: u64) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..4].copy_from_slice(b"huge");
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124] = 0x80;
    header[128..136].copy_from_slice(&size.to_be_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.to_vec()
}

/// The message of a push of a stream that fails.
fn refused(place: &Place, line: &str, tar: &[u8]) -> String {
    fs::write(place.path("input"), tar).unwrap();
    let mut command = place.command(line);
    command.stdin(Stdio::from(File::open(place.path("input")).unwrap()));
    stderr(&place.assert(&mut command).code(1).stdout_eq(""))
}

#[test]
fn a_stream_that_promises_more_than_the_disk_holds_is_refused_at_once() {
    let place = Place::offline();
    let text = refused(&place, "push --max-size 0 oci:layout:v1 -", &lying_tar(HUGE));
    assert!(text.contains("has room for "), "{text}");
    assert!(text.contains(&format!("an archive of the tar stream can take {} there", HUGE * 2)), "{text}");
    assert!(text.contains("hint: choose a directory with more room with --spool-dir"), "{text}");
    // Its beginning is believed; then it ends too early.
    let text = refused(&place, "push --max-size 0 --no-space-check oci:layout:v1 -", &lying_tar(HUGE));
    assert!(text.contains(&format!("{HUGE} bytes of a file are missing")), "{text}");
}

#[test]
fn streams_and_directories_have_a_limit() {
    let place = Place::offline();
    let text = refused(&place, "push --no-space-check oci:layout:v1 -", &lying_tar(HUGE));
    assert!(text.contains(&format!("at least {HUGE} bytes, over the limit of {}", 1_u64 << 40)), "{text}");
    assert!(text.contains("hint: raise the limit with --max-size"), "{text}");
    let failed = place.run("push --max-size 100 oci:layout:v1 project").code(1).stdout_eq("");
    let text = stderr(&failed);
    assert!(text.contains("there are 124 bytes of content, over the limit of 100"), "{text}");
    place.run("push -q --max-size 124 oci:layout:v1 project").success();
}

#[test]
fn a_directory_that_needs_more_than_there_is_is_refused_before_it_is_read() {
    let place = Place::offline();
    // A hole takes no room; its content would. File systems differ in how large a file may be.
    let hole = File::create(place.path("project/hole")).unwrap();
    let Some(size) = [HUGE, 1 << 43].into_iter().find(|size| hole.set_len(*size).is_ok()) else { return };
    for line in ["push --max-size 0 oci:layout:v1 project", "push --max-size 0 --spool-dir . oci:layout:v1 project"] {
        let failed = place.run(line).code(1).stdout_eq("");
        let text = stderr(&failed);
        assert!(text.contains(&format!("an archive of project can take {} there", size + 124)), "{text}");
    }
}

/// As much as is extracted without a question; few disks have room for it.
const LARGE: u64 = 1 << 40;

/// Puts an archive into `oci:layout:huge` whose one file says that it has so many bytes.
fn push_promise(place: &Place, size: u64) {
    let data: &[u8] = b"not what it says";
    let mut builder = IndexBuilder::new();
    builder.file(NewFile {
        path: ArchivePath::new("dir/huge").unwrap(),
        data_offset: 0,
        data_size: data.len() as u64,
        original_size: size,
        hash: [7; 32],
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime_ns: 0,
        compression: Compression::Zstd,
    });
    let index = builder.finish(data.len() as u64, &Digest::sha256_of(data)).unwrap();
    let archive = Archive::open(Arc::new(index), Arc::new(MemorySource::new(data)), ReadOptions::default()).unwrap();
    let location: Location = format!("oci:{}:huge", place.path("layout").display()).parse().unwrap();
    let client = Client::builder().build().unwrap();
    let (runtime, options) = (tokio::runtime::Runtime::new().unwrap(), PushOptions::default());
    runtime.block_on(client.push_archive(&location, &archive, &options)).unwrap();
}

#[test]
fn extractions_that_need_more_than_there_is_are_refused_before_anything_is_written() {
    let place = Place::offline();
    if blob::core::room::available(place.root.path()).is_none_or(|room| room >= LARGE) {
        return;
    }
    push_promise(&place, LARGE);
    fs::create_dir(place.path("there")).unwrap();
    for line in [
        "pull oci:layout:huge out",
        "pull oci:layout:huge there",
        "pull --sync oci:layout:huge there",
        "cp oci:layout:huge:/dir out",
        "cp oci:layout:huge:/dir there/",
        "cp oci:layout:huge:/dir/huge there/copy",
    ] {
        let text = stderr(&place.run(line).code(1).stdout_eq(""));
        assert!(text.contains(&format!("bytes, and {LARGE} are to be written")), "{line}: {text}");
        assert!(text.contains("hint: make room, or begin all the same with --no-space-check"), "{line}: {text}");
        assert!(!place.path("out").exists() && place.listing("there").is_empty(), "{line}");
        // Then it fails for what the archive is.
        let text = stderr(&place.run(&format!("{line} --no-space-check")).failure().stdout_eq(""));
        assert!(!text.contains("are to be written"), "{line}: {text}");
    }
}

#[test]
fn copies_to_a_layout_look_for_room() {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    // A manifest whose layer nobody has, and no disk could hold.
    let config = place.sha256(b"{}");
    let layer = format!("sha256:{}", "7".repeat(64));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"a/b","digest":"{layer}","size":{HUGE}}}]}}"#
    );
    let digest = place.sha256(manifest.as_bytes());
    fs::write(place.path("layout/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap()), &manifest).unwrap();
    fs::write(
        place.path("layout/index.json"),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"huge"}}}}]}}"#,
            manifest.len()
        ),
    )
    .unwrap();
    let text = stderr(&place.run("copy oci:layout:huge oci:other:huge").code(1).stdout_eq(""));
    assert!(text.contains("and a copy of oci:layout:huge can take "), "{text}");
    assert!(text.contains("hint: make room, or begin all the same with --no-space-check"), "{text}");
    assert!(!place.path("other/blobs/sha256").join(config.strip_prefix("sha256:").unwrap()).exists());
    let text = stderr(&place.run("copy --no-space-check oci:layout:huge oci:other:huge").failure().stdout_eq(""));
    assert!(!text.contains("has room"), "{text}");
}
