//! When somebody fills the destination while a hidden tree is written: its files are moved in one by one.

use std::os::fd::AsFd as _;

use rustix::fs;

use super::select::{Placed, Tree};
use super::sink::{Finished, Handles, Root, Scan, Standing, io_error, make_dirs, rename_new};
use super::{Existing, ExtractError, ExtractOptions, ExtractReport};

pub(super) struct Merge<'a> {
    pub(super) tree: &'a Tree,
    pub(super) from: &'a Root,
    pub(super) to: &'a Root,
    pub(super) options: &'a ExtractOptions,
    pub(super) threads: usize,
}

impl Merge<'_> {
    /// Moves what can be moved; the answer is what stays out since something has its place.
    pub(super) fn run(&self, report: &mut ExtractReport) -> Result<Vec<Placed>, ExtractError> {
        let Self { tree, to, .. } = self;
        let (existing, modes) = (self.options.existing, self.options.compare_modes && self.options.preserve_mode);
        let scan = Scan { tree, root: to, existing, modes, gone: None, threads: self.threads };
        let present = scan.dirs()?;
        let things: Vec<Placed> = tree.files.iter().chain(&tree.links).chain(&tree.empty_dirs).copied().collect();
        let standing = scan.things(&things, &present, &|| false)?;
        let differing: Vec<Placed> = pick(&things, &standing, Standing::Differs).collect();
        scan.refuse(&differing)?;
        make_dirs(tree, to, &present)?;

        let mut occupied: Vec<Placed> = pick(&things, &standing, Standing::Skipped).collect();
        let mut kept: Vec<Placed> = pick(&things, &standing, Standing::Kept).collect();
        let (mut from, mut into) = (Handles::new(self.from, tree), Handles::new(to, tree));
        let modes: Vec<Placed> = pick(&things, &standing, Standing::Mode).collect();
        for &placed in &modes {
            scan.set_mode(into.get(placed.dir)?, placed)?;
        }
        report.modes += modes.len() as u64;
        kept.extend(modes);
        let written = things.iter().zip(&standing);
        let written = written.filter(|(_, standing)| matches!(standing, Standing::Write | Standing::Replace));
        for placed in written.map(|(placed, _)| *placed) {
            if self.rename(&mut from, &mut into, placed)? == Finished::Written {
                continue;
            }
            let is_file = tree.files.binary_search_by_key(&placed.node, |file| file.node).is_ok();
            if self.options.existing == Existing::KeepEqual && is_file {
                if !scan.is_same(into.get(placed.dir)?, placed)? {
                    scan.refuse(&[placed])?;
                }
                kept.push(placed);
            } else {
                occupied.push(placed);
            }
        }
        self.correct(report, &kept, &occupied);
        report.kept += kept.len() as u64;
        Ok(occupied)
    }

    fn rename(&self, from: &mut Handles<'_>, into: &mut Handles<'_>, placed: Placed) -> Result<Finished, ExtractError> {
        let name = self.tree.name(placed);
        let (old, new) = (from.get(placed.dir)?, into.get(placed.dir)?);
        let moved = if self.options.existing.replaces() {
            fs::renameat(old, name, new, name).map(|()| Finished::Written)
        } else {
            rename_new(old.as_fd(), name, new.as_fd(), name)
        };
        moved.map_err(|error| io_error("moving a file to", self.to.path(&self.tree.target(placed)), error))
    }

    /// Takes back what was counted as written and did not get there.
    fn correct(&self, report: &mut ExtractReport, kept: &[Placed], occupied: &[Placed]) {
        for &placed in kept.iter().chain(occupied) {
            match self.tree.archive.index().at(placed.node) {
                crate::index::Node::File(entry) => {
                    report.files = report.files.saturating_sub(1);
                    report.bytes = report.bytes.saturating_sub(entry.original_size());
                }
                crate::index::Node::Symlink(_) => report.symlinks = report.symlinks.saturating_sub(1),
                _ => report.dirs = report.dirs.saturating_sub(1),
            }
        }
    }
}

fn pick<'a>(
    things: &'a [Placed],
    standing: &'a [Standing],
    wanted: Standing,
) -> impl Iterator<Item = Placed> + use<'a> {
    things.iter().zip(standing).filter(move |(_, standing)| **standing == wanted).map(|(&placed, _)| placed)
}
