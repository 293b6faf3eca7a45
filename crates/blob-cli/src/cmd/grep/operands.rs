//! The operands of `blob grep`: where -e or -f give the patterns, the first one is the archive.

use blob::Location;
use clap::Args;

use crate::error::{Failure, Kind};
use crate::session::Session;

#[derive(Args, Debug)]
pub(super) struct Operands {
    /// A regular expression, unless -e or -f give some; behind `--` it may begin with a hyphen.
    #[arg(value_name = "PATTERN", required_unless_present_any = ["regexp", "file"])]
    pub(super) pattern: Option<String>,

    /// The archive.
    #[arg(value_name = "REF", required_unless_present_any = ["regexp", "file"])]
    reference: Option<String>,

    /// Files and directories to search; everything by default.
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<String>,
}

impl Operands {
    /// Gives every operand its place, if patterns are `given` by options.
    pub(super) fn shift(&mut self, given: bool) -> Result<(), Failure> {
        if !given {
            return Ok(());
        }
        if let Some(second) = std::mem::replace(&mut self.reference, self.pattern.take()) {
            self.paths.insert(0, second);
        }
        match self.reference {
            Some(_) => Ok(()),
            None => Err(Failure::usage("requires at least 1 arg(s), only received 0: missing <REF>")
                .with_hint("usage: blob grep <-e PATTERN|-f FILE> <REF> [PATH]...")),
        }
    }

    /// The place of the archive.
    pub(super) fn location(&self, session: &Session) -> Result<Location, Failure> {
        let typed = self.reference.as_deref().unwrap_or_default();
        session.location(typed).map_err(|failure| match &self.pattern {
            Some(pattern) if failure.kind == Kind::Usage && is_place(pattern, session) => {
                failure.without_hint().with_hint("the pattern comes first, then the archive")
            }
            None if failure.kind == Kind::Usage && self.paths.first().is_some_and(|path| is_place(path, session)) => {
                failure
                    .without_hint()
                    .with_hint("with -e and -f the archive comes first: a pattern more is one more -e")
            }
            _ => failure,
        })
    }
}

/// Whether a word that stands for something else is the place of an archive.
fn is_place(word: &str, session: &Session) -> bool {
    session.location(word).is_ok_and(|place| place.tag().is_some() || place.to_string().contains('@'))
}
