use std::sync::Arc;

use blob_core::{Algorithm, Digest};
use blob_registry::server::ServerLimits;
use blob_registry::{MemoryRegistry, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{blob, start};
use crate::wire::{Answer, Wire};

async fn open(wire: Wire) -> String {
    let answer = wire.send("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("content-length"), Some("0"));
    answer.header("location").unwrap().to_owned()
}

fn location(answer: &Answer) -> String {
    answer.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn every_way_to_upload_ends_in_the_blob() {
    let (_server, wire, _registry) = start().await;
    let content = b"hello world";
    for digest in [Digest::sha256_of(content), Digest::of(Algorithm::Sha512, content)] {
        let blob = format!("/v2/a/blobs/{digest}");
        let finished = |answer: Answer| {
            assert_eq!(answer.status, 201, "{answer:?}");
            assert_eq!(location(&answer), blob);
            assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
        };
        let gone = || async { assert_eq!(wire.send("DELETE", &blob, &[], b"").await.status, 202) };

        finished(wire.send("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], content).await);
        gone().await;

        let session = open(wire).await;
        finished(wire.send("PUT", &format!("{session}?digest={digest}"), &[], content).await);
        gone().await;

        let session = open(wire).await;
        let answer = wire.send("PATCH", &session, &[("Content-Range", "0-4")], b"hello").await;
        assert_eq!((answer.status, answer.header("range")), (202, Some("0-4")));
        let answer = wire.send("GET", &location(&answer), &[], b"").await;
        assert_eq!((answer.status, answer.header("range")), (204, Some("0-4")));
        let answer = wire.send("PATCH", &location(&answer), &[], b" wor").await;
        assert_eq!((answer.status, answer.header("range")), (202, Some("0-8")));
        let last = format!("{}?digest={}", location(&answer), digest.to_string().replace(':', "%3A"));
        finished(wire.send("PUT", &last, &[("Content-Range", "9-10")], b"ld").await);
        assert_eq!(wire.get(&blob).await.body, content);
        gone().await;
    }
}

#[tokio::test]
async fn chunks_out_of_order_are_told_where_to_go_on() {
    let (_server, wire, _registry) = start().await;
    let digest = Digest::sha256_of(b"hello");
    let session = open(wire).await;
    wire.send("PATCH", &session, &[("Content-Range", "0-2")], b"hel").await;
    let put = format!("{session}?digest={digest}");
    for (method, path, range) in [("PATCH", &session, "2-3"), ("PATCH", &session, "4-5"), ("PUT", &put, "0-1")] {
        let answer = wire.send(method, path, &[("Content-Range", range)], b"xx").await;
        assert_eq!((answer.status, answer.header("range")), (416, Some("0-2")), "{method} {range}");
        assert!(answer.header("location").unwrap().starts_with("/v2/a/blobs/uploads/"));
        assert_eq!(answer.code(), "BLOB_UPLOAD_INVALID");
    }
    for (range, status) in [("3-9", 400), ("x", 400), ("4-3", 400)] {
        let answer = wire.send("PATCH", &session, &[("Content-Range", range)], b"xx").await;
        assert_eq!(answer.status, status, "{range}");
    }
    assert_eq!(wire.send("PUT", &put, &[("Content-Range", "3-4")], b"lo").await.status, 201);
}

#[tokio::test]
async fn wrong_content_is_refused_and_not_kept() {
    let (_server, wire, _registry) = start().await;
    let digest = Digest::sha256_of(b"right");
    let answer = wire.send("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], b"wrong").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
    let session = open(wire).await;
    for path in [session.clone(), format!("{session}?digest=sha256:abc"), format!("{session}?digest=md5:00")] {
        let answer = wire.send("PUT", &path, &[], b"right").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"), "{path}");
    }
    let answer = wire.send("PUT", &format!("{session}?digest={digest}"), &[], b"wrong").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(wire.get(&format!("/v2/a/blobs/{digest}")).await.status, 404);
}

#[tokio::test]
async fn sessions_can_be_cancelled_and_unknown_ones_are_404() {
    let (_server, wire, _registry) = start().await;
    let session = open(wire).await;
    assert_eq!(wire.send("DELETE", &session, &[], b"").await.status, 204);
    let elsewhere = open(wire).await.replace("/v2/a/", "/v2/b/");
    for path in [session, elsewhere, "/v2/a/blobs/uploads/bm9uZQ".to_owned()] {
        for method in ["GET", "PATCH", "DELETE"] {
            let answer = wire.send(method, &path, &[], b"").await;
            assert_eq!((answer.status, answer.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn mounts_move_no_bytes_or_become_sessions() {
    let (_server, wire, registry) = start().await;
    let digest = blob(&registry, "from/here", b"content").await;
    for (query, name) in [(format!("mount={digest}&from=from/here"), "x"), (format!("mount={digest}"), "y")] {
        let answer = wire.send("POST", &format!("/v2/{name}/blobs/uploads/?{query}"), &[], b"").await;
        assert_eq!(answer.status, 201, "{query}");
        assert_eq!(wire.get(&location(&answer)).await.body, b"content");
    }
    let absent = Digest::sha256_of(b"absent");
    for query in [format!("mount={absent}&from=from/here"), format!("mount={digest}&from=no/where")] {
        let answer = wire.send("POST", &format!("/v2/z/blobs/uploads/?{query}"), &[], b"").await;
        assert_eq!(answer.status, 202, "{query}");
        assert_eq!(wire.get(&location(&answer)).await.status, 204);
    }
    let answer = wire.send("POST", &format!("/v2/z/blobs/uploads/?mount={digest}&from=../x"), &[], b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "NAME_INVALID"));
    let answer = wire.send("POST", "/v2/z/blobs/uploads/?digest-algorithm=md5", &[], b"").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_broken_body_keeps_what_came() {
    let (_server, wire, _registry) = start().await;
    let session = open(wire).await;
    let mut stream = tokio::net::TcpStream::connect(wire.0).await.unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let answer = wire.get(&session).await;
    assert_eq!((answer.status, answer.header("range")), (204, Some("0-4")));
    let put = format!("{session}?digest={}", Digest::sha256_of(b"hello world"));
    assert_eq!(wire.send("PUT", &put, &[("Content-Range", "5-10")], b" world").await.status, 201);
}

#[tokio::test]
async fn blobs_over_the_limit_are_refused() {
    let mut limits = ServerLimits::default();
    limits.max_upload_bytes = Some(8);
    let server = Server::builder(Arc::new(MemoryRegistry::new())).limits(limits).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let digest = Digest::sha256_of(b"123456789");
    let answer = wire.send("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], b"123456789").await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "SIZE_INVALID"));
    let session = open(wire).await;
    assert_eq!(wire.send("PATCH", &session, &[], b"12345").await.status, 202);
    assert_eq!(wire.send("PATCH", &session, &[], b"6789").await.status, 413);
    let chunked = [("Transfer-Encoding", "chunked")];
    let answer = wire.raw("PATCH", &session, &chunked, b"4\r\n6789\r\n0\r\n\r\n").await;
    assert_eq!(answer.status, 413);
}

/// An id of a session is the word of a client. It must not make a registry behind the server send requests of its choice.
#[tokio::test]
async fn a_forged_session_leads_nowhere() {
    use blob_registry::client::RegistryClient;
    use blob_registry::unify::{Unify, UnifyOptions};
    use blob_registry::{Registry, Repository};

    let (_upstream, upstream, kept) = start().await;
    let victim = blob(&kept, "victim", b"precious").await;
    let client = || Arc::new(RegistryClient::builder(upstream.0.to_string()).build().unwrap()) as Arc<dyn Registry>;
    let members = vec![Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>, client()];
    let pull_through = Arc::new(Unify::new(members, UnifyOptions::cache()));
    let target = format!("0 http://{}/v2/victim/blobs/{victim}", upstream.0);
    let manifest = format!("0 http://{}/v2/a/manifests/v1", upstream.0);
    for (registry, id) in [
        (Arc::clone(&pull_through) as Arc<dyn Registry>, format!("1.{}", base64(&target))),
        (pull_through, format!("0.{}~1.{}", base64("x"), base64(&target))),
        (client(), target),
        (client(), manifest),
    ] {
        let server = Server::builder(registry).bind("127.0.0.1:0").await.unwrap();
        let wire = Wire(server.local_addr());
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let path = format!("/v2/a/blobs/uploads/{}?digest={victim}", base64(&id));
            let answer = wire.send(method, &path, &[], b"").await;
            assert_eq!((answer.status, answer.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"), "{method} {id}");
        }
        let read_only = Server::builder(client()).read_only(true).bind("127.0.0.1:0").await.unwrap();
        let path = format!("/v2/a/blobs/uploads/{}", base64(&id));
        assert_eq!(Wire(read_only.local_addr()).get(&path).await.code(), "UNSUPPORTED");
    }
    assert_eq!(kept.stat_blob(&Repository::new("victim").unwrap(), &victim).await.unwrap(), 8);
}

/// In the alphabet of URLs, unpadded.
fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}
