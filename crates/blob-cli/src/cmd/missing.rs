//! Paths that are not in an archive: what is said, and what was probably meant.

use blob::core::path;
use blob::core::{ArchiveIndex, Node};

use crate::error::Failure;
use crate::ui::escape::shown;
use crate::ui::near;

/// `message: PATH`, with the nearest path that exists as a hint.
pub(crate) fn failure(message: &str, index: &ArchiveIndex, typed: &str) -> Failure {
    let failure = Failure::not_found(format!("{message}: {typed}"));
    let wanted = path::normalize(typed.as_bytes());
    let meant = similar(index, &wanted).or_else(|| elsewhere(index, &wanted).map(<[u8]>::to_vec));
    match meant {
        Some(path) => failure.with_hint(format!("did you mean {}?", shown(&path))),
        None if typed.contains(['*', '?', '[']) => {
            let option = if typed.contains('/') { "include" } else { "name" };
            failure.with_hint(format!("paths are no patterns; `blob find --{option} '{typed}'` looks for what matches"))
        }
        None => failure,
    }
}

/// The first file of this name in another directory.
fn elsewhere<'a>(index: &'a ArchiveIndex, wanted: &[u8]) -> Option<&'a [u8]> {
    if wanted.is_empty() {
        return None;
    }
    index
        .entries()
        .map(|entry| entry.path())
        .find(|path| path.strip_suffix(wanted).is_some_and(|above| above.ends_with(b"/")))
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
    let entries = directory.entries();
    let near = near::nearest_bytes(element, entries.iter().map(|entry| (entry.name, entry.name)))?;
    let found = join(directory.path(), near);
    let whole = rest.iter().fold(found.clone(), |path, element| join(&path, element));
    Some(if index.lookup(&whole).is_some() { whole } else { found })
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob::core::{ArchivePath, Digest, IndexBuilder, NewDirectory};

    use super::*;

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
            ("*.yaml", "hint: paths are no patterns; `blob find --name '*.yaml'` looks for what matches"),
            ("docs/guide.md/x", ""),
        ] {
            let text = failure("file not found", &index, typed).text();
            assert!(text.starts_with(&format!("error: file not found: {typed}\n")), "{text}");
            assert_eq!(text.lines().nth(1).unwrap_or_default(), expected, "{typed}");
        }
    }
}
