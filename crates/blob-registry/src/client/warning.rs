//! What registries want people to know besides their answers: `Warning` headers (distribution-spec, "Warnings").

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;

use super::Core;
use super::answer::{Answer, printable, scrub};

/// More warnings of one registry are not told.
const MAX_WARNINGS: usize = 32;

/// More characters of one are not shown.
const MAX_CHARS: usize = 500;

/// What a registry has warned of already.
#[derive(Debug, Default)]
pub(super) struct Warned(Mutex<HashSet<String>>);

impl Warned {
    /// Whether this is news.
    fn is_new(&self, text: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < MAX_WARNINGS && known.insert(text.to_owned())
    }
}

impl Core {
    /// Passes on what the registry warns of, each warning once.
    pub(super) fn heed_warnings(&self, answer: &Answer) {
        for text in texts(&answer.headers) {
            let text = printable(&scrub(&text, &answer.hidden), MAX_CHARS);
            if self.warned.is_new(&text) {
                tracing::warn!(registry = self.host, "the registry warns: {text}");
            }
        }
    }
}

/// The texts of the warnings in an answer. Clients must not show any but those with the code 299 and the agent `-`.
fn texts(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    let values = headers.get_all("warning").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(all_of)
}

/// Every warning of one header. What is malformed ends it.
fn all_of(value: &str) -> Vec<String> {
    let (mut rest, mut found) = (value, Vec::new());
    while let Some((shown, text, behind)) = next(rest) {
        if shown && !text.trim().is_empty() {
            found.push(text);
        }
        rest = behind;
    }
    found
}

/// The first warning: whether it is to be shown, its text, and what is behind it.
fn next(value: &str) -> Option<(bool, String, &str)> {
    let value = value.trim_start_matches([' ', '\t', ',']);
    let (code, value) = value.split_once(' ')?;
    let (agent, value) = value.trim_start().split_once(' ')?;
    let mut characters = value.trim_start().strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
    // A date may follow, quoted as well.
    let rest = characters.as_str();
    let dated = rest.trim_start().strip_prefix('"').and_then(|date| date.split_once('"'));
    let rest = dated.map_or(rest, |(_, rest)| rest);
    let rest = rest.split_once(',').map_or("", |(_, rest)| rest);
    Some((code == "299" && agent == "-", text, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_read_as_the_specification_writes_them() {
        for (value, expected) in [
            (
                r#"299 - "Your auth token will expire in 30 seconds.""#,
                vec!["Your auth token will expire in 30 seconds."],
            ),
            (r#"299 - "a \"b\", c" "Sat, 25 Aug 2012 23:34:45 GMT", 299 - "d""#, vec![r#"a "b", c"#, "d"]),
            (r#"199 - "x", 299 registry.example "y", 299 - "z""#, vec!["z"]),
            (r#"299 - "open"#, vec![]),
            ("299 - open", vec![]),
            (r#"299 - """#, vec![]),
            ("299", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(all_of(value), expected, "{value}");
        }
    }

    #[test]
    fn each_is_told_once_and_not_without_end() {
        let warned = Warned::default();
        assert!(warned.is_new("a") && !warned.is_new("a"));
        assert_eq!((0..100).filter(|number| warned.is_new(&number.to_string())).count(), MAX_WARNINGS - 1);
    }
}
