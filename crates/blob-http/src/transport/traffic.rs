//! Counting what goes over the wire, so that laziness can be shown and asserted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a transport has moved so far. Bytes are those of bodies: headers do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Requests sent, each attempt and each redirect for itself.
    pub requests: u64,
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of answers.
    pub received: u64,
}

/// The counters behind [`Traffic`]; clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(Arc<[AtomicU64; 3]>);

impl Counters {
    pub(super) fn request(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.0[1].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.0[2].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        let [requests, sent, received] = &*self.0;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic { requests: read(requests), sent: read(sent), received: read(received) }
    }
}
