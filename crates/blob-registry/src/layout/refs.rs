//! `index.json`: which manifests a layout lists, and by what tag.
//!
//! A tag is the annotation `org.opencontainers.image.ref.name` of an entry. What this module does not understand, in
//! entries and beside them, is kept. Entries stay the text that they are: trees of them would take ten times the room.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use blob_core::Digest;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::descriptor::{Descriptor, media_type};
use crate::error::{ErrorCode, RegistryError};
use crate::reference::Tag;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The most entries, and members beside them: a file of 64 MiB has room for no more that say anything.
const MAX_ENTRIES: usize = 500_000;
const MAX_MEMBERS: usize = 1_000;

/// The content of `index.json`.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// What is beside the entries.
    members: Vec<(String, Arc<RawValue>)>,
    entries: Vec<Arc<Entry>>,
}

/// An entry, and what is asked of it all the time.
#[derive(Debug)]
struct Entry {
    text: Box<RawValue>,
    /// What it says is its digest, well-formed or not.
    digest: Option<Box<str>>,
    name: Option<Box<str>>,
    is_index: bool,
    /// It says something twice, or in another way than it should, so that programs may read it in several ways.
    is_odd: bool,
}

/// What is asked of an entry, as it says it.
#[derive(Default)]
struct Said {
    digest: Option<Box<str>>,
    media_type: Option<Box<str>>,
    name: Option<Box<str>>,
}

impl Said {
    /// Without a tree of everything else. An entry that has a member twice, one of another kind than it should be, or one
    /// whose name is right but for its case, is an error here.
    fn quickly(text: &str) -> serde_json::Result<Self> {
        #[derive(serde::Deserialize)]
        struct Notes<'a> {
            #[serde(borrow, default, rename = "org.opencontainers.image.ref.name")]
            name: Option<&'a RawValue>,
        }
        let string = |raw: Option<&RawValue>| raw.map(|raw| serde_json::from_str(raw.get())).transpose();
        let Members([digest, media_type, annotations]) = serde_json::from_str(text)?;
        let notes = annotations.map(|notes| serde_json::from_str::<Option<Notes<'_>>>(notes.get())).transpose()?;
        let name = notes.flatten().and_then(|notes| notes.name);
        Ok(Self { digest: string(digest)?, media_type: string(media_type)?, name: string(name)? })
    }

    /// As other programs read what is said twice: the last one counts.
    fn thoroughly(text: &str) -> Self {
        let tree: Value = serde_json::from_str(text).unwrap_or_default();
        let string = |value: &Value| value.as_str().map(Box::from);
        let name = string(&tree["annotations"][REF_NAME]);
        Self { digest: string(&tree["digest"]), media_type: string(&tree["mediaType"]), name }
    }
}

/// What is looked at in an entry.
const LOOKED_AT: [&str; 3] = ["digest", "mediaType", "annotations"];

/// Those members, each at most once.
struct Members<'a>([Option<&'a RawValue>; 3]);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entry: A) -> Result<Members<'de>, A::Error> {
                let mut found = [None; 3];
                while let Some(Name(at)) = entry.next_key()? {
                    let Some(at) = at else {
                        entry.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let value = entry.next_value::<&'de RawValue>()?;
                    if found[at].replace(value).is_some() {
                        return Err(A::Error::custom(format_args!("{} is there twice", LOOKED_AT[at])));
                    }
                }
                Ok(Members(found))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The name of a member: where it is among those that are looked at.
struct Name(Option<usize>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
                // Some programs take names in any case, and a long s for an s.
                let letters = |text: &str| text.to_uppercase();
                let alike = |known: &str| name.len() <= 2 * known.len() && letters(known) == letters(name);
                match LOOKED_AT.iter().position(|known| *known == name) {
                    None if LOOKED_AT.iter().any(|known| alike(known)) => {
                        Err(E::custom(format_args!("{name} is misspelt")))
                    }
                    at => Ok(Name(at)),
                }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Entry {
    fn new(text: Box<RawValue>) -> Self {
        let said = Said::quickly(text.get());
        let is_odd = said.is_err();
        let said = said.unwrap_or_else(|_| Said::thoroughly(text.get()));
        let is_index =
            matches!(said.media_type.as_deref(), Some(media_type::IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST));
        Self { text, digest: said.digest, name: said.name, is_index, is_odd }
    }

    /// The entry as a tree; whatever does not parse is nothing.
    fn value(&self) -> Value {
        serde_json::from_str(self.text.get()).unwrap_or_default()
    }

    /// The entry as a descriptor. Members that are null count as absent: some programs write all that their types have.
    fn descriptor(&self) -> Option<Descriptor> {
        // Most entries have neither null members nor any that a descriptor has not.
        if let Ok(found) = serde_json::from_str(self.text.get()) {
            return Some(found);
        }
        let Value::Object(mut members) = self.value() else { return None };
        members.retain(|_, value| !value.is_null());
        serde_json::from_value(Value::Object(members)).ok()
    }

    fn names(&self, digest: &str) -> bool {
        self.digest.as_deref() == Some(digest)
    }

    fn is_tagged(&self, tag: &Tag) -> bool {
        self.name.as_deref() == Some(tag.as_str())
    }
}

impl From<&Value> for Entry {
    fn from(value: &Value) -> Self {
        Self::new(to_raw_value(value).expect("JSON values with texts for names can be written"))
    }
}

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Document;
        impl<'de> Visitor<'de> for Document {
            type Value = Index;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a list of manifests")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut file: A) -> Result<Index, A::Error> {
                let mut index = Index { members: Vec::new(), entries: Vec::new() };
                while let Some(name) = file.next_key::<String>()? {
                    if name == "manifests" {
                        index.entries = file.next_value::<Option<Entries>>()?.map_or_else(Vec::new, |list| list.0);
                        continue;
                    }
                    let value: Box<RawValue> = file.next_value()?;
                    index.members.retain(|(known, _)| *known != name);
                    index.members.push((name, value.into()));
                    if index.members.len() > MAX_MEMBERS {
                        return Err(A::Error::custom(format_args!("it has more than {MAX_MEMBERS} members")));
                    }
                }
                Ok(index)
            }
        }
        deserializer.deserialize_map(Document)
    }
}

/// The list in it.
struct Entries(Vec<Arc<Entry>>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of manifests")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(text) = list.next_element::<Box<RawValue>>()? {
                    entries.push(Arc::new(Entry::new(text)));
                    if entries.len() > MAX_ENTRIES {
                        return Err(A::Error::custom(format_args!("it lists more than {MAX_ENTRIES} manifests")));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl Serialize for Index {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut file = serializer.serialize_map(None)?;
        for (name, value) in &self.members {
            file.serialize_entry(name, &**value)?;
        }
        let entries: Vec<&RawValue> = self.entries.iter().map(|entry| &*entry.text).collect();
        file.serialize_entry("manifests", &entries)?;
        file.end()
    }
}

impl Index {
    /// An index without entries.
    pub(super) fn empty() -> Self {
        let member = |name: &str, value: Value| {
            (name.to_owned(), to_raw_value(&value).expect("a number or a text can be written").into())
        };
        let members = vec![member("schemaVersion", json!(2)), member("mediaType", json!(media_type::IMAGE_INDEX))];
        Self { members, entries: Vec::new() }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it is not an index, or lists too much.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// When it lists so much that it could not be read again.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, RegistryError> {
        if self.entries.len() <= MAX_ENTRIES {
            return Ok(serde_json::to_vec(self).expect("texts that are JSON can be written"));
        }
        let detail = format!("it would list {} manifests, and may list {MAX_ENTRIES}", self.entries.len());
        Err(RegistryError::detailed("writing index.json", ErrorCode::SizeInvalid, detail))
    }

    /// Whether both list the same, in the same words.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        // What is beside the entries never changes.
        let pairs = || self.entries.iter().zip(&other.entries);
        self.entries.len() == other.entries.len()
            && pairs().all(|(one, other)| Arc::ptr_eq(one, other) || one.text.get() == other.text.get())
    }

    /// Whether nothing is listed.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The manifests, without those whose entries are no descriptors. One that has several tags comes several times.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Descriptor> + '_ {
        self.entries.iter().filter_map(|entry| entry.descriptor())
    }

    /// Those that are indexes themselves.
    pub(super) fn indexes(&self) -> impl Iterator<Item = Digest> + '_ {
        let indexes = self.entries.iter().filter(|entry| entry.is_index);
        indexes.filter_map(|entry| entry.digest.as_deref()?.parse().ok())
    }

    /// The manifests, and whether each has a name: a tag, or what other programs take for one. An entry that is no
    /// descriptor, or that can be read in several ways, comes as its text: whoever decides what may go must not overlook it.
    pub(super) fn listed(&self) -> impl Iterator<Item = Result<(Descriptor, bool), String>> + '_ {
        self.entries.iter().map(|entry| {
            let named = entry.name.is_some();
            let found = entry.descriptor().filter(|_| !entry.is_odd);
            found.map(|found| (found, named)).ok_or_else(|| entry.text.get().to_owned())
        })
    }

    /// Takes what has no name and is not `wanted` off the list.
    pub(super) fn keep(&mut self, wanted: impl Fn(&Digest) -> bool) {
        self.entries.retain(|entry| {
            entry.is_odd || entry.name.is_some() || entry.descriptor().is_none_or(|entry| wanted(&entry.digest))
        });
    }

    /// The manifest with this digest.
    pub(super) fn find(&self, digest: &Digest) -> Option<Descriptor> {
        let text = digest.to_string();
        self.entries.iter().filter(|entry| entry.names(&text)).find_map(|entry| entry.descriptor())
    }

    /// The manifest that `tag` points at: the first one, as other programs read it.
    pub(super) fn resolve(&self, tag: &Tag) -> Option<Descriptor> {
        self.entries.iter().find(|entry| entry.is_tagged(tag))?.descriptor()
    }

    /// Every tag. Names that are not tags (other programs put whole references there) are left out.
    pub(super) fn tags(&self) -> BTreeMap<Tag, Digest> {
        let mut tags = BTreeMap::new();
        for entry in &self.entries {
            if let Some(tag) = entry.name.as_deref().and_then(|name| Tag::new(name).ok())
                && let Some(digest) = entry.digest.as_deref().and_then(|digest| digest.parse().ok())
            {
                tags.entry(tag).or_insert(digest);
            }
        }
        tags
    }

    /// Lists a manifest without a tag, if it is not listed yet.
    pub(super) fn list(&mut self, manifest: &Descriptor) {
        let text = manifest.digest.to_string();
        if !self.entries.iter().any(|entry| entry.names(&text)) {
            self.entries.push(Arc::new(entry_of(manifest, None)));
        }
    }

    /// Points `tag` at a manifest. The one it pointed at stays listed.
    pub(super) fn tag(&mut self, manifest: &Descriptor, tag: &Tag) {
        if self.resolve(tag).is_some_and(|current| current.digest == manifest.digest) {
            return;
        }
        self.untag(tag);
        let text = manifest.digest.to_string();
        let entry = Arc::new(entry_of(manifest, Some(tag)));
        match self.entries.iter_mut().find(|entry| entry.names(&text) && entry.name.is_none()) {
            Some(untagged) => {
                // The entry may say more than we know, such as a platform.
                let mut value = untagged.value();
                if let Some(annotations) = annotations_mut(&mut value) {
                    annotations.insert(REF_NAME.into(), tag.as_str().into());
                    *untagged = Arc::new(Entry::from(&value));
                } else {
                    *untagged = entry;
                }
            }
            None => self.entries.push(entry),
        }
    }

    /// Takes `tag` away. The manifest it pointed at stays listed, once. False if there is no such tag.
    pub(super) fn untag(&mut self, tag: &Tag) -> bool {
        let mut found = false;
        while let Some(at) = self.entries.iter().position(|entry| entry.is_tagged(tag)) {
            found = true;
            let digest = &self.entries[at].digest;
            let others = self.entries.iter().filter(|entry| entry.digest == *digest).count();
            if others > 1 {
                self.entries.remove(at);
                continue;
            }
            let mut value = self.entries[at].value();
            if let Some(annotations) = annotations_mut(&mut value) {
                annotations.remove(REF_NAME);
                if annotations.is_empty()
                    && let Some(entry) = value.as_object_mut()
                {
                    entry.remove("annotations");
                }
            }
            self.entries[at] = Arc::new(Entry::from(&value));
        }
        found
    }

    /// Takes a manifest and its tags off the list. False if it is not listed.
    pub(super) fn remove(&mut self, digest: &Digest) -> bool {
        let (text, before) = (digest.to_string(), self.entries.len());
        self.entries.retain(|entry| !entry.names(&text));
        self.entries.len() < before
    }
}

/// The annotations of an entry, made if there are none. `None` if the entry is malformed.
fn annotations_mut(entry: &mut Value) -> Option<&mut Map<String, Value>> {
    let annotations = entry.as_object_mut()?.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations.as_object_mut()
}

fn entry_of(manifest: &Descriptor, tag: Option<&Tag>) -> Entry {
    let mut entry = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
    });
    if let Some(kind) = &manifest.artifact_type {
        entry["artifactType"] = json!(kind);
    }
    if let Some(tag) = tag {
        entry["annotations"] = json!({ REF_NAME: tag.as_str() });
    }
    Entry::from(&entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Descriptor {
        Descriptor::of(media_type::IMAGE_MANIFEST, text.as_bytes())
    }

    fn tag(text: &str) -> Tag {
        Tag::new(text).expect("tag")
    }

    fn shown(index: &Index) -> Vec<String> {
        let name = |entry: &Entry| entry.name.as_deref().unwrap_or("-").to_owned();
        let short = |entry: &Entry| entry.digest.as_deref().unwrap_or_default()[7..9].to_owned();
        index.entries.iter().map(|entry| format!("{}={}", name(entry), short(entry))).collect()
    }

    #[test]
    fn tags_move_and_manifests_stay() {
        let (a, b) = (manifest("a"), manifest("b"));
        let (hex_a, hex_b) = (&a.digest.hex()[..2], &b.digest.hex()[..2]);
        let mut index = Index::empty();
        index.list(&a);
        index.list(&a);
        assert_eq!(shown(&index), [format!("-={hex_a}")]);
        index.tag(&a, &tag("x"));
        index.tag(&a, &tag("y"));
        assert_eq!(shown(&index), [format!("x={hex_a}"), format!("y={hex_a}")]);
        index.tag(&b, &tag("x"));
        assert_eq!(shown(&index), [format!("y={hex_a}"), format!("x={hex_b}")]);
        index.tag(&b, &tag("y"));
        assert_eq!(shown(&index), [format!("-={hex_a}"), format!("x={hex_b}"), format!("y={hex_b}")]);
        assert!(index.untag(&tag("x")) && !index.untag(&tag("x")));
        assert!(index.untag(&tag("y")));
        assert_eq!(shown(&index), [format!("-={hex_a}"), format!("-={hex_b}")]);
        assert!(index.remove(&a.digest) && !index.remove(&a.digest));
        assert_eq!(index.find(&b.digest), Some(b));
    }

    #[test]
    fn null_is_absent_and_what_is_no_descriptor_is_told() {
        let digest = manifest("a").digest;
        let text = format!(
            r#"{{"manifests":[{{"mediaType":"m","digest":"{digest}","size":1,"annotations":null,"urls":null,"data":null}},
                {{"mediaType":"m","digest":"{digest}","size":1,"annotations":{{"k":7}}}},{{"digest":null}},[]]}}"#
        );
        let index = Index::parse(text.as_bytes()).expect("index");
        let listed: Vec<_> =
            index.listed().map(|entry| entry.map(|(entry, named)| (entry.digest, named)).ok()).collect();
        assert_eq!(listed, [Some((digest, false)), None, None, None]);
    }

    #[test]
    fn what_is_not_understood_is_kept() {
        let text = r#"{"schemaVersion":2,"x":{"y":[1]},"manifests":[{"strange":true},7,
            {"mediaType":"m","digest":"sha256:bad","size":1},
            {"mediaType":"m","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,
             "platform":{"os":"plan9"},"annotations":{"k":"v","org.opencontainers.image.ref.name":"not a tag!"}}]}"#;
        let mut index = Index::parse(text.as_bytes()).expect("index");
        assert_eq!((index.descriptors().count(), index.tags().len()), (1, 0));
        index.tag(&manifest("a"), &tag("x"));
        let again = index.to_bytes().expect("few entries");
        let again: Value = serde_json::from_slice(&again).expect("own output");
        assert_eq!(again["x"]["y"][0], 1);
        let entries = again["manifests"].as_array().expect("a list");
        assert_eq!((entries.len(), &entries[1]), (5, &json!(7)));
        assert_eq!(entries[3]["platform"]["os"], "plan9");
        assert_eq!(entries[3]["annotations"][REF_NAME], "not a tag!");
        for bad in ["", "[]", "{\"manifests\":{}}", "{", "{\"manifests\":[}"] {
            assert!(Index::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Index::parse(b"{\"manifests\":null}").expect("none").is_empty());
    }

    #[test]
    fn lists_have_a_limit() {
        let list = |count: usize| format!("{{\"manifests\":[{}{{}}]}}", "{},".repeat(count - 1));
        let full = Index::parse(list(MAX_ENTRIES).as_bytes()).expect("as many as there may be");
        assert!(Index::parse(list(MAX_ENTRIES + 1).as_bytes()).is_err());
        let mut more = full.clone();
        assert!(more.is_same(&full) && more.to_bytes().is_ok());
        more.list(&manifest("a"));
        assert!(!more.is_same(&full) && more.to_bytes().is_err());
        let members: Vec<String> = (0..=MAX_MEMBERS).map(|number| format!("\"m{number}\":0")).collect();
        assert!(Index::parse(format!("{{{}}}", members.join(",")).as_bytes()).is_err());
    }
}
