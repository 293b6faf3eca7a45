//! HTTP/2 connections that the server closes in the middle of an answer, politely and not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blob_http::{HttpSource, Transport};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::tls::Authority;
use crate::{content, options, read, source_options};

/// How the first connection ends in the middle of its first answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    GoAway,
    Abrupt,
}

/// Serves `bytes` by range; the first connection ends as asked when half of its answer is out. Counts connections.
async fn serve(authority: &Authority, bytes: Bytes, end: End) -> (String, Arc<AtomicUsize>) {
    let acceptor = authority.acceptor("localhost", true, None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/data", listener.local_addr().unwrap().port());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            let (acceptor, bytes, half) = (acceptor.clone(), bytes.clone(), Arc::new(Notify::new()));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let seen = Arc::clone(&half);
                let service = service_fn(move |request: Request<Incoming>| {
                    let (bytes, seen) = (bytes.clone(), Arc::clone(&seen));
                    async move { Ok::<_, Infallible>(answer(&request, &bytes, seen)) }
                });
                let builder = Builder::new(TokioExecutor::new());
                let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                tokio::select! {
                    _ = connection.as_mut() => return,
                    () = half.notified(), if first => {}
                }
                if end == End::GoAway {
                    connection.as_mut().graceful_shutdown();
                    // It ends when the answers under way did; whatever it says then is of no interest.
                    let _ = connection.await;
                }
            });
        }
    });
    (url, connections)
}

type Pieces = stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn answer(request: &Request<Incoming>, bytes: &Bytes, half: Arc<Notify>) -> Response<StreamBody<Pieces>> {
    let range = request.headers()["range"].to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (start, last) = range.split_once('-').unwrap();
    let (start, last): (usize, usize) = (start.parse().unwrap(), last.parse().unwrap());
    let part = bytes.slice(start..=last.min(bytes.len() - 1));
    let (one, other) = (part.slice(..part.len() / 2), part.slice(part.len() / 2..));
    let pieces = stream::iter([Ok(Frame::data(one))]).chain(stream::once(async move {
        // What was handed over is given the time to leave.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        half.notify_one();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Ok(Frame::data(other))
    }));
    Response::builder()
        .status(206)
        .header("content-range", format!("bytes {start}-{}/{}", start + part.len() - 1, bytes.len()))
        .header("etag", "\"v1\"")
        .body(StreamBody::new(pieces.boxed()))
        .unwrap()
}

#[tokio::test]
async fn a_connection_that_ends_in_mid_answer_costs_no_bytes() {
    let authority = Authority::new();
    let bytes = content(200_000);
    for end in [End::GoAway, End::Abrupt] {
        let (url, connections) = serve(&authority, bytes.clone(), end).await;
        let transport = Transport::new(options().with_extra_root(authority.root())).unwrap();
        let source = HttpSource::with_size(
            transport,
            url.parse().unwrap(),
            200_000,
            blob_core::SourceId::new("data"),
            source_options(),
        );
        let source = source.unwrap();
        assert_eq!(read(&source, 0, 200_000).await.unwrap(), bytes, "{end:?}");
        assert_eq!(read(&source, 10, 150_000).await.unwrap(), bytes.slice(10..150_000), "{end:?}");
        assert_eq!(connections.load(Ordering::SeqCst), 2, "{end:?}: the closed connection is not used again");
    }
}
