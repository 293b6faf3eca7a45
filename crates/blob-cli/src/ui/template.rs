//! `--format`: results in a shape of one's own, by the part of Go's template language that users of docker, podman and
//! oras type: fields, `range`, `if`, pipes, and a few functions. No variables, and no templates within each other.
//!
//! It is written here because it is small and what people know already; libraries speak other languages, or all of Go's.

mod fields;

use std::fmt::Write as _;

use serde_json::Value;

pub(crate) use fields::filled;

/// A template that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Show(Pipe),
    Range(Pipe, Vec<Node>, Vec<Node>),
    If(Pipe, Vec<Node>, Vec<Node>),
}

/// Calls, each of which gets what the one before it gave as its last operand.
type Pipe = Vec<Call>;

/// A function with its operands, or one operand alone.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    function: Option<Function>,
    operands: Vec<Operand>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Json,
    Println,
    Len,
    Join,
    Index,
    Eq,
    Ne,
    Not,
    Printf,
    Upper,
    Lower,
}

impl Function {
    /// Name, and how many operands there are.
    const ALL: [(&'static str, Self, usize, usize); 11] = [
        ("json", Self::Json, 1, 1),
        ("println", Self::Println, 0, 16),
        ("len", Self::Len, 1, 1),
        ("join", Self::Join, 2, 2),
        ("index", Self::Index, 2, 2),
        ("eq", Self::Eq, 2, 2),
        ("ne", Self::Ne, 2, 2),
        ("not", Self::Not, 1, 1),
        ("printf", Self::Printf, 1, 16),
        ("upper", Self::Upper, 1, 1),
        ("lower", Self::Lower, 1, 1),
    ];
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    /// Fields from where we are; from the outermost if `whole`.
    Path {
        whole: bool,
        fields: Vec<String>,
    },
    Literal(Value),
}

/// How deep `range` and `if` may lie in each other.
const MAX_DEPTH: usize = 32;

/// What ended a list of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Text,
    Else,
    End,
}

impl Template {
    /// Understands `text`; `\n` and `\t` outside of braces are a line break and a tab.
    ///
    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        match nodes(&mut rest, 0)? {
            (nodes, Stop::Text) => Ok(Self(nodes)),
            (_, Stop::Else) => Err("{{else}} belongs to nothing".into()),
            (_, Stop::End) => Err("{{end}} belongs to nothing".into()),
        }
    }

    /// The template filled in with `value`. There is a line break at the end.
    ///
    /// # Errors
    /// A field that is asked for where there are none, or a function that does not fit.
    pub(crate) fn render(&self, value: &Value) -> Result<String, String> {
        let mut text = String::new();
        render(&self.0, value, value, &mut text)?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }
}

fn nodes(rest: &mut &str, depth: usize) -> Result<(Vec<Node>, Stop), String> {
    if depth > MAX_DEPTH {
        return Err("too many things within each other".into());
    }
    let (mut found, mut trim) = (Vec::new(), false);
    loop {
        let Some((before, behind)) = rest.split_once("{{") else {
            push_text(&mut found, rest, trim, false);
            *rest = "";
            return Ok((found, Stop::Text));
        };
        let (action, after) = behind.split_once("}}").ok_or("{{ is not closed by }}")?;
        let left = action.strip_prefix("- ");
        push_text(&mut found, before, trim, left.is_some());
        let action = left.unwrap_or(action);
        let right = action.strip_suffix(" -");
        trim = right.is_some();
        *rest = after;
        let words = words(right.unwrap_or(action))?;
        let (first, operands) = words.split_first().ok_or("{{}} says nothing")?;
        match first.as_str() {
            "end" if operands.is_empty() => return Ok((found, Stop::End)),
            "else" if operands.is_empty() => return Ok((found, Stop::Else)),
            "range" | "if" => {
                let pipe = pipe(operands)?;
                let (body, end) = nodes(rest, depth + 1)?;
                let (otherwise, end) = if end == Stop::Else { nodes(rest, depth + 1)? } else { (Vec::new(), end) };
                if end != Stop::End {
                    return Err(format!("{{{{{first}}}}} is not closed by {{{{end}}}}"));
                }
                let node = if first == "if" { Node::If } else { Node::Range };
                found.push(node(pipe, body, otherwise));
            }
            _ => found.push(Node::Show(pipe(&words)?)),
        }
    }
}

fn push_text(found: &mut Vec<Node>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        found.push(Node::Text(text.replace("\\n", "\n").replace("\\t", "\t")));
    }
}

/// The words of an action; a text in quotes is one.
fn words(action: &str) -> Result<Vec<String>, String> {
    let (mut words, mut rest) = (Vec::new(), action.trim());
    while !rest.is_empty() {
        let end = if let Some(quoted) = rest.strip_prefix('"') {
            let closed = quoted.char_indices().scan(false, |escaped, (at, letter)| {
                let ends = letter == '"' && !*escaped;
                *escaped = letter == '\\' && !*escaped;
                Some((at, ends))
            });
            let closed = { closed }.find(|(_, ends)| *ends).map(|(at, _)| at + 2);
            closed.ok_or_else(|| format!("{rest} has no closing quote"))?
        } else {
            let ends = |letter: char| letter.is_whitespace() || letter == '|';
            rest.find(ends).unwrap_or(rest.len()).max(usize::from(rest.starts_with('|')))
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

/// Calls with `|` between them.
fn pipe(words: &[String]) -> Result<Pipe, String> {
    words.split(|word| word == "|").enumerate().map(|(at, words)| call(words, at > 0)).collect()
}

fn call(words: &[String], piped: bool) -> Result<Call, String> {
    let first = words.first().ok_or("something is missing behind range, if or |")?;
    let known = Function::ALL.into_iter().find(|(name, ..)| name == first);
    let operands = |words: &[String]| words.iter().map(|word| operand(word)).collect::<Result<Vec<_>, _>>();
    let Some((name, function, least, most)) = known else {
        return match words {
            [one] if !piped => Ok(Call { function: None, operands: vec![operand(one)?] }),
            _ => Err(format!("{first} is no function; known are {}", Function::ALL.map(|(name, ..)| name).join(", "))),
        };
    };
    let operands = operands(&words[1..])?;
    let given = operands.len() + usize::from(piped);
    if given < least || given > most {
        return Err(format!("{name} takes {least} operands, not {given}"));
    }
    Ok(Call { function: Some(function), operands })
}

fn operand(word: &str) -> Result<Operand, String> {
    if let Some(fields) = word.strip_prefix("$.").or_else(|| word.strip_prefix('.')) {
        let whole = word.starts_with('$');
        let fields = fields.split('.').filter(|field| !field.is_empty()).map(str::to_owned).collect();
        return Ok(Operand::Path { whole, fields });
    }
    if word == "$" {
        return Ok(Operand::Path { whole: true, fields: Vec::new() });
    }
    let literal = serde_json::from_str(word).map(Operand::Literal);
    literal.map_err(|_| format!("{word} is neither a field (.name) nor a text in quotes nor a number"))
}

fn render(nodes: &[Node], whole: &Value, here: &Value, text: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(written) => text.push_str(written),
            Node::Show(pipe) => text.push_str(&shown(&evaluate(pipe, whole, here)?)),
            Node::If(call, body, otherwise) => {
                let chosen = if is_true(&evaluate(call, whole, here)?) { body } else { otherwise };
                render(chosen, whole, here, text)?;
            }
            Node::Range(call, body, otherwise) => match evaluate(call, whole, here)? {
                Value::Array(items) if !items.is_empty() => {
                    items.iter().try_for_each(|item| render(body, whole, item, text))?;
                }
                Value::Object(members) if !members.is_empty() => {
                    members.values().try_for_each(|item| render(body, whole, item, text))?;
                }
                Value::Array(_) | Value::Object(_) | Value::Null => render(otherwise, whole, here, text)?,
                other => return Err(format!("range goes over lists and maps, not over {other}")),
            },
        }
    }
    Ok(())
}

fn evaluate(pipe: &[Call], whole: &Value, here: &Value) -> Result<Value, String> {
    let mut given = None;
    for call in pipe {
        given = Some(evaluate_one(call, given, whole, here)?);
    }
    Ok(given.unwrap_or_default())
}

/// What a call gives; `given` is what came through the pipe.
fn evaluate_one(call: &Call, given: Option<Value>, whole: &Value, here: &Value) -> Result<Value, String> {
    let own = call.operands.iter().map(|operand| look(operand, whole, here));
    let values = own.chain(given.map(Ok)).collect::<Result<Vec<_>, _>>()?;
    let Some(function) = call.function else { return Ok(values.into_iter().next().unwrap_or_default()) };
    Ok(match (function, values.as_slice()) {
        (Function::Json, [value]) => value.to_string().into(),
        (Function::Println, values) => (values.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        (Function::Len, [Value::Array(items)]) => items.len().into(),
        (Function::Len, [Value::Object(members)]) => members.len().into(),
        (Function::Len, [Value::String(text)]) => text.len().into(),
        (Function::Len, [Value::Null]) => 0.into(),
        (Function::Join, [Value::Array(items), Value::String(between)]) => {
            items.iter().map(shown).collect::<Vec<_>>().join(between).into()
        }
        (Function::Index, [Value::Array(items), Value::Number(at)]) => {
            let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| items.get(at)).cloned().ok_or("index is outside of the list")?
        }
        (Function::Index, [Value::Object(members), Value::String(key)]) => {
            members.get(key).cloned().unwrap_or_default()
        }
        (Function::Eq, [left, right]) => (left == right).into(),
        (Function::Ne, [left, right]) => (left != right).into(),
        (Function::Not, [value]) => (!is_true(value)).into(),
        (Function::Upper, [value]) => shown(value).to_uppercase().into(),
        (Function::Lower, [value]) => shown(value).to_lowercase().into(),
        (Function::Printf, [Value::String(format), values @ ..]) => printf(format, values)?.into(),
        _ => return Err(format!("{function:?} does not fit what it was given").to_lowercase()),
    })
}

/// The widest column that `printf` makes.
const MAX_WIDTH: usize = 1000;

/// `%s` and `%v` anything, `%d` a number, `%q` in quotes, `%%` itself; with a width as in `%8d` and `%-20s`.
fn printf(format: &str, values: &[Value]) -> Result<String, String> {
    let (mut text, mut rest, mut values) = (String::new(), format, values.iter());
    while let Some((before, behind)) = rest.split_once('%') {
        text.push_str(before);
        let left = behind.strip_prefix('-');
        let behind = left.unwrap_or(behind);
        let digits = behind.len() - behind.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let width = if digits == 0 { 0 } else { behind[..digits].parse().unwrap_or(usize::MAX) };
        let verb = behind[digits..].chars().next().ok_or("printf: % ends the text")?;
        rest = &behind[digits + verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| format!("printf: nothing is given for %{verb}"))?;
        let written = match (verb, value) {
            ('s' | 'v', value) => shown(value),
            ('d', Value::Number(number)) => number.to_string(),
            ('d', other) => return Err(format!("printf: %d is for numbers, not {other}")),
            ('q', value) => Value::String(shown(value)).to_string(),
            _ => return Err(format!("printf: %{verb} is not known; known are %s, %v, %d, %q and %%")),
        };
        if width > MAX_WIDTH {
            return Err(format!("printf: a width of more than {MAX_WIDTH}"));
        }
        let _ = if left.is_some() { write!(text, "{written:<width$}") } else { write!(text, "{written:>width$}") };
    }
    match values.next() {
        Some(extra) => Err(format!("printf: {extra} is given, and nothing in the text is for it")),
        None => Ok(text + rest),
    }
}

fn look(operand: &Operand, whole: &Value, here: &Value) -> Result<Value, String> {
    let (start, fields) = match operand {
        Operand::Literal(value) => return Ok(value.clone()),
        Operand::Path { whole: true, fields } => (whole, fields),
        Operand::Path { whole: false, fields } => (here, fields),
    };
    let mut value = start;
    for field in fields {
        value = match value {
            Value::Object(members) => match find(members, field) {
                Some(found) => found,
                // What is left out of a document because there is none of it is nothing.
                None if !fields.is_empty() && !members.is_empty() && std::ptr::eq(value, whole) => {
                    let names: Vec<String> = members.keys().cloned().collect();
                    return Err(fields::no_field(field, &names));
                }
                None => return Ok(Value::Null),
            },
            Value::Null => return Ok(Value::Null),
            other => return Err(format!(".{field} is asked of {other}, which has no fields")),
        };
    }
    Ok(value.clone())
}

/// A member by its name, or by what Go's tools call it: `.Digest` is `digest`, `.FileCount` is `file_count`.
fn find<'a>(members: &'a serde_json::Map<String, Value>, field: &str) -> Option<&'a Value> {
    members.get(field).or_else(|| members.iter().find(|(name, _)| plain(name) == plain(field)).map(|(_, value)| value))
}

/// A name without what tools write differently.
fn plain(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

/// Text as it is, but nothing that could control a terminal apart from line breaks and tabs.
fn shown(value: &Value) -> String {
    let harmless = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    match value {
        Value::String(text) if text.chars().all(harmless) => text.clone(),
        Value::String(text) => super::escape::shown(text.as_bytes()),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn document() -> Value {
        serde_json::json!({
            "digest": "sha256:1", "file_count": 2, "none": [], "tags": ["a", "b"],
            "entries": [{"path": "x", "is_dir": true}, {"path": "y", "is_dir": false}],
            "annotations": {"a.b": "c"}, "odd": "\u{1b}[2J",
        })
    }

    #[test]
    fn templates_are_filled_in() {
        for (template, expected) in [
            ("{{.digest}}", "sha256:1\n"),
            ("{{ .Digest }} {{.FileCount}}\\n", "sha256:1 2\n"),
            ("{{json .tags}}", "[\"a\",\"b\"]\n"),
            ("{{range .entries}}{{.path}}{{if .is_dir}}/{{end}}\\n{{end}}", "x/\ny\n"),
            ("{{range .tags}}{{println . $.digest}}{{end}}", "a sha256:1\nb sha256:1\n"),
            ("{{range .none}}{{.}}{{else}}nothing{{end}}", "nothing\n"),
            ("{{join .tags \", \"}} {{len .entries}} {{index .tags 1}}", "a, b 2 b\n"),
            ("{{index .annotations \"a.b\"}}", "c\n"),
            ("{{if eq .file_count 2}}two{{else}}other{{end}}", "two\n"),
            ("{{if not .none}}empty{{end}}", "empty\n"),
            ("a  {{- .digest -}}  b", "asha256:1b\n"),
            ("{{\"quoted \\\" text\"}}", "quoted \" text\n"),
            ("{{range .entries}}{{.missing}}{{end}}x", "x\n"),
            ("{{.odd}}", "\\u{1b}[2J\n"),
            ("no action", "no action\n"),
            ("{{.digest | json}}|{{.tags|len}}", "\"sha256:1\"|2\n"),
            ("{{.digest | upper | printf \"%-10s|%q\" .file_count}}", "2         |\"SHA256:1\"\n"),
            ("{{printf \"%s-%4d %v%%\" .digest .file_count .none}}", "sha256:1-   2 []%\n"),
        ] {
            assert_eq!(Template::parse(template).unwrap().render(&document()).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (template, expected) in [
            ("{{.digest", "not closed by }}"),
            ("{{range .tags}}", "{{range}} is not closed by {{end}}"),
            ("{{end}}", "belongs to nothing"),
            ("{{else}}", "belongs to nothing"),
            ("{{}}", "says nothing"),
            ("{{frob .a}}", "frob is no function; known are json"),
            ("{{digest}}", "digest is neither a field (.name)"),
            ("{{\"open}}", "no closing quote"),
            ("{{join .tags}}", "join takes 2 operands, not 1"),
            ("{{.tags | }}", "missing behind range, if or |"),
            ("{{.tags | .digest}}", ".digest is no function"),
            ("{{.tags | len .digest}}", "len takes 1 operands, not 2"),
        ] {
            let said = Template::parse(template).unwrap_err();
            assert!(said.contains(expected), "{template}: {said}");
        }
        for (template, expected) in [
            ("{{.digset}}", "did you mean .digest?"),
            ("{{.zzz}}", "there are .annotations, .digest"),
            ("{{.digest.x}}", "has no fields"),
            ("{{range .digest}}{{end}}", "range goes over lists"),
            ("{{index .tags 9}}", "outside of the list"),
            ("{{len .file_count}}", "len does not fit"),
            ("{{printf \"%d\" .digest}}", "%d is for numbers"),
            ("{{printf \"%s\"}}", "nothing is given for %s"),
            ("{{printf \"x\" .digest}}", "nothing in the text is for it"),
            ("{{printf \"%z\" .digest}}", "%z is not known"),
            ("{{printf \"%99999999d\" .file_count}}", "a width of more than 1000"),
        ] {
            let said = Template::parse(template).unwrap().render(&document()).unwrap_err();
            assert!(said.contains(expected), "{template}: {said}");
        }
        assert!(Template::parse(&"{{if .a}}".repeat(100)).is_err());
    }
}
