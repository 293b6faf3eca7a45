//! Patterns over text: exact, with wildcards, or a regular expression; always over the whole text.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Matches a whole text, never a part of it.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Exact,
    Regex(Regex),
}

/// A pattern that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It is empty, and would match nothing that exists.
    #[error("the pattern is empty")]
    Empty,
    /// It is not a regular expression, or one that is too large.
    #[error("the pattern {pattern:?} is not usable")]
    Regex {
        /// The pattern.
        pattern: String,
        /// The cause.
        source: Box<regex::Error>,
    },
}

/// Bytes that a compiled pattern may take.
const MAX_COMPILED: usize = 1 << 20;

impl Pattern {
    /// This text and no other.
    pub fn exact(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Exact }
    }

    /// Text with wildcards: `*` stands for any characters but `/`, `**` for any characters at all, both also for none.
    /// Nothing else is special.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn glob(glob: &str) -> Result<Self, PatternError> {
        Self::compile(glob, &expression(glob))
    }

    /// Text that one of `globs` matches as a whole.
    ///
    /// # Errors
    /// [`PatternError`]; an empty list, and an empty one among them, is one.
    pub fn any_glob(globs: &[&str]) -> Result<Self, PatternError> {
        if globs.iter().any(|glob| glob.is_empty()) {
            return Err(PatternError::Empty);
        }
        let each: Vec<_> = globs.iter().map(|glob| format!("(?:{})", expression(glob))).collect();
        Self::compile(&globs.join(" or "), &each.join("|"))
    }

    /// A regular expression over the whole text: `^` and `$` are implied, and alternatives at its top level too are
    /// anchored at both ends.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn regex(expression: &str) -> Result<Self, PatternError> {
        Self::compile(expression, expression)
    }

    fn compile(pattern: &str, expression: &str) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError::Empty);
        }
        let failed = |source| PatternError::Regex { pattern: pattern.to_owned(), source: Box::new(source) };
        // Compiled alone first: a stray parenthesis would otherwise close the group that anchors it.
        RegexBuilder::new(expression).size_limit(MAX_COMPILED).build().map_err(failed)?;
        let whole = format!(r"\A(?:{expression})\z");
        let regex = RegexBuilder::new(&whole).size_limit(MAX_COMPILED).build();
        Ok(Self { text: pattern.to_owned(), kind: Kind::Regex(regex.map_err(failed)?) })
    }

    /// Whether it matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Exact => self.text == text,
            Kind::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A glob as a regular expression.
fn expression(glob: &str) -> String {
    let mut expression = String::new();
    for (at, part) in glob.split("**").enumerate() {
        expression.push_str(if at == 0 { "" } else { "(?s:.*)" });
        let pieces: Vec<_> = part.split('*').map(regex::escape).collect();
        expression.push_str(&pieces.join("[^/]*"));
    }
    expression
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn globs() {
        for (glob, text, expect) in [
            ("release/*", "release/v1", true),
            ("release/*", "release/", true),
            ("release/*", "release/v1/hotfix", false),
            ("release/**", "release/v1/hotfix", true),
            ("**", "any/thing", true),
            ("v*", "v2.0.0-beta", true),
            ("v*", "xv2", false),
            ("a.b", "axb", false),
            ("a.b", "a.b", true),
            ("[x]", "x", false),
            ("v*", "v1\n", true),
            ("v1", "v1\n", false),
        ] {
            assert_eq!(Pattern::glob(glob).unwrap().matches(text), expect, "{glob} on {text:?}");
        }
    }

    #[test]
    fn one_of_several_globs() {
        let either = Pattern::any_glob(&["refs/heads/main", "refs/tags/v*"]).unwrap();
        for (text, expect) in [
            ("refs/heads/main", true),
            ("refs/tags/v1", true),
            ("refs/heads/main-evil", false),
            ("refs/heads/mainrefs/tags/v1", false),
            ("x refs/tags/v1", false),
            ("refs/tags/v1/x", false),
        ] {
            assert_eq!(either.matches(text), expect, "{text}");
        }
        assert!(Pattern::any_glob(&[]).is_err() && Pattern::any_glob(&["a", ""]).is_err());
    }

    #[test]
    fn regular_expressions_are_anchored() {
        for (expression, text, expect) in [
            ("a|b", "a", true),
            ("a|b", "ab", false),
            ("a|b", "xb", false),
            ("acme/app", "acme/app-evil", false),
            ("acme/.*", "acme/app", true),
            ("(?m)^a$", "a\nb", false),
            ("(?x) a # comment\n", "a", true),
            ("(?x) a # comment\n", "ab", false),
        ] {
            assert_eq!(Pattern::regex(expression).unwrap().matches(text), expect, "{expression} on {text:?}");
        }
        assert!(matches!(Pattern::regex(""), Err(PatternError::Empty)));
        for bad in ["(", "a)|(?:b", "x{1000}{1000}", "(?x) a # swallows the anchor"] {
            assert!(matches!(Pattern::regex(bad), Err(PatternError::Regex { .. })), "{bad}");
        }
    }
}
