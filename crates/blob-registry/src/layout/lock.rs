//! Waiting for the lock on a file, for a while.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Locks `file`. False if others hold the lock for all of `patience`. Blocks.
pub(super) fn wait(file: &File, patience: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => return Ok(false),
            // Of different lengths, so that those who wait do not meet again and again.
            Err(TryLockError::WouldBlock) => {
                thread::sleep(Duration::from_millis(1 + RandomState::new().hash_one(0) % 8));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::disk::Layout;
    use super::super::upload::DiskUpload;
    use super::*;
    use crate::error::ErrorCode;
    use crate::registry::Upload as _;
    use bytes::Bytes;

    #[tokio::test]
    async fn who_holds_a_lock_for_ever_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("layout")).with_patience(Duration::from_millis(50));
        let mut upload = DiskUpload::start(layout.clone(), "x".into()).unwrap();
        let open = |path: &str| File::options().write(true).open(layout.root().join(path)).unwrap();
        let other = open(&format!(".blob/uploads/{}", upload.id().as_str()));
        other.try_lock().unwrap();
        let error = upload.append(Bytes::from_static(b"hello")).await.unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::BlobUploadInvalid, "{error}");
        assert!(error.to_string().contains("another request"), "{error}");
        drop(other);
        upload.append(Bytes::from_static(b"hello")).await.unwrap();

        let other = open(".blob/lock");
        other.try_lock().unwrap();
        let error = layout.update(|_| Ok(())).unwrap_err();
        assert!(error.is_transient() && error.to_string().contains(".blob/lock"), "{error}");
        drop(other);
        layout.update(|_| Ok(())).unwrap();
    }
}
