//! Transparency logs, which answer as Rekor does: a Merkle tree (RFC 6962) with proofs and signed checkpoints.

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::keys::{Key, sha256};
use super::{Fault, seconds};

/// Logs sign under the name of their host.
const NAME: &str = "127.0.0.1";

/// Which interface a log has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// A log with its entries.
pub(super) struct Log {
    version: Version,
    key: Key,
    foreign: Key,
    entries: Vec<Value>,
    leaves: Vec<[u8; 32]>,
}

/// An entry as it is stored.
struct Entry {
    kind: &'static str,
    body: Value,
}

impl Log {
    /// A log that holds some entries of others already, so that proofs have hashes in them.
    pub(super) fn new(version: Version) -> Self {
        let leaves = (0..5u8).map(|n| leaf(&[n])).collect();
        Self { version, key: Key::new(), foreign: Key::new(), entries: Vec::new(), leaves }
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Answers a request for an entry: the status and what is wrong, or the entry.
    pub(super) fn answer(&mut self, request: &[u8], fault: Option<Fault>) -> Result<Value, (u16, &'static str)> {
        let request: Value = serde_json::from_slice(request).map_err(|_| (400, "the request is not JSON"))?;
        if let (Some(Fault::Replay), Some(first)) = (fault, self.entries.first()) {
            return Ok(first.clone());
        }
        let entry = match self.version {
            Version::V1 => entry_v1(&request),
            Version::V2 => entry_v2(&request),
        };
        let entry = entry.ok_or((400, "the entry is not understood"))?;
        let body = entry.body.to_string();
        let (index, hash) = (self.leaves.len(), leaf(body.as_bytes()));
        if self.leaves.contains(&hash) {
            return Err((409, "an equivalent entry exists"));
        }
        self.leaves.push(hash);
        let answer = self.inclusion(&entry, &body, index, fault);
        self.entries.push(answer.clone());
        Ok(answer)
    }

    /// Where the entry that a request asks for is, if it is there.
    pub(super) fn place(&self, request: &[u8]) -> Option<String> {
        let hash = leaf(entry_v1(&serde_json::from_slice(request).ok()?)?.body.to_string().as_bytes());
        let index = self.leaves.iter().position(|known| *known == hash)?;
        Some(format!("/api/v1/log/entries/{index:064x}"))
    }

    /// The entry of this name.
    pub(super) fn entry(&self, name: &str) -> Option<Value> {
        self.entries.iter().find(|entry| entry.get(name).is_some()).cloned()
    }

    fn inclusion(&self, entry: &Entry, body: &str, index: usize, fault: Option<Fault>) -> Value {
        let key = if fault == Some(Fault::ForeignLog) { &self.foreign } else { &self.key };
        let size = self.leaves.len();
        let root = root(&self.leaves);
        let mut proof = path(index, &self.leaves);
        if fault == Some(Fault::BadProof) {
            match proof.first_mut() {
                Some(first) => first[0] ^= 1,
                None => proof.push([0; 32]),
            }
        }
        let signed = if fault == Some(Fault::BadRoot) { sha256(&root) } else { root };
        let note = Self::checkpoint(key, size, &signed, fault);
        let included = Included { key, body, index, size, root: &root, proof: &proof, note: &note };
        match self.version {
            Version::V1 => included.v1(fault),
            Version::V2 => included.v2(entry.kind),
        }
    }

    /// A signed note (C2SP "tlog-checkpoint").
    fn checkpoint(key: &Key, size: usize, root: &[u8], fault: Option<Fault>) -> String {
        let note = format!("{NAME}\n{size}\n{}\n", BASE64_STANDARD.encode(root));
        let over = if fault == Some(Fault::BadCheckpoint) { format!("{note}x") } else { note.clone() };
        let signature = [&key.id()[..4], &key.sign_bytes(over.as_bytes())].concat();
        format!("{note}\n\u{2014} {NAME} {}\n", BASE64_STANDARD.encode(signature))
    }
}

/// An entry in the tree.
struct Included<'a> {
    key: &'a Key,
    body: &'a str,
    index: usize,
    size: usize,
    root: &'a [u8; 32],
    proof: &'a [[u8; 32]],
    note: &'a str,
}

impl Included<'_> {
    fn v1(&self, fault: Option<Fault>) -> Value {
        let time = seconds(SystemTime::now());
        let body = BASE64_STANDARD.encode(self.body);
        let (id, index) = (hex(&self.key.id()), self.index);
        let promised = if fault == Some(Fault::BadPromise) { time - 1 } else { time };
        let promise = json!({"body": body, "integratedTime": promised, "logID": id, "logIndex": index}).to_string();
        let hashes: Vec<_> = self.proof.iter().map(|hash| hex(hash)).collect();
        let uuid = format!("{index:064x}");
        json!({uuid: {
            "body": body,
            "integratedTime": time,
            "logID": id,
            "logIndex": index,
            "verification": {
                "signedEntryTimestamp": BASE64_STANDARD.encode(self.key.sign_bytes(promise.as_bytes())),
                "inclusionProof": {
                    "checkpoint": self.note,
                    "hashes": hashes,
                    "logIndex": index,
                    "rootHash": hex(self.root),
                    "treeSize": self.size,
                },
            },
        }})
    }

    fn v2(&self, kind: &str) -> Value {
        let hashes: Vec<_> = self.proof.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect();
        json!({
            "logIndex": self.index.to_string(),
            "logId": {"keyId": BASE64_STANDARD.encode(self.key.id())},
            "kindVersion": {"kind": kind, "version": "0.0.2"},
            "inclusionProof": {
                "logIndex": self.index.to_string(),
                "rootHash": BASE64_STANDARD.encode(self.root),
                "treeSize": self.size.to_string(),
                "hashes": hashes,
                "checkpoint": {"envelope": self.note},
            },
            "canonicalizedBody": BASE64_STANDARD.encode(self.body),
        })
    }
}

/// What version 1 stores of a request.
fn entry_v1(request: &Value) -> Option<Entry> {
    let spec = &request["spec"];
    match request["kind"].as_str()? {
        "hashedrekord" => {
            spec["data"]["hash"]["value"].as_str()?;
            let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec});
            Some(Entry { kind: "hashedrekord", body })
        }
        "dsse" => {
            let text = spec["proposedContent"]["envelope"].as_str()?;
            let verifier = spec["proposedContent"]["verifiers"][0].as_str()?;
            let envelope: Value = serde_json::from_str(text).ok()?;
            let payload = BASE64_STANDARD.decode(envelope["payload"].as_str()?).ok()?;
            let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex(&sha256(bytes))});
            let body = json!({
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": hash(text.as_bytes()),
                    "payloadHash": hash(&payload),
                    "signatures": [{"signature": envelope["signatures"][0]["sig"].as_str()?, "verifier": verifier}],
                },
            });
            Some(Entry { kind: "dsse", body })
        }
        _ => None,
    }
}

/// What version 2 stores of a request.
fn entry_v2(request: &Value) -> Option<Entry> {
    let wanted = &request["hashedRekordRequestV002"];
    let digest = wanted["digest"].as_str()?;
    let body = json!({
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": digest},
            "signature": wanted["signature"],
        }},
    });
    Some(Entry { kind: "hashedrekord", body })
}

fn leaf(bytes: &[u8]) -> [u8; 32] {
    sha256(&[&[0], bytes].concat())
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1][..], left, right].concat())
}

/// The largest power of two below `size`.
fn half(size: usize) -> usize {
    1 << (usize::BITS - 1 - (size - 1).leading_zeros())
}

fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(half(many.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The hashes that lead from a leaf to the root, from below.
fn path(index: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(half(leaves.len()));
    let (mut path, beside) = if index < left.len() {
        (path(index, left), root(right))
    } else {
        (path(index - left.len(), right), root(left))
    };
    path.push(beside);
    path
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
