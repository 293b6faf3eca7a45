//! How many requests a registry bears at a time: one more after each success, half as many when it says that it is too
//! much (429, 503), and none at all for as long as it asks to be left alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// More requests at a time are never sent.
const MOST: f64 = 64.0;

/// Refusals within this time are one event: they answer requests that went out together.
const ONE_EVENT: Duration = Duration::from_millis(200);

/// The requests of one client.
#[derive(Debug)]
pub(super) struct Limit {
    state: Mutex<State>,
    left: Notify,
}

#[derive(Debug)]
struct State {
    allowed: f64,
    under_way: usize,
    lowered: Option<Instant>,
    not_before: Option<Instant>,
}

/// Leave to send one request.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Limit);

impl Default for Limit {
    fn default() -> Self {
        let state = State { allowed: MOST, under_way: 0, lowered: None, not_before: None };
        Self { state: Mutex::new(state), left: Notify::new() }
    }
}

impl Limit {
    /// Waits until one more request may be sent. Held from the request to the head of its answer; never while a body of
    /// ours is sent, since that may itself be read from the same registry.
    pub(super) async fn enter(&self) -> Permit<'_> {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            let until = {
                let mut state = self.lock();
                let until = state.pause();
                if until.is_none() && (state.under_way as f64) < state.allowed.max(1.0).floor() {
                    state.under_way += 1;
                    return Permit(self);
                }
                until
            };
            match until {
                Some(until) => sleep_until(until).await,
                None => left.await,
            }
        }
    }

    /// Waits as long as the registry asked to be left alone.
    pub(super) async fn pause(&self) {
        loop {
            let Some(until) = self.lock().pause() else { return };
            sleep_until(until).await;
        }
    }

    /// A request was answered.
    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        if state.allowed < MOST {
            state.allowed = (state.allowed + 1.0 / state.allowed.max(1.0)).min(MOST);
            drop(state);
            self.left.notify_one();
        }
    }

    /// The registry had too many requests.
    pub(super) fn refused(&self) {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.lowered.is_some_and(|at| now.duration_since(at) < ONE_EVENT) {
            return;
        }
        state.lowered = Some(now);
        // What was allowed and not used says nothing about what it bears.
        state.allowed = (state.allowed.min(state.under_way.max(1) as f64 + 1.0) / 2.0).max(1.0);
        tracing::debug!(allowed = state.allowed, "fewer requests at a time");
    }

    /// The registry wants no request for this long.
    pub(super) fn wait(&self, time: Duration) {
        let mut state = self.lock();
        // A time beyond the end of the clock is none.
        if let Some(until) = Instant::now().checked_add(time) {
            state.not_before = Some(state.not_before.map_or(until, |before| before.max(until)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Until when nothing is sent, if that is still to come.
    fn pause(&mut self) -> Option<Instant> {
        let until = self.not_before.filter(|&until| until > Instant::now());
        self.not_before = until;
        until
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// How many requests may be sent at a time.
    fn room(limit: &Limit) -> usize {
        let mut permits = Vec::new();
        while let Some(permit) = limit.enter().now_or_never() {
            permits.push(permit);
        }
        permits.len()
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_halve_and_successes_add() {
        let limit = Limit::default();
        assert_eq!(room(&limit), 64);
        let under_way: Vec<_> = futures_util::future::join_all((0..16).map(|_| limit.enter())).await;
        limit.refused();
        limit.refused();
        drop(under_way);
        assert_eq!(room(&limit), 8, "refusals that come together count once, and only what was used counts");
        for expected in [1, 1, 1] {
            tokio::time::advance(Duration::from_secs(1)).await;
            limit.refused();
            assert_eq!(room(&limit), expected);
        }
        (0..1000).for_each(|_| limit.succeeded());
        assert!(room(&limit) > 40);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_and_a_wish_to_be_left_alone_is_heeded() {
        let limit = Limit::default();
        limit.refused();
        let first = limit.enter().await;
        let (second, ()) = tokio::join!(limit.enter(), async { drop(first) });
        drop(second);
        limit.wait(Duration::from_secs(5));
        let before = Instant::now();
        drop(limit.enter().await);
        limit.pause().await;
        assert!(before.elapsed() >= Duration::from_secs(5));
    }
}
