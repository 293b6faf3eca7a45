//! Skopeo reads what we write, over disk and over HTTP, and we read what it writes.

use std::path::Path;
use std::sync::Arc;

use blob_registry::{
    Descriptor, ImageIndex, LayoutRegistry, LayoutStore, Manifest, MemoryRegistry, PageRequest, PushManifest, Registry,
    Repository, Server, media_type,
};
use tokio::process::Command;

use super::{artifact, layout, put, repository, tag};

/// Whether skopeo is here. Where tests must be complete, its absence is a failure.
fn available(test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|directory| directory.join("skopeo").is_file()) {
        return true;
    }
    eprintln!("{test} did not run: skopeo is not installed");
    assert!(std::env::var_os("CI").is_none(), "skopeo must be installed where CI is set");
    false
}

async fn copy(options: &[&str], from: &str, to: &str) {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--preserve-digests"]).args(options).args([from, to]);
    let output = command.kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo copy {from} {to}: {said}");
}

fn oci(path: &Path, tag: &str) -> String {
    format!("oci:{}:{tag}", path.display())
}

/// A small image, as skopeo wants it, tagged `v1`; and an index over it, tagged `all`.
async fn image(layout: &LayoutRegistry) -> (PushManifest, PushManifest) {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    put(layout, config).await;
    let mut manifest = blob_registry::ImageManifest::artifact("x", vec![]);
    manifest.artifact_type = None;
    manifest.config = Descriptor::of("application/vnd.oci.image.config.v1+json", config);
    let image = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()).with_tags([tag("v1")]);
    layout.push_manifest(&repository(), image.clone()).await.unwrap();
    let mut child = Descriptor::of(media_type::IMAGE_MANIFEST, &image.bytes);
    child.platform = Some(serde_json::json!({ "architecture": "amd64", "os": "linux" }));
    let index = ImageIndex::new(vec![child]).to_bytes();
    let index = PushManifest::new(media_type::IMAGE_INDEX, index).with_tags([tag("all")]);
    layout.push_manifest(&repository(), index.clone()).await.unwrap();
    (image, index)
}

async fn read(layout: &Path, name: &str) -> Manifest {
    let layout = LayoutRegistry::open(layout).await.unwrap();
    layout.manifest(&repository(), &tag(name).into()).await.unwrap()
}

#[tokio::test]
async fn layouts_go_through_skopeo_and_back() {
    if !available("layouts_go_through_skopeo_and_back") {
        return;
    }
    let (directory, path, layout) = layout().await;
    let artifact = artifact(&layout, "layer").await.with_tags([tag("artifact")]);
    layout.push_manifest(&repository(), artifact.clone()).await.unwrap();
    let (image, index) = image(&layout).await;
    let other = directory.path().join("other");
    for (name, options, push) in [("artifact", &[][..], &artifact), ("v1", &[], &image), ("all", &["--all"], &index)] {
        copy(options, &oci(&path, name), &oci(&other, name)).await;
        assert_eq!(read(&other, name).await.bytes, push.bytes, "{name}");
    }
    let theirs = LayoutRegistry::open_or_create(&other).await.unwrap();
    let tags = theirs.tags(&repository(), &PageRequest::first()).await.unwrap().items;
    assert_eq!(tags, ["all", "artifact", "v1"].map(tag));
    // We add to their layout, they read it again.
    let more = super::artifact(&theirs, "more").await.with_tags([tag("more"), tag("v1")]);
    theirs.push_manifest(&repository(), more.clone()).await.unwrap();
    let third = directory.path().join("third");
    for name in ["more", "v1"] {
        copy(&[], &oci(&other, name), &oci(&third, name)).await;
        assert_eq!(read(&third, name).await.bytes, more.bytes);
    }
    copy(&["--all"], &oci(&other, "all"), &oci(&third, "all")).await;
    // What only an index names is found by its digest.
    let only = directory.path().join("only");
    copy(&["--all"], &oci(&path, "all"), &oci(&only, "all")).await;
    let only = LayoutRegistry::open(&only).await.unwrap();
    assert_eq!(only.manifest(&repository(), &image.digest.into()).await.unwrap().bytes, image.bytes);
}

#[tokio::test]
async fn the_server_stores_what_skopeo_pushes() {
    if !available("the_server_stores_what_skopeo_pushes") {
        return;
    }
    let (directory, path, layout) = layout().await;
    let artifact = artifact(&layout, &"layer".repeat(100_000)).await.with_tags([tag("artifact")]);
    layout.push_manifest(&repository(), artifact.clone()).await.unwrap();
    let (image, index) = image(&layout).await;
    let store = LayoutStore::open(directory.path().join("store")).await.unwrap();
    for (kind, registry) in
        [("memory", Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>), ("store", Arc::new(store))]
    {
        let server = Server::builder(Arc::clone(&registry)).bind("127.0.0.1:0").await.unwrap();
        let back = directory.path().join(kind);
        for (name, options, push) in
            [("artifact", &[][..], &artifact), ("v1", &[], &image), ("all", &["--all"], &index)]
        {
            let remote = format!("docker://{}/team/{kind}:{name}", server.local_addr());
            copy(&[options, &["--dest-tls-verify=false"]].concat(), &oci(&path, name), &remote).await;
            let repository = Repository::new(&format!("team/{kind}")).unwrap();
            let stored = registry.manifest(&repository, &tag(name).into()).await.unwrap();
            assert_eq!(stored.bytes, push.bytes, "{kind} {name}");
            copy(&[options, &["--src-tls-verify=false"]].concat(), &remote, &oci(&back, name)).await;
            assert_eq!(read(&back, name).await.bytes, push.bytes, "{kind} {name}");
        }
        server.shutdown().await;
    }
}
