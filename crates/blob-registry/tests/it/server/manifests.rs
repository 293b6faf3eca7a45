use std::sync::Arc;

use blob_core::{Algorithm, Digest};

use blob_registry::{LayoutStore, MemoryRegistry, Registry, Server};

use super::{MANIFEST, artifact, start};
use crate::wire::Wire;

const TYPED: [(&str, &str); 1] = [("Content-Type", MANIFEST)];

#[tokio::test]
async fn a_manifest_is_found_by_tag_and_digest() {
    let (_server, wire, registry) = start().await;
    let bytes = artifact(&registry, "a", "1", None).await;
    let digest = Digest::sha256_of(&bytes).to_string();
    let answer = wire.send("PUT", "/v2/a/manifests/v1", &TYPED, &bytes).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(answer.header("location"), Some(format!("/v2/a/manifests/{digest}").as_str()));
    assert_eq!((answer.header("oci-subject"), answer.header("oci-tag")), (None, None));
    for reference in ["v1", &digest] {
        for method in ["GET", "HEAD"] {
            let path = format!("/v2/a/manifests/{reference}");
            let answer = wire.send(method, &path, &[("Accept", "text/html")], b"").await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.header("content-type"), Some(MANIFEST));
            assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()));
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(answer.body, if method == "GET" { bytes.as_slice() } else { b"" });
            let etag = answer.header("etag").unwrap().to_owned();
            assert_eq!(wire.send(method, &path, &[("If-None-Match", &etag)], b"").await.status, 304);
        }
    }
}

#[tokio::test]
async fn one_push_by_digest_sets_many_tags() {
    let (_server, wire, registry) = start().await;
    let bytes = artifact(&registry, "a", "1", None).await;
    for digest in [Digest::sha256_of(&bytes), Digest::of(Algorithm::Sha512, &bytes)] {
        let path = format!("/v2/a/manifests/{digest}?tag=x&tag=y");
        let answer = wire.send("PUT", &path, &TYPED, &bytes).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.all("oci-tag"), ["x", "y"]);
        for tag in ["x", "y"] {
            let answer = wire.get(&format!("/v2/a/manifests/{tag}")).await;
            assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
        }
    }
    let digest = Digest::sha256_of(&bytes);
    let answer = wire.send("PUT", &format!("/v2/a/manifests/{digest}?tag=.x"), &TYPED, &bytes).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_INVALID"));
    let other = Digest::sha256_of(b"other");
    let answer = wire.send("PUT", &format!("/v2/a/manifests/{other}"), &TYPED, &bytes).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
}

#[tokio::test]
async fn tags_move_on_condition() {
    let (_server, wire, registry) = start().await;
    let one = artifact(&registry, "a", "1", None).await;
    let two = artifact(&registry, "a", "2", None).await;
    let etag = |bytes: &[u8]| format!("\"{}\"", Digest::sha256_of(bytes));
    let put = |condition: String, bytes: Vec<u8>| async move {
        let headers = [TYPED[0], ("If-Match", condition.as_str())];
        wire.send("PUT", "/v2/a/manifests/v1", &headers, &bytes).await
    };
    assert_eq!(put(etag(&one), one.clone()).await.status, 412);
    assert_eq!(wire.send("PUT", "/v2/a/manifests/v1", &TYPED, &one).await.status, 201);
    let answer = put(etag(&two), two.clone()).await;
    assert_eq!((answer.status, answer.code().as_str()), (412, "PRECONDITION_FAILED"));
    assert_eq!(wire.get("/v2/a/manifests/v1").await.body, one);
    assert_eq!(put(etag(&one), two.clone()).await.status, 201);
    assert_eq!(wire.get("/v2/a/manifests/v1").await.body, two);
    assert_eq!(put("*".into(), two.clone()).await.status, 400);
    let headers = [TYPED[0], ("If-None-Match", "\"x\"")];
    assert_eq!(wire.send("PUT", "/v2/a/manifests/v1", &headers, &two).await.status, 400);
}

#[tokio::test]
async fn bad_manifests_are_refused() {
    let (_server, wire, registry) = start().await;
    let good = String::from_utf8(artifact(&registry, "a", "1", None).await).unwrap();
    let index = blob_registry::media_type::IMAGE_INDEX;
    let absent = Digest::sha256_of(b"absent");
    let layer = format!(r#""layers":[{{"mediaType":"a/b","digest":"{absent}","size":6}}]"#);
    let long = good.clone() + &" ".repeat(4 << 20);
    for (media_type, bytes, status, code) in [
        (MANIFEST, "", 400, "MANIFEST_INVALID"),
        (MANIFEST, "{", 400, "MANIFEST_INVALID"),
        (index, good.as_str(), 400, "MANIFEST_INVALID"),
        (MANIFEST, &good.replace("\"layers\"", "\"manifests\":[],\"layers\""), 400, "MANIFEST_INVALID"),
        (MANIFEST, &good.replace("{\"schema", "{\"schemaVersion\":2,\"schema"), 400, "MANIFEST_INVALID"),
        (MANIFEST, &good.replace("\"layers\":[]", &layer), 404, "MANIFEST_BLOB_UNKNOWN"),
        (MANIFEST, &long, 413, "SIZE_INVALID"),
    ] {
        let answer = wire.send("PUT", "/v2/a/manifests/v1", &[("Content-Type", media_type)], bytes.as_bytes()).await;
        let shown = &bytes[..bytes.len().min(300)];
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{media_type} {shown}");
    }
    for (path, code) in [("/v2/a/manifests/.x", "MANIFEST_INVALID"), ("/v2/A/manifests/x", "NAME_INVALID")] {
        let answer = wire.send("PUT", path, &TYPED, good.as_bytes()).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{path}");
    }
    assert_eq!(wire.get("/v2/a/manifests/.x").await.code(), "MANIFEST_UNKNOWN");
    let without_type = wire.send("PUT", "/v2/a/manifests/v1", &[], good.as_bytes()).await;
    assert_eq!(without_type.status, 201);
}

#[tokio::test]
async fn deleting_a_tag_leaves_the_manifest_and_deleting_the_manifest_takes_its_tags() {
    let (_server, wire, registry) = start().await;
    let bytes = artifact(&registry, "a", "1", None).await;
    let by_digest = format!("/v2/a/manifests/{}", Digest::sha256_of(&bytes));
    for tag in ["x", "y"] {
        wire.send("PUT", &format!("/v2/a/manifests/{tag}"), &TYPED, &bytes).await;
    }
    assert_eq!(wire.send("DELETE", "/v2/a/manifests/x", &[], b"").await.status, 202);
    let answer = wire.get("/v2/a/manifests/x").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "MANIFEST_UNKNOWN"));
    assert_eq!(wire.get(&by_digest).await.status, 200);
    assert_eq!(wire.send("DELETE", &by_digest, &[], b"").await.status, 202);
    assert_eq!(wire.get("/v2/a/manifests/y").await.status, 404);
    assert_eq!(wire.send("DELETE", &by_digest, &[], b"").await.status, 404);
}

/// A manifest whose file has other bytes of the same length is mended by whoever pushes it again.
#[tokio::test]
async fn a_push_mends_what_was_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap();
    let push = crate::kit::put_artifact(&store, "a", "layer", &["v1"]).await;
    let file = directory.path().join("a/_layout/blobs/sha256").join(push.digest.hex());
    std::fs::write(&file, "{}".repeat(push.bytes.len() / 2) + &" ".repeat(push.bytes.len() % 2)).unwrap();
    let server = Server::builder(Arc::new(store)).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    assert_ne!(wire.get("/v2/a/manifests/v1").await.status, 200);
    let kind = [("Content-Type", push.media_type.as_str())];
    assert_eq!(wire.send("PUT", "/v2/a/manifests/v1", &kind, &push.bytes).await.status, 201);
    assert_eq!(wire.get("/v2/a/manifests/v1").await.status, 200);
}

/// Manifests are no blobs, in memory and on disk.
#[tokio::test]
async fn the_digest_of_a_manifest_is_no_blob() {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap();
    for registry in [Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>, Arc::new(store)] {
        let push = crate::kit::put_artifact(&*registry, "a", "layer", &["v1"]).await;
        let server = Server::builder(Arc::clone(&registry)).bind("127.0.0.1:0").await.unwrap();
        let wire = Wire(server.local_addr());
        assert_eq!(wire.get(&format!("/v2/a/blobs/{}", push.digest)).await.status, 404);
        assert_eq!(wire.send("HEAD", &format!("/v2/a/blobs/{}", push.digest), &[], b"").await.status, 404);
        let client = crate::client::client(server.local_addr());
        let kind = blob_registry::resolve_any(&client, &crate::kit::repository("a"), &push.digest, None).await.unwrap();
        assert!(matches!(kind, blob_registry::Kind::Manifest(_)), "{kind:?}");
    }
}

/// A tag that nobody set can be claimed by one alone, and again by the same.
#[tokio::test]
async fn tags_are_set_once_on_condition() {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap();
    for registry in [Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>, Arc::new(store)] {
        let one = crate::kit::put_artifact(&*registry, "a", "one", &[]).await;
        let two = crate::kit::put_artifact(&*registry, "a", "two", &[]).await;
        let server = Server::builder(registry).bind("127.0.0.1:0").await.unwrap();
        let wire = Wire(server.local_addr());
        let headers = [("Content-Type", one.media_type.as_str()), ("If-None-Match", "*")];
        for (push, status) in [(&one, 201), (&two, 412), (&one, 201)] {
            assert_eq!(wire.send("PUT", "/v2/a/manifests/v1", &headers, &push.bytes).await.status, status);
        }
        let tagged = format!("/v2/a/manifests/{}?tag=v2&tag=v1", two.digest);
        assert_eq!(wire.send("PUT", &tagged, &headers, &two.bytes).await.status, 412);
        assert_eq!(wire.get("/v2/a/manifests/v2").await.status, 404, "all tags or none");
    }
}
