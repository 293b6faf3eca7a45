//! How many connections pay: one more as long as the whole gets faster, fewer when it does not or the far side groans.
//! Numbers only; the caller has the clock.

use std::time::Duration;

/// What the whole must gain from one more connection for it to stay.
const WORTH: f64 = 1.10;

/// So long is looked at before anything is concluded.
const WINDOW: Duration = Duration::from_millis(500);

/// After so many windows it is tried again whether one more connection pays: lines change.
const PATIENCE: u32 = 20;

/// Tunes the number of connections by what they bring.
#[derive(Debug)]
pub(super) struct Pace {
    wanted: usize,
    most: usize,
    /// Bytes per second with one connection fewer, while one more is on trial.
    before: Option<f64>,
    /// Windows since it was found that one more does not pay.
    settled: Option<u32>,
    window: (Duration, u64),
}

impl Pace {
    /// Begins with two connections, or with `most`.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { wanted: most.min(2), most, before: None, settled: None, window: (Duration::ZERO, 0) }
    }

    /// How many connections to use.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Takes note that at `now`, counted from the beginning, `bytes` have come in all.
    pub(super) fn observe(&mut self, now: Duration, bytes: u64) {
        let (since, seen) = self.window;
        let took = now.saturating_sub(since);
        // As long as nothing comes at all, nothing is known.
        if took < WINDOW || bytes == 0 {
            return;
        }
        self.window = (now, bytes);
        let rate = bytes.saturating_sub(seen) as f64 / took.as_secs_f64();
        match (self.before, self.settled) {
            (Some(before), _) if rate < before * WORTH => {
                self.wanted = (self.wanted - 1).max(1);
                (self.before, self.settled) = (None, Some(0));
            }
            (None, Some(windows)) if windows < PATIENCE => self.settled = Some(windows + 1),
            _ if self.wanted < self.most => {
                self.wanted += 1;
                (self.before, self.settled) = (Some(rate), None);
            }
            _ => (self.before, self.settled) = (None, Some(0)),
        }
    }

    /// The far side had too much of it, or a connection failed while others went on: half as many.
    pub(super) fn congested(&mut self) {
        self.wanted = (self.wanted / 2).max(1);
        (self.before, self.settled) = (None, Some(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs for `seconds` against a line that gives `rate` for a number of connections.
    fn run(pace: &mut Pace, from: u64, seconds: u64, rate: impl Fn(usize) -> u64) -> u64 {
        let mut bytes = 0;
        for half in 1..=2 * seconds {
            bytes += rate(pace.wanted()) / 2;
            pace.observe(Duration::from_millis((2 * from + half) * 500), bytes);
        }
        bytes
    }

    #[test]
    fn connections_are_added_while_they_pay() {
        let mut pace = Pace::new(8);
        assert_eq!(pace.wanted(), 2);
        run(&mut pace, 0, 20, |wanted| 1000 * wanted.min(5) as u64);
        assert_eq!(pace.wanted(), 5);
        let mut full = Pace::new(8);
        run(&mut full, 0, 3, |_| 1000);
        assert_eq!(full.wanted(), 2, "a line that is full gains nothing");
        let mut boundless = Pace::new(8);
        run(&mut boundless, 0, 60, |wanted| 1000 * wanted as u64);
        assert!((7..=8).contains(&boundless.wanted()));
        assert_eq!(Pace::new(1).wanted(), 1);
        assert_eq!(Pace::new(0).wanted(), 1);
    }

    #[test]
    fn trouble_halves_them_and_later_they_come_back() {
        let mut pace = Pace::new(8);
        run(&mut pace, 0, 20, |wanted| 1000 * wanted as u64);
        let before = pace.wanted();
        pace.congested();
        assert_eq!(pace.wanted(), before / 2);
        (0..10).for_each(|_| pace.congested());
        assert_eq!(pace.wanted(), 1);
        run(&mut pace, 20, 30, |wanted| 1000 * wanted as u64);
        assert!(pace.wanted() > 2, "{}", pace.wanted());
    }
}
