//! Content that is hashed while it is sent.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use blob_core::source::FileSource;
use blob_core::{
    Algorithm, ByteSource, ByteSourceExt as _, ByteStream, Digest, Hasher, Local, MemorySource, SourceError, SourceId,
};
use blob_http::RetryPolicy;
use blob_registry::client::{PushContent, RegistryClient};
use blob_registry::{ErrorCode, MemoryRegistry, PushedBlob, Registry, RegistryError, Server};
use blob_testkit::proxy::{Action, Faults, Proxy, ProxyOptions, Rule, Shape};
use futures_util::StreamExt as _;

use super::uploads::{NAME, some_sessions};
use super::{builder, client, noise, repository};
use blob_testkit::hostile::{Reply, Script, Seen, Sessions};

const STEP: u64 = 1 << 20;

/// A source that counts what is read of it.
#[derive(Debug)]
struct Counted(Arc<dyn ByteSource>, Arc<AtomicU64>);

#[async_trait]
impl ByteSource for Counted {
    fn id(&self) -> &SourceId {
        self.0.id()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        let count = Arc::clone(&self.1);
        // In steps, as files are read.
        let steps = (range.start..range.end).step_by(STEP as usize).map(move |at| at..range.end.min(at + STEP));
        let inner = Arc::clone(&self.0);
        let stream = futures_util::stream::iter(steps.collect::<Vec<_>>()).then(move |step| {
            let (inner, count) = (Arc::clone(&inner), Arc::clone(&count));
            async move {
                let bytes = inner.read(step).await?;
                count.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                Ok(bytes)
            }
        });
        Ok(stream.boxed())
    }
}

/// `content`, known by `id`, and how much of it was read.
fn counted(content: &[u8], id: &str) -> (PushContent, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let source = MemorySource::with_id(content.to_vec(), SourceId::new(id));
    (PushContent::new(Arc::new(Counted(Arc::new(source), Arc::clone(&read)))), read)
}

/// A client that gives up at the first failure, as if it were killed then, and writes down what it does.
fn journaled(addr: std::net::SocketAddr, journal: &Path) -> RegistryClient {
    builder(addr).retry(RetryPolicy::never()).upload_journal(journal).build().unwrap()
}

fn has_body(seen: &Seen) -> bool {
    seen.method == "PATCH"
}

#[tokio::test]
async fn content_is_read_once_and_named_by_what_it_is() {
    let registry = MemoryRegistry::new();
    let server = Server::builder(Arc::new(registry.clone())).bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr(), ProxyOptions::default()).unwrap();
    let log = || proxy.take().into_iter().map(|seen| seen.method).collect::<Vec<_>>().join(" ");
    for (algorithm, length, requests) in [
        (Algorithm::Sha256, 9 << 20, "POST PATCH PUT"),
        (Algorithm::Sha512, 9 << 20, "POST PATCH PUT"),
        // Less is not worth it: it is hashed, and asked for.
        (Algorithm::Sha256, 1 << 20, "HEAD POST PUT"),
        (Algorithm::Sha256, 0, "HEAD POST"),
    ] {
        let content = noise(length);
        let (mut push, read) = counted(&content, "a");
        push.algorithm = algorithm;
        let (digest, pushed) = client(proxy.addr()).push_content(&repository(NAME), &push).await.unwrap();
        assert_eq!((digest, pushed), (Digest::of(algorithm, &content), PushedBlob::Uploaded));
        assert_eq!((read.load(Ordering::SeqCst), log().as_str()), (length as u64, requests));
        assert_eq!(registry.stat_blob(&repository(NAME), &digest).await.unwrap(), length as u64);
    }
}

#[tokio::test]
async fn cuts_cost_neither_bytes_nor_the_digest() {
    let registry = MemoryRegistry::new();
    let server = Server::builder(Arc::new(registry.clone())).bind("127.0.0.1:0").await.unwrap();
    let cuts = Rule::every("/blobs/uploads/", Action::CutUpload(3_000_000)).method("PATCH").times(3);
    let options = ProxyOptions { faults: Faults::script(vec![cuts]), ..ProxyOptions::default() };
    let proxy = Proxy::start(server.local_addr(), options).unwrap();
    let content = noise(20 << 20);
    let (digest, _) = client(proxy.addr()).push_content(&repository(NAME), &counted(&content, "a").0).await.unwrap();
    assert_eq!(digest, Digest::sha256_of(&content));
    assert_eq!(registry.stat_blob(&repository(NAME), &digest).await.unwrap(), 20 << 20);
}

/// A push of `content` that breaks after `cut` bytes; the client's journal is in `dir`.
async fn broken(server: &Arc<Script>, dir: &Path, content: &PushContent) {
    let error = journaled(server.addr, dir).push_content(&repository(NAME), content).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

/// A registry that cuts pieces after `cut` bytes as long as the switch says so.
async fn cutting(cut: usize) -> (Arc<Script>, Arc<Sessions>, Arc<AtomicBool>) {
    let (sessions, broken) = (Arc::new(some_sessions()), Arc::new(AtomicBool::new(true)));
    let (far, cuts) = (Arc::clone(&sessions), Arc::clone(&broken));
    let server = Script::cutting(
        move |seen| (has_body(seen) && cuts.load(Ordering::SeqCst)).then_some(cut),
        move |seen| Some(far.answer(seen)),
    )
    .await;
    (Arc::new(server), sessions, broken)
}

#[tokio::test]
async fn the_next_process_reads_neither_what_was_sent_nor_what_was_hashed() {
    const CUT: usize = 20_000_000;
    let content = noise(24 << 20);
    let (server, sessions, cuts) = cutting(CUT).await;
    let dir = tempfile::tempdir().unwrap();
    broken(&server, dir.path(), &counted(&content, "a").0).await;
    cuts.store(false, Ordering::SeqCst);
    let (push, read) = counted(&content, "a");
    let (digest, _) = journaled(server.addr, dir.path()).push_content(&repository(NAME), &push).await.unwrap();
    assert_eq!(digest, Digest::sha256_of(&content));
    assert!(sessions.blobs()[0] == content);
    // The state of the hash was written down after 16 MiB.
    assert_eq!(read.load(Ordering::SeqCst), (24 << 20) - (16 << 20));
    let sent: usize = server.seen().iter().filter(|seen| has_body(seen)).map(|seen| seen.body.len()).sum();
    assert_eq!(sent, content.len());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays of what is done");
}

#[tokio::test]
async fn content_that_changed_is_pushed_anew_and_the_old_session_ended() {
    let (server, sessions, cuts) = cutting(17 << 20).await;
    let dir = tempfile::tempdir().unwrap();
    let at_place = |content: &[u8], id: &str| {
        let (mut push, read) = counted(content, id);
        push.place = Some("/a/file".into());
        (push, read)
    };
    broken(&server, dir.path(), &at_place(&noise(20 << 20), "before").0).await;
    cuts.store(false, Ordering::SeqCst);
    let content = noise(21 << 20);
    let (push, read) = at_place(&content, "after");
    let (digest, _) = journaled(server.addr, dir.path()).push_content(&repository(NAME), &push).await.unwrap();
    assert_eq!((digest, read.load(Ordering::SeqCst)), (Digest::sha256_of(&content), 21 << 20));
    assert!(sessions.blobs()[0] == content);
    let ended = async {
        while server.count("DELETE", "/0") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), ended).await.expect("the old session is ended");
}

#[tokio::test]
async fn a_journal_that_lies_costs_a_second_sending_and_nothing_else() {
    let content = noise(20 << 20);
    let (server, sessions, cuts) = cutting(18 << 20).await;
    let dir = tempfile::tempdir().unwrap();
    broken(&server, dir.path(), &counted(&content, "a").0).await;
    cuts.store(false, Ordering::SeqCst);
    let records = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let record = records.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "json")).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    let mut other = Hasher::sha256();
    other.update(&noise(16 << 20)[1..]);
    other.update(b"x");
    value["hash"]["state"] = hex(&other.state()).into();
    std::fs::write(&record, value.to_string()).unwrap();
    let (push, read) = counted(&content, "a");
    let (digest, _) = journaled(server.addr, dir.path()).push_content(&repository(NAME), &push).await.unwrap();
    assert_eq!(digest, Digest::sha256_of(&content));
    assert!(sessions.blobs()[0] == content);
    assert_eq!(read.load(Ordering::SeqCst), (4 << 20) + (20 << 20));
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn a_registry_that_takes_no_pieces_gets_the_whole() {
    let (content, sessions) = (noise(9 << 20), Arc::new(some_sessions()));
    let far = Arc::clone(&sessions);
    let server = Script::start(move |seen| match seen.method.as_str() {
        "PATCH" => Reply::new(405).json(r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
        _ => far.answer(seen),
    })
    .await;
    let (digest, _) = client(server.addr).push_content(&repository(NAME), &counted(&content, "a").0).await.unwrap();
    assert_eq!(digest, Digest::sha256_of(&content));
    assert!(sessions.blobs()[0] == content);
}

#[tokio::test]
async fn what_a_registry_refuses_for_good_is_an_error() {
    let sessions = some_sessions();
    let server = Script::start(move |seen| match seen.method.as_str() {
        "PUT" => Reply::new(400).json(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#),
        _ => sessions.answer(seen),
    })
    .await;
    let pushed = client(server.addr).push_content(&repository(NAME), &counted(&noise(9 << 20), "a").0).await;
    assert!(matches!(pushed, Err(RegistryError::Code { code: ErrorCode::DigestInvalid, .. })), "{pushed:?}");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, noise(9 << 20)).unwrap();
    let (far, changed) = (some_sessions(), path.clone());
    let server = Script::start(move |seen| {
        if seen.method == "PUT" {
            std::fs::write(&changed, noise(10 << 20)).unwrap();
        }
        far.answer(seen)
    })
    .await;
    let pushed = client(server.addr).push_file(&repository(NAME), &path, None).await;
    assert!(matches!(&pushed, Err(RegistryError::Source { source: SourceError::Changed { .. }, .. })), "{pushed:?}");
}

#[cfg(target_os = "linux")]
mod killed {
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "BLOB_TEST_CONTENT_CHILD";

    /// Runs in a process of its own when the variable names server and directory.
    #[tokio::test]
    async fn child() {
        let Ok(job) = std::env::var(CHILD) else { return };
        let (addr, dir) = job.split_once(' ').unwrap();
        let dir = Path::new(dir);
        let client = journaled(addr.parse().unwrap(), &dir.join("journal"));
        client.push_file(&repository(NAME), &dir.join("file"), None).await.unwrap();
    }

    #[tokio::test]
    async fn a_killed_push_goes_on_with_its_hash_in_another_process() {
        const SIZE: usize = 48 << 20;
        let (content, dir) = (noise(SIZE), tempfile::tempdir().unwrap());
        let path = dir.path().join("file");
        std::fs::write(&path, &content).unwrap();
        let registry = MemoryRegistry::new();
        let server = Server::builder(Arc::new(registry.clone())).bind("127.0.0.1:0").await.unwrap();
        let shape = Shape { round_trip: Duration::ZERO, bytes_per_second: Some(40_000_000) };
        let proxy = Proxy::start(server.local_addr(), ProxyOptions { shape, ..ProxyOptions::default() }).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "client::one_pass::killed::child", "--nocapture"])
            .env(CHILD, format!("{} {}", proxy.addr(), dir.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sent = || proxy.requests().iter().map(|seen| seen.bytes_up).sum::<u64>();
        let waiting = async {
            while sent() < 36 << 20 && child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), waiting).await.unwrap();
        // What it sent it has read; what it read 16 MiB ago it has hashed and written down, if it was not very slow.
        let noted = || std::fs::read_to_string(journal_file(dir.path())).unwrap_or_default().contains("\"state\"");
        let waiting = async {
            while !noted() && child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), waiting).await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(sent() < SIZE as u64, "it was too fast to be killed");

        let read = Arc::new(AtomicU64::new(0));
        let source = Counted(Arc::new(FileSource::open(&path).unwrap()), Arc::clone(&read));
        let mut push = PushContent::new(Arc::new(source));
        push.place = Some(std::fs::canonicalize(&path).unwrap().display().to_string());
        let second = builder(proxy.addr()).upload_journal(dir.path().join("journal")).build().unwrap();
        let (digest, _) = second.push_content(&repository(NAME), &push).await.unwrap();
        assert_eq!(digest, Digest::sha256_of(&content));
        assert_eq!(registry.stat_blob(&repository(NAME), &digest).await.unwrap(), SIZE as u64);
        let read = read.load(Ordering::SeqCst);
        assert!(read <= 32 << 20, "{read} bytes of the file were read again");
        let posts = proxy.requests().iter().filter(|seen| seen.method == "POST").count();
        assert_eq!(posts, 1, "{:#?}", proxy.requests());
    }

    fn journal_file(dir: &Path) -> std::path::PathBuf {
        let entries = std::fs::read_dir(dir.join("journal")).into_iter().flatten().flatten();
        let mut paths = entries.map(|entry| entry.path());
        paths.find(|path| path.extension().is_some_and(|kind| kind == "json")).unwrap_or_default()
    }
}
