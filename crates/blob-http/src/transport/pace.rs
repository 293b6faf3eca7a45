//! Holding back: bodies of all requests together move at most so many bytes a second.

use std::num::NonZero;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// When the line is free again. Whoever moved something waits until then before it moves more, so that the rate holds for
/// all together, whatever they move at a time.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: NonZero<u64>,
    free: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: NonZero<u64>) -> Self {
        Self { bytes_per_second, free: Mutex::new(None) }
    }

    /// Counts `bytes` that moved just now; the pause that follows.
    pub(super) fn pause(&self, bytes: usize) -> Option<Pin<Box<Sleep>>> {
        (bytes > 0).then(|| Box::pin(sleep_until(self.take(Instant::now(), bytes as u64))))
    }

    fn take(&self, now: Instant, bytes: u64) -> Instant {
        // One value is replaced as a whole.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        let until = free.map_or(now, |free| free.max(now));
        let until = until.checked_add(time).unwrap_or(until);
        *free = Some(until);
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_for_all_together_and_idle_time_is_not_saved_up() {
        let pace = Pace::new(NonZero::new(1000).expect("it is not zero"));
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(pace.take(begin, 500), begin + second / 2);
        assert_eq!(pace.take(begin, 1500), begin + 2 * second);
        assert_eq!(pace.take(begin + 10 * second, 1000), begin + 11 * second);
        assert!(pace.pause(0).is_none());
    }
}
