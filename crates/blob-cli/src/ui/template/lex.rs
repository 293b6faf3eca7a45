//! Templates in pieces: text, and the words between braces.

use serde_json::Value;

use super::text::cut;

/// What a template is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `.a.b`; no names is the point alone.
    Fields(Vec<String>),
    /// `$x.a.b`
    Variable(String, Vec<String>),
    Word(String),
    Literal(Value),
    Open,
    /// `)`, with the fields that are taken of what was in the parentheses.
    Close(Vec<String>),
    Pipe,
    Comma,
    Declare,
    Assign,
}

impl Token {
    /// As it was typed, nearly.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Fields(fields) => format!(".{}", fields.join(".")),
            Self::Variable(name, fields) => {
                format!("${}", [std::slice::from_ref(name), fields].concat().join("."))
            }
            Self::Word(word) => word.clone(),
            Self::Literal(value) => cut(&value.to_string()),
            Self::Open => "(".into(),
            Self::Close(_) => ")".into(),
            Self::Pipe => "|".into(),
            Self::Comma => ",".into(),
            Self::Declare => ":=".into(),
            Self::Assign => "=".into(),
        }
    }
}

/// The pieces of `text`, without the white space that `{{-` and `-}}` take away.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest, mut trim) = (Vec::new(), text, false);
    loop {
        let (before, behind) = rest.split_once("{{").map_or((rest, None), |(before, behind)| (before, Some(behind)));
        let trimmed = behind.and_then(trim_marker);
        let before = if trim { before.trim_start() } else { before };
        let before = if trimmed.is_some() { before.trim_end() } else { before };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.replace("\\n", "\n").replace("\\t", "\t")));
        }
        let Some(behind) = trimmed.or(behind) else { return Ok(pieces) };
        rest = behind;
        if rest.trim_start().starts_with("/*") {
            let (_, behind) = rest.split_once("*/").ok_or("a comment is not closed by */}}")?;
            rest = behind;
            let (more, ends) = tokens(&mut rest)?;
            trim = ends;
            if let Some(token) = more.first() {
                return Err(format!("a comment ends with }}}}, not with {}", token.said()));
            }
            continue;
        }
        let (tokens, ends) = tokens(&mut rest)?;
        trim = ends;
        pieces.push(Piece::Action(tokens));
    }
}

/// What is behind `- ` at the beginning.
fn trim_marker(behind: &str) -> Option<&str> {
    behind.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace))
}

/// The tokens up to `}}`, and whether the white space behind it goes.
fn tokens(rest: &mut &str) -> Result<(Vec<Token>, bool), String> {
    let mut tokens = Vec::new();
    loop {
        let next = rest.trim_start();
        let spaced = next.len() < rest.len();
        *rest = next;
        if let Some(after) = next.strip_prefix("}}") {
            *rest = after;
            return Ok((tokens, false));
        }
        if let Some(after) = next.strip_prefix("-}}").filter(|_| spaced || tokens.is_empty()) {
            *rest = after;
            return Ok((tokens, true));
        }
        let first = next.chars().next().ok_or("{{ is not closed by }}")?;
        tokens.push(token(first, rest)?);
    }
}

/// Takes the token that begins with `first` off `rest`.
fn token(first: char, rest: &mut &str) -> Result<Token, String> {
    let text = *rest;
    let mut signs =
        [("(", Token::Open), ("|", Token::Pipe), (",", Token::Comma), (":=", Token::Declare), ("=", Token::Assign)]
            .into_iter();
    if let Some((sign, token)) = signs.find(|(sign, _)| text.starts_with(sign)) {
        *rest = &text[sign.len()..];
        return Ok(token);
    }
    match first {
        ')' => {
            *rest = &text[1..];
            Ok(Token::Close(fields(rest)))
        }
        '.' if text[1..].starts_with(|next: char| !is_letter(next)) || text.len() == 1 => {
            *rest = &text[1..];
            Ok(Token::Fields(Vec::new()))
        }
        '.' => Ok(Token::Fields(fields(rest))),
        '$' => {
            *rest = &text[1..];
            let name = name(rest);
            Ok(Token::Variable(name, fields(rest)))
        }
        '"' | '`' => quoted(first, rest).map(Token::Literal),
        '0'..='9' | '-' | '+' => {
            let end = text.find(|it: char| !(it.is_ascii_alphanumeric() || "+-.".contains(it))).unwrap_or(text.len());
            *rest = &text[end..];
            let number: Option<serde_json::Number> = text[..end].trim_start_matches('+').parse().ok();
            number
                .map(|number| Token::Literal(number.into()))
                .ok_or_else(|| format!("{} is no number", cut(&text[..end])))
        }
        first if is_letter(first) => Ok(match name(rest).as_str() {
            "true" => Token::Literal(true.into()),
            "false" => Token::Literal(false.into()),
            "nil" => Token::Literal(Value::Null),
            word => Token::Word(word.to_owned()),
        }),
        other => Err(format!("what is {other:?}?")),
    }
}

fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Takes a name off `rest`, which may be empty.
fn name(rest: &mut &str) -> String {
    let end = rest.find(|letter| !is_letter(letter)).unwrap_or(rest.len());
    let (name, behind) = rest.split_at(end);
    *rest = behind;
    name.to_owned()
}

/// Takes `.a.b` off `rest`.
fn fields(rest: &mut &str) -> Vec<String> {
    let mut fields = Vec::new();
    while let Some(mut behind) = rest.strip_prefix('.').filter(|behind| behind.starts_with(is_letter)) {
        fields.push(name(&mut behind));
        *rest = behind;
    }
    fields
}

/// Takes a text in quotes off `rest`; between backquotes everything is as it is.
fn quoted(quote: char, rest: &mut &str) -> Result<Value, String> {
    let text = *rest;
    let mut escaped = false;
    let closing = text[1..].find(|letter| {
        let ends = letter == quote && !escaped;
        escaped = quote == '"' && letter == '\\' && !escaped;
        ends
    });
    let end = closing.ok_or_else(|| format!("{} has no closing quote", cut(text)))? + 2;
    *rest = &text[end..];
    if quote == '`' {
        return Ok(text[1..end - 1].into());
    }
    serde_json::from_str(&text[..end])
        .map_err(|_| format!("{} is no text: \\n, \\t, \\\" and \\\\ are known", cut(&text[..end])))
}
