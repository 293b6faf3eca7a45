//! Request bodies: streamed in pieces, with a limit and a time-out for silence.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::ServerLimits;
use super::answer::Fault;
use crate::error::ErrorCode;

/// Small frames are gathered to pieces of about this many bytes, so that a store is not called for each of them.
const PIECE: usize = 1 << 20;

/// No piece is gathered for longer: slow clients must not pile up half-filled pieces in memory, and what came of an
/// upload is soon where it can be resumed.
const GATHER: Duration = Duration::from_millis(100);

/// No server holds more of its bodies than this: 1 GiB.
const MOST_MEMORY: u32 = 1 << 30;

/// Bytes of manifests that are read at a time. What becomes of one can take six times its size.
const READ_AT_A_TIME: u32 = 16 << 20;

/// How slowly a body that is held as a whole may come, on average, in bytes a second.
const SLOWEST: u64 = 16 << 10;

/// What is read of a body that nobody wants, so that the client gets to see the answer: 8 MiB within two seconds.
const DRAIN: (usize, Duration) = (8 << 20, Duration::from_secs(2));

/// What all bodies together may hold in memory.
#[derive(Clone)]
pub(super) struct Memory {
    bytes: Arc<Semaphore>,
    all: u32,
    /// For what is made of manifests.
    reading: Arc<Semaphore>,
    patience: Duration,
}

impl Memory {
    /// As much as `limits` allow.
    pub(super) fn new(limits: &ServerLimits) -> Self {
        let all = u32::try_from(limits.max_buffered_bytes).unwrap_or(u32::MAX).clamp(1, MOST_MEMORY);
        let (bytes, reading) = (Semaphore::new(all as usize), Semaphore::new(READ_AT_A_TIME as usize));
        Self { bytes: Arc::new(bytes), all, reading: Arc::new(reading), patience: limits.header_timeout }
    }

    /// Waits until there is room for `bytes` more, or for everything if that is less.
    async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Fault> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.all);
        self.within_patience(Arc::clone(&self.bytes).acquire_many_owned(wanted)).await
    }

    async fn within_patience(
        &self,
        room: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    ) -> Result<OwnedSemaphorePermit, Fault> {
        // The semaphores are never closed.
        if let Ok(Ok(permit)) = tokio::time::timeout(self.patience, room).await {
            return Ok(permit);
        }
        let fault =
            Fault::plain(503, ErrorCode::TooManyRequests, "the server holds as much as it can; try again later");
        Err(fault.with(header::RETRY_AFTER, HeaderValue::from(1)))
    }
}

/// The body of a request.
pub(super) struct RequestBody {
    inner: Incoming,
    idle: Duration,
    /// Met after the piece that was handed out before it.
    pending: Option<Fault>,
    received: u64,
    memory: Memory,
    /// The room for what was handed out last.
    held: Option<OwnedSemaphorePermit>,
}

impl RequestBody {
    /// `inner`, whose frames may be `idle` apart.
    pub(super) fn new(inner: Incoming, idle: Duration, memory: Memory) -> Self {
        Self { inner, idle, pending: None, received: 0, memory, held: None }
    }

    /// How many bytes the client announced.
    pub(super) fn announced(&self) -> Option<u64> {
        self.inner.size_hint().exact()
    }

    /// How many bytes have come.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The next piece, about 1 MiB or the rest; `None` at the end. What came before a failure is handed out before it.
    /// The piece before must be gone by now.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(fault) = self.pending.take() {
            return Err(fault);
        }
        self.held = None;
        let Some(first) = self.frame().await? else { return Ok(None) };
        self.held = Some(self.memory.take(PIECE as u64).await?);
        if first.len() >= PIECE {
            return Ok(Some(first));
        }
        let until = Instant::now() + GATHER;
        let mut gathered = BytesMut::from(first);
        while gathered.len() < PIECE {
            match tokio::time::timeout_at(until, self.frame()).await {
                Ok(Ok(Some(bytes))) => gathered.extend_from_slice(&bytes),
                Ok(Err(fault)) => {
                    self.pending = Some(fault);
                    break;
                }
                Ok(Ok(None)) | Err(_) => break,
            }
        }
        Ok(Some(gathered.freeze()))
    }

    /// The whole body, at most `limit` bytes. What came counts as held for as long as this value lives.
    pub(super) async fn whole(&mut self, limit: u64) -> Result<Bytes, Fault> {
        let too_large = || Fault::plain(413, ErrorCode::SizeInvalid, format!("the limit is {limit} bytes"));
        if self.announced().is_some_and(|size| size > limit) {
            return Err(too_large());
        }
        self.held = None;
        let until = Instant::now() + self.memory.patience + Duration::from_secs(limit / SLOWEST);
        let too_slow = |_| Fault::plain(408, ErrorCode::Unknown, "the body comes too slowly");
        let mut whole = BytesMut::new();
        while let Some(bytes) = tokio::time::timeout_at(until, self.frame()).await.map_err(too_slow)?? {
            if (whole.len() + bytes.len()) as u64 > limit {
                return Err(too_large());
            }
            // For what came, not for what was announced: who sends nothing takes no room from the others.
            let room = self.memory.take(bytes.len() as u64).await?;
            match &mut self.held {
                Some(held) => held.merge(room),
                None => self.held = Some(room),
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    /// Waits until `bytes` of a manifest may be read, which takes room besides the body, for as long as the permit lives.
    pub(super) async fn reading(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Fault> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(READ_AT_A_TIME);
        self.memory.within_patience(Arc::clone(&self.memory.reading).acquire_many_owned(wanted)).await
    }

    /// Reads on for a while after a refusal: a client that is still sending would otherwise see a reset connection.
    pub(super) async fn drain(&mut self) {
        let mut rest = DRAIN.0;
        let reading = async {
            while let Ok(Some(bytes)) = self.frame().await {
                rest = rest.saturating_sub(bytes.len());
                if rest == 0 {
                    break;
                }
            }
        };
        // Both ends of the time-out mean the same: the answer goes out now.
        let _ = tokio::time::timeout(DRAIN.1, reading).await;
    }

    async fn frame(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let Ok(frame) = tokio::time::timeout(self.idle, self.inner.frame()).await else {
                return Err(Fault::plain(408, ErrorCode::Unknown, format!("nothing came for {:?}", self.idle)));
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    // Trailers carry nothing for us.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
                Some(Err(_)) => return Err(Fault::plain(400, ErrorCode::Unknown, "the body broke off")),
            }
        }
    }
}
