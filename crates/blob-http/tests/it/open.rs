//! Opening: one request, whose bytes are kept.

use std::time::Duration;

use blob_core::{ByteSource as _, FailureKind, Local, SourceError, SourceId};
use blob_http::{HttpError, HttpSource, HttpSourceOptions, RangeError, Transport};
use bytes::Bytes;

use crate::server::{honest, whole};
use crate::{content, eager, options, read, source_options, transport};
use blob_testkit::hostile::{Reply, Server, Step};

#[tokio::test]
async fn one_request_tells_the_size_and_is_not_wasted() {
    let bytes = content(200_000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |_, seen| honest(&bytes, seen)).await
    };
    let source = HttpSource::open(transport(), server.url.clone(), HttpSourceOptions::default()).await.unwrap();
    assert_eq!((source.size(), server.requests()), (200_000, 1));
    assert!(source.local().is_none());
    assert_eq!(read(&source, 10, 65_536).await.unwrap(), bytes.slice(10..65_536));
    assert_eq!(server.requests(), 1, "the first bytes were kept");
    assert_eq!(read(&source, 65_000, 70_000).await.unwrap(), bytes.slice(65_000..70_000));
    assert_eq!(server.requests(), 2);
    assert_eq!(server.seen()[1].range(), Some(65_536..70_000), "only what is missing is asked for");
    assert_eq!(server.seen()[1].header("if-range"), Some("\"v1\""));
    assert_eq!(server.sent(), 65_536 + 70_000 - 65_536);
    assert_eq!(server.connections(), 1, "connections are reused");
}

#[tokio::test]
async fn a_small_resource_is_local_after_opening() {
    let bytes = content(1000);
    for ranges in [true, false] {
        let script = {
            let bytes = bytes.clone();
            move |_: usize, seen: &_| if ranges { honest(&bytes, seen) } else { whole(&bytes) }
        };
        let server = Server::start(script).await;
        let source = HttpSource::open(transport(), server.url.clone(), HttpSourceOptions::default()).await.unwrap();
        assert!(matches!(source.local(), Some(Local::Bytes(local)) if *local == bytes));
        assert_eq!(read(&source, 500, 1000).await.unwrap(), bytes.slice(500..));
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn nothing_is_something() {
    let unsatisfied = Reply::new(416).header("content-range", "bytes */0");
    for reply in [unsatisfied, Reply::new(200).header("content-length", "0"), Reply::new(200)] {
        let server = {
            let reply = reply.clone();
            Server::start(move |_, _| reply.clone()).await
        };
        let source = HttpSource::open(transport(), server.url.clone(), HttpSourceOptions::default()).await.unwrap();
        assert_eq!(source.size(), 0, "{reply:?}");
        assert_eq!(read(&source, 0, 0).await.unwrap(), Bytes::new());
        assert!(matches!(read(&source, 0, 1).await, Err(SourceError::OutOfBounds { .. })));
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn a_known_size_costs_no_request() {
    let bytes = content(5000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |_, seen| honest(&bytes, seen)).await
    };
    let id = SourceId::new("sha256:abc");
    let source = HttpSource::with_size(transport(), server.url.clone(), 5000, id.clone(), source_options()).unwrap();
    assert_eq!((source.size(), source.id(), server.requests()), (5000, &id, 0));
    assert_eq!(read(&source, 77, 77).await.unwrap(), Bytes::new());
    assert_eq!(server.requests(), 0, "an empty range costs nothing");
    assert_eq!(read(&source, 1, 4999).await.unwrap(), bytes.slice(1..4999));
    assert_eq!(server.requests(), 1);
    assert!(matches!(read(&source, 4999, 5001).await, Err(SourceError::OutOfBounds { .. })));
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_beginning() {
    let bytes = content(300_000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |_, _| whole(&bytes)).await
    };
    let small = HttpSourceOptions::default().with_max_spool(100_000);
    let source = HttpSource::open(transport(), server.url.clone(), small).await.unwrap();
    assert_eq!((source.size(), source.local().is_none()), (300_000, true));
    assert_eq!(read(&source, 0, 65_536).await.unwrap(), bytes.slice(..65_536), "the beginning was kept");
    assert_eq!(server.requests(), 1);
    assert_eq!(read(&source, 250_000, 260_000).await.unwrap(), bytes.slice(250_000..260_000));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_endless_answer_without_size_is_not_read_to_its_end() {
    let bytes = content(300_000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |_, _| whole(&bytes).without("content-length")).await
    };
    let fits = HttpSourceOptions::default().with_max_spool(300_000);
    let source = HttpSource::open(transport(), server.url.clone(), fits).await.unwrap();
    assert_eq!(source.size(), 300_000);
    let narrow = HttpSourceOptions::default().with_max_spool(299_999);
    let error = HttpSource::open(transport(), server.url.clone(), narrow).await.unwrap_err();
    assert!(matches!(error, HttpError::SizeUnknown { limit: 299_999, .. }), "{error:?}");
}

#[tokio::test]
async fn statuses_are_errors_of_their_kind() {
    let cases = [
        (404, FailureKind::NotFound, 1),
        (401, FailureKind::Unauthorized, 1),
        (403, FailureKind::Denied, 1),
        (503, FailureKind::Network, 6),
        (500, FailureKind::Network, 6),
        (400, FailureKind::Protocol, 1),
        (304, FailureKind::Protocol, 1),
    ];
    for (status, kind, requests) in cases {
        let server = Server::start(move |_, _| Reply::new(status)).await;
        let options = HttpSourceOptions::default().with_retry(eager());
        let error = HttpSource::open(transport(), server.url.clone(), options).await.unwrap_err();
        assert_eq!((error.kind(), server.requests()), (kind, requests), "{status}: {error:?}");
        assert!(matches!(error, HttpError::Status { status: got, .. } if got == status));
    }
}

#[tokio::test]
async fn a_cut_while_opening_is_survived() {
    let bytes = content(200_000);
    let part = {
        let bytes = bytes.clone();
        Server::start(move |number, seen| match number {
            0 => honest(&bytes, seen).after(20_000, Step::Cut),
            _ => honest(&bytes, seen),
        })
        .await
    };
    let source = HttpSource::open(transport(), part.url.clone(), HttpSourceOptions::default()).await.unwrap();
    assert_eq!(source.size(), 200_000);
    assert_eq!(read(&source, 0, 200_000).await.unwrap(), bytes);

    let all = {
        let bytes = bytes.clone();
        Server::start(move |number, _| match number {
            0 => whole(&bytes).after(20_000, Step::Cut),
            _ => whole(&bytes),
        })
        .await
    };
    let options = HttpSourceOptions::default().with_retry(eager());
    let source = HttpSource::open(transport(), all.url.clone(), options).await.unwrap();
    assert!(source.local().is_some());
    assert_eq!((read(&source, 0, 200_000).await.unwrap(), all.requests()), (bytes, 2));
}

#[tokio::test]
async fn lies_about_the_first_part_are_refused() {
    let bytes = content(1000);
    let cases = [
        ("bytes 1-999/1000", RangeError::Start { expected: 0, got: 1 }),
        ("bytes 0-998/1000", RangeError::End { expected: 1000, got: 999 }),
        ("bytes 0-999/*", RangeError::TotalUnknown),
    ];
    for (header, expect) in cases {
        let bytes = bytes.clone();
        let script = move |_: usize, seen: &_| honest(&bytes, seen).set("content-range", header);
        let server = Server::start(script).await;
        let error = HttpSource::open(transport(), server.url.clone(), HttpSourceOptions::default()).await.unwrap_err();
        assert!(matches!(&error, HttpError::Range { source, .. } if *source == expect), "{error:?}");
        assert_eq!(server.requests(), 1, "a lie is not worth another try");
    }
}

#[tokio::test]
async fn ids_follow_the_content() {
    let bytes = content(10);
    let server =
        Server::start(move |number, seen| honest(&bytes, seen).set("etag", format!("\"v{}\"", number / 2))).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let source = HttpSource::open(transport(), server.url.clone(), HttpSourceOptions::default()).await.unwrap();
        ids.push(source.id().clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
    let mine = HttpSourceOptions::default().with_id(SourceId::new("mine"));
    let source = HttpSource::open(transport(), server.url.clone(), mine).await.unwrap();
    assert_eq!(source.id().as_str(), "mine");
}

#[tokio::test]
async fn nobody_there_is_an_error_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: url::Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let options_ = HttpSourceOptions::default().with_retry(eager());
    let error = HttpSource::open(transport(), url, options_.clone()).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }) && error.is_transient(), "{error:?}");

    // A listener that never accepts still completes the TCP handshake: the answer is what does not come.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: url::Url = format!("http://{}/", deaf.local_addr().unwrap()).parse().unwrap();
    let impatient = Transport::new(options().with_idle_timeout(Duration::from_millis(50))).unwrap();
    let error = HttpSource::open(impatient, url, options_).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { .. }), "{error:?}");
}
