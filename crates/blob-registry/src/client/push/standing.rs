//! Where a push stands, written down for the next process.

use super::Push;
use crate::client::journal::{Found, Hashed, Key, Standing};
use crate::client::upload::{self, Session};

/// Smaller blobs are not worth writing down: 8 MiB.
pub(super) const JOURNAL_FROM: u64 = 8 << 20;

impl Push<'_> {
    /// The session that an earlier process left, if it is still there, and what that process hashed.
    pub(super) async fn take_up(&mut self) -> Option<(Session, Option<Hashed>)> {
        let journal = self.core.journal.as_ref().filter(|_| self.size() >= JOURNAL_FROM)?;
        let content = self.digest.map_or_else(|| self.source.id().to_string(), ToString::to_string);
        let (host, repository, place) = (self.core.host.clone(), self.repository.clone(), self.place.clone());
        let (entry, found) = journal.open(Key { host, repository, place, content, size: self.size() }).await?;
        self.entry = Some(entry);
        let Standing { location, offset, hash } = match found {
            Found::Same(standing) => standing,
            Found::Other(standing) => {
                let session = upload::session_at(self.core, self.repository, &standing.location, standing.offset);
                if let Some(session) = session {
                    session.abandon(self.core);
                }
                return None;
            }
            Found::Nothing => return None,
        };
        let mut session = upload::session_at(self.core, self.repository, &location, offset)?;
        match session.status(self.core, &self.action).await {
            // What was confirmed to that process is there, even if the registry counts wrong.
            Ok(held) if held > 1 && held <= self.size() => session.offset = held.max(offset),
            Ok(_) if offset == 0 => {}
            Ok(_) => {
                session.abandon(self.core);
                return None;
            }
            Err(error) => {
                tracing::debug!(%error, "the upload that was interrupted cannot be taken up");
                return None;
            }
        }
        tracing::info!(action = self.action, offset = session.offset, "an interrupted upload is taken up");
        Some((session, hash))
    }

    /// Writes down where the session stands.
    pub(super) async fn save(&self, session: &Session) {
        if let Some(entry) = &self.entry {
            entry.save(session.location(), session.offset).await;
        }
    }

    /// Removes what was written down.
    pub(super) async fn forget(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.clear().await;
        }
    }
}
