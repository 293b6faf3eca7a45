//! Single flight: of several callers that want the same thing at once, one fetches it.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// What all callers of one flight get.
type Landing<T, E> = Arc<OnceCell<Result<T, Arc<E>>>>;

/// Joins concurrent fetches of the same key.
///
/// ```
/// use blob_cache::Flights;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let flights: Flights<&str, u32, std::io::Error> = Flights::new();
/// let (a, b) = tokio::join!(
///     flights.fetch_once("answer", || async { tokio::task::yield_now().await; Ok(42) }),
///     flights.fetch_once("answer", || async { unreachable!("the first caller fetches") }),
/// );
/// assert_eq!((a.unwrap(), b.unwrap()), (42, 42));
/// # });
/// ```
pub struct Flights<K, T, E> {
    flying: Mutex<HashMap<K, Landing<T, E>>>,
}

impl<K: Eq + Hash + Clone, T: Clone, E> Flights<K, T, E> {
    /// Nothing is being fetched.
    pub fn new() -> Self {
        Self { flying: Mutex::default() }
    }

    /// Runs `fetch`, or waits for the caller that already fetches `key` and shares its outcome, failures included.
    /// Nothing is remembered once the flight is over, so a `fetch` that fills a cache looks there first: another flight
    /// may have landed since its caller looked.
    ///
    /// # Cancellation
    /// Dropping a waiting call harms nobody. When the fetching call is dropped, one that waits fetches instead, with
    /// its own `fetch`.
    pub async fn fetch_once<F>(&self, key: K, fetch: impl FnOnce() -> F) -> Result<T, Arc<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let landing = {
            let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(flying.entry(key.clone()).or_default())
        };
        let ticket = Ticket { flights: self, key, landing };
        ticket.landing.get_or_init(|| async { fetch().await.map_err(Arc::new) }).await.clone()
    }

    /// How many keys are being fetched.
    pub fn in_flight(&self) -> usize {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<K: Eq + Hash + Clone, T: Clone, E> Default for Flights<K, T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T, E> fmt::Debug for Flights<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// A caller's part in a flight. The last to leave, or the first after it landed, closes it.
struct Ticket<'a, K: Eq + Hash, T, E> {
    flights: &'a Flights<K, T, E>,
    key: K,
    landing: Landing<T, E>,
}

impl<K: Eq + Hash, T, E> Drop for Ticket<'_, K, T, E> {
    fn drop(&mut self) {
        let mut flying = self.flights.flying.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(landing) = flying.get(&self.key) else { return };
        // New callers join under this lock, so the count cannot grow meanwhile: 2 are the table and this ticket.
        let last = self.landing.initialized() || Arc::strong_count(landing) == 2;
        if Arc::ptr_eq(landing, &self.landing) && last {
            flying.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn concurrent_callers_share_one_fetch_and_its_failure() {
        let flights: Flights<u8, u32, &str> = Flights::new();
        let fetches = AtomicU32::new(0);
        let (flights, fetches) = (&flights, &fetches);
        let call = |fail: bool| {
            flights.fetch_once(7, move || async move {
                fetches.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                if fail { Err("broken") } else { Ok(1) }
            })
        };
        let all = futures_util::future::join_all((0..20).map(|_| call(true))).await;
        assert!(all.iter().all(|outcome| **outcome.as_ref().unwrap_err() == "broken"));
        assert_eq!((fetches.load(Ordering::Relaxed), flights.in_flight()), (1, 0));
        assert_eq!(call(false).await.unwrap(), 1);
        assert_eq!(fetches.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_waiter_takes_over_from_a_dropped_caller() {
        let flights: Flights<u8, u32, ()> = Flights::new();
        let mut stuck = Box::pin(flights.fetch_once(1, std::future::pending));
        assert!((&mut stuck).now_or_never().is_none());
        let mut idle = Box::pin(flights.fetch_once(1, || async { Ok(2) }));
        let mut waiting = Box::pin(flights.fetch_once(1, || async { Ok(3) }));
        assert!((&mut idle).now_or_never().is_none());
        assert!((&mut waiting).now_or_never().is_none());
        drop(idle);
        drop(stuck);
        assert_eq!(waiting.await.unwrap(), 3);
        assert_eq!(flights.in_flight(), 0);
    }
}
