//! Mirrors are for reading: what is written or deleted, and what decides about that, is the registry's alone.

use std::sync::Arc;

use blob::policy::sign::{KeyKind, KeyedSigner, LocalKey};
use blob::registry::{Tag, Target};
use blob::{Client, CopyOptions, Mirror, PullOptions, PushOptions, RegistryOptions, SignOptions};
use blob_testkit::proxy::ProxyOptions;

use crate::support::{at, client, proxy, serve, tree};

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_never_asks_a_mirror() {
    let (server, old, new) = (serve().await, tree(70, 3), tree(71, 4));
    // The mirror has an archive under every name, and its tags are believed.
    let stale = serve().await;
    let location = at(server.local_addr(), "v1");
    for tag in ["v1", "v2"] {
        client().push(&at(stale.local_addr(), tag), old.path(), &PushOptions::default()).await.unwrap();
    }
    let mirror = proxy(stale.local_addr(), ProxyOptions::default());
    let address = Mirror::parse(&format!("http://{}", mirror.addr())).unwrap().with_tags(true);
    let options = RegistryOptions::default().with_mirror(address);
    let client = Client::builder().registry(&server.local_addr().to_string(), options).build().unwrap();

    let mut dry = PushOptions::default();
    dry.dry_run = true;
    let would = client.push(&location, old.path(), &dry).await.unwrap();
    assert!(!would.unchanged && would.uploaded_bytes() > 0, "the registry has nothing yet");
    assert!(client.resolve(&location).await.unwrap_err().is_not_found());
    let pushed = client.push(&location, old.path(), &PushOptions::default()).await.unwrap();
    assert!(pushed.uploaded_bytes() > 0);
    client.push(&location, new.path(), &PushOptions::default()).await.unwrap();
    let tagged = client.tag(&location, &[Tag::new("v2").unwrap()]).await.unwrap();
    assert_ne!(tagged.digest, *pushed.digest(), "the tag that the registry has now");
    assert_eq!(client.resolve(&at(server.local_addr(), "v2")).await.unwrap().digest, tagged.digest);
    let mut plan = CopyOptions::default();
    (plan.dry_run, plan.keep_tags) = (true, true);
    let source = serve().await;
    let from = at(source.local_addr(), "v1");
    crate::support::client().push(&from, old.path(), &PushOptions::default()).await.unwrap();
    let copied = client.copy(&from, &at(server.local_addr(), "v3"), &plan).await.unwrap();
    assert_eq!(copied.report.map(|report| report.blobs_copied), Some(0));
    assert_eq!(client.referrers(&location, &tagged.digest, None).await.unwrap(), []);
    let signer = KeyedSigner::new(Arc::new(LocalKey::generate(KeyKind::EcdsaP256).unwrap()));
    let signed = client.sign(&location, &signer, &SignOptions::default()).await.unwrap();
    assert_eq!(signed.subject.digest, tagged.digest, "what the registry has is what is signed");
    let said = serde_json::json!({"found": 0});
    let kind = "https://example.com/scan/v1";
    let attested = client.attest(&location, &signer, kind, said, &SignOptions::default()).await.unwrap();
    assert_eq!(attested.subject.digest, tagged.digest);
    // What a tag was once, nobody puts their name under.
    let offline = Client::builder().offline().build().unwrap();
    let refused = offline.sign(&location, &signer, &SignOptions::default()).await.unwrap_err();
    assert!(refused.is_invalid_reference() && refused.to_string().contains("@DIGEST"), "{refused}");
    client.delete_tag(&at(server.local_addr(), "v2")).await.unwrap();
    client.delete_manifest(&location.with_target(Target::Digest(tagged.digest)), &tagged.digest).await.unwrap();
    assert_eq!(mirror.take(), [], "none of this is for a mirror to answer");

    client.pull(&at(server.local_addr(), "v1"), &PullOptions::default()).await.unwrap();
    assert!(!mirror.take().is_empty(), "it is asked when something is read");
}
