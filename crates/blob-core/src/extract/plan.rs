//! In which order and in which pieces stored bytes are read. Pure.
//!
//! Small files are cut into *batches*, what one worker decodes in one go, and batches are gathered into *runs*, what one
//! request reads. Large files are read alone, as streams.

use std::ops::Range;

use super::select::{Placed, Tree};
use crate::codec::SMALL;
use crate::range::coalesce;

/// A batch ends once it has this many stored bytes: 1 MiB.
const BATCH_BYTES: u64 = 1 << 20;

/// Files without stored bytes are handed out in batches of this many.
const EMPTY_BATCH: usize = 1024;

/// How many equal files are written while their bytes are decoded once; it bounds the open files.
const LARGE_GROUP: usize = 16;

/// How runs are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// The most bytes that one request reads for small files.
    pub(super) run_bytes: u64,
    /// How many unwanted bytes between two files one request may read, in bytes.
    pub(super) max_gap: u64,
}

/// Small files whose stored bytes lie in one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) range: Range<u64>,
    /// Positions in [`Plan::files`].
    pub(super) members: Range<usize>,
}

/// A request for the bytes of several batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) range: Range<u64>,
    /// Positions in [`Plan::batches`]; their ranges are in order and do not overlap.
    pub(super) batches: Range<usize>,
}

/// The whole plan.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In the order in which they are read.
    pub(super) files: Vec<Placed>,
    pub(super) batches: Vec<Batch>,
    pub(super) runs: Vec<Run>,
    /// Files over [`SMALL`], or equal ones among them, the largest first.
    pub(super) larges: Vec<Batch>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Empty,
    Small,
    Large,
}

impl Plan {
    pub(super) fn new(tree: &Tree, shape: Shape) -> Self {
        let mut wanted: Vec<(Class, u64, u64, Placed)> = tree
            .files
            .iter()
            .map(|&placed| {
                let entry = tree.entry(placed);
                let class = match entry.original_size().max(entry.data_size()) {
                    _ if entry.data_size() == 0 => Class::Empty,
                    0..=SMALL => Class::Small,
                    _ => Class::Large,
                };
                (class, entry.range().start, entry.range().end, placed)
            })
            .collect();
        wanted.sort_unstable_by_key(|&(class, start, end, placed)| (class, start, end, placed.node));
        let small = wanted.partition_point(|file| file.0 < Class::Small);
        let large = wanted.partition_point(|file| file.0 < Class::Large);
        let ranges: Vec<Range<u64>> = wanted.iter().map(|file| file.1..file.2).collect();
        let files: Vec<Placed> = wanted.into_iter().map(|file| file.3).collect();

        let mut plan = Self::default();
        for start in (0..small).step_by(EMPTY_BATCH) {
            plan.runs.push(Run { range: 0..0, batches: plan.batches.len()..plan.batches.len() + 1 });
            plan.batches.push(Batch { range: 0..0, members: start..small.min(start + EMPTY_BATCH) });
        }
        for run in coalesce(&ranges[small..large], shape.max_gap, shape.run_bytes) {
            let first = plan.batches.len();
            plan.cut(&ranges, small + run.members.start..small + run.members.end);
            plan.runs.push(Run { range: run.range, batches: first..plan.batches.len() });
        }
        plan.group(tree, &files, &ranges, large);
        plan.files = files;
        plan
    }

    /// Cuts the members of a run into batches, where no file's bytes are divided.
    fn cut(&mut self, ranges: &[Range<u64>], members: Range<usize>) {
        let mut open: Option<Batch> = None;
        for member in members {
            let range = &ranges[member];
            match &mut open {
                Some(batch) if range.start < batch.range.end || batch.range.end - batch.range.start < BATCH_BYTES => {
                    batch.range.end = batch.range.end.max(range.end);
                    batch.members.end = member + 1;
                }
                _ => self.batches.extend(open.replace(Batch { range: range.clone(), members: member..member + 1 })),
            }
        }
        self.batches.extend(open);
    }

    /// Puts large files with equal bytes together.
    fn group(&mut self, tree: &Tree, files: &[Placed], ranges: &[Range<u64>], first: usize) {
        for member in first..files.len() {
            let same = |group: &Batch| {
                let (a, b) = (tree.entry(files[group.members.start]), tree.entry(files[member]));
                group.range == ranges[member]
                    && group.members.len() < LARGE_GROUP
                    && (a.digest(), a.compression()) == (b.digest(), b.compression())
            };
            match self.larges.last_mut() {
                Some(group) if same(group) => group.members.end = member + 1,
                _ => self.larges.push(Batch { range: ranges[member].clone(), members: member..member + 1 }),
            }
        }
        // What takes longest begins first, so that no worker is left alone with it in the end.
        self.larges.sort_by_key(|large| std::cmp::Reverse(large.range.end - large.range.start));
    }
}
