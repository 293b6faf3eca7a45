//! Blobs that the disk damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_registry::layout::{GcOptions, LayoutStore};
use blob_registry::{LayoutRegistry, Mount, PushBlob, PushedBlob, Registry, RegistryError};
use futures_util::TryStreamExt as _;

use super::{artifact, blob_path, files, layout, put, repository};

async fn store() -> (tempfile::TempDir, PathBuf, LayoutStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap().with_verify(true);
    let layout = store.directory(&repository());
    (directory, layout, store)
}

/// Changes the last byte, and nothing that shows without reading.
fn damage(layout: &Path, digest: &Digest) {
    let path = blob_path(layout, digest);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
}

/// Reads a blob, or a part of it, to the end.
async fn read(
    registry: &dyn Registry,
    digest: &Digest,
    range: Option<std::ops::Range<u64>>,
) -> Result<usize, RegistryError> {
    let reader = registry.read_blob(&repository(), digest, range).await?;
    let action = "reading".to_owned();
    let pieces: Vec<bytes::Bytes> =
        reader.stream.try_collect().await.map_err(|source| RegistryError::Source { action, source })?;
    Ok(pieces.iter().map(bytes::Bytes::len).sum())
}

fn push(content: &[u8]) -> PushBlob {
    PushBlob::new(Digest::sha256_of(content), Arc::new(MemorySource::new(content.to_vec())))
}

#[tokio::test]
async fn a_damaged_blob_of_a_store_is_found_set_aside_and_mended() {
    for range in [None, Some(1..3)] {
        let (_directory, path, store) = store().await;
        let (digest, other) = (put(&store, b"some content").await, put(&store, b"other content").await);
        assert_eq!(read(&store, &digest, range.clone()).await.unwrap(), range.as_ref().map_or(12, |_| 2));
        damage(&path, &digest);
        let error = read(&store, &digest, range.clone()).await.unwrap_err();
        assert!(error.is_integrity(), "{error:?}");
        assert!(store.stat_blob(&repository(), &digest).await.unwrap_err().is_not_found());
        assert!(store.local_blob(&repository(), &digest).await.is_err());
        assert_eq!(files(&path.join(".blob/damaged")).len(), 1, "it may still be of use to somebody");
        assert_eq!(store.push_blob(&repository(), push(b"some content")).await.unwrap(), PushedBlob::Uploaded);
        assert_eq!(read(&store, &digest, range.clone()).await.unwrap(), range.as_ref().map_or(12, |_| 2));
        assert_eq!(read(&store, &other, None).await.unwrap(), 13);

        // It lies there for as long as nobody collects garbage.
        let aside = fs::read_dir(path.join(".blob/damaged")).unwrap().next().unwrap().unwrap().path();
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(48);
        fs::File::options().write(true).open(&aside).unwrap().set_modified(long_ago).unwrap();
        let again = LayoutStore::open(path.parent().unwrap().parent().unwrap().parent().unwrap()).await.unwrap();
        assert!(again.directory(&repository()) == path && aside.exists());
        assert_eq!(store.collect_garbage(&GcOptions::default()).await.unwrap().leftovers, 1);
        assert!(!aside.exists());
    }
}

/// Nobody waits until 65 MiB are hashed: the end does not come.
#[tokio::test]
async fn a_large_blob_is_hashed_as_it_goes() {
    let (_directory, path, store) = store().await;
    let content = vec![7; 65 << 20];
    let digest = put(&store, &content).await;
    damage(&path, &digest);
    assert!(store.local_blob(&repository(), &digest).await.unwrap().is_none(), "files are read by nobody who looks");
    assert_eq!(read(&store, &digest, Some(0..10)).await.unwrap(), 10, "parts are for others to check");
    let reader = store.read_blob(&repository(), &digest, None).await.unwrap();
    let mut came = 0;
    let ended = reader.stream.try_for_each(|piece| {
        came += piece.len();
        std::future::ready(Ok(()))
    });
    let error = ended.await.unwrap_err();
    assert_eq!(error.kind(), blob_core::FailureKind::Integrity, "{error:?}");
    assert!(came < content.len(), "{came}");
    assert!(store.stat_blob(&repository(), &digest).await.unwrap_err().is_not_found());
    assert_eq!(store.push_blob(&repository(), push(&content)).await.unwrap(), PushedBlob::Uploaded);
    assert_eq!(read(&store, &digest, None).await.unwrap(), content.len());
    assert!(store.local_blob(&repository(), &digest).await.unwrap().is_some(), "now it is known to be sound");
}

#[tokio::test]
async fn a_layout_of_ones_own_is_left_as_it_is_until_a_push_mends_it() {
    let (_directory, path, plain) = layout().await;
    let digest = put(&plain, b"some content").await;
    damage(&path, &digest);
    assert_eq!(read(&plain, &digest, None).await.unwrap(), 12, "nobody looks");
    let layout = LayoutRegistry::open(&path).await.unwrap().with_verify(true);
    assert!(read(&layout, &digest, None).await.unwrap_err().is_integrity());
    assert_eq!(layout.stat_blob(&repository(), &digest).await.unwrap(), 12);
    assert_eq!(plain.push_blob(&repository(), push(b"some content")).await.unwrap(), PushedBlob::Existing);
    assert_eq!(layout.push_blob(&repository(), push(b"some content")).await.unwrap(), PushedBlob::Uploaded);
    assert_eq!(read(&layout, &digest, None).await.unwrap(), 12);
    assert!(!path.join(".blob/damaged").exists());
}

#[tokio::test]
async fn a_collection_finds_what_is_damaged() {
    let (_directory, path, store) = store().await;
    let push = artifact(&store, "layer").await;
    store.push_manifest(&repository(), push.clone()).await.unwrap();
    let options = GcOptions::default().with_verify(true);
    assert!(store.collect_garbage(&options).await.unwrap().damaged.is_empty());
    let layer = Digest::sha256_of(b"layer");
    damage(&path, &layer);
    let dry = store.collect_garbage(&options.clone().with_dry_run(true)).await.unwrap();
    assert_eq!((dry.damaged.as_slice(), dry.kept), ([layer].as_slice(), 3));
    assert_eq!(store.stat_blob(&repository(), &layer).await.unwrap(), 5, "a dry run takes nothing away");
    assert_eq!(store.collect_garbage(&options).await.unwrap().damaged, [layer]);
    assert!(store.stat_blob(&repository(), &layer).await.unwrap_err().is_not_found());
    // Without the manifest, what it needs would be garbage: it stays, and ends collections. What is damaged is told.
    put(&store, b"layer").await;
    damage(&path, &push.digest);
    damage(&path, &layer);
    let report = store.collect_garbage(&options).await.unwrap();
    assert_eq!(report.uncollected.len(), 1);
    let mut damaged = report.damaged.clone();
    damaged.sort_by_key(ToString::to_string);
    let mut expected = [layer, push.digest];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(damaged, expected);
    assert!(blob_path(&path, &push.digest).exists() && blob_path(&path, &layer).exists());
    // What another manifest names as its blob is no manifest, and makes room.
    let whole = artifact(&store, "whole").await;
    store.push_manifest(&repository(), whole).await.unwrap();
    damage(&path, &Digest::sha256_of(b"whole"));
    assert_eq!(store.collect_garbage(&options).await.unwrap().damaged.len(), 3);
    assert!(!blob_path(&path, &Digest::sha256_of(b"whole")).exists());
    assert!(blob_path(&path, &push.digest).exists() && blob_path(&path, &layer).exists());
    // A layout by itself is told of in the same way.
    let report = LayoutRegistry::open(&path).await.unwrap().collect_garbage(&options).await.unwrap();
    assert_eq!((report.damaged.len(), report.uncollected.len()), (2, 1), "{report:?}");
}

/// Who cannot be read, or not be taken away, does not hide the others.
#[tokio::test]
async fn a_collection_goes_on_behind_a_failure() {
    let (_directory, path, store) = store().await;
    let push = artifact(&store, "layer").await;
    store.push_manifest(&repository(), push.clone()).await.unwrap();
    let (config, layer) = (Digest::sha256_of(b"{}"), Digest::sha256_of(b"layer"));
    damage(&path, &config);
    damage(&path, &layer);
    fs::write(path.join(".blob/damaged"), "no directory").unwrap();
    let report = store.collect_garbage(&GcOptions::default().with_verify(true)).await.unwrap();
    assert_eq!((report.damaged.len(), report.uncollected.len(), report.kept), (2, 0, 3), "{report:?}");
}

#[tokio::test]
async fn a_damaged_blob_is_mounted_by_nobody() {
    let (_directory, path, store) = store().await;
    let other = blob_registry::Repository::new("other").unwrap();
    for from in [Some(repository()), None] {
        let digest = put(&store, b"some content").await;
        damage(&path, &digest);
        assert!(matches!(store.mount_blob(&other, &digest, from.as_ref()).await.unwrap(), Mount::Session(_)));
        let mut push = push(b"some content");
        push.mount_from = vec![repository()];
        put(&store, b"some content").await;
        damage(&path, &digest);
        assert_eq!(store.push_blob(&other, push.clone()).await.unwrap(), PushedBlob::Uploaded);
        store.delete_blob(&other, &digest).await.unwrap();
        put(&store, b"some content").await;
        assert_eq!(store.push_blob(&other, push).await.unwrap(), PushedBlob::Mounted);
        store.delete_blob(&other, &digest).await.unwrap();
    }
}

/// A store that is only read is left as it is.
#[tokio::test]
async fn a_damaged_blob_of_a_store_that_is_only_read_stays_where_it_is() {
    let (_directory, path, store) = store().await;
    let store = store.with_verify_in_place(true);
    let digest = put(&store, b"some content").await;
    damage(&path, &digest);
    for _ in 0..2 {
        assert!(read(&store, &digest, None).await.unwrap_err().is_integrity());
        assert!(blob_path(&path, &digest).exists());
    }
}

#[tokio::test]
async fn a_store_is_collected_behind_a_list_that_cannot_be_read() {
    let (_directory, path, store) = store().await;
    let other = blob_registry::Repository::new("zzz").unwrap();
    put(&store, b"content").await;
    store.push_blob(&other, push(b"garbage")).await.unwrap();
    fs::write(path.join("index.json"), "{").unwrap();
    let report = store.collect_garbage(&GcOptions::default().with_grace(std::time::Duration::ZERO)).await.unwrap();
    assert_eq!(report.removed, [(Digest::sha256_of(b"garbage"), 7)]);
    let [left] = report.uncollected.as_slice() else { panic!("{report:?}") };
    assert_eq!(left.repository, repository());
    assert!(left.error.to_string().contains("index.json"), "{}", left.error);
}
