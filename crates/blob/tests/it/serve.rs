//! Registries that are put together from a description, with others behind them.

use std::sync::Arc;

use blob::registry::client::RegistryClient;
use blob::registry::memory::MemoryRegistry;
use blob::registry::server::{Server, ServerHandle};
use blob::registry::{
    ErrorCode, ImageManifest, PageRequest, PushManifest, Registry, RegistryExt as _, Repository, Tag, media_type,
};
use blob::serve::{self, Serving};
use blob::{Client, Mirror, PullOptions, PushOptions, RegistryOptions};
use blob_testkit::proxy::ProxyOptions;
use serde_json::{Value, json};

use crate::support::{at, client, tree};

fn repository() -> Repository {
    Repository::new("team/app").unwrap()
}

fn latest() -> Tag {
    Tag::new("latest").unwrap()
}

/// A registry whose `team/app:latest` says who it is.
async fn upstream(who: &str) -> (ServerHandle, PushManifest) {
    let registry = MemoryRegistry::new();
    registry.ensure_empty_config(&repository()).await.unwrap();
    let manifest = ImageManifest::artifact("a/b", vec![]).with_annotation("who", who);
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()).with_tags([latest()]);
    registry.push_manifest(&repository(), push.clone()).await.unwrap();
    (Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap(), push)
}

async fn mirror(description: Value) -> Serving {
    let mut config: serve::ServeConfig = serde_json::from_value(description).unwrap();
    config.listen = "127.0.0.1:0".parse().unwrap();
    serve::start(&config).await.unwrap()
}

fn plain(server: &ServerHandle) -> Value {
    json!({ "host": server.local_addr().to_string(), "plain_http": true })
}

fn reader(mirror: &Serving) -> RegistryClient {
    RegistryClient::builder(mirror.local_addr().to_string()).build().unwrap()
}

/// Who says what a tag means is decided by the order, whether anything is kept or not.
#[tokio::test]
async fn the_first_upstream_that_knows_a_tag_says_what_it_means() {
    let ((first, ours), (second, theirs)) = (upstream("first").await, upstream("second").await);
    let place = tempfile::tempdir().unwrap();
    for description in [
        json!({ "upstream": [plain(&first), plain(&second)] }),
        json!({ "upstream": [plain(&first), plain(&second)], "keep": false }),
        json!({ "upstream": [plain(&first), plain(&second)], "directory": place.path().join("store") }),
    ] {
        let mirror = mirror(description.clone()).await;
        for _ in 0..3 {
            let found = reader(&mirror).manifest(&repository(), &latest().into()).await.unwrap();
            assert_eq!(found.descriptor.digest, ours.digest, "{description}");
        }
        // By digest there is no question.
        reader(&mirror).manifest(&repository(), &theirs.digest.into()).await.unwrap();
        mirror.shutdown().await;
    }
    // Nobody speaks for a registry that is away, unless its word was kept.
    let mirrors = [
        mirror(json!({ "upstream": [plain(&first), plain(&second)] })).await,
        mirror(json!({ "upstream": [plain(&first), plain(&second)], "keep": false })).await,
    ];
    first.shutdown().await;
    for mirror in mirrors {
        let retry = blob::http::RetryPolicy::never();
        let client = RegistryClient::builder(mirror.local_addr().to_string()).retry(retry).build().unwrap();
        let error = client.manifest(&repository(), &latest().into()).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
}

/// A registry that cannot be asked for signatures is not one that has none.
#[tokio::test]
async fn an_upstream_that_cannot_be_asked_is_an_error_for_referrers() {
    let (origin, pushed) = upstream("origin").await;
    let mirror = mirror(json!({ "upstream": [plain(&origin)] })).await;
    let ask = async || {
        let (name, page) = (repository(), PageRequest::first());
        let client = RegistryClient::builder(mirror.local_addr().to_string())
            .retry(blob::http::RetryPolicy::never())
            .build()
            .unwrap();
        client.referrers(&name, &pushed.digest, None, &page).await
    };
    assert_eq!(ask().await.unwrap().items, []);
    origin.shutdown().await;
    let error = ask().await.unwrap_err();
    assert!(error.is_transient() && error.error_code() == ErrorCode::Unknown, "{error:?}");
}

/// One mirror stands in for two registries that have the same names.
#[tokio::test]
async fn one_mirror_serves_several_registries_by_their_names() {
    let ((first, ours), (second, theirs)) = (upstream("first").await, upstream("second").await);
    let place = tempfile::tempdir().unwrap();
    let named = |server: &ServerHandle, name: &str| {
        let mut upstream = plain(server);
        upstream["namespace"] = name.into();
        upstream
    };
    for keep in [true, false] {
        let description = json!({
            "upstream": [named(&first, "first.example"), named(&second, "second.example:5000")],
            "directory": place.path().join(format!("store-{keep}")),
            "keep": keep,
        });
        let mirror = mirror(description).await;
        let host = mirror.local_addr().to_string();
        let ask = |namespace: Option<&str>| {
            let mut options = RegistryOptions::default();
            options.namespace = namespace.map(str::to_owned);
            RegistryClient::builder(&host).options(options).build().unwrap()
        };
        for (namespace, expected) in [("first.example", &ours), ("second.example:5000", &theirs)] {
            let client = ask(Some(namespace));
            let found = client.manifest(&repository(), &latest().into()).await.unwrap();
            assert_eq!(found.descriptor.digest, expected.digest, "{namespace}");
            assert_eq!(client.resolve(&repository(), &latest().into()).await.unwrap().digest, expected.digest);
            assert_eq!(client.tags(&repository(), &PageRequest::first()).await.unwrap().items, [latest()]);
            let config = ImageManifest::parse(&found.bytes).unwrap().config.digest;
            assert_eq!(client.stat_blob(&repository(), &config).await.unwrap(), 2);
        }
        // Nobody is asked for what has no name that is known, and neither for the content of the other.
        for namespace in [None, Some("third.example")] {
            let error = ask(namespace).manifest(&repository(), &latest().into()).await.unwrap_err();
            assert!(error.is_not_found(), "{error:?}");
        }
        let error = ask(Some("first.example")).manifest(&repository(), &theirs.digest.into()).await.unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        // As a path, too.
        let below = Repository::new("second.example_5000/team/app").unwrap();
        let found = ask(None).manifest(&below, &latest().into()).await.unwrap();
        assert_eq!(found.descriptor.digest, theirs.digest);
        mirror.shutdown().await;
    }
}

/// The client tells a mirror which registry it means, and reads the archive of that one.
#[tokio::test]
async fn a_mirror_is_told_which_registry_is_meant() {
    let (one, other) = (crate::support::serve().await, crate::support::serve().await);
    let (source, decoy) = (tree(90, 12), tree(91, 5));
    let pushed = client().push(&at(one.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    client().push(&at(other.local_addr(), "v1"), decoy.path(), &PushOptions::default()).await.unwrap();
    let named = |server: &ServerHandle| {
        let mut upstream = plain(server);
        upstream["namespace"] = server.local_addr().to_string().into();
        upstream
    };
    let mirror = mirror(json!({ "upstream": [named(&other), named(&one)] })).await;
    let counted = crate::support::proxy(mirror.local_addr(), ProxyOptions::default());
    let at_mirror = Mirror::parse(&format!("http://{}?ns", counted.addr())).unwrap().with_tags(true);
    assert!(at_mirror.namespace);
    let options = RegistryOptions::default().with_mirror(at_mirror);
    let client = Client::builder().registry(&one.local_addr().to_string(), options).build().unwrap();
    let archive = client.pull(&at(one.local_addr(), "v1"), &PullOptions::default()).await.unwrap();
    assert_eq!(archive.manifest().digest(), pushed.digest());
    archive.read("run.sh").await.unwrap();
    let asked = counted.requests();
    assert!(asked.iter().any(|seen| seen.path.contains("/manifests/")), "{asked:?}");
    assert!(asked.iter().all(|seen| seen.query.iter().any(|name| name == "ns")), "{asked:?}");
}

/// A full mirror still hands on what it reads.
#[tokio::test]
async fn what_has_no_room_is_not_kept_and_read_all_the_same() {
    let (server, push) = upstream("far").await;
    let place = tempfile::tempdir().unwrap();
    let limits = json!({ "total_bytes": 1 });
    let directory = place.path().join("store");
    let mirror = mirror(json!({ "upstream": [plain(&server)], "directory": directory, "limits": limits })).await;
    let client = reader(&mirror);
    for _ in 0..2 {
        let found = client.manifest(&repository(), &latest().into()).await.unwrap();
        assert_eq!(found.bytes, push.bytes);
        let empty = blob::core::Digest::sha256_of(b"{}");
        let reader = client.read_blob(&repository(), &empty, None).await.unwrap();
        let bytes: Vec<_> = futures_util::TryStreamExt::try_collect(reader.stream).await.unwrap();
        assert_eq!(bytes.concat(), b"{}");
    }
    let error = client.ensure_empty_config(&Repository::new("own").unwrap()).await.unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::Denied);
    let blobs = |algorithm: &str| std::fs::read_dir(directory.join("team/app/_layout/blobs").join(algorithm));
    assert_eq!(blobs("sha256").map_or(0, Iterator::count), 0, "nothing was kept");
}
