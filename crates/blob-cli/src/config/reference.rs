//! The reference of the configuration, made from the table of keys.

use std::fmt::Write as _;

use super::keys::{KEYS, Kind};

/// The table of all keys, as Markdown.
pub(crate) fn markdown() -> String {
    let mut text =
        String::from("| key | value | default | variable | flag | in projects | |\n|---|---|---|---|---|---|---|\n");
    for key in KEYS {
        let code = |value: &str| if value.is_empty() { String::new() } else { format!("`{value}`") };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} | {} |",
            key.path.replace("registries.*", "registries.HOST").replace('*', "NAME"),
            kind(key.kind),
            code(key.default),
            code(key.variable.unwrap_or_default()),
            code(key.flag.unwrap_or_default()),
            if key.in_projects { "yes" } else { "no" },
            key.about,
        );
    }
    text
}

/// What a key takes, in words.
pub(crate) fn kind(kind: Kind) -> String {
    match kind {
        Kind::Bool => "true or false".into(),
        Kind::Number => "number".into(),
        Kind::Text => "text".into(),
        Kind::Size => "size".into(),
        Kind::Time => "time".into(),
        Kind::List => "list".into(),
        Kind::Rules => "rules".into(),
        Kind::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
    }
}
