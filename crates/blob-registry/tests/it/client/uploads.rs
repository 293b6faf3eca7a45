//! Uploads: the shortest way, broken transfers, sessions elsewhere, size limits.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use blob_core::{ByteSource, ByteStream, Digest, Event, Local, MemorySource, SourceError, SourceId};
use blob_registry::client::{ClientLimits, Credential, Static};
use blob_registry::{MemoryRegistry, Mount, PushBlob, PushedBlob, Registry, RegistryError, Server};
use blob_testkit::proxy::{Proxy, ProxyOptions};
use futures_util::{StreamExt as _, stream};

use super::{builder, client, everything, noise, repository, whole};
use blob_testkit::hostile::{Reply, Script, Sessions};

pub(super) const NAME: &str = "team/app";

pub(super) fn blob(bytes: &[u8]) -> PushBlob {
    let source = Chunked { inner: MemorySource::new(bytes.to_vec()) };
    PushBlob::new(Digest::sha256_of(bytes), Arc::new(source))
}

/// Bytes that come in pieces, as files and networks give them.
#[derive(Debug)]
pub(super) struct Chunked {
    pub(super) inner: MemorySource,
}

#[async_trait]
impl ByteSource for Chunked {
    fn id(&self) -> &SourceId {
        self.inner.id()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: std::ops::Range<u64>) -> Result<ByteStream, SourceError> {
        let Some(Local::Bytes(bytes)) = self.inner.local() else { unreachable!("a memory source is local") };
        let bytes = bytes.slice(range.start as usize..range.end as usize);
        let pieces: Vec<_> = bytes.chunks(10_000).map(|piece| Ok(bytes.slice_ref(piece))).collect();
        Ok(stream::iter(pieces).boxed())
    }
}

pub(super) fn some_sessions() -> Sessions {
    Sessions::new(NAME, |bytes| Digest::sha256_of(bytes).to_string())
}

#[tokio::test]
async fn a_new_blob_takes_as_few_requests_as_possible() {
    let registry = MemoryRegistry::new();
    let server = Server::builder(Arc::new(registry.clone())).bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr(), ProxyOptions::default()).unwrap();
    let (client, name) = (client(proxy.addr()), repository(NAME));
    let log = || proxy.take().iter().map(|seen| seen.method.clone()).collect::<Vec<_>>().join(" ");
    let (small, large) = (noise(1000), noise(1_000_000));

    let absent = |bytes: &[u8]| PushBlob::new(Digest::sha256_of(bytes), Arc::new(MemorySource::new(bytes.to_vec())));
    let mut push = absent(&small);
    push.known_absent = true;
    assert_eq!(client.push_blob(&name, push).await.unwrap(), PushedBlob::Uploaded);
    assert_eq!(log(), "POST");
    assert_eq!(client.push_blob(&name, blob(&large)).await.unwrap(), PushedBlob::Uploaded);
    assert_eq!(log(), "HEAD POST PUT");
    assert_eq!(client.push_blob(&name, blob(&large)).await.unwrap(), PushedBlob::Existing);
    assert_eq!(log(), "HEAD");
    let mut push = blob(&large);
    push.mount_from = vec![repository("nowhere"), name.clone()];
    assert_eq!(client.push_blob(&repository("other"), push).await.unwrap(), PushedBlob::Uploaded);
    assert_eq!(log(), "HEAD POST PUT", "the session that came instead of a mount is used");
    let mut push = blob(&large);
    push.mount_from = vec![name.clone()];
    assert_eq!(client.push_blob(&repository("third"), push).await.unwrap(), PushedBlob::Mounted);
    assert_eq!(log(), "HEAD POST");
    let read = registry.read_blob(&name, &Digest::sha256_of(&large), None).await.unwrap();
    assert!(whole(read).await.unwrap() == large);
    assert_eq!(client.push_blob(&name, blob(b"")).await.unwrap(), PushedBlob::Uploaded);
}

#[tokio::test]
async fn a_broken_put_goes_on_where_the_registry_stands() {
    let content = noise(900_000);
    let sessions = Arc::new(some_sessions());
    let (far, cuts) = (Arc::clone(&sessions), AtomicUsize::new(0));
    let server = Script::cutting(
        // Three times the connection goes down inside a body.
        move |seen| {
            let body = matches!(seen.method.as_str(), "PUT" | "PATCH") && seen.header("content-length") != Some("0");
            (body && cuts.fetch_add(1, Ordering::SeqCst) < 3).then_some(200_000)
        },
        move |seen| Some(far.answer(seen)),
    )
    .await;
    let pushed = client(server.addr).push_blob(&repository(NAME), blob(&content)).await.unwrap();
    assert_eq!(pushed, PushedBlob::Uploaded);
    assert!(sessions.blobs()[0] == content);
    let sent: usize = server.seen().iter().map(|seen| seen.body.len()).sum();
    assert_eq!(sent, content.len(), "no byte is taken twice");
    assert_eq!(server.count("POST", ""), 1, "{:?}", server.log());
}

#[tokio::test]
async fn a_lost_session_is_begun_again() {
    let content = noise(500_000);
    let sessions = Arc::new(some_sessions());
    let (far, cuts) = (Arc::clone(&sessions), AtomicUsize::new(0));
    let server = Script::cutting(
        move |seen| (seen.method == "PUT" && cuts.fetch_add(1, Ordering::SeqCst) == 0).then_some(100_000),
        move |seen| match seen.method.as_str() {
            "GET" => Some(Reply::new(404).json(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#)),
            _ => Some(far.answer(seen)),
        },
    )
    .await;
    client(server.addr).push_blob(&repository(NAME), blob(&content)).await.unwrap();
    assert_eq!(server.count("POST", ""), 2);
    assert!(sessions.blobs()[0] == content);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_settled_by_asking() {
    let content = noise(500_000);
    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    let server = Script::cutting(
        |_| None,
        move |seen| {
            let reply = far.answer(seen);
            (seen.method != "PUT").then_some(reply)
        },
    )
    .await;
    let mut push = blob(&content);
    push.known_absent = true;
    assert_eq!(client(server.addr).push_blob(&repository(NAME), push).await.unwrap(), PushedBlob::Uploaded);
    assert_eq!(server.log().len(), 3, "POST, PUT, HEAD: {:?}", server.log());
}

#[tokio::test]
async fn bodies_that_are_too_large_go_in_pieces() {
    let content = noise(1_000_000);
    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    let server = Script::start(move |seen| match seen.body.len() {
        0..=300_000 => far.answer(seen),
        _ => Reply::new(413),
    })
    .await;
    let client = client(server.addr);
    client.push_blob(&repository(NAME), blob(&content)).await.unwrap();
    assert!(sessions.blobs()[0] == content);
    assert_eq!(server.count("PATCH", ""), 1 + 4, "one is refused, four are taken: {:?}", server.log());
    // What was learned is kept.
    let mut push = blob(&noise(600_000));
    push.known_absent = true;
    // The session that got the refused body is ended in the background.
    let count = || server.seen().iter().filter(|seen| seen.method != "DELETE").count();
    let before = count();
    client.push_blob(&repository(NAME), push).await.unwrap();
    assert_eq!(count() - before, 1 + 3 + 1, "{:?}", server.log());
}

#[tokio::test]
async fn a_registry_that_refuses_is_not_asked_for_ever() {
    for (status, most) in [(413, 40), (500, 40), (400, 4), (403, 4)] {
        let sessions = some_sessions();
        let server = Script::start(move |seen| match seen.body.len() {
            0 => sessions.answer(seen),
            _ => Reply::new(status),
        })
        .await;
        let error = client(server.addr).push_blob(&repository(NAME), blob(&noise(500_000))).await.unwrap_err();
        assert!(matches!(error, RegistryError::Code { status: Some(got), .. } if got == status), "{error:?}");
        assert!(server.seen().len() <= most, "{:?}", server.log());
        assert!(!everything(&error).contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn a_session_on_another_origin_gets_no_credentials() {
    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    let store = Script::start(move |seen| far.answer(seen)).await;
    let (near, to) = (Arc::clone(&sessions), store.addr);
    let registry = Script::start(move |seen| {
        if seen.header("authorization").is_none() {
            return Reply::new(401).header("WWW-Authenticate", "Basic realm=r");
        }
        match seen.method.as_str() {
            "POST" => {
                near.answer(seen);
                Reply::new(202).header("Location", format!("http://{to}{}", near.location(0)))
            }
            _ => near.answer(seen),
        }
    })
    .await;
    let credentials = Static::new().with(registry.addr.to_string(), Credential::basic("user", "password"));
    let client = builder(registry.addr).credentials(credentials).build().unwrap();
    client.push_blob(&repository(NAME), blob(&noise(500_000))).await.unwrap();
    assert_eq!(store.count("PUT", ""), 1);
    assert!(store.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn locations_that_cannot_be_are_refused() {
    for location in ["ftp://127.0.0.1/x", "http://[", "http://user:pw@127.0.0.1/x"] {
        let server = Script::start(move |_| Reply::new(202).header("Location", location)).await;
        let error = client(server.addr).start_upload(&repository(NAME)).await.err().expect(location);
        assert!(matches!(error, RegistryError::Protocol { .. }), "{error:?}");
    }
    let none = Script::start(|_| Reply::new(202)).await;
    assert!(client(none.addr).start_upload(&repository(NAME)).await.is_err());
}

#[tokio::test]
async fn sessions_are_appended_to_resumed_and_cancelled() {
    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    let (client, name) = (client(server.local_addr()), repository(NAME));
    let content = noise(100_001);
    let mut upload = client.start_upload(&name).await.unwrap();
    upload.append(content[..1].to_vec().into()).await.unwrap();
    let id = upload.id();
    assert_eq!(format!("{id:?}"), "UploadId(…)");
    drop(upload);
    let mut upload = client.resume_upload(&name, &id).await.unwrap();
    assert_eq!(upload.offset(), 1, "one byte and none look the same on the wire");
    upload.append(content[1..50_000].to_vec().into()).await.unwrap();
    let mut upload = client.resume_upload(&name, &upload.id()).await.unwrap();
    assert_eq!(upload.offset(), 50_000);
    upload.append(content[50_000..].to_vec().into()).await.unwrap();
    upload.commit(&Digest::sha256_of(&content)).await.unwrap();
    assert_eq!(client.stat_blob(&name, &Digest::sha256_of(&content)).await.unwrap(), 100_001);

    let mut upload = client.start_upload(&name).await.unwrap();
    upload.append(b"other".to_vec().into()).await.unwrap();
    let id = upload.id();
    let error = upload.commit(&Digest::sha256_of(b"not this")).await.unwrap_err();
    assert_eq!(error.error_code(), blob_registry::ErrorCode::DigestInvalid);
    if let Ok(upload) = client.resume_upload(&name, &id).await {
        upload.cancel().await.unwrap();
    }
    assert!(client.resume_upload(&name, &id).await.is_err());
    match client.mount_blob(&repository("other"), &Digest::sha256_of(&content), Some(&name)).await.unwrap() {
        Mount::Mounted => {}
        Mount::Session(_) => panic!("it is there"),
    }
}

#[tokio::test]
async fn a_commit_that_failed_is_repeated() {
    for minimum in [0, 1000] {
        let sessions = Arc::new(some_sessions());
        let (far, failures) = (Arc::clone(&sessions), AtomicUsize::new(0));
        let server = Script::start(move |seen| {
            if seen.method == "PUT" && failures.fetch_add(1, Ordering::SeqCst) == 0 {
                return Reply::new(503).header("Retry-After", 0);
            }
            far.answer(seen).header("OCI-Chunk-Min-Length", minimum)
        })
        .await;
        let mut upload = client(server.addr).start_upload(&repository(NAME)).await.unwrap();
        upload.append(noise(500).into()).await.unwrap();
        upload.commit(&Digest::sha256_of(&noise(500))).await.unwrap();
        assert_eq!((server.count("PUT", ""), server.count("HEAD", "")), (2, 1), "{minimum}: {:?}", server.log());
        assert!(sessions.blobs()[0] == noise(500));
    }
}

#[tokio::test]
async fn small_pieces_wait_until_the_registry_takes_them() {
    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    let server = Script::start(move |seen| far.answer(seen).header("OCI-Chunk-Min-Length", 1000)).await;
    let mut upload = client(server.addr).start_upload(&repository(NAME)).await.unwrap();
    let content = noise(2500);
    for piece in content.chunks(300) {
        upload.append(piece.to_vec().into()).await.unwrap();
    }
    assert_eq!(upload.offset(), 2500);
    upload.commit(&Digest::sha256_of(&content)).await.unwrap();
    let patches: Vec<_> =
        server.seen().iter().filter(|seen| seen.method == "PATCH").map(|seen| seen.body.len()).collect();
    assert_eq!(patches, [1200, 1200]);
    assert!(sessions.blobs()[0] == content);
}

#[tokio::test]
async fn progress_is_told_and_can_stop() {
    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    let limits = ClientLimits::default().with_single_post(0);
    let client = builder(server.local_addr()).limits(limits).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let content = noise(100_000);
    let mut push = blob(&content);
    push.progress = Some((
        "data".into(),
        Arc::new(move |event: &Event<'_>| {
            if let Event::Uploading { what: "data", bytes, bytes_total: 100_000 } = event {
                log.lock().unwrap().push(*bytes);
            }
            ControlFlow::Continue(())
        }),
    ));
    client.push_blob(&repository(NAME), push).await.unwrap();
    let told = seen.lock().unwrap().clone();
    assert!(
        told.is_sorted() && told.first() == Some(&0) && told.last() == Some(&100_000) && told.len() > 5,
        "{told:?}"
    );

    let mut push = blob(&noise(200_000));
    push.progress = Some((
        "data".into(),
        Arc::new(|event: &Event<'_>| match event {
            Event::Uploading { bytes: 50_000.., .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }),
    ));
    let error = client.push_blob(&repository(NAME), push).await.unwrap_err();
    assert!(matches!(error, RegistryError::Cancelled { .. }), "{error:?}");
}

/// A source that fails in the middle.
#[derive(Debug)]
struct Failing(MemorySource);

#[async_trait]
impl ByteSource for Failing {
    fn id(&self) -> &SourceId {
        self.0.id()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: std::ops::Range<u64>) -> Result<ByteStream, SourceError> {
        let half = (range.end - range.start) / 2;
        let begin = self.0.open(range.start..range.start + half).await?;
        let error = SourceError::Io { id: self.id().clone(), offset: half, source: std::io::Error::other("bad disk") };
        Ok(begin.chain(stream::iter([Err(error)])).boxed())
    }
}

#[tokio::test]
async fn a_source_that_fails_is_to_blame() {
    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    let content = noise(500_000);
    let push = PushBlob::new(Digest::sha256_of(&content), Arc::new(Failing(MemorySource::new(content))));
    let error = client(server.local_addr()).push_blob(&repository(NAME), push).await.unwrap_err();
    assert!(matches!(error, RegistryError::Source { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_digest_is_refused_by_the_registry() {
    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    for size in [100, 500_000] {
        let push = PushBlob::new(Digest::sha256_of(b"other"), Arc::new(MemorySource::new(noise(size))));
        let error = client(server.local_addr()).push_blob(&repository(NAME), push).await.unwrap_err();
        assert_eq!(error.error_code(), blob_registry::ErrorCode::DigestInvalid, "{error:?}");
    }
}

#[tokio::test]
async fn a_token_that_ends_under_way_is_replaced_and_the_body_sent_again() {
    let sessions = Arc::new(some_sessions());
    let (far, tokens) = (Arc::clone(&sessions), AtomicUsize::new(0));
    let server = Script::start(move |seen| {
        if seen.path == "/token" {
            let serial = tokens.fetch_add(1, Ordering::SeqCst);
            return Reply::new(200).json(format!(r#"{{"token":"t{serial}"}}"#));
        }
        // The first token ends when the content comes.
        let given = seen.header("authorization");
        if given.is_none() || (seen.method == "PUT" && given == Some("Bearer t0")) {
            let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
            return Reply::new(401).header("WWW-Authenticate", realm);
        }
        far.answer(seen)
    })
    .await;
    let content = noise(500_000);
    client(server.addr).push_blob(&repository(NAME), blob(&content)).await.unwrap();
    assert!(sessions.blobs()[0] == content);
    assert_eq!((server.count("GET", "/token"), server.count("PUT", ""), server.count("POST", "")), (2, 2, 1));
}

#[tokio::test]
async fn appended_pieces_are_cut_to_what_the_registry_takes() {
    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    let server = Script::start(move |seen| match seen.body.len() {
        0..=300_000 => far.answer(seen),
        _ => Reply::new(413),
    })
    .await;
    let content = noise(1_000_000);
    let mut upload = client(server.addr).start_upload(&repository(NAME)).await.unwrap();
    upload.append(content.clone().into()).await.unwrap();
    upload.commit(&Digest::sha256_of(&content)).await.unwrap();
    assert!(sessions.blobs()[0] == content);
}

/// The session is opened by asking for a mount from anywhere: it costs nothing where it is not understood.
#[tokio::test]
async fn a_blob_that_the_registry_has_elsewhere_is_not_sent() {
    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr(), ProxyOptions::default()).unwrap();
    let client = client(proxy.addr());
    let content = noise(1_000_000);
    client.push_blob(&repository("other/place"), blob(&content)).await.unwrap();
    drop(proxy.take());
    let mut push = blob(&content);
    push.known_absent = true;
    assert_eq!(client.push_blob(&repository(NAME), push).await.unwrap(), PushedBlob::Mounted);
    let requests = proxy.take();
    assert_eq!(requests.iter().map(|seen| seen.bytes_up).sum::<u64>(), 0, "{requests:#?}");

    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    let server = Script::start(move |seen| match seen.method.as_str() {
        "POST" if seen.query.contains("mount=") => Reply::new(400),
        _ => far.answer(seen),
    })
    .await;
    let client = super::client(server.addr);
    for length in [1_000_000, 2_000_000] {
        let mut push = blob(&noise(length));
        push.known_absent = true;
        assert_eq!(client.push_blob(&repository(NAME), push).await.unwrap(), PushedBlob::Uploaded);
    }
    assert_eq!(server.count("POST", ""), 3, "what is not understood is asked once: {:?}", server.log());
}

/// Some registries deny looking into a repository that does not exist yet.
#[tokio::test]
async fn a_denied_question_does_not_end_a_push() {
    let sessions = Arc::new(some_sessions());
    let far = Arc::clone(&sessions);
    let server = Script::start(move |seen| match seen.method.as_str() {
        "HEAD" => Reply::new(403),
        _ => far.answer(seen),
    })
    .await;
    let content = noise(500_000);
    assert_eq!(client(server.addr).push_blob(&repository(NAME), blob(&content)).await.unwrap(), PushedBlob::Uploaded);
    assert!(sessions.blobs()[0] == content);
}
