//! Image layouts on disk: their form, what survives crashes, what other programs make of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_registry::{
    Descriptor, ImageManifest, LayoutRegistry, PushBlob, PushManifest, Registry, Repository, Tag, media_type,
};
use tempfile::TempDir;

mod crash;
mod form;
mod gc;
mod packed;
pub(crate) mod processes;
mod sessions;
#[cfg(feature = "server")]
mod skopeo;
mod umoci;
mod verify;

fn repository() -> Repository {
    Repository::new("any/name").unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

async fn layout() -> (TempDir, PathBuf, LayoutRegistry) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layout");
    let layout = LayoutRegistry::open_or_create(&path).await.unwrap();
    (directory, path, layout)
}

async fn put(registry: &dyn Registry, content: &[u8]) -> Digest {
    let digest = Digest::sha256_of(content);
    let source = Arc::new(MemorySource::new(content.to_vec()));
    registry.push_blob(&repository(), PushBlob::new(digest, source)).await.unwrap();
    digest
}

/// Stores an artifact with a layer, and gives what it would be pushed as.
async fn artifact(registry: &dyn Registry, mark: &str) -> PushManifest {
    put(registry, b"{}").await;
    put(registry, mark.as_bytes()).await;
    let layers = vec![Descriptor::of("application/vnd.test.layer", mark.as_bytes())];
    PushManifest::new(media_type::IMAGE_MANIFEST, ImageManifest::artifact("application/vnd.test", layers).to_bytes())
}

/// Every file beneath `directory`, relative, sorted.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Where a layout keeps a blob.
fn blob_path(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}
