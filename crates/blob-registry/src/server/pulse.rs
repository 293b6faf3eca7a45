//! Whether the client of a connection still takes part.
//!
//! An HTTP/2 client can stay on the wire without taking any of its answers, or without asking for anything. The HTTP
//! layer tolerates both for ever; here a connection knows since when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What the answers of one connection do. Clones are the same connection.
#[derive(Clone)]
pub(super) struct Pulse(Arc<Mutex<State>>);

struct State {
    next: u64,
    /// Since when each answer waits for the client, if it does.
    answers: HashMap<u64, Option<Instant>>,
    /// When the last one ended.
    quiet_since: Instant,
}

impl Pulse {
    /// A connection that nobody has asked anything on.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { next: 0, answers: HashMap::new(), quiet_since: Instant::now() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come; its answer lives as long as what is returned.
    pub(super) fn begin(&self) -> Beat {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.answers.insert(number, None);
        drop(state);
        Beat { pulse: self.clone(), number }
    }

    /// Returns when an answer has waited for the client for `patience`.
    pub(super) async fn stalled(&self, patience: Duration) {
        let waited = |state: &State| state.answers.values().flatten().map(Instant::elapsed).max();
        self.until(patience, waited).await;
    }

    /// Returns when nothing has been asked or answered for `patience`.
    pub(super) async fn quiet(&self, patience: Duration) {
        let waited = |state: &State| state.answers.is_empty().then(|| state.quiet_since.elapsed());
        self.until(patience, waited).await;
    }

    async fn until(&self, patience: Duration, waited: impl Fn(&State) -> Option<Duration>) {
        loop {
            let waited = waited(&self.state()).unwrap_or_default();
            let Some(left) = patience.checked_sub(waited).filter(|left| !left.is_zero()) else { return };
            tokio::time::sleep(left).await;
        }
    }
}

/// An answer in the making or on its way.
pub(super) struct Beat {
    pulse: Pulse,
    number: u64,
}

impl Beat {
    /// Whether a part was handed out that the client has to take before more is asked for.
    pub(super) fn waits(&self, waits: bool) {
        self.pulse.state().answers.insert(self.number, waits.then(Instant::now));
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        let mut state = self.pulse.state();
        state.answers.remove(&self.number);
        state.quiet_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn answers_stall_when_the_client_takes_nothing() {
        let (pulse, begun) = (Pulse::new(), Instant::now());
        let (slow, other) = (pulse.begin(), pulse.begin());
        slow.waits(true);
        tokio::time::sleep(SECOND).await;
        slow.waits(false);
        other.waits(true);
        pulse.stalled(SECOND * 3).await;
        assert_eq!(begun.elapsed(), SECOND * 4);
        drop(other);
        assert!(tokio::time::timeout(SECOND * 100, pulse.stalled(SECOND)).await.is_err(), "the other one waits for us");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_quiet_when_nothing_is_asked_of_it() {
        let (pulse, begun) = (Pulse::new(), Instant::now());
        pulse.quiet(SECOND).await;
        assert_eq!(begun.elapsed(), SECOND);
        let answer = pulse.begin();
        assert!(tokio::time::timeout(SECOND * 100, pulse.quiet(SECOND)).await.is_err());
        drop(answer);
        pulse.quiet(SECOND).await;
        assert_eq!(begun.elapsed(), SECOND * 102);
    }
}
