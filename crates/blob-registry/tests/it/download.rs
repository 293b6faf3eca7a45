//! One blob into a file: over several connections, through every kind of fault, in several processes.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blob_core::{Digest, Event, MemorySource};
use blob_registry::{
    Descriptor, DownloadOptions, Downloaded, MemoryRegistry, Place, PushBlob, Registry, RegistryError, Server, download,
};
use blob_testkit::proxy::{Action, Faults, Gate, Proxy, ProxyHandle, ProxyOptions, Rule, Shape};

use crate::client::{client, hasty, noise, repository};
use blob_testkit::hostile::{Reply, Script, Seen};

const NAME: &str = "team/app";

fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::of("application/octet-stream", content)
}

fn place(addr: std::net::SocketAddr) -> Place {
    Place::new(Arc::new(client(addr)), repository(NAME))
}

/// A server that holds `content`, behind a proxy.
async fn behind(content: &[u8], options: ProxyOptions) -> (ProxyHandle, blob_registry::ServerHandle) {
    let registry = MemoryRegistry::new();
    let push = PushBlob::new(Digest::sha256_of(content), Arc::new(MemorySource::new(content.to_vec())));
    registry.push_blob(&repository(NAME), push).await.unwrap();
    let server = Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap();
    (Proxy::start(server.local_addr(), options).unwrap(), server)
}

async fn fetch(from: &Place, content: &[u8], dir: &Path) -> Result<Downloaded, RegistryError> {
    let path = dir.join("blob");
    let downloaded = download(from, &descriptor(content), &path, &DownloadOptions::default()).await?;
    assert!(std::fs::read(&path).unwrap() == content, "wrong bytes under the final name");
    assert_eq!(names(dir), ["blob"], "nothing else stays");
    Ok(downloaded)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A server of one blob: `lie` sees how many requests came before, and what an honest one would answer.
async fn serving(content: Vec<u8>, lie: impl Fn(usize, &Seen, Reply) -> Reply + Send + Sync + 'static) -> Script {
    let count = AtomicUsize::new(0);
    Script::start(move |seen| {
        let before = count.fetch_add(1, Ordering::SeqCst);
        lie(before, seen, Reply::content(seen, &content))
    })
    .await
}

#[tokio::test]
async fn a_blob_comes_in_closed_ranges_each_byte_once() {
    let content = noise(40 << 20);
    let (proxy, _server) = behind(&content, ProxyOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let downloaded = fetch(&place(proxy.addr()), &content, dir.path()).await.unwrap();
    assert_eq!((downloaded.resumed, downloaded.fetched, downloaded.repeated), (0, 40 << 20, false));
    assert!(downloaded.connections >= 2, "{downloaded:?}");
    let log = proxy.take();
    assert!(log.iter().all(|seen| seen.method == "GET" && seen.range.is_some()), "{log:#?}");
    assert!(log.iter().all(|seen| !seen.range.as_deref().unwrap().ends_with('-')), "ranges are closed: {log:#?}");
}

#[tokio::test]
async fn small_and_empty_blobs_take_one_request_or_none() {
    for size in [0, 1, 1000, 1 << 20] {
        let content = noise(size);
        let (proxy, _server) = behind(&content, ProxyOptions::default()).await;
        let dir = tempfile::tempdir().unwrap();
        fetch(&place(proxy.addr()), &content, dir.path()).await.unwrap();
        assert_eq!(proxy.take().len(), usize::from(size > 0), "{size}");
    }
}

#[tokio::test]
async fn registries_of_this_process_are_read_too() {
    let content = noise(3 << 20);
    let registry = Arc::new(MemoryRegistry::new());
    let push = PushBlob::new(Digest::sha256_of(&content), Arc::new(MemorySource::new(content.clone())));
    registry.push_blob(&repository(NAME), push).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let downloaded = fetch(&Place::new(registry, repository(NAME)), &content, dir.path()).await.unwrap();
    assert_eq!(downloaded.connections, 1);
}

/// F01, F05: connections that break or stall go on at the byte they reached.
#[tokio::test]
async fn broken_parts_go_on_where_they_broke() {
    let content = noise(20 << 20);
    let rules = vec![
        Rule::first("/blobs/", Action::Cut(100_000)),
        Rule::first("/blobs/", Action::Cut(0)).after(1),
        Rule::first("/blobs/", Action::Stall(2_000_000)).after(2),
        Rule::first("/blobs/", Action::Cut(1_000_000)).after(3).times(2),
    ];
    let options = ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() };
    let (proxy, _server) = behind(&content, options).await;
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Arc::new(hasty(proxy.addr())), repository(NAME));
    let downloaded = fetch(&place, &content, dir.path()).await.unwrap();
    assert_eq!(downloaded.fetched, 20 << 20, "no byte is taken twice");
    let sent: u64 = proxy.take().iter().map(|seen| seen.bytes_down).sum();
    assert!(sent < (20 << 20) * 6 / 5, "{sent} bytes were sent");
}

/// F02: a registry that answers ranges with whole blobs is read in one go, not once for each part.
#[tokio::test]
async fn a_registry_without_ranges_is_read_in_one_go() {
    let content = noise(30 << 20);
    let bytes = content.clone();
    let server = serving(content.clone(), move |_, _, _| Reply::new(200).body(bytes.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    fetch(&place(server.addr), &content, dir.path()).await.unwrap();
    // The first two connections find it out; whatever is asked for then goes to the end.
    let ranges: Vec<_> = server.seen().iter().map(Seen::range).collect();
    let parts = ranges.iter().flatten().filter(|range| range.end != 30 << 20).count();
    assert!(parts <= 2, "{ranges:?}");
}

/// F03, F04: answers that are not the part that was asked for.
#[tokio::test]
async fn lies_about_ranges_end_in_an_error() {
    type Lie = fn(&Seen, Reply) -> Reply;
    let content = noise(3 << 20);
    let lies: [(&str, Lie); 4] = [
        ("another part", |seen, _| {
            let std::ops::Range { start, end } = seen.range().unwrap();
            let body = vec![0; end - start];
            Reply::new(206).header("Content-Range", format!("bytes {}-{end}/{}", start + 1, 3 << 20)).body(body)
        }),
        ("another size", |_, _| Reply::new(206).header("Content-Range", "bytes 0-9/10").body(vec![0; 10])),
        ("no range", |_, _| Reply::new(206).body(vec![0; 10])),
        ("not satisfiable", |_, _| Reply::new(416)),
    ];
    for (name, lie) in lies {
        let server = serving(content.clone(), move |_, seen, reply| lie(seen, reply)).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        let options = DownloadOptions::default().with_resume(false);
        let error = download(&place(server.addr), &descriptor(&content), &path, &options).await.unwrap_err();
        assert!(!error.is_transient(), "{name}: {error}");
        assert_eq!(names(dir.path()), Vec::<String>::new(), "{name}");
    }
}

/// F06, F07: the registry is waited for.
#[tokio::test]
async fn refusals_that_pass_are_waited_for() {
    let content = noise(20 << 20);
    let server = serving(content.clone(), |before, _, reply| match before {
        0 => Reply::new(429).header("Retry-After", "0"),
        1 => Reply::new(503).header("Retry-After", "Fri, 01 Jan 2021 00:00:00 GMT"),
        2 | 3 => Reply::new(500),
        4 => Reply::new(502),
        6 => Reply::new(504),
        _ => reply,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    fetch(&place(server.addr), &content, dir.path()).await.unwrap();
}

/// F09: signed URLs that expire between ranges are asked for again; they never see credentials.
#[tokio::test]
async fn signed_urls_that_expire_are_renewed() {
    let content = noise(24 << 20);
    let (issued, bytes) = (Arc::new(AtomicUsize::new(0)), content.clone());
    let served = Arc::new(Mutex::new(std::collections::HashMap::<String, usize>::new()));
    let uses = Arc::clone(&served);
    let store = Script::start(move |seen| {
        assert!(seen.header("authorization").is_none());
        let mut uses = uses.lock().unwrap();
        let used = uses.entry(seen.query.clone()).or_default();
        *used += 1;
        if *used > 2 { Reply::new(403).body("expired") } else { Reply::content(seen, &bytes) }
    })
    .await;
    let (addr, count) = (store.addr, Arc::clone(&issued));
    let registry = Script::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Reply::new(307).header("Location", format!("http://{addr}/data?signature={number}"))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    fetch(&place(registry.addr), &content, dir.path()).await.unwrap();
    assert!(issued.load(Ordering::SeqCst) >= 2);
    assert!(store.seen().iter().all(|seen| seen.method == "GET"), "a URL signed for GET forbids HEAD");
}

/// F08: a token that ends under way is replaced.
#[tokio::test]
async fn a_token_and_a_redirect_change_nothing() {
    let content = noise(20 << 20);
    let gate = Gate { token: Some("secret".into()), redirect_blobs: true };
    let (proxy, _server) = behind(&content, ProxyOptions { gate, ..ProxyOptions::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    fetch(&place(proxy.addr()), &content, dir.path()).await.unwrap();
    let log = proxy.take();
    let tokens = log.iter().filter(|seen| seen.path == "/token").count();
    assert!(tokens <= 2, "{log:#?}");
}

/// F11: wrong bytes are fetched once more, without ranges and on another connection.
#[tokio::test]
async fn wrong_bytes_are_fetched_once_more() {
    let content = noise(20 << 20);
    let server = serving(content.clone(), |_, seen, reply| match seen.range() {
        Some(std::ops::Range { start, end }) if start <= 9 << 20 && 9 << 20 < end => reply.body(vec![0; end - start]),
        _ => reply,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let downloaded = fetch(&place(server.addr), &content, dir.path()).await.unwrap();
    assert!(downloaded.repeated);
    assert_eq!(server.seen().iter().filter(|seen| seen.range().is_none()).count(), 1);
}

#[tokio::test]
async fn bytes_that_stay_wrong_are_an_error_and_leave_nothing() {
    let content = noise(2 << 20);
    let page = b"<html>log in</html>".repeat(200_000)[..2 << 20].to_vec();
    let server = serving(page, |_, _, reply| reply).await;
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&place(server.addr), &content, dir.path()).await.unwrap_err();
    let text = crate::client::everything(&error);
    assert!(text.contains(&Digest::sha256_of(&content).to_string()), "{text}");
    assert_eq!(error.kind(), blob_core::FailureKind::Integrity, "{text}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
    assert_eq!(server.seen().iter().filter(|seen| seen.range().is_none()).count(), 1, "once more, not for ever");
}

/// F13: a registry that goes away is an error; what came is not fetched again when it is back.
#[tokio::test]
async fn what_came_before_a_failure_is_not_fetched_again() {
    let content = noise(40 << 20);
    let rules = vec![Rule::every("/blobs/", Action::status(404)).after(3)];
    let (proxy, server) =
        behind(&content, ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&place(proxy.addr()), &content, dir.path()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(!dir.path().join("blob").exists());
    let downloaded = fetch(&place(server.local_addr()), &content, dir.path()).await.unwrap();
    assert!(downloaded.resumed > 0 && downloaded.resumed + downloaded.fetched == 40 << 20, "{downloaded:?}");
}

/// Progress can stop a download, and the next one goes on.
#[tokio::test]
async fn progress_is_told_and_stops() {
    let content = noise(60 << 20);
    let options = ProxyOptions {
        shape: Shape { round_trip: Duration::ZERO, bytes_per_second: Some(100_000_000) },
        ..ProxyOptions::default()
    };
    let (proxy, _server) = behind(&content, options).await;
    let dir = tempfile::tempdir().unwrap();
    let stop = Arc::new(|event: &Event<'_>| match event {
        Event::Downloading { what: "data", bytes, bytes_total } if *bytes_total == 60 << 20 && *bytes > 9 << 20 => {
            std::ops::ControlFlow::Break(())
        }
        _ => std::ops::ControlFlow::Continue(()),
    });
    let options = DownloadOptions::default().with_progress("data", stop);
    let path = dir.path().join("blob");
    let error = download(&place(proxy.addr()), &descriptor(&content), &path, &options).await.unwrap_err();
    assert!(matches!(error, RegistryError::Cancelled { .. }), "{error}");
    let downloaded = fetch(&place(proxy.addr()), &content, dir.path()).await.unwrap();
    assert!(downloaded.resumed >= 9 << 20, "{downloaded:?}");
}

/// A partial file whose bytes were lost while its journal was not: the digest finds it out.
#[tokio::test]
async fn a_journal_that_promises_too_much_does_no_harm() {
    let content = noise(40 << 20);
    let rules = vec![Rule::every("/blobs/", Action::status(404)).after(3)];
    let (proxy, server) =
        behind(&content, ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    fetch(&place(proxy.addr()), &content, dir.path()).await.unwrap_err();
    let partial = names(dir.path()).into_iter().find(|name| name.ends_with(".partial")).unwrap();
    std::fs::write(dir.path().join(partial), vec![0; 40 << 20]).unwrap();
    let downloaded = fetch(&place(server.local_addr()), &content, dir.path()).await.unwrap();
    assert!(downloaded.repeated && downloaded.resumed > 0, "{downloaded:?}");
}

/// Two downloads of one blob to one place do not disturb each other.
#[tokio::test]
async fn two_downloads_to_one_place_both_end_well() {
    let content = noise(20 << 20);
    let (proxy, _server) = behind(&content, ProxyOptions::default()).await;
    let (from, dir) = (place(proxy.addr()), tempfile::tempdir().unwrap());
    let (blob, path, options) = (descriptor(&content), dir.path().join("blob"), DownloadOptions::default());
    let (one, other) = tokio::join!(download(&from, &blob, &path, &options), download(&from, &blob, &path, &options));
    one.unwrap();
    other.unwrap();
    assert!(std::fs::read(&path).unwrap() == content);
    assert_eq!(names(dir.path()), ["blob"]);
}

/// Random faults never give wrong bytes, and are overcome.
#[tokio::test]
async fn seeded_faults_are_overcome() {
    let content = noise(12 << 20);
    let actions = vec![
        Action::Cut(0),
        Action::Cut(70_000),
        Action::Cut(3_000_000),
        Action::status(500),
        Action::status_with(503, "Retry-After", "0"),
        Action::status_with(429, "Retry-After", "0"),
        Action::Flip(1234),
        Action::IgnoreRange,
    ];
    for seed in 0..6 {
        let faults = Faults::seeded(seed, 3, actions.clone());
        let (proxy, _server) = behind(&content, ProxyOptions { faults, ..ProxyOptions::default() }).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        let from = place(proxy.addr());
        // A flipped byte may come twice; then it is an error, and never the wrong file.
        let result = download(&from, &descriptor(&content), &path, &DownloadOptions::default()).await;
        match result {
            Ok(_) => assert!(std::fs::read(&path).unwrap() == content, "seed {seed}"),
            Err(error) => {
                assert!(!path.exists(), "seed {seed}");
                assert!(
                    error.kind() == blob_core::FailureKind::Integrity || error.is_transient(),
                    "seed {seed}: {error}"
                );
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod killed {
    //! The process dies in the middle; another one goes on.

    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "BLOB_TEST_DOWNLOAD_CHILD";

    /// Runs in a process of its own when the variable names server, directory and digest.
    #[tokio::test]
    async fn child() {
        let Ok(job) = std::env::var(CHILD) else { return };
        let mut words = job.split(' ');
        let (addr, dir, digest, size) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let blob =
            Descriptor::new("application/octet-stream".to_owned(), digest.parse().unwrap(), size.parse().unwrap());
        let path = Path::new(dir).join("blob");
        download(&place(addr.parse().unwrap()), &blob, &path, &DownloadOptions::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_killed_download_goes_on_in_another_process() {
        let content = noise(64 << 20);
        let shape = Shape { round_trip: Duration::ZERO, bytes_per_second: Some(60_000_000) };
        let (proxy, server) = behind(&content, ProxyOptions { shape, ..ProxyOptions::default() }).await;
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::sha256_of(&content);
        let job = format!("{} {} {digest} {}", proxy.addr(), dir.path().display(), content.len());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "download::killed::child", "--nocapture"])
            .env(CHILD, job)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sent = || proxy.requests().iter().map(|seen| seen.bytes_down).sum::<u64>();
        let ended = tokio::time::timeout(Duration::from_mins(2), async {
            while sent() < 30 << 20 && child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        ended.await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let first = sent();
        assert!(!dir.path().join("blob").exists(), "it was too fast to be killed");
        let downloaded = fetch(&place(server.local_addr()), &content, dir.path()).await.unwrap();
        let again = (first + downloaded.fetched).saturating_sub(64 << 20);
        assert!(again <= 16 << 20, "{again} bytes were fetched again: {downloaded:?}");
        assert_eq!(downloaded.resumed + downloaded.fetched, 64 << 20);
    }
}

#[cfg(feature = "layout")]
#[tokio::test]
async fn a_copy_by_way_of_files_does_not_fetch_twice_what_came() {
    use blob_registry::{CopyOptions, ImageManifest, LayoutRegistry, PushManifest, copy, media_type};

    let content = noise(40 << 20);
    let registry = MemoryRegistry::new();
    for bytes in [content.clone(), b"{}".to_vec()] {
        let push = PushBlob::new(Digest::sha256_of(&bytes), Arc::new(MemorySource::new(bytes)));
        registry.push_blob(&repository(NAME), push).await.unwrap();
    }
    let manifest = ImageManifest::artifact("a/b", vec![descriptor(&content)]).to_bytes();
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest);
    let target = registry.push_manifest(&repository(NAME), push).await.unwrap().digest.into();
    let server = Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap();
    let rules = vec![Rule::every(&Digest::sha256_of(&content).to_string(), Action::status(404)).method("GET").after(3)];
    let faults = ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() };
    let proxy = Proxy::start(server.local_addr(), faults).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let layout = LayoutRegistry::open_or_create(dir.path().join("layout")).await.unwrap();
    let to = Place::new(Arc::new(layout), repository(NAME));
    let mut options = CopyOptions::default();
    options.spool_dir = Some(spool.clone());
    copy(&place(proxy.addr()), &target, &to, &options).await.unwrap_err();
    assert_eq!(names(&spool).len(), 2, "a partial file and its journal: {:?}", names(&spool));

    let second = Proxy::start(server.local_addr(), ProxyOptions::default()).unwrap();
    let report = copy(&place(second.addr()), &target, &to, &options).await.unwrap();
    assert_eq!(report.blobs_copied, 1, "the config came the first time");
    let fetched: u64 = second.take().iter().map(|seen| seen.bytes_down).sum();
    assert!(fetched < 39 << 20, "{fetched}");
    assert_eq!(names(&spool), Vec::<String>::new());
    let digest = Digest::sha256_of(&content);
    assert_eq!(to.registry.stat_blob(&to.repository, &digest).await.unwrap(), 40 << 20);
}
