//! Registries that take manifests whose blobs are elsewhere.

use std::sync::Arc;

use blob_registry::{Descriptor, ImageManifest, LayoutStore, MemoryRegistry, Registry, Server, ServerHandle};

use super::MANIFEST;
use crate::wire::Wire;

#[tokio::test]
async fn a_sparse_registry_takes_manifests_before_their_blobs() {
    let image = ImageManifest::artifact("application/vnd.test", vec![Descriptor::of("a/b", b"absent")]).to_bytes();
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path()).await.unwrap();
    let memory = MemoryRegistry::new();
    let registries: [(Arc<dyn Registry>, Arc<dyn Registry>); 2] = [
        (Arc::new(memory.clone()), Arc::new(memory.with_sparse(true))),
        (Arc::new(store.clone()), Arc::new(store.with_sparse(true))),
    ];
    for (strict, sparse) in registries {
        let refusing = Server::builder(strict).bind("127.0.0.1:0").await.unwrap();
        let taking = Server::builder(sparse).bind("127.0.0.1:0").await.unwrap();
        let put = async |server: &ServerHandle| {
            Wire(server.local_addr())
                .send("PUT", "/v2/a/manifests/v1", &[("Content-Type", MANIFEST)], &image)
                .await
                .status
        };
        assert_eq!((put(&refusing).await, put(&taking).await), (404, 201));
        // It is there for those who would not have taken it.
        let answer = Wire(refusing.local_addr()).send("GET", "/v2/a/manifests/v1", &[], b"").await;
        assert_eq!((answer.status, answer.body), (200, image.clone()));
    }
}
