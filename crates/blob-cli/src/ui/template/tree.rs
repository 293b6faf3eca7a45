//! What a template says, once it is understood.

use std::collections::HashMap;

use serde_json::Value;

use super::functions::Function;

/// What `{{define}}` and `{{block}}` say, by their names.
pub(super) type Defined = HashMap<String, Vec<Node>>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// Written, unless it has names: then it is kept under them.
    Pipe(Pipe),
    /// `if` and `with`: the first arm that holds, else the last nodes.
    Choose(Vec<Arm>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
    /// Another template by its name, where the point is what the pipe gives, or nothing.
    Template(String, Option<Pipe>),
}

/// One condition of `if … else if … else with …`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arm {
    /// `with`: in its body the point is what it gave.
    pub(super) binds: bool,
    pub(super) pipe: Pipe,
    pub(super) body: Vec<Node>,
}

/// Calls, each of which gets what the one before it gave as its last operand.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipe {
    /// The variables that are set: one, or for `range` position and item.
    pub(super) names: Vec<String>,
    /// `:=` makes a variable, `=` gives one another value.
    pub(super) declares: bool,
    pub(super) calls: Vec<Call>,
}

/// A function with its operands, or one operand alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) function: Option<Function>,
    pub(super) operands: Vec<Operand>,
}

/// Something, and the fields that lead into it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) source: Source,
    pub(super) fields: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// The point: where we are.
    Here,
    /// `$name`; without a name the whole document.
    Variable(String),
    Literal(Value),
    /// In parentheses.
    Calls(Vec<Call>),
}
