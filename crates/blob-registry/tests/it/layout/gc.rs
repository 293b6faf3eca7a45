//! Garbage collection: what nobody needs goes, what somebody needs stays, also while others push.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use blob_core::Digest;
use blob_registry::layout::{GcOptions, GcReport, LayoutStore};
use blob_registry::{
    Descriptor, ErrorCode, ImageIndex, ImageManifest, LayoutRegistry, Outline, PageRequest, PushManifest, Registry,
    Target, media_type,
};

use super::processes::{again, argument};
use super::{artifact, blob_path, layout, put, repository, tag};

/// Everything that is not needed, however young.
fn now() -> GcOptions {
    GcOptions::default().with_grace(Duration::ZERO)
}

fn removed(report: &GcReport) -> Vec<Digest> {
    let mut removed: Vec<Digest> = report.removed.iter().map(|(digest, _)| *digest).collect();
    removed.sort_by_key(Digest::to_string);
    removed
}

fn sorted(mut digests: Vec<Digest>) -> Vec<Digest> {
    digests.sort_by_key(Digest::to_string);
    digests
}

/// An artifact that is stored, by digest alone or with a tag.
async fn push(layout: &LayoutRegistry, mark: &str, name: Option<&str>) -> Digest {
    let push = artifact(layout, mark).await.with_tags(name.map(tag));
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    push.digest
}

async fn is_there(layout: &LayoutRegistry, digest: &Digest) -> bool {
    layout.stat_blob(&repository(), digest).await.is_ok()
}

#[tokio::test]
async fn blobs_go_with_the_last_manifest_that_names_them() {
    let (_directory, path, layout) = layout().await;
    let (one, _two) = (push(&layout, "one", Some("one")).await, push(&layout, "two", Some("two")).await);
    let orphan = put(&layout, b"orphan").await;
    assert_eq!(removed(&layout.collect_garbage(&now().with_dry_run(true)).await.unwrap()), [orphan]);
    assert!(is_there(&layout, &orphan).await, "a dry run removes nothing");
    let report = layout.collect_garbage(&now()).await.unwrap();
    // Two manifests, two layers, one configuration.
    assert_eq!((removed(&report), report.kept, report.young, report.freed), (vec![orphan], 5, 0, 6));
    layout.delete_manifest(&repository(), &one).await.unwrap();
    let report = layout.collect_garbage(&now()).await.unwrap();
    assert_eq!(removed(&report), [Digest::sha256_of(b"one")]);
    assert!(is_there(&layout, &Digest::sha256_of(b"{}")).await, "the other manifest has the same configuration");
    let left = std::fs::read_dir(path.join("blobs/sha256")).unwrap().count();
    assert_eq!(left, 3);
}

#[tokio::test]
async fn what_is_young_stays_and_is_young_again_when_somebody_asks() {
    let (_directory, path, layout) = layout().await;
    let orphan = put(&layout, b"orphan").await;
    let hour = GcOptions::default().with_grace(Duration::from_hours(1));
    let report = layout.collect_garbage(&hour).await.unwrap();
    assert_eq!((report.removed.len(), report.young), (0, 1));
    let age = || {
        let old = std::time::SystemTime::now() - Duration::from_hours(2);
        std::fs::File::open(blob_path(&path, &orphan)).unwrap().set_modified(old).unwrap();
    };
    age();
    // Whoever pushes it again is told that it is there, and relies on that.
    put(&layout, b"orphan").await;
    assert_eq!(layout.collect_garbage(&hour).await.unwrap().young, 1);
    age();
    assert_eq!(removed(&layout.collect_garbage(&hour).await.unwrap()), [orphan]);
}

#[tokio::test]
async fn untagged_manifests_go_unless_something_that_stays_needs_them() {
    let (_directory, _path, layout) = layout().await;
    let tagged = push(&layout, "tagged", Some("v1")).await;
    let untagged = push(&layout, "untagged", None).await;
    let child = push(&layout, "child", None).await;
    let children = vec![Descriptor::new(media_type::IMAGE_MANIFEST, child, 1)];
    let index = PushManifest::new(media_type::IMAGE_INDEX, ImageIndex::new(children).to_bytes());
    layout.push_manifest(&repository(), index.clone().with_tags([tag("index")])).await.unwrap();
    let signature = async |subject: &Digest| {
        let mut manifest = ImageManifest::artifact("application/vnd.signature", vec![]);
        manifest.subject = Some(Descriptor::new(media_type::IMAGE_MANIFEST, *subject, 1));
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes());
        layout.push_manifest(&repository(), push).await.unwrap().digest
    };
    let (signed, countersigned) = {
        let signed = signature(&tagged).await;
        (signed, signature(&signed).await)
    };
    let forlorn = signature(&untagged).await;
    // By default manifests stay, tagged or not.
    assert_eq!(layout.collect_garbage(&now()).await.unwrap().removed, []);
    let young = GcOptions::default().with_untagged(true);
    assert_eq!(layout.collect_garbage(&young).await.unwrap().removed, []);
    let dry = layout.collect_garbage(&now().with_untagged(true).with_dry_run(true)).await.unwrap();
    let report = layout.collect_garbage(&now().with_untagged(true)).await.unwrap();
    assert_eq!(removed(&report), sorted(vec![untagged, Digest::sha256_of(b"untagged"), forlorn]));
    assert_eq!(removed(&dry), removed(&report));
    for kept in [tagged, child, index.digest, signed, countersigned] {
        layout.manifest(&repository(), &Target::Digest(kept)).await.unwrap();
    }
    let gone = layout.manifest(&repository(), &Target::Digest(untagged)).await.unwrap_err();
    assert!(gone.is_not_found(), "{gone}");
    assert_eq!(layout.collect_garbage(&now().with_untagged(true)).await.unwrap().removed, []);
}

#[tokio::test]
async fn an_index_keeps_manifests_that_only_it_names() {
    let (_directory, path, layout) = layout().await;
    let child = push(&layout, "child", None).await;
    let children = vec![
        Descriptor::new(media_type::IMAGE_MANIFEST, child, 1),
        Descriptor::new(media_type::IMAGE_MANIFEST, Digest::sha256_of(b"elsewhere"), 1),
    ];
    let index = PushManifest::new(media_type::IMAGE_INDEX, ImageIndex::new(children).to_bytes());
    layout.push_manifest(&repository(), index.with_tags([tag("index")])).await.unwrap();
    // As other programs write it: only the index is listed.
    let file = path.join("index.json");
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    document["manifests"].as_array_mut().unwrap().retain(|entry| entry.get("annotations").is_some());
    std::fs::write(&file, document.to_string()).unwrap();
    assert_eq!(layout.collect_garbage(&now().with_untagged(true)).await.unwrap().removed, []);
    layout.manifest(&repository(), &Target::Digest(child)).await.unwrap();
    assert!(is_there(&layout, &Digest::sha256_of(b"child")).await);
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_ends_the_collection() {
    let (_directory, path, layout) = layout().await;
    let damaged = push(&layout, "damaged", Some("v1")).await;
    put(&layout, b"orphan").await;
    std::fs::write(blob_path(&path, &damaged), "something else").unwrap();
    let error = layout.collect_garbage(&now()).await.unwrap_err();
    assert!(error.to_string().contains(&damaged.to_string()), "{error}");
    assert!(is_there(&layout, &Digest::sha256_of(b"damaged")).await);
}

/// Changes the list of manifests as another program might.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<serde_json::Value>)) {
    let file = path.join("index.json");
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(document["manifests"].as_array_mut().unwrap());
    std::fs::write(&file, document.to_string()).unwrap();
}

#[tokio::test]
async fn null_members_of_entries_are_absent_ones() {
    for member in ["annotations", "urls", "platform", "artifactType", "data"] {
        let (_directory, path, layout) = layout().await;
        let manifest = push(&layout, "needed", None).await;
        edit(&path, |entries| entries[0][member] = serde_json::Value::Null);
        assert_eq!(layout.collect_garbage(&now()).await.unwrap().removed, [], "{member}");
        layout.manifest(&repository(), &Target::Digest(manifest)).await.unwrap();
        assert!(is_there(&layout, &Digest::sha256_of(b"needed")).await, "{member}");
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_ends_the_collection_before_it_begins() {
    let strange: [fn(&mut serde_json::Value); 4] = [
        |entry| entry["annotations"] = serde_json::json!({ "number": 7 }),
        |entry| entry["digest"] = serde_json::json!("blake9:00"),
        |entry| entry["size"] = serde_json::json!("12"),
        |entry| *entry = serde_json::json!("text"),
    ];
    for (number, change) in strange.into_iter().enumerate() {
        let (_directory, path, layout) = layout().await;
        push(&layout, "strange", None).await;
        put(&layout, b"orphan").await;
        edit(&path, |entries| change(&mut entries[0]));
        for options in [now(), now().with_untagged(true), now().with_dry_run(true)] {
            let error = layout.collect_garbage(&options).await.unwrap_err();
            assert!(error.to_string().contains("nothing is removed"), "{number}: {error}");
        }
        for content in [&b"strange"[..], b"orphan"] {
            assert!(is_there(&layout, &Digest::sha256_of(content)).await, "{number}");
        }
    }
}

#[tokio::test]
async fn a_layout_that_lost_its_list_is_neither_collected_nor_begun_anew() {
    let (_directory, path, layout) = layout().await;
    push(&layout, "needed", Some("v1")).await;
    let list = std::fs::read(path.join("index.json")).unwrap();
    std::fs::remove_file(path.join("index.json")).unwrap();
    let error = layout.collect_garbage(&now()).await.unwrap_err();
    assert!(error.to_string().contains("index.json"), "{error}");
    let next = artifact(&layout, "next").await;
    let error = layout.push_manifest(&repository(), next.clone()).await.unwrap_err();
    assert!(error.to_string().contains("index.json"), "{error}");
    assert!(is_there(&layout, &Digest::sha256_of(b"needed")).await);
    std::fs::write(path.join("index.json"), list).unwrap();
    layout.push_manifest(&repository(), next).await.unwrap();
    assert_eq!(layout.collect_garbage(&now()).await.unwrap().removed, []);
}

#[tokio::test]
async fn unfinished_uploads_are_given_up_when_they_stood_still() {
    let (_directory, _path, layout) = layout().await;
    let mut upload = layout.start_upload(&repository()).await.unwrap();
    upload.append("half".into()).await.unwrap();
    assert_eq!(layout.collect_garbage(&now()).await.unwrap().leftovers, 0);
    let given_up = now().with_unfinished(Duration::ZERO);
    assert_eq!(layout.collect_garbage(&given_up).await.unwrap().leftovers, 1);
    let error = layout.resume_upload(&repository(), &upload.id()).await.map(drop).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::BlobUploadUnknown);
}

#[tokio::test]
async fn repositories_of_a_store_are_collected_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap();
    let names = ["a", "a/b", "c"].map(|name| blob_registry::Repository::new(name).unwrap());
    for name in &names {
        let source = std::sync::Arc::new(blob_core::MemorySource::new("orphan"));
        let push = blob_registry::PushBlob::new(Digest::sha256_of(b"orphan"), source);
        store.push_blob(name, push).await.unwrap();
    }
    assert_eq!(store.collect_garbage(&now()).await.unwrap().removed.len(), 3);
    for name in &names {
        assert!(store.stat_blob(name, &Digest::sha256_of(b"orphan")).await.unwrap_err().is_not_found());
    }
}

/// Collects as fast as it can until the file `stop` is there.
async fn collect_until_stopped(path: &Path) -> usize {
    let layout = LayoutRegistry::open(path).await.unwrap();
    let mut removed = 0;
    while !path.join("stop").exists() {
        removed += layout.collect_garbage(&now()).await.unwrap().removed.len();
        // Somebody who pushes must get through between two rounds.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    removed
}

#[tokio::test]
async fn child_that_collects() {
    let Some(path) = argument() else { return };
    collect_until_stopped(Path::new(&path)).await;
}

/// With no grace period at all, pushes may be refused and must begin again, but no manifest is ever without its blobs.
#[tokio::test]
async fn no_manifest_loses_its_blobs_while_another_process_collects() {
    let (_directory, path, layout) = layout().await;
    let mut command = again("layout::gc::child_that_collects", path.to_str().unwrap());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    for number in 0..40 {
        let mark = format!("mark {number}");
        for attempt in 0.. {
            assert!(attempt < 1000, "every blob was collected before its manifest came");
            let push = artifact(&layout, &mark).await.with_tags([tag("latest")]);
            match layout.push_manifest(&repository(), push.clone()).await {
                Ok(_) => break,
                Err(error) => assert_eq!(error.error_code(), ErrorCode::ManifestBlobUnknown, "{error}"),
            }
        }
    }
    std::fs::write(path.join("stop"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let index: ImageIndex = ImageIndex::parse(&std::fs::read(path.join("index.json")).unwrap()).unwrap();
    assert_eq!(index.manifests.len(), 40);
    for entry in index.manifests {
        let manifest = layout.manifest(&repository(), &entry.digest.into()).await.unwrap();
        for blob in Outline::parse(&manifest.bytes).unwrap().blobs {
            assert!(is_there(&layout, &blob.digest).await, "{} of {}", blob.digest, entry.digest);
        }
    }
    assert_eq!(layout.tags(&repository(), &PageRequest::first()).await.unwrap().items, [tag("latest")]);
}

#[tokio::test]
async fn layers_of_the_first_schema_of_docker_stay() {
    let (_directory, _path, layout) = layout().await;
    let (layer, orphan) = (put(&layout, b"a layer of old").await, put(&layout, b"orphan").await);
    let image = format!(r#"{{"schemaVersion":1,"name":"any/name","fsLayers":[{{"blobSum":"{layer}"}}]}}"#);
    let push = PushManifest::new(media_type::DOCKER_MANIFEST_1_SIGNED, image.into_bytes()).with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push).await.unwrap();
    let report = layout.collect_garbage(&now()).await.unwrap();
    assert_eq!((removed(&report), report.kept), (vec![orphan], 2));
    assert!(is_there(&layout, &layer).await);
}

#[tokio::test]
async fn a_sparse_layout_is_collected_around_what_is_missing() {
    let (_directory, _path, layout) = layout().await;
    let here = put(&layout, b"{}").await;
    let absent = vec![Descriptor::of("application/vnd.test.layer", b"absent")];
    let manifest = ImageManifest::artifact("application/vnd.test", absent).to_bytes();
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest).with_tags([tag("v1")]);
    let refused = layout.push_manifest(&repository(), push.clone()).await.unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::ManifestBlobUnknown);
    let layout = layout.with_sparse(true);
    let digest = layout.push_manifest(&repository(), push).await.unwrap().digest;
    let orphan = put(&layout, b"orphan").await;
    assert_eq!(removed(&layout.collect_garbage(&now()).await.unwrap()), [orphan]);
    assert!(is_there(&layout, &here).await && is_there(&layout, &digest).await);
}

/// Whoever is told that a manifest is there does not push it again, and names it in an index soon.
#[tokio::test]
async fn a_manifest_that_somebody_asked_for_stays_for_its_index() {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap();
    let age = || {
        let old = std::time::SystemTime::now() - Duration::from_hours(72);
        for entry in std::fs::read_dir(directory.path().join("any/name/_layout/blobs/sha256")).unwrap() {
            std::fs::File::open(entry.unwrap().path()).unwrap().set_modified(old).unwrap();
        }
    };
    let collect = GcOptions::default().with_untagged(true);
    for asks_whole in [false, true] {
        let child = artifact(&store, if asks_whole { "get" } else { "head" }).await;
        store.push_manifest(&repository(), child.clone()).await.unwrap();
        age();
        let target = Target::Digest(child.digest);
        if asks_whole {
            store.manifest(&repository(), &target).await.unwrap();
        } else {
            store.resolve(&repository(), &target).await.unwrap();
        }
        assert_eq!(store.collect_garbage(&collect).await.unwrap().removed, []);
        let size = child.bytes.len() as u64;
        let children = vec![Descriptor::new(media_type::IMAGE_MANIFEST, child.digest, size)];
        let index = PushManifest::new(media_type::IMAGE_INDEX, ImageIndex::new(children).to_bytes());
        store.push_manifest(&repository(), index.with_tags([tag("v1")])).await.unwrap();
        age();
        store.collect_garbage(&collect).await.unwrap();
        let manifest = store.manifest(&repository(), &target).await.unwrap();
        for blob in Outline::parse(&manifest.bytes).unwrap().blobs {
            store.stat_blob(&repository(), &blob.digest).await.unwrap();
        }
    }
    // Nobody asks for this one.
    let forlorn = artifact(&store, "forlorn").await;
    store.push_manifest(&repository(), forlorn.clone()).await.unwrap();
    age();
    assert!(removed(&store.collect_garbage(&collect).await.unwrap()).contains(&forlorn.digest));
}

/// Programs that merge files by hand write a member twice, or misspell it, and others read that in their own ways: nothing
/// is garbage then. Where the last one counts for us, it does for skopeo.
#[tokio::test]
async fn what_an_entry_says_twice_keeps_its_manifest() {
    const NAME: &str = r#""org.opencontainers.image.ref.name":"#;
    let deep = format!(r#""platform":{}0{},"#, r#"{"a":"#.repeat(200), "}".repeat(200));
    for (at, other, read) in [
        (r#""mediaType":"#, r#""mediaType":"a/b","#, true),
        (r#""digest":"#, r#""digest":"sha256:00","#, true),
        (r#""annotations":"#, r#""annotations":{"org.opencontainers.image.ref.name":"other"},"#, true),
        (NAME, r#""org.opencontainers.image.ref.name":"other","#, true),
        (NAME, r#""org.opencontainers.image.ref.name":7,"#, true),
        ("", r#","annotations":{"x":"y"}"#, false),
        ("", r#","annotations":{}"#, false),
        ("", r#","Annotations":{"x":"y"}"#, true),
        ("", r#","annotation\u017f":{"x":"y"}"#, true),
        (r#""annotations":"#, &format!(r#"{deep}"annotations":{{"x":"y"}},"#), false),
        (r#""annotations":"#, r#""size":1e999,"mediaType":"a/b","#, false),
        (r#""annotations":"#, r#""note":"\ud800","annotations":{},"#, false),
    ] {
        let (_directory, path, layout) = layout().await;
        push(&layout, "layer", Some("v1")).await;
        let file = path.join("index.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let at = if at.is_empty() { text.rfind("}]").unwrap() } else { text.rfind(at).unwrap() };
        std::fs::write(&file, format!("{}{other}{}", &text[..at], &text[at..])).unwrap();
        let tags = layout.tags(&repository(), &PageRequest::first()).await.unwrap().items;
        assert_eq!(tags == [tag("v1")], read, "{other}: {tags:?}");
        let error = layout.collect_garbage(&now().with_untagged(true)).await.unwrap_err();
        assert!(error.to_string().contains("nothing is removed"), "{other}: {error}");
        assert!(is_there(&layout, &Digest::sha256_of(b"layer")).await, "{other}");
    }
    // What is said once, or of no concern, is no matter.
    for other in [r#""note":"\ud800","#, r#""size2":1e999,"#, r#""urls":null,"data":null,"#] {
        let (_directory, path, layout) = layout().await;
        let kept = push(&layout, "layer", Some("v1")).await;
        let file = path.join("index.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(r#""annotations":"#, &format!(r#"{other}"annotations":"#))).unwrap();
        let report = layout.collect_garbage(&now().with_untagged(true)).await.unwrap();
        assert_eq!((report.removed, report.kept), (vec![], 3), "{other}");
        assert_eq!(layout.resolve(&repository(), &tag("v1").into()).await.unwrap().digest, kept, "{other}");
    }
}
