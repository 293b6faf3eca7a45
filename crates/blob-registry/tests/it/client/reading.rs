//! Manifests and blobs: few requests, every lie noticed, every broken transfer taken up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blob_core::{Digest, FailureKind, MemorySource};
use blob_registry::{
    Descriptor, ErrorCode, ImageIndex, ImageManifest, MemoryRegistry, PushBlob, PushManifest, Registry, RegistryError,
    Server, Target, media_type,
};
use blob_testkit::proxy::{Action, Faults, Gate, Proxy, ProxyOptions, Rule};

use super::{by_tag, client, everything, hasty, noise, repository, tag, whole};
use blob_testkit::hostile::{Reply, Script, Seen};

const NAME: &str = "team/app";

/// An archive-like artifact in a registry: manifest, index blob, data blob.
async fn stocked() -> (MemoryRegistry, Digest, Digest, Vec<u8>) {
    let registry = MemoryRegistry::new();
    let data = noise(300_000);
    for bytes in [b"{}".to_vec(), b"index".to_vec(), data.clone()] {
        let push = PushBlob::new(Digest::sha256_of(&bytes), Arc::new(MemorySource::new(bytes)));
        registry.push_blob(&repository(NAME), push).await.unwrap();
    }
    let layers = vec![Descriptor::of("a/index", b"index"), Descriptor::of("a/data", &data)];
    let manifest = ImageManifest::artifact("a/b", layers).to_bytes();
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest).with_tags([tag("v1")]);
    registry.push_manifest(&repository(NAME), push).await.unwrap();
    (registry, Digest::sha256_of(b"index"), Digest::sha256_of(&data), data)
}

/// Manifest by tag, index, one range of the data.
async fn cold_read(gate: Gate) -> Vec<String> {
    let (registry, index, data, bytes) = stocked().await;
    let server = Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr(), ProxyOptions { gate, ..ProxyOptions::default() }).unwrap();
    let (client, name) = (client(proxy.addr()), repository(NAME));
    let manifest = client.manifest(&name, &by_tag("v1")).await.unwrap();
    assert_eq!(manifest.descriptor.media_type, media_type::IMAGE_MANIFEST);
    assert_eq!(whole(client.read_blob(&name, &index, None).await.unwrap()).await.unwrap(), b"index");
    let range = client.read_blob(&name, &data, Some(1000..2000)).await.unwrap();
    assert_eq!(range.size, 300_000);
    assert_eq!(whole(range).await.unwrap(), &bytes[1000..2000]);
    proxy.take().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_cold_read_takes_three_requests() {
    let log = cold_read(Gate::default()).await;
    assert_eq!(log.len(), 3, "{log:#?}");
}

#[tokio::test]
async fn a_token_costs_two_more_and_a_redirect_one_each() {
    let token = Some("secret".to_owned());
    let log = cold_read(Gate { token: token.clone(), redirect_blobs: false }).await;
    assert_eq!(log.len(), 5, "{log:#?}");
    let log = cold_read(Gate { token, redirect_blobs: true }).await;
    assert_eq!(log.len(), 7, "{log:#?}");
}

#[tokio::test]
async fn resolving_takes_one_request_and_unchanged_tags_are_seen() {
    let (registry, ..) = stocked().await;
    let server = Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr(), ProxyOptions::default()).unwrap();
    let (client, name) = (client(proxy.addr()), repository(NAME));
    let resolved = client.resolve(&name, &by_tag("v1")).await.unwrap();
    let log = proxy.take();
    assert_eq!((log.len(), log[0].method.as_str()), (1, "HEAD"));
    assert_eq!(client.manifest(&name, &resolved.digest.into()).await.unwrap().descriptor, resolved);
    let missing = client.resolve(&name, &by_tag("none")).await.unwrap_err();
    assert!(missing.is_not_found() && missing.to_string().contains(&format!("{NAME}:none")), "{missing}");
}

fn manifest() -> Vec<u8> {
    ImageManifest::artifact("a/b", vec![Descriptor::of("a/data", b"data")]).to_bytes()
}

fn reply(kind: &str, bytes: impl Into<Vec<u8>>) -> Reply {
    Reply::new(200).header("Content-Type", kind).body(bytes)
}

/// Reads a manifest from a server that always answers `reply`.
async fn read_manifest(reply: Reply, target: &Target) -> Result<Vec<u8>, RegistryError> {
    let server = Script::start(move |_| reply.clone()).await;
    let manifest = client(server.addr).manifest(&repository(NAME), target).await?;
    assert_eq!(manifest.descriptor.digest, Digest::sha256_of(&manifest.bytes));
    Ok(manifest.bytes.to_vec())
}

#[tokio::test]
async fn manifests_are_what_they_say_or_an_error() {
    let good = manifest();
    let digest = Digest::sha256_of(&good);
    let other = ImageManifest::artifact("evil/b", vec![]).to_bytes();
    let index = ImageIndex::new(vec![]).to_bytes();
    let kind = media_type::IMAGE_MANIFEST;
    let text = String::from_utf8(good.clone()).unwrap();
    let (by_digest, v1) = (Target::Digest(digest), by_tag("v1"));
    for target in [&by_digest, &v1] {
        let fine = reply(kind, good.clone()).header("Docker-Content-Digest", digest);
        assert_eq!(read_manifest(fine, target).await.unwrap(), good);
        assert_eq!(read_manifest(reply(kind, good.clone()), target).await.unwrap(), good);
        // A content type that says nothing leaves it to the document.
        assert_eq!(read_manifest(reply("application/json", good.clone()), target).await.unwrap(), good);
    }
    let lies = [
        ("substituted", reply(kind, other.clone()), &by_digest),
        ("substituted and flattering", reply(kind, other.clone()).header("Docker-Content-Digest", digest), &by_digest),
        ("flattering by tag", reply(kind, other).header("Docker-Content-Digest", digest), &v1),
        (
            "lying header",
            reply(kind, good.clone()).header("Docker-Content-Digest", Digest::sha256_of(b"x")),
            &by_digest,
        ),
        ("header without sense", reply(kind, good.clone()).header("Docker-Content-Digest", "sha256:../../x"), &v1),
        ("called an index", reply(media_type::IMAGE_INDEX, good.clone()), &by_digest),
        ("index called manifest", reply(kind, index), &v1),
        ("both kinds", reply(kind, text.replace("\"layers\"", "\"manifests\":[],\"layers\"")), &v1),
        (
            "duplicate member",
            reply(kind, text.replace("\"schemaVersion\":2", "\"schemaVersion\":2,\"schemaVersion\":2")),
            &v1,
        ),
        ("no type anywhere", reply("text/plain", "{}"), &v1),
        ("login page", reply("text/html", "<html>").header("Docker-Content-Digest", digest), &v1),
        ("too large", reply(kind, vec![b' '; (4 << 20) + 1]), &v1),
        ("endless", reply(kind, vec![b' '; (4 << 20) + 1]).bare(), &v1),
        ("cut for ever", reply(kind, good.clone()).cut(10), &v1),
        ("redirect loop", Reply::new(302).header("Location", "/v2/"), &v1),
        ("redirect to a file", Reply::new(302).header("Location", "file:///etc/passwd"), &v1),
    ];
    for (what, reply, target) in lies {
        let error = read_manifest(reply, target).await.expect_err(what);
        assert!(error.to_string().starts_with("reading manifest 127.0.0.1:"), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_head_that_lacks_the_digest_is_followed_by_a_get() {
    let good = manifest();
    let digest = Digest::sha256_of(&good);
    let bytes = good.clone();
    let server = Script::start(move |_| reply(media_type::IMAGE_MANIFEST, bytes.clone())).await;
    let resolved = client(server.addr).resolve(&repository(NAME), &by_tag("v1")).await.unwrap();
    assert_eq!((resolved.digest, resolved.size), (digest, good.len() as u64));
    assert_eq!((server.count("HEAD", ""), server.count("GET", "")), (1, 1));
    let lying = Script::start(move |_| {
        reply(media_type::IMAGE_MANIFEST, "x").header("Docker-Content-Digest", Digest::sha256_of(b"other"))
    })
    .await;
    let error = client(lying.addr).resolve(&repository(NAME), &digest.into()).await.unwrap_err();
    assert!(error.is_integrity(), "{error}");
}

#[tokio::test]
async fn refusals_keep_the_registrys_words_and_its_wish_to_wait() {
    let server = Script::start(|seen| match seen.path.rsplit('/').next().unwrap() {
        "busy" => Reply::new(429).header("Retry-After", "3600"),
        "words" => Reply::new(404).json(r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no\u001b[31m such?a=b"}]}"#),
        "long" => Reply::new(400).header("Content-Type", "text/plain").body(vec![b'x'; 1 << 20]),
        _ => Reply::new(418),
    })
    .await;
    let client = client(server.addr);
    let read = async |name: &str| client.manifest(&repository(NAME), &by_tag(name)).await.unwrap_err();
    match read("busy").await {
        RegistryError::Code {
            code: ErrorCode::TooManyRequests, status: Some(429), retry_after: Some(wait), ..
        } => {
            assert_eq!(wait.as_secs(), 3600);
        }
        other => panic!("{other:?}"),
    }
    let words = read("words").await;
    assert!(words.is_not_found());
    assert!(words.to_string().ends_with("NAME_UNKNOWN: no\\u{1b}[31m such?…"), "{words}");
    assert!(read("long").await.to_string().len() < 1200);
    assert!(read("pot").await.to_string().contains("418"));
}

#[tokio::test]
async fn waits_that_a_registry_asks_for_are_in_the_budget() {
    let good = manifest();
    let server =
        Script::start(move |_| reply(media_type::IMAGE_MANIFEST, good.clone()).header("RateLimit", "\"d\";r=0;t=1"))
            .await;
    let asking = |budget: u64| {
        let retry = blob_http::RetryPolicy::default().with_budget(std::time::Duration::from_millis(budget));
        blob_registry::client::RegistryClient::builder(server.addr.to_string()).retry(retry).build().unwrap()
    };
    let (patient, impatient) = (asking(10_000), asking(500));
    for client in [&patient, &patient, &impatient] {
        client.manifest(&repository(NAME), &by_tag("v1")).await.unwrap();
    }
    let error = impatient.manifest(&repository(NAME), &by_tag("v1")).await.unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::TooManyRequests, "{error}");
    assert!(error.to_string().contains("wants no requests for 1 s"), "{error}");
    assert_eq!(server.seen().len(), 3, "the last one was not sent");
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    let good = manifest();
    let calls = AtomicUsize::new(0);
    let server = Script::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429).header("Retry-After", "1"),
        1 => Reply::new(503),
        2 => reply(media_type::IMAGE_MANIFEST, good.clone()).cut(20),
        _ => reply(media_type::IMAGE_MANIFEST, good.clone()),
    })
    .await;
    let begin = std::time::Instant::now();
    client(server.addr).manifest(&repository(NAME), &by_tag("v1")).await.unwrap();
    assert!(begin.elapsed().as_millis() >= 1000, "Retry-After is honoured");
    assert_eq!(server.seen().len(), 4);
}

/// Serves `content` for blob GETs, as `lie` changes it.
async fn blob_server(content: Vec<u8>, lie: impl Fn(usize, &Seen, Reply) -> Reply + Send + Sync + 'static) -> Script {
    let calls = AtomicUsize::new(0);
    Script::start(move |seen| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        lie(call, seen, Reply::content(seen, &content))
    })
    .await
}

#[tokio::test]
async fn broken_transfers_go_on_at_the_byte_they_reached() {
    let content = noise(200_000);
    let digest = Digest::sha256_of(&content);
    for range in [None, Some(50_000..150_000)] {
        let server = blob_server(content.clone(), |call, _, reply| match call {
            0 => reply.cut(30_000),
            1 => Reply::new(503),
            2 => reply.cut(0),
            3 => reply.cut(10_000),
            _ => reply,
        })
        .await;
        let reader = client(server.addr).read_blob(&repository(NAME), &digest, range.clone()).await.unwrap();
        let expect = range.clone().map_or(&content[..], |range| &content[range.start as usize..range.end as usize]);
        assert!(whole(reader).await.unwrap() == expect);
        let starts: Vec<_> = server.seen().iter().map(|seen| seen.range().map_or(0, |range| range.start)).collect();
        let first = range.map_or(0, |range| range.start as usize);
        assert_eq!(starts, [0, 30_000, 30_000, 30_000, 40_000].map(|at| at + first), "no byte is asked for twice");
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_skipped_through() {
    let content = noise(100_000);
    let digest = Digest::sha256_of(&content);
    let bytes = content.clone();
    let server = blob_server(vec![], move |call, _, _| {
        let reply = Reply::new(200).body(bytes.clone());
        if call == 1 { reply.cut(60_000) } else { reply }
    })
    .await;
    let client = client(server.addr);
    let name = repository(NAME);
    assert!(!client.ignores_ranges());
    let reader = client.read_blob(&name, &digest, Some(10..20)).await.unwrap();
    assert_eq!(whole(reader).await.unwrap(), &content[10..20]);
    assert!(client.ignores_ranges());
    let reader = client.read_blob(&name, &digest, None).await.unwrap();
    assert!(whole(reader).await.unwrap() == content);
    let reader = client.read_blob(&name, &digest, Some(99_999..100_001)).await;
    assert_eq!(reader.unwrap_err().error_code(), ErrorCode::RangeInvalid);
}

#[tokio::test]
async fn lies_about_ranges_are_not_believed() {
    let content = noise(1000);
    let digest = Digest::sha256_of(&content);
    let said = |value: &'static str| {
        move |_: usize, _: &Seen, _: Reply| Reply::new(206).header("Content-Range", value).body(vec![b'x'; 100])
    };
    let lies: Vec<(&str, Script)> = vec![
        ("shifted", blob_server(content.clone(), said("bytes 101-200/1000")).await),
        ("shorter", blob_server(content.clone(), said("bytes 100-198/1000")).await),
        ("longer", blob_server(content.clone(), said("bytes 100-299/1000")).await),
        ("no total", blob_server(content.clone(), said("bytes 100-199/*")).await),
        ("total too small", blob_server(content.clone(), said("bytes 100-199/150")).await),
        ("no sense", blob_server(content.clone(), said("bytes")).await),
        ("no header", blob_server(content.clone(), |_, _, _| Reply::new(206).body(vec![b'x'; 100])).await),
        (
            "too much",
            blob_server(content.clone(), |_, _, _| {
                Reply::new(206).header("Content-Range", "bytes 100-199/1000").body(vec![b'x'; 200]).bare()
            })
            .await,
        ),
        ("too little", blob_server(content.clone(), |_, _, reply| reply.cut(0)).await),
        ("gzip", blob_server(content.clone(), |_, _, reply| reply.header("Content-Encoding", "gzip")).await),
        (
            "size changes",
            blob_server(content.clone(), |call, seen, reply| match call {
                0 => reply.cut(10),
                _ => Reply::content(seen, &noise(1001)),
            })
            .await,
        ),
        ("nothing", blob_server(content.clone(), |_, _, _| Reply::new(204)).await),
    ];
    for (what, server) in lies {
        let name = repository(NAME);
        let opened = client(server.addr).read_blob(&name, &digest, Some(100..200)).await;
        let failed = match opened {
            Ok(reader) => whole(reader).await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "{what}");
    }
}

#[tokio::test]
async fn a_whole_blob_with_wrong_bytes_ends_in_an_error() {
    let content = noise(100_000);
    let digest = Digest::sha256_of(&content);
    for position in [0, 50_000, 99_999] {
        let mut bytes = content.clone();
        bytes[position] ^= 1;
        let server = blob_server(bytes, |_, _, reply| reply).await;
        let reader = client(server.addr).read_blob(&repository(NAME), &digest, None).await.unwrap();
        let error = whole(reader).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Integrity, "{error}");
    }
    let server = blob_server(vec![], |_, _, reply| reply).await;
    let error = client(server.addr).read_blob(&repository(NAME), &digest, None).await.unwrap_err();
    assert!(error.is_integrity(), "an empty answer: {error}");
}

#[tokio::test]
async fn ranges_outside_and_empty_ranges() {
    let content = noise(1000);
    let digest = Digest::sha256_of(&content);
    let server = blob_server(content, |_, _, reply| reply).await;
    let (client, name) = (client(server.addr), repository(NAME));
    let read = async |range| client.read_blob(&name, &digest, Some(range)).await;
    assert!(whole(read(500..500).await.unwrap()).await.unwrap().is_empty());
    assert!(whole(read(1000..1000).await.unwrap()).await.unwrap().is_empty());
    #[expect(clippy::reversed_empty_ranges, reason = "that is the point")]
    for range in [1001..1001, 999..1001, 5000..6000, 20..10, u64::MAX - 1..u64::MAX] {
        assert_eq!(read(range.clone()).await.unwrap_err().error_code(), ErrorCode::RangeInvalid, "{range:?}");
    }
}

#[tokio::test]
async fn only_a_200_with_a_length_tells_a_size() {
    let digest = Digest::sha256_of(b"x");
    let size = async |reply: Reply| {
        let server = Script::start(move |seen| match seen.method.as_str() {
            "HEAD" => reply.clone(),
            _ => Reply::new(404),
        })
        .await;
        client(server.addr).stat_blob(&repository(NAME), &digest).await
    };
    assert_eq!(size(Reply::new(200).header("Content-Length", 7)).await.unwrap(), 7);
    assert!(size(Reply::new(404).header("Content-Length", 7)).await.unwrap_err().is_not_found());
    assert!(size(Reply::new(403).header("Content-Length", 7)).await.is_err());
    assert!(size(Reply::new(206).header("Content-Length", 7)).await.is_err());
    let other = Digest::sha256_of(b"y");
    let lying = Reply::new(200).header("Content-Length", 7).header("Docker-Content-Digest", other);
    assert!(size(lying).await.unwrap_err().is_integrity());
}

/// A store on an origin of its own, which refuses whoever brings credentials.
async fn store(content: Vec<u8>, expired: Arc<AtomicUsize>) -> Script {
    Script::start(move |seen| {
        if seen.header("authorization").is_some() {
            return Reply::new(400);
        }
        let generation: usize = seen.query.split("sig=").nth(1).unwrap_or("0").parse().unwrap();
        if generation < expired.load(Ordering::SeqCst) {
            return Reply::new(403).header("WWW-Authenticate", "Basic realm=\"give me your password\"");
        }
        Reply::content(seen, &content)
    })
    .await
}

#[tokio::test]
async fn redirects_are_followed_without_credentials_and_remembered() {
    use blob_registry::client::{Credential, Static};
    let content = noise(10_000);
    let digest = Digest::sha256_of(&content);
    let expired = Arc::new(AtomicUsize::new(0));
    let store = store(content.clone(), Arc::clone(&expired)).await;
    let (to, generation) = (store.addr, AtomicUsize::new(0));
    let registry = Script::start(move |seen| {
        if seen.header("authorization").is_none() {
            return Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\"");
        }
        let signature = generation.fetch_add(1, Ordering::SeqCst);
        Reply::new(307).header("Location", format!("http://{to}/blob?sig={signature}"))
    })
    .await;
    let credentials = Static::new().with(registry.addr.to_string(), Credential::basic("user", "canary"));
    let client = super::builder(registry.addr).credentials(credentials).build().unwrap();
    let name = repository(NAME);
    let read = async |range: std::ops::Range<u64>| {
        let expect = content[range.start as usize..range.end as usize].to_vec();
        assert_eq!(whole(client.read_blob(&name, &digest, Some(range)).await.unwrap()).await.unwrap(), expect);
    };
    read(0..10).await;
    assert_eq!((registry.seen().len(), store.seen().len()), (2, 1));
    read(10..20).await;
    read(20..30).await;
    assert_eq!((registry.seen().len(), store.seen().len()), (2, 3), "straight to the store");
    expired.store(1, Ordering::SeqCst);
    read(30..40).await;
    assert_eq!((registry.seen().len(), store.seen().len()), (3, 5), "the registry is asked again, once");
    // A store that refuses for good is an error, and never learns who we are.
    expired.store(usize::MAX, Ordering::SeqCst);
    let error = client.read_blob(&name, &digest, Some(0..10)).await.unwrap_err();
    assert!(!everything(&error).contains("sig="), "{error:?}");
    assert!(store.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn seeded_faults_never_give_wrong_bytes() {
    let (registry, _, data, bytes) = stocked().await;
    let server = Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap();
    let actions = vec![
        Action::Cut(0),
        Action::Cut(70_000),
        Action::IgnoreRange,
        Action::ShiftContentRange(1),
        Action::Flip(1000),
        Action::status(503),
        Action::status_with(429, "Retry-After", "0"),
    ];
    let seed = 20_261_120;
    let faults = Faults::seeded(seed, 3, actions);
    let proxy = Proxy::start(server.local_addr(), ProxyOptions { faults, ..ProxyOptions::default() }).unwrap();
    let (client, name) = (client(proxy.addr()), repository(NAME));
    let mut good = 0;
    for _ in 0..150 {
        let Ok(reader) = client.read_blob(&name, &data, None).await else { continue };
        if let Ok(read) = whole(reader).await {
            assert!(read == bytes, "seed {seed}");
            good += 1;
        }
    }
    assert!(good > 75, "seed {seed}: {good} of 150");
}

#[tokio::test]
async fn a_stalled_transfer_is_taken_up() {
    let (registry, _, data, bytes) = stocked().await;
    let server = Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap();
    let faults = Faults::script(vec![Rule::first("blobs", Action::Stall(1000))]);
    let proxy = Proxy::start(server.local_addr(), ProxyOptions { faults, ..ProxyOptions::default() }).unwrap();
    let reader = hasty(proxy.addr()).read_blob(&repository(NAME), &data, None).await.unwrap();
    assert!(whole(reader).await.unwrap() == bytes);
    assert_eq!(proxy.take().len(), 2);
}

/// What HEAD says is no content: GET decides, and is held to what was asked for.
#[tokio::test]
async fn a_head_that_get_does_not_keep_to_is_an_error_and_no_content() {
    let (good, kind) = (manifest(), media_type::IMAGE_MANIFEST);
    let digest = Digest::sha256_of(&good);
    let other = ImageManifest::artifact("evil/b", vec![]).to_bytes();
    let gets = [
        ("gone", Reply::new(404).json(r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#)),
        ("denied", Reply::new(403)),
        ("another manifest", reply(kind, other.clone()).header("Docker-Content-Digest", digest)),
        ("another size", reply(kind, good[..good.len() - 1].to_vec()).header("Docker-Content-Digest", digest)),
        ("nothing", reply(kind, "").header("Docker-Content-Digest", digest)),
    ];
    for (what, get) in gets {
        let size = good.len();
        let server = Script::start(move |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(200)
                .header("Content-Type", kind)
                .header("Content-Length", size)
                .header("Docker-Content-Digest", digest),
            _ => get.clone(),
        })
        .await;
        let (client, name) = (client(server.addr), repository(NAME));
        let resolved = client.resolve(&name, &by_tag("v1")).await.unwrap();
        assert_eq!((resolved.digest, resolved.size), (digest, size as u64), "{what}");
        for target in [Target::Digest(resolved.digest), by_tag("v1")] {
            let by_digest = matches!(target, Target::Digest(_));
            match client.manifest(&name, &target).await {
                Err(_) => {}
                // A tag may have moved since: what comes is then what its own digest says.
                Ok(found) => {
                    assert!(!by_digest, "{what}: {found:?}");
                    assert_eq!(found.descriptor.digest, Digest::sha256_of(&found.bytes), "{what}");
                    assert_ne!(found.descriptor.digest, digest, "{what}");
                }
            }
        }
    }
    // The same with blobs.
    let content = noise(1000);
    let blob = Digest::sha256_of(&content);
    let gets: [(&str, Reply); 4] = [
        ("gone", Reply::new(404)),
        ("shorter", Reply::new(200).body(&content[..999])),
        ("longer", Reply::new(200).body([&content[..], b"x"].concat())),
        ("other bytes", Reply::new(200).body(vec![0; 1000])),
    ];
    for (what, get) in gets {
        let server = Script::start(move |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(200).header("Content-Length", 1000),
            _ => get.clone(),
        })
        .await;
        let client = client(server.addr);
        assert_eq!(client.stat_blob(&repository(NAME), &blob).await.unwrap(), 1000, "{what}");
        let failed = match client.read_blob(&repository(NAME), &blob, None).await {
            Ok(reader) => whole(reader).await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "{what}");
    }
}
