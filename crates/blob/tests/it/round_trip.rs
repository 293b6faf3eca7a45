//! The main job: push a directory, read one file of it, pull it back.

use std::collections::BTreeMap;
use std::process::Command;

use blob::core::{Compression, Node};
use blob::registry::PushedBlob;
use blob::registry::layout::LayoutStore;
use blob::registry::server::Server;
use blob::{Location, PullOptions, PushOptions};
use blob_testkit::peers::{DockerRegistry, require, skopeo};
use blob_testkit::trees::{Tree, TreeOptions};
use proptest::prelude::*;
use std::sync::Arc;

use crate::support::{at, client, compare_pulled, round_trip, serve, tree};

#[tokio::test(flavor = "multi_thread")]
async fn over_a_registry_in_memory() {
    let server = serve().await;
    round_trip(&at(server.local_addr(), "v1"), tree(1, 60).path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_registry_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(root.path()).await.unwrap();
    let server = Server::builder(Arc::new(store)).bind("127.0.0.1:0").await.unwrap();
    round_trip(&at(server.local_addr(), "v1"), tree(2, 60).path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_layout() {
    let root = tempfile::tempdir().unwrap();
    let location: Location = format!("oci:{}:v1", root.path().join("layout").display()).parse().unwrap();
    round_trip(&location, tree(3, 60).path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_that_lost_a_blob_is_mended_by_the_next_push() {
    let (root, source) = (tempfile::tempdir().unwrap(), tree(10, 5));
    let location: Location = format!("oci:{}:v1", root.path().display()).parse().unwrap();
    let pushed = client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
    assert!(client().push(&location, source.path(), &PushOptions::default()).await.unwrap().unchanged);
    std::fs::remove_file(root.path().join("blobs/sha256").join(pushed.manifest.data().digest.hex())).unwrap();
    assert!(!client().push(&location, source.path(), &PushOptions::default()).await.unwrap().unchanged);
    compare_pulled(&client(), &location, source.path()).await;
}

/// Whatever a registry lost, a push that needs it sends it again; a push that changes nothing does so when it is asked to.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lost_a_blob_is_mended_by_a_push() {
    let (root, source) = (tempfile::tempdir().unwrap(), tree(11, 5));
    let store = LayoutStore::open(root.path()).await.unwrap();
    let server = Server::builder(Arc::new(store)).bind("127.0.0.1:0").await.unwrap();
    let location = at(server.local_addr(), "v1");
    let first = client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
    let (index, data) = (first.manifest.index().digest, first.manifest.data().digest);
    let config = blob::core::Digest::sha256_of(b"{}");
    let lose = |digest: &blob::core::Digest| {
        std::fs::remove_file(root.path().join("team/project/_layout/blobs/sha256").join(digest.hex())).unwrap();
    };
    for (round, lost) in [vec![config], vec![index], vec![data], vec![config, index, data]].iter().enumerate() {
        lost.iter().for_each(lose);
        let again = client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
        assert!(again.unchanged, "registries are believed to have what their manifests name");
        let mut annotated = PushOptions::default();
        annotated.annotations.insert("round".into(), round.to_string());
        let pushed = client().push(&location, source.path(), &annotated).await.unwrap();
        let sent = [(pushed.index, index), (pushed.data, data)];
        assert!(sent.iter().all(|(outcome, digest)| (*outcome == PushedBlob::Uploaded) == lost.contains(digest)));

        lost.iter().for_each(lose);
        let mut tagged = annotated.clone();
        tagged.tags = vec!["other".parse().unwrap()];
        let pushed = client().push(&location, source.path(), &tagged).await.unwrap();
        assert_eq!(pushed.data == PushedBlob::Uploaded, lost.contains(&data), "a further tag needs the blobs");

        lost.iter().for_each(lose);
        let mut recheck = annotated.clone();
        recheck.recheck = true;
        let mended = client().push(&location, source.path(), &recheck).await.unwrap();
        assert_eq!(mended.digest(), pushed.digest(), "the manifest stays");
        assert_eq!(mended.data == PushedBlob::Uploaded, lost.contains(&data));
        assert!(client().push(&location, source.path(), &recheck).await.unwrap().unchanged);
        compare_pulled(&client(), &location, source.path()).await;
        let plain = client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
        assert!(!plain.unchanged, "other annotations");
    }
}

/// A manifest that a disk damaged is written anew where the push looks for damage, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_mended() {
    let (root, source) = (tempfile::tempdir().unwrap(), tree(4, 3));
    let store = LayoutStore::open(root.path().join("store")).await.unwrap();
    let server = Server::builder(Arc::new(store)).bind("127.0.0.1:0").await.unwrap();
    let layout = root.path().join("layout");
    for (location, blobs) in [
        (at(server.local_addr(), "v1"), root.path().join("store/team/project/_layout/blobs/sha256")),
        (format!("oci:{}:v1", layout.display()).parse().unwrap(), layout.join("blobs/sha256")),
    ] {
        let created = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut options = PushOptions::default();
        options.created = Some(created);
        let pushed = client().push(&location, source.path(), &options).await.unwrap();
        let file = blobs.join(pushed.digest().hex());
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() = b' ';
        std::fs::write(&file, bytes).unwrap();
        client().push(&location, source.path(), &options).await.unwrap_err();
        options.recheck = true;
        let mended = client().push(&location, source.path(), &options).await.unwrap();
        assert_eq!(mended.digest(), pushed.digest());
        compare_pulled(&client(), &location, source.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_docker_registry() {
    let Some(peer) = require("round trip over docker-registry", DockerRegistry::start()) else { return };
    round_trip(&at(peer.addr(), "v1"), tree(4, 60).path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_moves_archives_between_all_of_them() {
    let (Some(skopeo), Some(peer)) =
        (require("copying by skopeo", skopeo()), require("copying by skopeo", DockerRegistry::start()))
    else {
        return;
    };
    let (server, root, source) = (serve().await, tempfile::tempdir().unwrap(), tree(5, 20));
    let layout = root.path().join("layout");
    let first = at(server.local_addr(), "v1");
    let digest = *client().push(&first, source.path(), &PushOptions::default()).await.unwrap().digest();

    let copy = |from: String, to: String| {
        let mut command = Command::new(&skopeo);
        command.args([
            "--insecure-policy",
            "copy",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ]);
        let output = command.args([&from, &to]).output().unwrap();
        assert!(output.status.success(), "{from} to {to}: {}", String::from_utf8_lossy(&output.stderr));
    };
    copy(format!("docker://{first}"), format!("oci:{}:v1", layout.display()));
    copy(format!("oci:{}:v1", layout.display()), format!("docker://{}/team/project:v1", peer.addr()));
    copy(
        format!("docker://{}/team/project:v1", peer.addr()),
        format!("docker://{}/back/again:v2", server.local_addr()),
    );

    let places = [
        format!("oci:{}:v1", layout.display()),
        at(peer.addr(), "v1").to_string(),
        format!("{}/back/again:v2", server.local_addr()),
    ];
    for place in places {
        let location: Location = place.parse().unwrap();
        assert_eq!(client().resolve(&location).await.unwrap().digest, digest, "{place}");
        compare_pulled(&client(), &location, source.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_archive_answers_questions() {
    let (server, source) = (serve().await, tree(6, 10));
    let location = at(server.local_addr(), "v1");
    let mut options = PushOptions::default();
    options.annotations = BTreeMap::from([("team".into(), "tools".into())]);
    options.tags = vec!["latest".parse().unwrap(), "v1.0".parse().unwrap()];
    let pushed = client().push(&location, source.path(), &options).await.unwrap();
    let report = pushed.report.as_ref().unwrap();
    assert!(report.symlinks >= 3 && report.empty_dirs >= 1 && report.deduplicated >= 1, "{report:?}");

    for tag in ["v1", "latest", "v1.0"] {
        let fetched = client().fetch(&at(server.local_addr(), tag)).await.unwrap();
        assert_eq!(fetched.digest(), pushed.digest(), "{tag}");
        assert_eq!(fetched.annotations()["team"], "tools");
        assert!(!fetched.is_verified());
    }
    let inspection = client().inspect(&location, &PullOptions::default()).await.unwrap();
    assert_eq!(inspection.file_count() as u64, report.files);
    assert_eq!(inspection.compression(), Compression::Zstd);
    assert!(inspection.compression_ratio() < 1.0);
    assert!(inspection.referrers(None).await.unwrap().is_empty());

    let archive = client().pull(&location, &PullOptions::default()).await.unwrap();
    for (path, expected) in [("run.sh", "#!/bin/sh\necho run\n"), ("empty", "")] {
        assert_eq!(archive.read(path).await.unwrap(), expected);
    }
    assert!(matches!(archive.index().lookup("a"), Some(Node::Directory(_))));
    assert!(archive.index().entry("a.txt").is_some() && archive.index().entry("a-b").is_some());
    let names: Vec<_> = archive.read_dir("twins").unwrap().iter().map(|e| e.name.to_vec()).collect();
    assert_eq!(names, [b"link".to_vec(), b"one".to_vec(), b"two".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_move_and_are_listed() {
    let (server, source) = (serve().await, tree(7, 3));
    let first = client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    std::fs::write(source.path().join("a.txt"), "changed").unwrap();
    let second = client().push(&at(server.local_addr(), "v2"), source.path(), &PushOptions::default()).await.unwrap();
    assert_ne!(first.digest(), second.digest());

    let production = at(server.local_addr(), "production");
    client().tag(&at(server.local_addr(), "v1"), &["production".parse().unwrap()]).await.unwrap();
    assert_eq!(client().resolve(&production).await.unwrap().digest, *first.digest());
    let pinned = at(server.local_addr(), "v2").with_target((*second.digest()).into());
    client().tag(&pinned, &["production".parse().unwrap()]).await.unwrap();
    assert_eq!(client().resolve(&production).await.unwrap().digest, *second.digest());
    let listed = client().tags(&production, &blob::registry::PageRequest::first()).await.unwrap();
    assert_eq!(listed.items.iter().map(blob::registry::Tag::as_str).collect::<Vec<_>>(), ["production", "v1", "v2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_archive_can_be_pushed_elsewhere_and_saved() {
    let (here, there, source) = (serve().await, serve().await, tree(8, 10));
    client().push(&at(here.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let archive = client().pull(&at(here.local_addr(), "v1"), &PullOptions::default()).await.unwrap();
    client().push_archive(&at(there.local_addr(), "v9"), &archive, &PushOptions::default()).await.unwrap();
    compare_pulled(&client(), &at(there.local_addr(), "v9"), source.path()).await;

    let out = tempfile::tempdir().unwrap();
    let (index, data) = (out.path().join("index.blob"), out.path().join("data.blob"));
    archive.save(&index, &data).await.unwrap();
    assert_eq!(std::fs::read(&index).unwrap(), &archive.index().as_bytes()[..]);
    assert_eq!(std::fs::metadata(&data).unwrap().len(), archive.source().size());
}

#[test]
fn callers_without_a_runtime_have_the_same() {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, source) = (runtime.block_on(serve()), tree(9, 5));
    let large: Vec<u8> = (0..9_u32 << 18).flat_map(u32::to_le_bytes).collect();
    std::fs::write(source.path().join("large.bin"), &large).unwrap();
    let client = blob::blocking::Client::new().unwrap();
    let location = at(server.local_addr(), "v1");
    client.push(&location, source.path(), &PushOptions::default()).unwrap();
    let archive = client.pull(&location).unwrap();
    assert_eq!(archive.read("run.sh").unwrap(), "#!/bin/sh\necho run\n");

    for name in ["run.sh", "large.bin"] {
        let content = std::fs::read(source.path().join(name)).unwrap();
        let mut file = archive.open_file(name).unwrap();
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        assert!(all == content, "{name}");
        let middle = content.len() as u64 / 2;
        for at in [middle, 3, content.len() as u64 - 1] {
            file.seek(SeekFrom::Start(at)).unwrap();
            let mut byte = [0];
            file.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], content[at as usize], "{name} at {at}");
        }
        assert_eq!(file.seek(SeekFrom::End(5)).unwrap(), content.len() as u64 + 5);
        assert_eq!(file.read(&mut [0; 4]).unwrap(), 0);
        assert!(file.seek(SeekFrom::Current(i64::MIN)).is_err());
    }
    let out = tempfile::tempdir().unwrap();
    archive.copy_dir("", &out.path().join("copy"), &crate::support::keep_all()).unwrap();
    assert!(std::fs::read(out.path().join("copy/large.bin")).unwrap() == large);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_tree_survives(seed in any::<u64>(), files in 0_usize..30, max_size in 0_usize..3000, compress in any::<bool>()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let source = tempfile::tempdir().unwrap();
        let options = TreeOptions { files, max_size, symlinks: true };
        Tree::generate(seed, options).write(source.path()).unwrap();
        runtime.block_on(async {
            let server = serve().await;
            let mut push = PushOptions::default();
            push.create.compression = if compress { Compression::Zstd } else { Compression::None };
            client().push(&at(server.local_addr(), "t"), source.path(), &push).await.unwrap();
            compare_pulled(&client(), &at(server.local_addr(), "t"), source.path()).await;
        });
    }
}
