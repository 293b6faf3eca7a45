//! Clauses about upload sessions.

use blob_core::Digest;
use bytes::Bytes;

use super::{assert_not_found, assert_wrong_content, get, supported};
use crate::reference::Repository;
use crate::registry::{Registry, Upload};

async fn start(registry: &dyn Registry, repository: &Repository) -> Option<Box<dyn Upload>> {
    let upload = supported(registry.start_upload(repository).await)?;
    assert_eq!(upload.offset(), 0, "a new session is empty");
    Some(upload)
}

async fn append(upload: &mut Box<dyn Upload>, bytes: &'static [u8]) {
    let before = upload.offset();
    upload.append(Bytes::from_static(bytes)).await.expect("the session takes bytes");
    assert_eq!(upload.offset(), before + bytes.len() as u64);
}

/// Content that comes in pieces becomes a blob when it is committed, and not before.
pub async fn pieces_become_a_blob(registry: &dyn Registry, repository: &Repository) {
    let Some(mut upload) = start(registry, repository).await else { return };
    let digest = Digest::sha256_of(b"hello world");
    append(&mut upload, b"hello").await;
    append(&mut upload, b" world").await;
    assert_not_found(registry.stat_blob(repository, &digest).await, "before the commit");
    upload.commit(&digest).await.expect("the session makes a blob");
    assert_eq!(get(registry, repository, &digest).await, "hello world");
    let empty = start(registry, repository).await.expect("a session could be opened before");
    empty.commit(&Digest::sha256_of(b"")).await.expect("an empty session makes an empty blob");
    assert_eq!(get(registry, repository, &Digest::sha256_of(b"")).await, "");
}

/// A session survives its handle.
pub async fn uploads_are_resumed(registry: &dyn Registry, repository: &Repository) {
    let Some(mut upload) = start(registry, repository).await else { return };
    append(&mut upload, b"hello").await;
    let id = upload.id();
    drop(upload);
    let Some(mut upload) = supported(registry.resume_upload(repository, &id).await) else { return };
    assert_eq!(upload.offset(), 5, "the session holds what was appended");
    append(&mut upload, b" world").await;
    let digest = Digest::sha256_of(b"hello world");
    upload.commit(&digest).await.expect("the session makes a blob");
    assert_eq!(get(registry, repository, &digest).await, "hello world");
    assert!(registry.resume_upload(repository, &id).await.is_err(), "a committed session is over");
}

/// A cancelled session is over.
pub async fn cancelled_uploads_are_gone(registry: &dyn Registry, repository: &Repository) {
    let Some(mut upload) = start(registry, repository).await else { return };
    append(&mut upload, b"hello").await;
    let id = upload.id();
    if supported(upload.cancel().await).is_some() {
        assert!(registry.resume_upload(repository, &id).await.is_err(), "a cancelled session is over");
    }
    assert_not_found(registry.stat_blob(repository, &Digest::sha256_of(b"hello")).await, "after the cancel");
}

/// A commit under the wrong digest is refused.
pub async fn wrong_uploads_are_refused(registry: &dyn Registry, repository: &Repository) {
    let Some(mut upload) = start(registry, repository).await else { return };
    append(&mut upload, b"hello").await;
    let digest = Digest::sha256_of(b"something else");
    assert_wrong_content(upload.commit(&digest).await, "a wrong commit");
    assert_not_found(registry.stat_blob(repository, &digest).await, "a wrong commit");
}
