//! A TUF repository of one key, which publishes a trust root and a signing configuration on loopback.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::ca::pem_of;
use super::keys::{Key, sha256};
use super::log::hex;

/// The files of a repository, by path. Clones share them, so a test can damage what is served.
#[derive(Clone, Debug, Default)]
pub struct Files {
    held: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<usize>>,
}

impl Files {
    /// Changes what is there.
    pub fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many requests there were.
    #[must_use]
    pub fn requests(&self) -> usize {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves them over HTTP on a free port until the process ends; the answer is the address.
    ///
    /// # Errors
    /// When there is no port.
    pub fn serve(&self) -> io::Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let files = self.clone();
        std::thread::Builder::new().name("blob-testkit-tuf".into()).spawn(move || {
            // A client that goes away is none of our business.
            listener.incoming().flatten().for_each(|stream| drop(files.answer(stream)));
        })?;
        Ok(url)
    }

    fn answer(&self, mut stream: std::net::TcpStream) -> io::Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            request.push(byte[0]);
        }
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let text = String::from_utf8_lossy(&request);
        let path = text.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
        let found = self.change(|files| files.get(&path).cloned());
        let (status, body) = found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat())
    }
}

/// Who publishes: one key for all roles.
pub struct Publisher {
    key: Key,
    entry: Value,
    id: String,
}

impl Publisher {
    /// A time that is not reached.
    pub const FAR: &'static str = "2999-01-01T00:00:00Z";
    /// A time that has passed.
    pub const PAST: &'static str = "2020-01-01T00:00:00Z";

    /// With a new key.
    #[must_use]
    pub fn new() -> Self {
        let key = Key::new();
        let public = pem_of("PUBLIC KEY", key.spki());
        let entry = json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": public}});
        let id = hex(&sha256(canonical(&entry).as_bytes()));
        Self { key, entry, id }
    }

    fn signed(&self, document: &Value) -> Vec<u8> {
        let signature = hex(&self.key.sign_bytes(canonical(document).as_bytes()));
        json!({"signed": document, "signatures": [{"keyid": self.id, "sig": signature}]}).to_string().into_bytes()
    }

    /// The `root.json` that trust in the repository begins with.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        let role = json!({"keyids": [self.id], "threshold": 1});
        let mut root = document("root", 1, Self::FAR);
        root["consistent_snapshot"] = false.into();
        root["keys"] = json!({self.id.clone(): self.entry});
        root["roles"] = json!({"root": role, "timestamp": role, "snapshot": role, "targets": role});
        self.signed(&root)
    }

    /// Publishes `trusted_root.json` and `signing_config.v0.2.json` as a version whose time-stamp expires at `expires`.
    pub fn publish(&self, files: &Files, (trusted_root, signing): (&str, &str), version: u64, expires: &str) {
        let pin = |bytes: &[u8]| json!({"length": bytes.len(), "hashes": {"sha256": hex(&sha256(bytes))}});
        let with_version = |bytes: &[u8]| {
            let mut pinned = pin(bytes);
            pinned["version"] = version.into();
            pinned
        };
        let mut targets = document("targets", version, Self::FAR);
        targets["targets"] = json!({
            "trusted_root.json": pin(trusted_root.as_bytes()),
            "signing_config.v0.2.json": pin(signing.as_bytes()),
        });
        let targets = self.signed(&targets);
        let mut snapshot = document("snapshot", version, Self::FAR);
        snapshot["meta"] = json!({"targets.json": with_version(&targets)});
        let snapshot = self.signed(&snapshot);
        let mut timestamp = document("timestamp", version, expires);
        timestamp["meta"] = json!({"snapshot.json": with_version(&snapshot)});
        let timestamp = self.signed(&timestamp);
        let contents = [
            ("targets.json", targets),
            ("snapshot.json", snapshot),
            ("timestamp.json", timestamp),
            ("targets/trusted_root.json", trusted_root.as_bytes().to_vec()),
            ("targets/signing_config.v0.2.json", signing.as_bytes().to_vec()),
        ];
        files.change(|files| files.extend(contents.map(|(name, bytes)| (name.to_owned(), bytes))));
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

/// Members are sorted and strings have no escapes but line ends, so this is the canonical form.
fn canonical(document: &Value) -> String {
    document.to_string().replace("\\n", "\n")
}

fn document(kind: &str, version: u64, expires: &str) -> Value {
    json!({"_type": kind, "spec_version": "1.0.0", "version": version, "expires": expires})
}
