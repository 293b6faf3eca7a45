//! Paths that are not in an archive: what is said, and what was probably meant.

use blob::core::path;
use blob::core::{ArchiveIndex, Node};

use crate::error::Failure;
use crate::ui::escape::shown;

/// Names of a directory that are compared at most.
const MAX_SIBLINGS: usize = 10_000;

/// `message: PATH`, with the nearest path that exists as a hint.
pub(crate) fn failure(message: &str, index: &ArchiveIndex, typed: &str) -> Failure {
    let failure = Failure::not_found(format!("{message}: {typed}"));
    match similar(index, &path::normalize(typed.as_bytes())) {
        Some(path) => failure.with_hint(format!("did you mean {}?", shown(&path))),
        None => failure,
    }
}

/// The path with its first wrong element corrected, if one is near.
fn similar(index: &ArchiveIndex, wanted: &[u8]) -> Option<Vec<u8>> {
    let mut directory = index.root();
    let mut elements = wanted.split(|byte| *byte == b'/').peekable();
    while let Some(element) = elements.next() {
        let path = join(directory.path(), element);
        match index.lookup(&path) {
            Some(Node::Directory(next)) => directory = next,
            Some(_) => return None,
            None => {
                let rest: Vec<&[u8]> = elements.collect();
                return corrected(index, &directory, element, &rest);
            }
        }
    }
    None
}

fn corrected(
    index: &ArchiveIndex,
    directory: &blob::core::Directory<'_>,
    element: &[u8],
    rest: &[&[u8]],
) -> Option<Vec<u8>> {
    let allowed = (element.len() / 3).clamp(1, 4);
    let near = directory
        .entries()
        .into_iter()
        .take(MAX_SIBLINGS)
        .filter_map(|entry| Some((distance(element, entry.name, allowed)?, entry.name)))
        .min_by_key(|(distance, _)| *distance)?;
    let found = join(directory.path(), near.1);
    let whole = rest.iter().fold(found.clone(), |path, element| join(&path, element));
    Some(if index.lookup(&whole).is_some() { whole } else { found })
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// How many bytes must be added, removed, replaced or swapped with their neighbour to make one name of the other, case
/// apart; `None` for more than `allowed`.
fn distance(left: &[u8], right: &[u8], allowed: usize) -> Option<usize> {
    if left.len().abs_diff(right.len()) > allowed || left.len().max(right.len()) > 255 {
        return None;
    }
    let equal = |a: u8, b: u8| a.eq_ignore_ascii_case(&b);
    let mut rows = [vec![0; right.len() + 1], (0..=right.len()).collect(), vec![0; right.len() + 1]];
    for (at, byte) in left.iter().enumerate() {
        let [before, above, current] = &mut rows;
        current[0] = at + 1;
        for (to, other) in right.iter().enumerate() {
            let replaced = above[to] + usize::from(!equal(*byte, *other));
            current[to + 1] = replaced.min(above[to + 1] + 1).min(current[to] + 1);
            if at > 0 && to > 0 && equal(*byte, right[to - 1]) && equal(left[at - 1], *other) {
                current[to + 1] = current[to + 1].min(before[to - 1] + 1);
            }
        }
        rows.rotate_left(1);
    }
    let distance = rows[1][right.len()];
    (distance <= allowed).then_some(distance)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob::core::{ArchivePath, Digest, IndexBuilder, NewDirectory};

    use super::*;

    #[test]
    fn slips_of_the_pen_are_near() {
        for (left, right, expected) in [
            ("readme", "README", Some(0)),
            ("config", "confg", Some(1)),
            ("config", "ocnfig", Some(1)),
            ("abc", "abd", Some(1)),
            ("abc", "xyz", None),
            ("", "a", Some(1)),
            ("abcdef", "a", None),
        ] {
            assert_eq!(distance(left.as_bytes(), right.as_bytes(), 2), expected, "{left} {right}");
        }
    }

    #[test]
    fn the_first_wrong_element_is_corrected() {
        let mut builder = IndexBuilder::new();
        for path in ["config/app.yaml", "docs/guide.md", "docs/api/x"] {
            builder.empty_dir(NewDirectory { path: ArchivePath::new(path).unwrap(), mode: 0o755, mtime_ns: 0 });
        }
        let index = builder.finish(0, &Digest::sha256_of(b"")).unwrap();
        for (typed, expected) in [
            ("/config/app.yml", "hint: did you mean config/app.yaml?"),
            ("confg/app.yaml", "hint: did you mean config/app.yaml?"),
            ("confg/zzz", "hint: did you mean config?"),
            ("Docs/guide.md", "hint: did you mean docs/guide.md?"),
            ("zzz", ""),
            ("docs/guide.md/x", ""),
        ] {
            let text = failure("file not found", &index, typed).text();
            assert!(text.starts_with(&format!("error: file not found: {typed}\n")), "{text}");
            assert_eq!(text.lines().nth(1).unwrap_or_default(), expected, "{typed}");
        }
    }
}
