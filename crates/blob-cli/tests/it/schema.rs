//! What is written for programs, held against the schemas that are checked in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

/// The schemas by name. They are closed: a member that they do not know is an error here.
static SCHEMAS: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let mut schema: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        close(&mut schema);
        let validator = jsonschema::draft202012::new(&schema);
        let validator = validator.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_stem().unwrap().to_string_lossy().into_owned(), validator)
    };
    fs::read_dir(dir).unwrap().map(read).collect()
});

/// Lets objects have the members alone that they say they have.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".into(), false.into());
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Whether there is a schema of this name.
pub(crate) fn exists(name: &str) -> bool {
    SCHEMAS.contains_key(name)
}

/// Holds a document or a line against the schema `name`.
pub(crate) fn check(name: &str, text: &str) {
    let validator = SCHEMAS.get(name).unwrap_or_else(|| panic!("there is no schema {name}"));
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
    let problems: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(problems.is_empty(), "{name}:\n{}\n{text}", problems.join("\n"));
}

#[test]
fn closed_schemas_refuse_what_they_do_not_know() {
    let line = r#"{"tag":"v1"}"#;
    check("tags-line", line);
    for wrong in [r#"{"tag":"v1","more":1}"#, r#"{"tag":1}"#, "{}", "[]"] {
        let value: Value = serde_json::from_str(wrong).unwrap();
        assert!(!SCHEMAS["tags-line"].is_valid(&value), "{wrong}");
    }
    // Members of members, and those of alternatives, are known as well.
    let error =
        r#"{"schema_version":1,"error":{"code":1,"kind":"general","message":"x","causes":[],"paths":[{"path":"p"}]}}"#;
    check("error", error);
    for wrong in [error.replace("\"p\"", "\"p\",\"x\":1"), error.replace("\"code\"", "\"coed\"")] {
        assert!(!SCHEMAS["error"].is_valid(&serde_json::from_str(&wrong).unwrap()), "{wrong}");
    }
}
