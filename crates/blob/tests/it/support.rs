//! Registries, trees and shorthands that the tests share.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use blob::core::extract::ExtractOptions;
use blob::registry::memory::MemoryRegistry;
use blob::registry::server::{Server, ServerHandle};
use blob::{Client, Location, PullOptions, PushOptions};
use blob_testkit::proxy::{Proxy, ProxyHandle, ProxyOptions};
use blob_testkit::trees::{Compare, Tree, TreeOptions, differences};

/// A registry in memory, served on loopback.
pub(crate) async fn serve() -> ServerHandle {
    Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap()
}

/// A proxy in front of `upstream`.
pub(crate) fn proxy(upstream: SocketAddr, options: ProxyOptions) -> ProxyHandle {
    Proxy::start(upstream, options).unwrap()
}

pub(crate) fn client() -> Client {
    Client::new().unwrap()
}

/// `host/team/project:tag`
pub(crate) fn at(host: SocketAddr, tag: &str) -> Location {
    format!("{host}/team/project:{tag}").parse().unwrap()
}

/// A tree on disk that has everything which is easy to get wrong.
pub(crate) fn tree(seed: u64, files: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    Tree::generate(seed, TreeOptions { files, max_size: 20_000, symlinks: true }).write(dir.path()).unwrap();
    dir
}

/// Keeps modes and times.
pub(crate) fn keep_all() -> ExtractOptions {
    let mut options = ExtractOptions::default();
    options.preserve_mode = true;
    options.preserve_times = true;
    options
}

/// Pushes `source`, pulls it back, and compares everything.
pub(crate) async fn round_trip(location: &Location, source: &Path) {
    let client = client();
    client.push(location, source, &PushOptions::default()).await.unwrap();
    compare_pulled(&client, location, source).await;
}

/// Pulls `location` and compares it with `source`: names, kinds, contents, modes, times.
pub(crate) async fn compare_pulled(client: &Client, location: &Location, source: &Path) {
    let archive = client.pull(location, &PullOptions::default()).await.unwrap();
    let out = tempfile::tempdir().unwrap();
    let dest = out.path().join("copy");
    archive.copy_dir("", &dest, &keep_all()).await.unwrap();
    let compare = Compare { modes: true, times: true };
    assert_eq!(differences(source, &dest, compare).unwrap(), Vec::<String>::new());
}
