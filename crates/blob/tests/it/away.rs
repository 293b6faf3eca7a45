//! Registries that change or go away while an archive is read.

use blob::http::retry::RetryPolicy;
use blob::{Client, ErrorKind, PullOptions, PushOptions};
use blob_testkit::proxy::{Action, Faults, Latch, ProxyOptions, Rule};

use crate::support::{at, client, proxy, serve, tree};

/// The tag moves when the manifest is here and the index is not: the archive is the one that the tag named first.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_between_two_requests_mixes_nothing() {
    // More files than an index that is embedded in the manifest has.
    let (server, first, second) = (serve().await, tree(80, 900), tree(81, 900));
    let pushed = client().push(&at(server.local_addr(), "v1"), first.path(), &PushOptions::default()).await.unwrap();
    let latch = Latch::new();
    let rules = vec![Rule::every("/blobs/", Action::Hold(latch.clone())).method("GET")];
    let faults = ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() };
    let proxy = proxy(server.local_addr(), faults);
    let location = at(proxy.addr(), "v1");
    let pulling = tokio::spawn(async move { client().pull(&location, &PullOptions::default()).await });
    while !proxy.requests().iter().any(|seen| seen.path.contains("/blobs/")) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let moved = client().push(&at(server.local_addr(), "v1"), second.path(), &PushOptions::default()).await.unwrap();
    assert_ne!(moved.digest(), pushed.digest());
    latch.open();
    let archive = pulling.await.unwrap().unwrap();
    assert_eq!(archive.manifest().digest(), pushed.digest());
    let out = tempfile::tempdir().unwrap();
    archive.copy_dir("", out.path().join("copy"), &crate::support::keep_all()).await.unwrap();
    let compare = blob_testkit::trees::Compare { modes: true, times: true };
    let differences = blob_testkit::trees::differences(first.path(), &out.path().join("copy"), compare).unwrap();
    assert_eq!(differences, Vec::<String>::new());
}

/// What is cached stays readable while the registry is away, the rest is an error, and all is well when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_goes_away_takes_only_what_was_not_read() {
    let (server, source, dir) = (serve().await, tree(82, 3), tempfile::tempdir().unwrap());
    // Too large to come along with what is read beside it.
    let noise = (0..200_000_u64).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    std::fs::write(source.path().join("other"), noise.collect::<Vec<u8>>()).unwrap();
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let other = "other";
    // The first read of data is answered; then come three that are not.
    let rules = vec![Rule::every("/blobs/", Action::Cut(0)).method("GET").after(1).times(3)];
    let faults = ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() };
    let proxy = proxy(server.local_addr(), faults);
    let client = Client::builder().cache_dir(dir.path()).retry(RetryPolicy::never()).build().unwrap();
    let archive = client.pull(&at(proxy.addr(), "v1"), &PullOptions::default()).await.unwrap();
    archive.read("run.sh").await.unwrap();
    for _ in 0..3 {
        let error = blob::Error::from(archive.read(other).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
        archive.read("run.sh").await.unwrap();
    }
    archive.read(other).await.unwrap();
}
