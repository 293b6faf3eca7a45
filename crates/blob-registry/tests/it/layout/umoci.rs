//! Umoci reads and changes layouts that we wrote, and we read and change what it writes.

use std::path::Path;

use blob_registry::layout::GcOptions;
use blob_registry::{Descriptor, ImageManifest, LayoutRegistry, PageRequest, PushManifest, Registry, media_type};
use blob_testkit::peers::{find, require};
use tokio::process::Command;

use super::{layout, put, repository, tag};

async fn umoci(words: &[&str]) -> Vec<String> {
    let output = Command::new("umoci").args(words).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "umoci {words:?}: {said}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

async fn tags(layout: &LayoutRegistry) -> Vec<String> {
    let page = layout.tags(&repository(), &PageRequest::first()).await.unwrap();
    page.items.iter().map(ToString::to_string).collect()
}

/// An image with a configuration of the kind that container tools know.
async fn image(layout: &LayoutRegistry) -> PushManifest {
    let config =
        br#"{"created":"2026-11-20T00:00:00Z","architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    put(layout, config).await;
    let mut manifest = ImageManifest::artifact("x", vec![]);
    manifest.artifact_type = None;
    manifest.layers = vec![];
    manifest.config = Descriptor::of("application/vnd.oci.image.config.v1+json", config);
    PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes())
}

fn name(path: &Path, tag: &str) -> String {
    format!("{}:{tag}", path.display())
}

#[tokio::test]
async fn layouts_are_shared_with_umoci() {
    let Some(_) = require("umoci", find("umoci")) else { return };
    let (directory, path, ours) = layout().await;
    let artifact = super::artifact(&ours, "layer").await.with_tags([tag("artifact")]);
    ours.push_manifest(&repository(), artifact.clone()).await.unwrap();
    let image = image(&ours).await.with_tags([tag("image")]);
    ours.push_manifest(&repository(), image.clone()).await.unwrap();
    let place = path.to_str().unwrap();

    // What we wrote is listed, read, and changed.
    assert_eq!(umoci(&["ls", "--layout", place]).await, ["artifact", "image"]);
    assert!(umoci(&["stat", "--image", &name(&path, "image")]).await.iter().any(|line| line.contains("LAYER")));
    umoci(&["tag", "--image", &name(&path, "artifact"), "theirs"]).await;
    umoci(&["config", "--image", &name(&path, "image"), "--config.user", "ann", "--tag", "user"]).await;
    assert_eq!(tags(&ours).await, ["artifact", "image", "theirs", "user"]);
    let theirs = ours.manifest(&repository(), &tag("theirs").into()).await.unwrap();
    assert_eq!(theirs.bytes, artifact.bytes);
    let user = ours.manifest(&repository(), &tag("user").into()).await.unwrap();
    ours.read_blob(&repository(), &ImageManifest::parse(&user.bytes).unwrap().config.digest, None).await.unwrap();

    // Either collects garbage, and leaves what the other needs.
    umoci(&["rm", "--image", &name(&path, "artifact")]).await;
    umoci(&["gc", "--layout", place]).await;
    let removed = ours.collect_garbage(&GcOptions::default().with_untagged(true)).await.unwrap().removed;
    assert_eq!(removed, []);
    for target in ["theirs", "image", "user"] {
        ours.manifest(&repository(), &tag(target).into()).await.unwrap();
    }
    umoci(&["stat", "--image", &name(&path, "user")]).await;

    // A layout that umoci made is one of ours.
    let other = directory.path().join("other");
    umoci(&["init", "--layout", other.to_str().unwrap()]).await;
    umoci(&["new", "--image", &name(&other, "base")]).await;
    let layout = LayoutRegistry::open(&other).await.unwrap();
    assert_eq!(tags(&layout).await, ["base"]);
    let more = super::artifact(&layout, "more").await.with_tags([tag("more")]);
    layout.push_manifest(&repository(), more).await.unwrap();
    assert_eq!(umoci(&["ls", "--layout", other.to_str().unwrap()]).await, ["base", "more"]);
}
