//! Reads that break go on where they stopped.

use std::time::{Duration, SystemTime};

use blob_core::{ByteSource as _, FailureKind};
use blob_http::{HttpError, HttpSource, RetryPolicy, Transport, Waiting};
use futures_util::TryStreamExt as _;

use crate::server::honest;
use crate::{cause, content, eager, options, read, source_options, transport};
use blob_testkit::hostile::{Reply, Server, Step};

#[tokio::test]
async fn a_cut_read_continues_at_the_byte_it_reached() {
    let bytes = content(300_000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |number, seen| match number {
            1 | 2 => honest(&bytes, seen).after(100_000, Step::Cut),
            _ => honest(&bytes, seen),
        })
        .await
    };
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    assert_eq!(read(&source, 1, 300_000).await.unwrap(), bytes.slice(1..));
    let asked: Vec<_> = server.seen().iter().map(|seen| seen.range().unwrap()).collect();
    assert_eq!(asked.len(), 4);
    assert!(asked.is_sorted_by_key(|range| range.start) && asked[3].start > 100_000, "{asked:?}");
    let wasted = server.sent() - 300_000;
    // What a cut loses is what was on its way: at most one piece of the script per cut.
    assert!(wasted <= 2 * 100_000 / 5, "{wasted} bytes were fetched again");
}

#[tokio::test]
async fn progress_renews_the_attempts() {
    let bytes = content(100_000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |number, seen| match number {
            1..=9 => honest(&bytes, seen).after(9_000, Step::Cut),
            _ => honest(&bytes, seen),
        })
        .await
    };
    let options = source_options().with_retry(eager().with_max_attempts(2));
    let source = HttpSource::open(transport(), server.url.clone(), options).await.unwrap();
    assert_eq!(read(&source, 1, 100_000).await.unwrap(), bytes.slice(1..));
    assert_eq!(server.requests(), 11);
}

#[tokio::test]
async fn a_short_body_without_length_is_a_cut() {
    let bytes = content(1000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |number, seen| {
            let mut reply = honest(&bytes, seen).without("content-length");
            if number == 1 {
                reply = reply.after(300, Step::Send(bytes::Bytes::new()));
            }
            reply
        })
        .await
    };
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    assert_eq!(read(&source, 100, 900).await.unwrap(), bytes.slice(100..900));
    assert_eq!(server.seen()[2].range(), Some(400..900));
}

#[tokio::test]
async fn a_server_that_never_delivers_is_given_up() {
    let bytes = content(1000);
    let server = Server::start(move |number, seen| match number {
        0 => honest(&bytes, seen),
        _ => honest(&bytes, seen).after(0, Step::Cut),
    })
    .await;
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    let error = read(&source, 100, 200).await.unwrap_err();
    assert_eq!((error.kind(), server.requests()), (FailureKind::Network, 1 + 6), "{error:?}");
}

#[tokio::test]
async fn a_busy_server_is_waited_for_as_it_asks() {
    let in_a_moment = || httpdate::fmt_http_date(SystemTime::now());
    for (retry_after, waits) in [("0".to_owned(), true), (in_a_moment(), true), ("120".to_owned(), false)] {
        let bytes = content(1000);
        let script = {
            let (bytes, retry_after) = (bytes.clone(), retry_after.clone());
            move |number: usize, seen: &_| match number {
                1 => Reply::new(503).header("retry-after", retry_after.clone()),
                2 => Reply::new(429).header("retry-after", retry_after.clone()),
                _ => honest(&bytes, seen),
            }
        };
        let server = Server::start(script).await;
        let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
        let result = read(&source, 100, 200).await;
        if waits {
            assert_eq!((result.unwrap(), server.requests()), (bytes.slice(100..200), 4));
        } else {
            let error = result.unwrap_err();
            let asked = Duration::from_mins(2);
            assert!(
                matches!(cause(&error), HttpError::Status { status: 503, retry_after: Some(got), .. } if *got == asked)
            );
            assert_eq!(server.requests(), 2, "more patience than allowed is not had");
        }
    }
}

#[tokio::test]
async fn what_is_not_transient_is_not_tried_again() {
    let bytes = content(1000);
    let server =
        Server::start(move |number, seen| if number == 0 { honest(&bytes, seen) } else { Reply::new(404) }).await;
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    let error = read(&source, 100, 200).await.unwrap_err();
    assert_eq!((error.is_not_found(), server.requests()), (true, 2));
}

#[tokio::test]
async fn a_stall_ends_with_the_idle_time_out_and_is_resumed() {
    let impatient = || Transport::new(options().with_idle_timeout(Duration::from_millis(100))).unwrap();
    let bytes = content(1000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |number, seen| match number {
            1 => honest(&bytes, seen).after(300, Step::Stall),
            2 => Reply { delay: Duration::from_mins(1), ..honest(&bytes, seen) },
            _ => honest(&bytes, seen),
        })
        .await
    };
    let source = HttpSource::open(impatient(), server.url.clone(), source_options()).await.unwrap();
    assert_eq!(read(&source, 100, 900).await.unwrap(), bytes.slice(100..900));
    assert_eq!(server.seen()[3].range(), Some(400..900));

    let deaf = Server::start(move |number, seen| match number {
        0 => honest(&bytes, seen),
        _ => honest(&bytes, seen).after(0, Step::Stall),
    })
    .await;
    let source = HttpSource::open(impatient(), deaf.url.clone(), source_options().with_retry(RetryPolicy::never()))
        .await
        .unwrap();
    let error = read(&source, 100, 900).await.unwrap_err();
    assert!(matches!(cause(&error), HttpError::Timeout { what: Waiting::Body, .. }), "{error:?}");
    assert_eq!(error.kind(), FailureKind::Network);
}

#[tokio::test]
async fn a_slow_reader_is_not_a_slow_server() {
    let bytes = content(100_000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |_, seen| honest(&bytes, seen)).await
    };
    let idle = Duration::from_millis(200);
    let impatient = Transport::new(options().with_idle_timeout(idle)).unwrap();
    let options = source_options().with_retry(eager().with_max_attempts(1));
    let source = HttpSource::open(impatient, server.url.clone(), options).await.unwrap();
    let mut stream = source.open(0..100_000).await.unwrap();
    let mut got = stream.try_next().await.unwrap().unwrap().to_vec();
    tokio::time::sleep(idle * 3).await;
    while let Some(chunk) = stream.try_next().await.unwrap() {
        assert!(!chunk.is_empty());
        got.extend_from_slice(&chunk);
    }
    assert_eq!(got, bytes);
}

#[tokio::test]
async fn a_server_that_drips_is_waited_for() {
    let bytes = content(1000);
    let server = {
        let bytes = bytes.clone();
        Server::start(move |_, seen| {
            let pause = Step::Pause(Duration::from_millis(400));
            let drops = bytes.chunks(200).map(|chunk| Step::Send(bytes.slice_ref(chunk)));
            Reply { steps: drops.flat_map(|drop| [pause.clone(), drop]).collect(), ..honest(&bytes, seen) }
        })
        .await
    };
    // The whole takes twice as long as the time-out, no pause as long as half of it.
    let patient = Transport::new(options().with_idle_timeout(Duration::from_secs(1))).unwrap();
    let options = source_options().with_retry(RetryPolicy::never());
    let id = blob_core::SourceId::new("drip");
    let source = HttpSource::with_size(patient, server.url.clone(), 1000, id, options).unwrap();
    assert_eq!((read(&source, 0, 1000).await.unwrap(), server.requests()), (bytes, 1));
}
