//! Uploads that are refused, given up, killed, or whose registry counts wrong.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use blob_core::{ByteSource, ByteStream, Digest, Local, MemorySource, SourceError, SourceId};
use blob_http::RetryPolicy;
use blob_registry::client::RegistryClient;
use blob_registry::{MemoryRegistry, PushBlob, PushedBlob, Registry, Server};
use blob_testkit::proxy::{Proxy, ProxyOptions, Shape};
use futures_util::{StreamExt as _, stream};

use super::uploads::{NAME, blob, some_sessions};
use super::{builder, client, noise, repository};
use blob_testkit::hostile::{Reply, Script, Seen};

fn absent(content: &[u8]) -> PushBlob {
    let mut push = blob(content);
    push.known_absent = true;
    push
}

/// Waits for what happens in the background.
async fn until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

fn is_content(seen: &Seen) -> bool {
    matches!(seen.method.as_str(), "PUT" | "PATCH") && seen.header("content-length") != Some("0")
}

#[tokio::test]
async fn a_body_that_is_refused_is_not_sent() {
    for status in [401, 403, 413] {
        let sessions = some_sessions();
        let server =
            Script::early(move |seen| is_content(seen).then(|| Reply::new(status)), move |seen| sessions.answer(seen))
                .await;
        client(server.addr).push_blob(&repository(NAME), absent(&noise(1_000_000))).await.unwrap_err();
        let bodies: Vec<_> = server.seen().into_iter().filter(is_content).collect();
        assert!(!bodies.is_empty() && bodies.iter().all(|seen| seen.header("expect") == Some("100-continue")));
    }
}

#[tokio::test]
async fn a_redirected_body_is_sent_once() {
    let sessions = Arc::new(some_sessions());
    let (far, content) = (Arc::clone(&sessions), noise(500_000));
    let server = Script::early(
        |seen| {
            let to = format!("{}?{}&moved=1", seen.path, seen.query);
            (is_content(seen) && !seen.query.contains("moved")).then(|| Reply::new(307).header("Location", to))
        },
        move |seen| far.answer(seen),
    )
    .await;
    client(server.addr).push_blob(&repository(NAME), absent(&content)).await.unwrap();
    let sent: usize = server.seen().iter().map(|seen| seen.body.len()).sum();
    assert_eq!(sent, content.len());
}

#[tokio::test]
async fn a_server_that_never_asks_gets_the_body_all_the_same() {
    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    // 417 is what a server says that does not know the header's value.
    let server =
        Script::early(|seen| seen.header("expect").map(|_| Reply::new(417)), move |seen| far.answer(seen)).await;
    let client = client(server.addr);
    client.push_blob(&repository(NAME), absent(&noise(300_000))).await.unwrap();
    client.push_blob(&repository(NAME), absent(&noise(400_000))).await.unwrap();
    let asked = server.seen().iter().filter(|seen| seen.header("expect").is_some()).count();
    assert_eq!(asked, 1, "what was learned is kept");
    assert_eq!(sessions.blobs().len(), 2);
}

/// A source that gives a little and then nothing.
#[derive(Debug)]
struct Stuck(MemorySource);

#[async_trait]
impl ByteSource for Stuck {
    fn id(&self) -> &SourceId {
        self.0.id()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, _: std::ops::Range<u64>) -> Result<ByteStream, SourceError> {
        let first = stream::iter([Ok(bytes::Bytes::from_static(b"a little"))]);
        Ok(first.chain(stream::pending()).boxed())
    }
}

#[tokio::test]
async fn a_push_that_is_dropped_or_fails_ends_its_session() {
    let sessions = Arc::new(some_sessions());
    let (far, begun) = (Arc::clone(&sessions), Arc::new(AtomicBool::new(false)));
    let body = Arc::clone(&begun);
    // Who begins with the body knows the session that it belongs to.
    let noticing = move |seen: &Seen| {
        body.fetch_or(is_content(seen), Ordering::SeqCst);
        None
    };
    let server = Script::early(noticing, move |seen| far.answer(seen)).await;
    let content = noise(500_000);
    let stuck = PushBlob::new(Digest::sha256_of(&content), Arc::new(Stuck(MemorySource::new(content.clone()))));
    let client = client(server.addr);
    let pushing = tokio::spawn({
        let client = client.clone();
        async move { client.push_blob(&repository(NAME), stuck).await }
    });
    until("sending the body", || begun.load(Ordering::SeqCst)).await;
    pushing.abort();
    assert!(pushing.await.unwrap_err().is_cancelled());
    until("ending the session", || server.count("DELETE", "/0") == 1).await;

    let mut wrong = absent(&content);
    wrong.digest = Digest::sha256_of(b"something else");
    client.push_blob(&repository(NAME), wrong).await.unwrap_err();
    until("ending the second session", || server.count("DELETE", "/1") == 1).await;
}

/// ECR is said to count the first piece only.
#[tokio::test]
async fn a_registry_whose_count_stays_behind_is_not_sent_bytes_twice() {
    let content = noise(1_000_000);
    let sessions = Arc::new(some_sessions());
    let (far, cuts) = (Arc::clone(&sessions), AtomicUsize::new(0));
    let server = Script::cutting(
        // The third piece breaks before its first byte is taken.
        move |seen| (seen.method == "PATCH" && cuts.fetch_add(1, Ordering::SeqCst) == 3).then_some(0),
        move |seen| match (seen.method.as_str(), seen.body.len()) {
            ("PUT", 300_000..) => Some(Reply::new(413)),
            ("GET", _) => Some(far.stands(204, 1, 100_000)),
            _ => Some(far.answer(seen)),
        },
    )
    .await;
    let client = builder(server.addr)
        .limits(blob_registry::client::ClientLimits::default().with_upload_chunk(250_000))
        .build()
        .unwrap();
    client.push_blob(&repository(NAME), absent(&content)).await.unwrap();
    assert!(sessions.blobs()[0] == content);
    assert_eq!(server.count("POST", ""), 2, "one for the refused PUT, one for the pieces: {:?}", server.log());
}

#[tokio::test]
async fn a_registry_that_lost_what_it_confirmed_gets_another_session_and_no_more_than_a_few() {
    let content = noise(1_000_000);
    let count = Arc::new(AtomicUsize::new(0));
    let (far, posts) = (some_sessions(), Arc::clone(&count));
    // Every piece behind the first is refused: the registry holds less than it said.
    let server = Script::start(move |seen| match seen.method.as_str() {
        "POST" => {
            let number = posts.fetch_add(1, Ordering::SeqCst);
            Reply::new(202).header("Location", format!("/v2/{NAME}/blobs/uploads/{number}"))
        }
        "PATCH" if seen.header("content-range").unwrap().starts_with("0-") => far.stands(202, 0, 250_000),
        "PATCH" => far.stands(416, 0, 1000),
        "PUT" => Reply::new(413),
        "HEAD" => Reply::new(404),
        _ => far.stands(204, 0, 1000),
    })
    .await;
    let client = builder(server.addr)
        .limits(blob_registry::client::ClientLimits::default().with_upload_chunk(250_000))
        .build()
        .unwrap();
    client.push_blob(&repository(NAME), absent(&content)).await.unwrap_err();
    assert!(server.seen().len() < 60, "{:?}", server.log());
    assert!(count.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn a_416_that_says_where_to_go_on_is_followed() {
    let content = noise(1_000_000);
    let (sessions, pieces) = (Arc::new(some_sessions()), AtomicUsize::new(0));
    let far = Arc::clone(&sessions);
    let server = Script::start(move |seen| match (seen.method.as_str(), seen.body.len()) {
        ("PUT", 300_000..) => Reply::new(413),
        // Half of the second piece is taken; then the registry changes its mind.
        ("PATCH", _) if pieces.fetch_add(1, Ordering::SeqCst) == 1 => {
            let mut held = far.held();
            let number = held.len() - 1;
            held[number].extend_from_slice(&seen.body[..100_000]);
            let length = held[number].len();
            far.stands(416, number, length)
        }
        _ => far.answer(seen),
    })
    .await;
    let limits = blob_registry::client::ClientLimits::default().with_upload_chunk(250_000);
    let client = builder(server.addr).limits(limits).build().unwrap();
    client.push_blob(&repository(NAME), absent(&content)).await.unwrap();
    assert!(sessions.blobs()[0] == content);
    assert_eq!(server.count("GET", ""), 0, "the refusal said it all: {:?}", server.log());
}

#[tokio::test]
async fn a_201_to_a_piece_is_taken() {
    let content = noise(1_000_000);
    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    let server = Script::start(move |seen| {
        let reply = far.answer(seen);
        match (seen.method.as_str(), seen.body.len()) {
            ("PUT", 300_000..) => Reply::new(413),
            ("PATCH", _) => far.stands(201, far.held().len() - 1, seen.body.len()),
            _ => reply,
        }
    })
    .await;
    let limits = blob_registry::client::ClientLimits::default().with_upload_chunk(250_000);
    let client = builder(server.addr).limits(limits).build().unwrap();
    assert_eq!(client.push_blob(&repository(NAME), absent(&content)).await.unwrap(), PushedBlob::Uploaded);
}

/// A client that gives up at the first failure, as if it were killed then, and writes down what it does.
fn journaled(addr: std::net::SocketAddr, journal: &Path) -> RegistryClient {
    builder(addr).retry(RetryPolicy::never()).upload_journal(journal).build().unwrap()
}

#[tokio::test]
async fn an_upload_that_broke_is_taken_up_by_the_next_process() {
    const CUT: usize = 5_000_000;
    let content = noise(9 << 20);
    let (sessions, broken) = (Arc::new(some_sessions()), Arc::new(AtomicBool::new(true)));
    let (far, cut) = (Arc::clone(&sessions), Arc::clone(&broken));
    let server = Script::cutting(
        move |seen| (is_content(seen) && cut.load(Ordering::SeqCst)).then_some(CUT),
        move |seen| Some(far.answer(seen)),
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("uploads");
    let error = journaled(server.addr, &journal).push_blob(&repository(NAME), absent(&content)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    broken.store(false, Ordering::SeqCst);

    // Other content and another repository have nothing to do with it.
    let other = noise(10 << 20);
    journaled(server.addr, &journal).push_blob(&repository(NAME), absent(&other)).await.unwrap();
    let before = server.seen().len();
    journaled(server.addr, &journal).push_blob(&repository(NAME), absent(&content)).await.unwrap();
    let log: Vec<_> = server.seen().split_off(before).into_iter().map(|seen| (seen.method, seen.body.len())).collect();
    let expected = [("GET", 0), ("PATCH", content.len() - CUT), ("PUT", 0)].map(|(m, n)| (m.to_owned(), n));
    assert_eq!(log, expected);
    assert!(sessions.blobs()[1] == content);
    assert_eq!(server.count("DELETE", ""), 0, "a session that is written down is left for the next process");
    assert_eq!(std::fs::read_dir(&journal).unwrap().count(), 0, "nothing stays of what is done");
}

#[tokio::test]
async fn a_session_that_is_gone_is_replaced() {
    let content = noise(9 << 20);
    let (sessions, broken) = (Arc::new(some_sessions()), Arc::new(AtomicBool::new(true)));
    let (far, cut) = (Arc::clone(&sessions), Arc::clone(&broken));
    let server = Script::cutting(
        move |seen| (is_content(seen) && cut.load(Ordering::SeqCst)).then_some(1000),
        move |seen| match seen.method.as_str() {
            "GET" => Some(Reply::new(404)),
            _ => Some(far.answer(seen)),
        },
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    journaled(server.addr, dir.path()).push_blob(&repository(NAME), absent(&content)).await.unwrap_err();
    broken.store(false, Ordering::SeqCst);
    journaled(server.addr, dir.path()).push_blob(&repository(NAME), absent(&content)).await.unwrap();
    assert_eq!(server.count("POST", ""), 2);
    assert!(sessions.blobs()[0] == content);
}

#[cfg(target_os = "linux")]
mod killed {
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "BLOB_TEST_UPLOAD_CHILD";

    /// Runs in a process of its own when the variable names server and journal.
    #[tokio::test]
    async fn child() {
        let Ok(job) = std::env::var(CHILD) else { return };
        let (addr, journal) = job.split_once(' ').unwrap();
        let client = journaled(addr.parse().unwrap(), Path::new(journal));
        client.push_blob(&repository(NAME), absent(&noise(48 << 20))).await.unwrap();
    }

    #[tokio::test]
    async fn a_killed_push_goes_on_in_another_process() {
        let content = noise(48 << 20);
        let registry = MemoryRegistry::new();
        let server = Server::builder(Arc::new(registry.clone())).bind("127.0.0.1:0").await.unwrap();
        let shape = Shape { round_trip: Duration::ZERO, bytes_per_second: Some(40_000_000) };
        let proxy = Proxy::start(server.local_addr(), ProxyOptions { shape, ..ProxyOptions::default() }).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "client::interrupted::killed::child", "--nocapture"])
            .env(CHILD, format!("{} {}", proxy.addr(), dir.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sent = || proxy.requests().iter().map(|seen| seen.bytes_up).sum::<u64>();
        let waiting = async {
            while sent() < 20 << 20 && child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), waiting).await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(sent() < 48 << 20, "it was too fast to be killed");
        // The server may still be taking in what the dead process sent, and then says where to go on.
        let second = builder(proxy.addr()).upload_journal(dir.path()).build().unwrap();
        let pushed = second.push_blob(&repository(NAME), absent(&content)).await.unwrap();
        assert_eq!(pushed, PushedBlob::Uploaded);
        let again = sent().saturating_sub(48 << 20);
        assert!(again <= 8 << 20, "{again} bytes were sent again");
        assert_eq!(registry.stat_blob(&repository(NAME), &Digest::sha256_of(&content)).await.unwrap(), 48 << 20);
        let posts = proxy.requests().iter().filter(|seen| seen.method == "POST").count();
        assert_eq!(posts, 1, "{:#?}", proxy.requests());
    }
}
