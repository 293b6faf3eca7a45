//! JSON output: two spaces, a newline at the end, a version of the schema in every document.

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
    let mut text = serde_json::to_string_pretty(&document).expect("our structs hold only strings, numbers and lists");
    text.push('\n');
    text
}

/// `content`, a struct, as a document on one line.
pub(crate) fn record<T: Serialize>(content: &T) -> String {
    line(&Document { schema_version: SCHEMA_VERSION, content })
}

/// `content` on one line.
pub(crate) fn line<T: Serialize>(content: &T) -> String {
    let mut text = serde_json::to_string(content).expect("our structs hold only strings, numbers and lists");
    text.push('\n');
    text
}

/// An indented document on one line: a string of JSON never holds a line break.
pub(crate) fn compact(document: &str) -> String {
    document.lines().map(str::trim_start).collect::<String>() + "\n"
}

/// A string as JSON.
pub(crate) fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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
