//! The JSON Schema of a configuration file, for editors: made from the table of keys.

#![allow(clippy::unwrap_used)]

use serde_json::{Map, Value, json};

use super::keys::{KEYS, Key, Kind};
use crate::schemas::Made;
use crate::ui::json::SCHEMA_VERSION;

/// The schema of a file.
pub(crate) fn schemas() -> Vec<Made> {
    let mut schema = object("What is not said here has its default.");
    for key in KEYS {
        let parts: Vec<&str> = key.path.split('.').collect();
        put(&mut schema, &parts, key);
    }
    let members = schema.as_object_mut().expect("because it was made as an object");
    members.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    members.insert("$id".into(), format!("urn:blob:schema:{SCHEMA_VERSION}:config").into());
    members.insert("title".into(), "A configuration file of blob, in YAML".into());
    vec![Made { name: "config", schema }]
}

/// A map that may be left empty, with nothing in it yet.
fn object(about: &str) -> Value {
    json!({"type": ["object", "null"], "description": about, "additionalProperties": false})
}

/// What is in a map of this name.
fn about(name: &str) -> &'static str {
    match name {
        "limits" => "How much is taken on from outside.",
        "cache" => "What is kept of what was fetched.",
        "registries" => "What is particular about single registries, by their host.",
        "aliases" => "Names that stand for places.",
        "trust" => "By whom signatures are checked.",
        "headers" => "Headers of every request to the registry.",
        "*" => "One registry, by its host.",
        _ => "One kind of what is kept.",
    }
}

/// Puts the schema of a key where it belongs below `schema`.
fn put(schema: &mut Value, parts: &[&str], key: &Key) {
    let [name, rest @ ..] = parts else { return };
    let members = schema.as_object_mut().expect("because it was made as an object");
    if *name == "*" {
        let any = members.entry("additionalProperties").and_modify(|any| {
            if *any == false {
                *any = if rest.is_empty() { value(key) } else { object(about("*")) };
            }
        });
        if !rest.is_empty() {
            put(any.or_insert(Value::Null), rest, key);
        }
        return;
    }
    let properties = members.entry("properties").or_insert_with(|| Map::new().into());
    let properties = properties.as_object_mut().expect("because it was made as an object");
    // Files may have hyphens in keys, as those of the Go program do.
    let spellings = [(*name).to_owned(), name.replace('_', "-")];
    for spelling in spellings.iter().skip(usize::from(spellings[0] == spellings[1])) {
        if rest.is_empty() {
            properties.insert(spelling.clone(), value(key));
            if key.path.ends_with("ca_files") {
                properties
                    .insert(spelling.replace("files", "file"), json!({"type": "string", "description": key.about}));
            }
        } else {
            put(properties.entry(spelling).or_insert_with(|| object(about(name))), rest, key);
        }
    }
}

/// The schema of a value.
fn value(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Number => json!({"type": "integer", "minimum": 0}),
        Kind::Text => json!({"type": "string"}),
        Kind::Size | Kind::Time => json!({"type": ["string", "integer"]}),
        Kind::List => json!({"type": ["array", "string"], "items": {"type": "string"}}),
        Kind::Rules => json!({"type": "array", "minItems": 1, "items": {"type": "object"}}),
        Kind::Word(words) => json!({"enum": words}),
    };
    let members = schema.as_object_mut().expect("because it was made as an object");
    members.insert("description".into(), key.about.into());
    if !key.default.is_empty() && !matches!(key.kind, Kind::Bool | Kind::Number) {
        members.insert("default".into(), key.default.into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn it_takes_what_the_parser_takes() {
        let made = schemas().remove(0).schema;
        let schema = jsonschema::draft202012::new(&made).unwrap();
        let complete = include_str!("complete.yaml");
        let mut hyphens = String::new();
        for line in complete.lines().filter(|line| !line.starts_with('#')) {
            let (key, rest) = line.split_once(':').unwrap_or((line, ""));
            // Names that somebody gives, and members of policies, are as they are.
            let own = key.contains("X-") || key.contains("transparency");
            hyphens += &(if own { key.to_owned() } else { key.replace('_', "-") } + ":" + rest + "\n");
        }
        for (text, expect) in [
            (complete, true),
            (&hyphens, true),
            ("cache:\naliases:\n", true),
            ("registries: {localhost:5000: {ca_file: a.pem}}\n", true),
            ("registries: {localhost:5000: {ca_files: a.pem}}\n", true),
            ("outptu: json\n", false),
            ("output: xml\n", false),
            ("cache: {dirr: a}\n", false),
            ("cache: [1]\n", false),
            ("registries: {localhost:5000: {insecure: maybe}}\n", false),
            ("aliases: {a: [1]}\n", false),
            ("policies: []\n", false),
            ("retries: -1\n", false),
        ] {
            let read: Value = yaml_serde::from_str(text).unwrap();
            let problems: Vec<String> =
                schema.iter_errors(&read).map(|e| format!("{}: {e}", e.instance_path)).collect();
            assert_eq!(problems.is_empty(), expect, "{text}: {problems:?}");
            assert_eq!(super::super::parse(Path::new("c.yaml"), text).is_ok(), expect, "{text}");
        }
    }
}
