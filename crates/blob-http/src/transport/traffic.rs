//! Counting what goes over the wire, so that laziness can be shown and asserted.

use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Sleep;

use super::pace::Pace;

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
pub(super) struct Counters {
    numbers: Arc<[AtomicU64; 3]>,
    pace: Option<Arc<Pace>>,
}

impl Counters {
    /// Counters of bodies that move at most so many bytes a second, all together.
    pub(super) fn new(max_bytes_per_second: Option<NonZero<u64>>) -> Self {
        Self { numbers: Arc::default(), pace: max_bytes_per_second.map(|rate| Arc::new(Pace::new(rate))) }
    }

    /// How long to hold back after so many bytes.
    pub(super) fn pause(&self, bytes: usize) -> Option<Pin<Box<Sleep>>> {
        self.pace.as_ref()?.pause(bytes)
    }

    pub(super) fn request(&self) {
        self.numbers[0].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.numbers[1].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.numbers[2].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        let [requests, sent, received] = &*self.numbers;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic { requests: read(requests), sent: read(sent), received: read(received) }
    }
}
