//! JSON as this crate reads and writes it: no duplicate members in, Go's form out.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

/// Documents with more values than this, members and elements at any depth, are refused. Each takes far more memory than
/// the few bytes that it can be written in; 4 MiB of descriptors are 150,000 values.
const MAX_VALUES: u32 = 250_000;

/// What the members of a document say about its kind.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) media_type: Member,
    pub(super) schema_version: Member,
    /// Those of the names that are asked for which it has.
    present: Vec<&'static str>,
}

/// A member of a document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Member {
    #[default]
    Absent,
    Text(String),
    Number(u64),
    Other,
}

/// Members that tell manifests from indexes.
const TELLING: [&str; 4] = ["manifests", "layers", "config", "fsLayers"];

impl Shape {
    /// Whether the document has the member, which is one of those that tell.
    pub(super) fn has(&self, name: &str) -> bool {
        self.present.contains(&name)
    }
}

/// Looks through a document without keeping it: duplicate members, at any depth, and too many values are refused. (The parser
/// itself bounds the depth to 128.)
pub(super) fn check(bytes: &[u8]) -> Result<Shape, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let mut walk = Walk { left: MAX_VALUES, hash: RandomState::new(), shape: None };
    Top(&mut walk).deserialize(&mut parser)?;
    parser.end()?;
    Ok(walk.shape.unwrap_or_default())
}

/// A walk through a document.
struct Walk {
    /// How many more values may come.
    left: u32,
    /// Members are told apart by their hashes: many short names would take more room than the document.
    hash: RandomState,
    shape: Option<Shape>,
}

impl Walk {
    fn count<E: Error>(&mut self) -> Result<(), E> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| E::custom(format_args!("it has more than {MAX_VALUES} values, which no manifest needs")))?;
        Ok(())
    }

    /// Takes note of a name; an error if the object had it.
    fn name<E: Error>(&mut self, seen: &mut HashSet<u64>, name: &str) -> Result<(), E> {
        self.count()?;
        if seen.insert(self.hash.hash_one(name)) {
            return Ok(());
        }
        let shown: String = name.chars().take(100).collect();
        Err(E::custom(format_args!("duplicate member {shown:?}")))
    }
}

/// The document itself.
struct Top<'a>(&'a mut Walk);

/// A value below it: what it is if that is short.
struct Inner<'a>(&'a mut Walk);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let (mut seen, mut shape) = (HashSet::new(), Shape::default());
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            self.0.name(&mut seen, &name)?;
            let member = members.next_value_seed(Inner(self.0))?;
            match &*name {
                "mediaType" => shape.media_type = member,
                "schemaVersion" => shape.schema_version = member,
                _ => shape.present.extend(TELLING.into_iter().find(|telling| *telling == name)),
            }
        }
        self.0.shape = Some(shape);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Inner<'_> {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inner<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Member, E> {
        Ok(Member::Number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Member, E> {
        // Of a long one, the beginning is enough to see that it is not what was expected.
        Ok(Member::Text(value.chars().take(300).collect()))
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Member, A::Error> {
        while items.next_element_seed(Inner(self.0))?.is_some() {
            self.0.count()?;
        }
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Member, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            self.0.name(&mut seen, &name)?;
            members.next_value_seed(Inner(self.0))?;
        }
        Ok(Member::Other)
    }
}

/// Prints `document` compactly, with the escapes of Go's encoder.
pub(super) fn print(document: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, GoFormatter);
    document.serialize(&mut serializer).expect("manifests are made of strings, numbers, lists and maps");
    bytes
}

/// Escapes `<`, `>`, `&`, U+2028 and U+2029 as `\u….`, beyond what JSON itself demands.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            let character = special.chars().next().unwrap_or_default();
            writer.write_all(plain.as_bytes())?;
            write!(writer, "\\u{:04x}", character as u32)?;
            rest = &special[character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        CompactFormatter.write_char_escape(writer, escape)
    }
}
