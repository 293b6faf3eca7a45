//! Which registries are worth asking now.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Result;

/// A registry that fails again and again rests at most 2^6 times as long as after the first time.
const MAX_DOUBLINGS: u32 = 6;

/// What is known of a registry's health.
#[derive(Debug)]
pub(super) struct Health {
    back_off: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    resting_until: Option<Instant>,
}

impl Health {
    pub(super) fn new(back_off: Duration) -> Self {
        Self { back_off, state: Mutex::default() }
    }

    /// Whether it failed a moment ago.
    pub(super) fn is_resting(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.resting_until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes note of an answer. Only failures that may pass count: whoever says "not found" is well.
    pub(super) fn note<T>(&self, result: &Result<T>) {
        let failed = result.as_ref().is_err_and(super::RegistryError::is_transient);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            *state = State::default();
            return;
        }
        let rest = self.back_off.saturating_mul(1 << state.failures.min(MAX_DOUBLINGS));
        state.failures = state.failures.saturating_add(1);
        state.resting_until = Instant::now().checked_add(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorCode, RegistryError};

    #[tokio::test(start_paused = true)]
    async fn rests_grow_with_failures_and_end() {
        let health = Health::new(Duration::from_secs(1));
        let answer = |code| Err::<(), _>(RegistryError::code("x", code));
        health.note(&answer(ErrorCode::ManifestUnknown));
        assert!(!health.is_resting(), "not found is an answer");
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            health.note(&answer(ErrorCode::TooManyRequests));
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(health.is_resting(), "{seconds}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!health.is_resting(), "{seconds}");
        }
        health.note(&answer(ErrorCode::TooManyRequests));
        health.note(&Ok(()));
        assert!(!health.is_resting());
    }
}
