//! The access log: one event per answer, when its last byte is out or given up. It is counted then, too.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Response, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::answer::{Body, BoxError};
use super::metrics::Answered;
use super::pulse::Beat;

/// What an HTTP/2 client takes at a time: with larger parts a slow one would seem to take nothing.
const PART: usize = 64 << 10;

/// A line of the log that is not finished.
pub(super) struct Entry {
    peer: SocketAddr,
    method: Method,
    path: String,
    /// Who sent it, if that was found out.
    user: Option<String>,
    /// The kind of its route; `none` for a path that is none.
    route: &'static str,
    /// Bytes of its body that came.
    received: u64,
    begun: Instant,
    beat: Beat,
}

impl Entry {
    /// Begins a line. The query is left out, and so is the id of an upload session: whoever knows it may write.
    pub(super) fn begin(peer: SocketAddr, method: &Method, path: &str, beat: Beat) -> Self {
        let mut path: String = path.chars().take(1024).collect();
        if let Some(at) = path.rfind("/blobs/uploads/") {
            path.truncate(at + "/blobs/uploads/".len());
        }
        let begun = Instant::now();
        Self { peer, method: method.clone(), path, user: None, route: "none", received: 0, begun, beat }
    }

    /// Says who sent the request.
    pub(super) fn sent_by(&mut self, user: Option<&str>) {
        self.user = user.map(str::to_owned);
    }

    /// Says what the request was about.
    pub(super) fn is_about(&mut self, route: &'static str) {
        self.route = route;
    }

    /// Writes the line when `response`, to a request with a body of `received` bytes, is out.
    pub(super) fn follow(mut self, response: Response<Body>, received: u64, version: Version) -> Response<Logged> {
        self.received = received;
        let status = response.status().as_u16();
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        // Answers to HEAD announce what they do not bring.
        let expected = if response.body().is_end_stream() { Some(0) } else { length };
        let multiplexed = version == Version::HTTP_2;
        response.map(|inner| Logged { inner, rest: Bytes::new(), multiplexed, entry: self, status, sent: 0, expected })
    }
}

/// A body that is counted.
pub(super) struct Logged {
    inner: Body,
    /// What was not handed out yet of the last part.
    rest: Bytes,
    /// Whether other answers share the connection, so that only the body can tell whether it is taken.
    multiplexed: bool,
    entry: Entry,
    status: u16,
    sent: u64,
    /// What the body brings in all, in bytes.
    expected: Option<u64>,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = self.next_part(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            Poll::Ready(Some(Err(error))) => tracing::error!(%error, path = self.entry.path, "an answer broke off"),
            Poll::Ready(None) | Poll::Pending => {}
        }
        if self.multiplexed {
            self.entry.beat.waits(matches!(polled, Poll::Ready(Some(Ok(_)))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

impl Logged {
    fn next_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            let polled = Pin::new(&mut self.inner).poll_frame(cx);
            match polled {
                Poll::Ready(Some(Ok(frame))) if self.multiplexed && frame.is_data() => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                other => return other,
            }
        }
        let part = self.rest.split_to(self.rest.len().min(PART));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let time = self.entry.begun.elapsed();
        let Entry { method, route, received, .. } = &self.entry;
        Answered { method, route, status: self.status, received: *received, sent: self.sent, time }.count();
        tracing::info!(
            target: "blob_registry::access",
            peer = %self.entry.peer,
            user = self.entry.user,
            method = %self.entry.method,
            path = self.entry.path,
            status = self.status,
            bytes = self.sent,
            whole = self.expected.is_none_or(|expected| expected == self.sent),
            micros = time.as_micros() as u64,
            "request"
        );
    }
}
