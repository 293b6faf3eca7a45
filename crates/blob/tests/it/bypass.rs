//! Ways around verification, each refused with its reason. The Go program could be fooled by many of them.

use std::fs;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blob::core::{ByteSource, Digest, MemorySource};
use blob::policy::file::{PolicyContext, PolicyFile, PolicySet};
use blob::policy::sign::{KeyKind, KeySigner, LocalKey, Statement};
use blob::policy::sigstore::{BUNDLE_ARTIFACT_TYPE, COSIGN_SIGN_PREDICATE};
use blob::registry::memory::MemoryRegistry;
use blob::registry::server::{Server, ServerHandle};
use blob::registry::{
    Descriptor, ErrorCode, ImageIndex, ImageManifest, PushBlob, PushManifest, Registry, Repository, Tag, media_type,
};
use blob::{Client, Error, ErrorKind, Location, PullOptions, PushOptions, VerifyOptions};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{at, tree};
use blob_testkit::hostile::{Hostile, Referrers};

pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";
const V1: &str = "https://slsa.dev/provenance/v1";
const V02: &str = "https://slsa.dev/provenance/v0.2";

const KEY: &str = "signature: {key: {path: key.pub, transparency_log: none}}";
const LOGGED: &str = "signature: {key: {path: key.pub}}";
const EITHER: &str =
    "signature: {key: [{path: key.pub, transparency_log: none}, {path: other.pub, transparency_log: none}]}";
const BOTH: &str = "signature: {threshold: 2, key: [{path: key.pub, transparency_log: none}, {path: other.pub, transparency_log: none}]}";
const GITHUB: &str = "signature: {github: {repository: acme/app, tags: 'v*'}}";
const NAMED: &str = "signature: {keyless: {issuer: 'https://accounts.google.com', identity: ann@example.com}}";

/// A policy that asks for provenance, signed with the key.
fn built(wanted: &str) -> String {
    format!("provenance: {{slsa: {{{wanted}}}, signer: {{key: {{path: key.pub, transparency_log: none}}}}}}")
}

/// A policy of rules over claims made with the key.
const RULES: &str = "rego: {modules: rules.rego, signer: {key: {path: key.pub, transparency_log: none}}}";

/// An archive in a registry that lies, two keys, and a folder for policies.
pub(crate) struct Bench {
    pub(crate) hostile: Arc<Hostile>,
    server: ServerHandle,
    pub(crate) key: Arc<LocalKey>,
    pub(crate) other: Arc<LocalKey>,
    pub(crate) dir: TempDir,
    pub(crate) repository: Repository,
    /// The manifest's digest.
    pub(crate) digest: Digest,
    bytes: Bytes,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let hostile = Arc::new(Hostile::default());
        let honest = Server::builder(hostile.inner.clone()).bind("127.0.0.1:0").await.unwrap();
        let files = tree(70, 3);
        let (client, location) = (Client::new().unwrap(), at(honest.local_addr(), "v1"));
        let pushed = client.push(&location, files.path(), &PushOptions::default()).await.unwrap();
        let server = Server::builder(hostile.clone()).bind("127.0.0.1:0").await.unwrap();
        let generate = || Arc::new(LocalKey::generate(KeyKind::EcdsaP256).unwrap());
        let (key, other, dir) = (generate(), generate(), TempDir::new().unwrap());
        fs::write(dir.path().join("key.pub"), key.public_key().to_der()).unwrap();
        fs::write(dir.path().join("other.pub"), other.public_key().to_der()).unwrap();
        let repository = Repository::new("team/project").unwrap();
        let (digest, bytes) = (*pushed.digest(), pushed.manifest.as_bytes().clone());
        Self { hostile, server, key, other, dir, repository, digest, bytes }
    }

    pub(crate) fn location(&self) -> Location {
        at(self.server.local_addr(), "v1")
    }

    fn inner(&self) -> &MemoryRegistry {
        &self.hostile.inner
    }

    pub(crate) fn rules(&self, text: &str) {
        fs::write(self.dir.path().join("rules.rego"), format!("package blob.policy\n{text}\n")).unwrap();
    }

    pub(crate) fn set(&self, policy: &str) -> Arc<PolicySet> {
        let path = self.dir.path().join("policy.yaml");
        let file = PolicyFile::parse(policy, &path).unwrap_or_else(|e| panic!("{policy}: {e}"));
        let mut set = PolicySet::new();
        let spellings = blob::spellings(&self.location());
        set.add_rules(&file.rules, &PolicyContext::beside(&path), &[spellings])
            .unwrap_or_else(|e| panic!("{policy}: {e:?}"));
        Arc::new(set)
    }

    /// Every way to read is refused, for the same reason.
    pub(crate) async fn refused(&self, policy: &str, reason: &str) -> Error {
        let client = Client::builder().policies_from(self.set(policy)).build().unwrap();
        let options = PullOptions::default();
        let verified =
            client.verify(&self.location(), &VerifyOptions::default()).await.map(|v| v.into_error().unwrap());
        let mut last = None;
        for error in [
            client.pull(&self.location(), &options).await.map(drop).unwrap_err(),
            client.inspect(&self.location(), &options).await.map(drop).unwrap_err(),
            client.fetch(&self.location()).await.map(drop).unwrap_err(),
            verified.unwrap_or_else(|error| error),
        ] {
            let said = chain(&error);
            assert!(said.contains(reason), "{said}\nis not: {reason}");
            last = Some(error);
        }
        last.unwrap()
    }

    pub(crate) async fn admitted(&self, policy: &str) {
        let client = Client::builder().policies_from(self.set(policy)).build().unwrap();
        let opened = client.pull(&self.location(), &PullOptions::default()).await;
        let archive = opened.unwrap_or_else(|e| panic!("{}", chain(&e)));
        assert!(archive.manifest().is_verified());
    }

    async fn blob(&self, bytes: &[u8], kind: &str) -> Descriptor {
        let source: Arc<dyn ByteSource> = Arc::new(MemorySource::new(Bytes::copy_from_slice(bytes)));
        let blob = PushBlob::new(Digest::sha256_of(bytes), source);
        self.inner().push_blob(&self.repository, blob).await.unwrap();
        Descriptor::of(kind, bytes)
    }

    fn subject(&self) -> Descriptor {
        Descriptor::of(media_type::IMAGE_MANIFEST, &self.bytes)
    }

    /// A referrer of `subject` with these layers.
    async fn refer(&self, subject: Descriptor, artifact_type: &str, layers: Vec<Descriptor>) -> Descriptor {
        self.blob(b"{}", media_type::EMPTY).await;
        let mut manifest = ImageManifest::artifact(artifact_type, layers);
        manifest.subject = Some(subject);
        let bytes = manifest.to_bytes();
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, bytes.clone());
        self.inner().push_manifest(&self.repository, push).await.unwrap();
        let mut descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
        descriptor.artifact_type = Some(artifact_type.into());
        descriptor
    }

    /// Attaches a bundle as tools do.
    pub(crate) async fn attach(&self, bundle: &[u8]) -> Descriptor {
        let layer = self.blob(bundle, BUNDLE_ARTIFACT_TYPE).await;
        self.refer(self.subject(), BUNDLE_ARTIFACT_TYPE, vec![layer]).await
    }

    /// Signs our manifest with our key.
    pub(crate) async fn sign(&self) -> Descriptor {
        self.claim(COSIGN_SIGN_PREDICATE, json!({})).await
    }

    /// Attaches a statement about our manifest, made with our key.
    pub(crate) async fn claim(&self, kind: &str, predicate: Value) -> Descriptor {
        self.attach(&envelope(&self.key, &statement(&self.digest, kind, predicate)).await).await
    }

    /// Attaches provenance made with our key.
    async fn provenance(&self, changes: &[(&str, Value)]) {
        let mut predicate = honest_build();
        for (pointer, value) in changes {
            *predicate.pointer_mut(pointer).unwrap() = value.clone();
        }
        self.claim(V1, predicate).await;
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[allow(clippy::needless_pass_by_value)] // it is made where it is given
fn statement(subject: &Digest, kind: &str, predicate: Value) -> Vec<u8> {
    let about = json!([{"digest": {subject.algorithm().name(): subject.hex()}}]);
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": about, "predicateType": kind, "predicate": predicate});
    statement.to_string().into_bytes()
}

/// Provenance as GitHub's action writes it.
fn honest_build() -> Value {
    json!({
        "buildDefinition": {
            "externalParameters": {"workflow": {
                "repository": "https://github.com/acme/app", "ref": "refs/heads/main", "path": ".github/workflows/release.yml",
            }},
        },
        "runDetails": {"builder": {"id": "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"}},
    })
}

async fn dsse(key: &LocalKey, kind: &str, payload: &[u8]) -> Value {
    let mut pae = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    pae.extend(payload);
    let sig = STANDARD.encode(KeySigner::sign(key, &pae).await.unwrap());
    json!({"payloadType": kind, "payload": STANDARD.encode(payload), "signatures": [{"sig": sig}]})
}

fn wrap(content: (&str, Value)) -> Value {
    let mut bundle = json!({"mediaType": BUNDLE_ARTIFACT_TYPE, "verificationMaterial": {"publicKey": {"hint": "k"}}});
    bundle[content.0] = content.1;
    bundle
}

/// A bundle of a statement.
pub(crate) async fn envelope(key: &LocalKey, payload: &[u8]) -> Vec<u8> {
    wrap(("dsseEnvelope", dsse(key, IN_TOTO, payload).await)).to_string().into_bytes()
}

/// A bundle of a plain signature.
async fn message(key: &LocalKey, content: &[u8]) -> Value {
    let digest = STANDARD.encode(Digest::sha256_of(content).as_bytes());
    let sig = STANDARD.encode(KeySigner::sign(key, content).await.unwrap());
    let message = json!({"messageDigest": {"algorithm": "SHA2_256", "digest": digest}, "signature": sig});
    wrap(("messageSignature", message))
}

/// One test for each way: the policy, what the attacker does, and why it is refused.
macro_rules! refused {
    ($($name:ident: $policy:expr, |$bench:ident| $deed:block, $reason:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let $bench = Bench::new().await;
            $deed;
            $bench.refused(&$policy, $reason).await;
        }
    )*};
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_honest_is_admitted() {
    let bench = Bench::new().await;
    bench.sign().await;
    bench.admitted(KEY).await;
    bench.provenance(&[]).await;
    for wanted in [
        "repository: 'https://github.com/acme/app'",
        "repository: 'https://github.com/Acme/*', branch: main, workflow: release.yml",
        "builder: 'https://github.com/acme/app/.github/workflows/release.yml@refs/heads/*'",
    ] {
        bench.admitted(&built(wanted)).await;
    }
    bench.rules("allow if { some a in input.attestations; a.predicateType == \"https://slsa.dev/provenance/v1\" }");
    bench.admitted(RULES).await;
    // Evidence of others changes nothing.
    bench.attach(b"junk").await;
    bench.attach(&envelope(&bench.other, &statement(&bench.digest, V1, json!({}))).await).await;
    bench.admitted(KEY).await;
}

/// What somebody writes into a bundle is told at its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_does_not_fill_the_screen() {
    let bench = Bench::new().await;
    let said = statement(&bench.digest, COSIGN_SIGN_PREDICATE, json!({}));
    for at in 0..4 {
        let long = format!("{at}{}", "x".repeat(100_000));
        bench.attach(wrap(("dsseEnvelope", dsse(&bench.key, &long, &said).await)).to_string().as_bytes()).await;
    }
    let text = chain(&bench.refused(KEY, "payload type").await);
    assert!(text.len() < 10_000, "{} bytes", text.len());
}

const APP: &str = "repository: 'https://github.com/acme/app'";

refused! {
    an_unsigned_archive: KEY, |b| {}, "no signature found";
    a_signature_by_another_key: KEY, |b| {
        b.attach(&envelope(&b.other, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await).await;
    }, "does not verify";
    a_signature_of_other_content: KEY, |b| { b.attach(message(&b.key, b"other").await.to_string().as_bytes()).await; },
        "not that of the artifact";
    a_signature_that_lies_about_its_digest: KEY, |b| {
        let mut bundle = message(&b.key, b"other").await;
        bundle["messageSignature"]["messageDigest"]["digest"] = STANDARD.encode(b.digest.as_bytes()).into();
        b.attach(bundle.to_string().as_bytes()).await;
    }, "does not verify";
    provenance_by_one_of_two_who_must_sign: format!("{BOTH}\nprovenance: {{slsa: {{{APP}}}}}"), |b| {
        b.sign().await;
        b.attach(&envelope(&b.other, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await).await;
        b.provenance(&[]).await;
    }, "1 of 2 signers signed";
    a_statement_about_something_else: KEY, |b| {
        let other = Digest::sha256_of(b"other");
        b.attach(&envelope(&b.key, &statement(&other, COSIGN_SIGN_PREDICATE, json!({}))).await).await;
    }, "the statement is about";
    a_statement_about_nothing: KEY, |b| {
        let empty = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": COSIGN_SIGN_PREDICATE});
        b.attach(&envelope(&b.key, empty.to_string().as_bytes()).await).await;
    }, "the statement is about";
    a_subject_whose_digests_contradict: KEY, |b| {
        let about = json!([{"digest": {"sha256": b.digest.hex(), "sha512": "00".repeat(64)}}]);
        let said = json!({"_type": "https://in-toto.io/Statement/v1", "subject": about, "predicateType": COSIGN_SIGN_PREDICATE});
        b.attach(&envelope(&b.key, said.to_string().as_bytes()).await).await;
    }, "the statement is about";
    a_statement_of_no_known_type: KEY, |b| {
        let text = String::from_utf8(statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).unwrap();
        b.attach(&envelope(&b.key, text.replace("Statement/v1", "Statement/v9").as_bytes()).await).await;
    }, "statement type";
    a_predicate_type_said_twice: KEY, |b| {
        let text = String::from_utf8(statement(&b.digest, "p", json!({}))).unwrap();
        let twice = text.replacen('{', &format!("{{\"predicateType\":\"{COSIGN_SIGN_PREDICATE}\","), 1);
        b.attach(&envelope(&b.key, twice.as_bytes()).await).await;
    }, "is not understood";
    a_payload_of_another_type: KEY, |b| {
        let said = statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}));
        b.attach(wrap(("dsseEnvelope", dsse(&b.key, "text/plain", &said).await)).to_string().as_bytes()).await;
    }, "payload type";
    a_payload_type_that_was_not_signed: KEY, |b| {
        let said = statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}));
        let mut signed = dsse(&b.key, "text/plain", &said).await;
        signed["payloadType"] = IN_TOTO.into();
        b.attach(wrap(("dsseEnvelope", signed)).to_string().as_bytes()).await;
    }, "does not verify";
    a_payload_that_was_changed: KEY, |b| {
        let mut signed = dsse(&b.key, IN_TOTO, &statement(&b.digest, "p", json!({}))).await;
        signed["payload"] = STANDARD.encode(statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).into();
        b.attach(wrap(("dsseEnvelope", signed)).to_string().as_bytes()).await;
    }, "does not verify";
    an_envelope_without_signatures: KEY, |b| {
        let mut signed = dsse(&b.key, IN_TOTO, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await;
        signed["signatures"] = json!([]);
        b.attach(wrap(("dsseEnvelope", signed)).to_string().as_bytes()).await;
    }, "malformed";
    an_envelope_with_two_signatures: KEY, |b| {
        let mut signed = dsse(&b.key, IN_TOTO, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await;
        signed["signatures"] = json!([{"sig": "AAAA"}, signed["signatures"][0]]);
        b.attach(wrap(("dsseEnvelope", signed)).to_string().as_bytes()).await;
    }, "malformed";
    a_bundle_with_two_contents: KEY, |b| {
        let mut bundle = message(&b.key, b"other").await;
        bundle["dsseEnvelope"] = dsse(&b.key, IN_TOTO, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await;
        b.attach(bundle.to_string().as_bytes()).await;
    }, "malformed";
    a_bundle_of_no_known_version: KEY, |b| {
        let text = message(&b.key, &b.bytes).await.to_string();
        b.attach(text.replace("v0.3", "v0.9").as_bytes()).await;
    }, "malformed";
    a_bundle_without_a_version: KEY, |b| {
        let mut bundle = message(&b.key, &b.bytes).await;
        bundle.as_object_mut().unwrap().remove("mediaType");
        b.attach(bundle.to_string().as_bytes()).await;
    }, "malformed";
    a_forged_member_in_another_case: KEY, |b| {
        let honest = dsse(&b.key, IN_TOTO, &statement(&b.digest, "p", json!({}))).await;
        let forged = dsse(&b.other, IN_TOTO, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await;
        let mut bundle = wrap(("dsseEnvelope", honest));
        bundle["DSSEEnvelope"] = forged;
        b.attach(bundle.to_string().as_bytes()).await;
    }, "is not a signature";
    a_forged_member_said_twice: KEY, |b| {
        let honest = dsse(&b.key, IN_TOTO, &statement(&b.digest, "p", json!({}))).await;
        let forged = dsse(&b.other, IN_TOTO, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await;
        let text = wrap(("dsseEnvelope", honest)).to_string();
        b.attach(text.replacen('{', &format!("{{\"dsseEnvelope\":{forged},"), 1).as_bytes()).await;
    }, "malformed";
    junk_for_a_bundle: KEY, |b| { b.attach(b"\xff junk").await; }, "malformed";
    an_attestation_for_a_signature: KEY, |b| { b.claim("https://spdx.dev/Document", json!({})).await; }, "is not a signature";
    provenance_for_a_signature: KEY, |b| { b.provenance(&[]).await; }, "is not a signature";
    a_key_without_a_log: LOGGED, |b| { b.sign().await; }, "no transparency log entry";
    a_key_where_a_workflow_is_asked_for: GITHUB, |b| { b.sign().await; }, "made with a managed key";
    a_key_where_a_person_is_asked_for: NAMED, |b| { b.sign().await; }, "made with a managed key";
    one_signer_for_two: BOTH, |b| {
        b.sign().await;
        b.attach(message(&b.key, &b.bytes).await.to_string().as_bytes()).await;
    }, "1 of 2 signers signed";
    a_key_past_its_time: "signature: {key: {path: key.pub, transparency_log: none, not_after: '2020-01-01T00:00:00Z'}}",
        |b| { b.sign().await; }, "outside of the time";
    a_key_before_its_time: "signature: {key: {path: key.pub, transparency_log: none, not_before: '2120-01-01T00:00:00Z'}}",
        |b| { b.sign().await; }, "outside of the time";
    two_statements_that_only_together_satisfy: built("repository: 'https://github.com/acme/app', branch: main"), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/ref", json!("refs/heads/evil"))]).await;
        b.provenance(&[("/buildDefinition/externalParameters/workflow/repository", json!("https://github.com/evil/app"))]).await;
    }, "is not among those asked for";
    a_policy_met_by_half: format!("{KEY}\n{}", built(APP)), |b| { b.sign().await; }, "is not the provenance asked for";

    a_referrer_of_something_else: KEY, |b| {
        let signed = b.blob(&envelope(&b.key, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await, BUNDLE_ARTIFACT_TYPE).await;
        let foreign = Descriptor::of(media_type::IMAGE_MANIFEST, b"other");
        let listed = b.refer(foreign, BUNDLE_ARTIFACT_TYPE, vec![signed]).await;
        *b.hostile.referrers.lock().unwrap() = Referrers::These(vec![listed]);
    }, "no signature found";
    a_referrer_that_is_gone: KEY, |b| {
        let gone = Descriptor::of(media_type::IMAGE_MANIFEST, b"gone");
        *b.hostile.referrers.lock().unwrap() = Referrers::These(vec![gone]);
    }, "no signature found";
    a_list_of_other_kinds: KEY, |b| {
        let layer = b.blob(b"{}", "application/json").await;
        let other = b.refer(b.subject(), "application/x", vec![layer]).await;
        *b.hostile.referrers.lock().unwrap() = Referrers::These(vec![other]);
    }, "no signature found";
    a_bundle_of_another_artifact_type: KEY, |b| {
        let layer = b.blob(&envelope(&b.key, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await, BUNDLE_ARTIFACT_TYPE).await;
        b.refer(b.subject(), "application/x", vec![layer]).await;
    }, "no signature found";
    a_layer_of_another_type: KEY, |b| {
        let layer = b.blob(&envelope(&b.key, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await, "text/plain").await;
        b.refer(b.subject(), BUNDLE_ARTIFACT_TYPE, vec![layer]).await;
    }, "a layer of type";
    too_many_layers: KEY, |b| {
        let layer = b.blob(b"x", BUNDLE_ARTIFACT_TYPE).await;
        b.refer(b.subject(), BUNDLE_ARTIFACT_TYPE, vec![layer; 9]).await;
    }, "9 layers";
    a_referrer_that_is_an_index: KEY, |b| {
        let mut index = ImageIndex::new(Vec::new());
        index.subject = Some(b.subject());
        index.artifact_type = Some(BUNDLE_ARTIFACT_TYPE.into());
        b.inner().push_manifest(&b.repository, PushManifest::new(media_type::IMAGE_INDEX, index.to_bytes())).await.unwrap();
    }, "a referrer of type";
    too_many_bundles: KEY, |b| {
        for at in 0..65 { b.attach(format!("{{{at}").as_bytes()).await; }
    }, "over the limit";
    a_hundred_thousand_referrers: KEY, |b| {
        let one = b.sign().await;
        *b.hostile.referrers.lock().unwrap() = Referrers::Many(Box::new(one), 100_000);
    }, "more than 256 referrers";
    pages_without_end: KEY, |b| { *b.hostile.referrers.lock().unwrap() = Referrers::Endless; }, "page";
    a_gigabyte_for_a_bundle: KEY, |b| {
        let mut layer = b.blob(b"x", BUNDLE_ARTIFACT_TYPE).await;
        layer.size = 1 << 30;
        b.refer(b.subject(), BUNDLE_ARTIFACT_TYPE, vec![layer]).await;
    }, "bytes, more than";
    a_bundle_larger_than_it_says: KEY, |b| {
        let signed = envelope(&b.key, &statement(&b.digest, COSIGN_SIGN_PREDICATE, json!({}))).await;
        let layer = b.blob(&signed, BUNDLE_ARTIFACT_TYPE).await;
        b.hostile.blobs.lock().unwrap().insert(layer.digest, vec![b' '; 64 << 20].into());
        b.refer(b.subject(), BUNDLE_ARTIFACT_TYPE, vec![layer]).await;
    }, "cannot tell";
    a_bundle_that_is_another: KEY, |b| {
        let listed = Digest::sha256_of(b"listed!");
        let mut layer = b.blob(b"listed!", BUNDLE_ARTIFACT_TYPE).await;
        layer.size = 7;
        b.hostile.blobs.lock().unwrap().insert(listed, Bytes::from_static(b"served!"));
        b.refer(b.subject(), BUNDLE_ARTIFACT_TYPE, vec![layer]).await;
    }, "cannot tell";
    a_referrer_that_is_another_each_time: KEY, |b| {
        let listed = b.sign().await;
        b.hostile.manifests.lock().unwrap().insert(listed.digest, (1, Bytes::from_static(b"{}")));
    }, "cannot tell";
    a_registry_that_fails: KEY, |b| {
        b.sign().await;
        *b.hostile.referrers.lock().unwrap() = Referrers::Fail(ErrorCode::Denied);
    }, "cannot tell";
    an_older_form_of_signature: KEY, |b| {
        let empty = b.blob(b"{}", media_type::EMPTY).await;
        let manifest = ImageManifest::artifact("application/x", vec![empty]).to_bytes();
        let tag = Tag::new(&format!("sha256-{}.sig", b.digest.hex())).unwrap();
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest).with_tags([tag]);
        b.inner().push_manifest(&b.repository, push).await.unwrap();
    }, "cosign's older form";

    unsigned_provenance: built(APP), |b| {
        let bare = json!({"payloadType": IN_TOTO, "payload": STANDARD.encode(statement(&b.digest, V1, honest_build())), "signatures": []});
        let layer = b.blob(bare.to_string().as_bytes(), IN_TOTO).await;
        b.refer(b.subject(), IN_TOTO, vec![layer]).await;
    }, "no signature found";
    unsigned_provenance_in_a_bundle: built(APP), |b| {
        let said = STANDARD.encode(statement(&b.digest, V1, honest_build()));
        let bare = json!({"payloadType": IN_TOTO, "payload": said, "signatures": [{"sig": ""}]});
        b.attach(wrap(("dsseEnvelope", bare)).to_string().as_bytes()).await;
    }, "does not verify";
    provenance_forged_by_another: built(APP), |b| {
        b.attach(&envelope(&b.other, &statement(&b.digest, V1, honest_build())).await).await;
    }, "does not verify";
    provenance_of_another_archive: built(APP), |b| {
        b.attach(&envelope(&b.key, &statement(&Digest::sha256_of(b"other"), V1, honest_build())).await).await;
    }, "the statement is about";
    a_signature_for_provenance: built(APP), |b| { b.sign().await; }, "is not the provenance asked for";
    provenance_of_a_neighbour: built(APP), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/repository", json!("https://github.com/acme/app-evil"))]).await;
    }, "the source is https://github.com/acme/app-evil";
    provenance_of_a_neighbour_by_wildcard: built("repository: 'https://github.com/acme/*'"), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/repository", json!("https://github.com/acme-evil/app"))]).await;
    }, "the source is https://github.com/acme-evil/app";
    provenance_of_a_neighbour_by_expression: built("repository_regex: 'https://github\\.com/acme/app'"), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/repository", json!("https://github.com/acme/app-evil"))]).await;
    }, "the source is https://github.com/acme/app-evil";
    provenance_of_another_host: built(APP), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/repository", json!("https://github.com.evil.example/acme/app"))]).await;
    }, "the source is https://github.com.evil.example/acme/app";
    provenance_with_an_odd_source: built(APP), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/repository", json!("https://github.com/acme/app?x"))]).await;
    }, "is odd";
    provenance_without_a_source: built(APP), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/repository", Value::Null)]).await;
    }, "names no source repository";
    provenance_of_another_branch: built("repository: 'https://github.com/acme/app', branch: release/*"), |b| { b.provenance(&[]).await; },
        "is not among those asked for";
    a_tag_named_like_the_branch: built("repository: 'https://github.com/acme/app', branch: main"), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/ref", json!("refs/tags/main"))]).await;
    }, "is not among those asked for";
    provenance_without_a_ref: built("repository: 'https://github.com/acme/app', branch: main"), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/ref", Value::Null)]).await;
    }, "names no source ref";
    provenance_with_two_refs: built("repository: 'https://github.com/acme/app', branch: main"), |b| {
        b.provenance(&[("/buildDefinition/externalParameters/workflow/repository", json!("git+https://github.com/acme/app@refs/heads/evil"))]).await;
    }, "names two refs";
    provenance_of_another_builder: built("builder: 'https://github.com/acme/app/.github/workflows/other.yml@**'"), |b| { b.provenance(&[]).await; },
        "the builder is";
    a_builder_that_begins_alike: built("builder: 'https://github.com/acme/app/.github/workflows/release.yml@**'"), |b| {
        b.provenance(&[("/runDetails/builder/id", json!("https://github.com/acme/app/.github/workflows/release.yml.evil@refs/heads/main"))]).await;
    }, "the builder is";
    provenance_without_a_builder: built(APP), |b| { b.provenance(&[("/runDetails/builder/id", json!(""))]).await; }, "names no builder";
    a_builder_that_is_no_text: built(APP), |b| { b.provenance(&[("/runDetails/builder/id", json!(["x"]))]).await; }, "is not a string";
    provenance_of_another_workflow: built("repository: 'https://github.com/acme/app', workflow: publish.yml"), |b| { b.provenance(&[]).await; },
        "the workflow is";
    provenance_of_an_old_version: built(APP), |b| {
        b.claim(V02, json!({"builder": {"id": "https://github.com/x"}, "invocation": {"configSource": {"uri": "git+https://github.com/acme/app@refs/heads/main"}}})).await;
    }, "is not the provenance asked for";
    provenance_with_github_by_a_key: "provenance: {slsa: {repository: acme/app}, signer: {key: {path: key.pub, transparency_log: none}}}",
        |b| { b.provenance(&[]).await; }, "signed with a key, not by GitHub Actions";

    rules_that_nothing_satisfies: RULES, |b| { b.rules("default allow := false"); b.sign().await; }, "do not allow";
    rules_that_deny: RULES, |b| { b.rules("allow := true\ndeny contains \"too old\""); b.sign().await; }, "too old";
    rules_that_deny_by_yes: RULES, |b| { b.rules("allow := true\ndeny := true"); b.sign().await; }, "true";
    rules_that_only_deny: RULES, |b| { b.rules("deny contains \"x\" if false"); b.sign().await; }, "do not allow";
    rules_that_fail: RULES, |b| { b.rules("allow if to_number(\"x\") > 0"); b.sign().await; }, "the rules failed";
    rules_that_call_out: RULES, |b| {
        b.rules("allow := http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:1\"}).status_code == 200");
        b.sign().await;
    }, "the rules failed";
    rules_over_what_another_claims: RULES, |b| {
        b.rules("allow if { some a in input.attestations; a.predicate.good }");
        b.attach(&envelope(&b.other, &statement(&b.digest, "p", json!({"good": true}))).await).await;
    }, "do not allow";
    rules_over_a_signature_that_is_claimed: RULES, |b| {
        b.rules("allow if { some a in input.attestations; a.signature.issuer == \"https://accounts.google.com\" }");
        let mut said: Value = serde_json::from_slice(&statement(&b.digest, "p", json!({}))).unwrap();
        said["signature"] = json!({"issuer": "https://accounts.google.com"});
        b.attach(&envelope(&b.key, said.to_string().as_bytes()).await).await;
    }, "do not allow";
    an_older_release_under_a_new_tag: RULES, |b| {
        b.rules("allow if { some a in input.attestations; a.subject[_].annotations.release == \"2.0\" }");
        let statement = Statement::signature(b.digest).annotation("release", "1.0");
        b.attach(&envelope(&b.key, &statement.to_bytes()).await).await;
    }, "do not allow";
    rules_while_evidence_is_withheld: RULES, |b| {
        b.rules("allow := true");
        let listed = b.sign().await;
        b.hostile.manifests.lock().unwrap().insert(listed.digest, (1, Bytes::from_static(b"{}")));
    }, "cannot tell";
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_told_by_its_cause() {
    let bench = Bench::new().await;
    bench.sign().await;
    for (code, kind) in
        [(ErrorCode::Denied, ErrorKind::Authentication), (ErrorCode::TooManyRequests, ErrorKind::Network)]
    {
        *bench.hostile.referrers.lock().unwrap() = Referrers::Fail(code);
        let retry = blob::http::RetryPolicy::default().with_max_attempts(1);
        let client = Client::builder().policies_from(bench.set(KEY)).retry(retry).build().unwrap();
        let error = client.fetch(&bench.location()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{}", chain(&error));
    }
    *bench.hostile.referrers.lock().unwrap() = Referrers::Honest;
    assert_eq!(bench.refused(GITHUB, "").await.kind(), ErrorKind::Verification);
    bench.admitted(EITHER).await;
}

/// Whether a client opens the archive.
async fn opens(client: &Client, location: &Location) -> bool {
    client.fetch(location).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_holds_for_what_it_was_about_and_nothing_else() {
    let bench = Bench::new().await;
    let signed = bench.sign().await;
    let cache = TempDir::new().unwrap();
    let client =
        |policy: &str| Client::builder().policies_from(bench.set(policy)).cache_dir(cache.path()).build().unwrap();
    assert!(opens(&client(KEY), &bench.location()).await);
    // From now on nothing can be verified.
    *bench.hostile.referrers.lock().unwrap() = Referrers::Fail(ErrorCode::Denied);
    assert!(opens(&client(KEY), &bench.location()).await, "the verdict is remembered");
    assert!(!opens(&client(EITHER), &bench.location()).await, "another policy");
    assert!(!opens(&client(&format!("{KEY}\n{}", built(APP))), &bench.location()).await, "more is asked for");
    fs::write(bench.dir.path().join("key.pub"), bench.other.public_key().to_der()).unwrap();
    assert!(!opens(&client(KEY), &bench.location()).await, "another key in the same file");
    fs::write(bench.dir.path().join("key.pub"), bench.key.public_key().to_der()).unwrap();
    assert!(opens(&client(KEY), &bench.location()).await);
    let pinned = bench.location().with_target(bench.digest.into());
    assert!(!opens(&client(KEY), &pinned).await, "another reference");
    let mut skip = PullOptions::default();
    skip.skip_cache = true;
    assert!(client(KEY).pull(&bench.location(), &skip).await.is_err());
    let forgetful = Client::builder().policies_from(bench.set(KEY)).cache_dir(cache.path());
    let forgetful = forgetful.verdict_ttl(std::time::Duration::ZERO).build().unwrap();
    assert!(!opens(&forgetful, &bench.location()).await);
    // A refusal is never remembered.
    *bench.hostile.referrers.lock().unwrap() = Referrers::These(vec![signed]);
    assert!(opens(&client(EITHER), &bench.location()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_was_swapped_is_no_archive() {
    let bench = Bench::new().await;
    bench.sign().await;
    bench.admitted(KEY).await;
    bench.hostile.manifests.lock().unwrap().insert(bench.digest, (1, Bytes::from_static(b"{\"schemaVersion\":2}")));
    let client = Client::builder().policies_from(bench.set(KEY)).build().unwrap();
    let pinned = bench.location().with_target(bench.digest.into());
    let error = client.pull(&pinned, &PullOptions::default()).await.map(drop).unwrap_err();
    assert!(error.is_hash_mismatch(), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_genuine_signature_of_another_archive_is_none_of_this_one() {
    let bench = Bench::new().await;
    let good = b"the good archive";
    bench.attach(message(&bench.key, good).await.to_string().as_bytes()).await;
    // A second request for the manifest would be answered with what was signed; none is made.
    bench.hostile.manifests.lock().unwrap().insert(bench.digest, (2, Bytes::from_static(good)));
    let client = Client::builder().policies_from(bench.set(KEY)).build().unwrap();
    let error = client.pull(&bench.location(), &PullOptions::default()).await.map(drop).unwrap_err();
    assert!(chain(&error).contains("not that of the artifact"), "{}", chain(&error));
}
