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
    // As lists write names that could control a terminal.
    let escaped = unescaped(typed).map(|path| path::normalize(path.as_bytes()).into_owned());
    let escaped = escaped.filter(|path| index.lookup(path).is_some());
    let meant = escaped.or_else(|| similar(index, &wanted)).or_else(|| elsewhere(index, &wanted).map(<[u8]>::to_vec));
    match meant {
        Some(path) => failure.with_hint(format!("did you mean {}?", typeable(&path))),
        None if typed.contains(['*', '?', '[']) => {
            let option = if typed.contains('/') { "include" } else { "name" };
            failure.with_hint(format!("paths are no patterns; `blob find --{option} '{typed}'` looks for what matches"))
        }
        None => failure,
    }
}

/// What `typed` stands for if it is a name as lists write it, with `\\n`, `\\u{1b}` and `\\\\`.
fn unescaped(typed: &str) -> Option<String> {
    let (mut path, mut rest) = (String::with_capacity(typed.len()), typed);
    while let Some((before, behind)) = rest.split_once('\\') {
        path.push_str(before);
        let mut letters = behind.chars();
        path.push(match letters.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '\\' => '\\',
            'u' => {
                let (code, after) = letters.as_str().strip_prefix('{')?.split_once('}')?;
                letters = after.chars();
                char::from_u32(u32::from_str_radix(code, 16).ok()?)?
            }
            _ => return None,
        });
        rest = letters.as_str();
    }
    path.push_str(rest);
    (path != typed).then_some(path)
}

/// A path as it can be typed: as it is, or as shells take names that control terminals.
fn typeable(path: &[u8]) -> String {
    let is_control = |byte: &u8| byte.is_ascii_control();
    if !path.iter().any(is_control) {
        return shown(path);
    }
    let letters = path.iter().map(|byte| match byte {
        b'\n' => "\\n".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
        byte if byte.is_ascii() && !is_control(byte) => char::from(*byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    });
    format!("$'{}'", letters.collect::<String>())
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

/// The path with its wrong elements corrected, as far as each is like one that is there.
fn similar(index: &ArchiveIndex, wanted: &[u8]) -> Option<Vec<u8>> {
    let (mut directory, mut corrected) = (index.root(), false);
    let mut elements = wanted.split(|byte| *byte == b'/').peekable();
    while let Some(element) = elements.next() {
        let mut path = join(directory.path(), element);
        if index.lookup(&path).is_none() {
            let Some(near) = like(&directory, element) else {
                // What was corrected before is better than nothing.
                return corrected.then(|| directory.path().to_vec());
            };
            (path, corrected) = (join(directory.path(), &near), true);
        }
        match index.lookup(&path) {
            Some(Node::Directory(next)) if elements.peek().is_some() => directory = next,
            // Nothing is below a file.
            Some(_) => return corrected.then_some(path),
            None => return None,
        }
    }
    None
}

/// The name in a directory that `element` is like, or that only ends in something else: `guide` for `guide.md`.
fn like(directory: &blob::core::Directory<'_>, element: &[u8]) -> Option<Vec<u8>> {
    let entries = directory.entries();
    let near = near::nearest_bytes(element, entries.iter().map(|entry| (entry.name, entry.name)));
    let longer = || {
        let mut names = entries.iter().map(|entry| entry.name);
        let begins = |name: &[u8]| name.get(..element.len()).is_some_and(|start| start.eq_ignore_ascii_case(element));
        names.find(|name| !element.is_empty() && begins(name) && name[element.len()..].starts_with(b"."))
    };
    near.or_else(longer).map(<[u8]>::to_vec)
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
    fn names_that_control_terminals_can_be_typed() {
        assert_eq!(typeable(b"new\nline's"), r"$'new\nline\'s'");
        assert_eq!(typeable(b"a\x1bb\xc3\xa4"), r"$'a\x1bb\xc3\xa4'");
        assert_eq!(typeable("ä b".as_bytes()), "ä b");
    }

    #[test]
    fn names_as_lists_write_them_are_understood() {
        for (typed, expected) in [
            (r"a\nb", Some("a\nb")),
            (r"esc\u{1b}[31m", Some("esc\u{1b}[31m")),
            (r"back\\slash\t", Some("back\\slash\t")),
            ("plain", None),
            (r"a\xb", None),
            (r"a\u{1b", None),
            (r"a\u{110000}", None),
            ("a\\", None),
        ] {
            assert_eq!(unescaped(typed).as_deref(), expected, "{typed}");
        }
    }

    #[test]
    fn wrong_elements_are_corrected() {
        let mut builder = IndexBuilder::new();
        for path in ["config/app.yaml", "docs/guide.md", "docs/api/x"] {
            builder.empty_dir(NewDirectory { path: ArchivePath::new(path).unwrap(), mode: 0o755, mtime_ns: 0 });
        }
        let index = builder.finish(0, &Digest::sha256_of(b"")).unwrap();
        for (typed, expected) in [
            ("/config/app.yml", "hint: did you mean config/app.yaml?"),
            ("confg/app.yaml", "hint: did you mean config/app.yaml?"),
            ("confg/zzz", "hint: did you mean config?"),
            ("DOCS/GUIDE.MD", "hint: did you mean docs/guide.md?"),
            ("docs/GUIDE", "hint: did you mean docs/guide.md?"),
            ("docs/guide", "hint: did you mean docs/guide.md?"),
            ("dosc/gudie.md", "hint: did you mean docs/guide.md?"),
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
