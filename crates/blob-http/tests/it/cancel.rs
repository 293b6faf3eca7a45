//! Dropping a stream or a future ends the transfer.

use blob_core::ByteSource as _;
use blob_http::HttpSource;
use futures_util::TryStreamExt as _;

use crate::server::honest;
use crate::{PATIENCE, content, source_options, transport};
use blob_testkit::hostile::{Reply, Server, Step};

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let bytes = content(1000);
    let server = Server::start(move |number, seen| match number {
        0 => honest(&bytes, seen),
        _ => honest(&bytes, seen).after(100, Step::Stall),
    })
    .await;
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    let mut stream = source.open(100..900).await.unwrap();
    assert_eq!(stream.try_next().await.unwrap().unwrap().len(), 100);
    drop(stream);
    tokio::time::timeout(PATIENCE, server.abandoned()).await.expect("the server notices");
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let bytes = content(100_000);
    // A body in front of which nothing is sent: the headers do not reach the client before it gives up.
    let server = Server::start(move |number, seen| match number {
        0 => honest(&bytes, seen),
        _ => honest(&bytes, seen).after(50_000, Step::Stall),
    })
    .await;
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    let collecting = async {
        let stream = source.open(0..100_000).await.unwrap();
        stream.try_collect::<Vec<_>>().await
    };
    let never = tokio::time::timeout(std::time::Duration::from_millis(200), collecting).await;
    assert!(never.is_err());
    tokio::time::timeout(PATIENCE, server.abandoned()).await.expect("the server notices");
    assert_eq!(server.requests(), 2, "and nothing goes on behind the caller's back");
}

#[tokio::test]
async fn the_whole_is_not_read_when_only_its_size_is_needed() {
    let size = 64 << 20;
    let server = Server::start(move |_, _| {
        let mut reply = Reply::new(200).header("content-length", size.to_string());
        reply.steps = vec![Step::Send(content(1 << 20)); 64];
        reply
    })
    .await;
    let source = HttpSource::open(transport(), server.url.clone(), source_options()).await.unwrap();
    assert_eq!(source.size(), size);
    tokio::time::timeout(PATIENCE, server.abandoned()).await.expect("the transfer ends");
    assert!(server.sent() < size, "{} bytes were sent", server.sent());
}
