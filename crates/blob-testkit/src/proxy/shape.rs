//! A slow line: round-trip time and bandwidth.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::count::Way;

/// A gap in what is sent that is shorter than this leaves no gap on the line: 5 ms. Real senders have queues, which keep
/// the line busy while a program is late; here the timers of a busy machine are.
const QUEUE: Duration = Duration::from_millis(5);

/// What the line between client and proxy is like. The default is loopback as it is.
///
/// The model is simple on purpose: opening a connection costs one round trip, every request one more before its answer
/// begins, and all bodies of one direction share one bandwidth. Headers cost nothing. Gaps of less than 5 ms between
/// bytes are filled, as the queues of real senders do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Round-trip time.
    pub round_trip: Duration,
    /// Bytes per second in each direction; `None` is unlimited.
    pub bytes_per_second: Option<u64>,
}

impl Shape {
    /// A line of `megabits` Mbit/s with the given round-trip time.
    #[must_use]
    pub fn line(round_trip: Duration, megabits: u64) -> Self {
        Self { round_trip, bytes_per_second: Some(megabits * 125_000) }
    }
}

/// The line in use: remembers until when each direction is busy.
#[derive(Debug)]
pub(super) struct Line {
    shape: Shape,
    busy_until: Mutex<[Option<Instant>; 2]>,
}

impl Line {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, busy_until: Mutex::new([None; 2]) }
    }

    /// Waits one round trip.
    pub(super) async fn round_trip(&self) {
        if !self.shape.round_trip.is_zero() {
            sleep(self.shape.round_trip).await;
        }
    }

    /// Waits until `bytes` have gone over the line after everything that was sent before them.
    pub(super) async fn transfer(&self, way: Way, bytes: usize) {
        if let Some(until) = self.reserve(way, bytes, Instant::now()) {
            sleep_until(until).await;
        }
    }

    fn reserve(&self, way: Way, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = self.shape.bytes_per_second?.max(1);
        let lane = usize::from(way == Way::Down);
        let mut busy = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let start = busy[lane].filter(|until| now <= *until + QUEUE).unwrap_or(now);
        let until = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
        busy[lane] = Some(until);
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_queue_up_behind_each_other_and_not_behind_the_other_direction() {
        let line = Line::new(Shape { round_trip: Duration::ZERO, bytes_per_second: Some(1000) });
        let now = Instant::now();
        assert_eq!(line.reserve(Way::Down, 500, now), Some(now + Duration::from_millis(500)));
        assert_eq!(line.reserve(Way::Down, 500, now), Some(now + Duration::from_secs(1)));
        assert_eq!(line.reserve(Way::Up, 100, now), Some(now + Duration::from_millis(100)));
        let late = now + Duration::from_millis(1003);
        assert_eq!(line.reserve(Way::Down, 500, late), Some(now + Duration::from_millis(1500)));
        let later = now + Duration::from_secs(5);
        assert_eq!(line.reserve(Way::Down, 1000, later), Some(later + Duration::from_secs(1)));
    }

    #[test]
    fn an_unlimited_line_never_waits() {
        assert_eq!(Line::new(Shape::default()).reserve(Way::Down, usize::MAX, Instant::now()), None);
        assert_eq!(Shape::line(Duration::ZERO, 8).bytes_per_second, Some(1_000_000));
    }
}
