//! Things that would land in one place: by the layout, or since the file system does not tell `A` from `a`. Pure.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use super::ExtractError;
use super::select::{Placed, Tree};

/// Refuses two things at one path below the destination, which only a layout that shortens paths can cause.
pub(super) fn check(tree: &Tree) -> Result<(), ExtractError> {
    let mut taken: HashMap<Vec<u8>, &[u8]> = HashMap::new();
    let mut claim = |target: Vec<u8>, path| match taken.insert(target, path) {
        Some(other) => Err(ExtractError::Collision { a: other.into(), b: path.into() }),
        None => Ok(()),
    };
    for placed in everything(tree) {
        claim(tree.target(placed), tree.path(placed))?;
    }
    tree.dirs.iter().skip(1).try_for_each(|dir| claim(dir.path.to_vec(), &dir.path))
}

/// Two paths below the destination that differ in case alone, if there are any.
pub(super) fn folded(tree: &Tree) -> Option<(Vec<u8>, Vec<u8>)> {
    // Hashes first: they are small, and there is mostly nothing to find.
    let hasher = RandomState::new();
    let mut hashes: Vec<u64> = targets(tree).map(|path| hasher.hash_one(fold(&path))).collect();
    hashes.sort_unstable();
    if !hashes.windows(2).any(|pair| pair[0] == pair[1]) {
        return None;
    }
    let mut seen: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    for path in targets(tree) {
        if let Some(other) = seen.insert(fold(&path), path.clone())
            && other != path
        {
            return Some((other, path));
        }
    }
    None
}

fn everything(tree: &Tree) -> impl Iterator<Item = Placed> {
    tree.files.iter().chain(&tree.links).chain(&tree.empty_dirs).copied()
}

fn targets(tree: &Tree) -> impl Iterator<Item = Vec<u8>> {
    let dirs = tree.dirs.iter().skip(1).map(|dir| dir.path.to_vec());
    everything(tree).map(|placed| tree.target(placed)).chain(dirs)
}

/// The path as a file system that folds case would compare it.
fn fold(path: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.is_ascii() => text.to_lowercase().into_bytes(),
        _ => path.to_ascii_lowercase(),
    }
}
