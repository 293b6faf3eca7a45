//! What is extracted, and where each thing goes below the destination. Pure: it looks at the index alone.

use std::collections::HashMap;

use super::{ExtractError, ExtractLimits, ExtractOptions, Layout, Symlinks};
use crate::archive::Archive;
use crate::entry::Entry;
use crate::error::ReadError;
use crate::index::Node;
use crate::path;

/// What to extract.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// Everything beneath a directory; the empty path is the root.
    Directory(Vec<u8>),
    /// These files, links and directories, the latter with everything beneath them.
    Paths(Vec<Vec<u8>>),
}

impl Selection {
    /// Everything there is.
    pub fn everything() -> Self {
        Self::Directory(Vec::new())
    }

    /// Everything beneath a directory.
    pub fn directory(path: impl AsRef<[u8]>) -> Self {
        Self::Directory(path.as_ref().into())
    }

    /// These files, links and directories.
    pub fn paths<P: AsRef<[u8]>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self::Paths(paths.into_iter().map(|path| path.as_ref().into()).collect())
    }
}

/// Something of the archive and the directory it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its position in the index.
    pub(super) node: u32,
    /// Position in [`Tree::dirs`].
    pub(super) dir: u32,
}

/// Everything that is extracted, by kind, each in path order.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) archive: Archive,
    /// The name to use instead of the one in the archive; there is one file then.
    pub(super) rename: Option<Vec<u8>>,
    pub(super) files: Vec<Placed>,
    pub(super) links: Vec<Placed>,
    pub(super) empty_dirs: Vec<Placed>,
    /// Directories below the destination that have to exist, parents first; the first is the destination itself.
    pub(super) dirs: Vec<Dir>,
    /// Sum of the sizes of `files`, in bytes.
    pub(super) bytes: u64,
    /// Links that the options leave out.
    pub(super) links_left_out: u64,
    /// Things that the layout leaves without a name.
    pub(super) paths_left_out: u64,
}

#[derive(Debug)]
pub(super) struct Dir {
    /// Its path below the destination.
    pub(super) path: Box<[u8]>,
    /// Position of its parent.
    pub(super) parent: u32,
}

impl Dir {
    pub(super) fn name(&self) -> &[u8] {
        base_name(&self.path)
    }
}

impl Tree {
    /// Resolves `selection` and places what it finds.
    pub(super) fn new(
        archive: &Archive,
        selection: &Selection,
        layout: &Layout,
        options: &ExtractOptions,
    ) -> Result<Self, ExtractError> {
        let mut tree = Self {
            archive: archive.clone(),
            rename: None,
            files: Vec::new(),
            links: Vec::new(),
            empty_dirs: Vec::new(),
            dirs: vec![Dir { path: Box::default(), parent: 0 }],
            bytes: 0,
            links_left_out: 0,
            paths_left_out: 0,
        };
        let prefix = match layout {
            Layout::Strip(prefix) => path::normalize(prefix).into_owned(),
            Layout::Full | Layout::Flat | Layout::StripComponents(_) => Vec::new(),
        };
        let mut places = Places { layout, prefix, known: HashMap::new(), last: (Box::default(), 0) };
        for position in resolve(archive, selection)? {
            tree.place(position, &mut places, options)?;
        }
        if let (Layout::StripComponents(components), true) = (layout, tree.paths_left_out > 0 && tree.is_empty()) {
            return Err(ExtractError::NothingLeft { components: *components });
        }
        Ok(tree)
    }

    fn place(&mut self, node: u32, places: &mut Places<'_>, options: &ExtractOptions) -> Result<(), ExtractError> {
        let archive = self.archive.clone();
        let found = archive.index().at(node);
        let path = node_path(&found);
        if path.len() > NAME_MAX && path.split(|&byte| byte == b'/').any(|name| name.len() > NAME_MAX) {
            return Err(ExtractError::NameTooLong { path: path.into(), limit: NAME_MAX });
        }
        let is_named = match places.layout {
            Layout::StripComponents(components) => without(path, *components).is_some(),
            Layout::Full | Layout::Strip(_) | Layout::Flat => true,
        };
        match found {
            Node::Symlink(_) if options.symlinks == Symlinks::Skip => self.links_left_out += 1,
            Node::EmptyDir(_) if !options.empty_dirs => {}
            _ if !is_named => self.paths_left_out += 1,
            Node::File(entry) => {
                let dir = places.parent_of(path, &mut self.dirs);
                self.files.push(Placed { node, dir });
                self.bytes = self.bytes.saturating_add(entry.original_size());
                self.check(&options.limits)?;
            }
            Node::Symlink(_) => {
                let dir = places.parent_of(path, &mut self.dirs);
                self.links.push(Placed { node, dir });
            }
            Node::EmptyDir(_) if *places.layout != Layout::Flat => {
                let dir = places.parent_of(path, &mut self.dirs);
                self.empty_dirs.push(Placed { node, dir });
            }
            Node::EmptyDir(_) | Node::Directory(_) => {}
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.links.is_empty() && self.empty_dirs.is_empty()
    }

    fn check(&self, limits: &ExtractLimits) -> Result<(), ExtractError> {
        let files = self.files.len() as u64;
        if files > limits.max_files {
            return Err(ExtractError::Limit { what: "files", got: files, limit: limits.max_files });
        }
        if self.bytes > limits.max_bytes {
            return Err(ExtractError::Limit { what: "bytes", got: self.bytes, limit: limits.max_bytes });
        }
        Ok(())
    }

    /// The file that was placed.
    pub(super) fn entry(&self, placed: Placed) -> Entry<'_> {
        match self.archive.index().at(placed.node) {
            Node::File(entry) => entry,
            other => unreachable!("only files are placed among the files, not {other:?}"),
        }
    }

    /// The path in the archive.
    pub(super) fn path(&self, placed: Placed) -> &[u8] {
        node_path(&self.archive.index().at(placed.node))
    }

    /// The name in its directory.
    pub(super) fn name(&self, placed: Placed) -> &[u8] {
        self.rename.as_deref().unwrap_or_else(|| base_name(self.path(placed)))
    }

    /// The path below the destination.
    pub(super) fn target(&self, placed: Placed) -> Vec<u8> {
        join(&self.dirs[placed.dir as usize].path, self.name(placed))
    }
}

/// The longest name that file systems take, in bytes.
const NAME_MAX: usize = 255;

fn resolve(archive: &Archive, selection: &Selection) -> Result<Vec<u32>, ReadError> {
    let index = archive.index();
    let mut positions: Vec<u32> = Vec::new();
    let paths = match selection {
        Selection::Directory(typed) => {
            let path = path::normalize(typed);
            match archive.node(&path)? {
                Node::Directory(dir) => positions.extend(dir.positions()),
                Node::EmptyDir(_) => positions.extend(index.position(&path)),
                Node::File(_) | Node::Symlink(_) => return Err(ReadError::NotADirectory { path: path.into() }),
            }
            return Ok(positions);
        }
        Selection::Paths(paths) => paths,
    };
    for typed in paths {
        let path = path::normalize(typed);
        match archive.node(&path)? {
            Node::Directory(dir) => positions.extend(dir.positions()),
            Node::File(_) | Node::Symlink(_) | Node::EmptyDir(_) => positions.extend(index.position(&path)),
        }
    }
    positions.sort_unstable();
    positions.dedup();
    Ok(positions)
}

/// Finds and numbers the directories that things go to.
struct Places<'a> {
    layout: &'a Layout,
    /// What [`Layout::Strip`] takes off.
    prefix: Vec<u8>,
    known: HashMap<Box<[u8]>, u32>,
    /// The directory of the thing before: paths come sorted, so it is mostly the same again.
    last: (Box<[u8]>, u32),
}

impl Places<'_> {
    fn parent_of(&mut self, path: &[u8], dirs: &mut Vec<Dir>) -> u32 {
        let target = match self.layout {
            Layout::Full => path,
            Layout::Flat => base_name(path),
            Layout::Strip(_) => strip(path, &self.prefix),
            Layout::StripComponents(components) => without(path, *components).unwrap_or(path),
        };
        let parent = parent(target);
        if *self.last.0 != *parent {
            self.last = (parent.into(), self.number(parent, dirs));
        }
        self.last.1
    }

    fn number(&mut self, path: &[u8], dirs: &mut Vec<Dir>) -> u32 {
        // From the outside in, and without recursion: paths can be thousands of levels deep.
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut dir = 0;
        for end in ends.chain((!path.is_empty()).then_some(path.len())) {
            dir = if let Some(&known) = self.known.get(&path[..end]) {
                known
            } else {
                let number = dirs.len() as u32;
                dirs.push(Dir { path: path[..end].into(), parent: dir });
                self.known.insert(path[..end].into(), number);
                number
            };
        }
        dir
    }
}

/// `path` below `prefix`; the base name if it is `prefix` itself, and all of it if it is elsewhere.
fn strip<'p>(path: &'p [u8], prefix: &[u8]) -> &'p [u8] {
    match path.strip_prefix(prefix) {
        Some(b"") => base_name(path),
        Some([b'/', rest @ ..]) if !prefix.is_empty() => rest,
        _ => path,
    }
}

/// `path` without its first names, if there is one behind them.
fn without(path: &[u8], components: usize) -> Option<&[u8]> {
    path.splitn(components.checked_add(1)?, |&byte| byte == b'/').nth(components)
}

fn node_path<'a>(node: &Node<'a>) -> &'a [u8] {
    match node {
        Node::File(entry) => entry.path(),
        Node::Symlink(link) => link.path(),
        Node::EmptyDir(dir) => dir.path(),
        Node::Directory(dir) => dir.path(),
    }
}

pub(super) fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |at| &path[..at])
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}
