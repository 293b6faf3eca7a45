//! Files that are attached to archives, and got back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use blob::core::MemorySource;
use blob::registry::{Descriptor, ImageManifest, PushBlob, PushManifest, RegistryExt as _, Target, media_type};
use blob::{AttachFile, AttachOptions, ErrorKind, Location, PushOptions};
use blob_testkit::peers::{DockerRegistry, require};

use crate::support::{at, client, serve, tree};

const SBOM: &str = "application/spdx+json";

/// Files as they are attached: a name, its media type, its content.
fn files(dir: &Path) -> Vec<AttachFile> {
    let large: Vec<u8> = (0..9_000_000_u32).map(|number| (number % 251) as u8).collect();
    let named: [(&str, &str, &[u8]); 3] =
        [("sbom.json", SBOM, b"{}"), ("empty", "text/plain", b""), ("large.bin", "application/octet-stream", &large)];
    let written = named.map(|(name, kind, content)| {
        std::fs::write(dir.join(name), content).unwrap();
        AttachFile::new(dir.join(name), kind)
    });
    written.to_vec()
}

/// Attaches files, lists them, and gets them back.
async fn round_trip(location: &Location) {
    let (client, place) = (client(), tempfile::tempdir().unwrap());
    let files = files(place.path());
    client.push(location, tree(7, 4).path(), &PushOptions::default()).await.unwrap();
    let mut options = AttachOptions::default();
    options.annotations.insert("org.opencontainers.image.created".into(), "2026-01-02T03:04:05Z".into());
    options.dry_run = true;
    let planned = client.attach(location, SBOM, &files, &options).await.unwrap();
    options.dry_run = false;
    let subject = planned.subject.digest;
    assert!(client.referrers(location, &subject, None).await.unwrap().is_empty(), "a plan sends nothing");
    let attached = client.attach(location, SBOM, &files, &options).await.unwrap();
    assert_eq!(attached, planned);
    let listed = client.referrers(location, &subject, Some(SBOM)).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.digest).collect::<Vec<_>>(), [attached.manifest.digest]);
    let artifact = client.artifact(&attached.location).await.unwrap();
    assert_eq!((&*artifact.artifact_type, artifact.subject.as_ref().unwrap().digest), (SBOM, subject));
    assert_eq!(artifact.files, attached.files);
    for (file, source) in artifact.files.iter().zip(&files) {
        let (content, saved) = (std::fs::read(&source.path).unwrap(), place.path().join("saved"));
        assert_eq!(file.descriptor.media_type, source.media_type);
        assert!(artifact.read(file, 16 << 20).await.unwrap() == content);
        artifact.save(file, &saved, None).await.unwrap();
        assert!(std::fs::read(&saved).unwrap() == content);
    }
    assert!(artifact.read(&artifact.files[2], 100).await.is_err(), "limits hold");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), files.len() + 1, "nothing is left beside");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_registry_in_memory() {
    round_trip(&at(serve().await.local_addr(), "v1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_layout() {
    let root = tempfile::tempdir().unwrap();
    round_trip(&format!("oci:{}:v1", root.path().join("layout").display()).parse().unwrap()).await;
}

/// A registry that lists no referrers by itself.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_docker_registry() {
    let Some(registry) = require("docker-registry", DockerRegistry::start()) else { return };
    round_trip(&at(registry.addr(), "v1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_attached_is_not() {
    let (client, place, server) = (client(), tempfile::tempdir().unwrap(), serve().await);
    let location = at(server.local_addr(), "v1");
    let file = |path: &str, kind: &str| vec![AttachFile::new(place.path().join(path), kind)];
    std::fs::write(place.path().join("file"), "content").unwrap();
    let options = AttachOptions::default();
    for (kind, files, expected) in [
        ("spdx", file("file", "text/plain"), ErrorKind::Usage),
        (SBOM, file("file", "text"), ErrorKind::Usage),
        (SBOM, Vec::new(), ErrorKind::Usage),
        (SBOM, file("file", "text/plain"), ErrorKind::NotFound),
    ] {
        assert_eq!(client.attach(&location, kind, &files, &options).await.unwrap_err().kind(), expected);
    }
    client.push(&location, tree(8, 2).path(), &PushOptions::default()).await.unwrap();
    for (path, expected) in [("nowhere", ErrorKind::NotFound), (".", ErrorKind::General)] {
        let refused = client.attach(&location, SBOM, &file(path, "text/plain"), &options).await.unwrap_err();
        assert_eq!(refused.kind(), expected, "{refused}");
    }
    let digest = client.resolve(&location).await.unwrap().digest;
    assert!(client.referrers(&location, &digest, None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_others_gave_lead_nowhere() {
    let (client, server) = (client(), serve().await);
    let location = at(server.local_addr(), "v1");
    let (registry, repository) = client.registry(&location).await.unwrap();
    let content = PushBlob::new(blob::core::Digest::sha256_of(b"x"), Arc::new(MemorySource::new("x")));
    registry.push_blob(&repository, content).await.unwrap();
    registry.ensure_empty_config(&repository).await.unwrap();
    let titles = ["../../outside", "/etc/passwd", "..", "a\u{1b}[2Jb", "plain"];
    let layers = titles.map(|title| {
        let mut layer = Descriptor::of("text/plain", b"x");
        layer.annotations.insert("org.opencontainers.image.title".into(), title.into());
        layer
    });
    let manifest = ImageManifest::artifact("text/x", layers.to_vec());
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()).with_tags(["v1".parse().unwrap()]);
    let pushed = registry.push_manifest(&repository, push).await.unwrap();
    let artifact = client.artifact(&location).await.unwrap();
    assert_eq!(artifact.location, location.with_target(Target::Digest(pushed.digest)));
    let made = format!("sha256-{}", blob::core::Digest::sha256_of(b"x").hex());
    let names: Vec<&str> = artifact.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["outside", "passwd", &made, &made, "plain"]);
    assert_eq!(artifact.files.len(), titles.len(), "the configuration is no file");
}

/// What we attach, oras pulls by its digest; what oras pushes, we read.
#[tokio::test(flavor = "multi_thread")]
async fn oras_and_we_share_artifacts() {
    let Some(peers) = std::env::var_os("BLOB_INTEROP") else { return };
    let (client, place, server) = (client(), tempfile::tempdir().unwrap(), serve().await);
    let location = at(server.local_addr(), "v1");
    client.push(&location, tree(9, 2).path(), &PushOptions::default()).await.unwrap();
    std::fs::write(place.path().join("sbom.json"), "{}").unwrap();
    let file = AttachFile::new(place.path().join("sbom.json"), SBOM);
    let attached = client.attach(&location, SBOM, &[file], &AttachOptions::default()).await.unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../blob-registry/tests/interop/oras_peer.py");
    let oras = async |words: [&str; 3]| {
        let mut command = tokio::process::Command::new(PathBuf::from(&peers).join("python/bin/python"));
        command.arg(&script).args(words).env("HOME", place.path()).stdin(Stdio::null()).kill_on_drop(true);
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let out = place.path().join("out");
    oras(["pull", &attached.location.to_string(), out.to_str().unwrap()]).await;
    assert_eq!(std::fs::read_to_string(out.join("sbom.json")).unwrap(), "{}");
    let theirs = at(server.local_addr(), "theirs");
    oras(["push", &theirs.to_string(), place.path().join("sbom.json").to_str().unwrap()]).await;
    let artifact = client.artifact(&theirs).await.unwrap();
    assert_eq!(artifact.files[0].name, "sbom.json");
    assert_eq!(artifact.read(&artifact.files[0], 10).await.unwrap(), "{}");
}
