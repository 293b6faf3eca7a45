//! The client keeps the contract of the trait: over our server, and over Debian's `docker-registry`.

mod over_our_server {
    use std::sync::Arc;

    use blob_registry::{MemoryRegistry, Registry, Server};

    blob_registry::registry_conformance!(async || {
        let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
        (Arc::new(crate::client::client(server.local_addr())) as Arc<dyn Registry>, server)
    });
}
