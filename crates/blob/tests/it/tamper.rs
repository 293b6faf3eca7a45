//! A byte flipped anywhere between the registry and the reader is an error.

use blob::registry::PageRequest;
use blob::{ErrorKind, PullOptions, PushOptions};
use blob_testkit::proxy::{Action, Faults, ProxyOptions, Rule};

use crate::support::{at, client, proxy, serve};

/// Opens the archive by digest through a proxy that flips the byte `position` of answers below `path`, and reads
/// everything.
async fn read_all(upstream: std::net::SocketAddr, digest: &str, path: &str, position: u64) -> Result<(), blob::Error> {
    let faults = Faults::script(vec![Rule::every(path, Action::Flip(position))]);
    let proxy = proxy(upstream, ProxyOptions { faults, ..ProxyOptions::default() });
    let location = at(proxy.addr(), "v1").with_target(digest.parse::<blob::core::Digest>().unwrap().into());
    let archive = client().pull(&location, &PullOptions::default()).await?;
    for entry in archive.entries() {
        archive.read(entry.path()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_the_chain_counts() {
    let (server, source) = (serve().await, tempfile::tempdir().unwrap());
    for (name, content) in [("a", "first file"), ("b", "second file, a little longer")] {
        std::fs::write(source.path().join(name), content).unwrap();
    }
    let mut options = PushOptions::default();
    options.created = Some("2024-01-15T10:30:00Z".parse().unwrap());
    let pushed = client().push(&at(server.local_addr(), "v1"), source.path(), &options).await.unwrap();
    let digest = pushed.digest().to_string();
    assert!(client().tags(&at(server.local_addr(), "v1"), &PageRequest::first()).await.is_ok());

    // Files are read one by one, so positions in an answer count from the start of a file; the longest one decides.
    let (data, longest) = (pushed.manifest.data(), 28);
    assert_eq!(data.size, 10 + longest);
    for (path, size) in [
        (format!("/manifests/{digest}"), pushed.manifest.as_bytes().len() as u64),
        (format!("/blobs/{}", data.digest), longest),
    ] {
        read_all(server.local_addr(), &digest, "/nothing", 0).await.unwrap();
        for position in 0..size {
            let outcome = read_all(server.local_addr(), &digest, &path, position).await;
            let error = outcome.expect_err(&format!("byte {position} of {path}"));
            assert_eq!(error.kind(), ErrorKind::HashMismatch, "byte {position} of {path}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_an_index_blob_counts() {
    let (server, source) = (serve().await, tempfile::tempdir().unwrap());
    for number in 0..600 {
        std::fs::write(source.path().join(format!("file-{number:040}")), number.to_string()).unwrap();
    }
    let pushed = client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    assert!(pushed.manifest.embedded_index().is_none());
    let (digest, index) = (pushed.digest().to_string(), pushed.manifest.index());
    // A prime step reaches every kind of field; the index is checked by one digest, so no byte is special.
    for position in (0..index.size).step_by(911) {
        let outcome = read_all(server.local_addr(), &digest, &format!("/blobs/{}", index.digest), position).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::HashMismatch, "byte {position}");
    }
}
