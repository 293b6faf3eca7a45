use std::sync::Arc;
use std::time::Duration;

use blob_core::Digest;
use blob_registry::server::ServerLimits;
use blob_registry::{MemoryRegistry, Server};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{blob, start};
use crate::wire::{Wire, read_answer};

#[tokio::test]
async fn path_tricks_lead_nowhere() {
    let (_server, wire, registry) = start().await;
    blob(&registry, "a", b"x").await;
    for path in [
        "/v2/a/../a/tags/list",
        "/v2/%2e%2e/a/tags/list",
        "/v2/a%2ftags/list",
        "/v2/a%00/tags/list",
        "/v2//a/tags/list",
        "/v2/a//tags/list",
        "/v3/",
        "/",
        "/etc/passwd",
    ] {
        let answer = wire.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(answer.json()["errors"][0]["code"].is_string());
    }
}

#[tokio::test]
async fn http_2_without_tls_is_spoken() {
    let (_server, wire, registry) = start().await;
    let digest = blob(&registry, "a", b"0123456789").await;
    let stream = TokioIo::new(TcpStream::connect(wire.0).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
    let driver = tokio::spawn(connection);
    for (method, body) in [("GET", "0123456789"), ("HEAD", "")] {
        let uri = format!("http://{}/v2/a/blobs/{digest}", wire.0);
        let request = http::Request::builder().method(method).uri(uri).body(Empty::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-length"], "10");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
    drop(sender);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn bodies_beyond_the_memory_for_them_are_refused() {
    let mut limits = ServerLimits::default();
    limits.max_buffered_bytes = 1000;
    limits.header_timeout = Duration::from_secs(2);
    let builder = Server::builder(Arc::new(MemoryRegistry::new())).limits(limits);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let put = || wire.send("PUT", "/v2/a/manifests/x", &[("Content-Type", "application/b")], b"{{");
    assert_eq!(put().await.status, 400, "there is room, and it is no manifest");
    let mut slow = TcpStream::connect(wire.0).await.unwrap();
    let head = "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
    slow.write_all(format!("{head}{}", "x".repeat(999)).as_bytes()).await.unwrap();
    let refused = loop {
        let answer = put().await;
        // Until the slow one has come.
        if answer.status != 400 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(wire.get("/v2/").await.status, 200, "what holds nothing goes on");
    drop(slow);
    while put().await.status != 400 {}
}

#[tokio::test]
async fn clients_that_say_nothing_are_dropped() {
    let mut limits = ServerLimits::default();
    limits.header_timeout = Duration::from_millis(100);
    limits.idle_timeout = Duration::from_millis(100);
    let server = Server::builder(Arc::new(MemoryRegistry::new())).limits(limits).bind("127.0.0.1:0").await.unwrap();
    for begun in ["", "P", "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b"] {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Reset or end: the connection is over.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{begun}");
    }
    let wire = Wire(server.local_addr());
    let session = wire.send("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let location = session.header("location").unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 408);
    assert_eq!(wire.get(location).await.header("range"), Some("0-4"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let mut limits = ServerLimits::default();
    limits.idle_timeout = Duration::from_millis(100);
    let registry = MemoryRegistry::new();
    let content: &'static [u8] = Box::leak(vec![7_u8; 64 << 20].into_boxed_slice());
    let digest = blob(&registry, "a", content).await;
    let server = Server::builder(Arc::new(registry)).limits(limits).bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let head = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that waits for ever would send everything to whoever begins to read at last.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut taken = Vec::new();
    let _ = stream.read_to_end(&mut taken).await;
    assert!(taken.len() < content.len(), "{}", taken.len());
}

#[tokio::test]
async fn bodies_that_do_not_come_take_no_room() {
    let mut limits = ServerLimits::default();
    limits.max_buffered_bytes = 10_000;
    limits.header_timeout = Duration::from_secs(1);
    let builder = Server::builder(Arc::new(MemoryRegistry::new())).limits(limits);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        let head = b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\nx";
        stream.write_all(head).await.unwrap();
        idle.push(stream);
    }
    let put = Wire(server.local_addr()).send("PUT", "/v2/a/manifests/x", &[], b"{}").await;
    assert_eq!(put.status, 400, "refused for what it is, not for want of room");
}

#[tokio::test]
async fn whole_bodies_have_to_come_in_time() {
    let mut limits = ServerLimits::default();
    limits.max_manifest_bytes = 10_000;
    limits.header_timeout = Duration::from_millis(300);
    let builder = Server::builder(Arc::new(MemoryRegistry::new())).limits(limits);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n").await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answer = [0; 12];
    // Each byte comes long before a body counts as silent.
    let dripping = async {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        read = reader.read_exact(&mut answer) => assert_eq!(read.unwrap(), 12),
        () = dripping => {}
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
}

/// A client of HTTP/2 whose streams take `window` bytes before it says that it wants more, which it never does.
async fn multiplexed(wire: Wire, window: u32) -> (SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TokioIo::new(TcpStream::connect(wire.0).await.unwrap());
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

#[tokio::test]
async fn an_http_2_client_that_takes_nothing_is_dropped() {
    let mut limits = ServerLimits::default();
    limits.idle_timeout = Duration::from_millis(300);
    let registry = MemoryRegistry::new();
    let digest = blob(&registry, "a", vec![7; 100_000].leak()).await;
    let server = Server::builder(Arc::new(registry)).limits(limits).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let (mut sender, driver) = multiplexed(wire, 0).await;
    let get = |path: &str| http::Request::get(format!("http://{}{path}", wire.0)).body(Empty::new()).unwrap();
    let stuck = sender.send_request(get(&format!("/v2/a/blobs/{digest}"))).await.unwrap();
    assert_eq!(stuck.status(), 200);
    assert!(driver.await.unwrap().is_err(), "the server ends the connection");
    stuck.into_body().collect().await.unwrap_err();
}

#[tokio::test]
async fn an_http_2_client_that_asks_for_nothing_is_told_to_leave() {
    let mut limits = ServerLimits::default();
    limits.header_timeout = Duration::from_millis(300);
    let builder = Server::builder(Arc::new(MemoryRegistry::new())).limits(limits);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let (mut sender, driver) = multiplexed(wire, 1 << 20).await;
    let request = http::Request::get(format!("http://{}/v2/", wire.0)).body(Empty::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    driver.await.unwrap().expect("an orderly end");
}

#[tokio::test]
async fn refusals_reach_clients_that_are_still_sending() {
    let (_server, wire, _registry) = start().await;
    let body = vec![0_u8; 600_000];
    let answer = wire.send("PATCH", "/v2/a/blobs/uploads/bm9uZQ", &[], &body).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn shutdown_lets_a_running_upload_finish() {
    let (server, wire, _registry) = start().await;
    let digest = Digest::sha256_of(b"hello world");
    let mut stream = TcpStream::connect(wire.0).await.unwrap();
    let head =
        format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server has taken the connection once it answers another one.
    assert_eq!(wire.get("/v2/").await.status, 200);
    let stopping = tokio::spawn(server.shutdown());
    while TcpStream::connect(wire.0).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stream.write_all(b" world").await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 201);
    stopping.await.unwrap();
}

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let mut limits = ServerLimits::default();
    limits.max_connections = 1;
    let server = Server::builder(Arc::new(MemoryRegistry::new())).limits(limits).bind("127.0.0.1:0").await.unwrap();
    let mut first = TcpStream::connect(server.local_addr()).await.unwrap();
    first.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    first.read_exact(&mut start).await.unwrap();
    let waiting = tokio::spawn(async move { Wire(server.local_addr()).get("/v2/").await.status });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(waiting.await.unwrap(), 200);
}

#[tokio::test]
async fn too_many_requests_of_one_address_are_told_to_wait() {
    let mut limits = ServerLimits::default();
    limits.requests_per_second = std::num::NonZeroU32::new(1);
    let server = Server::builder(Arc::new(MemoryRegistry::new())).limits(limits).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let mut answers = Vec::new();
    while answers.len() < 1000 && !answers.contains(&429) {
        answers.push(wire.get("/v2/").await.status);
    }
    // Those of ten seconds, and those that grew meanwhile.
    assert!(answers.len() > 10 && answers.iter().filter(|status| **status == 200).count() >= 10, "{answers:?}");
    let refused = wire.get("/v2/").await;
    if refused.status == 429 {
        assert_eq!(refused.code(), "TOOMANYREQUESTS");
        assert!(refused.header("retry-after").is_some_and(|wait| wait.parse::<u64>().unwrap() >= 1));
    }
}

#[tokio::test]
async fn smuggled_requests_are_not_answered() {
    let (_server, wire, registry) = start().await;
    let path = format!("/v2/a/blobs/{}", blob(&registry, "a", b"x").await);
    let hidden = format!("DELETE {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let length = hidden.len();
    for framing in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n"),
        format!("Content-Length: {length}, 0\r\n\r\n"),
        "Transfer-Encoding: identity, chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n".to_owned(),
        "Content-Length: +0\r\n\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(wire.0).await.unwrap();
        let request = format!("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n{framing}{hidden}");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        // Reset or end: both are an end.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(wire.get(&path).await.status, 200, "{framing:?}");
    }
}

#[tokio::test]
async fn uploads_in_one_request_leave_nothing_behind_when_they_fail() {
    let place = tempfile::tempdir().unwrap();
    let store = blob_registry::LayoutStore::open(place.path()).await.unwrap();
    let server = Server::builder(Arc::new(store)).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let digest = Digest::sha256_of(b"hello");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(wire.send("POST", &path, &[], b"other").await.status, 400);
    let mut stream = TcpStream::connect(wire.0).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhell");
    stream.write_all(head.as_bytes()).await.unwrap();
    let sessions = || walk(place.path()).into_iter().filter(|path| path.contains("/uploads/")).count();
    while sessions() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    while sessions() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(wire.send("POST", &path, &[], b"hello").await.status, 201);
}

/// The paths of all files below `dir`.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let below = |path: std::path::PathBuf| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] };
    entries.flat_map(|entry| below(entry.path())).collect()
}

#[tokio::test]
async fn nothing_that_was_uploaded_is_a_page() {
    let (_server, wire, registry) = start().await;
    let digest = blob(&registry, "a", b"<script>").await;
    let page = br#"{"schemaVersion":2,"x":"<script>"}"#;
    for kind in ["text/html", "image/svg+xml", "application/"] {
        let answer = wire.send("PUT", "/v2/a/manifests/x", &[("Content-Type", kind)], page).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_INVALID"), "{kind}");
    }
    let answer = wire.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-security-policy"), Some("default-src 'none'; sandbox"));
}
