//! How many requests things cost. Counts do not depend on the machine, so they are asserted.

use blob::core::Compression;
use blob::{PullOptions, PushOptions};
use blob_testkit::proxy::{Action, Faults, Gate, Latch, ProxyOptions, Rule};

use crate::support::{at, client, proxy, serve, tree};

fn gate(token: bool, redirect: bool) -> ProxyOptions {
    let gate = Gate { token: token.then(|| "secret".into()), redirect_blobs: redirect };
    ProxyOptions { gate, ..ProxyOptions::default() }
}

/// Requests that a fresh client needs for one file by tag; the index is embedded if `files` is small.
async fn cold_read(files: usize, options: ProxyOptions) -> usize {
    let (server, source) = (serve().await, tree(20, files));
    let pushed = client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    assert_eq!(pushed.manifest.embedded_index().is_some(), files < 300);

    let proxy = proxy(server.local_addr(), options);
    let archive = client().pull(&at(proxy.addr(), "v1"), &PullOptions::default()).await.unwrap();
    let content = archive.read("run.sh").await.unwrap();
    assert_eq!(content, "#!/bin/sh\necho run\n");
    let summary = proxy.summary();
    let needed = pushed.manifest.as_bytes().len() as u64
        + if files < 300 { 0 } else { pushed.manifest.index().size }
        + archive.entry("run.sh").unwrap().data_size();
    assert!(summary.bytes_down <= needed + 2048, "{} bytes for {needed}", summary.bytes_down);
    summary.requests
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_of_a_large_archive_costs_three_requests() {
    assert_eq!(cold_read(900, gate(false, false)).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_costs_two_more() {
    assert_eq!(cold_read(900, gate(true, false)).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_cost_one_for_each_blob() {
    assert_eq!(cold_read(900, gate(true, true)).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_index_saves_one() {
    assert_eq!(cold_read(3, gate(false, false)).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_reads_no_data_and_the_second_file_costs_one_request() {
    let (server, source) = (serve().await, tree(21, 3));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let archive = client().pull(&at(proxy.addr(), "v1"), &PullOptions::default()).await.unwrap();
    assert_eq!(proxy.take().len(), 1);
    assert_eq!(archive.read("empty").await.unwrap(), "");
    assert_eq!(proxy.take().len(), 0, "an empty file needs no request");
    archive.read("a.txt").await.unwrap();
    archive.read("run.sh").await.unwrap();
    let requests = proxy.take();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.range.is_some() && request.status == Some(206)), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_tree_is_one_request_and_no_payload() {
    for compression in [Compression::None, Compression::Zstd] {
        let (server, source) = (serve().await, tree(22, 40));
        let mut options = PushOptions::default();
        options.create.compression = compression;
        let first = client().push(&at(server.local_addr(), "v1"), source.path(), &options).await.unwrap();
        assert!(!first.unchanged && first.uploaded_bytes() > 0);

        let proxy = proxy(server.local_addr(), ProxyOptions::default());
        let again = client().push(&at(proxy.addr(), "v1"), source.path(), &options).await.unwrap();
        assert!(again.unchanged);
        assert_eq!((again.digest(), again.uploaded_bytes()), (first.digest(), 0));
        let summary = proxy.summary();
        assert_eq!((summary.requests, summary.bytes_up), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_annotations_or_more_tags_send_no_blobs() {
    let (server, source) = (serve().await, tree(23, 10));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());

    let mut tagged = PushOptions::default();
    tagged.tags = vec!["latest".parse().unwrap()];
    assert!(client().push(&at(proxy.addr(), "v1"), source.path(), &tagged).await.unwrap().unchanged);
    assert_eq!(proxy.take().len(), 2);

    let mut annotated = PushOptions::default();
    annotated.annotations.insert("stage".into(), "released".into());
    let pushed = client().push(&at(proxy.addr(), "v1"), source.path(), &annotated).await.unwrap();
    assert_eq!((pushed.unchanged, pushed.uploaded_bytes()), (false, 0));
    let methods: Vec<_> = proxy.take().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["GET", "PUT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_archive_is_seven_requests_and_each_byte_goes_once() {
    let (server, source) = (serve().await, tree(24, 40));
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let pushed = client().push(&at(proxy.addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let requests = proxy.take();
    // The tag, then for each blob whether it is there, a session and its content; then the manifest.
    let mut methods: Vec<_> = requests.iter().map(|request| request.method.as_str()).collect();
    methods.sort_unstable();
    assert!(requests.len() <= 11, "{methods:?}");
    assert_eq!(requests.last().unwrap().method, "PUT");
    let payload = pushed.manifest.index().size + pushed.manifest.data().size + 2;
    let sent: u64 = requests.iter().map(|request| request.bytes_up).sum();
    assert_eq!(sent, payload + pushed.manifest.as_bytes().len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn extraction_reads_the_data_blob_once_in_few_requests() {
    let (server, source) = (serve().await, tree(25, 500));
    let pushed = client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let archive = client().pull(&at(proxy.addr(), "v1"), &PullOptions::default()).await.unwrap();
    let _opening = proxy.take();
    let out = tempfile::tempdir().unwrap();
    archive.copy_dir("", &out.path().join("copy"), &crate::support::keep_all()).await.unwrap();
    let summary = proxy.summary();
    assert!(summary.requests <= 2, "{summary:?}");
    assert!(summary.bytes_down <= pushed.manifest.data().size, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_all_has_the_data_asked_for_while_the_index_is_on_its_way() {
    let (server, source) = (serve().await, tree(27, 900));
    let pushed = client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let latch = Latch::new();
    let index = pushed.manifest.index().digest.to_string();
    let faults = Faults::script(vec![Rule::every(&index, Action::Hold(latch.clone()))]);
    let proxy = proxy(server.local_addr(), ProxyOptions { faults, ..ProxyOptions::default() });
    let mut options = PullOptions::default();
    options.reads_all = true;
    let data = pushed.manifest.data().digest.to_string();
    let opening = async { client().pull(&at(proxy.addr(), "v1"), &options).await.unwrap() };
    let watching = async {
        while !proxy.requests().iter().any(|request| request.path.ends_with(&data)) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        latch.open();
    };
    let (archive, ()) = tokio::join!(opening, watching);
    let out = tempfile::tempdir().unwrap();
    archive.copy_dir("", &out.path().join("copy"), &crate::support::keep_all()).await.unwrap();
    let compare = blob_testkit::trees::Compare { modes: true, times: true };
    let differences = blob_testkit::trees::differences(source.path(), &out.path().join("copy"), compare).unwrap();
    assert_eq!(differences, Vec::<String>::new());
    // Manifest, index, and the data: none more than without.
    let summary = proxy.summary();
    assert_eq!(summary.requests, 3, "{:#?}", proxy.requests());
    assert!(summary.bytes_down <= pushed.manifest.data().size + pushed.manifest.index().size + 2048, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_asks_for_one_token() {
    let (server, source) = (serve().await, tree(26, 3));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let proxy = proxy(server.local_addr(), gate(true, false));
    let client = client();
    for _ in 0..5 {
        let archive = client.pull(&at(proxy.addr(), "v1"), &PullOptions::default()).await.unwrap();
        archive.read("run.sh").await.unwrap();
    }
    let requests = proxy.take();
    assert_eq!(requests.iter().filter(|request| request.path == "/token").count(), 1);
    assert_eq!(requests.len(), 2 + 5 * 2);
}
