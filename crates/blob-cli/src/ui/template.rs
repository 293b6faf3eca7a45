//! `--format`: results in a shape of one's own, in Go's template language as docker, podman and oras have it: fields,
//! variables, `range`, `if`, `with`, pipes, the functions that people know from there, and templates within each other.
//!
//! A template is tried on a sample of what the command writes before the command does anything ([`Template::check`]). It
//! is written here because the one library of this language has values, numbers and missing fields of its own, and is
//! looked after in passing; and because a trial goes through all branches, which no library does.

mod columns;
mod compare;
mod functions;
mod lex;
mod parse;
mod printf;
mod render;
mod sample;
#[cfg(test)]
mod tests;
mod text;
mod tree;

use std::borrow::Cow;

use serde_json::Value;

use render::{Mode, Scope};
pub(crate) use sample::Sample;
pub(crate) use text::cut;
use tree::{Defined, Node};

/// A template that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
    /// Those that it defines.
    templates: Defined,
    /// `table` stands before it: what it writes is set in columns.
    table: bool,
    /// The member whose items are the rows of the table.
    rows: Option<String>,
    /// It was tried on a sample: what is not in a document was left out of it.
    checked: bool,
}

impl Template {
    /// Understands `text`; `\n` and `\t` outside of braces are a line break and a tab.
    ///
    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let behind = text.strip_prefix("table").filter(|rest| rest.starts_with([' ', '\t', '\\']));
        let body = behind.map(|rest| rest.strip_prefix("\\t").unwrap_or(rest).trim_start());
        let (nodes, templates) = parse::parse(body.unwrap_or(text))?;
        Ok(Self { nodes, templates, table: body.is_some(), rows: None, checked: false })
    }

    /// Tries the template on a sample of what the command may write, all branches of it, and so finds fields that are in no
    /// document and functions that do not fit. What hangs on lengths and values shows later.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn check(&mut self, sample: &Sample) -> Result<(), String> {
        let whole = sample.document();
        let tried = |here| Scope::new(whole, &self.templates, Mode::Trial).render(&self.nodes, here).map(drop);
        if let (true, Some((list, item))) = (self.table, sample.list()) {
            match tried(item) {
                Ok(()) => self.rows = Some(list.to_owned()),
                // It may be about the document, as without `table`.
                Err(problem) => tried(whole).map_err(|_| problem)?,
            }
        } else {
            tried(whole)?;
        }
        self.checked = true;
        Ok(())
    }

    /// The template filled in with `document`. There is a line break at the end.
    ///
    /// # Errors
    /// A field that is asked for where there are none, or a function that does not fit.
    pub(crate) fn render(&self, document: &Value) -> Result<String, String> {
        let mode = if self.checked { Mode::Known } else { Mode::Unknown };
        let render = |here| Scope::new(document, &self.templates, mode).render(&self.nodes, here);
        let mut text = match self.rows.as_ref().and_then(|list| document.get(list)).and_then(Value::as_array) {
            Some(items) => {
                let rows = items.iter().map(|item| Ok(render(item)?.trim_end_matches('\n').to_owned() + "\n"));
                rows.collect::<Result<String, String>>()?
            }
            None => render(document)?,
        };
        if self.table {
            text = columns::aligned(&columns::headings(&self.nodes), &text);
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }
}

/// A member by its name, or by what Go's tools call it: `.Digest` is `digest`, `.FileCount` is `file_count`.
fn find<'a>(members: &'a serde_json::Map<String, Value>, field: &str) -> Option<&'a Value> {
    members.get(field).or_else(|| members.iter().find(|(name, _)| plain(name) == plain(field)).map(|(_, value)| value))
}

/// A name without what tools write differently.
fn plain(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

/// A value of the document, or one that was made of it.
type Given<'d> = Cow<'d, Value>;
