//! Trust roots from a TUF repository on loopback, from its cache, and from neither.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blob_policy::sigstore::{TrustRootError, TrustRootSource};
use blob_testkit::sigstore::Instance;
use serde_json::{Value, json};
use sigstore_crypto::KeyPair;

const FAR: &str = "2999-01-01T00:00:00Z";
const PAST: &str = "2020-01-01T00:00:00Z";

type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Serves files over HTTP until the test ends.
fn serve(files: Files) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            let text = String::from_utf8_lossy(&request);
            let path = text.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
            let found = files.lock().unwrap().get(&path).cloned();
            let (status, body) = found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    url
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A repository of one key, which publishes one trust root.
struct Publisher {
    key: KeyPair,
    entry: Value,
    id: String,
}

impl Publisher {
    fn new() -> Self {
        let key = KeyPair::generate_ecdsa_p256().unwrap();
        let public = key.public_key_der().unwrap().to_pem();
        let entry = json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": public}});
        // Members are sorted and strings have no escapes but line ends, so this is the canonical form of the key.
        let canonical = entry.to_string().replace("\\r\\n", "\r\n").replace("\\n", "\n");
        let id = sigstore_crypto::sha256(canonical.as_bytes()).to_hex();
        Self { key, entry, id }
    }

    fn signed(&self, document: &Value) -> Vec<u8> {
        let canonical = document.to_string().replace("\\r\\n", "\r\n").replace("\\n", "\n");
        let signature = hex(self.key.sign(canonical.as_bytes()).unwrap().as_bytes());
        json!({"signed": document, "signatures": [{"keyid": self.id, "sig": signature}]}).to_string().into_bytes()
    }

    fn document(kind: &str, version: u64, expires: &str) -> Value {
        json!({"_type": kind, "spec_version": "1.0.0", "version": version, "expires": expires})
    }

    fn root(&self) -> Vec<u8> {
        let role = json!({"keyids": [self.id], "threshold": 1});
        let mut root = Self::document("root", 1, FAR);
        root["consistent_snapshot"] = false.into();
        root["keys"] = json!({self.id.clone(): self.entry});
        root["roles"] = json!({"root": role, "timestamp": role, "snapshot": role, "targets": role});
        self.signed(&root)
    }

    /// Publishes `trusted_root.json` as a version whose time-stamp expires at `expires`.
    fn publish(&self, files: &Files, trusted_root: &str, version: u64, expires: &str) {
        self.publish_both(files, (trusted_root, "{}"), version, expires);
    }

    fn publish_both(&self, files: &Files, (trusted_root, signing): (&str, &str), version: u64, expires: &str) {
        let pin = |bytes: &[u8]| json!({"length": bytes.len(), "hashes": {"sha256": sigstore_crypto::sha256(bytes).to_hex()}});
        let with_version = |bytes: &[u8]| {
            let mut pinned = pin(bytes);
            pinned["version"] = version.into();
            pinned
        };
        let mut targets = Self::document("targets", version, FAR);
        targets["targets"] = json!({
            "trusted_root.json": pin(trusted_root.as_bytes()),
            "signing_config.v0.2.json": pin(signing.as_bytes()),
        });
        let targets = self.signed(&targets);
        let mut snapshot = Self::document("snapshot", version, FAR);
        snapshot["meta"] = json!({"targets.json": with_version(&targets)});
        let snapshot = self.signed(&snapshot);
        let mut timestamp = Self::document("timestamp", version, expires);
        timestamp["meta"] = json!({"snapshot.json": with_version(&snapshot)});
        let timestamp = self.signed(&timestamp);
        let mut files = files.lock().unwrap();
        for (name, bytes) in [("targets.json", targets), ("snapshot.json", snapshot), ("timestamp.json", timestamp)] {
            files.insert(name.into(), bytes);
        }
        files.insert("targets/trusted_root.json".into(), trusted_root.as_bytes().to_vec());
        files.insert("targets/signing_config.v0.2.json".into(), signing.as_bytes().to_vec());
    }
}

fn is_refused(result: &Result<impl std::fmt::Debug, TrustRootError>) {
    assert!(matches!(result, Err(TrustRootError::Refresh { .. })), "{result:?}");
}

#[tokio::test]
async fn the_newest_is_fetched_and_the_last_known_is_kept() {
    let (publisher, files, cache) = (Publisher::new(), Files::default(), tempfile::tempdir().unwrap());
    let url = serve(files.clone());
    let source = TrustRootSource::custom(&url, &publisher.root()).cache_dir(cache.path());
    let source = source.timeout(Duration::from_secs(30));
    is_refused(&source.offline().await);
    is_refused(&source.refresh().await);
    let (one, two) = (Instance::start().unwrap(), Instance::start().unwrap());
    publisher.publish(&files, &one.trusted_root(), 1, FAR);
    let first = source.refresh().await.unwrap();
    assert!(first.stale.is_none());
    assert_eq!(source.offline().await.unwrap().digest(), first.root.digest());
    publisher.publish(&files, &two.trusted_root(), 2, FAR);
    let second = source.refresh().await.unwrap();
    assert!(second.stale.is_none() && second.root.digest() != first.root.digest());
    // Nobody answers, an older version is served, another key signed, bytes are changed: the last known stays.
    let good = files.lock().unwrap().clone();
    let damage: [&dyn Fn(); 4] = [
        &|| files.lock().unwrap().clear(),
        &|| publisher.publish(&files, &one.trusted_root(), 1, FAR),
        &|| Publisher::new().publish(&files, &one.trusted_root(), 3, FAR),
        &|| files.lock().unwrap().get_mut("timestamp.json").unwrap()[40] ^= 1,
    ];
    for (at, damage) in damage.iter().enumerate() {
        (*files.lock().unwrap()).clone_from(&good);
        damage();
        let kept = source.refresh().await.unwrap();
        assert!(kept.stale.is_some(), "case {at}");
        assert_eq!(kept.root.digest(), second.root.digest(), "case {at}");
        // Without a cache there is nothing to keep.
        if at != 1 {
            is_refused(&TrustRootSource::custom(&url, &publisher.root()).refresh().await);
        }
    }
}

#[cfg(feature = "sign")]
#[tokio::test]
async fn the_services_are_fetched_too() {
    use blob_policy::sign::Services;

    let (publisher, files, cache) = (Publisher::new(), Files::default(), tempfile::tempdir().unwrap());
    let instance = Instance::start().unwrap();
    let source = TrustRootSource::custom(&serve(files.clone()), &publisher.root()).cache_dir(cache.path());
    is_refused(&source.signing_config().await);
    publisher.publish_both(&files, (&instance.trusted_root(), &instance.signing_config(true)), 1, FAR);
    let expect = Services::from_signing_config(instance.signing_config(true).as_bytes(), None).unwrap();
    // The second time from the cache.
    for _ in 0..2 {
        let fetched = source.signing_config().await.unwrap();
        assert_eq!(Services::from_signing_config(&fetched, None).unwrap(), expect);
        files.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn what_expired_or_was_changed_in_the_cache_is_not_used() {
    let (publisher, files, cache) = (Publisher::new(), Files::default(), tempfile::tempdir().unwrap());
    let instance = Instance::start().unwrap();
    let source = TrustRootSource::custom(&serve(files.clone()), &publisher.root()).cache_dir(cache.path());
    publisher.publish(&files, &instance.trusted_root(), 1, PAST);
    is_refused(&source.refresh().await);
    publisher.publish(&files, &instance.trusted_root(), 2, FAR);
    source.refresh().await.unwrap();
    files.lock().unwrap().clear();
    source.refresh().await.unwrap();
    // Whoever writes to the cache cannot make a trust root of it.
    let mut changed = 0;
    let mut directories = vec![cache.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_string_lossy().contains("trusted_root") {
                let bytes = std::fs::read_to_string(&path).unwrap().replace("2020-01-01", "2019-01-01");
                std::fs::write(&path, bytes).unwrap();
                changed += 1;
            }
        }
    }
    assert!(changed > 0, "the cache holds the trust root");
    is_refused(&source.offline().await);
    is_refused(&source.refresh().await);
}

#[tokio::test]
async fn well_known_instances_work_offline_or_say_that_they_cannot() {
    let cache = tempfile::tempdir().unwrap();
    for source in [TrustRootSource::production(), TrustRootSource::github()] {
        is_refused(&source.clone().offline().await);
        is_refused(&source.cache_dir(cache.path()).offline().await);
    }
}
