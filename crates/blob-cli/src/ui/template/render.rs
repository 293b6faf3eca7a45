//! Filling in.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::functions::Function;
use super::sample::ANY;
use super::text::{is_true, kind, shown};
use super::tree::{Call, Defined, Node, Operand, Pipe, Source};
use super::{Given, find};
use crate::ui::near::nearest;

/// How many templates may be within each other, how many are filled in at most, and how many in a trial.
const MAX_WITHIN: usize = 20;
const MAX_FILLED: u32 = 1_000_000;
const MAX_TRIED: u32 = 1000;

/// How far a range counts.
const MAX_COUNT: u64 = 1_000_000;

/// All ranges of a template together have so many rounds at most: what lists have, several times.
const MAX_ROUNDS: u64 = 50_000_000;

/// The most that is written: 1 GiB.
const MAX_TEXT: usize = 1 << 30;

/// How strict to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// On a sample: through all branches, and what is not there is wrong.
    Trial,
    /// What is not there was left out.
    Known,
    /// Nobody knows what the document may have: outermost fields that are not there are wrong.
    Unknown,
}

/// How a list of nodes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// Where a template is filled in.
pub(super) struct Scope<'d> {
    whole: &'d Value,
    mode: Mode,
    variables: Vec<(String, Given<'d>)>,
    text: String,
    templates: &'d Defined,
    /// The templates that we are in.
    within: Vec<&'d str>,
    /// How many were filled in.
    filled: u32,
    /// How many rounds ranges had.
    rounds: u64,
}

impl<'d> Scope<'d> {
    pub(super) fn new(whole: &'d Value, templates: &'d Defined, mode: Mode) -> Self {
        Self {
            whole,
            mode,
            variables: Vec::new(),
            text: String::new(),
            templates,
            within: Vec::new(),
            filled: 0,
            rounds: 0,
        }
    }

    /// What `nodes` write where the point is `here`.
    pub(super) fn render(mut self, nodes: &[Node], here: &'d Value) -> Result<String, String> {
        self.nodes(nodes, &Cow::Borrowed(here))?;
        Ok(self.text)
    }

    fn nodes(&mut self, nodes: &[Node], here: &Given<'d>) -> Result<Flow, String> {
        let known = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = match node {
                Node::Text(text) => {
                    self.text.push_str(text);
                    Flow::On
                }
                Node::Pipe(pipe) => {
                    let value = self.pipe(pipe, here)?;
                    if pipe.names.is_empty() {
                        self.text.push_str(&shown(&value));
                    }
                    Flow::On
                }
                Node::Choose(arms, otherwise) => {
                    let outer = self.variables.len();
                    let mut chosen = None;
                    for arm in arms {
                        let value = self.pipe(&arm.pipe, here)?;
                        if self.mode == Mode::Trial || is_true(&value) {
                            chosen = Some(self.nodes(&arm.body, if arm.binds { &value } else { here })?);
                        }
                        if chosen.is_some() && self.mode != Mode::Trial {
                            break;
                        }
                    }
                    let flow = match chosen {
                        Some(flow) if self.mode != Mode::Trial => flow,
                        _ => self.nodes(otherwise, here)?,
                    };
                    self.variables.truncate(outer);
                    flow
                }
                Node::Range(pipe, body, otherwise) => self.range(pipe, body, otherwise, here)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
                Node::Template(name, pipe) => {
                    self.template(name, pipe.as_ref(), here)?;
                    Flow::On
                }
            };
            if flow != Flow::On && self.mode != Mode::Trial {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    /// Fills in another template, which `$` is its own point in.
    fn template(&mut self, name: &str, pipe: Option<&Pipe>, here: &Given<'d>) -> Result<(), String> {
        let point = match pipe {
            Some(pipe) => self.pipe(pipe, here)?,
            None => Cow::Owned(Value::Null),
        };
        let Some((name, nodes)) = self.templates.get_key_value(name) else { return Ok(()) };
        self.filled += 1;
        let trial = self.mode == Mode::Trial;
        let over = if trial { MAX_TRIED } else { MAX_FILLED };
        if trial && (self.within.contains(&name.as_str()) || self.filled > over) {
            // How often it would come again shows in the values.
            return Ok(());
        }
        if self.within.len() >= MAX_WITHIN {
            return Err(format!("templates within each other, more than {MAX_WITHIN}: {name:?} is the last"));
        }
        if self.filled > over {
            return Err(format!("more than {over} templates are filled in"));
        }
        let outer = self.variables.len();
        self.within.push(name);
        self.variables.push((String::new(), point.clone()));
        self.nodes(nodes, &point)?;
        self.variables.truncate(outer);
        self.within.pop();
        Ok(())
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], here: &Given<'d>) -> Result<Flow, String> {
        let outer = self.variables.len();
        let items = self.items(pipe, here)?;
        let empty = items.is_empty();
        for (position, item) in items {
            self.rounds += 1;
            if self.rounds > MAX_ROUNDS {
                return Err(format!("the ranges have more than {MAX_ROUNDS} rounds together"));
            }
            if self.text.len() > MAX_TEXT {
                return Err("the text is larger than 1 GiB".into());
            }
            let found = [Cow::Owned(position), item];
            // One name alone is that of the item.
            let values = &found[2 - pipe.names.len().clamp(1, 2)..];
            for (name, value) in pipe.names.iter().zip(values) {
                self.set(name, value.clone(), pipe.declares);
            }
            let flow = self.nodes(body, &found[1])?;
            if pipe.declares {
                self.variables.truncate(outer);
            }
            if flow == Flow::Break && self.mode != Mode::Trial {
                break;
            }
        }
        if empty || self.mode == Mode::Trial {
            return self.nodes(otherwise, here);
        }
        Ok(Flow::On)
    }

    /// What a range goes over, with positions or names.
    fn items(&mut self, pipe: &Pipe, here: &Given<'d>) -> Result<Vec<(Value, Given<'d>)>, String> {
        let borrowed = |item: &'d Value| Cow::Borrowed(item);
        Ok(match self.calls(&pipe.calls, here)? {
            Cow::Borrowed(Value::Array(items)) => {
                items.iter().enumerate().map(|(at, item)| (at.into(), borrowed(item))).collect()
            }
            Cow::Owned(Value::Array(items)) => {
                items.into_iter().enumerate().map(|(at, item)| (at.into(), Cow::Owned(item))).collect()
            }
            Cow::Borrowed(Value::Object(members)) => {
                members.iter().map(|(name, item)| (name.as_str().into(), borrowed(item))).collect()
            }
            Cow::Owned(Value::Object(members)) => {
                members.into_iter().map(|(name, item)| (name.into(), Cow::Owned(item))).collect()
            }
            // What is nothing may be a list elsewhere.
            value if value.is_null() && self.mode == Mode::Trial => vec![(Value::Null, Cow::Owned(Value::Null))],
            value if value.is_null() => Vec::new(),
            value if value.is_u64() => {
                let count = value.as_u64().unwrap_or_default();
                if count > MAX_COUNT {
                    return Err(format!("range over more than {MAX_COUNT}"));
                }
                let count = if self.mode == Mode::Trial { count.min(1) } else { count };
                (0..count).map(|at| (at.into(), Cow::Owned(at.into()))).collect()
            }
            other => return Err(format!("range goes over lists, maps and numbers, not over {}", kind(&other))),
        })
    }

    fn pipe(&mut self, pipe: &Pipe, here: &Given<'d>) -> Result<Given<'d>, String> {
        let value = self.calls(&pipe.calls, here)?;
        if let Some(name) = pipe.names.first() {
            self.set(name, value.clone(), pipe.declares);
        }
        Ok(value)
    }

    fn set(&mut self, name: &str, value: Given<'d>, declares: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, known)) if !declares => *known = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn calls(&self, calls: &[Call], here: &Given<'d>) -> Result<Given<'d>, String> {
        let mut given = None;
        for call in calls {
            given = Some(self.call(call, given, here)?);
        }
        Ok(given.unwrap_or_default())
    }

    /// What a call gives; `given` is what came through the pipe.
    fn call(&self, call: &Call, given: Option<Given<'d>>, here: &Given<'d>) -> Result<Given<'d>, String> {
        let trial = self.mode == Mode::Trial;
        let mut values = call.operands.iter().map(|operand| self.operand(operand, here)).chain(given.map(Ok));
        let stops_at = match call.function {
            // The first that decides is the answer, and nobody looks at those behind it.
            Some(Function::And) => false,
            Some(Function::Or) => true,
            Some(function) => return function.apply(values.collect::<Result<_, _>>()?, trial),
            None => return values.next().unwrap_or(Ok(Cow::Owned(Value::Null))),
        };
        let mut last = Cow::Owned(Value::Null);
        for value in values {
            last = value?;
            if is_true(&last) == stops_at && !trial {
                break;
            }
        }
        Ok(last)
    }

    fn operand(&self, operand: &Operand, here: &Given<'d>) -> Result<Given<'d>, String> {
        let start = match &operand.source {
            Source::Here => here.clone(),
            Source::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let otherwise = || if name.is_empty() { Cow::Borrowed(self.whole) } else { Cow::Owned(Value::Null) };
                known.map_or_else(otherwise, |(_, value)| value.clone())
            }
            Source::Literal(value) => Cow::Owned(value.clone()),
            Source::Calls(calls) => self.calls(calls, here)?,
        };
        match start {
            Cow::Borrowed(value) => self.look(value, &operand.fields).map(Cow::Borrowed),
            Cow::Owned(value) if operand.fields.is_empty() => Ok(Cow::Owned(value)),
            Cow::Owned(value) => self.look(&value, &operand.fields).map(|found| Cow::Owned(found.clone())),
        }
    }

    /// What `fields` lead to.
    fn look<'v>(&self, start: &'v Value, fields: &[String]) -> Result<&'v Value, String> {
        let mut value = start;
        for field in fields {
            value = match value {
                Value::Object(members) => match find(members, field).or_else(|| members.get(ANY)) {
                    Some(found) => found,
                    None if self.is_wrong(value) => return Err(no_field(field, members)),
                    None => return Ok(&Value::Null),
                },
                Value::Null => return Ok(&Value::Null),
                other => return Err(format!(".{field} is asked of {}, which has no fields", kind(other))),
            };
        }
        Ok(value)
    }

    /// Whether what is not in `members` should have been.
    fn is_wrong(&self, members: &Value) -> bool {
        match self.mode {
            Mode::Trial => true,
            Mode::Known => false,
            Mode::Unknown => std::ptr::eq(members, self.whole),
        }
    }
}

/// There is no such field, which one may be meant.
fn no_field(field: &str, members: &Map<String, Value>) -> String {
    let field = super::cut(field);
    match nearest(&field, members.keys().map(String::as_str)) {
        Some(near) => format!("there is no field .{field}; did you mean .{near}?"),
        None => format!(
            "there is no field .{field}; there are .{}",
            members.keys().cloned().collect::<Vec<_>>().join(", .")
        ),
    }
}
