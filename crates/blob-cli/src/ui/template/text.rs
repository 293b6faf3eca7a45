//! Values as text.

use serde_json::Value;

use crate::ui::escape;

/// How much of a text an error repeats.
const MOST: usize = 60;

/// `text`, or its beginning where it is long: an error need not repeat all that was typed.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Text as it is, but nothing that could control a terminal apart from line breaks and tabs.
pub(super) fn shown(value: &Value) -> String {
    let harmless = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    match value {
        Value::String(text) if text.chars().all(harmless) => text.clone(),
        Value::String(text) => escape::shown(text.as_bytes()),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The values one after the other; with spaces between them, or only where neither is a text, as Go has it.
pub(super) fn in_words(values: &[&Value], spaced: bool) -> String {
    let mut text = String::new();
    for (at, value) in values.iter().enumerate() {
        let apart = at > 0 && (spaced || !(value.is_string() || values[at - 1].is_string()));
        text.push_str(if apart { " " } else { "" });
        text.push_str(&shown(value));
    }
    text
}

/// Every word with a capital.
pub(super) fn title(text: &str) -> String {
    let mut begins = true;
    let letters = text.chars().map(|letter| {
        let first = std::mem::replace(&mut begins, letter.is_whitespace());
        if first { letter.to_uppercase().to_string() } else { letter.to_string() }
    });
    letters.collect()
}

pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// What a value is, for errors.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
