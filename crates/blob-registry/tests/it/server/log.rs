//! What the access log says, and what it keeps to itself.

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
