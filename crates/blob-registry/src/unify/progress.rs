//! One watcher for a push to several registries.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use blob_core::{Event, Progress};

use crate::registry::PushBlob;

type Watcher = Option<(String, Arc<dyn Progress>)>;

/// Tells the watcher how far the slowest registry is, so that what it hears never goes back.
pub(super) struct Slowest {
    watcher: Arc<dyn Progress>,
    states: Mutex<Vec<State>>,
}

#[derive(Clone, Copy)]
struct State {
    bytes: u64,
    existing: bool,
}

/// The side of one registry.
struct Side {
    all: Arc<Slowest>,
    at: usize,
}

impl Slowest {
    /// A watcher for each of `count` registries, in place of the one of `blob`.
    pub(super) fn split(blob: &PushBlob, count: usize) -> Vec<Watcher> {
        let Some((what, watcher)) = &blob.progress else { return vec![None; count] };
        if count == 1 {
            return vec![blob.progress.clone()];
        }
        let states = Mutex::new(vec![State { bytes: 0, existing: false }; count]);
        let all = Arc::new(Self { watcher: Arc::clone(watcher), states });
        let side = |at| Some((what.clone(), Arc::new(Side { all: Arc::clone(&all), at }) as Arc<dyn Progress>));
        (0..count).map(side).collect()
    }
}

impl Progress for Side {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        let (what, total, state) = match *event {
            Event::Uploading { what, bytes, bytes_total } => (what, bytes_total, State { bytes, existing: false }),
            Event::Existing { what, bytes } => (what, bytes, State { bytes, existing: true }),
            _ => return self.all.watcher.event(event),
        };
        let mut states = self.all.states.lock().unwrap_or_else(PoisonError::into_inner);
        states[self.at] = state;
        let bytes = states.iter().map(|state| state.bytes).min().unwrap_or(0);
        let existing = states.iter().all(|state| state.existing);
        // The lock is held so that watchers hear the numbers in their order; they do not block.
        self.all.watcher.event(&if existing {
            Event::Existing { what, bytes: total }
        } else {
            Event::Uploading { what, bytes, bytes_total: total }
        })
    }
}
