//! The server, seen from the wire.

use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_registry::{Descriptor, ImageManifest, MemoryRegistry, PushBlob, Registry, Repository, Server, ServerHandle};

use crate::wire::Wire;

mod auth;
mod blobs;
mod connections;
#[cfg(feature = "htpasswd")]
mod htpasswd;
mod lists;
mod log;
mod manifests;
#[cfg(feature = "layout")]
mod sparse;
#[cfg(feature = "tls")]
mod tls;
mod uploads;

/// A server over an empty memory registry.
async fn start() -> (ServerHandle, Wire, MemoryRegistry) {
    let registry = MemoryRegistry::new();
    let server = Server::builder(Arc::new(registry.clone())).bind("127.0.0.1:0").await.unwrap();
    let wire = Wire(server.local_addr());
    (server, wire, registry)
}

fn repository(name: &str) -> Repository {
    Repository::new(name).unwrap()
}

/// Stores `bytes` as a blob behind the server's back.
async fn blob(registry: &dyn Registry, name: &str, bytes: &'static [u8]) -> Digest {
    let digest = Digest::sha256_of(bytes);
    let push = PushBlob::new(digest, Arc::new(MemorySource::new(bytes)));
    registry.push_blob(&repository(name), push).await.unwrap();
    digest
}

/// An artifact whose only content is the empty configuration, which is stored; made different by `mark`.
async fn artifact(registry: &MemoryRegistry, name: &str, mark: &str, subject: Option<&[u8]>) -> Vec<u8> {
    blob(registry, name, b"{}").await;
    let mut manifest = ImageManifest::artifact("application/vnd.test", vec![]);
    manifest.annotations.insert("mark".into(), mark.into());
    manifest.subject = subject.map(|bytes| Descriptor::of(MANIFEST, bytes));
    manifest.to_bytes()
}

const MANIFEST: &str = blob_registry::media_type::IMAGE_MANIFEST;
