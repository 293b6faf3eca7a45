//! From text to rules, with the place of what is wrong.

use std::path::Path;

use serde::Deserialize;

use super::error::PolicyFileError;
use super::spec::{PolicyRule, PolicySpec};

/// A file: one policy, or a list of rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, deserialize_with = "super::list::given")]
    policies: Option<Vec<PolicyRule>>,
    #[serde(default, deserialize_with = "super::list::given")]
    signature: Option<super::spec::SignatureSpec>,
    #[serde(default, deserialize_with = "super::list::given")]
    provenance: Option<super::spec::ProvenanceSpec>,
    #[serde(default, deserialize_with = "super::list::given")]
    rego: Option<super::spec::RegoSpec>,
    #[serde(default, deserialize_with = "super::list::given")]
    trusted_root: Option<std::path::PathBuf>,
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<PolicyRule>, PolicyFileError> {
    let empty = || PolicyFileError::Empty { path: path.to_owned() };
    // Without a single key there is no place that could be named.
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---";
    if text.lines().all(blank) {
        return Err(empty());
    }
    // As a tree first, in which a key that is there twice is noticed at every level.
    yaml_serde::from_str::<yaml_serde::Value>(text).map_err(|error| syntax(&error, path))?;
    let document: Document = yaml_serde::from_str(text).map_err(|error| syntax(&error, path))?;
    let Document { policies, signature, provenance, rego, trusted_root } = document;
    let alone = PolicySpec { signature, provenance, rego, trusted_root };
    match policies {
        Some(rules) if alone == PolicySpec::default() => {
            if rules.is_empty() {
                return Err(empty());
            }
            Ok(rules)
        }
        Some(_) => {
            let problem = "a file holds either `policies`, or one policy, not both".to_owned();
            Err(PolicyFileError::Syntax { path: path.to_owned(), line: 1, column: 1, problem, hint: None })
        }
        None if alone.is_empty() => Err(empty()),
        None => Ok(vec![PolicyRule { pattern: None, policy: alone }]),
    }
}

fn syntax(error: &yaml_serde::Error, path: &Path) -> PolicyFileError {
    let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    let mut problem = error.to_string();
    if let Some(end) = problem.rfind(" at line ") {
        problem.truncate(end);
    }
    let hint = similar(&problem).map(|meant| format!("did you mean `{meant}`?"));
    PolicyFileError::Syntax { path: path.to_owned(), line, column, problem, hint }
}

/// What was probably meant by a field that is not known: the problem names that first, and then those that are.
fn similar(problem: &str) -> Option<&str> {
    let rest = &problem[problem.find("unknown field `")?..];
    let mut names = rest.split('`').skip(1).step_by(2);
    let typed = names.next()?;
    let nearest = names.map(|name| (distance(typed, name), name)).min()?;
    (nearest.0 <= typed.chars().count().div_ceil(3)).then_some(nearest.1)
}

/// How many characters have to be put in, taken out or replaced; names are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expect) in [("", "abc", 3), ("signatur", "signature", 1), ("issuer", "issue", 1), ("abc", "abd", 1)]
        {
            assert_eq!(distance(a, b), expect, "{a} {b}");
        }
        let problem = "policy: unknown field `identiy`, expected one of `issuer`, `identity`";
        assert_eq!(similar(problem), Some("identity"));
        assert_eq!(similar("unknown field `zzz`, expected `issuer`"), None);
    }
}
