//! From pieces to nodes.

use std::vec::IntoIter;

use serde_json::Value;

use super::functions::Function;
use super::lex::{Piece, Token, pieces};
use super::tree::{Arm, Call, Defined, Node, Operand, Pipe, Source};

/// How deep blocks and parentheses may lie in each other.
const MAX_DEPTH: usize = 32;

/// What `text` says, and the templates that it defines.
pub(super) fn parse(text: &str) -> Result<(Vec<Node>, Defined), String> {
    let mut parser = Parser {
        pieces: pieces(text)?.into_iter(),
        variables: Vec::new(),
        loops: 0,
        defined: Defined::new(),
        called: Vec::new(),
    };
    let nodes = match parser.nodes(0)? {
        (nodes, Stop::Text) => nodes,
        (_, Stop::Else(_)) => return Err("{{else}} belongs to nothing".into()),
        (_, Stop::End) => return Err("{{end}} belongs to nothing".into()),
    };
    match parser.called.iter().find(|name| !parser.defined.contains_key(*name)) {
        Some(name) => Err(format!("there is no template {name:?}; {{{{define {name:?}}}}}…{{{{end}}}} makes one")),
        None => Ok((nodes, parser.defined)),
    }
}

/// What ended a list of nodes.
#[derive(Clone, Debug, PartialEq)]
enum Stop {
    Text,
    /// With what stands behind it.
    Else(Vec<Token>),
    End,
}

struct Parser {
    pieces: IntoIter<Piece>,
    /// The variables that are known where we are.
    variables: Vec<String>,
    /// How many `range` we are in.
    loops: usize,
    defined: Defined,
    /// Templates that are asked for.
    called: Vec<String>,
}

impl Parser {
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, Stop), String> {
        if depth > MAX_DEPTH {
            return Err("too many things within each other".into());
        }
        let known = self.variables.len();
        let mut found = Vec::new();
        let stop = loop {
            let tokens = match self.pieces.next() {
                None => break Stop::Text,
                Some(Piece::Text(text)) => {
                    found.push(Node::Text(text));
                    continue;
                }
                Some(Piece::Action(tokens)) => tokens,
            };
            let (first, rest) = tokens.split_first().ok_or("{{}} says nothing")?;
            let word = if let Token::Word(word) = first { word.as_str() } else { "" };
            match word {
                "end" if rest.is_empty() => break Stop::End,
                "else" => break Stop::Else(rest.to_vec()),
                "if" | "with" => found.push(self.choose(word == "with", rest, depth)?),
                "range" => found.push(self.range(rest, depth)?),
                "break" | "continue" if rest.is_empty() && self.loops > 0 => {
                    found.push(if word == "break" { Node::Break } else { Node::Continue });
                }
                "break" | "continue" => return Err(format!("{{{{{word}}}}} stands alone, within a range")),
                "define" if depth > 0 => return Err("{{define}} stands at the outermost level".into()),
                "define" => {
                    let (name, rest) = named(word, rest)?;
                    if let Some(token) = rest.first() {
                        return Err(format!("behind the name in {{{{define}}}} stands nothing, not {}", token.said()));
                    }
                    self.define(word, &name, depth)?;
                }
                "template" | "block" => {
                    let (name, rest) = named(word, rest)?;
                    let given = if rest.is_empty() { None } else { Some(self.pipe(rest, 1)?) };
                    if word == "block" {
                        if given.is_none() {
                            return Err("block: behind the name stands what its point is, such as .".into());
                        }
                        self.define(word, &name, depth)?;
                    }
                    self.called.push(name.clone());
                    found.push(Node::Template(name, given));
                }
                _ => found.push(Node::Pipe(self.pipe(&tokens, 1)?)),
            }
        };
        self.variables.truncate(known);
        Ok((found, stop))
    }

    /// The body of a template, which knows no variables but its own.
    fn define(&mut self, word: &str, name: &str, depth: usize) -> Result<(), String> {
        let (variables, loops) = (std::mem::take(&mut self.variables), std::mem::take(&mut self.loops));
        let (body, stop) = self.nodes(depth + 1)?;
        (self.variables, self.loops) = (variables, loops);
        match stop {
            Stop::End => {}
            Stop::Text => return Err(unclosed(word)),
            Stop::Else(_) => return Err("{{else}} belongs to nothing".into()),
        }
        match self.defined.insert(name.to_owned(), body) {
            Some(_) => Err(format!("the template {name:?} is defined twice")),
            None => Ok(()),
        }
    }

    fn choose(&mut self, mut binds: bool, rest: &[Token], depth: usize) -> Result<Node, String> {
        let known = self.variables.len();
        let (mut arms, mut rest) = (Vec::new(), rest.to_vec());
        let otherwise = loop {
            let pipe = self.pipe(&rest, 1)?;
            let (body, stop) = self.nodes(depth + 1)?;
            let word = if binds { "with" } else { "if" };
            arms.push(Arm { binds, pipe, body });
            match stop {
                Stop::End => break Vec::new(),
                Stop::Text => return Err(unclosed(word)),
                Stop::Else(tokens) => match tokens.split_first() {
                    None => break self.last(word, depth)?,
                    Some((Token::Word(next), behind)) if next == "if" || next == "with" => {
                        (binds, rest) = (next == "with", behind.to_vec());
                    }
                    Some((token, _)) => return Err(format!("behind else stands if or with, not {}", token.said())),
                },
            }
        };
        self.variables.truncate(known);
        Ok(Node::Choose(arms, otherwise))
    }

    fn range(&mut self, rest: &[Token], depth: usize) -> Result<Node, String> {
        let known = self.variables.len();
        let pipe = self.pipe(rest, 2)?;
        self.loops += 1;
        let (body, stop) = self.nodes(depth + 1)?;
        self.loops -= 1;
        let otherwise = match stop {
            Stop::End => Vec::new(),
            Stop::Else(tokens) if tokens.is_empty() => self.last("range", depth)?,
            Stop::Else(tokens) => {
                return Err(format!("behind the else of a range stands nothing, not {}", tokens[0].said()));
            }
            Stop::Text => return Err(unclosed("range")),
        };
        self.variables.truncate(known);
        Ok(Node::Range(pipe, body, otherwise))
    }

    /// The nodes behind `{{else}}`.
    fn last(&mut self, word: &str, depth: usize) -> Result<Vec<Node>, String> {
        match self.nodes(depth + 1)? {
            (nodes, Stop::End) => Ok(nodes),
            (_, Stop::Text) => Err(unclosed(word)),
            (_, Stop::Else(_)) => Err("{{else}} stands twice".into()),
        }
    }

    /// Calls with `|` between them, behind at most so many variables.
    fn pipe(&mut self, tokens: &[Token], most: usize) -> Result<Pipe, String> {
        let sign = tokens.iter().position(|token| matches!(token, Token::Declare | Token::Assign));
        let (names, declares, mut rest) = match sign {
            None => (Vec::new(), false, tokens),
            Some(at) => (names(&tokens[..at], most)?, tokens[at] == Token::Declare, &tokens[at + 1..]),
        };
        let calls = self.calls(&mut rest, 0)?;
        if let Some(token) = rest.first() {
            return Err(format!("{} is too much", token.said()));
        }
        if declares {
            self.variables.extend(names.iter().cloned());
        } else if let Some(name) = names.iter().find(|name| !self.variables.contains(name)) {
            return Err(unknown(name));
        }
        Ok(Pipe { names, declares, calls })
    }

    fn calls(&self, rest: &mut &[Token], depth: usize) -> Result<Vec<Call>, String> {
        if depth > MAX_DEPTH {
            return Err("too many things within each other".into());
        }
        let mut calls = Vec::new();
        loop {
            calls.push(self.call(rest, !calls.is_empty(), depth)?);
            let Some((Token::Pipe, behind)) = rest.split_first() else { return Ok(calls) };
            *rest = behind;
        }
    }

    fn call(&self, rest: &mut &[Token], piped: bool, depth: usize) -> Result<Call, String> {
        let first = match rest.first() {
            None | Some(Token::Pipe | Token::Close(_)) => {
                return Err("something is missing behind range, if, with, ( or |".into());
            }
            Some(first) => first.clone(),
        };
        let function = match &first {
            Token::Word(name) => {
                *rest = &rest[1..];
                Some(Function::find(name)?)
            }
            _ => None,
        };
        let mut operands = Vec::new();
        while rest.first().is_some_and(|token| !matches!(token, Token::Pipe | Token::Close(_))) {
            operands.push(self.operand(rest, depth)?);
        }
        match function {
            Some(function) => function.check_count(operands.len() + usize::from(piped))?,
            None if piped || operands.len() > 1 => return Err(format!("{} is no function", first.said())),
            None => {}
        }
        Ok(Call { function, operands })
    }

    fn operand(&self, rest: &mut &[Token], depth: usize) -> Result<Operand, String> {
        let (token, behind) = rest.split_first().ok_or("an operand is missing")?;
        *rest = behind;
        let (source, fields) = match token {
            Token::Fields(fields) => (Source::Here, fields.clone()),
            Token::Variable(name, fields) if name.is_empty() || self.variables.contains(name) => {
                (Source::Variable(name.clone()), fields.clone())
            }
            Token::Variable(name, _) => return Err(unknown(name)),
            Token::Literal(value) => (Source::Literal(value.clone()), Vec::new()),
            Token::Open => {
                let calls = self.calls(rest, depth + 1)?;
                match rest.split_first() {
                    Some((Token::Close(fields), behind)) => {
                        *rest = behind;
                        (Source::Calls(calls), fields.clone())
                    }
                    Some((token, _)) => return Err(format!("{} is too much", token.said())),
                    None => return Err("( is not closed by )".into()),
                }
            }
            other => {
                let said = other.said();
                return Err(format!("{said} is neither a field (.{said}) nor a text in quotes nor a number"));
            }
        };
        Ok(Operand { source, fields })
    }
}

/// The name behind `define`, `template` and `block`, and what stands behind that.
fn named<'t>(word: &str, rest: &'t [Token]) -> Result<(String, &'t [Token]), String> {
    match rest.split_first() {
        Some((Token::Literal(Value::String(name)), rest)) => Ok((name.clone(), rest)),
        _ => Err(format!("behind {word} stands a name in quotes")),
    }
}

/// The names before `:=` or `=`.
fn names(tokens: &[Token], most: usize) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for token in tokens.iter().step_by(2) {
        match token {
            Token::Variable(name, fields) if !name.is_empty() && fields.is_empty() => names.push(name.clone()),
            other => return Err(format!("{} is no variable, as $x is, that can be set", other.said())),
        }
    }
    let apart = tokens.iter().skip(1).step_by(2).all(|token| *token == Token::Comma);
    if names.is_empty() || names.len() > most || !apart || tokens.len().is_multiple_of(2) {
        return Err(format!(
            "before := or = stands {}",
            if most == 1 { "one variable" } else { "$item, or $position, $item" }
        ));
    }
    Ok(names)
}

fn unclosed(word: &str) -> String {
    format!("{{{{{word}}}}} is not closed by {{{{end}}}}")
}

fn unknown(name: &str) -> String {
    format!("there is no variable ${name} here; {{{{${name} := …}}}} makes one")
}
