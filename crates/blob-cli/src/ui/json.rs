//! JSON output: two spaces, a newline at the end, a version of the schema in every document.

use std::fmt::Write as _;

use serde::Serialize;

/// The version of all JSON documents. Keys may be added without a new version, never removed or given another meaning.
pub(crate) const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    content: &'a T,
}

/// `content`, a struct, as a document.
pub(crate) fn document<T: Serialize>(content: &T) -> String {
    let document = Document { schema_version: SCHEMA_VERSION, content };
    let text = serde_json::to_string_pretty(&document).expect("our structs hold only strings, numbers and lists");
    harmless(text + "\n")
}

/// `content`, a struct, as a document on one line.
pub(crate) fn record<T: Serialize>(content: &T) -> String {
    line(&Document { schema_version: SCHEMA_VERSION, content })
}

/// `content` on one line.
pub(crate) fn line<T: Serialize>(content: &T) -> String {
    let text = serde_json::to_string(content).expect("our structs hold only strings, numbers and lists");
    harmless(text + "\n")
}

/// An indented document on one line: a string of JSON never holds a line break.
pub(crate) fn compact(document: &str) -> String {
    document.lines().map(str::trim_start).collect::<String>() + "\n"
}

/// A string as JSON.
pub(crate) fn string(text: &str) -> String {
    harmless(serde_json::Value::from(text).to_string())
}

/// The same JSON, without the control characters that JSON allows and those that change the direction of text: a document
/// may be looked at on a terminal. They stand in strings alone, where they can be written otherwise.
fn harmless(json: String) -> String {
    let wild = |letter: char| matches!(letter, '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    if !json.contains(wild) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        if wild(letter) {
            let _ = write!(text, "\\u{:04x}", u32::from(letter));
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_harmless_on_a_terminal() {
        let odd = "a\u{9b}2J\u{202e}\u{7f}ä\x1b";
        let text = string(odd);
        assert_eq!(text, "\"a\\u009b2J\\u202e\\u007fä\\u001b\"");
        assert_eq!(serde_json::from_str::<String>(&text).expect("it is JSON"), odd);
    }

    #[test]
    fn documents_are_indented_and_versioned() {
        #[derive(Serialize)]
        struct Content {
            r#ref: &'static str,
        }
        let text = document(&Content { r#ref: "h/r:<t>" });
        assert_eq!(text, "{\n  \"schema_version\": 1,\n  \"ref\": \"h/r:<t>\"\n}\n");
    }
}
