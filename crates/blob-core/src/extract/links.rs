//! Where symbolic links of an archive lead. Pure.
//!
//! A link that leads out of the destination would make later writers and readers leave it. What counts is where the
//! system would go, so links on the way are followed: `a -> b/c` and `x -> a/../../..` are harmless each by its text.

use std::collections::{HashMap, VecDeque};

use super::ExtractError;
use super::select::{Placed, Tree, join};
use crate::index::Node;

/// How many links one path may lead through; Linux gives up at the same number.
const MAX_HOPS: usize = 40;

/// How many links are named at most.
const NAMED: usize = 1000;

/// Refuses links that lead out of the destination; the tree goes to `beneath` in it.
pub(super) fn check(tree: &Tree, beneath: &[u8]) -> Result<(), ExtractError> {
    let place = |placed| join(beneath, &tree.target(placed));
    let targets: HashMap<Vec<u8>, &[u8]> = tree
        .links
        .iter()
        .filter_map(|&placed| match tree.archive.index().at(placed.node) {
            Node::Symlink(link) => Some((place(placed), link.target())),
            _ => None,
        })
        .collect();
    let escapes = |placed: &Placed| !stays_inside(&place(*placed), &targets);
    let escaping: Vec<Placed> = tree.links.iter().copied().filter(escapes).collect();
    let Some(&first) = escaping.first() else { return Ok(()) };
    let target = targets.get(&place(first)).copied().unwrap_or_default();
    let paths = escaping.iter().take(NAMED).map(|&placed| tree.path(placed).into()).collect();
    let total = escaping.len() as u64;
    Err(ExtractError::Escapes { path: tree.path(first).into(), target: target.into(), paths, total })
}

/// Whether the link at `from` leads to a place below the root, through whatever other links.
fn stays_inside(from: &[u8], targets: &HashMap<Vec<u8>, &[u8]>) -> bool {
    let mut ahead: VecDeque<&[u8]> = from.split(|&byte| byte == b'/').collect();
    // The path so far, and where each of its elements begins.
    let (mut at, mut starts): (Vec<u8>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut hops = 0;
    while let Some(element) = ahead.pop_front() {
        match element {
            b"" | b"." => continue,
            b".." => {
                let Some(start) = starts.pop() else { return false };
                at.truncate(start);
                continue;
            }
            name => {
                starts.push(at.len());
                if !at.is_empty() {
                    at.push(b'/');
                }
                at.extend_from_slice(name);
            }
        }
        if let Some(target) = targets.get(&at) {
            hops += 1;
            if target.starts_with(b"/") || hops > MAX_HOPS {
                return false;
            }
            if let Some(start) = starts.pop() {
                at.truncate(start);
            }
            for element in target.rsplit(|&byte| byte == b'/') {
                ahead.push_front(element);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_judged_by_where_they_lead() {
        let check = |links: &[(&str, &str)], expected: bool| {
            let targets = links.iter().map(|(path, target)| (path.as_bytes().to_vec(), target.as_bytes())).collect();
            let inside = links.iter().all(|(path, _)| stays_inside(path.as_bytes(), &targets));
            assert_eq!(inside, expected, "{links:?}");
        };
        check(&[("a", "b")], true);
        check(&[("a", ".")], true);
        check(&[("d/a", "../b")], true);
        check(&[("d/a", "./x//../../b/")], true);
        check(&[("a", "/etc/passwd")], false);
        check(&[("a", "..")], false);
        check(&[("d/a", "../../b")], false);
        check(&[("d/e/a", "../../../b")], false);
        // Harmless one by one.
        check(&[("a", "b/c"), ("x", "a/../y")], true);
        check(&[("a", "b/c"), ("x", "a/../../y")], true);
        check(&[("a", "b/c"), ("x", "a/../../../y")], false);
        check(&[("p/q/here", "."), ("p/q/up", "here/../../../out")], false);
        check(&[("deep/er/root", "../.."), ("x", "deep/er/root/..")], false);
        check(&[("deep/er/root", "../.."), ("x", "deep/er/root/deep")], true);
        check(&[("x", "y/.."), ("y", "z"), ("z", "/tmp")], false);
        // A loop leads nowhere, and nobody can say where it would.
        check(&[("a", "b"), ("b", "a")], false);
    }
}
