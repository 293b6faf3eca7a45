//! What could not be read, for a while: whoever reads a file asks again at once when a read fails, above all the kernel, and
//! nothing of what was fetched for the first answer could be kept for the second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Unreadable;
use super::held::Key;

/// How long damaged content stays damaged. It is what the registry has, and the whole of it is fetched to find out.
const DAMAGED: Duration = Duration::from_secs(10);

/// How long everything else fails: long enough for who asks again at once, and short enough for who has freed room, or waits for
/// a registry to come back.
const OTHERWISE: Duration = Duration::from_secs(2);

/// Failures that are known at a time.
const MOST: usize = 4096;

/// What failed, and until when that is believed.
#[derive(Debug, Default)]
pub(super) struct Failed(HashMap<Key, (Unreadable, Instant)>);

impl Failed {
    /// Why the content could not be read, if that was a moment ago.
    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Unreadable> {
        self.0.get(key).filter(|(_, until)| now < *until).map(|(why, _)| *why)
    }

    /// Takes note of a failure; where there are too many, those go that end first.
    pub(super) fn put(&mut self, key: Key, why: Unreadable, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= MOST {
            let mut ends: Vec<Instant> = self.0.values().map(|(_, until)| *until).collect();
            let (_, middle, _) = ends.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.0.retain(|_, (_, until)| *until > middle);
        }
        let lasts = if why == Unreadable::Damaged { DAMAGED } else { OTHERWISE };
        self.0.insert(key, (why, now + lasts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_known_for_a_while() {
        let (mut failed, now) = (Failed::default(), Instant::now());
        failed.put(Key::number(0), Unreadable::Damaged, now);
        failed.put(Key::number(1), Unreadable::NoRoom, now);
        for (number, seconds, expected) in [
            (0, 0, Some(Unreadable::Damaged)),
            (0, 9, Some(Unreadable::Damaged)),
            (0, 10, None),
            (1, 1, Some(Unreadable::NoRoom)),
            (1, 2, None),
            (2, 0, None),
        ] {
            let found = failed.find(&Key::number(number), now + Duration::from_secs(seconds));
            assert_eq!(found, expected, "{number} after {seconds} s");
        }
    }

    #[test]
    fn there_are_never_too_many() {
        let (mut failed, now) = (Failed::default(), Instant::now());
        for number in 0..3 * MOST as u64 {
            failed.put(Key::number(number), Unreadable::Damaged, now + Duration::from_millis(number / 100));
            assert!(failed.0.len() <= MOST, "{number}");
        }
        assert!(failed.find(&Key::number(3 * MOST as u64 - 1), now).is_some(), "the last one is known");
        let later = now + Duration::from_mins(1);
        failed.put(Key::number(0), Unreadable::Failed, later);
        assert!(failed.find(&Key::number(0), later).is_some());
    }
}
