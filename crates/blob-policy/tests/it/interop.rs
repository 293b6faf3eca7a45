//! Other implementations verify what we sign, and we verify what they sign: sigstore-python and sigstore-js, against an
//! instance in this process.
//!
//! They come from PyPI and npm, so `cargo xtask interop` installs pinned versions and names their directory in
//! `BLOB_INTEROP`. Without it nothing is shown here, and the test says so.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use blob_core::Digest;
use blob_policy::sign::{
    IdentityToken, KeyKind, KeySigner as _, KeyedSigner, KeylessSigner, LocalKey, LogVersion, Services, Signer,
    Statement,
};
use blob_policy::sigstore::{Artifact, Bundle, Signer as SignedBy, TrustRoot, verify_with_certificate};
use blob_testkit::sigstore::{Instance, Person};
use bytes::Bytes;
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.test";
const WHO: &str = "ann@example.com";

/// A peer, and how it is run.
struct Peer {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

/// Those that are installed; says so when there are none.
fn peers() -> Vec<Peer> {
    let Some(directory) = std::env::var_os("BLOB_INTEROP").map(PathBuf::from) else {
        // Straight to the descriptor, so that the test harness does not swallow it.
        let _ = writeln!(std::io::stderr().lock(), "NOT RUN: the peers of `cargo xtask interop` are not installed");
        return Vec::new();
    };
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name);
    let node = blob_testkit::peers::find("node").expect("cargo xtask interop checks for node");
    let python = directory.join("python/bin/python");
    let packages = directory.join("npm");
    vec![
        Peer { name: "sigstore-python", program: python, arguments: vec![script("peer.py")] },
        Peer { name: "sigstore-js", program: node, arguments: vec![script("peer.mjs"), packages] },
    ]
}

impl Peer {
    /// Statements in a log of version 2 are entered by their digest alone; sigstore-js 3.1 still knows an earlier form.
    fn speaks(&self, v2: bool, statement: bool) -> bool {
        !(self.name == "sigstore-js" && v2 && statement)
    }

    /// Runs it; what it said, if it failed.
    fn run(&self, words: &[&str]) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(words).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{} {words:?}: {said}", self.name)) }
    }
}

/// An instance, and its configuration in files.
struct Bench {
    instance: Instance,
    files: tempfile::TempDir,
    content: Bytes,
}

impl Bench {
    fn new() -> Self {
        let (instance, files) = (Instance::start().unwrap(), tempfile::tempdir().unwrap());
        let bench = Self { instance, files, content: Bytes::from_static(b"a manifest") };
        bench.write("root.json", &bench.instance.trusted_root());
        for (name, v2) in [("config1.json", false), ("config2.json", true)] {
            let config = json!({
                "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
                "trustedRoot": serde_json::from_str::<Value>(&bench.instance.trusted_root()).unwrap(),
                "signingConfig": serde_json::from_str::<Value>(&bench.instance.signing_config(v2)).unwrap(),
            });
            bench.write(name, &config.to_string());
        }
        bench.write("artifact", "a manifest");
        bench.write("other", "another manifest");
        bench.write("token", &Person::email(ISSUER, WHO).token());
        bench
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.files.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    fn root(&self) -> TrustRoot {
        TrustRoot::from_json(self.instance.trusted_root().as_bytes()).unwrap()
    }

    fn services(&self, v2: bool) -> Services {
        let version = if v2 { LogVersion::V2 } else { LogVersion::V1 };
        Services::from_signing_config(self.instance.signing_config(v2).as_bytes(), Some(version)).unwrap()
    }
}

#[tokio::test]
async fn others_verify_what_we_sign() {
    let (bench, peers) = (Bench::new(), peers());
    for v2 in [false, true] {
        let token = Arc::new(IdentityToken::new(&Person::email(ISSUER, WHO).token()).unwrap());
        let signer = KeylessSigner::new(bench.services(v2), bench.root(), token).unwrap();
        let statement = Statement::signature(Digest::sha256_of(&bench.content)).annotation("a", "b");
        for bundle in [signer.sign(&statement).await.unwrap(), signer.sign_message(&bench.content).await.unwrap()] {
            bench.write("bundle.json", std::str::from_utf8(bundle.bytes()).unwrap());
            let words = |artifact: &str, who: &str| {
                let [root, artifact, bundle] = ["root.json", artifact, "bundle.json"].map(|name| bench.path(name));
                ["verify".into(), root, artifact, who.to_owned(), ISSUER.to_owned(), bundle]
            };
            let run = |peer: &Peer, words: [String; 6]| peer.run(&words.each_ref().map(String::as_str));
            for peer in peers.iter().filter(|peer| peer.speaks(v2, bundle.predicate_type().is_some())) {
                run(peer, words("artifact", WHO)).unwrap();
                run(peer, words("artifact", "mallory@example.com")).unwrap_err();
                // sigstore-js leaves it to the caller to compare the subject of a statement.
                if peer.name == "sigstore-python" || bundle.predicate_type().is_none() {
                    run(peer, words("other", WHO)).unwrap_err();
                }
            }
        }
    }
}

#[tokio::test]
async fn others_verify_what_we_sign_with_a_key() {
    let (bench, peers) = (Bench::new(), peers());
    let key = Arc::new(LocalKey::generate(KeyKind::EcdsaP256).unwrap());
    bench.write("key.pem", &key.public_key().to_pem());
    let signer = KeyedSigner::new(key).with_services(bench.services(false), bench.root());
    let statement = Statement::signature(Digest::sha256_of(&bench.content));
    for bundle in [signer.sign(&statement).await.unwrap(), signer.sign_message(&bench.content).await.unwrap()] {
        bench.write("bundle.json", std::str::from_utf8(bundle.bytes()).unwrap());
        let [root, artifact, bundle, key] =
            ["root.json", "artifact", "bundle.json", "key.pem"].map(|name| bench.path(name));
        // sigstore-python verifies certificates alone.
        for peer in peers.iter().filter(|peer| peer.name == "sigstore-js") {
            peer.run(&["verify", &root, &artifact, "", "", &bundle, &key]).unwrap();
        }
    }
}

#[tokio::test]
async fn we_verify_what_others_sign() {
    let (bench, peers) = (Bench::new(), peers());
    for peer in &peers {
        for (config, form) in [
            ("config1.json", "message"),
            ("config1.json", "statement"),
            ("config2.json", "message"),
            ("config2.json", "statement"),
        ] {
            let [config, artifact, token, made] =
                [config, "artifact", "token", "made.json"].map(|name| bench.path(name));
            if !peer.speaks(config.ends_with("2.json"), form == "statement") {
                continue;
            }
            peer.run(&["sign", &config, &artifact, &token, form, &made]).unwrap();
            let bundle = Bundle::parse(&std::fs::read(&made).unwrap()).unwrap();
            let verify = |content| verify_with_certificate(&bench.root(), &bundle, Artifact::Content(content));
            let verified = verify(&bench.content).unwrap_or_else(|error| panic!("{} {form}: {error:?}", peer.name));
            let SignedBy::Certificate(by) = verified.signer() else { panic!("{:?}", verified.signer()) };
            assert_eq!((by.san.as_str(), by.issuer.as_str()), (WHO, ISSUER));
            assert_eq!(verified.statement().is_some(), form == "statement");
            verify(b"another manifest").unwrap_err();
        }
    }
}
