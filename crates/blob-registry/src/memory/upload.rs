//! Upload sessions in memory.

use std::time::{Duration, Instant};

use super::{Bytes, BytesMut, Digest, ErrorCode, HashMap, MemoryRegistry, RegistryError, Repository, Upload, UploadId};
use super::{async_trait, hash, store};
use crate::token;

/// More sessions than this are not open: uploads that nobody finishes must not fill the memory.
const MAX_SESSIONS: usize = 1024;

/// Sessions that nobody wrote to for an hour give way to others.
const IDLE: Duration = Duration::from_hours(1);

/// The open sessions.
#[derive(Default)]
pub(super) struct Sessions {
    open: HashMap<UploadId, Session>,
}

struct Session {
    repository: Repository,
    bytes: BytesMut,
    used: Instant,
}

impl Sessions {
    /// Opens a session. If there are too many, those that stood still for long give way; none that is in use does.
    pub(super) fn open(&mut self, repository: &Repository) -> Result<UploadId, RegistryError> {
        let id = UploadId::new(token::random()?);
        if self.open.len() >= MAX_SESSIONS {
            self.open.retain(|_, session| session.used.elapsed() < IDLE);
        }
        if self.open.len() >= MAX_SESSIONS {
            let detail = format!("{MAX_SESSIONS} upload sessions are open, and no more may be");
            let action = format!("uploading to {repository}");
            return Err(RegistryError::detailed(action, ErrorCode::TooManyRequests, detail));
        }
        let session = Session { repository: repository.clone(), bytes: BytesMut::new(), used: Instant::now() };
        self.open.insert(id.clone(), session);
        Ok(id)
    }

    /// Bytes in the sessions of repositories that are wanted.
    pub(super) fn used(&self, wanted: impl Fn(&Repository) -> bool) -> u64 {
        let sessions = self.open.values().filter(|session| wanted(&session.repository));
        sessions.map(|session| session.bytes.len() as u64).sum()
    }

    /// The content of a session of `repository`.
    pub(super) fn find(
        &mut self,
        repository: &Repository,
        id: &UploadId,
        action: impl FnOnce() -> String,
    ) -> Result<&mut BytesMut, RegistryError> {
        match self.open.get_mut(id) {
            Some(session) if session.repository == *repository => {
                session.used = Instant::now();
                Ok(&mut session.bytes)
            }
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
        let bytes = {
            let mut state = self.registry.lock();
            let held = state.sessions.find(&self.repository, &self.id, || self.action())?.len() as u64;
            if held != self.offset {
                return Err(store::moved(self.action(), self.offset, held));
            }
            state.sessions.close(&self.id).unwrap_or_default()
        };
        // Hashing takes long: others need not wait for it.
        let got = hash(digest.algorithm(), bytes.clone()).await;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::registry::Registry as _;

    #[tokio::test]
    async fn sessions_in_use_do_not_give_way() {
        let (registry, name) = (MemoryRegistry::new(), Repository::new("x").unwrap());
        let mut first = registry.start_upload(&name).await.unwrap();
        first.append(Bytes::from_static(b"hello")).await.unwrap();
        for _ in 1..MAX_SESSIONS {
            registry.start_upload(&name).await.unwrap();
        }
        let refused = registry.start_upload(&name).await.map(drop).unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::TooManyRequests, "{refused}");
        first.commit(&Digest::sha256_of(b"hello")).await.unwrap();
        registry.start_upload(&name).await.unwrap();
        assert!(registry.start_upload(&name).await.is_err());
        // A machine that was started within the hour has no such time.
        let Some(long_ago) = Instant::now().checked_sub(IDLE) else { return };
        if let Some(session) = registry.lock().sessions.open.values_mut().next() {
            session.used = long_ago;
        }
        registry.start_upload(&name).await.unwrap();
    }

    /// On a runtime of one thread, somebody else gets a turn while something large is hashed.
    #[tokio::test]
    async fn others_go_on_while_content_is_hashed() {
        let (registry, name) = (MemoryRegistry::new(), Repository::new("x").unwrap());
        let content = Bytes::from(vec![7; 1 << 20]);
        let mut upload = registry.start_upload(&name).await.unwrap();
        upload.append(content.clone()).await.unwrap();
        let digest = Digest::sha256_of(&content);
        let mut commit = upload.commit(&digest);
        assert!(futures_util::poll!(&mut commit).is_pending());
        commit.await.unwrap();
        assert_eq!(registry.stat_blob(&name, &digest).await.unwrap(), 1 << 20);
    }
}
