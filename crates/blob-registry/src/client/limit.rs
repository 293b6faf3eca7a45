//! How many requests a registry bears at a time: one more after each success, half as many when it says that it is too
//! much (429, 503), and none at all for as long as it asks to be left alone. Registries count what is read, what is written
//! and manifests apart, so this does too: a burst of uploads that is too much for one says nothing about reads.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::error::Object;

/// More requests at a time are never sent.
const MOST: f64 = 64.0;

/// Refusals within this time are one event: they answer requests that went out together.
const ONE_EVENT: Duration = Duration::from_millis(200);

/// Longer waits are told: 5 s.
const LONG: Duration = Duration::from_secs(5);

/// What a request does, as registries count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It reads blobs or lists.
    Read,
    /// It uploads, mounts or deletes.
    Write,
    /// It is about a manifest or tag.
    Manifest,
}

impl Action {
    /// That of a request with this method about such an object.
    pub(super) fn of(method: &Method, object: Object) -> Self {
        match (object, method) {
            (Object::Manifest, _) => Self::Manifest,
            (_, &Method::GET | &Method::HEAD) => Self::Read,
            _ => Self::Write,
        }
    }
}

/// The requests of one client.
#[derive(Debug, Default)]
pub(super) struct Limit {
    state: Mutex<State>,
    /// Who waits, by action.
    left: [Notify; 3],
}

#[derive(Debug, Default)]
struct State {
    lanes: [Lane; 3],
    /// How many requests were answered so far.
    succeeded: u64,
    not_before: Option<Instant>,
}

/// The requests of one kind.
#[derive(Debug)]
struct Lane {
    allowed: f64,
    under_way: usize,
    lowered: Option<Instant>,
}

impl Default for Lane {
    fn default() -> Self {
        Self { allowed: MOST, under_way: 0, lowered: None }
    }
}

/// Leave to send one request.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Limit, Action);

impl Limit {
    /// Waits until one more request may be sent. Held from the request to the head of its answer; never while a body of
    /// ours is sent, since that may itself be read from the same registry.
    ///
    /// # Errors
    /// For how much longer the registry wants to be left alone, when that is more than what is left of `patience`.
    pub(super) async fn enter(&self, action: Action, patience: &mut Duration) -> Result<Permit<'_>, Duration> {
        loop {
            let mut left = std::pin::pin!(self.left[action as usize].notified());
            left.as_mut().enable();
            let until = {
                let mut state = self.lock();
                let until = state.pause();
                let lane = &mut state.lanes[action as usize];
                if until.is_none() && (lane.under_way as f64) < lane.allowed.max(1.0).floor() {
                    lane.under_way += 1;
                    return Ok(Permit(self, action));
                }
                until
            };
            match until {
                Some(until) => self.sit_out(until, patience).await?,
                None => left.await,
            }
        }
    }

    /// Waits as long as the registry asked to be left alone.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub(super) async fn pause(&self, patience: &mut Duration) -> Result<(), Duration> {
        loop {
            let Some(until) = self.lock().pause() else { return Ok(()) };
            self.sit_out(until, patience).await?;
        }
    }

    /// Waits until then, and takes it off `patience` unless another request is let through meanwhile: then it goes on,
    /// however slowly.
    async fn sit_out(&self, until: Instant, patience: &mut Duration) -> Result<(), Duration> {
        let time = until.saturating_duration_since(Instant::now());
        let left = patience.checked_sub(time).ok_or(time)?;
        let before = self.lock().succeeded;
        sleep_until(until).await;
        if self.lock().succeeded == before {
            *patience = left;
        }
        Ok(())
    }

    /// A request was answered.
    pub(super) fn succeeded(&self, action: Action) {
        let mut state = self.lock();
        state.succeeded += 1;
        let lane = &mut state.lanes[action as usize];
        if lane.allowed < MOST {
            lane.allowed = (lane.allowed + 1.0 / lane.allowed.max(1.0)).min(MOST);
            drop(state);
            self.left[action as usize].notify_one();
        }
    }

    /// The registry had too many requests of this kind.
    pub(super) fn refused(&self, action: Action) {
        let (mut state, now) = (self.lock(), Instant::now());
        let lane = &mut state.lanes[action as usize];
        if lane.lowered.is_some_and(|at| now.duration_since(at) < ONE_EVENT) {
            return;
        }
        lane.lowered = Some(now);
        // What was allowed and not used says nothing about what it bears.
        lane.allowed = (lane.allowed.min(lane.under_way.max(1) as f64 + 1.0) / 2.0).max(1.0);
        tracing::debug!(allowed = lane.allowed, ?action, "fewer requests at a time");
    }

    /// The registry wants no request for this long.
    pub(super) fn wait(&self, time: Duration) {
        let mut state = self.lock();
        // A time beyond the end of the clock is none.
        let Some(until) = Instant::now().checked_add(time) else { return };
        if state.not_before.is_none_or(|before| before < until) {
            if time >= LONG && state.pause().is_none() {
                tracing::warn!("the registry wants no requests for {} s", time.as_secs());
            }
            state.not_before = Some(until);
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
        self.0.lock().lanes[self.1 as usize].under_way -= 1;
        self.0.left[self.1 as usize].notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt as _;

    use super::*;
    use Action::Read;

    const ENDLESS: Duration = Duration::MAX;

    /// How many requests may be sent at a time.
    fn room(limit: &Limit) -> usize {
        room_for(limit, Read)
    }

    async fn enter(limit: &Limit, action: Action) -> Permit<'_> {
        limit.enter(action, &mut { ENDLESS }).await.unwrap()
    }

    fn room_for(limit: &Limit, action: Action) -> usize {
        let mut permits = Vec::new();
        while let Some(permit) = limit.enter(action, &mut { ENDLESS }).now_or_never() {
            permits.push(permit.unwrap());
        }
        permits.len()
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_halve_and_successes_add() {
        let limit = Limit::default();
        assert_eq!(room(&limit), 64);
        let under_way: Vec<_> = futures_util::future::join_all((0..16).map(|_| enter(&limit, Read))).await;
        limit.refused(Read);
        limit.refused(Read);
        drop(under_way);
        assert_eq!((room_for(&limit, Action::Write), room_for(&limit, Action::Manifest)), (64, 64));
        assert_eq!(room(&limit), 8, "refusals that come together count once, and only what was used counts");
        for expected in [1, 1, 1] {
            tokio::time::advance(Duration::from_secs(1)).await;
            limit.refused(Read);
            assert_eq!(room(&limit), expected);
        }
        (0..1000).for_each(|_| limit.succeeded(Read));
        assert!(room(&limit) > 40);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_and_a_wish_to_be_left_alone_is_heeded() {
        let limit = Limit::default();
        limit.refused(Read);
        let first = enter(&limit, Read).await;
        let other = enter(&limit, Action::Write).await;
        let (second, ()) = tokio::join!(enter(&limit, Read), async { drop((other, first)) });
        drop(second);
        limit.wait(Duration::from_secs(5));
        let before = Instant::now();
        drop(enter(&limit, Action::Manifest).await);
        limit.pause(&mut { ENDLESS }).await.unwrap();
        assert!(before.elapsed() >= Duration::from_secs(5));
        // Patience has an end, and is told at once.
        let (mut patience, before) = (Duration::from_secs(7), Instant::now());
        limit.wait(Duration::from_secs(5));
        drop(limit.enter(Read, &mut patience).await.unwrap());
        limit.wait(Duration::from_secs(3));
        assert_eq!(limit.enter(Read, &mut patience).await.err(), Some(Duration::from_secs(3)));
        assert_eq!(limit.pause(&mut patience).await, Err(Duration::from_secs(3)));
        assert_eq!((before.elapsed(), patience), (Duration::from_secs(5), Duration::from_secs(2)));
        // While others are let through, nobody loses patience.
        tokio::time::advance(Duration::from_secs(3)).await;
        limit.wait(Duration::from_secs(2));
        let (entered, ()) = tokio::join!(limit.enter(Read, &mut patience), async { limit.succeeded(Read) });
        assert!(entered.is_ok() && patience == Duration::from_secs(2));
    }
}
