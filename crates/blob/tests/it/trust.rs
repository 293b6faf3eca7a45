//! Signing, verifying, and what it costs.

use std::sync::Arc;

use async_trait::async_trait;
use blob::policy::sign::{
    IdentityToken, KeyedSigner, KeylessSigner, Services, SignError, SignedBundle, Signer, Statement,
};
use blob::policy::sigstore::TrustRoot;
use blob::policy::{BundleEvidence, Evidence};
use blob::registry::{PageRequest, PushManifest, Tag, media_type};
use blob::{Client, Location, PullOptions, PushOptions, SignOptions, SignWith, VerifyOptions};
use blob_testkit::proxy::ProxyOptions;
use blob_testkit::sigstore::{Instance, Person};
use bytes::Bytes;
use serde_json::json;

use crate::bypass::{Bench, chain};
use crate::support::{at, client, proxy, serve, tree};

const KEY: &str = "signature: {key: {path: key.pub, transparency_log: none}}";

#[tokio::test(flavor = "multi_thread")]
async fn verification_costs_three_requests_beside_the_manifest() {
    let (server, files) = (serve().await, tree(71, 3));
    let bench = Bench::new().await;
    let mut options = PushOptions::default();
    options.sign = Some(SignWith::new(Arc::new(KeyedSigner::new(bench.key.clone()))));
    client().push(&at(server.local_addr(), "v1"), files.path(), &options).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let rules = "allow if { some s in input.signatures; startswith(input.manifest.reference, \"127.0.0.1\") }";
    bench.rules(rules);
    // Several policies read the evidence once.
    let policies = format!("{KEY}\nrego: {{modules: rules.rego}}\n");
    let judged = Client::builder().policies_from(bench.set(&policies)).build().unwrap();
    let opened = judged.pull(&at(proxy.addr(), "v1"), &PullOptions::default()).await;
    let archive = opened.unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(archive.manifest().report().unwrap().checks.len(), 2);
    let asked = proxy.take();
    assert!(asked.len() <= 1 + 3, "{asked:?}");
    // A verdict that was just reached costs nothing.
    judged.pull(&at(proxy.addr(), "v1"), &PullOptions::default()).await.unwrap();
    assert_eq!(proxy.take().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_again_changes_nothing_and_says_so() {
    let bench = Bench::new().await;
    let (signer, location) = (KeyedSigner::new(bench.key.clone()), bench.location());
    let mut options = SignOptions::default();
    let first = client().sign(&location, &signer, &options).await.unwrap();
    assert!(first.bundle.is_some() && first.subject.digest == bench.digest);
    let second = client().sign(&location, &signer, &options).await.unwrap();
    assert!(second.bundle.is_none());
    assert_eq!(second.referrer, first.referrer);
    // Another key, other annotations, and the plain form are something else.
    let other = KeyedSigner::new(bench.other.clone());
    assert!(client().sign(&location, &other, &options).await.unwrap().bundle.is_some());
    options.annotations.insert("release".into(), "1".into());
    assert!(client().sign(&location, &signer, &options).await.unwrap().bundle.is_some());
    assert!(client().sign(&location, &signer, &options).await.unwrap().bundle.is_none());
    options.annotations.clear();
    options.message = true;
    assert!(client().sign(&location, &signer, &options).await.unwrap().bundle.is_some());
    assert!(client().sign(&location, &signer, &options).await.unwrap().bundle.is_none());
    options.again = true;
    options.no_upload = true;
    let kept = client().sign(&location, &signer, &options).await.unwrap();
    assert!(kept.bundle.is_some() && kept.referrer.is_none());
    bench.admitted(KEY).await;
}

/// Workloads whose token does not say what their certificate will: who they are shows before anything is published.
#[tokio::test(flavor = "multi_thread")]
async fn signing_again_as_a_workload_of_any_kind_changes_nothing() {
    let instance = Instance::start().unwrap();
    let root = TrustRoot::from_json(instance.trusted_root().as_bytes()).unwrap();
    let services = Services::from_signing_config(instance.signing_config(false).as_bytes(), None).unwrap();
    let entries = || instance.requests().iter().filter(|asked| asked.ends_with("/log/entries")).count();
    let bench = Bench::new().await;
    let (options, mut made) = (SignOptions::default(), 0);
    for person in [
        Person::kubernetes("team", "builder"),
        Person::kubernetes("team", "other"),
        Person::circleci("org-1", "project-1"),
        Person::circleci("org-2", "project-1"),
        Person::email("https://accounts.google.com", "builder@project.iam.gserviceaccount.com"),
    ] {
        let token = Arc::new(IdentityToken::new(&person.token()).unwrap());
        let signer = KeylessSigner::new(services.clone(), root.clone(), token).unwrap();
        let first = client().sign(&bench.location(), &signer, &options).await.unwrap();
        assert!(first.bundle.is_some(), "nobody else's signature is as good: {person:?}");
        made += 1;
        let again = client().sign(&bench.location(), &signer, &options).await.unwrap();
        assert!(again.bundle.is_none() && again.referrer == first.referrer, "{person:?}");
        let scan = "https://example.com/scan/v1";
        let attested = client().attest(&bench.location(), &signer, scan, json!({}), &options).await.unwrap();
        assert!(attested.bundle.is_some(), "another statement is another thing: {person:?}");
        made += 1;
        assert_eq!(entries(), made, "{person:?}");
        let mut anew = SignOptions::default();
        anew.again = true;
        assert!(client().sign(&bench.location(), &signer, &anew).await.unwrap().bundle.is_some());
        made += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_are_claims_of_their_type() {
    let bench = Bench::new().await;
    let signer = KeyedSigner::new(bench.key.clone());
    let options = SignOptions::default();
    let kind = "https://example.com/scan/v1";
    let made = client().attest(&bench.location(), &signer, kind, json!({"found": 0}), &options).await.unwrap();
    assert!(made.bundle.is_some());
    let again = client().attest(&bench.location(), &signer, kind, json!({"found": 0}), &options).await.unwrap();
    assert!(again.bundle.is_none());
    bench.rules("allow if { some a in input.attestations; a.predicate.found == 0 }");
    bench.admitted("rego: {modules: rules.rego, signer: {key: {path: key.pub, transparency_log: none}}}").await;
    for (kind, predicate) in [("no uri", json!({})), (kind, json!([1]))] {
        let error = client().attest(&bench.location(), &signer, kind, predicate, &options).await.unwrap_err();
        assert_eq!(error.kind(), blob::ErrorKind::Usage, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_signed_before_the_tag_points_at_it() {
    let (server, files) = (serve().await, tree(72, 3));
    let bench = Bench::new().await;
    let location = at(server.local_addr(), "v1");
    let mut options = PushOptions::default();
    options.sign = Some(SignWith::new(Arc::new(KeyedSigner::new(bench.key.clone()))));
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let pushed = client().push(&at(proxy.addr(), "v1"), files.path(), &options).await.unwrap();
    assert_eq!(pushed.signed.as_ref().unwrap().subject.digest, *pushed.digest());
    let puts: Vec<String> =
        proxy.take().iter().filter(|seen| seen.method == "PUT").map(|seen| seen.path.clone()).collect();
    let manifests: Vec<_> = puts.iter().filter(|target| target.contains("/manifests/")).collect();
    assert!(manifests.last().unwrap().ends_with("/manifests/v1"), "{manifests:?}");
    assert_eq!(manifests.iter().filter(|target| target.ends_with("/manifests/v1")).count(), 1, "{manifests:?}");
    // Somebody else moves the tag; signing what was pushed still signs that.
    let other = tree(73, 2);
    client().push(&location, other.path(), &PushOptions::default()).await.unwrap();
    let pinned = location.with_target((*pushed.digest()).into());
    let judged = Client::builder().policies_from(bench.set(KEY)).build().unwrap();
    judged.fetch(&pinned).await.unwrap();
    judged.fetch(&location).await.map(drop).unwrap_err();
    // Pushing the same again does not pile signatures up.
    let again = client().push(&location, files.path(), &options).await.unwrap();
    let (registry, repository) = client().registry(&location).await.unwrap();
    let found = registry.referrers(&repository, again.digest(), None, &PageRequest::first()).await.unwrap();
    let unchanged = client().push(&location, files.path(), &options).await.unwrap();
    assert!(unchanged.unchanged && unchanged.signed.unwrap().bundle.is_none());
    let later = registry.referrers(&repository, again.digest(), None, &PageRequest::first()).await.unwrap();
    assert_eq!(found.items.len(), later.items.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_reports_every_policy_and_takes_evidence_from_files() {
    let bench = Bench::new().await;
    let signer = KeyedSigner::new(bench.key.clone());
    let mut options = SignOptions::default();
    options.no_upload = true;
    let made = client().sign(&bench.location(), &signer, &options).await.unwrap();
    let policies = format!("{KEY}\nprovenance: {{slsa: {{repository: acme/app}}}}\n");
    let judged = Client::builder().policies_from(bench.set(&policies)).build().unwrap();
    let mut verify = VerifyOptions::default();
    let none = judged.verify(&bench.location(), &verify).await.unwrap();
    assert_eq!(none.outcomes().iter().filter(|outcome| outcome.verdict.is_err()).count(), 2);
    let bundles: Arc<dyn Evidence> = Arc::new(BundleEvidence::new([made.bundle.unwrap().bytes().clone()]));
    verify.evidence = Some(bundles);
    let half = judged.verify(&bench.location(), &verify).await.unwrap();
    assert!(half.outcomes()[0].verdict.is_ok() && half.outcomes()[1].verdict.is_err());
    assert!(!half.is_admitted() && half.into_error().unwrap().is_policy_violation());
    let nothing = client().verify(&bench.location(), &verify).await.map(drop).unwrap_err();
    assert!(nothing.is_policy_violation());
}

/// Signs with a key, once somebody else has pointed the tag at something else.
#[derive(Debug)]
struct Overtaken {
    signer: KeyedSigner,
    location: Location,
    theirs: tempfile::TempDir,
}

#[async_trait]
impl Signer for Overtaken {
    async fn sign(&self, statement: &Statement) -> Result<SignedBundle, SignError> {
        client().push(&self.location, self.theirs.path(), &PushOptions::default()).await.unwrap();
        self.signer.sign(statement).await
    }

    async fn sign_message(&self, message: &Bytes) -> Result<SignedBundle, SignError> {
        self.signer.sign_message(message).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_while_somebody_signs_moves_no_signature() {
    let (server, ours) = (serve().await, tree(74, 3));
    let (bench, location) = (Bench::new().await, at(server.local_addr(), "v1"));
    let overtaken = |seed| Overtaken {
        signer: KeyedSigner::new(bench.key.clone()),
        location: location.clone(),
        theirs: tree(seed, 2),
    };
    let judged = Client::builder().policies_from(bench.set(KEY)).build().unwrap();
    // Between push and signature: what was pushed is signed, and the tag is pointed at that.
    let mut options = PushOptions::default();
    options.sign = Some(SignWith::new(Arc::new(overtaken(75))));
    let pushed = client().push(&location, ours.path(), &options).await.unwrap();
    assert_eq!(pushed.signed.as_ref().unwrap().subject.digest, *pushed.digest());
    assert_eq!(judged.fetch(&location).await.unwrap().digest(), pushed.digest());
    // While a tag is signed: what it named when it was asked is signed, and said to be.
    let signed = client().sign(&location, &overtaken(76), &SignOptions::default()).await.unwrap();
    assert_eq!(signed.subject.digest, *pushed.digest());
    let error = judged.fetch(&location).await.map(drop).unwrap_err();
    assert!(chain(&error).contains("no signature found"), "{}", chain(&error));
}

/// The registry holds the same files and annotations, in a manifest that says one thing more.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_is_not_signed_for_being_alike() {
    let (server, files) = (serve().await, tree(77, 3));
    let (bench, location) = (Bench::new().await, at(server.local_addr(), "v1"));
    let mut options = PushOptions::default();
    let honest = client().push(&location, files.path(), &options).await.unwrap();
    let (registry, repository) = client().registry(&location).await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(honest.manifest.as_bytes()).unwrap();
    let changes: [(&str, serde_json::Value); 5] = [
        ("/layers/0/annotations", json!({"note": "run me"})),
        ("/layers/1/urls", json!(["https://evil.example/data"])),
        ("/config/annotations", json!({"note": "run me"})),
        (
            "/subject",
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": bench.digest.to_string(), "size": 7}),
        ),
        ("/annotations/org.opencontainers.image.created", json!("2024-01-15 10:30:00+00:00[Etc/UTC]")),
    ];
    for (pointer, value) in changes {
        let mut changed = document.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[name] = value;
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, changed.to_string());
        let theirs = registry.push_manifest(&repository, push.with_tags([Tag::new("v1").unwrap()])).await.unwrap();
        // Nothing is to be done for who only pushes: files and annotations are the same.
        options.sign = None;
        assert!(client().push(&location, files.path(), &options).await.unwrap().unchanged, "{pointer}");
        options.sign = Some(SignWith::new(Arc::new(KeyedSigner::new(bench.key.clone()))));
        let signed = client().push(&location, files.path(), &options).await.unwrap();
        assert!(!signed.unchanged && *signed.digest() != theirs.digest, "{pointer}");
        let judged = Client::builder().policies_from(bench.set(KEY)).build().unwrap();
        judged.fetch(&location).await.unwrap();
        judged.fetch(&location.with_target(theirs.digest.into())).await.map(drop).unwrap_err();
        // Ours, made earlier, is signed as it is.
        assert!(client().push(&location, files.path(), &options).await.unwrap().unchanged, "{pointer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_believes_no_remembered_tag() {
    let (server, old, new) = (serve().await, tree(78, 2), tree(79, 2));
    let (bench, location) = (Bench::new().await, at(server.local_addr(), "v1"));
    let cache = tempfile::tempdir().unwrap();
    let remembering = Client::builder().cache_dir(cache.path()).build().unwrap();
    let first = remembering.push(&location, old.path(), &PushOptions::default()).await.unwrap();
    // Another machine moves the tag; this one remembers where it pointed.
    let second = client().push(&location, new.path(), &PushOptions::default()).await.unwrap();
    assert_eq!(remembering.fetch(&location).await.unwrap().digest(), first.digest());
    let signer = KeyedSigner::new(bench.key.clone());
    let signed = remembering.sign(&location, &signer, &SignOptions::default()).await.unwrap();
    assert_eq!(signed.subject.digest, *second.digest());
}

/// What was signed with annotations is admitted where rules want them; otherwise it is the test of a refusal that lies.
#[tokio::test(flavor = "multi_thread")]
async fn annotations_under_a_signature_are_seen_by_rules() {
    let bench = Bench::new().await;
    bench.rules("allow if { some a in input.attestations; a.subject[_].annotations.release == \"2.0\" }");
    let mut options = SignOptions::default();
    options.annotations.insert("release".into(), "2.0".into());
    client().sign(&bench.location(), &KeyedSigner::new(bench.key.clone()), &options).await.unwrap();
    bench.admitted("rego: {modules: rules.rego, signer: {key: {path: key.pub, transparency_log: none}}}").await;
}
