//! Upload sessions in memory.

use super::{Bytes, BytesMut, Digest, ErrorCode, HashMap, MemoryRegistry, RegistryError, Repository, Upload, UploadId};
use super::{VecDeque, async_trait, store};
use crate::token;

/// More sessions than this are not kept open: uploads that nobody finishes must not fill the memory.
const MAX_SESSIONS: usize = 1024;

/// The open sessions.
#[derive(Default)]
pub(super) struct Sessions {
    open: HashMap<UploadId, Session>,
    /// Oldest first; ids of finished sessions are skipped when they come up.
    order: VecDeque<UploadId>,
}

struct Session {
    repository: Repository,
    bytes: BytesMut,
}

impl Sessions {
    /// Opens a session, at the cost of the oldest if there are too many.
    pub(super) fn open(&mut self, repository: &Repository) -> Result<UploadId, RegistryError> {
        let id = UploadId::new(token::random()?);
        while self.open.len() >= MAX_SESSIONS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.open.remove(&oldest);
        }
        if self.order.len() >= 2 * MAX_SESSIONS {
            self.order.retain(|id| self.open.contains_key(id));
        }
        self.open.insert(id.clone(), Session { repository: repository.clone(), bytes: BytesMut::new() });
        self.order.push_back(id.clone());
        Ok(id)
    }

    /// The content of a session of `repository`.
    pub(super) fn find(
        &mut self,
        repository: &Repository,
        id: &UploadId,
        action: impl FnOnce() -> String,
    ) -> Result<&mut BytesMut, RegistryError> {
        match self.open.get_mut(id) {
            Some(session) if session.repository == *repository => Ok(&mut session.bytes),
            _ => Err(RegistryError::code(action(), ErrorCode::BlobUploadUnknown)),
        }
    }

    fn close(&mut self, id: &UploadId) -> Option<Bytes> {
        self.open.remove(id).map(|session| session.bytes.freeze())
    }
}

/// A handle on a session.
pub(super) struct MemoryUpload {
    registry: MemoryRegistry,
    repository: Repository,
    id: UploadId,
    offset: u64,
}

impl MemoryUpload {
    pub(super) fn new(registry: MemoryRegistry, repository: Repository, id: UploadId, offset: u64) -> Self {
        Self { registry, repository, id, offset }
    }

    fn action(&self) -> String {
        format!("uploading to {}", self.repository)
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    fn id(&self) -> UploadId {
        self.id.clone()
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    async fn append(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        let mut state = self.registry.lock();
        let held = state.sessions.find(&self.repository, &self.id, || self.action())?;
        if held.len() as u64 != self.offset {
            return Err(store::moved(self.action(), self.offset, held.len() as u64));
        }
        held.extend_from_slice(&bytes);
        self.offset = held.len() as u64;
        Ok(())
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<(), RegistryError> {
        let mut state = self.registry.lock();
        let held = state.sessions.find(&self.repository, &self.id, || self.action())?.len() as u64;
        if held != self.offset {
            return Err(store::moved(self.action(), self.offset, held));
        }
        let bytes = state.sessions.close(&self.id).unwrap_or_default();
        // Hashing takes long: others need not wait for it.
        drop(state);
        let got = Digest::of(digest.algorithm(), &bytes);
        if got != *digest {
            return Err(RegistryError::DigestMismatch { action: self.action(), expected: *digest, got });
        }
        self.registry.lock().insert_blob(&self.repository, *digest, bytes);
        Ok(())
    }

    async fn cancel(self: Box<Self>) -> Result<(), RegistryError> {
        let closed = self.registry.lock().sessions.close(&self.id);
        closed.map(drop).ok_or_else(|| RegistryError::code(self.action(), ErrorCode::BlobUploadUnknown))
    }
}
