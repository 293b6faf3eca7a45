//! Clauses about blobs.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use blob_core::{ByteSource, ByteSourceExt as _, ByteStream, Digest, Event, FailureKind, Local, SourceError, SourceId};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{assert_not_found, assert_wrong_content, get, put, sibling, source, supported};
use crate::error::{ErrorCode, RegistryError};
use crate::reference::Repository;
use crate::registry::{Mount, PushBlob, PushedBlob, Registry};

const CONTENT: &[u8] = b"the content of a blob";

/// What is pushed is read back, and a second push sends nothing.
pub async fn blobs_round_trip(registry: &dyn Registry, repository: &Repository) {
    let digest = Digest::sha256_of(CONTENT);
    let push = PushBlob::new(digest, source(CONTENT));
    let first = registry.push_blob(repository, push.clone()).await.expect("a good blob is taken");
    assert_eq!(first, PushedBlob::Uploaded);
    assert_eq!(registry.stat_blob(repository, &digest).await.expect("the blob is there"), CONTENT.len() as u64);
    assert_eq!(get(registry, repository, &digest).await, CONTENT);
    let second = registry.push_blob(repository, push.clone()).await.expect("it may be pushed again");
    assert_eq!(second, PushedBlob::Existing);
    let mut blind = push;
    blind.known_absent = true;
    registry.push_blob(repository, blind).await.expect("it may be pushed without asking");
    assert_eq!(get(registry, repository, &digest).await, CONTENT);
}

/// Ranges yield exactly their bytes; those that leave the blob are refused.
pub async fn ranges_are_exact(registry: &dyn Registry, repository: &Repository) {
    let digest = put(registry, repository, CONTENT).await;
    let size = CONTENT.len() as u64;
    for range in [0..size, 0..1, 4..11, size - 1..size, 5..5, size..size, 0..0] {
        let reader = registry.read_blob(repository, &digest, Some(range.clone())).await.expect("a range within");
        assert_eq!((reader.size, &reader.range), (size, &range));
        let bytes: BytesMut = reader.stream.try_collect().await.expect("the range can be read");
        assert_eq!(bytes, CONTENT[range.start as usize..range.end as usize], "{range:?}");
    }
    for range in [0..size + 1, size..size + 1, size + 1..size + 1, u64::MAX - 1..u64::MAX] {
        let error = registry.read_blob(repository, &digest, Some(range.clone())).await.expect_err("a range outside");
        assert_eq!(error.error_code(), ErrorCode::RangeInvalid, "{range:?}: {error:?}");
    }
}

/// A blob may have no bytes.
pub async fn empty_blobs_are_blobs(registry: &dyn Registry, repository: &Repository) {
    let digest = put(registry, repository, b"").await;
    assert_eq!(registry.stat_blob(repository, &digest).await.expect("the blob is there"), 0);
    assert_eq!(get(registry, repository, &digest).await, "");
}

/// Content that does not have its digest is refused, and is not there afterwards.
pub async fn wrong_blobs_are_refused(registry: &dyn Registry, repository: &Repository) {
    let digest = Digest::sha256_of(b"something else");
    let streamed = Arc::new(Scripted::new(vec![Ok(Bytes::from_static(CONTENT))], CONTENT.len() as u64));
    for (source, what) in [(source(CONTENT), "a local source"), (streamed, "a streamed source")] {
        assert_wrong_content(registry.push_blob(repository, PushBlob::new(digest, source)).await, what);
        assert_not_found(registry.stat_blob(repository, &digest).await, what);
    }
}

/// Blobs that nobody pushed are not found.
pub async fn absent_blobs_are_not_found(registry: &dyn Registry, repository: &Repository) {
    let digest = Digest::sha256_of(b"absent");
    for known in [false, true] {
        assert_not_found(registry.stat_blob(repository, &digest).await, "stat");
        assert_not_found(registry.read_blob(repository, &digest, None).await, "read");
        assert_not_found(registry.read_blob(repository, &digest, Some(0..1)).await, "read of a range");
        if !known {
            put(registry, repository, CONTENT).await;
        }
    }
}

/// A source that fails, or is shorter than it says, leaves nothing behind.
pub async fn failing_sources_leave_nothing(registry: &dyn Registry, repository: &Repository) {
    let failure = || {
        let cause = std::io::Error::other("scripted");
        let (id, kind) = (SourceId::new("scripted"), FailureKind::Other);
        Err(SourceError::Backend { id, kind, source: Box::new(cause) })
    };
    let size = CONTENT.len() as u64;
    let digest = Digest::sha256_of(CONTENT);
    for (chunks, announced, what) in [
        (vec![failure()], size, "fails at once"),
        (vec![Ok(Bytes::from_static(&CONTENT[..5])), failure()], size, "fails half-way"),
        (vec![Ok(Bytes::from_static(&CONTENT[..5]))], size, "ends early"),
    ] {
        let source = Arc::new(Scripted::new(chunks, announced));
        let pushed = registry.push_blob(repository, PushBlob::new(digest, source)).await;
        assert!(pushed.is_err(), "a source that {what} was taken");
        assert_not_found(registry.stat_blob(repository, &digest).await, what);
    }
}

/// A push whose future is dropped leaves nothing behind.
pub async fn dropped_pushes_leave_nothing(registry: &dyn Registry, repository: &Repository) {
    let digest = Digest::sha256_of(CONTENT);
    let mut source = Scripted::new(vec![Ok(Bytes::from_static(&CONTENT[..5]))], CONTENT.len() as u64);
    source.stalls = true;
    let push = registry.push_blob(repository, PushBlob::new(digest, Arc::new(source)));
    let ended = tokio::time::timeout(Duration::from_millis(50), push).await;
    assert!(ended.is_err(), "the source never ends, so the push cannot");
    assert_not_found(registry.stat_blob(repository, &digest).await, "a dropped push");
    assert_eq!(put(registry, repository, CONTENT).await, digest);
}

/// Watchers see all bytes go out, or that none had to; a watcher that breaks ends the push.
pub async fn pushes_tell_their_progress(registry: &dyn Registry, repository: &Repository) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watch = Arc::clone(&seen);
    let mut push = PushBlob::new(Digest::sha256_of(CONTENT), source(CONTENT));
    let size = CONTENT.len() as u64;
    let watcher = move |event: &Event<'_>| {
        let noted = match event {
            Event::Uploading { what, bytes, bytes_total } => format!("{what} {bytes}/{bytes_total}"),
            Event::Existing { what, bytes } => format!("{what} exists {bytes}"),
            other => format!("{other:?}"),
        };
        watch.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
        ControlFlow::Continue(())
    };
    push.progress = Some(("data".into(), Arc::new(watcher)));
    registry.push_blob(repository, push.clone()).await.expect("a good blob is taken");
    let last = seen.lock().unwrap_or_else(PoisonError::into_inner).pop();
    assert_eq!(last, Some(format!("data {size}/{size}")));
    registry.push_blob(repository, push).await.expect("it may be pushed again");
    let last = seen.lock().unwrap_or_else(PoisonError::into_inner).pop();
    assert_eq!(last, Some(format!("data exists {size}")));
    let other: &[u8] = b"another blob";
    let mut push = PushBlob::new(Digest::sha256_of(other), source(other));
    push.progress = Some(("data".into(), Arc::new(|_: &Event<'_>| ControlFlow::Break(()))));
    let digest = push.digest;
    let error = registry.push_blob(repository, push).await.expect_err("the watcher ends it");
    assert!(matches!(error, RegistryError::Cancelled { .. }), "{error:?}");
    assert_not_found(registry.stat_blob(repository, &digest).await, "a cancelled push");
}

/// If a registry has its blobs here, they are what it serves.
pub async fn local_blobs_are_the_blobs(registry: &dyn Registry, repository: &Repository) {
    let digest = put(registry, repository, CONTENT).await;
    if let Some(local) = registry.local_blob(repository, &digest).await.expect("the blob is there") {
        assert!(local.local().is_some(), "a local blob is memory or a file");
        assert_eq!(local.size(), CONTENT.len() as u64);
        assert_eq!(local.read(0..local.size()).await.expect("it can be read"), CONTENT);
    }
}

/// A deleted blob is gone.
pub async fn deleted_blobs_are_gone(registry: &dyn Registry, repository: &Repository) {
    let digest = put(registry, repository, CONTENT).await;
    if supported(registry.delete_blob(repository, &digest).await).is_none() {
        return;
    }
    assert_not_found(registry.stat_blob(repository, &digest).await, "a deleted blob");
    assert_not_found(registry.delete_blob(repository, &digest).await, "a second deletion");
    put(registry, repository, CONTENT).await;
    assert_eq!(get(registry, repository, &digest).await, CONTENT);
}

/// A mount makes the blob visible, or opens a session that can be used.
pub async fn blobs_are_mounted_or_a_session_opens(registry: &dyn Registry, repository: &Repository) {
    let (target, digest) = (sibling(repository), put(registry, repository, CONTENT).await);
    let Some(mount) = supported(registry.mount_blob(&target, &digest, Some(repository)).await) else { return };
    match mount {
        Mount::Mounted => {}
        Mount::Session(mut upload) => {
            upload.append(Bytes::from_static(CONTENT)).await.expect("the session takes bytes");
            upload.commit(&digest).await.expect("the session makes a blob");
        }
    }
    assert_eq!(get(registry, &target, &digest).await, CONTENT);
    let absent: &[u8] = b"not there yet";
    let digest = Digest::sha256_of(absent);
    // Who has no sessions mounts what is there, and nothing else.
    match supported(registry.mount_blob(&target, &digest, Some(repository)).await) {
        Some(Mount::Mounted) => panic!("a blob that nobody has was mounted"),
        Some(Mount::Session(mut upload)) => {
            upload.append(Bytes::from_static(absent)).await.expect("the session takes bytes");
            upload.commit(&digest).await.expect("the session makes a blob");
            assert_eq!(get(registry, &target, &digest).await, absent);
        }
        None => assert_not_found(registry.stat_blob(&target, &digest).await, "a blob that nobody has"),
    }
    let other: &[u8] = b"mounted by a push";
    let digest = put(registry, repository, other).await;
    let mut push = PushBlob::new(digest, source(other));
    push.mount_from = vec![sibling(&target), repository.clone()];
    registry.push_blob(&target, push).await.expect("a push that may be a mount");
    assert_eq!(get(registry, &target, &digest).await, other);
}

/// A source that is not local and does what its script says.
#[derive(Debug)]
struct Scripted {
    id: SourceId,
    chunks: Mutex<Vec<Result<Bytes, SourceError>>>,
    size: u64,
    stalls: bool,
}

impl Scripted {
    fn new(chunks: Vec<Result<Bytes, SourceError>>, size: u64) -> Self {
        Self { id: SourceId::new("scripted"), chunks: Mutex::new(chunks), size, stalls: false }
    }
}

#[async_trait]
impl ByteSource for Scripted {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, _: Range<u64>) -> Result<ByteStream, SourceError> {
        let chunks = std::mem::take(&mut *self.chunks.lock().unwrap_or_else(PoisonError::into_inner));
        let chunks = stream::iter(chunks);
        Ok(if self.stalls { chunks.chain(stream::pending()).boxed() } else { chunks.boxed() })
    }
}
