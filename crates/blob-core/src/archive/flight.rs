//! Single flight: of several readers that want the same content at once, one reads it.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::lock::Mutex as AsyncMutex;

use crate::codec::DecodeError;
use crate::digest::Digest;
use crate::entry::{Compression, Entry};
use crate::error::ReadError;
use crate::source::{ByteSource, SourceError, SourceId};

/// What is being read now. Clones share it: archives that are given the same one read a content that they have in
/// common once.
///
/// A content is right whoever read it, so all share it. A failure is about the bytes that were read and the way to
/// them: only readers of the same bytes of the same source share one, so that an archive which claims somebody else's
/// content fails alone.
///
/// # Cancellation
/// Who drops a read harms nobody: if it was the one that read, a reader that waits reads instead.
#[derive(Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<Key, Arc<Landing>>>>);

/// A content is named by its digest; an index may claim another size for it, and then has to find out itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    digest: Digest,
    size: u64,
    /// Set for those who saw a failure that was not theirs.
    bytes: Option<StoredBytes>,
}

/// Which stored bytes a content is read from. The address stands for the source: it cannot serve another one while a
/// reader is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct StoredBytes {
    source: usize,
    start: u64,
    end: u64,
    compressed: bool,
}

/// What a read gave, and from which bytes. Locked while somebody reads.
type Landing = AsyncMutex<Option<Result<Bytes, (StoredBytes, Failure)>>>;

/// A failure that several readers share.
#[derive(Clone)]
enum Failure {
    Source(Arc<SourceError>),
    Decode(DecodeError),
}

/// A reader, on the list as long as it lives or until it landed.
struct Seat<'a> {
    flights: &'a Flights,
    key: Key,
    landing: Arc<Landing>,
}

impl Seat<'_> {
    /// Takes the flight off the list: who comes from now on reads anew.
    fn close(&self, flying: &mut HashMap<Key, Arc<Landing>>) {
        if flying.get(&self.key).is_some_and(|landing| Arc::ptr_eq(landing, &self.landing)) {
            flying.remove(&self.key);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flying = self.flights.lock();
        // The list and this reader: nobody else.
        if Arc::strong_count(&self.landing) == 2 {
            self.close(&mut flying);
        }
    }
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Landing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `fetch`, or waits for who reads the content of `entry` already. Failures are shared with who reads the same
    /// bytes of the same source, each in the light of its own path.
    pub(super) async fn once<F>(
        &self,
        entry: &Entry<'_>,
        source: &Arc<dyn ByteSource>,
        fetch: impl FnOnce() -> F,
    ) -> Result<Bytes, ReadError>
    where
        F: Future<Output = Result<Bytes, ReadError>>,
    {
        let range = entry.range();
        let own = StoredBytes {
            source: Arc::as_ptr(source).addr(),
            start: range.start,
            end: range.end,
            compressed: entry.compression() == Compression::Zstd,
        };
        let mut key = Key { digest: entry.digest(), size: entry.original_size(), bytes: None };
        loop {
            let landing = Arc::clone(self.lock().entry(key).or_default());
            let seat = Seat { flights: self, key, landing };
            let mut landed = seat.landing.lock().await;
            match &*landed {
                Some(Ok(content)) => return Ok(content.clone()),
                Some(Err((bytes, failure))) if *bytes == own => {
                    return Err(failure.clone().at(entry.path(), source.id()));
                }
                // Somebody else's trouble: together with those alone who read the same bytes.
                Some(Err(_)) => key.bytes = Some(own),
                None => {
                    let fetched = fetch().await;
                    let (outcome, answer) = match fetched {
                        Ok(content) => (Ok(content.clone()), Ok(content)),
                        Err(ReadError::Source { source: error, .. }) => Failure::Source(Arc::new(error)).of(own),
                        Err(ReadError::Decode { source: error, .. }) => Failure::Decode(error).of(own),
                        // About this reader alone.
                        Err(other) => return Err(other),
                    };
                    *landed = Some(outcome);
                    seat.close(&mut self.lock());
                    return answer.map_err(|failure: Failure| failure.at(entry.path(), source.id()));
                }
            }
        }
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl Failure {
    /// For those who wait, and for who read.
    fn of(self, bytes: StoredBytes) -> (Result<Bytes, (StoredBytes, Self)>, Result<Bytes, Self>) {
        (Err((bytes, self.clone())), Err(self))
    }

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
