//! Killed writers: what they were writing is not there, what they had written is.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;

use blob_core::source::{ByteStream, SourceError, SourceId};
use blob_core::{ByteSource, Digest, Local};
use blob_registry::{LayoutRegistry, Outline, PageRequest, PushBlob, Registry, UploadId};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::processes::{again, argument};
use super::{artifact, files, layout, put, repository, tag};

/// Starts `test` again and waits until it says that it is ready; gives what it said.
fn started(test: &str, argument: &str) -> (Child, String) {
    let mut child = again(test, argument).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map(Result::unwrap).find_map(|line| line.split_once("ready ").map(|(_, said)| said.to_owned()));
    (child, said.expect("the child was ready"))
}

/// Three megabytes, and then nothing for ever.
#[derive(Debug)]
struct Endless(SourceId);

#[async_trait::async_trait]
impl ByteSource for Endless {
    fn id(&self) -> &SourceId {
        &self.0
    }

    fn size(&self) -> u64 {
        1 << 30
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, _: std::ops::Range<u64>) -> Result<ByteStream, SourceError> {
        let chunk = Bytes::from(vec![7; 1 << 20]);
        let told = stream::once(async {
            println!("ready 3");
            std::future::pending().await
        });
        Ok(stream::iter([Ok(chunk.clone()), Ok(chunk.clone()), Ok(chunk)]).chain(told).boxed())
    }
}

#[tokio::test]
async fn child_that_pushes() {
    let Some(path) = argument() else { return };
    let layout = LayoutRegistry::open_or_create(path).await.unwrap();
    let push = PushBlob::new(Digest::sha256_of(b"never"), Arc::new(Endless(SourceId::new("endless"))));
    layout.push_blob(&repository(), push).await.unwrap();
}

#[tokio::test]
async fn a_killed_push_leaves_no_half_blob() {
    let (_directory, path, layout) = layout().await;
    let whole = put(&layout, b"whole").await;
    let (mut child, _) = started("layout::crash::child_that_pushes", path.to_str().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(files(&path.join("blobs")), [format!("sha256/{}", whole.hex())]);
    assert_eq!(files(&path.join(".blob/tmp")).len(), 1, "what it was writing is a temporary file");
    let layout = LayoutRegistry::open_or_create(&path).await.unwrap();
    assert!(layout.stat_blob(&repository(), &Digest::sha256_of(b"never")).await.unwrap_err().is_not_found());
    put(&layout, b"never").await;
}

#[tokio::test]
async fn child_that_uploads() {
    let Some(path) = argument() else { return };
    let layout = LayoutRegistry::open_or_create(path).await.unwrap();
    let mut upload = layout.start_upload(&repository()).await.unwrap();
    upload.append(Bytes::from_static(b"hello")).await.unwrap();
    println!("ready {}", upload.id().as_str());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_upload_goes_on_where_it_was() {
    let (_directory, path, layout) = layout().await;
    let (mut child, id) = started("layout::crash::child_that_uploads", path.to_str().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(files(&path.join("blobs")), [""; 0]);
    let mut upload = layout.resume_upload(&repository(), &UploadId::new(id)).await.unwrap();
    assert_eq!(upload.offset(), 5);
    upload.append(Bytes::from_static(b" world")).await.unwrap();
    let digest = Digest::sha256_of(b"hello world");
    upload.commit(&digest).await.unwrap();
    assert_eq!(layout.stat_blob(&repository(), &digest).await.unwrap(), 11);
}

#[tokio::test]
async fn child_that_tags_for_ever() {
    let Some(path) = argument() else { return };
    let layout = LayoutRegistry::open_or_create(path).await.unwrap();
    for number in 0.. {
        let mark = format!("{}-{number}", std::process::id());
        let push = artifact(&layout, &mark).await.with_tags([tag(&mark), tag("latest")]);
        layout.push_manifest(&repository(), push).await.unwrap();
        if number == 2 {
            println!("ready 3");
        }
    }
}

/// Killed anywhere between two system calls: whatever the index lists is there, whole.
#[tokio::test]
async fn killed_writers_leave_an_index_of_what_is_there() {
    let (_directory, path, layout) = layout().await;
    for round in 1..=5 {
        let (mut child, _) = started("layout::crash::child_that_tags_for_ever", path.to_str().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        let tags = layout.tags(&repository(), &PageRequest::first()).await.unwrap().items;
        assert!(tags.len() > 3 * round, "round {round}: {tags:?}");
        for tag in tags {
            let manifest = layout.manifest(&repository(), &tag.into()).await.unwrap();
            for blob in Outline::parse(&manifest.bytes).unwrap().blobs {
                let reader = layout.read_blob(&repository(), &blob.digest, None).await.unwrap();
                let content: Vec<Bytes> = reader.stream.try_collect().await.unwrap();
                assert_eq!(Digest::sha256_of(&content.concat()), blob.digest);
            }
        }
    }
}
