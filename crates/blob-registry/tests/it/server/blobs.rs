use super::{blob, start};

#[tokio::test]
async fn a_blob_is_served_with_its_names() {
    let (_server, wire, registry) = start().await;
    let digest = blob(&registry, "a/b", b"0123456789").await;
    let path = format!("/v2/a/b/blobs/{digest}");
    for method in ["GET", "HEAD"] {
        let answer = wire.send(method, &path, &[], b"").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
        assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"").as_str()));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert_eq!(answer.body, if method == "GET" { b"0123456789".as_slice() } else { b"" });
    }
}

#[tokio::test]
async fn ranges_are_exact() {
    let (_server, wire, registry) = start().await;
    let digest = blob(&registry, "a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    for (headers, status, content_range, body) in [
        (vec![("Range", "bytes=2-4")], 206, Some("bytes 2-4/10"), "234"),
        (vec![("Range", "bytes=7-")], 206, Some("bytes 7-9/10"), "789"),
        (vec![("Range", "bytes=-2")], 206, Some("bytes 8-9/10"), "89"),
        (vec![("Range", "bytes=8-100")], 206, Some("bytes 8-9/10"), "89"),
        (vec![("Range", "bytes=0-0")], 206, Some("bytes 0-0/10"), "0"),
        (vec![("Range", "bytes=0-1,4-5")], 200, None, "0123456789"),
        (vec![("Range", "bytes=2-4"), ("If-Range", &etag)], 206, Some("bytes 2-4/10"), "234"),
        (vec![("Range", "bytes=2-4"), ("If-Range", "\"other\"")], 200, None, "0123456789"),
        (vec![("If-None-Match", &etag)], 304, None, ""),
        (vec![("If-None-Match", "\"x\", *")], 304, None, ""),
        (vec![("If-None-Match", "\"x\"")], 200, None, "0123456789"),
    ] {
        let answer = wire.send("GET", &path, &headers, b"").await;
        assert_eq!(answer.status, status, "{headers:?}");
        assert_eq!(answer.header("content-range"), content_range, "{headers:?}");
        assert_eq!(String::from_utf8(answer.body).unwrap(), body, "{headers:?}");
    }
    for nothing in ["bytes=10-", "bytes=4-2"] {
        let answer = wire.send("GET", &path, &[("Range", nothing)], b"").await;
        assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */10")), "{nothing}");
        assert_eq!(answer.code(), "RANGE_INVALID");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let (_server, wire, registry) = start().await;
    let digest = blob(&registry, "a", b"x").await;
    let absent = blob_core::Digest::sha256_of(b"y");
    for (path, code) in
        [(format!("/v2/a/blobs/{absent}"), "BLOB_UNKNOWN"), (format!("/v2/b/blobs/{digest}"), "NAME_UNKNOWN")]
    {
        let answer = wire.get(&path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, code), "{path}");
        let answer = wire.send("HEAD", &path, &[], b"").await;
        assert_eq!((answer.status, answer.body.len()), (404, 0));
    }
    let answer = wire.get("/v2/a/blobs/sha256:abc").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
}

#[tokio::test]
async fn a_deleted_blob_is_gone() {
    let (_server, wire, registry) = start().await;
    let path = format!("/v2/a/blobs/{}", blob(&registry, "a", b"x").await);
    assert_eq!(wire.send("DELETE", &path, &[], b"").await.status, 202);
    assert_eq!(wire.send("DELETE", &path, &[], b"").await.status, 404);
    assert_eq!(wire.get(&path).await.status, 404);
    let answer = wire.send("PUT", &path, &[], b"x").await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"));
    assert_eq!(answer.header("allow"), Some("GET, HEAD, DELETE"));
}

/// What a disk did is the server's fault, not the client's.
#[tokio::test]
async fn a_damaged_blob_is_an_error_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let store = blob_registry::LayoutStore::open(directory.path()).await.unwrap().with_verify_in_place(true);
    let store = std::sync::Arc::new(store);
    let digest = blob(&*store, "a", b"0123456789").await;
    let file = store.directory(&"a".parse().unwrap()).join("blobs/sha256").join(digest.hex());
    std::fs::write(file, b"0123456780").unwrap();
    let server = blob_registry::Server::builder(store).bind("127.0.0.1:0").await.unwrap();
    let wire = crate::wire::Wire(server.local_addr());
    for headers in [vec![], vec![("Range", "bytes=2-4")]] {
        let answer = wire.send("GET", &format!("/v2/a/blobs/{digest}"), &headers, b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (500, "UNKNOWN"), "{headers:?}");
    }
}
