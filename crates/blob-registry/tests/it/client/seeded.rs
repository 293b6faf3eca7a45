//! Every lie of the test kit, drawn from a seed, between the client and an honest registry.

use std::sync::Arc;
use std::time::Duration;

use blob_core::{Digest, MemorySource};
use blob_http::RetryPolicy;
use blob_registry::client::{Credential, RegistryClient, Static};
use blob_registry::server::Auth;
use blob_registry::{
    ImageManifest, MemoryRegistry, PageRequest, PushBlob, PushManifest, Registry, RegistryError, RegistryExt as _,
    Server, media_type,
};
use blob_testkit::hostile::{Reply, Script, Seen, lies};
use blob_testkit::proxy::{Faults, Proxy, ProxyOptions};

use super::{builder, by_tag, everything, noise, repository, tag, whole};

const NAME: &str = "team/app";

/// Longer than any run takes; a run that has not ended then hangs.
const FOR_EVER: Duration = Duration::from_mins(2);

struct Stock {
    registry: Arc<MemoryRegistry>,
    content: Vec<u8>,
    digest: Digest,
    manifest: PushManifest,
}

/// A registry with a blob, an artifact under a tag, and one that refers to it.
async fn stock() -> Stock {
    let (registry, name, content) = (Arc::new(MemoryRegistry::new()), repository(NAME), noise(100_000));
    let digest = Digest::sha256_of(&content);
    let push = PushBlob::new(digest, Arc::new(MemorySource::new(content.clone())));
    registry.push_blob(&name, push).await.unwrap();
    registry.ensure_empty_config(&name).await.unwrap();
    let manifest = PushManifest::new(media_type::IMAGE_MANIFEST, ImageManifest::artifact("a/b", vec![]).to_bytes());
    registry.push_manifest(&name, manifest.clone().with_tags([tag("v1"), tag("v2")])).await.unwrap();
    registry.push_manifest(&name, referrer(&manifest, "old")).await.unwrap();
    Stock { registry, content, digest, manifest }
}

fn referrer(subject: &PushManifest, mark: &str) -> PushManifest {
    let mut manifest = ImageManifest::artifact("a/signature", vec![]).with_annotation("mark", mark);
    manifest.subject = Some(crate::kit::descriptor(subject));
    PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes())
}

/// What one run did: how many calls ended well.
#[derive(Debug, Default)]
struct Run {
    well: usize,
    errors: Vec<RegistryError>,
}

impl Run {
    fn note<T>(&mut self, result: Result<T, RegistryError>) -> Option<T> {
        match result {
            Ok(answer) => {
                self.well += 1;
                Some(answer)
            }
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }
}

/// Everything that a client does; whatever ends well must be right.
async fn everything_once(client: &RegistryClient, stock: &Stock, seed: u64) -> Run {
    let (name, mut run, Stock { content, digest, manifest, .. }) = (repository(NAME), Run::default(), stock);
    if let Some(reader) = run.note(client.read_blob(&name, digest, None).await)
        && let Ok(read) = whole(reader).await
    {
        assert!(read == *content, "seed {seed}: a whole blob is right or an error");
    }
    if let Some(found) = run.note(client.manifest(&name, &manifest.digest.into()).await) {
        assert_eq!(found.bytes, manifest.bytes, "seed {seed}: a manifest by digest is right or an error");
    }
    if let Some(found) = run.note(client.manifest(&name, &by_tag("v1")).await) {
        let says = Digest::sha256_of(&found.bytes);
        assert_eq!(found.descriptor.digest, says, "seed {seed}: a manifest by tag has the digest that is said of it");
    }
    run.note(client.resolve(&name, &manifest.digest.into()).await);
    run.note(client.stat_blob(&name, digest).await);
    run.note(client.tags(&name, &PageRequest::first()).await);
    run.note(client.referrers(&name, &manifest.digest, None, &PageRequest::first()).await);
    let more = noise(50_000 + usize::try_from(seed).unwrap());
    let push = PushBlob::new(Digest::sha256_of(&more), Arc::new(MemorySource::new(more.clone())));
    if let Some(how) = run.note(client.push_blob(&name, push).await) {
        run.note(stock.registry.stat_blob(&name, &Digest::sha256_of(&more)).await)
            .unwrap_or_else(|| panic!("seed {seed}: {how:?}, and the registry has it not"));
    }
    let push = referrer(manifest, &seed.to_string());
    if let Some(pushed) = run.note(client.push_manifest(&name, push.clone()).await) {
        assert_eq!(pushed.digest, push.digest, "seed {seed}");
    }
    run
}

/// Neither wrong bytes nor a hang, no credentials elsewhere or in an error, whatever the registry says; and what it says
/// only now and then is got over.
#[tokio::test(flavor = "multi_thread")]
async fn lies_never_become_content() {
    let stock = stock().await;
    let auth = Auth::basic("r").user("ann", "canary-password");
    let server = Server::builder(stock.registry.clone()).auth(auth).bind("127.0.0.1:0").await.unwrap();
    let elsewhere = Script::start(|_| Reply::new(200).json(r#"{"token":"stolen"}"#)).await;
    let (mut well, mut failed) = (0, 0);
    for seed in 0..16 {
        let faults = Faults::seeded(seed, 2, lies(&elsewhere.addr.to_string()));
        let proxy = Proxy::start(server.local_addr(), ProxyOptions { faults, ..ProxyOptions::default() }).unwrap();
        let credentials = Static::new().with(proxy.addr().to_string(), Credential::basic("ann", "canary-password"));
        let retry = RetryPolicy::default().with_max_attempts(4).with_backoff(Duration::ZERO, Duration::from_millis(2));
        let client = builder(proxy.addr()).credentials(credentials).retry(retry).build().unwrap();
        let run = tokio::time::timeout(FOR_EVER, everything_once(&client, &stock, seed)).await;
        let run = run.unwrap_or_else(|_| panic!("seed {seed} hangs: {:#?}", proxy.requests()));
        for error in &run.errors {
            let text = everything(error);
            assert!(!text.contains("canary-password") && !text.contains("YW5uOmNhbmFyeS"), "seed {seed}: {text}");
        }
        well += run.well;
        failed += run.errors.len();
    }
    // A token service that the registry names may be elsewhere, and gets what it asks for; content never does.
    let shown = |seen: &Seen| seen.header("authorization").is_some_and(|value| value != "Bearer stolen");
    let leaked: Vec<_> = elsewhere.seen().into_iter().filter(|seen| seen.path != "/token" && shown(seen)).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
    assert!(!elsewhere.seen().is_empty(), "the lies led there");
    // The faults are drawn for every other request: with none overcome, hardly a run of several requests would end well.
    assert!(well > failed && failed > 0, "{well} calls ended well, {failed} did not");
}
