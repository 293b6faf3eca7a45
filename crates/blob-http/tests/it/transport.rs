//! The transport by itself: bodies in both directions.

use std::time::Duration;

use blob_http::{HttpError, Transport, Waiting, empty, full, stream_body};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{content, options, transport};
use blob_testkit::hostile::{Reply, Server, Step, UPLOAD};

fn get(url: &url::Url) -> Request<blob_http::Body> {
    Request::get(url.as_str()).body(empty()).unwrap()
}

#[tokio::test]
async fn answers_are_collected_within_a_limit() {
    let bytes = content(50_000);
    for with_length in [true, false] {
        let script = {
            let bytes = bytes.clone();
            move |_: usize, _: &_| {
                let reply = Reply::new(200).body(bytes.clone());
                if with_length { reply.set("content-length", bytes.len().to_string()) } else { reply }
            }
        };
        let server = Server::start(script).await;
        let fits = transport().send(get(&server.url)).await.unwrap().into_body().collect(50_000).await;
        assert_eq!(fits.unwrap(), bytes);
        let large = transport().send(get(&server.url)).await.unwrap().into_body().collect(49_999).await;
        assert!(matches!(large, Err(HttpError::TooLarge { limit: 49_999, .. })), "{large:?}");
    }
}

#[tokio::test]
async fn a_length_that_does_not_come_takes_no_memory() {
    let server = Server::start(|_, _| {
        Reply::new(200).header("content-length", (1_u64 << 60).to_string()).body(content(10)).after(10, Step::Cut)
    })
    .await;
    let broken = transport().send(get(&server.url)).await.unwrap().into_body().collect(u64::MAX).await;
    assert!(matches!(&broken, Err(HttpError::Body { received: 10, .. })), "{broken:?}");
}

#[tokio::test]
async fn bodies_say_their_length_when_it_is_known() {
    let server = Server::start(|_, _| Reply::new(201)).await;
    let chunks = || stream::iter([Ok(content(1000)), Ok(content(500))]);
    for body in [empty(), full(content(10)), stream_body(chunks(), Some(1500)), stream_body(chunks(), None)] {
        let request = Request::put(server.url.as_str()).body(body).unwrap();
        assert_eq!(transport().send(request).await.unwrap().status(), 201);
    }
    let lengths: Vec<_> = server.seen().iter().map(|seen| seen.header("content-length").map(str::to_owned)).collect();
    assert_eq!(lengths, [Some("0".into()), Some("10".into()), Some("1500".into()), None]);
    let agent = server.seen()[0].header("user-agent").map(str::to_owned);
    assert_eq!(agent, Some(format!("blob/{}", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn what_moves_is_counted() {
    let server = Server::start(|_, _| Reply::new(200).body(content(300))).await;
    let transport = transport();
    for size in [0, 10, 20] {
        let request = Request::put(server.url.as_str()).body(full(content(size))).unwrap();
        transport.clone().send(request).await.unwrap().into_body().collect(300).await.unwrap();
    }
    let traffic = transport.traffic();
    assert_eq!((traffic.requests, traffic.sent, traffic.received), (3, 30, 900));
}

#[tokio::test]
async fn a_body_of_another_length_than_promised_fails_the_request() {
    let server = Server::start(|_, _| Reply { delay: Duration::from_mins(1), ..Reply::new(201) }).await;
    for promised in [1, 5000] {
        let body = stream_body(stream::iter([Ok(content(1000))]), Some(promised));
        let request = Request::put(server.url.as_str()).body(body).unwrap();
        let error = transport().send(request).await.unwrap_err();
        assert!(matches!(error, HttpError::RequestBody { .. }), "{error:?}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn a_body_that_takes_long_to_produce_does_not_time_out() {
    let server = Server::start(|_, _| Reply::new(201)).await;
    let impatient = Transport::new(options().with_idle_timeout(Duration::from_millis(60))).unwrap();
    let slow = stream::iter(0..3).then(|_| async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        Ok(Bytes::from_static(b"part"))
    });
    let url = server.url.join(UPLOAD).unwrap();
    let request = Request::put(url.as_str()).body(stream_body(slow, Some(12))).unwrap();
    assert_eq!(impatient.send(request).await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_server_that_takes_no_more_of_the_body_times_out() {
    let server = Server::start(|_, _| Reply { delay: Duration::from_mins(1), ..Reply::new(201) }).await;
    let impatient = Transport::new(options().with_idle_timeout(Duration::from_millis(100))).unwrap();
    let mebibyte = content(1 << 20);
    let endless = stream::repeat_with(move || Ok(mebibyte.clone()));
    let request = Request::put(server.url.as_str()).body(stream_body(endless, None)).unwrap();
    let error = impatient.send(request).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { what: Waiting::Headers, .. }), "{error:?}");
}

#[tokio::test]
async fn broken_connections_and_nonsense_are_told_apart() {
    type Expected = fn(&HttpError) -> bool;
    let cases: [(&[u8], Expected); 3] = [
        (b"", |error| matches!(error, HttpError::Send { .. }) && error.is_transient()),
        (b"220 mail.test ESMTP\r\n\r\n", |error| matches!(error, HttpError::Protocol { .. }) && !error.is_transient()),
        (b"HTTP/1.1 200 OK\r\nContent-Le", |error| matches!(error, HttpError::Send { .. })),
    ];
    for (answer, expected) in cases {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: url::Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Read first, since closing with unread bytes resets the connection.
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(answer).await.unwrap();
        };
        let transport = transport();
        let (error, ()) = tokio::join!(transport.send(get(&url)), answering);
        let error = error.unwrap_err();
        assert!(expected(&error), "{answer:?}: {error:?}");
    }
}
