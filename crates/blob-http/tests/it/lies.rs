//! Reads from servers that lie: nothing wrong is ever handed out.

use blob_core::{FailureKind, SourceError};
use blob_http::{HttpError, HttpSource, RangeError};

use crate::server::{honest, whole};
use crate::{cause, content, read, source_options, transport};
use blob_testkit::hostile::{Reply, Seen, Server, Step};

/// Opens honestly, reads 100..200 of 1000 bytes from a server that bends the answer, and gives the error.
async fn lie(bend: impl Fn(Reply, &Seen) -> Reply + Send + Sync + 'static) -> (SourceError, usize) {
    let bytes = content(1000);
    let server = Server::start(move |number, seen| {
        let reply = honest(&bytes, seen);
        if number == 0 { reply } else { bend(reply, seen) }
    })
    .await;
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    (read(&source, 100, 200).await.unwrap_err(), server.requests())
}

#[tokio::test]
async fn parts_that_are_not_the_asked_ones_are_refused() {
    let range = |value: &'static str| move |reply: Reply, _: &Seen| reply.set("content-range", value);
    let check = |(error, requests): (SourceError, usize), expect: RangeError| {
        assert!(matches!(cause(&error), HttpError::Range { source, .. } if *source == expect), "{error:?}");
        assert_eq!((error.kind(), requests), (FailureKind::Protocol, 2));
    };
    check(lie(range("bytes 101-200/1000")).await, RangeError::Start { expected: 100, got: 101 });
    check(lie(range("bytes 100-198/1000")).await, RangeError::End { expected: 200, got: 199 });
    check(lie(range("bytes 100-999/1000")).await, RangeError::End { expected: 200, got: 1000 });
    check(lie(range("lines 100-199/1000")).await, RangeError::Unit { unit: "lines".into() });
    check(lie(|reply, _| reply.without("content-range")).await, RangeError::Missing);
    check(lie(|reply, _| reply.set("content-encoding", "gzip")).await, RangeError::Encoded { encoding: "gzip".into() });
    check(lie(|reply, _| reply.set("content-type", "multipart/byteranges; boundary=b")).await, RangeError::Multipart);
    check(
        lie(|_, _| Reply::new(416).header("content-range", "bytes */1000")).await,
        RangeError::Unsatisfied { range: 100..200, total: Some(1000) },
    );
    check(
        lie(|reply, _| reply.without("content-length").then(Step::Send(content(1)))).await,
        RangeError::Longer { expected: 100 },
    );
    check(
        lie(|reply, _| reply.set("content-length", "101").then(Step::Send(content(1)))).await,
        RangeError::Length { expected: 100, got: 101 },
    );
}

#[tokio::test]
async fn another_content_is_a_change_and_not_a_mixture() {
    let check = |(error, requests): (SourceError, usize)| {
        assert!(matches!(error, SourceError::Changed { .. }), "{error:?}");
        assert_eq!((error.kind(), requests), (FailureKind::Integrity, 2));
    };
    check(lie(|reply, _| reply.set("etag", "\"v2\"")).await);
    check(lie(|reply, _| reply.without("etag")).await);
    check(lie(|reply, _| reply.set("content-range", "bytes 100-199/1001")).await);
    check(lie(|_, _| whole(&content(1000)).set("etag", "\"v2\"")).await);
    check(lie(|_, _| whole(&content(999))).await);
    check(lie(|_, _| Reply::new(416).header("content-range", "bytes */50")).await);
    check(lie(|_, _| Reply::new(412)).await);
}

#[tokio::test]
async fn a_change_in_the_middle_of_a_read_is_noticed() {
    let bytes = content(100_000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |number, seen| match number {
            0 => honest(&bytes, seen),
            1 => honest(&bytes, seen).after(50_000, Step::Cut),
            // What a real server does: `If-Range` does not match any more, so here is the new whole.
            _ => whole(&bytes).set("etag", "\"v2\""),
        })
        .await
    };
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    let error = read(&source, 0, 100_000).await.unwrap_err();
    assert!(matches!(error, SourceError::Changed { .. }), "{error:?}");
    assert_eq!(server.seen()[2].header("if-range"), Some("\"v1\""));
}

#[tokio::test]
async fn without_entity_tags_the_time_of_change_counts() {
    let bytes = content(1000);
    let server = Server::start(move |number, seen| {
        honest(&bytes, seen)
            .without("etag")
            .header("last-modified", format!("Fri, 20 Nov 2026 10:00:0{} GMT", number / 2))
    })
    .await;
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    assert!(read(&source, 100, 200).await.is_ok());
    assert!(matches!(read(&source, 100, 200).await, Err(SourceError::Changed { .. })));
    assert!(server.seen().iter().all(|seen| seen.header("if-range").is_none()));
}

#[tokio::test]
async fn the_whole_for_a_range_is_right_even_when_it_breaks() {
    let bytes = content(200_000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |number, _| match number {
            1 => whole(&bytes).after(120_000, Step::Cut),
            2 => whole(&bytes).after(50_000, Step::Cut),
            _ => whole(&bytes),
        })
        .await
    };
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    assert_eq!(read(&source, 100_000, 150_000).await.unwrap(), bytes.slice(100_000..150_000));
    assert_eq!(server.requests(), 4);
}
