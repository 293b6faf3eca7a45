//! Single flight: of several readers that want the same content at once, one reads it.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::lock::Mutex as AsyncMutex;

use crate::codec::{DecodeError, Expected};
use crate::digest::Digest;
use crate::error::ReadError;
use crate::source::{SourceError, SourceId};

/// What is being read now. Clones share it: archives that are given the same one read a content that they have in
/// common once.
///
/// # Cancellation
/// Who drops a read harms nobody: if it was the one that read, a reader that waits reads instead.
#[derive(Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<Key, Arc<Landing>>>>);

/// A content is named by its digest; an index may claim another size for it, and then has to find out itself.
type Key = (Digest, u64);

/// What a read gave. Locked while somebody reads.
type Landing = AsyncMutex<Option<Result<Bytes, Failure>>>;

/// A failure that several readers share.
#[derive(Clone)]
enum Failure {
    Source(Arc<SourceError>),
    Decode(DecodeError),
}

/// A reader, on the list as long as it lives.
struct Seat<'a> {
    flights: &'a Flights,
    key: Key,
    landing: Arc<Landing>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flying = self.flights.lock();
        // The list and this reader: nobody else.
        if Arc::strong_count(&self.landing) == 2 {
            flying.remove(&self.key);
        }
    }
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Landing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `fetch`, or waits for who reads the same content already; failures are shared, in the light of `path` and
    /// the source `id`.
    pub(super) async fn once<F>(
        &self,
        expected: &Expected,
        (path, id): (&[u8], &SourceId),
        fetch: impl FnOnce() -> F,
    ) -> Result<Bytes, ReadError>
    where
        F: Future<Output = Result<Bytes, ReadError>>,
    {
        let key = (expected.digest, expected.original_size);
        let landing = Arc::clone(self.lock().entry(key).or_default());
        let seat = Seat { flights: self, key, landing };
        let mut landed = seat.landing.lock().await;
        if let Some(result) = &*landed {
            return result.clone().map_err(|failure| failure.at(path, id));
        }
        let failure = match fetch().await {
            Ok(content) => {
                *landed = Some(Ok(content.clone()));
                return Ok(content);
            }
            Err(ReadError::Source { source, .. }) => Failure::Source(Arc::new(source)),
            Err(ReadError::Decode { source, .. }) => Failure::Decode(source),
            // About this reader alone.
            Err(other) => return Err(other),
        };
        *landed = Some(Err(failure.clone()));
        Err(failure.at(path, id))
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl Failure {
    fn at(self, path: &[u8], id: &SourceId) -> ReadError {
        let path = path.into();
        match self {
            Self::Decode(source) => ReadError::Decode { path, source },
            Self::Source(shared) => {
                let source =
                    SourceError::Backend { id: id.clone(), kind: shared.kind(), source: Box::new(Shared(shared)) };
                ReadError::Source { path, source }
            }
        }
    }
}

/// A shared failure as the cause of each reader's own.
#[derive(Debug)]
struct Shared(Arc<SourceError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
