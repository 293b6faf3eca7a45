//! What several copies to one repository have in common is sent once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use blob_core::Digest;
use tokio::sync::OwnedMutexGuard;

/// The blobs that copies to one repository sent, or found there. Clones share them, so copies that run at a time and have
/// one each in their options do not send a blob twice, such as the layers that several tags name.
#[derive(Clone, Debug, Default)]
pub struct CopiedBlobs(Arc<Mutex<Known>>);

type Known = HashMap<Digest, Arc<tokio::sync::Mutex<bool>>>;

/// The turn at a blob: others wait until it is dropped.
pub(super) struct Turn(OwnedMutexGuard<bool>);

impl CopiedBlobs {
    /// Waits until nobody else copies this blob.
    pub(super) async fn turn(&self, digest: &Digest) -> Turn {
        let mutex = {
            // Entries are made whole.
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(*digest).or_default())
        };
        Turn(mutex.lock_owned().await)
    }
}

impl Turn {
    /// Whether the blob is there by now.
    pub(super) fn is_done(&self) -> bool {
        *self.0
    }

    /// The blob is there. Who drops the turn without this has failed, and the next one tries.
    pub(super) fn done(mut self) {
        *self.0 = true;
    }
}
