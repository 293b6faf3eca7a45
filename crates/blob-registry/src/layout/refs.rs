//! `index.json`: which manifests a layout lists, and by what tag.
//!
//! A tag is the annotation `org.opencontainers.image.ref.name` of an entry. What this module does not understand, in
//! entries and beside them, is kept.

use std::collections::BTreeMap;

use blob_core::Digest;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::descriptor::{Descriptor, media_type};
use crate::reference::Tag;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The content of `index.json`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Index {
    document: Map<String, Value>,
    entries: Vec<Value>,
}

impl Index {
    /// An index without entries.
    pub(super) fn empty() -> Self {
        let document = Map::from_iter([
            ("schemaVersion".to_owned(), json!(2)),
            ("mediaType".to_owned(), json!(media_type::IMAGE_INDEX)),
        ]);
        Self { document, entries: Vec::new() }
    }

    /// Reads the file. `None` if it is not an index.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let Ok(Value::Object(mut document)) = serde_json::from_slice(bytes) else { return None };
        let entries = match document.remove("manifests") {
            Some(Value::Array(entries)) => entries,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return None,
        };
        Some(Self { document, entries })
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct File<'a> {
            #[serde(flatten)]
            document: &'a Map<String, Value>,
            manifests: &'a [Value],
        }
        let file = File { document: &self.document, manifests: &self.entries };
        serde_json::to_vec(&file).expect("JSON values with texts for names can be written")
    }

    /// Whether nothing is listed.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The manifests, without those whose entries are no descriptors. One that has several tags comes several times.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Descriptor> + '_ {
        self.entries.iter().filter_map(descriptor)
    }

    /// The manifests, and whether each has a name: a tag, or what other programs take for one. An entry that is no
    /// descriptor comes as its text: whoever decides what may go must not overlook it.
    pub(super) fn listed(&self) -> impl Iterator<Item = Result<(Descriptor, bool), String>> + '_ {
        self.entries.iter().map(|entry| {
            let named = ref_name(entry).is_some();
            descriptor(entry).map(|found| (found, named)).ok_or_else(|| entry.to_string())
        })
    }

    /// Takes what has no name and is not `wanted` off the list.
    pub(super) fn keep(&mut self, wanted: impl Fn(&Digest) -> bool) {
        self.entries
            .retain(|entry| ref_name(entry).is_some() || descriptor(entry).is_none_or(|entry| wanted(&entry.digest)));
    }

    /// The manifest with this digest.
    pub(super) fn find(&self, digest: &Digest) -> Option<Descriptor> {
        let text = digest.to_string();
        self.entries.iter().filter(|entry| names(entry, &text)).find_map(descriptor)
    }

    /// The manifest that `tag` points at: the first one, as other programs read it.
    pub(super) fn resolve(&self, tag: &Tag) -> Option<Descriptor> {
        self.entries.iter().find(|entry| ref_name(entry) == Some(tag.as_str())).and_then(descriptor)
    }

    /// Every tag. Names that are not tags (other programs put whole references there) are left out.
    pub(super) fn tags(&self) -> BTreeMap<Tag, Digest> {
        let mut tags = BTreeMap::new();
        for entry in &self.entries {
            if let Some(tag) = ref_name(entry).and_then(|name| Tag::new(name).ok())
                && let Some(digest) = entry.get("digest").and_then(|digest| digest.as_str()?.parse().ok())
            {
                tags.entry(tag).or_insert(digest);
            }
        }
        tags
    }

    /// Lists a manifest without a tag, if it is not listed yet.
    pub(super) fn list(&mut self, manifest: &Descriptor) {
        let text = manifest.digest.to_string();
        if !self.entries.iter().any(|entry| names(entry, &text)) {
            self.entries.push(entry_of(manifest, None));
        }
    }

    /// Points `tag` at a manifest. The one it pointed at stays listed.
    pub(super) fn tag(&mut self, manifest: &Descriptor, tag: &Tag) {
        if self.resolve(tag).is_some_and(|current| current.digest == manifest.digest) {
            return;
        }
        self.untag(tag);
        let text = manifest.digest.to_string();
        let entry = entry_of(manifest, Some(tag));
        match self.entries.iter_mut().find(|entry| names(entry, &text) && ref_name(entry).is_none()) {
            Some(untagged) => {
                // The entry may say more than we know, such as a platform.
                if let Some(annotations) = annotations_mut(untagged) {
                    annotations.insert(REF_NAME.into(), tag.as_str().into());
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
        while let Some(at) = self.entries.iter().position(|entry| ref_name(entry) == Some(tag.as_str())) {
            found = true;
            let digest = self.entries[at].get("digest").cloned();
            let others = self.entries.iter().filter(|entry| entry.get("digest").cloned() == digest).count();
            if others > 1 {
                self.entries.remove(at);
            } else if let Some(annotations) = annotations_mut(&mut self.entries[at]) {
                annotations.remove(REF_NAME);
                if annotations.is_empty()
                    && let Some(entry) = self.entries[at].as_object_mut()
                {
                    entry.remove("annotations");
                }
            }
        }
        found
    }

    /// Takes a manifest and its tags off the list. False if it is not listed.
    pub(super) fn remove(&mut self, digest: &Digest) -> bool {
        let (text, before) = (digest.to_string(), self.entries.len());
        self.entries.retain(|entry| !names(entry, &text));
        self.entries.len() < before
    }
}

/// An entry as a descriptor. Members that are null count as absent: some programs write all that their types have.
fn descriptor(entry: &Value) -> Option<Descriptor> {
    let mut members = entry.as_object()?.clone();
    members.retain(|_, value| !value.is_null());
    serde_json::from_value(Value::Object(members)).ok()
}

fn names(entry: &Value, digest: &str) -> bool {
    entry.get("digest").and_then(Value::as_str) == Some(digest)
}

fn ref_name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

/// The annotations of an entry, made if there are none. `None` if the entry is malformed.
fn annotations_mut(entry: &mut Value) -> Option<&mut Map<String, Value>> {
    let annotations = entry.as_object_mut()?.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations.as_object_mut()
}

fn entry_of(manifest: &Descriptor, tag: Option<&Tag>) -> Value {
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
    entry
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
        let name = |entry: &Value| ref_name(entry).unwrap_or("-").to_owned();
        let short = |entry: &Value| entry["digest"].as_str().unwrap_or_default()[7..9].to_owned();
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
        let again = Index::parse(&index.to_bytes()).expect("own output");
        assert_eq!(again.document["x"]["y"][0], 1);
        assert_eq!((again.entries.len(), &again.entries[1]), (5, &json!(7)));
        assert_eq!(again.entries[3]["platform"]["os"], "plan9");
        assert_eq!(again.entries[3]["annotations"][REF_NAME], "not a tag!");
        for bad in ["", "[]", "{\"manifests\":{}}", "{"] {
            assert!(Index::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
