//! What goes wrong says what it is.

use std::sync::Arc;
use std::time::Duration;

use blob::http::retry::RetryPolicy;
use blob::registry::memory::MemoryRegistry;
use blob::registry::server::{Auth, Server};
use blob::registry::{Descriptor, ImageManifest, PushManifest, Registry as _, Repository, media_type};
use blob::{
    ARTIFACT_TYPE, Client, DATA_MEDIA_TYPE, Error, ErrorKind, INDEX_MEDIA_TYPE, Limits, PullOptions, PushOptions,
};

use crate::support::{at, client, serve, tree};

async fn pull_error(client: &Client, location: &blob::Location) -> Error {
    client.pull(location, &PullOptions::default()).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn texts_that_are_not_references() {
    for text in ["not-a-valid-ref", "://missing-scheme", "", "host/UPPER:v1", "oci:"] {
        let error = text.parse::<blob::Location>().unwrap_err();
        assert!(error.is_invalid_reference(), "{text}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    let bare: blob::Location = "localhost:1/repo".parse().unwrap();
    assert!(pull_error(&client(), &bare).await.is_invalid_reference());
    let error = client().push(&bare, std::path::Path::new("."), &PushOptions::default()).await.unwrap_err();
    assert!(error.is_invalid_reference());
}

#[tokio::test]
async fn what_does_not_exist() {
    let server = serve().await;
    let error = pull_error(&client(), &at(server.local_addr(), "nope")).await;
    assert!(error.is_not_found(), "{error:?}");
    let error = pull_error(&client(), &"oci:/does/not/exist:v1".parse().unwrap()).await;
    assert!(error.is_not_found(), "{error:?}");
    let source = tree(30, 2);
    let location = at(server.local_addr(), "v1");
    client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
    let archive = client().pull(&location, &PullOptions::default()).await.unwrap();
    for path in ["nope", "a/nope", "../escape", "/absolute/path", "a.txt/x"] {
        let error = Error::from(archive.read(path).await.unwrap_err());
        assert!(error.is_not_found() || error.kind() == ErrorKind::General, "{path}: {error:?}");
    }
    let missing = std::path::Path::new("/does/not/exist");
    let error = client().push(&location, missing, &PushOptions::default()).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
}

#[tokio::test]
async fn credentials_that_are_missing_or_wrong() {
    let registry = Arc::new(MemoryRegistry::new());
    for auth in [Auth::basic("test"), Auth::bearer("test")] {
        let server =
            Server::builder(registry.clone()).auth(auth.user("me", "right")).bind("127.0.0.1:0").await.unwrap();
        let (location, source) = (at(server.local_addr(), "v1"), tree(31, 2));
        let host = server.local_addr().to_string();
        let with = |password: &str| Client::builder().static_credentials(&host, "me", password).build().unwrap();
        for client in [client(), with("wrong")] {
            let error = pull_error(&client, &location).await;
            assert!(error.is_unauthorized(), "{error:?}");
            let error = client.push(&location, source.path(), &PushOptions::default()).await.unwrap_err();
            assert!(error.is_unauthorized(), "{error:?}");
            let shown = format!("{error:?} {error}");
            assert!(!shown.contains("wrong"), "{shown}");
        }
        with("right").push(&location, source.path(), &PushOptions::default()).await.unwrap();
        with("right").pull(&location, &PullOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_listens() {
    let mut retry = RetryPolicy::default();
    retry.max_attempts = 2;
    retry.base = Duration::from_millis(1);
    let client = Client::builder().retry(retry).build().unwrap();
    let error = pull_error(&client, &"127.0.0.1:1/repo:v1".parse().unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
}

#[tokio::test]
async fn manifests_that_are_not_archives() {
    let registry = Arc::new(MemoryRegistry::new());
    let server = Server::builder(registry.clone()).bind("127.0.0.1:0").await.unwrap();
    let repository = Repository::new("team/project").unwrap();
    for bytes in [&b"{}"[..], b"index", b"data"] {
        let blob = blob::registry::PushBlob::new(
            blob::core::Digest::sha256_of(bytes),
            Arc::new(blob::core::MemorySource::new(bytes)),
        );
        registry.push_blob(&repository, blob).await.unwrap();
    }
    let (index, data) = (Descriptor::of(INDEX_MEDIA_TYPE, b"index"), Descriptor::of(DATA_MEDIA_TYPE, b"data"));
    let push = async |tag: &str, artifact_type: &str, layers: &[&Descriptor]| {
        let manifest = ImageManifest::artifact(artifact_type, layers.iter().map(|&layer| layer.clone()).collect());
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()).with_tags([tag.parse().unwrap()]);
        registry.push_manifest(&repository, push).await.unwrap();
        pull_error(&client(), &at(server.local_addr(), tag)).await
    };
    assert!(push("image", "application/vnd.oci.image.config.v1+json", &[&index, &data]).await.is_invalid_manifest());
    assert!(push("no-index", ARTIFACT_TYPE, &[&data]).await.is_missing_index());
    assert!(push("no-data", ARTIFACT_TYPE, &[&index]).await.is_missing_data());
    assert!(push("three", ARTIFACT_TYPE, &[&index, &data, &Descriptor::empty()]).await.is_invalid_manifest());
    // The digests are right, but the index is none.
    let error = push("not-an-index", ARTIFACT_TYPE, &[&index, &data]).await;
    assert!(matches!(error, Error::Index { .. }), "{error:?}");
}

#[tokio::test]
async fn an_index_that_belongs_to_other_data() {
    let registry = Arc::new(MemoryRegistry::new());
    let server = Server::builder(registry.clone()).bind("127.0.0.1:0").await.unwrap();
    let location = at(server.local_addr(), "v1");
    let pushed = client().push(&location, tree(32, 2).path(), &PushOptions::default()).await.unwrap();
    let text = String::from_utf8(pushed.manifest.as_bytes().to_vec()).unwrap();
    let empty = Descriptor::empty();
    for (from, to) in [
        (pushed.manifest.data().digest.to_string(), empty.digest.to_string()),
        (format!("\"size\":{}}}]", pushed.manifest.data().size), "\"size\":2}]".to_owned()),
    ] {
        let swapped = text.replace(&from, &to);
        assert_ne!(swapped, text);
        let tag = if from.starts_with("sha256") { "other" } else { "size" };
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, swapped).with_tags([tag.parse().unwrap()]);
        registry.push_manifest(&Repository::new("team/project").unwrap(), push).await.unwrap();
        let error = pull_error(&client(), &at(server.local_addr(), tag)).await;
        assert_eq!(error.kind(), ErrorKind::HashMismatch, "{error:?}");
    }
}

#[tokio::test]
async fn limits_are_kept() {
    let (server, source) = (serve().await, tree(33, 10));
    let location = at(server.local_addr(), "v1");
    let mut few = PushOptions::default();
    few.create.max_files = 5;
    let error = client().push(&location, source.path(), &few).await.unwrap_err();
    assert!(error.is_too_many_files(), "{error:?}");
    assert!(client().resolve(&location).await.unwrap_err().is_not_found(), "nothing was pushed");

    client().push(&location, source.path(), &PushOptions::default()).await.unwrap();
    let limited = |change: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        Client::builder().limits(limits).build().unwrap()
    };
    let error = pull_error(&limited(&|limits| limits.max_index_bytes = 100), &location).await;
    assert!(format!("{error:?}").contains("TooLarge"), "{error:?}");
    let error = pull_error(&limited(&|limits| limits.max_entries = 3), &location).await;
    assert!(matches!(error, Error::Index { .. }), "{error:?}");
    let small = limited(&|limits| limits.max_file_bytes = 50);
    let archive = small.pull(&location, &PullOptions::default()).await.unwrap();
    assert!(archive.read("a-b").await.is_ok());
    assert!(archive.read("a.txt").await.is_err());
}
