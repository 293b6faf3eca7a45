//! A document that has everything that the documents of a command may have, made from their schemas.

use serde_json::{Map, Value};

/// The name of the member that stands for all members of a map whose names are not known.
pub(super) const ANY: &str = "\0";

/// How deep a sample goes into schemas that hold themselves; what lies deeper may be anything.
const MAX_DEPTH: usize = 8;

/// See the module. What may be of several kinds is `null`, which fits everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    document: Value,
    /// The member that is the list that the command is about.
    list: Option<String>,
}

impl Sample {
    /// Of documents that may follow any of `schemas`; none if they may have any members.
    pub(crate) fn of(schemas: &[&str]) -> Option<Self> {
        let (mut document, mut list) = (Map::new(), None);
        for text in schemas {
            let schema: Value = serde_json::from_str(text).ok()?;
            if schema.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false)) {
                return None;
            }
            for (name, property) in schema.get("properties")?.as_object()? {
                let value = sample(property, &schema, 0);
                let known = document.insert(name.clone(), value.clone());
                if known.is_some_and(|known| known != value) {
                    document.insert(name.clone(), Value::Null);
                }
            }
            list = list.or_else(|| list_of(&schema));
        }
        Some(Self { document: document.into(), list })
    }

    pub(super) fn document(&self) -> &Value {
        &self.document
    }

    /// The list that the command is about, and its item.
    pub(super) fn list(&self) -> Option<(&str, &Value)> {
        let name = self.list.as_deref()?;
        Some((name, self.document.get(name)?.get(0)?))
    }
}

/// The one list that is always there.
fn list_of(schema: &Value) -> Option<String> {
    let properties = schema.get("properties")?;
    let required = schema.get("required")?.as_array()?.iter().filter_map(Value::as_str);
    let mut lists = required.filter(|name| properties[name]["type"] == "array");
    lists.next().filter(|_| lists.next().is_none()).map(str::to_owned)
}

fn sample(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(place) = schema.get("$ref").and_then(Value::as_str) {
        return root.pointer(place.trim_start_matches('#')).map_or(Value::Null, |found| sample(found, root, depth + 1));
    }
    if let Some(only) = schema.get("const") {
        return only.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => "text".into(),
        Some("integer" | "number") => 1.into(),
        Some("boolean") => true.into(),
        Some("array") => vec![schema.get("items").map_or(Value::Null, |item| sample(item, root, depth + 1))].into(),
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            let mut members: Map<String, Value> =
                properties.map(|(name, property)| (name.clone(), sample(property, root, depth + 1))).collect();
            match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => {}
                Some(more) => drop(members.insert(ANY.to_owned(), sample(more, root, depth + 1))),
                // Where nothing is said about members, any may be there.
                None if members.is_empty() => drop(members.insert(ANY.to_owned(), Value::Null)),
                None => {}
            }
            members.into()
        }
        _ => Value::Null,
    }
}
