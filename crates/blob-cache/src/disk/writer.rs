//! An entry on its way into the cache.

use std::io::{self, Write as _};
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{CacheError, CacheWriter, Digest, Hasher};
use bytes::Bytes;

use crate::blocking;
use crate::dir::Shared;
use crate::error::disk;
use crate::evict;
use crate::files::{TempFile, open_regular};
use crate::layout::{Bucket, content_path};

/// How much is gathered before a thread is asked to write it: 1 MiB. Smaller entries take one change of thread.
const GATHER: u64 = 1 << 20;

/// Gathers bytes, writes them below `tmp/`, checks and publishes them.
pub(super) struct DiskWriter {
    digest: Digest,
    size: u64,
    /// Bytes taken in so far.
    taken: u64,
    pending: Vec<Bytes>,
    pending_bytes: u64,
    /// `None` once a write failed or was abandoned half-way.
    state: Option<State>,
}

/// What moves to the thread that writes.
struct State {
    shared: Arc<Shared>,
    bucket: Bucket,
    digest: Digest,
    hasher: Hasher,
    temp: Option<TempFile>,
}

impl DiskWriter {
    pub(super) fn new(shared: Arc<Shared>, bucket: Bucket, digest: Digest, size: u64) -> Self {
        let hasher = Hasher::new(digest.algorithm());
        let state = Some(State { shared, bucket, digest, hasher, temp: None });
        Self { digest, size, taken: 0, pending: Vec::new(), pending_bytes: 0, state }
    }

    fn mismatch(&self, detail: String) -> CacheError {
        CacheError::Mismatch { digest: self.digest, detail }
    }

    fn take_state(&mut self) -> Result<State, CacheError> {
        self.state.take().ok_or_else(|| CacheError::Backend {
            action: format!("storing {}", self.digest),
            source: "an earlier write failed or was abandoned".into(),
        })
    }
}

#[async_trait]
impl CacheWriter for DiskWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError> {
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        if self.taken > self.size {
            self.state = None;
            return Err(self.mismatch(format!("expected {} bytes, got at least {}", self.size, self.taken)));
        }
        self.pending_bytes += bytes.len() as u64;
        self.pending.push(bytes);
        if self.pending_bytes < GATHER {
            return Ok(());
        }
        let (mut state, pending) = (self.take_state()?, std::mem::take(&mut self.pending));
        self.pending_bytes = 0;
        let state = blocking::run(move || {
            state.append(&pending)?;
            Ok(state)
        });
        self.state = Some(state.await?);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), CacheError> {
        let (mut state, pending) = (self.take_state()?, std::mem::take(&mut self.pending));
        if self.taken != self.size {
            return Err(self.mismatch(format!("expected {} bytes, got {}", self.size, self.taken)));
        }
        let size = self.size;
        blocking::run(move || {
            state.append(&pending)?;
            state.publish(size)
        })
        .await
    }
}

impl State {
    fn append(&mut self, pending: &[Bytes]) -> Result<(), CacheError> {
        for bytes in pending {
            self.hasher.update(bytes);
        }
        self.write(pending).map_err(|error| self.failed(error))
    }

    fn write(&mut self, pending: &[Bytes]) -> io::Result<()> {
        let temp = match &mut self.temp {
            Some(temp) => temp,
            empty => empty.insert(self.shared.temporary()?),
        };
        pending.iter().try_for_each(|bytes| temp.file().write_all(bytes))
    }

    /// Checks the digest, makes room and publishes.
    fn publish(mut self, size: u64) -> Result<(), CacheError> {
        let got = self.hasher.clone().finish();
        if got != self.digest {
            return Err(CacheError::Mismatch { digest: self.digest, detail: format!("the bytes have {got}") });
        }
        let Some(temp) = self.temp.take() else { return Ok(()) };
        self.move_in(temp, size).map_err(|error| self.failed(error))
    }

    fn move_in(&self, temp: TempFile, size: u64) -> io::Result<()> {
        let target = content_path(&self.shared.root, self.bucket, &self.digest);
        let reservation = evict::reserve(&self.shared, self.bucket, 1, evict::charge(size))?;
        let replaced = matches!(open_regular(&target), Ok(Some(_)));
        temp.publish(&target, &self.shared.tmp)?;
        reservation.keep(replaced);
        Ok(())
    }

    fn failed(&self, error: io::Error) -> CacheError {
        self.shared.note_failure(&error);
        disk(&format!("storing {} in the cache", self.digest), &self.shared.root, error)
    }
}
