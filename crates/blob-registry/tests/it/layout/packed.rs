//! Layouts in tar files: our own, those of `tar` and of skopeo, and what is none.

use std::fs;
use std::path::Path;
use std::process::Command;

use blob_core::ByteSourceExt as _;
use blob_registry::{ErrorCode, LayoutFile, PageRequest, PushedBlob, Registry, RegistryError};

use super::{artifact, layout, put, repository, tag};

async fn tags(file: &Path) -> Vec<String> {
    let layout = LayoutFile::open(file).await.unwrap();
    layout.tags(&repository(), &PageRequest::first()).await.unwrap().items.iter().map(ToString::to_string).collect()
}

fn listing(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn nothing_is_seen_before_the_end_and_what_was_there_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    for (name, seen) in [("one", vec!["one"]), ("two", vec!["one", "two"])] {
        let layout = LayoutFile::begin(&file).await.unwrap();
        let push = artifact(&layout, name).await.with_tags([tag(name)]);
        let before = fs::read(&file).ok();
        layout.push_manifest(&repository(), push.clone()).await.unwrap();
        // What was pushed can be read, though nobody else sees it.
        assert_eq!(layout.manifest(&repository(), &tag(name).into()).await.unwrap().bytes, push.bytes);
        assert_eq!(fs::read(&file).ok(), before);
        layout.finish().await.unwrap();
        assert_eq!(tags(&file).await, seen);
        assert_eq!(listing(directory.path()), ["x.tar"]);
        let late = layout.push_manifest(&repository(), push).await.unwrap_err();
        assert_eq!(late.error_code(), ErrorCode::Unsupported, "{late:?}");
    }
    let read = LayoutFile::open(&file).await.unwrap();
    let found = read.manifest(&repository(), &tag("one").into()).await.unwrap();
    assert_eq!(found.bytes, artifact(&LayoutFile::begin("none").await.unwrap(), "one").await.bytes);
    // One that is given up leaves nothing, and one that changes nothing writes nothing.
    let given_up = LayoutFile::begin(&file).await.unwrap();
    put(&given_up, b"something").await;
    assert_eq!(listing(directory.path()).len(), 2);
    drop(given_up);
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    LayoutFile::begin(&file).await.unwrap().finish().await.unwrap();
    assert_eq!(
        (listing(directory.path()), fs::metadata(&file).unwrap().modified().unwrap()),
        (vec!["x.tar".to_owned()], before)
    );
    assert!(Path::new(".none.blob-").parent().is_some_and(|here| !here.join("none").exists()));
}

#[tokio::test]
async fn content_with_another_digest_is_refused_and_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    let layout = LayoutFile::begin(&file).await.unwrap();
    let digest = blob_core::Digest::sha256_of(b"expected");
    let lie = std::sync::Arc::new(blob_core::MemorySource::new(vec![7; 3 << 20]));
    let refused = layout.push_blob(&repository(), blob_registry::PushBlob::new(digest, lie)).await.unwrap_err();
    assert!(matches!(refused, RegistryError::DigestMismatch { .. }), "{refused:?}");
    let push = artifact(&layout, "layer").await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    layout.finish().await.unwrap();
    assert_eq!(tags(&file).await, ["v1"]);
    assert!(fs::metadata(&file).unwrap().len() < 20_000);
    let listed = Command::new("tar").arg("-tvf").arg(&file).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().next().unwrap().ends_with(" oci-layout"), "{listed}");
    assert!(listed.lines().last().unwrap().ends_with(" index.json"), "{listed}");
    assert_eq!(listed.lines().count(), 5, "{listed}");
}

#[tokio::test]
async fn two_programs_do_not_lose_what_the_other_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    let (one, two) = (LayoutFile::begin(&file).await.unwrap(), LayoutFile::begin(&file).await.unwrap());
    for (layout, name) in [(&one, "one"), (&two, "two")] {
        let push = artifact(layout, name).await.with_tags([tag(name)]);
        layout.push_manifest(&repository(), push).await.unwrap();
    }
    one.finish().await.unwrap();
    let late = two.finish().await.unwrap_err();
    assert_eq!(late.error_code(), ErrorCode::TooManyRequests, "{late:?}");
    drop(two);
    assert_eq!((tags(&file).await, listing(directory.path())), (vec!["one".to_owned()], vec!["x.tar".to_owned()]));
}

#[tokio::test]
async fn what_tar_packed_is_read_in_each_of_its_forms() {
    let (directory, path, layout) = layout().await;
    let push = artifact(&layout, &"layer".repeat(200_000)).await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    let nested = directory.path().join("n".repeat(120));
    fs::create_dir(&nested).unwrap();
    fs::write(nested.join("README"), "not ours").unwrap();
    for form in ["gnu", "pax", "ustar"] {
        let file = directory.path().join(format!("{form}.tar"));
        let mut tar = Command::new("tar");
        tar.args(["--format", form, "-cf"]).arg(&file);
        if form != "ustar" {
            tar.arg("-C").arg(directory.path()).arg("n".repeat(120));
        }
        assert!(tar.arg("-C").arg(&path).arg(".").status().unwrap().success(), "{form}");
        let read = LayoutFile::open(&file).await.unwrap();
        assert_eq!(read.manifest(&repository(), &tag("v1").into()).await.unwrap().bytes, push.bytes, "{form}");
        let layer = blob_core::Digest::sha256_of("layer".repeat(200_000).as_bytes());
        let source = read.local_blob(&repository(), &layer).await.unwrap().unwrap();
        let bytes = source.read(5..15).await.unwrap();
        assert_eq!((source.size(), &bytes[..]), (1_000_000, &b"layerlayer"[..]), "{form}");
    }
}

#[tokio::test]
async fn what_is_no_layout_is_refused_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("whole.tar");
    let layout = LayoutFile::begin(&file).await.unwrap();
    let push = artifact(&layout, &"layer".repeat(1000)).await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push).await.unwrap();
    layout.finish().await.unwrap();
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[1024] ^= 1;
    let odd = directory.path().join("odd");
    for (bytes, expected) in [
        (&b""[..], "it is no tar file"),
        (b"hello", "it is no tar file"),
        (&[b'x'; 2048], "it is no tar file"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
        (&[0; 1024], "it has no member oci-layout"),
        (&whole[..700], "it is no tar file"),
        (&whole[..1300], "it ends within a header"),
        (&whole[..2600], "it ends within the member"),
        (&damaged, "is damaged"),
    ] {
        fs::write(&odd, bytes).unwrap();
        match LayoutFile::open(&odd).await {
            Err(RegistryError::Protocol { detail, .. }) => {
                let named = detail.contains(expected) || (expected == "it is no tar file" && bytes.len() == 700);
                assert!(named, "{detail}, not {expected}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    for missing in [directory.path().join("none"), directory.path().to_owned()] {
        assert!(LayoutFile::open(&missing).await.is_err());
    }
    let elsewhere = LayoutFile::begin(directory.path().join("none/x.tar")).await.unwrap();
    let pushed = blob_registry::PushBlob::new(
        blob_core::Digest::sha256_of(b"x"),
        std::sync::Arc::new(blob_core::MemorySource::new("x")),
    );
    assert!(elsewhere.push_blob(&repository(), pushed).await.is_err());
}

/// Skopeo takes what we wrote, and we take what it wrote.
#[tokio::test]
async fn skopeo_reads_it_and_is_read() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|directory| directory.join("skopeo").is_file()) {
        eprintln!("skopeo_reads_it_and_is_read did not run: skopeo is not installed");
        assert!(std::env::var_os("CI").is_none(), "skopeo must be installed where CI is set");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (directory.path().join("ours.tar"), directory.path().join("theirs.tar"));
    let layout = LayoutFile::begin(&ours).await.unwrap();
    let push = artifact(&layout, "layer").await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    let other = artifact(&layout, "another").await.with_tags([tag("v2")]);
    layout.push_manifest(&repository(), other).await.unwrap();
    layout.finish().await.unwrap();
    let oci = directory.path().join("layout");
    for (from, to) in [
        (format!("oci-archive:{}:v1", ours.display()), format!("oci:{}:v1", oci.display())),
        (format!("oci:{}:v1", oci.display()), format!("oci-archive:{}:back", theirs.display())),
    ] {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--preserve-digests", &from, &to]);
        skopeo.env("TMPDIR", directory.path());
        let output = skopeo.output().unwrap();
        assert!(output.status.success(), "{from} to {to}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(tags(&theirs).await, ["back"]);
    let read = LayoutFile::open(&theirs).await.unwrap();
    assert_eq!(read.manifest(&repository(), &tag("back").into()).await.unwrap().bytes, push.bytes);
    // We add to what they wrote.
    let more = LayoutFile::begin(&theirs).await.unwrap();
    let third = artifact(&more, "third").await.with_tags([tag("third")]);
    more.push_manifest(&repository(), third).await.unwrap();
    more.finish().await.unwrap();
    assert_eq!(tags(&theirs).await, ["back", "third"]);
}

#[tokio::test]
async fn what_is_damaged_is_written_anew_where_it_is_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    let layout = LayoutFile::begin(&file).await.unwrap();
    let push = artifact(&layout, "a layer that is damaged").await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push).await.unwrap();
    layout.finish().await.unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(7).position(|window| window == b"a layer").unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let content = b"a layer that is damaged";
    let digest = blob_core::Digest::sha256_of(content);
    let again =
        blob_registry::PushBlob::new(digest, std::sync::Arc::new(blob_core::MemorySource::new(content.to_vec())));
    for (verify, expected) in
        [(false, PushedBlob::Existing), (true, PushedBlob::Uploaded), (true, PushedBlob::Existing)]
    {
        let layout = LayoutFile::begin(&file).await.unwrap().with_verify(verify);
        assert_eq!(layout.push_blob(&repository(), again.clone()).await.unwrap(), expected);
        layout.finish().await.unwrap();
    }
    let mended = LayoutFile::open(&file).await.unwrap().local_blob(&repository(), &digest).await.unwrap().unwrap();
    assert_eq!(mended.read(0..mended.size()).await.unwrap(), content.as_slice());
    let listed = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 5, "the damaged one is not carried along");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_write_at_once_is_there_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    // Into a file that is not there, into an empty one, and into one that has something to be carried over.
    for round in 0..12 {
        match round % 3 {
            0 if file.exists() => fs::remove_file(&file).unwrap(),
            1 => fs::write(&file, "").unwrap(),
            _ => {}
        }
        let before = if fs::metadata(&file).is_ok_and(|file| file.len() > 0) { tags(&file).await } else { Vec::new() };
        let writer = |number: usize| {
            let (file, name) = (file.clone(), format!("r{round}-{number}"));
            async move {
                let layout = LayoutFile::begin(&file).await.unwrap();
                put(&layout, &vec![number as u8; 2 << 20]).await;
                let push = artifact(&layout, &name).await.with_tags([tag(&name)]);
                layout.push_manifest(&repository(), push).await.unwrap();
                match layout.finish().await {
                    Ok(()) => Some(name),
                    Err(error) => {
                        assert!(
                            error.to_string().contains("writing ") && error.error_code() == ErrorCode::TooManyRequests,
                            "{error:?}"
                        );
                        None
                    }
                }
            }
        };
        let running: Vec<_> = (0..6).map(|number| tokio::spawn(writer(number))).collect();
        let mut expected = before;
        for task in running {
            expected.extend(task.await.unwrap());
        }
        expected.sort();
        assert!(!expected.is_empty(), "round {round}: somebody is the first");
        assert_eq!(tags(&file).await, expected, "round {round}");
        assert_eq!(listing(directory.path()), ["x.tar"]);
    }
}
