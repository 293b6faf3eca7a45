//! Registry blobs as sources.

use std::sync::Arc;

use blob_core::{ByteSource as _, ByteSourceExt as _, Digest, FailureKind, MemorySource, SourceError};
use blob_registry::{BlobSource, MemoryRegistry, PushBlob, Registry, RegistryError, Repository};

async fn stored(content: &'static [u8]) -> (Arc<dyn Registry>, Repository, Digest) {
    let (registry, repository) = (MemoryRegistry::new(), Repository::new("a").unwrap());
    let digest = Digest::sha256_of(content);
    let push = PushBlob::new(digest, Arc::new(MemorySource::new(content)));
    registry.push_blob(&repository, push).await.unwrap();
    (Arc::new(registry), repository, digest)
}

#[tokio::test]
async fn a_blob_is_read_in_ranges_and_whole() {
    let (registry, repository, digest) = stored(b"0123456789").await;
    let source = BlobSource::new(registry, repository, digest, 10);
    assert_eq!((source.id().as_str(), source.size()), (digest.to_string().as_str(), 10));
    assert_eq!(source.read(2..5).await.unwrap(), "234");
    assert_eq!(source.read(10..10).await.unwrap(), "");
    assert!(matches!(source.read(5..11).await, Err(SourceError::OutOfBounds { .. })));
    assert_eq!(source.read_whole(10).await.unwrap(), "0123456789");
    assert!(matches!(source.read_whole(9).await, Err(RegistryError::TooLarge { size: 10, limit: 9, .. })));
}

#[tokio::test]
async fn lies_are_errors() {
    let (registry, repository, digest) = stored(b"0123456789").await;
    let source = BlobSource::new(Arc::clone(&registry), repository.clone(), digest, 9);
    assert_eq!(source.read(0..9).await.unwrap_err().kind(), FailureKind::Integrity);
    let absent = BlobSource::new(Arc::clone(&registry), repository.clone(), Digest::sha256_of(b"x"), 1);
    assert!(absent.read(0..1).await.unwrap_err().is_not_found());
    let located = BlobSource::locate(Arc::clone(&registry), repository.clone(), digest, 10).await.unwrap();
    assert!(located.local().is_some());
    let wrong = BlobSource::locate(registry, repository, digest, 9).await.unwrap_err();
    assert!(matches!(wrong, RegistryError::SizeMismatch { expected: 9, got: 10, .. }));
}
