//! Edits of configuration files that keep everything else as it is: comments, order, blank lines.
//!
//! An edit changes the lines of one key. What comes out is parsed again and must differ from what was there in that key
//! alone; where the lines of a key cannot be told for sure, the edit is refused and names the line to edit by hand.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use yaml_serde::Value;

use super::{check_project, leaves, parse, read};
use crate::error::Failure;

/// What is done to a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    /// To this value, a scalar.
    Set(Value),
    Unset,
}

/// The lines cannot be told for sure: this one, counted from 1, is where a person has to look.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unsure {
    line: usize,
}

/// Applies `edit` to the key at `key` of the file at `path`, which is replaced as a whole; `project` says whether it is a
/// project's. Returns whether there was such a key.
///
/// # Errors
/// The file cannot be read, parsed, edited for sure or written, or would not be valid afterwards.
pub(crate) fn apply(path: &Path, project: bool, key: &[String], edit: &Edit) -> Result<bool, Failure> {
    let place = prepare(path)?;
    let _lock = lock(&place)?;
    let Change { before, after, existed } = change(&place, project, key, edit)?;
    if after != before {
        replace(&place, &after)?;
    }
    Ok(existed)
}

/// As [`apply`], but nothing is written: what would be refused is, and whether there is such a key is told.
///
/// # Errors
/// As there, but for writing.
pub(crate) fn preview(path: &Path, project: bool, key: &[String], edit: &Edit) -> Result<bool, Failure> {
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    change(&place, project, key, edit).map(|change| change.existed)
}

/// The text of a file before and after an edit.
struct Change {
    before: String,
    after: String,
    /// Whether the key was there.
    existed: bool,
}

fn change(place: &Path, project: bool, key: &[String], edit: &Edit) -> Result<Change, Failure> {
    let before = read(place)?.unwrap_or_default();
    let (after, existed) = edited(place, &before, key, edit)?;
    if project {
        check_project(place, &parse(place, &after)?)?;
    }
    Ok(Change { before, after, existed })
}

/// The text of the file at `path` after the edit, and whether the key was there.
fn edited(path: &Path, before: &str, key: &[String], edit: &Edit) -> Result<(String, bool), Failure> {
    let old = leaves(&parse(path, before)?.tree);
    let existed = old.iter().any(|(path, _)| path == key);
    if !existed && *edit == Edit::Unset {
        return Ok((before.to_owned(), false));
    }
    let unsure = |line: usize| {
        let action = format!("{}:{line} cannot be edited for sure", path.display());
        let failure = Failure::configuration(action, "it is not written as one key on a line");
        failure.with_hint("`blob config edit` opens the file in an editor")
    };
    let after = rewrite(before, key, edit).map_err(|Unsure { line }| unsure(line))?;
    let new = parse(path, &after)?;
    // What the lines looked like must be what they mean: everything else is as it was.
    let others =
        |values: Vec<(Vec<String>, Value)>| values.into_iter().filter(|(path, _)| path != key).collect::<Vec<_>>();
    let is_set = leaves(&new.tree).iter().any(|(path, _)| path == key);
    if others(leaves(&new.tree)) != others(old) || is_set != matches!(edit, Edit::Set(_)) {
        return Err(unsure(1));
    }
    Ok((after, existed))
}

/// The text with the lines of one key changed.
fn rewrite(text: &str, key: &[String], edit: &Edit) -> Result<String, Unsure> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut block = 0..lines.len();
    let mut indent = indent_of(&lines, &block, 0);
    for (depth, name) in key.iter().enumerate() {
        let last = depth + 1 == key.len();
        let Some(found) = find(&lines, &block, indent, name)? else {
            let Edit::Set(value) = edit else { return Err(Unsure { line: block.start + 1 }) };
            // Behind what a file of comments says.
            let empty = depth == 0 && end_of(&lines, &block) == 0;
            let at = if empty { lines.len() } else { end_of(&lines, &block) };
            return Ok(insert(&lines, at, indent, &key[depth..], value));
        };
        let at = found.start;
        if last {
            return match edit {
                Edit::Set(value) => set(&lines, &found, value),
                Edit::Unset => Ok(without(&lines, at..end_of(&lines, &found))),
            };
        }
        block = at + 1..found.end;
        let inline = value_of(lines[at]).ok_or(Unsure { line: at + 1 })?;
        let written = lines[at][inline].trim();
        if !written.is_empty() && written != "{}" && written != "null" && written != "~" {
            return Err(Unsure { line: at + 1 });
        }
        if end_of(&lines, &block) == block.start {
            // Nothing is in it yet.
            let Edit::Set(value) = edit else { return Err(Unsure { line: at + 1 }) };
            let mut opened: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            if !written.is_empty() {
                opened[at] = splice(lines[at], "");
            }
            let opened: Vec<&str> = opened.iter().map(String::as_str).collect();
            return Ok(insert(&opened, at + 1, indent + 2, &key[depth + 1..], value));
        }
        indent = indent_of(&lines, &block, indent + 2);
    }
    Err(Unsure { line: 1 })
}

/// The line and column, from 1, of the key at `path` of a text, where that can be told.
pub(super) fn place_of(text: &str, path: &[String]) -> Option<(usize, usize)> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut block = 0..lines.len();
    let mut indent = indent_of(&lines, &block, 0);
    for (depth, name) in path.iter().enumerate() {
        let found = find(&lines, &block, indent, name).ok()??;
        if depth + 1 == path.len() {
            return Some((found.start + 1, indentation(lines[found.start]) + 1));
        }
        block = found.start + 1..found.end;
        indent = indent_of(&lines, &block, indent + 2);
    }
    None
}

/// The line and column at which `key` is there for the second time in the map that begins at a line and column.
pub(super) fn second_place(text: &str, (line, column): (usize, usize), key: &str) -> Option<(usize, usize)> {
    let lines = text.lines().enumerate().skip(line.checked_sub(1)?);
    let said = lines.filter(|(_, line)| !is_blank(line));
    let inside = said.take_while(|(_, line)| indentation(line) + 1 >= column);
    let keys = inside.filter(|(_, line)| indentation(line) + 1 == column);
    let same = keys.filter(|(_, line)| key_of(line).is_some_and(|written| written == key));
    same.map(|(at, _)| (at + 1, column)).nth(1)
}

/// Whether a line says nothing.
fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#') || line == "---"
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// How far the keys of a block are indented; `usual` where there are none.
fn indent_of(lines: &[&str], block: &Range<usize>, usual: usize) -> usize {
    lines[block.clone()].iter().find(|line| !is_blank(line)).map_or(usual, |line| indentation(line))
}

/// The end of a block without the blank lines and comments behind it, which may belong to what follows.
fn end_of(lines: &[&str], block: &Range<usize>) -> usize {
    let said = lines[block.clone()].iter().rposition(|line| !is_blank(line));
    said.map_or(block.start, |last| block.start + last + 1)
}

/// The lines of the key `name` in a block whose keys are indented by `indent`.
fn find(lines: &[&str], block: &Range<usize>, indent: usize, name: &str) -> Result<Option<Range<usize>>, Unsure> {
    let mut found: Option<usize> = None;
    for at in block.clone() {
        let line = lines[at];
        if is_blank(line) {
            continue;
        }
        if line.trim_start_matches(' ').starts_with('\t') || indentation(line) < indent {
            return Err(Unsure { line: at + 1 });
        }
        if indentation(line) > indent || line.trim_start().starts_with("- ") {
            continue;
        }
        if let Some(start) = found {
            return Ok(Some(start..at));
        }
        let written = key_of(line).ok_or(Unsure { line: at + 1 })?;
        if same_key(&written, name) {
            found = Some(at);
        }
    }
    Ok(found.map(|start| start..block.end))
}

/// Keys as this program writes them, and as the Go program did.
fn same_key(written: &str, name: &str) -> bool {
    written == name || written.replace('-', "_") == name || {
        let known = ["no_color", "plain_http", "max_size", "ref_ttl"];
        known.contains(&name) && name.replace('_', "") == written
    }
}

/// The key at the beginning of a line, without quotes.
fn key_of(line: &str) -> Option<String> {
    let colon = colon_of(line)?;
    let written = line[..colon].trim();
    let quoted = |quote: char| written.strip_prefix(quote)?.strip_suffix(quote);
    match quoted('"').or_else(|| quoted('\'')) {
        Some(inner) if inner.contains(['"', '\'', '\\']) => None,
        Some(inner) => Some(inner.to_owned()),
        None if written.starts_with(['"', '\'', '?', '&', '*', '!', '{', '[', '|', '>', '%', '@', '`']) => None,
        None => Some(written.to_owned()),
    }
}

/// Where the colon behind the key is.
fn colon_of(line: &str) -> Option<usize> {
    let start = indentation(line);
    let quote = line[start..].chars().next().filter(|first| matches!(first, '"' | '\''));
    let from = match quote {
        Some(quote) => start + 1 + line[start + 1..].find(quote)? + 1,
        None => start,
    };
    let colon = line[from..].match_indices(':').map(|(at, _)| from + at);
    colon.into_iter().find(|at| line[at + 1..].starts_with([' ', '\n', '\r', '\t']) || at + 1 == line.len())
}

/// Where the value of a line is, without the comment behind it; `None` for values that may go on.
fn value_of(line: &str) -> Option<Range<usize>> {
    let start = colon_of(line)? + 1;
    let rest = &line[start..];
    let value = start + (rest.len() - rest.trim_start().len());
    let text = line[value..].trim_end();
    let end = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let close = text[1..].find(quote)? + 2;
            let behind = text[close..].trim_start();
            if text[1..close - 1].contains('\\') || !(behind.is_empty() || behind.starts_with('#')) {
                return None;
            }
            value + close
        }
        Some('#') | None => return Some(start..start),
        // A list on one line, without anything in which a bracket or comma could mean something else.
        Some('[') if text.ends_with(']') && !text.contains(['"', '\'', '#', '{']) => value + text.len(),
        Some('|' | '>' | '&' | '*' | '!' | '[') => return None,
        Some('{') if !text.starts_with("{}") => return None,
        Some(_) => value + text.find(" #").map_or(text.len(), |comment| text[..comment].trim_end().len()),
    };
    Some(value..end)
}

/// `line` with another value; the comment stays.
fn splice(line: &str, value: &str) -> String {
    let Some(range) = value_of(line) else { return line.to_owned() };
    let space = if range.start == range.end && !value.is_empty() { " " } else { "" };
    let before = if value.is_empty() { line[..range.start].trim_end() } else { &line[..range.start] };
    format!("{before}{space}{value}{}", &line[range.end..])
}

fn set(lines: &[&str], found: &Range<usize>, value: &Value) -> Result<String, Unsure> {
    let at = found.start;
    // A value of several lines is nothing that is replaced by a word.
    if end_of(lines, found) != at + 1 || value_of(lines[at]).is_none() {
        return Err(Unsure { line: at + 1 });
    }
    let line = splice(lines[at], &scalar(value));
    Ok([&lines[..at].concat(), line.as_str(), &lines[at + 1..].concat()].concat())
}

fn without(lines: &[&str], gone: Range<usize>) -> String {
    [lines[..gone.start].concat(), lines[gone.end..].concat()].concat()
}

/// Adds `keys` and a value before line `at`.
fn insert(lines: &[&str], at: usize, indent: usize, keys: &[String], value: &Value) -> String {
    let mut added = String::new();
    for (depth, key) in keys.iter().enumerate() {
        let value = if depth + 1 == keys.len() { format!(" {}", scalar(value)) } else { String::new() };
        let _ = writeln!(added, "{:width$}{}:{value}", "", scalar(&key.as_str().into()), width = indent + 2 * depth);
    }
    let mut before = lines[..at].concat();
    if !before.is_empty() && !before.ends_with('\n') {
        before.push('\n');
    }
    [before, added, lines[at..].concat()].concat()
}

/// A scalar as it is written: plain where that means the same.
fn scalar(value: &Value) -> String {
    if let Value::Sequence(items) = value {
        return format!("[{}]", items.iter().map(scalar).collect::<Vec<_>>().join(", "));
    }
    let Value::String(text) = value else {
        return yaml_serde::to_string(value).unwrap_or_default().trim_end().to_owned();
    };
    let harmless = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@~ $".contains(letter);
    let plain = !text.is_empty()
        && text.chars().all(harmless)
        && !text.contains(": ")
        && !text.ends_with(':')
        && matches!(yaml_serde::from_str(text), Ok(Value::String(read)) if read == *text);
    if plain { text.clone() } else { serde_json::Value::from(text.as_str()).to_string() }
}

/// Where the file really is, with a directory around it.
fn prepare(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::io(format!("making the directory of the configuration {}", path.display()), error)
    };
    // A link stays a link: what it leads to is what is edited.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = directory(&real);
    if !dir.exists() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&dir).map_err(|error| failed(&error))?;
    }
    Ok(real)
}

fn directory(path: &Path) -> PathBuf {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Keeps other edits of files in the same directory out until it is dropped.
fn lock(path: &Path) -> Result<std::fs::File, Failure> {
    let dir = directory(path);
    let locked = std::fs::File::open(&dir).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| Failure::io(format!("locking the directory {}", dir.display()), &error))
}

/// Puts `text` in the place of the file at `path`, whole or not at all. The mode of a file that exists is kept.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let real = prepare(path)?;
    let failed = |error: &std::io::Error| Failure::io(format!("writing the configuration {}", path.display()), error);
    let write = || -> std::io::Result<()> {
        if std::fs::metadata(&real).is_ok_and(|found| !found.is_file()) {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        // Made for its owner alone.
        let mut file = tempfile::Builder::new().prefix(".config-").suffix(".yaml").tempfile_in(directory(&real))?;
        file.write_all(text.as_bytes())?;
        if let Ok(found) = std::fs::metadata(&real) {
            file.as_file().set_permissions(found.permissions())?;
        }
        file.as_file().sync_all()?;
        file.persist(&real).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::keys;

    fn edit(text: &str, key: &str, value: Option<&str>) -> Result<String, Failure> {
        let path = keys::split(key);
        let kind = keys::find(&path).unwrap().kind;
        let edit = value.map_or(Edit::Unset, |value| Edit::Set(crate::config::typed(kind, value)));
        edited(Path::new("c.yaml"), text, &path, &edit).map(|(text, _)| text)
    }

    #[test]
    fn one_key_is_changed_and_nothing_else() {
        for (before, key, value, after) in [
            ("", "output", Some("json"), "output: json\n"),
            ("# mine\n", "output", Some("json"), "# mine\noutput: json\n"),
            ("output: text # why\n", "output", Some("json"), "output: json # why\n"),
            ("output: 'text'   # why\nquiet: true\n", "output", Some("json"), "output: json   # why\nquiet: true\n"),
            ("output:\nquiet: true\n", "output", Some("json"), "output: json\nquiet: true\n"),
            ("quiet: true", "output", Some("json"), "quiet: true\noutput: json\n"),
            ("no-color: true\n", "no_color", Some("false"), "no-color: false\n"),
            ("plainhttp: true\n", "plain_http", Some("false"), "plainhttp: false\n"),
            (
                "cache:\n  # big\n  dir: a\n\n# end\n",
                "cache.max_size",
                Some("2G"),
                "cache:\n  # big\n  dir: a\n  max_size: 2G\n\n# end\n",
            ),
            (
                "cache:\n    dir: a\nquiet: true\n",
                "cache.refs.enabled",
                Some("off"),
                "cache:\n    dir: a\n    refs:\n      enabled: false\nquiet: true\n",
            ),
            ("quiet: true\n", "cache.refs.enabled", Some("1"), "quiet: true\ncache:\n  refs:\n    enabled: true\n"),
            ("aliases: {}\n", "aliases.a", Some("h/r"), "aliases:\n  a: h/r\n"),
            ("aliases:\n\nquiet: true\n", "aliases.v1.2", Some("h/r:t"), "aliases:\n  v1.2: h/r:t\n\nquiet: true\n"),
            ("aliases:\n  b: h/r\n", "aliases.1.2", Some("h/r"), "aliases:\n  b: h/r\n  \"1.2\": h/r\n"),
            ("aliases:\n  \"1.2\": h/r\n", "aliases.1.2", Some("h/s"), "aliases:\n  \"1.2\": h/s\n"),
            ("aliases:\n  a: h/r\n  b: h/s\n", "aliases.a", None, "aliases:\n  b: h/s\n"),
            ("aliases:\n  a: h/r # x\n# y\nquiet: true\n", "aliases.a", None, "aliases:\n# y\nquiet: true\n"),
            ("quiet: true\n", "aliases.a", None, "quiet: true\n"),
            ("---\noutput: text\n", "output", Some("json"), "---\noutput: json\n"),
            ("cache:\r\n  dir: a\r\n", "cache.dir", Some("b"), "cache:\r\n  dir: b\r\n"),
            (
                "registries:\n  ghcr.io:\n    mirrors: [a.example]\n",
                "registries.ghcr.io.mirrors",
                Some("b.example,c.example"),
                "registries:\n  ghcr.io:\n    mirrors: [b.example, c.example]\n",
            ),
            (
                "",
                "registries.localhost:5000.insecure",
                Some("yes"),
                "registries:\n  localhost:5000:\n    insecure: true\n",
            ),
            ("cache:\n  dir: a\n", "cache.dir", Some("a: b # c"), "cache:\n  dir: \"a: b # c\"\n"),
        ] {
            assert_eq!(edit(before, key, value).unwrap(), after, "{before:?} {key}");
        }
    }

    #[test]
    fn what_is_unsure_is_refused_with_its_line() {
        for (before, key, value, line) in [
            ("quiet: true\naliases: {a: h/r}\n", "aliases.a", Some("h/s"), 2),
            ("quiet: true\naliases: {a: h/r}\n", "aliases.a", None, 2),
            ("{output: json}\n", "output", Some("text"), 1),
            ("cache:\n  dir: |-\n    a\n", "cache.dir", Some("b"), 2),
            ("cache:\n  dir: a\n    b\n", "cache.dir", Some("b"), 2),
            ("cache: &c\n  dir: a\n", "cache.dir", Some("b"), 1),
            ("? output\n: json\n", "output", Some("text"), 1),
        ] {
            let said = edit(before, key, value).unwrap_err().text();
            assert!(said.contains(&format!("c.yaml:{line} cannot be edited for sure")), "{before:?}: {said}");
        }
    }

    #[test]
    fn what_would_not_be_valid_is_not_written() {
        for (before, key, value) in [
            ("", "output", "xml"),
            ("", "cache.max_size", "lots"),
            ("", "aliases.oci", "h/r"),
            ("outptu: x\n", "output", "json"),
        ] {
            assert_eq!(edit(before, key, Some(value)).unwrap_err().kind.exit_code(), 2, "{before:?} {key}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_replaced_with_its_mode_and_behind_its_link() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/dir/config.yaml");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        apply(&path, false, &keys::split("output"), &Edit::Set("json".into())).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let link = root.path().join("link.yaml");
        symlink(&path, &link).unwrap();
        apply(&link, false, &keys::split("quiet"), &Edit::Set(Value::Bool(true))).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "output: json\nquiet: true\n");
        assert!(link.is_symlink() && mode(&path) == 0o640);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
