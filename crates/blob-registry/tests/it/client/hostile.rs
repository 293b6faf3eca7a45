//! Servers that take their time, forget their tokens, lead in circles, and change under one's hands.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use blob_core::{Digest, MemorySource};
use blob_registry::{
    ErrorCode, ImageManifest, Kind, LayoutStore, MemoryRegistry, PushBlob, PushManifest, Registry, RegistryExt as _,
    Server, media_type, resolve_any,
};
use blob_testkit::proxy::{Action, Faults, Latch, Proxy, ProxyOptions, Rule};
use futures_util::future::join_all;

use super::{by_tag, client, noise, repository, tag, whole};
use blob_testkit::hostile::{Reply, Script, Seen};

const NAME: &str = "team/app";

/// What a registry grants and asks for, in the words of scopes: `name:actions`.
#[derive(Default)]
struct Grants {
    /// What each token allows, and how often it was used.
    issued: Vec<(Vec<String>, usize)>,
}

impl Grants {
    /// The words of all `scope` parameters of a request for a token.
    fn issue(&mut self, query: &str) -> Reply {
        let text = query.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",").replace("%20", "+");
        let scopes = text.split('&').filter_map(|pair| pair.strip_prefix("scope="));
        let words = scopes.flat_map(|scope| scope.split('+')).map(|word| word.replace("repository:", "")).collect();
        self.issued.push((words, 0));
        Reply::new(200).json(format!(r#"{{"token":"t{}"}}"#, self.issued.len() - 1))
    }

    /// Whether the request's token allows `needed` and is good for one more use.
    fn admits(&mut self, seen: &Seen, needed: &[&str], uses: usize) -> bool {
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer t"));
        let Some((words, used)) = token.and_then(|serial| self.issued.get_mut(serial.parse::<usize>().unwrap())) else {
            return false;
        };
        *used += 1;
        *used <= uses && needed.iter().all(|need| words.iter().any(|word| word == need))
    }
}

/// Tokens end after a few uses, in the middle of a job that needs two repositories: what replaces them allows both.
#[tokio::test]
async fn a_renewed_token_allows_all_that_the_request_needs() {
    const USES: usize = 5;
    let grants = Arc::new(Mutex::new(Grants::default()));
    let far = Arc::clone(&grants);
    let server = Script::start(move |seen| {
        let mut grants = far.lock().unwrap();
        if seen.path == "/token" {
            return grants.issue(&seen.query);
        }
        let mount = seen.query.contains("mount=");
        let needed: &[&str] = match seen.method.as_str() {
            "HEAD" => &["team/app:pull,push"],
            _ if mount => &["team/app:pull,push", "base:pull"],
            _ => &["team/app:pull,push"],
        };
        if !grants.admits(seen, needed, USES) {
            // As registries do, it names a part of what is needed.
            let realm = format!("http://{}/token", seen.header("host").unwrap());
            let value = format!(r#"Bearer realm="{realm}",service="s",scope="repository:team/app:pull,push""#);
            return Reply::new(401).header("WWW-Authenticate", value);
        }
        match (seen.method.as_str(), mount) {
            ("HEAD", _) => Reply::new(404),
            ("POST", true) => Reply::new(201),
            _ => Reply::new(500),
        }
    })
    .await;
    let client = client(server.addr);
    for number in 0..20_u32 {
        let bytes = number.to_le_bytes().to_vec();
        let mut push = PushBlob::new(Digest::sha256_of(&bytes), Arc::new(MemorySource::new(bytes)));
        push.mount_from = vec![repository("base")];
        client.push_blob(&repository(NAME), push).await.unwrap();
    }
    let issued = &grants.lock().unwrap().issued;
    let mounted = server.seen().iter().filter(|seen| seen.is("POST", "") && seen.query.contains("from=base")).count();
    assert!(mounted >= 20, "{:?}", server.log());
    // 40 requests, five for each token; each end costs one request more, and the first mount a token of its own.
    assert!(issued.len() <= 12, "{} tokens: {issued:?}", issued.len());
    let with_both = issued.iter().filter(|(words, _)| words.iter().any(|word| word == "base:pull")).count();
    assert!(with_both >= 3, "{issued:?}");
}

/// The manifest is never answered about, and yet the blob is found.
#[tokio::test]
async fn an_unknown_digest_is_found_while_the_manifest_is_looked_for() {
    let registry = MemoryRegistry::new();
    let bytes = noise(1000);
    let digest = Digest::sha256_of(&bytes);
    let push = PushBlob::new(digest, Arc::new(MemorySource::new(bytes)));
    registry.push_blob(&repository(NAME), push).await.unwrap();
    let server = Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap();
    let latch = Latch::new();
    let rules = vec![
        Rule::every("/manifests/", Action::Hold(latch.clone())),
        // Long enough for the question about the manifest to go out as well.
        Rule::every("/blobs/", Action::Delay(Duration::from_millis(200))),
    ];
    let faults = ProxyOptions { faults: Faults::script(rules), ..ProxyOptions::default() };
    let proxy = Proxy::start(server.local_addr(), faults).unwrap();
    let kind = resolve_any(&client(proxy.addr()), &repository(NAME), &digest, None).await.unwrap();
    assert_eq!(kind, Kind::Blob { size: 1000 });
    let asked = |part: &str| proxy.requests().iter().filter(|seen| seen.path.contains(part)).count();
    assert_eq!((asked("/blobs/"), asked("/manifests/")), (1, 1));
    latch.open();
}

#[tokio::test]
async fn redirects_that_never_end_are_an_error() {
    let server = Script::start(|seen| Reply::new(307).header("Location", format!("{}?again", seen.path))).await;
    let client = client(server.addr);
    let digest = Digest::sha256_of(b"x");
    client.read_blob(&repository(NAME), &digest, None).await.unwrap_err();
    client.manifest(&repository(NAME), &by_tag("v1")).await.unwrap_err();
    assert!(server.seen().len() < 100, "{}", server.seen().len());
}

/// A login page of a proxy on the way, which says 200 to everything.
#[tokio::test]
async fn a_login_page_is_no_content() {
    let server = Script::start(|_| {
        Reply::new(200).header("Content-Type", "text/html").body("<html><form>Who are you?</form></html>")
    })
    .await;
    let (client, name, digest) = (client(server.addr), repository(NAME), Digest::sha256_of(b"content"));
    assert!(client.manifest(&name, &by_tag("v1")).await.is_err());
    assert!(client.manifest(&name, &digest.into()).await.is_err());
    for range in [None, Some(0..7), Some(1000..2000)] {
        let failed = match client.read_blob(&name, &digest, range.clone()).await {
            Ok(reader) if range == Some(0..7) => {
                // Ranges are checked by whoever put the parts together: it says that this is a blob of another size.
                reader.size != 7
            }
            Ok(reader) => whole(reader).await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "{range:?}");
    }
    assert!(
        client
            .referrers_support(&name)
            .await
            .is_ok_and(|found| found != blob_registry::client::ReferrersSupport::Native)
    );
    assert!(client.tags(&name, &blob_registry::PageRequest::first()).await.is_err());
}

/// The last one wins, and what the others pushed is still there by its digest.
#[tokio::test]
async fn pushes_to_one_tag_at_the_same_time_leave_all_manifests() {
    let directory = tempfile::tempdir().unwrap();
    let store = LayoutStore::open(directory.path().join("store")).await.unwrap();
    for registry in [Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>, Arc::new(store)] {
        let server = Server::builder(registry).bind("127.0.0.1:0").await.unwrap();
        let name = repository(NAME);
        client(server.local_addr()).ensure_empty_config(&name).await.unwrap();
        let pushes = (0..12).map(|number| {
            let (client, name) = (client(server.local_addr()), name.clone());
            async move {
                let manifest = ImageManifest::artifact("a/b", vec![]).with_annotation("number", number.to_string());
                let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()).with_tags([tag("v1")]);
                client.push_manifest(&name, push).await.unwrap().digest
            }
        });
        let digests = join_all(pushes).await;
        let client = client(server.local_addr());
        let now = client.resolve(&name, &by_tag("v1")).await.unwrap().digest;
        assert!(digests.contains(&now));
        for digest in digests {
            client.manifest(&name, &digest.into()).await.unwrap();
        }
    }
}

/// Each kind of refusal that passes, as often as it may come, and those that do not pass.
#[tokio::test]
async fn bursts_of_errors_pass_or_are_told() {
    for status in [429, 500, 502, 503, 504] {
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let server = Script::start(move |seen| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0..3 => Reply::new(status),
            _ => Reply::content(seen, b"content"),
        })
        .await;
        let read = client(server.addr).read_blob(&repository(NAME), &Digest::sha256_of(b"content"), None).await;
        assert_eq!(whole(read.unwrap()).await.unwrap(), b"content", "{status}");
        assert_eq!(server.seen().len(), 4, "{status}");
    }
    for (status, code) in
        [(400, None), (403, Some(ErrorCode::Denied)), (404, Some(ErrorCode::BlobUnknown)), (501, None)]
    {
        let server = Script::start(move |_| Reply::new(status)).await;
        let read = client(server.addr).read_blob(&repository(NAME), &Digest::sha256_of(b"content"), None).await;
        let error = read.unwrap_err();
        assert!(code.is_none_or(|code| error.error_code() == code), "{status}: {error:?}");
        assert_eq!(server.seen().len(), 1, "{status} is not asked again");
    }
}

/// A server that sends the head of an answer, and then a byte every now and then for hours.
async fn dripping(head: &'static str) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn who_drips_holds_nobody() {
    let limits = blob_registry::client::ClientLimits::default().with_document_time(Duration::from_secs(1));
    for (head, refused) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 800000\r\n\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 800000\r\n\r\n",
            false,
        ),
    ] {
        let client = super::builder(dripping(head).await).limits(limits).build().unwrap();
        let (name, tag) = (repository(NAME), by_tag("v1"));
        let asked = client.manifest(&name, &tag);
        // The words of a refusal are waited for five seconds.
        let error = tokio::time::timeout(Duration::from_mins(2), asked).await.expect("it ends").unwrap_err();
        assert_eq!(error.is_not_found(), refused, "{error:?}");
    }
}

/// The attempt whose answer got lost moved the tag: the condition of the next one cannot hold.
#[tokio::test]
async fn a_conditional_push_whose_answer_got_lost_is_done() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let old = Digest::sha256_of(b"old");
    let new = ImageManifest::artifact("a/b", vec![]).to_bytes();
    let mut push = PushManifest::new(media_type::IMAGE_MANIFEST, new.clone()).with_tags([tag("v1")]);
    push.if_match = Some(old);
    let (puts, digest) = (AtomicUsize::new(0), push.digest);
    let server = Script::start(move |seen| match (seen.method.as_str(), seen.path.ends_with("/v1")) {
        ("PUT", true) => Reply::new(if puts.fetch_add(1, Ordering::SeqCst) == 0 { 503 } else { 412 }),
        ("PUT", false) => Reply::new(201),
        ("HEAD", _) => Reply::new(200)
            .header("Content-Type", media_type::IMAGE_MANIFEST)
            .header("Docker-Content-Digest", if puts.load(Ordering::SeqCst) == 0 { old } else { digest })
            .header("Content-Length", new.len())
            .bare(),
        _ => Reply::new(404),
    })
    .await;
    let pushed = client(server.addr).push_manifest(&repository(NAME), push.clone()).await.unwrap();
    assert_eq!(pushed.digest, push.digest);
    // Without an attempt before it, the refusal is one.
    let server = Script::start(move |seen| match seen.method.as_str() {
        "PUT" => Reply::new(412),
        _ => Reply::new(200)
            .header("Content-Type", media_type::IMAGE_MANIFEST)
            .header("Docker-Content-Digest", old)
            .header("Content-Length", 9)
            .bare(),
    })
    .await;
    let error = client(server.addr).push_manifest(&repository(NAME), push).await.unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::PreconditionFailed);
}

/// Waits, whoever asks for them, come out of one budget.
#[tokio::test]
async fn the_budget_for_waiting_is_one() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // Refusals and broken answers in turns.
    let server = Script::start(move |_| match count.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Reply::new(503),
        _ => Reply::new(200).header("Content-Type", media_type::IMAGE_MANIFEST).body(vec![b' '; 1000]).cut(10),
    })
    .await;
    client(server.addr).manifest(&repository(NAME), &by_tag("v1")).await.unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 4, "as many attempts as the policy says, and not as many for each part");
}
