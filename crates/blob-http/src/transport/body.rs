//! Bodies in both directions, and the watch on their progress.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt as _;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::traffic::Counters;
use crate::error::{HttpError, Waiting};

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body in memory.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that is produced while it is sent. With `size`, in bytes, the request says its `Content-Length` and a stream
/// of another length fails the request; without, it goes out in chunks.
pub fn stream_body<S>(stream: S, size: Option<u64>) -> Body
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
{
    StreamBody { stream: Box::pin(stream), size, sent: 0 }.boxed_unsync()
}

struct StreamBody<S> {
    stream: Pin<Box<S>>,
    size: Option<u64>,
    sent: u64,
}

/// The caller's stream is not as long as the caller said.
#[derive(Debug, thiserror::Error)]
#[error("the body has {got} bytes or more instead of {expected}")]
struct WrongLength {
    expected: u64,
    got: u64,
}

impl<S: Stream<Item = Result<Bytes, BoxError>>> http_body::Body for StreamBody<S> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let wrong = |expected, got| Poll::Ready(Some(Err(WrongLength { expected, got }.into())));
        match (ready!(this.stream.as_mut().poll_next(cx)), this.size) {
            (None, Some(size)) if this.sent < size => wrong(size, this.sent),
            (None, _) => Poll::Ready(None),
            (Some(Err(error)), _) => Poll::Ready(Some(Err(error))),
            (Some(Ok(bytes)), size) => {
                this.sent += bytes.len() as u64;
                match size {
                    Some(size) if this.sent > size => wrong(size, this.sent),
                    _ => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.size.map_or_else(SizeHint::default, |size| SizeHint::with_exact(size.saturating_sub(self.sent)))
    }
}

/// How far a request body got, seen from outside.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    counters: Counters,
    frames: AtomicU64,
    starved: AtomicBool,
}

impl Activity {
    /// Nothing moved yet; what will is counted by `counters`.
    pub(super) fn new(counters: Counters) -> Self {
        Self(Arc::new(Progress { counters, ..Progress::default() }))
    }

    /// `body`, watched.
    pub(super) fn watch(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Watched { body, progress: Arc::clone(&self.0), pause: None }.boxed_unsync()
    }

    /// A number that changes when part of the body was taken to be sent.
    pub(super) fn moved(&self) -> u64 {
        self.0.frames.load(Ordering::Relaxed)
    }

    /// Whether the connection would take more, but the body's producer has nothing.
    pub(super) fn waits_for_producer(&self) -> bool {
        self.0.starved.load(Ordering::Relaxed)
    }
}

struct Watched {
    body: Body,
    progress: Arc<Progress>,
    /// Until when nothing more is taken, where the rate is limited.
    pause: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(pause) = &mut self.pause {
            // Who is held back does not stand still.
            let held = pause.as_mut().poll(cx).is_pending();
            self.progress.starved.store(held, Ordering::Relaxed);
            if held {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.starved.store(polled.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(frame) = &polled {
            self.progress.frames.fetch_add(1, Ordering::Relaxed);
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            let length = data.map_or(0, Bytes::len);
            self.progress.counters.sent(length);
            self.pause = self.progress.counters.pause(length);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A body that was given up waits for nobody.
        self.progress.starved.store(false, Ordering::Relaxed);
    }
}

/// The body of an answer. A pause longer than the idle time-out ends it with [`HttpError::Timeout`]; time in which
/// nobody asks for more does not count. Dropping it ends the transfer.
pub struct ResponseBody {
    incoming: Incoming,
    target: String,
    received: u64,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// Until when nothing more is asked for, where the rate is limited.
    pause: Option<Pin<Box<Sleep>>>,
    counters: Counters,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, target: String, idle: Duration, counters: Counters) -> Self {
        Self { incoming, target, received: 0, idle, timer: None, waiting: false, pause: None, counters }
    }

    /// How many bytes came so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The body as chunks, none of them empty.
    pub fn into_stream(self) -> BodyStream {
        BodyStream(self)
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`HttpError::TooLarge`] as soon as it is known, [`HttpError::Body`] and [`HttpError::Timeout`].
    pub async fn collect(self, limit: u64) -> Result<Bytes, HttpError> {
        let too_large = |target: &str| HttpError::TooLarge { target: target.to_owned(), limit };
        let promised = self.size_hint().lower();
        if promised > limit {
            return Err(too_large(&self.target));
        }
        let mut stream = self.into_stream();
        let first = stream.next().await.transpose()?.unwrap_or_default();
        if first.len() as u64 > limit {
            return Err(too_large(&stream.0.target));
        }
        if first.len() as u64 == promised && stream.0.is_end_stream() {
            return Ok(first);
        }
        // What is promised need not come: memory grows with what does.
        let mut all = BytesMut::with_capacity(promised.clamp(first.len() as u64, 1 << 20) as usize);
        all.extend_from_slice(&first);
        while let Some(chunk) = stream.next().await.transpose()? {
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(too_large(&stream.0.target));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Waits for the next frame, under the time-out.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<HttpError> {
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle)));
        if !self.waiting {
            self.waiting = true;
            // A time-out beyond the end of the clock is none.
            if let Some(deadline) = Instant::now().checked_add(idle) {
                timer.as_mut().reset(deadline);
            }
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(HttpError::Timeout { target: self.target.clone(), what: Waiting::Body, after: idle })
    }

    fn classify(&self, error: hyper::Error) -> HttpError {
        let (target, source) = (self.target.clone(), error);
        if source.is_parse() {
            return HttpError::Protocol { target, source: source.into() };
        }
        HttpError::Body { target, received: self.received, source: source.into() }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return self.poll_idle(cx).map(|error| Some(Err(error)));
        };
        self.waiting = false;
        let frame = frame.map(|frame| frame.map_err(|error| self.classify(error)));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            let length = data.len();
            self.received += length as u64;
            self.counters.received(length);
            self.pause = self.counters.pause(length);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("target", &self.target)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// The chunks of an answer, none of them empty; trailers are left out.
#[derive(Debug)]
pub struct BodyStream(ResponseBody);

impl BodyStream {
    /// How many bytes came so far.
    pub fn received(&self) -> u64 {
        self.0.received
    }

    /// Whether nothing more comes. Waits for the end if it is not known yet; a connection that breaks here is an end.
    pub(crate) async fn is_finished(&mut self) -> bool {
        self.0.is_end_stream() || !matches!(self.next().await, Some(Ok(_)))
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, HttpError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    _ => {}
                },
            }
        }
    }
}
