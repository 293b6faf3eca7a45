//! What the access log says, what it keeps to itself, and what is counted.

use std::fmt;
use std::sync::{Arc, Mutex};

use blob_registry::server::Auth;
use blob_registry::{MemoryRegistry, Server};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::blob;
use crate::wire::Wire;

/// Keeps every event as text.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 = format!("{} {field}={value:?}", self.0);
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("blob_registry")
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn the_access_log_tells_no_secrets() {
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    let registry = MemoryRegistry::new();
    let auth = Auth::basic("test").user("ann", "secret-password");
    let server = Server::builder(Arc::new(registry.clone())).auth(auth).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let path = format!("/v2/a/blobs/{}", blob(&registry, "a", b"0123456789").await);
    // ann:secret-password
    let secret = "Basic YW5uOnNlY3JldC1wYXNzd29yZA==";
    let headers = [("Authorization", secret)];
    wire.send("GET", &format!("{path}?token=query-secret"), &headers, b"").await;
    let session = wire.send("POST", "/v2/a/blobs/uploads/", &headers, b"").await;
    let location = session.header("location").unwrap();
    wire.send("PATCH", location, &headers, b"body-secret").await;
    wire.get("/v2/").await;
    server.shutdown().await;
    let log = kept.0.lock().unwrap().clone();
    let access: Vec<&String> = log.iter().filter(|line| line.starts_with("blob_registry::access")).collect();
    assert_eq!(access.len(), 4, "{log:#?}");
    assert!(access[0].contains(" method=GET") && access[0].contains(&path), "{}", access[0]);
    assert!(access[0].contains(" status=200 bytes=10 whole=true"), "{}", access[0]);
    assert!(access[2].contains("/v2/a/blobs/uploads/") && access[2].contains("status=202"), "{}", access[2]);
    assert!(access[3].contains("status=401"), "{}", access[3]);
    assert!(access[0].contains(" user=\"ann\"") && !access[3].contains("user="), "{access:#?}");
    let all = log.join("\n");
    let id = location.rsplit('/').next().unwrap();
    for secret in ["secret", "YW5u", id] {
        assert!(!all.contains(secret), "{secret} is in the log:\n{all}");
    }
}

#[tokio::test]
async fn requests_bytes_and_connections_are_counted() {
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    let registry = MemoryRegistry::new();
    let server = Server::builder(Arc::new(registry.clone())).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    let path = format!("/v2/a/blobs/{}", blob(&registry, "a", b"0123456789").await);
    wire.get(&path).await;
    wire.send("HEAD", &path, &[], b"").await;
    let session = wire.send("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    wire.send("PATCH", session.header("location").unwrap(), &[], b"seven b").await;
    wire.send("GET", "/v2/a/blobs/sha256:x", &[], b"").await;
    wire.send("BREW", "/nowhere/a-name-of-mine", &[], b"").await;
    server.shutdown().await;
    let log = kept.0.lock().unwrap().clone();
    let counted: Vec<&String> = log.iter().filter(|line| line.starts_with("blob_registry::metrics")).collect();
    let requests: Vec<&&String> = counted.iter().filter(|line| line.contains("blob_registry_requests=1")).collect();
    let received = "monotonic_counter.blob_registry_received_bytes";
    let sent = "monotonic_counter.blob_registry_sent_bytes";
    for (request, parts) in requests.iter().zip([
        &[format!("{sent}=10 "), " method=\"GET\" route=\"blob\" status=200".to_owned()][..],
        &[format!("{sent}=0 "), " method=\"HEAD\" route=\"blob\" status=200".to_owned()],
        &[format!("{received}=0 "), " method=\"POST\" route=\"upload\" status=202".to_owned()],
        &[format!("{received}=7 "), " method=\"PATCH\" route=\"upload\" status=202".to_owned()],
        &[" method=\"GET\" route=\"none\" status=400".to_owned()],
        &[" method=\"other\" route=\"none\" status=404".to_owned()],
    ]) {
        assert!(parts.iter().all(|part| request.contains(part)), "{parts:?} in {request}");
        assert!(request.contains("histogram.blob_registry_request_seconds="), "{request}");
    }
    let lines = |part: &str| counted.iter().filter(|line| line.contains(part)).count();
    let opened = lines("monotonic_counter.blob_registry_connections=1 counter.blob_registry_open_connections=1");
    assert_eq!((requests.len(), opened, lines("counter.blob_registry_open_connections=-1")), (6, 6, 6), "{counted:#?}");
    assert!(!counted.iter().any(|line| line.contains("a-name-of-mine") || line.contains("sha256")), "{counted:#?}");
}
