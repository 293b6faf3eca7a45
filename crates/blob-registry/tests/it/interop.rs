//! The client library `oras` from PyPI as a peer: it pushes to and pulls from our server, and our client reads what it
//! wrote; then the other way round.
//!
//! `cargo xtask test` installs it where PyPI can be reached, and names the directory in `BLOB_INTEROP`. Without it nothing is
//! shown here, and the test says so.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_http::{Proxy, Transport, TransportOptions};
use blob_registry::client::RegistryClient;
use blob_registry::{
    Descriptor, ImageManifest, LayoutStore, MemoryRegistry, PageRequest, PushBlob, PushManifest, Registry,
    RegistryExt as _, Server, media_type,
};
use futures_util::TryStreamExt as _;
use tokio::process::Command;

use crate::kit::{repository, tag};

/// Python with the library, if it is installed.
fn python() -> Option<PathBuf> {
    let place = std::env::var_os("BLOB_INTEROP").map(|place| Path::new(&place).join("python/bin/python"));
    if place.is_none() {
        // Straight to the descriptor, so that the test harness does not swallow it.
        let _ = writeln!(std::io::stderr().lock(), "NOT RUN: the peers of `cargo xtask interop` are not installed");
    }
    place
}

async fn oras(python: &Path, words: &[&str], home: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/oras_peer.py");
    let mut command = Command::new(python);
    command.arg(script).args(words).env("HOME", home).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "oras {words:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn oras_and_we_read_what_the_other_wrote() {
    let Some(python) = python() else { return };
    let place = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(place.path().join("store")).await.unwrap();
    let cases: [(&str, Arc<dyn Registry>); 2] =
        [("directory", Arc::new(store)), ("memory", Arc::new(MemoryRegistry::new()))];
    for (case, registry) in cases {
        let server = Server::builder(registry).bind("127.0.0.1:0").await.unwrap();
        let host = server.local_addr().to_string();
        let transport = Transport::new(TransportOptions::default().with_proxy(Proxy::None)).unwrap();
        let client = RegistryClient::builder(&host).transport(transport).build().unwrap();
        let name = repository("team/app");

        // They write, we read.
        let content = crate::client::noise(300_000);
        let file = place.path().join("theirs.bin");
        std::fs::write(&file, &content).unwrap();
        let theirs = format!("{host}/team/app:theirs");
        oras(&python, &["push", &theirs, file.to_str().unwrap()], place.path()).await;
        let found = client.manifest(&name, &tag("theirs").into()).await.unwrap();
        let manifest = ImageManifest::parse(&found.bytes).unwrap();
        assert_eq!(manifest.annotations["mark"], "oras", "{case}");
        let layer = &manifest.layers[0];
        assert_eq!((layer.digest, layer.size), (Digest::sha256_of(&content), 300_000), "{case}");
        let reader = client.read_blob(&name, &layer.digest, None).await.unwrap();
        let read: Vec<bytes::Bytes> = reader.stream.try_collect().await.unwrap();
        assert!(read.concat() == content, "{case}");

        // We write, they read.
        let push = PushBlob::new(Digest::sha256_of(b"from us"), Arc::new(MemorySource::new("from us")));
        client.push_blob(&name, push).await.unwrap();
        client.ensure_empty_config(&name).await.unwrap();
        let mut layer = Descriptor::of("text/plain", b"from us");
        layer.annotations.insert("org.opencontainers.image.title".into(), "ours.txt".into());
        let manifest = ImageManifest::artifact("application/vnd.test", vec![layer]);
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()).with_tags([tag("ours")]);
        client.push_manifest(&name, push).await.unwrap();
        let out = place.path().join(case);
        let ours = format!("{host}/team/app:ours");
        oras(&python, &["pull", &ours, out.to_str().unwrap()], place.path()).await;
        assert_eq!(std::fs::read_to_string(out.join("ours.txt")).unwrap(), "from us", "{case}");
        let listed = oras(&python, &["tags", &ours], place.path()).await;
        assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["ours", "theirs"], "{case}");
        let tags = client.tags(&name, &PageRequest::first()).await.unwrap().items;
        assert_eq!(tags, ["ours", "theirs"].map(tag), "{case}");
    }
}
