//! The result of a command that is one thing: the same facts as text, JSON, table or lines of key and value.

use serde::Serialize;
use serde_json::Value;

use super::escape::{exact, shown};
use super::json;
use super::table::{Align, Cell, Table};
use crate::args::Format;

/// `content` in `format`; `text` says it in words.
pub(crate) fn render<T: Serialize>(format: Format, content: &T, text: impl FnOnce() -> String) -> String {
    match format {
        Format::Text => text(),
        Format::Json => json::document(content),
        Format::Jsonl => json::record(content),
        Format::Table => facts(content, shown).aligned(true),
        Format::Plain | Format::Csv => facts(content, exact).render(format),
    }
}

/// How names are made harmless.
type Escaped = fn(&[u8]) -> String;

/// A row for each fact; what lies deeper is named `outer.inner`.
fn facts<T: Serialize>(content: &T, escaped: Escaped) -> Table {
    let value = serde_json::to_value(content).expect("our structs hold only strings, numbers and lists");
    let mut table = Table::new(vec![("FIELD", Align::Left), ("VALUE", Align::Left)]);
    add(&mut table, "", &value, escaped);
    table
}

/// Documents of records are a few levels deep, so recursion is bounded.
fn add(table: &mut Table, name: &str, value: &Value, escaped: Escaped) {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| add(table, &below(key), value, escaped)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| add(table, &below(&at.to_string()), item, escaped));
        }
        Value::String(text) => {
            table.row(vec![Cell::new(escaped(name.as_bytes())), Cell::new(escaped(text.as_bytes()))]);
        }
        other => table.row(vec![Cell::new(escaped(name.as_bytes())), Cell::new(other.to_string())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Result {
        name: &'static str,
        tags: Vec<&'static str>,
        size: Size,
    }

    #[derive(Serialize)]
    struct Size {
        bytes: u64,
    }

    #[test]
    fn one_result_has_four_faces() {
        let result = Result { name: "a\tb", tags: vec!["x", "y"], size: Size { bytes: 7 } };
        let render = |format| render(format, &result, || "a, seven bytes\n".into());
        assert_eq!(render(Format::Text), "a, seven bytes\n");
        assert!(render(Format::Json).contains("\"bytes\": 7"));
        assert_eq!(render(Format::Plain), "name\ta\\tb\nsize.bytes\t7\ntags.0\tx\ntags.1\ty\n");
        assert!(render(Format::Table).starts_with("FIELD       VALUE\nname        a\\tb\n"));
    }
}
