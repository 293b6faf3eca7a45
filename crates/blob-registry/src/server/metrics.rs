//! What is counted, as events under the target `blob_registry::metrics`.
//!
//! The fields are named as the metrics layer of `tracing-opentelemetry` reads them (`monotonic_counter.`, `counter.`,
//! `histogram.`); any other subscriber can add them up as well. What a client chooses freely (names, users, addresses)
//! is in none of them, so that their number of combinations is bounded.

use std::time::Duration;

use http::Method;

/// A request that was answered, or whose answer was given up.
pub(super) struct Answered<'a> {
    pub(super) method: &'a Method,
    /// What it was about, see [`Route::kind`](super::route::Route::kind).
    pub(super) route: &'static str,
    pub(super) status: u16,
    /// Bytes of its body, as far as it was read.
    pub(super) received: u64,
    /// Bytes of the answer's body, as far as it went out.
    pub(super) sent: u64,
    /// From its head to the last byte of the answer.
    pub(super) time: Duration,
}

impl Answered<'_> {
    pub(super) fn count(&self) {
        let method = match *self.method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        tracing::trace!(target: "blob_registry::metrics", {
            monotonic_counter.blob_registry_requests = 1_u64,
            monotonic_counter.blob_registry_received_bytes = self.received,
            monotonic_counter.blob_registry_sent_bytes = self.sent,
            histogram.blob_registry_request_seconds = self.time.as_secs_f64(),
            method,
            route = self.route,
            status = self.status,
        }, "request");
    }
}

/// An open connection: counted up when it is made and down when it is dropped.
pub(super) struct Connected(());

impl Connected {
    pub(super) fn new() -> Self {
        tracing::trace!(target: "blob_registry::metrics", {
            monotonic_counter.blob_registry_connections = 1_u64,
            counter.blob_registry_open_connections = 1_i64,
        }, "connection");
        Self(())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        tracing::trace!(target: "blob_registry::metrics", {
            counter.blob_registry_open_connections = -1_i64,
        }, "connection");
    }
}
