//! A JSON object that is changed in places and otherwise kept as it is: order, numbers, unknown members.

use std::fmt::Write as _;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The members of an object, in order, each with its text.
#[derive(Debug, Default)]
pub(super) struct Object(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a member comes twice"));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Object {
    /// The names of the members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The text of a member.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.get())
    }

    /// Sets a member to `text`, which is JSON; a new one comes last.
    pub(super) fn set(&mut self, name: &str, text: String) -> Result<(), serde_json::Error> {
        let value = RawValue::from_string(text)?;
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Takes out the members that `unwanted` names; whether there were any.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&str) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|(name, _)| !unwanted(name));
        self.0.len() < before
    }

    /// The text, one member on each line, `depth` deep in a document that is indented by `indent`.
    pub(super) fn print(&self, indent: &str, depth: usize) -> String {
        if self.0.is_empty() {
            return "{}".into();
        }
        let mut text = String::from("{");
        for (position, (name, value)) in self.0.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            let name = serde_json::Value::from(name.as_str());
            let _ = write!(text, "{comma}\n{}{name}: {}", indent.repeat(depth + 1), value.get());
        }
        let _ = write!(text, "\n{}}}", indent.repeat(depth));
        text
    }
}

/// What a document is indented by: what stands before its first member, a tab if nothing does.
pub(super) fn indent_of(text: &str) -> &str {
    let behind = text.trim_start().strip_prefix('{').unwrap_or_default();
    let first = behind.trim_start_matches(['\r', '\n']);
    let length = first.len() - first.trim_start_matches([' ', '\t']).len();
    if length == 0 || length > 16 || first.len() == behind.len() { "\t" } else { &first[..length] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_touched_stays_as_it_is() {
        let text = "{\n    \"z\": 1e400,\n    \"a\": {\n        \"x\": [ ]\n    }\n}";
        let mut object: Object = serde_json::from_str(text).unwrap();
        assert_eq!(object.print(indent_of(text), 0), text);
        object.set("new", "true".into()).unwrap();
        object.set("z", "2".into()).unwrap();
        assert!(object.remove(|name| name == "a") && !object.remove(|name| name == "b"));
        assert_eq!(object.print("\t", 0), "{\n\t\"z\": 2,\n\t\"new\": true\n}");
        assert!(object.set("x", "{".into()).is_err());
    }

    #[test]
    fn indents_are_found() {
        for (text, indent) in [("{\n\t\"a\":1}", "\t"), ("{\r\n  \"a\":1}", "  "), ("{\"a\":1}", "\t"), ("", "\t")] {
            assert_eq!(indent_of(text), indent, "{text:?}");
        }
    }

    #[test]
    fn only_objects_without_repeated_members_are_read() {
        for bad in ["[]", "1", "{\"a\":1,\"a\":2}", "{"] {
            assert!(serde_json::from_str::<Object>(bad).is_err(), "{bad}");
        }
    }
}
