//! Starts a server on loopback that holds one file, and reads a range of it.
//!
//! `cargo run -p blob-http --example range`
#![allow(clippy::print_stdout)]

use std::convert::Infallible;
use std::error::Error;

use blob_core::{ByteSource as _, ByteSourceExt as _};
use blob_http::{HttpSource, HttpSourceOptions, Transport, TransportOptions};
use bytes::Bytes;
use http::header::{CONTENT_RANGE, ETAG, RANGE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What the server holds.
const FILE: &[u8] = b"Archives are read where they lie: only the bytes that are needed travel.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/file", listener.local_addr()?).parse()?;
    tokio::spawn(serve(listener));

    let transport = Transport::new(TransportOptions::default())?;
    // Keep only the first 8 bytes of this short file, so that the read below has something to ask for.
    let options = HttpSourceOptions::default().with_first(8);
    let source = HttpSource::open(transport, url, options).await?;
    println!("{} has {} bytes", source.id(), source.size());
    let part = source.read(34..source.size()).await?;
    println!("from byte 34 on: {}", String::from_utf8_lossy(&part));
    Ok(())
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                println!("server: {error}");
            }
        });
    }
}

/// Answers the one form of range that a `HttpSource` asks for.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let range = request.headers().get(RANGE).and_then(|value| {
        let (first, last) = value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse::<usize>().ok()?..last.parse::<usize>().ok()?.saturating_add(1).min(FILE.len()))
    });
    let mut response = Response::new(Full::from(FILE));
    if let Some(part) = range.clone().and_then(|range| FILE.get(range))
        && let Some(range) = range
    {
        println!("server: asked for bytes {}..{}", range.start, range.end);
        response = Response::new(Full::from(part));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let value = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), FILE.len());
        response.headers_mut().extend(value.parse().ok().map(|value| (CONTENT_RANGE, value)));
    }
    response.headers_mut().insert(ETAG, http::HeaderValue::from_static("\"v1\""));
    Ok(response)
}
