//! In which order and in which pieces stored bytes are read. Pure.
//!
//! Small files are cut into *batches*, what one worker decodes in one go, and batches are gathered into *runs*, what one
//! request reads. Large files are read alone, as streams.

use std::ops::Range;

use super::select::{Placed, Tree};
use crate::codec::SMALL;
use crate::digest::Digest;
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
    /// Positions in `files` of equal ones, which a cache is asked for; a plan has these or everything else.
    pub(super) asked: Vec<Range<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Empty,
    Small,
    Large,
}

impl Plan {
    /// How `files` of the tree are fetched.
    pub(super) fn new(tree: &Tree, files: &[Placed], shape: Shape) -> Self {
        let mut wanted: Vec<(Class, u64, u64, Placed)> = files
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

    /// How a cache is asked for the files of the tree, in path order; those without stored bytes are had more cheaply.
    pub(super) fn ask(tree: &Tree) -> Self {
        let mut wanted: Vec<(Digest, u64, Placed)> = tree
            .files
            .iter()
            .map(|&placed| (tree.entry(placed), placed))
            .filter(|(entry, _)| entry.data_size() != 0)
            .map(|(entry, placed)| (entry.digest(), entry.original_size(), placed))
            .collect();
        wanted.sort_unstable_by(|a, b| {
            a.0.as_bytes().cmp(b.0.as_bytes()).then_with(|| (a.1, a.2.node).cmp(&(b.1, b.2.node)))
        });
        let mut asked: Vec<Range<usize>> = Vec::new();
        for (at, file) in wanted.iter().enumerate() {
            match asked.last_mut() {
                Some(group)
                    if group.len() < LARGE_GROUP
                        && (wanted[group.start].0, wanted[group.start].1) == (file.0, file.1) =>
                {
                    group.end = at + 1;
                }
                _ => asked.push(at..at + 1),
            }
        }
        asked.sort_unstable_by_key(|group| wanted[group.start].2.node);
        Self { files: wanted.into_iter().map(|file| file.2).collect(), asked, ..Self::default() }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::{ExtractOptions, Layout, Selection};
    use crate::{Archive, ArchivePath, Compression, IndexBuilder, MemorySource, NewFile, ReadOptions};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A tree of files with these ranges; nothing of them is ever read.
    fn tree(ranges: &[(u64, u64)], size: u64) -> Tree {
        let mut builder = IndexBuilder::new();
        for (number, &(start, length)) in ranges.iter().enumerate() {
            builder.file(NewFile {
                path: ArchivePath::new(format!("f{number:04}")).unwrap(),
                data_offset: start,
                data_size: length,
                original_size: length,
                // One hash for one size, as the format demands.
                hash: Digest::sha256_of(&length.to_le_bytes()).as_bytes().try_into().unwrap(),
                mode: 0,
                uid: 0,
                gid: 0,
                mtime_ns: 0,
                compression: Compression::None,
            });
        }
        let index = Arc::new(builder.finish(size, &Digest::sha256_of(b"")).unwrap());
        let source = MemorySource::new(vec![0; size as usize]);
        let archive = Archive::open(index, Arc::new(source), ReadOptions::default()).unwrap();
        Tree::new(&archive, &Selection::everything(), &Layout::Full, &ExtractOptions::default()).unwrap()
    }

    #[test]
    fn large_files_stand_alone_and_equal_ones_together() {
        let large = SMALL + 1;
        let tree = tree(&[(0, 10), (10, large), (10 + large, 20), (10, large), (0, 0), (10, large + 5)], 1 << 24);
        let plan = Plan::new(&tree, &tree.files, Shape { run_bytes: 1 << 20, max_gap: 0 });
        let larges: Vec<_> = plan.larges.iter().map(|large| (large.range.clone(), large.members.len())).collect();
        assert_eq!(larges, [(10..10 + large + 5, 1), (10..10 + large, 2)]);
        assert_eq!(
            plan.runs.iter().map(|run| run.range.clone()).collect::<Vec<_>>(),
            [0..0, 0..10, 10 + large..30 + large]
        );
    }

    #[test]
    fn a_cache_is_asked_once_for_equal_files_and_not_for_empty_ones() {
        let tree = tree(&[(0, 10), (20, 30), (0, 0), (0, 10), (50, 30)], 100);
        let plan = Plan::ask(&tree);
        let groups: Vec<Vec<u32>> =
            plan.asked.iter().map(|group| plan.files[group.clone()].iter().map(|file| file.node).collect()).collect();
        assert_eq!(groups, [[0, 3], [1, 4]]);
    }

    proptest! {
        #[test]
        fn every_file_is_in_one_batch_and_every_batch_in_one_run(
            ranges in prop::collection::vec((0_u64..3_000_000, 0_u64..700_000), 0..60),
            run_bytes in 1_u64..4_000_000,
            max_gap in 0_u64..100_000,
        ) {
            let tree = tree(&ranges, 4_000_000);
            let plan = Plan::new(&tree, &tree.files, Shape { run_bytes, max_gap });
            let (mut file, mut batch) = (0, 0);
            for run in &plan.runs {
                prop_assert_eq!(run.batches.start, batch);
                batch = run.batches.end;
                let mut end = run.range.start;
                for batch in &plan.batches[run.batches.clone()] {
                    // A stream can be cut into them in one pass.
                    prop_assert!(end <= batch.range.start && batch.range.end <= run.range.end);
                    end = batch.range.end;
                    prop_assert_eq!(batch.members.start, file);
                    file = batch.members.end;
                    for &placed in &plan.files[batch.members.clone()] {
                        let range = tree.entry(placed).range();
                        let inside = batch.range.start <= range.start && range.end <= batch.range.end;
                        prop_assert!(range.is_empty() || inside);
                    }
                }
            }
            prop_assert_eq!((file, batch), (ranges.len(), plan.batches.len()));
            prop_assert!(plan.larges.is_empty());
            let mut nodes: Vec<u32> = plan.files.iter().map(|placed| placed.node).collect();
            nodes.sort_unstable();
            prop_assert!(nodes.into_iter().eq(0..ranges.len() as u32));
        }
    }
}
