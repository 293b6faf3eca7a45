//! Arithmetic on byte ranges: bounds, and merging near ranges into few reads.
//!
//! Ranges are `Range<u64>`, in bytes, end-exclusive.

use std::ops::Range;

/// A read that serves several wanted ranges at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What to read.
    pub range: Range<u64>,
    /// Which of the wanted ranges lie in it: positions in the slice given to [`coalesce`].
    pub members: Range<usize>,
}

/// Merges `wanted`, sorted by start, into runs: ranges at most `max_gap` bytes apart share a run as long as the run
/// stays within `max_len` bytes. A single range longer than `max_len` is a run by itself; empty ranges join any run.
///
/// ```
/// use blob_core::range::coalesce;
///
/// let runs = coalesce(&[0..10, 12..20, 500..600], 64, 1024);
/// assert_eq!(runs.len(), 2);
/// assert_eq!(runs[0].range, 0..20);
/// assert_eq!(runs[1].members, 2..3);
/// ```
pub fn coalesce(wanted: &[Range<u64>], max_gap: u64, max_len: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (position, range) in wanted.iter().enumerate() {
        if let Some(run) = runs.last_mut() {
            let end = run.range.end.max(range.end);
            let near = range.start <= run.range.end.saturating_add(max_gap);
            let inside = range.is_empty() || range.end <= run.range.end;
            if inside || (near && end - run.range.start <= max_len) {
                if !range.is_empty() {
                    run.range.end = end;
                }
                run.members.end = position + 1;
                continue;
            }
        }
        runs.push(Run { range: range.clone(), members: position..position + 1 });
    }
    runs
}

/// Whether `range` is in order and lies within `size` bytes.
pub const fn fits(range: &Range<u64>, size: u64) -> bool {
    range.start <= range.end && range.end <= size
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_ranges_stand_alone() {
        let runs = coalesce(&[0..10, 10..5000, 5000..5010], 64, 1000);
        assert_eq!(runs.iter().map(|run| run.range.clone()).collect::<Vec<_>>(), [0..10, 10..5000, 5000..5010]);
    }

    #[test]
    fn shared_and_contained_ranges_are_read_once() {
        let runs = coalesce(&[0..10, 0..10, 2..5, 10..10], 0, 10);
        assert_eq!(runs, [Run { range: 0..10, members: 0..4 }]);
    }

    proptest! {
        #[test]
        fn runs_cover_every_range_once_and_in_order(
            pieces in prop::collection::vec((0_u64..5000, 0_u64..300), 0..60),
            max_gap in 0_u64..200,
            max_len in 1_u64..1000,
        ) {
            let mut wanted: Vec<_> = pieces.iter().map(|&(start, len)| start..start + len).collect();
            wanted.sort_by_key(|range| (range.start, range.end));
            let runs = coalesce(&wanted, max_gap, max_len);
            let mut next = 0;
            for run in &runs {
                prop_assert_eq!(run.members.start, next);
                next = run.members.end;
                for range in &wanted[run.members.clone()] {
                    prop_assert!(range.is_empty() || (run.range.start <= range.start && range.end <= run.range.end));
                }
                let longest = wanted[run.members.clone()].iter().map(|r| r.end - r.start).max().unwrap_or(0);
                prop_assert!(run.range.end - run.range.start <= max_len.max(longest));
            }
            prop_assert_eq!(next, wanted.len());
        }
    }
}
