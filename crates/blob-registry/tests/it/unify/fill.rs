//! A union that copies what is read into its first registry.

use blob_registry::{Descriptor, ImageIndex, PushManifest, media_type};
use futures_util::StreamExt as _;

use super::*;

/// A cache in front of an origin that holds an artifact.
async fn cache() -> (Scripted, Scripted, Unify, PushManifest) {
    let [cache, origin, _] = three();
    let manifest = put_artifact(&origin, "x", "layer", &["v1"]).await;
    let all = union(&[&cache, &origin], UnifyOptions::cache());
    (cache, origin, all, manifest)
}

#[tokio::test]
async fn what_was_read_is_there_when_the_origin_is_not() {
    let (cache, origin, all, manifest) = cache().await;
    let (name, v1) = (repository("x"), tag("v1").into());
    all.manifest(&name, &v1).await.unwrap();
    assert!(cache.resolve(&name, &v1).await.unwrap_err().is_not_found(), "not before its blobs");
    read(&all, "x", &Digest::sha256_of(b"{}")).await;
    assert!(cache.resolve(&name, &v1).await.unwrap_err().is_not_found(), "not before all of its blobs");
    read(&all, "x", &Digest::sha256_of(b"layer")).await;
    assert_eq!(cache.resolve(&name, &v1).await.unwrap().digest, manifest.digest);
    origin.fail_with(Some(ErrorCode::TooManyRequests));
    assert_eq!(all.manifest(&name, &v1).await.unwrap().bytes, manifest.bytes);
    assert_eq!(read(&all, "x", &Digest::sha256_of(b"layer")).await, "layer");
    assert_eq!(origin.take("read_blob"), 2, "each blob came once");
}

#[tokio::test]
async fn tags_of_a_cache_follow_the_origin() {
    let (cache, origin, all, _) = cache().await;
    let v1 = tag("v1").into();
    for layer in ["layer", "newer"] {
        let now = put_artifact(&origin, "x", layer, &["v1"]).await;
        for content in ["{}", layer] {
            read(&all, "x", &Digest::sha256_of(content.as_bytes())).await;
        }
        for writes in [2, 0] {
            cache.take_all();
            for _ in 0..2 {
                assert_eq!(all.manifest(&repository("x"), &v1).await.unwrap().bytes, now.bytes);
            }
            assert!(cache.take("push_manifest") <= writes, "a tag that is where it should be is not written");
        }
        assert_eq!(cache.resolve(&repository("x"), &v1).await.unwrap().digest, now.digest);
    }
}

#[tokio::test]
async fn an_index_is_copied_at_once_and_what_it_lists_as_it_is_read() {
    let (cache, origin, all, manifest) = cache().await;
    let child = Descriptor::new(media_type::IMAGE_MANIFEST, manifest.digest, manifest.bytes.len() as u64);
    let index = PushManifest::new(media_type::IMAGE_INDEX, ImageIndex::new(vec![child]).to_bytes());
    let name = repository("x");
    origin.push_manifest(&name, index.clone()).await.unwrap();
    for digest in [index.digest, manifest.digest] {
        all.manifest(&name, &digest.into()).await.unwrap();
    }
    cache.resolve(&name, &index.digest.into()).await.expect("an index may be there without its manifests");
    assert!(cache.resolve(&name, &manifest.digest.into()).await.unwrap_err().is_not_found(), "not before its blobs");
    for content in ["{}", "layer"] {
        read(&all, "x", &Digest::sha256_of(content.as_bytes())).await;
    }
    cache.resolve(&name, &manifest.digest.into()).await.expect("its blobs were read");
}

#[tokio::test]
async fn parts_and_broken_reads_are_not_copied() {
    let (cache, _, all, _) = cache().await;
    let (name, layer) = (repository("x"), Digest::sha256_of(b"layer"));
    let part = all.read_blob(&name, &layer, Some(0..2)).await.unwrap();
    assert_eq!(part.stream.count().await, 1);
    drop(all.read_blob(&name, &layer, None).await.unwrap());
    assert!(cache.stat_blob(&name, &layer).await.unwrap_err().is_not_found());
    // The claim of the reader that went away is gone too.
    let mut whole = all.read_blob(&name, &layer, Some(0..5)).await.unwrap();
    whole.stream.next().await.unwrap().unwrap();
    assert_eq!(cache.stat_blob(&name, &layer).await.unwrap(), 5, "there with the last byte, asked for more or not");
}

#[cfg(feature = "layout")]
#[tokio::test]
async fn a_reader_that_goes_away_leaves_nothing_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = blob_registry::LayoutStore::open(directory.path()).await.unwrap();
    let [origin, ..] = three();
    let content = "content ".repeat(100_000);
    let digest = put(&origin, "x", &content).await;
    let all = Unify::new(vec![Arc::new(store.clone()), Arc::new(origin)], UnifyOptions::cache());
    let uploads = store.directory(&repository("x")).join(".blob/uploads");
    let open = || std::fs::read_dir(&uploads).map_or(0, Iterator::count);
    let reader = all.read_blob(&repository("x"), &digest, None).await.unwrap();
    assert_eq!(open(), 1);
    drop(reader);
    while open() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(read(&all, "x", &digest).await, content);
    assert_eq!((open(), store.stat_blob(&repository("x"), &digest).await.unwrap()), (0, content.len() as u64));
}

#[tokio::test]
async fn wrong_content_is_neither_copied_nor_handed_out_whole() {
    let [cache, origin, _] = three();
    let digest = put(&origin, "x", "right").await;
    let lies = Lying { inner: Arc::new(origin) };
    let all = Unify::new(vec![Arc::new(cache.clone()), Arc::new(lies)], UnifyOptions::cache());
    let reader = all.read_blob(&repository("x"), &digest, None).await.unwrap();
    let chunks: Vec<_> = reader.stream.collect().await;
    assert!(chunks.last().unwrap().is_err(), "{chunks:?}");
    assert!(cache.stat_blob(&repository("x"), &digest).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_cache_that_fails_fails_no_read() {
    let (cache, _, all, manifest) = cache().await;
    cache.fail_with(Some(ErrorCode::Denied));
    assert_eq!(read(&all, "x", &Digest::sha256_of(b"layer")).await, "layer");
    assert_eq!(all.manifest(&repository("x"), &manifest.digest.into()).await.unwrap().bytes, manifest.bytes);
    assert_eq!(all.manifest(&repository("x"), &tag("v1").into()).await.unwrap().bytes, manifest.bytes);
}

#[tokio::test]
async fn without_the_option_nothing_is_copied() {
    let [first, second, _] = three();
    let manifest = put_artifact(&second, "x", "layer", &["v1"]).await;
    let all = union(&[&first, &second], UnifyOptions::default());
    read(&all, "x", &Digest::sha256_of(b"layer")).await;
    all.manifest(&repository("x"), &manifest.digest.into()).await.unwrap();
    let calls = first.take_all();
    assert!(!calls.contains_key("start_upload") && !calls.contains_key("push_manifest"), "{calls:?}");
}

/// Answers every whole blob with other bytes of the same length.
#[derive(Debug)]
struct Lying {
    inner: Arc<dyn Registry>,
}

type Result<T> = std::result::Result<T, RegistryError>;

#[async_trait::async_trait]
impl Registry for Lying {
    async fn read_blob(
        &self,
        repository: &blob_registry::Repository,
        digest: &Digest,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<blob_registry::BlobReader> {
        let mut reader = self.inner.read_blob(repository, digest, range).await?;
        reader.stream = futures_util::stream::iter([Ok("wr".into()), Ok("ong".into())]).boxed();
        Ok(reader)
    }
    async fn resolve(
        &self,
        repository: &blob_registry::Repository,
        target: &blob_registry::Target,
    ) -> Result<Descriptor> {
        self.inner.resolve(repository, target).await
    }
    async fn manifest(
        &self,
        repository: &blob_registry::Repository,
        target: &blob_registry::Target,
    ) -> Result<blob_registry::Manifest> {
        self.inner.manifest(repository, target).await
    }
    async fn stat_blob(&self, repository: &blob_registry::Repository, digest: &Digest) -> Result<u64> {
        self.inner.stat_blob(repository, digest).await
    }
    async fn push_blob(
        &self,
        repository: &blob_registry::Repository,
        blob: blob_registry::PushBlob,
    ) -> Result<PushedBlob> {
        self.inner.push_blob(repository, blob).await
    }
    async fn push_manifest(
        &self,
        repository: &blob_registry::Repository,
        manifest: PushManifest,
    ) -> Result<blob_registry::PushedManifest> {
        self.inner.push_manifest(repository, manifest).await
    }
    async fn tags(
        &self,
        repository: &blob_registry::Repository,
        page: &PageRequest,
    ) -> Result<blob_registry::Page<blob_registry::Tag>> {
        self.inner.tags(repository, page).await
    }
    async fn referrers(
        &self,
        repository: &blob_registry::Repository,
        subject: &Digest,
        kind: Option<&str>,
        page: &PageRequest,
    ) -> Result<blob_registry::Page<Descriptor>> {
        self.inner.referrers(repository, subject, kind, page).await
    }
}
