//! Open directories, a few at a time: files come in path order, so the next one mostly goes where the last one went.

use std::os::fd::OwnedFd;

use super::root::{self, Root};
use crate::extract::ExtractError;
use crate::extract::select::Tree;

/// How many directories stay open per worker.
const OPEN: usize = 8;

/// The directories of a [`Tree`] below a [`Root`].
#[derive(Debug)]
pub(in crate::extract) struct Handles<'a> {
    root: &'a Root,
    tree: &'a Tree,
    open: Vec<(u32, OwnedFd)>,
    /// Which one gives way next.
    next: usize,
}

impl<'a> Handles<'a> {
    pub(in crate::extract) fn new(root: &'a Root, tree: &'a Tree) -> Self {
        Self { root, tree, open: Vec::new(), next: 0 }
    }

    /// The directory with this position in the tree.
    pub(in crate::extract) fn get(&mut self, dir: u32) -> Result<&OwnedFd, ExtractError> {
        let at = match self.open.iter().position(|(open, _)| *open == dir) {
            Some(at) => at,
            None => self.open(dir)?,
        };
        Ok(&self.open[at].1)
    }

    /// The directory with this position in the tree, opened once more.
    pub(in crate::extract) fn reopen(&self, dir: u32) -> Result<OwnedFd, ExtractError> {
        let path = &self.tree.dirs[dir as usize].path;
        self.root.dir(path).map_err(|error| {
            let path = self.root.path(path);
            if root::is_obstacle(error) {
                return super::obstructed(&path, "a symbolic link or a file", "a directory");
            }
            super::io_error("opening the directory", path, error)
        })
    }

    fn open(&mut self, dir: u32) -> Result<usize, ExtractError> {
        let fd = self.reopen(dir)?;
        if self.open.len() < OPEN {
            self.open.push((dir, fd));
            return Ok(self.open.len() - 1);
        }
        let at = self.next;
        self.next = (at + 1) % OPEN;
        self.open[at] = (dir, fd);
        Ok(at)
    }
}
