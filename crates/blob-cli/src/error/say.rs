//! How a failure is told: to people, and to programs.

use std::fmt::Write as _;

use blob::core::path::Shown;
use serde::Serialize;

use super::{Failure, LISTED};
use crate::ui::escape::PathText;

impl Failure {
    /// The message and its causes, joined, safe to print to a terminal.
    pub(crate) fn sentence(&self) -> String {
        let whole = std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>();
        shown(&without_passwords(&whole.join(": ")))
    }

    /// What is printed to standard error.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.sentence());
        for listed in self.paths.iter().take(LISTED) {
            let _ = writeln!(text, "  {}", shown(&listed.path));
        }
        let listed = self.paths.len().min(LISTED) as u64;
        if self.path_count > listed {
            let _ = writeln!(text, "  and {} more", self.path_count - listed);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {}", shown(&without_passwords(hint)));
        }
        text
    }

    /// The same for programs, on one line.
    pub(crate) fn json(&self) -> String {
        let said = Said {
            code: self.kind.exit_code(),
            kind: self.kind.name(),
            message: without_passwords(&self.message),
            reference: self.reference.as_deref(),
            causes: self.causes.iter().map(|cause| without_passwords(cause)).collect(),
            paths: &self.paths,
            hint: self.hint.as_deref().map(without_passwords),
        };
        crate::ui::json::record(&Whole { error: said })
    }
}

/// An error for programs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Whole<'a> {
    /// What went wrong.
    error: Said<'a>,
}

/// What went wrong.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Said<'a> {
    /// The exit code.
    code: u8,
    /// The name of the exit code, as `not_found`.
    kind: &'static str,
    /// What was being done, to what, and what came of it.
    message: String,
    /// The place that the command was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    /// Why, outermost first.
    causes: Vec<String>,
    /// Files that it is about; perhaps only the first of them.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    paths: &'a [PathText],
    /// What may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    vec![crate::schemas::document::<Whole<'_>>("error")]
}

/// `text` without the passwords of addresses: `ann:secret@host` becomes `ann:***@host`. Somebody may type one where it does
/// not belong, and errors repeat what was typed.
fn without_passwords(text: &str) -> String {
    let (mut safe, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, behind)) = rest.split_once('@') {
        let word =
            before.rfind(|letter: char| letter.is_whitespace() || "/\"'`(=".contains(letter)).map_or(0, |at| at + 1);
        let is_digest = ["sha256:", "sha512:", "DIGEST"].iter().any(|algorithm| behind.starts_with(algorithm));
        match before[word..].find(':') {
            Some(colon) if !is_digest => safe.extend([&before[..=word + colon], "***@"]),
            _ => safe.extend([before, "@"]),
        }
        rest = behind;
    }
    safe + rest
}

/// Escapes what could control a terminal.
fn shown(text: &str) -> String {
    Shown(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob::Error;
    use blob::registry::{ErrorCode, RegistryError};

    use super::*;

    #[test]
    fn what_a_registry_says_cannot_control_the_terminal() {
        let source = RegistryError::detailed("x", ErrorCode::Denied, "\x1b[2Jgone\nerror: nothing");
        let failure = Failure::from(Error::Registry { action: "reading".into(), source });
        assert_eq!(failure.text(), "error: reading: DENIED: \\u{1b}[2Jgone\\nerror: nothing\n");
        assert!(serde_json::from_str::<serde_json::Value>(&failure.json()).is_ok());
    }

    #[test]
    fn passwords_that_were_typed_are_not_repeated() {
        for (text, expected) in [
            ("\"https://ann:secret@h/r:t\": leave out the scheme", "\"https://ann:***@h/r:t\": leave out the scheme"),
            ("ann:secret@h/r:t", "ann:***@h/r:t"),
            ("a ann:se:cret@h and b:c@h", "a ann:***@h and b:***@h"),
            ("h:5000/r:t@sha256:00", "h:5000/r:t@sha256:00"),
            ("alias:v1@sha512:00", "alias:v1@sha512:00"),
            ("ann@example.com: x", "ann@example.com: x"),
            ("write oci:layout:TAG or oci:layout@DIGEST", "write oci:layout:TAG or oci:layout@DIGEST"),
            ("@", "@"),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
    }
}
