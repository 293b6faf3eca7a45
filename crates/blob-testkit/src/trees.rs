//! Directory trees that are the same on every run, and their comparison.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// What a generated tree is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeOptions {
    /// Number of generated files, beside the fixed ones.
    pub files: usize,
    /// Size of the largest generated file, bytes.
    pub max_size: usize,
    /// Whether symlinks are made.
    pub symlinks: bool,
}

impl Default for TreeOptions {
    /// 60 files of at most 40 KiB, with symlinks.
    fn default() -> Self {
        Self { files: 60, max_size: 40 * 1024, symlinks: true }
    }
}

/// One thing in a tree. Paths are relative and use `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory without anything in it.
    EmptyDir,
    /// A regular file.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Modification time, whole seconds since 1970.
        mtime: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it points at.
        target: String,
    },
}

/// A tree in memory, sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Path to node.
    pub nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// The tree of `seed`: some fixed names that are easy to get wrong, then generated ones.
    ///
    /// The fixed part has a directory and files of the same stem (`a/`, `a.txt`, `a-b`), names that are not ASCII, empty
    /// files and directories, an executable, equal files, and links that dangle or point at a directory.
    #[must_use]
    pub fn generate(seed: u64, options: TreeOptions) -> Self {
        let mut tree = Self::default();
        let mut state = seed;
        tree.fixed(&mut state, options.symlinks);
        for i in 0..options.files {
            let directory = DIRECTORIES[pick(&mut state, DIRECTORIES.len())];
            let stem = STEMS[pick(&mut state, STEMS.len())];
            let size = pick(&mut state, options.max_size + 1);
            let mode = MODES[pick(&mut state, MODES.len())];
            tree.file(&format!("{directory}{stem}{i}"), content(&mut state, size), mode);
        }
        tree
    }

    fn fixed(&mut self, state: &mut u64, symlinks: bool) {
        self.file("a/inside.txt", content(state, 300), 0o644);
        self.file("a.txt", content(state, 2000), 0o644);
        self.file("a-b", content(state, 10), 0o600);
        self.file("empty", Vec::new(), 0o644);
        self.file("run.sh", b"#!/bin/sh\necho run\n".to_vec(), 0o755);
        self.file("größe/日本語.txt", content(state, 5000), 0o644);
        self.file("with space/and\ttab", content(state, 77), 0o640);
        let twin = content(state, 4096);
        self.file("twins/one", twin.clone(), 0o644);
        self.file("twins/two", twin, 0o644);
        self.nodes.insert("hollow/deep".into(), Node::EmptyDir);
        if symlinks {
            for (path, target) in [("link-to-a", "a"), ("twins/link", "one"), ("dangling", "not/there")] {
                self.nodes.insert(path.into(), Node::Symlink { target: target.into() });
            }
        }
    }

    fn file(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        let mtime = 1_500_000_000 + self.nodes.len() as u64;
        self.nodes.insert(path.to_owned(), Node::File { content, mode, mtime });
    }

    /// Regular files: path and content.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File { content, .. } => Some((path.as_str(), content.as_slice())),
            _ => None,
        })
    }

    /// Writes the tree below `root`, which is created when absent. Directories get mode 0755.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        make_dir(root, root)?;
        for (path, node) in &self.nodes {
            let full = root.join(path);
            make_dir(root, full.parent().unwrap_or(root))?;
            match node {
                Node::EmptyDir => make_dir(root, &full)?,
                Node::Symlink { target } => symlink(target, &full)?,
                Node::File { content, mode, mtime } => {
                    fs::write(&full, content)?;
                    File::options().write(true).open(&full)?.set_modified(UNIX_EPOCH + Duration::from_secs(*mtime))?;
                    fs::set_permissions(&full, Permissions::from_mode(*mode))?;
                }
            }
        }
        Ok(())
    }
}

const DIRECTORIES: [&str; 6] = ["", "src/", "src/deep/er/", "data/", "größe/", "a/b/c/d/e/"];
const STEMS: [&str; 7] = ["file", "index.html.", "photo.jpg", "Ärger", ".hidden", "x-", "UPPER_"];
const MODES: [u32; 4] = [0o644, 0o600, 0o755, 0o444];

fn make_dir(root: &Path, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for ancestor in dir.ancestors().take_while(|ancestor| ancestor.starts_with(root)) {
        fs::set_permissions(ancestor, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Half of the contents are text that compresses, the other half noise that does not.
fn content(state: &mut u64, size: usize) -> Vec<u8> {
    let noise = splitmix(state).is_multiple_of(2);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        let word = splitmix(state);
        if noise {
            bytes.extend_from_slice(&word.to_le_bytes());
        } else {
            bytes.extend_from_slice(WORDS[usize::from(word.to_le_bytes()[0]) % WORDS.len()].as_bytes());
        }
    }
    bytes.truncate(size);
    bytes
}

const WORDS: [&str; 5] = ["lorem ", "ipsum ", "dolor ", "sit amet\n", "consectetur "];

fn pick(state: &mut u64, below: usize) -> usize {
    usize::try_from(splitmix(state) % below.max(1) as u64).unwrap_or_default()
}

/// SplitMix64: a generator of eight lines, so that trees do not change with a version of a random number crate.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a comparison looks at beside names, kinds, contents and link targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compare {
    /// Permission bits of regular files.
    pub modes: bool,
    /// Modification times of regular files, to the nanosecond.
    pub times: bool,
}

/// Compares two directories on disk; one sentence for each difference, sorted by path.
///
/// # Errors
/// When something cannot be read.
pub fn differences(left: &Path, right: &Path, compare: Compare) -> io::Result<Vec<String>> {
    let (in_left, in_right) = (listing(left)?, listing(right)?);
    let mut found = Vec::new();
    for path in in_left.keys().filter(|path| !in_right.contains_key(*path)) {
        found.push(format!("{}: only in {}", path.display(), left.display()));
    }
    for (path, there) in &in_right {
        match in_left.get(path) {
            None => found.push(format!("{}: only in {}", path.display(), right.display())),
            Some(here) => found.extend(
                difference(&left.join(path), here, &right.join(path), there, compare)?
                    .map(|what| format!("{}: {what}", path.display())),
            ),
        }
    }
    found.sort();
    Ok(found)
}

fn listing(root: &Path) -> io::Result<BTreeMap<PathBuf, fs::Metadata>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                open.push(path.clone());
            }
            found.insert(path.strip_prefix(root).map_err(io::Error::other)?.to_owned(), metadata);
        }
    }
    Ok(found)
}

fn difference(
    left: &Path,
    here: &fs::Metadata,
    right: &Path,
    there: &fs::Metadata,
    compare: Compare,
) -> io::Result<Option<String>> {
    if here.file_type() != there.file_type() {
        return Ok(Some("of another kind".into()));
    }
    if here.is_symlink() {
        let (from, to) = (fs::read_link(left)?, fs::read_link(right)?);
        return Ok((from != to).then(|| format!("points at {} and at {}", from.display(), to.display())));
    }
    if here.is_dir() {
        return Ok(None);
    }
    if here.len() != there.len() || fs::read(left)? != fs::read(right)? {
        return Ok(Some(format!("contents differ ({} and {} bytes)", here.len(), there.len())));
    }
    let mode = |metadata: &fs::Metadata| metadata.mode() & 0o7777;
    if compare.modes && mode(here) != mode(there) {
        return Ok(Some(format!("mode {:04o} and {:04o}", mode(here), mode(there))));
    }
    let time = |metadata: &fs::Metadata| (metadata.mtime(), metadata.mtime_nsec());
    if compare.times && time(here) != time(there) {
        return Ok(Some(format!("modified at {:?} and {:?}", time(here), time(there))));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_seed_gives_the_same_tree_every_time() {
        let tree = Tree::generate(3, TreeOptions::default());
        assert_eq!(tree, Tree::generate(3, TreeOptions::default()));
        assert_ne!(tree, Tree::generate(4, TreeOptions::default()));
        for path in ["a/inside.txt", "a.txt", "a-b", "hollow/deep", "dangling"] {
            assert!(tree.nodes.contains_key(path), "{path} is missing");
        }
        assert!(tree.files().any(|(_, content)| content.is_empty()));
    }

    #[test]
    fn a_written_tree_equals_its_twin_and_each_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (left, right) = (dir.path().join("left"), dir.path().join("right"));
        let tree = Tree::generate(1, TreeOptions { files: 5, ..TreeOptions::default() });
        tree.write(&left).unwrap();
        tree.write(&right).unwrap();
        let all = Compare { modes: true, times: true };
        assert_eq!(differences(&left, &right, all).unwrap(), Vec::<String>::new());

        fs::write(right.join("empty"), "x").unwrap();
        fs::set_permissions(right.join("run.sh"), Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(right.join("dangling")).unwrap();
        symlink("else/where", right.join("dangling")).unwrap();
        fs::remove_dir(right.join("hollow/deep")).unwrap();
        let a = File::options().write(true).open(right.join("a.txt")).unwrap();
        a.set_modified(UNIX_EPOCH).unwrap();
        let found = differences(&left, &right, all).unwrap();
        let paths: Vec<_> = found.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(paths, ["a.txt", "dangling", "empty", "hollow/deep", "run.sh"]);
        let without = differences(&left, &right, Compare::default()).unwrap();
        assert_eq!(without.len(), 3, "modes and times are looked at only when asked: {without:?}");
    }
}
