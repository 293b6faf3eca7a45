use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blob_core::{Digest, Local, MemorySource};
use blob_registry::layout::GcOptions;
use blob_registry::{
    Descriptor, ImageManifest, LayoutRegistry, LayoutStore, MemoryRegistry, Mount, PageRequest, PushBlob, PushManifest,
    Registry, RegistryError, Repository, Target, media_type,
};
use serde_json::{Value, json};

use super::{artifact, blob_path, files, layout, put, repository, tag};

#[tokio::test]
async fn a_layout_is_what_the_specification_says() {
    let (_directory, path, layout) = layout().await;
    let push = artifact(&layout, "layer").await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    assert_eq!(fs::read_to_string(path.join("oci-layout")).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.test",
        "digest": push.digest.to_string(),
        "size": push.bytes.len(),
        "annotations": { "org.opencontainers.image.ref.name": "v1" },
    });
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["manifests"], json!([entry]));
    let mut expected: Vec<String> = [Digest::sha256_of(b"{}"), Digest::sha256_of(b"layer"), push.digest]
        .map(|digest| format!("blobs/sha256/{}", digest.hex()))
        .into();
    expected.extend([".blob/lock", "index.json", "oci-layout"].map(String::from));
    expected.sort();
    assert_eq!(files(&path), expected, "and nothing temporary");
}

#[tokio::test]
async fn what_others_wrote_is_kept() {
    let (_directory, path, layout) = layout().await;
    let text = r#"{"schemaVersion":2,"vendor":{"a":1},"manifests":[{"odd":true}],"annotations":{"k":"v"}}"#;
    fs::write(path.join("index.json"), text).unwrap();
    let push = artifact(&layout, "layer").await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push).await.unwrap();
    layout.delete_tag(&repository(), &tag("v1")).await.unwrap();
    let index: Value = serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    assert_eq!((&index["vendor"], &index["annotations"]), (&json!({"a": 1}), &json!({"k": "v"})));
    assert_eq!(index["manifests"][0], json!({"odd": true}));
}

#[tokio::test]
async fn a_tampered_manifest_is_refused() {
    let (_directory, path, layout) = layout().await;
    let push = artifact(&layout, "layer").await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    let file = blob_path(&path, &push.digest);
    for at in 0..push.bytes.len() {
        let mut bytes = push.bytes.to_vec();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        for target in [Target::from(push.digest), tag("v1").into()] {
            let error = layout.manifest(&repository(), &target).await.unwrap_err();
            assert!(error.is_integrity(), "byte {at}: {error:?}");
        }
    }
    fs::write(&file, &push.bytes[1..]).unwrap();
    assert!(layout.manifest(&repository(), &push.digest.into()).await.unwrap_err().is_integrity());
    fs::write(&file, vec![b' '; (4 << 20) + 1]).unwrap();
    layout.manifest(&repository(), &push.digest.into()).await.unwrap_err();
}

#[tokio::test]
async fn damaged_layouts_are_errors_not_empty_ones() {
    let (_directory, path, layout) = layout().await;
    for text in ["", "[]", "{\"manifests\":7}", "{"] {
        fs::write(path.join("index.json"), text).unwrap();
        let error = layout.tags(&repository(), &PageRequest::first()).await.unwrap_err();
        assert!(!error.is_not_found(), "{text:?}: {error:?}");
        assert!(layout.push_manifest(&repository(), artifact(&layout, "x").await).await.is_err(), "{text:?}");
        assert_eq!(fs::read_to_string(path.join("index.json")).unwrap(), text, "a damaged file is not overwritten");
    }
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    LayoutRegistry::open(&path).await.unwrap_err();
    LayoutRegistry::open_or_create(&path).await.unwrap_err();
    LayoutRegistry::open(path.join("absent")).await.unwrap_err();
    assert!(!path.join("absent").exists());
}

#[tokio::test]
async fn a_list_that_could_not_be_read_again_is_not_written() {
    let (_directory, path, layout) = layout().await;
    let file = path.join("index.json");
    let filler = "x".repeat((64 << 20) - 100);
    fs::write(&file, format!(r#"{{"schemaVersion":2,"manifests":[],"filler":"{filler}"}}"#)).unwrap();
    let before = fs::metadata(&file).unwrap().len();
    let error = layout.push_manifest(&repository(), artifact(&layout, "x").await).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}");
    assert!(error.to_string().contains("list of manifests"), "{error}");
    assert_eq!(fs::metadata(&file).unwrap().len(), before);
    layout.referrers(&repository(), &Digest::sha256_of(b"x"), None, &PageRequest::first()).await.unwrap();
}

#[tokio::test]
async fn types_are_short() {
    let (_directory, _path, layout) = layout().await;
    put(&layout, b"{}").await;
    let long = |length: usize| format!("a/{}", "b".repeat(length - 2));
    for (length, taken) in [(255, true), (256, false)] {
        let manifest = ImageManifest::artifact(long(length), vec![]).to_bytes();
        let pushed = layout.push_manifest(&repository(), PushManifest::new(media_type::IMAGE_MANIFEST, manifest)).await;
        assert_eq!(pushed.is_ok(), taken, "{pushed:?}");
        let named = ImageManifest::artifact("a/b", vec![Descriptor::of(long(length), b"{}")]).to_bytes();
        let pushed = layout.push_manifest(&repository(), PushManifest::new(media_type::IMAGE_MANIFEST, named)).await;
        assert_eq!(pushed.is_ok(), taken, "{pushed:?}");
    }
}

#[tokio::test]
async fn leftovers_of_a_day_ago_are_reclaimed() {
    let (_directory, path, _layout) = layout().await;
    let long_ago = SystemTime::now() - Duration::from_hours(25);
    let (old, young, foreign) = ("0".repeat(32), "1".repeat(32), "thesis.txt");
    for directory in ["tmp", "uploads"] {
        for name in [old.as_str(), &young, foreign] {
            let file = fs::File::create(path.join(".blob").join(directory).join(name)).unwrap();
            if name != young {
                file.set_modified(long_ago).unwrap();
            }
        }
    }
    LayoutRegistry::open_or_create(&path).await.unwrap();
    let left = ["tmp", "uploads"].map(|directory| [format!("{directory}/{young}"), format!("{directory}/{foreign}")]);
    let expected = [vec!["lock".to_owned()], left.concat()].concat();
    assert_eq!(files(&path.join(".blob")), expected, "names that are not ours stay");
}

#[tokio::test]
async fn a_layout_whose_directories_lead_elsewhere_is_read_and_not_written() {
    for link in ["blobs", "blobs/sha256", ".blob", ".blob/tmp", ".blob/uploads"] {
        let (directory, path, layout) = layout().await;
        let content = put(&layout, b"content").await;
        layout.push_manifest(&repository(), artifact(&layout, "layer").await).await.unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(path.join(link), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.join(link)).unwrap();
        let old = elsewhere.join("0".repeat(32));
        let file = fs::File::create(&old).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(100)).unwrap();
        let before = files(&elsewhere);
        let again = LayoutRegistry::open(&path).await.unwrap();
        assert_eq!(again.stat_blob(&repository(), &content).await.unwrap(), 7);
        let refused = |error: RegistryError| assert!(error.to_string().contains("symbolic link"), "{link}: {error}");
        refused(LayoutRegistry::open_or_create(&path).await.map(drop).unwrap_err());
        let push = PushBlob::new(Digest::sha256_of(b"new"), Arc::new(MemorySource::new(b"new".to_vec())));
        refused(again.push_blob(&repository(), push).await.unwrap_err());
        refused(again.delete_tag(&repository(), &tag("x")).await.unwrap_err());
        refused(again.start_upload(&repository()).await.map(drop).unwrap_err());
        let options = GcOptions::default().with_grace(Duration::ZERO).with_unfinished(Duration::ZERO);
        refused(again.collect_garbage(&options).await.unwrap_err());
        assert_eq!(files(&elsewhere), before, "{link}");
    }
}

#[tokio::test]
async fn pipes_are_not_waited_for() {
    for name in ["index.json", "oci-layout"] {
        let (_directory, path, _layout) = layout().await;
        fs::remove_file(path.join(name)).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path.join(name),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let opened = LayoutRegistry::open(&path).await;
        let listed = async { opened?.resolve(&repository(), &Target::Tag(tag("v1"))).await };
        let outcome = tokio::time::timeout(Duration::from_secs(20), listed).await.expect("an answer");
        assert!(outcome.is_err(), "{name}");
    }
}

#[tokio::test]
async fn blobs_are_local_files() {
    let (_directory, path, layout) = layout().await;
    let digest = put(&layout, b"content").await;
    let local = layout.local_source(&digest).await.unwrap().unwrap();
    assert!(matches!(local.local(), Some(Local::File { offset: 0, .. })));
    assert_eq!(local.id().as_str(), digest.to_string());
    assert!(layout.local_source(&Digest::sha256_of(b"absent")).await.unwrap().is_none());
    fs::remove_file(blob_path(&path, &digest)).unwrap();
    fs::create_dir(blob_path(&path, &digest)).unwrap();
    assert!(layout.stat_blob(&repository(), &digest).await.unwrap_err().is_not_found());
    assert!(layout.local_source(&digest).await.unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_blob_is_replaced_by_a_push() {
    let (_directory, path, layout) = layout().await;
    let digest = put(&layout, b"content").await;
    fs::write(blob_path(&path, &digest), b"half").unwrap();
    put(&layout, b"content").await;
    assert_eq!(fs::read(blob_path(&path, &digest)).unwrap(), b"content");
}

#[tokio::test]
async fn manifests_are_not_deleted_as_blobs() {
    let (_directory, _path, layout) = layout().await;
    let push = artifact(&layout, "layer").await;
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    layout.delete_blob(&repository(), &push.digest).await.unwrap_err();
    layout.manifest(&repository(), &push.digest.into()).await.unwrap();
}

#[tokio::test]
async fn repositories_do_not_see_each_others_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap();
    for registry in [&store as &dyn Registry, &MemoryRegistry::new()] {
        let [a, b, c] = ["a", "a/b", "c"].map(|name| Repository::new(name).unwrap());
        let digest = Digest::sha256_of(b"content");
        let push = PushBlob::new(digest, Arc::new(MemorySource::new("content")));
        registry.push_blob(&a, push).await.unwrap();
        for name in [&b, &c] {
            assert!(registry.stat_blob(name, &digest).await.unwrap_err().is_not_found());
        }
        assert!(matches!(registry.mount_blob(&b, &digest, Some(&a)).await.unwrap(), Mount::Mounted));
        assert!(matches!(registry.mount_blob(&c, &digest, None).await.unwrap(), Mount::Mounted));
        registry.delete_blob(&a, &digest).await.unwrap();
        for name in [&b, &c] {
            assert_eq!(registry.stat_blob(name, &digest).await.unwrap(), 7);
        }
        let names = registry.repositories(&PageRequest::first()).await.unwrap().items;
        assert_eq!(names, [a, b, c]);
    }
}

#[tokio::test]
async fn a_mount_is_a_hard_link() {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap();
    let [a, b] = ["a", "b"].map(|name| Repository::new(name).unwrap());
    let digest = Digest::sha256_of(b"content");
    store.push_blob(&a, PushBlob::new(digest, Arc::new(MemorySource::new("content")))).await.unwrap();
    store.mount_blob(&b, &digest, Some(&a)).await.unwrap();
    let inode = |name| fs::metadata(blob_path(&store.directory(name), &digest)).unwrap().ino();
    assert_eq!(inode(&a), inode(&b));
    assert_eq!(store.directory(&a), directory.path().join("a/_layout"));
}

/// Damage of the same length shows in nothing but the digest.
#[tokio::test]
async fn a_damaged_manifest_is_mended_by_a_push() {
    let (_directory, path, layout) = layout().await;
    let push = artifact(&layout, "layer").await.with_tags([tag("v1")]);
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    let file = blob_path(&path, &push.digest);
    let mut bytes = fs::read(&file).unwrap();
    bytes[10] ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = layout.manifest(&repository(), &tag("v1").into()).await.unwrap_err();
    assert!(error.is_integrity(), "{error:?}");
    layout.push_manifest(&repository(), push.clone()).await.unwrap();
    assert_eq!(layout.manifest(&repository(), &tag("v1").into()).await.unwrap().bytes, push.bytes);
}

/// Who asks for digests that are not listed does not have every index read each time.
#[tokio::test]
async fn what_an_index_lists_is_read_once() {
    let (_directory, path, layout) = layout().await;
    let child = artifact(&layout, "child").await;
    layout.push_manifest(&repository(), child.clone()).await.unwrap();
    let entry = Descriptor::new(child.media_type.clone(), child.digest, child.bytes.len() as u64);
    let index = blob_registry::ImageIndex::new(vec![entry]);
    let index = PushManifest::new(media_type::IMAGE_INDEX, index.to_bytes()).with_tags([tag("v1")]);
    layout.push_manifest(&repository(), index.clone()).await.unwrap();
    // As skopeo writes it, the child is in the index alone.
    let file = path.join("index.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    document["manifests"].as_array_mut().unwrap().retain(|entry| entry.get("annotations").is_some());
    fs::write(&file, document.to_string()).unwrap();
    let found = || async { layout.manifest(&repository(), &child.digest.into()).await };
    assert_eq!(found().await.unwrap().bytes, child.bytes);
    fs::write(blob_path(&path, &index.digest), "nobody reads this again").unwrap();
    assert_eq!(found().await.unwrap().bytes, child.bytes);
    fs::remove_file(blob_path(&path, &index.digest)).unwrap();
    assert!(found().await.unwrap_err().is_not_found(), "an index that is gone lists nothing");
}
