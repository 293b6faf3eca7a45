//! What the parser says of a file, in words for people, and where in the file it is.

use super::keys::{self, KEYS, Kind};

/// Something that is wrong with the value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) key: Vec<String>,
    pub(crate) problem: String,
}

impl Wrong {
    pub(crate) fn new(key: &[&str], problem: impl Into<String>) -> Self {
        Self { key: key.iter().map(|part| (*part).to_owned()).collect(), problem: problem.into() }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", keys::join(&self.key), self.problem)
    }
}

/// What the parser said, which is `KEY: PROBLEM` or the problem alone.
pub(crate) fn problem(said: &str) -> String {
    let is_key = |text: &str| !text.is_empty() && !text.contains([' ', '`']);
    let (key, rest) = said.split_once(": ").filter(|(key, _)| is_key(key)).unwrap_or(("", said));
    let before = if key.is_empty() { String::new() } else { format!("{key}: ") };
    let kind = rest.strip_prefix("invalid type: ").or_else(|| rest.strip_prefix("invalid value: "));
    if let Some((got, wanted)) = kind.and_then(|rest| rest.split_once(", expected ")) {
        return format!("{before}it is {}, expected {}", shape(got), expected(key).unwrap_or_else(|| plain(wanted)));
    }
    let variant = rest.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "));
    if let Some((got, wanted)) = variant {
        return format!("{before}{got:?} is not known, expected {}", expected(key).unwrap_or_else(|| plain(wanted)));
    }
    said.to_owned()
}

/// The problem with the value of `key`, without the key.
pub(crate) fn problem_at(key: &str, said: &str) -> String {
    let before = format!("{key}: ");
    let said = if said.starts_with(&before) { said.to_owned() } else { before.clone() + said };
    let explained = problem(&said);
    explained.strip_prefix(&before).map_or(explained.clone(), str::to_owned)
}

/// What the parser calls something.
fn shape(got: &str) -> String {
    let inner = |prefix: &str| Some(got.strip_prefix(prefix)?.strip_prefix('`')?.strip_suffix('`')?.to_owned());
    if let Some(text) = got.strip_prefix("string ") {
        return format!("the text {text}");
    }
    if let Some(number) = inner("integer ").or_else(|| inner("floating point ")) {
        return format!("the number {number}");
    }
    match got {
        "sequence" => "a list".into(),
        "map" => "a map of keys".into(),
        "unit value" | "null" => "nothing".into(),
        other => inner("boolean ").unwrap_or_else(|| other.to_owned()),
    }
}

/// What the parser wanted, where no key says it better.
fn plain(wanted: &str) -> String {
    if wanted.starts_with("struct ") { "keys".into() } else { wanted.replace('`', "") }
}

/// What the value of a key is to be.
fn expected(key: &str) -> Option<String> {
    let path = keys::split(key);
    if let Some(found) = keys::find(&path).filter(|_| !key.is_empty()) {
        return Some(match found.kind {
            Kind::Bool => "true or false".into(),
            Kind::Number => "a whole number".into(),
            Kind::Text => "a text".into(),
            Kind::Size => "a number of bytes, with K, M, G or T".into(),
            Kind::Time => "a time such as 30s, 5m or 2h".into(),
            Kind::List => "a text or a list of texts".into(),
            Kind::Rules => "a list of rules".into(),
            Kind::Word(words) => format!("one of {}", words.join(", ")),
        });
    }
    // What is in a map: the names at the next level.
    let depth = if key.is_empty() { 0 } else { path.len() };
    let fits =
        |known: &[&str]| path.iter().take(depth).zip(known).all(|(typed, known)| *known == "*" || typed == known);
    let mut names: Vec<&str> = Vec::new();
    for known in KEYS {
        let known: Vec<&str> = known.path.split('.').collect();
        if let Some(name) = known.get(depth).filter(|name| fits(&known) && **name != "*")
            && !names.contains(name)
        {
            names.push(name);
        }
    }
    match names.as_slice() {
        [] => None,
        few if few.len() <= 4 => Some(format!("keys: {}", few.join(", "))),
        many => Some(format!("keys such as {}", many[..4].join(", "))),
    }
}

/// The line and column, from 1, of a byte of a text.
pub(crate) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The beginning of the second document in a file.
pub(crate) fn second_document(text: &str) -> Option<(usize, usize)> {
    let starts = text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    });
    let said = |line: &str| !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with('%');
    let mut any = false;
    for (start, line) in starts {
        if line.starts_with("---") && any {
            return Some(position(text, start));
        }
        any |= said(line);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_is_expected() {
        for (said, expect) in [
            (
                "output: unknown variant `xml`, expected one of `text`, `json`",
                "output: \"xml\" is not known, expected one of text, json, jsonl, plain, table",
            ),
            (
                "cache: invalid type: sequence, expected struct CacheSettings",
                "cache: it is a list, expected keys such as enabled, dir, max_size, ref_ttl",
            ),
            (
                "cache.refs: invalid type: integer `1`, expected struct LayerSettings",
                "cache.refs: it is the number 1, expected keys: enabled, max_size",
            ),
            (
                "verbose: invalid type: string \"x\", expected u8",
                "verbose: it is the text \"x\", expected a whole number",
            ),
            (
                "retries: invalid value: integer `-1`, expected u32",
                "retries: it is the number -1, expected a whole number",
            ),
            (
                "quiet: invalid type: string \"nope\", expected a boolean",
                "quiet: it is the text \"nope\", expected true or false",
            ),
            (
                "output: invalid type: sequence, expected a YAML tag starting with '!'",
                "output: it is a list, expected one of text, json, jsonl, plain, table",
            ),
            (
                "registries.localhost:5000.insecure: invalid type: string \"maybe\", expected a boolean",
                "registries.localhost:5000.insecure: it is the text \"maybe\", expected true or false",
            ),
            (
                "invalid type: sequence, expected struct Settings",
                "it is a list, expected keys such as output, verbose, quiet, color",
            ),
            (
                "cache.max_size: \"x\" is not a size: expected a number",
                "cache.max_size: \"x\" is not a size: expected a number",
            ),
        ] {
            assert_eq!(problem(said), expect);
        }
        for said in ["unknown variant `xml`, expected x", "output: unknown variant `xml`, expected x"] {
            assert_eq!(
                problem_at("output", said),
                "\"xml\" is not known, expected one of text, json, jsonl, plain, table"
            );
        }
    }

    #[test]
    fn places_are_counted_from_one() {
        let text = "a: é\nb: x\n---\nc: y\n";
        assert_eq!(position(text, text.find('x').unwrap_or(0)), (2, 4));
        assert_eq!(second_document(text), Some((3, 1)));
        assert_eq!(second_document("# first\n---\na: 1\n"), None);
        assert_eq!(second_document("--- 1\n--- 2\n"), Some((2, 1)));
    }
}
