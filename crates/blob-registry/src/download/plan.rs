//! Which bytes of a blob are here, on their way, or nobody's yet. Numbers only: no network, no file, no clock.

use std::ops::Range;

/// Names a part that somebody fetches.
pub(super) type Part = usize;

/// The bytes of one blob. Each is in exactly one place: finished, in a part that is under way, or free.
#[derive(Debug)]
pub(super) struct Plan {
    size: u64,
    /// Nobody's, in order, neither empty nor touching each other.
    free: Vec<Range<u64>>,
    /// What parts still lack; `None` for names that can be given out again.
    parts: Vec<Option<Range<u64>>>,
}

impl Plan {
    /// A blob of `size` bytes of which `finished` are here: in order and disjoint, as [`finished`](Self::finished) gives
    /// them.
    pub(super) fn new(size: u64, finished: &[Range<u64>]) -> Self {
        let mut free = Vec::new();
        let mut at = 0;
        for range in finished {
            if at < range.start {
                free.push(at..range.start.min(size));
            }
            at = at.max(range.end);
        }
        if at < size {
            free.push(at..size);
        }
        Self { size, free, parts: Vec::new() }
    }

    /// Takes at most `most` of the first bytes that are nobody's.
    pub(super) fn claim(&mut self, most: u64) -> Option<(Part, Range<u64>)> {
        let first = self.free.first_mut()?;
        let end = first.end.min(first.start.saturating_add(most.max(1)));
        let claimed = first.start..end;
        first.start = end;
        if first.is_empty() {
            self.free.remove(0);
        }
        Some((self.name(claimed.clone()), claimed))
    }

    /// Takes the second half of what `part` still lacks.
    pub(super) fn split(&mut self, part: Part) -> Option<(Part, Range<u64>)> {
        let left = self.parts.get_mut(part)?.as_mut()?;
        let middle = left.start + (left.end - left.start) / 2;
        let taken = middle..left.end;
        if left.start == middle {
            return None;
        }
        left.end = middle;
        Some((self.name(taken.clone()), taken))
    }

    /// What `part` still lacks. Its end may move towards its start when somebody takes a half.
    pub(super) fn left(&self, part: Part) -> Range<u64> {
        self.parts.get(part).cloned().flatten().unwrap_or_default()
    }

    /// The next `bytes` of `part` are here.
    pub(super) fn advance(&mut self, part: Part, bytes: u64) {
        if let Some(Some(left)) = self.parts.get_mut(part) {
            left.start = left.end.min(left.start.saturating_add(bytes));
        }
    }

    /// `part` is given up: what it lacks is nobody's again.
    pub(super) fn release(&mut self, part: Part) {
        let Some(left) = self.parts.get_mut(part).and_then(Option::take).filter(|left| !left.is_empty()) else {
            return;
        };
        let at = self.free.partition_point(|range| range.start < left.start);
        self.free.insert(at, left);
        self.free.dedup_by(|next, range| {
            let touching = range.end == next.start;
            if touching {
                range.end = next.end;
            }
            touching
        });
    }

    /// How many bytes from the beginning are here without a gap.
    pub(super) fn prefix(&self) -> u64 {
        self.missing().map(|range| range.start).min().unwrap_or(self.size)
    }

    /// How many bytes are not here.
    pub(super) fn bytes_left(&self) -> u64 {
        self.missing().map(|range| range.end - range.start).sum()
    }

    /// How many bytes are nobody's.
    pub(super) fn bytes_free(&self) -> u64 {
        self.free.iter().map(|range| range.end - range.start).sum()
    }

    /// The parts under way with the number of bytes that each lacks.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (Part, u64)> {
        let parts = self.parts.iter().enumerate();
        parts.filter_map(|(part, left)| left.as_ref().map(|left| (part, left.end - left.start)))
    }

    /// What is here, in order and disjoint.
    pub(super) fn finished(&self) -> Vec<Range<u64>> {
        let mut missing: Vec<_> = self.missing().cloned().collect();
        missing.sort_unstable_by_key(|range| range.start);
        let mut finished = Vec::new();
        let mut at = 0;
        for range in missing {
            if at < range.start {
                finished.push(at..range.start);
            }
            at = range.end;
        }
        if at < self.size {
            finished.push(at..self.size);
        }
        finished
    }

    fn missing(&self) -> impl Iterator<Item = &Range<u64>> {
        self.free.iter().chain(self.parts.iter().flatten()).filter(|range| !range.is_empty())
    }

    fn name(&mut self, range: Range<u64>) -> Part {
        if let Some(part) = self.parts.iter().position(Option::is_none) {
            self.parts[part] = Some(range);
            return part;
        }
        self.parts.push(Some(range));
        self.parts.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_claimed_in_order_and_halved() {
        let mut plan = Plan::new(100, &[10..20, 50..60]);
        assert_eq!(plan.claim(30), Some((0, 0..10)));
        assert_eq!(plan.claim(30), Some((1, 20..50)));
        plan.advance(1, 10);
        assert_eq!(plan.split(1), Some((2, 40..50)));
        assert_eq!(plan.left(1), 30..40);
        assert_eq!(plan.prefix(), 0);
        plan.advance(0, 10);
        assert_eq!(plan.prefix(), 30);
        plan.release(0);
        plan.release(1);
        assert_eq!(plan.claim(1000), Some((0, 30..40)), "what was given up comes first");
        assert_eq!(plan.bytes_free(), 40);
        assert_eq!(plan.finished(), [0..30, 50..60]);
        plan.release(2);
        plan.release(0);
        assert_eq!(plan.claim(1000), Some((0, 30..50)), "neighbours become one");
        assert_eq!(Plan::new(0, &[]).claim(1), None);
        assert_eq!(Plan::new(5, &[]).split(0), None);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_fetched_twice(size in 0_u64..500, steps in prop::collection::vec((0_u8..5, 0_usize..6, 1_u64..60), 0..200)) {
            let mut plan = Plan::new(size, &[]);
            let mut seen = vec![0_u32; size as usize];
            for (step, part, bytes) in steps {
                match step {
                    0 => drop(plan.claim(bytes)),
                    1 => drop(plan.split(part)),
                    2 => plan.release(part),
                    _ => {
                        let left = plan.left(part);
                        let end = left.end.min(left.start + bytes);
                        seen[left.start as usize..end.max(left.start) as usize].iter_mut().for_each(|byte| *byte += 1);
                        plan.advance(part, bytes);
                    }
                }
                let here: Vec<usize> = plan.finished().into_iter().flat_map(|range| range.start as usize..range.end as usize).collect();
                let expected: Vec<usize> = (0..size as usize).filter(|&byte| seen[byte] == 1).collect();
                prop_assert_eq!(&here, &expected);
                prop_assert_eq!(plan.bytes_left(), size - here.len() as u64);
                prop_assert!(seen.iter().all(|&count| count <= 1));
                prop_assert_eq!(plan.prefix() as usize, seen.iter().position(|&count| count == 0).unwrap_or(size as usize));
                let again = Plan::new(size, &plan.finished());
                prop_assert_eq!(again.bytes_left(), plan.bytes_left());
            }
        }
    }
}
