//! `HttpSource` and `Transport` against scripted servers on loopback: every request is counted, every fault is told.
#![allow(clippy::unwrap_used)]

mod addresses;
mod cancel;
mod goaway;
mod lies;
mod open;
mod property;
mod proxy;
mod redirects;
mod resume;
mod secrets;
mod server;
mod tls;
mod transport;

use std::time::Duration;

use blob_core::{ByteSourceExt as _, SourceError};
use blob_http::{HttpError, HttpSource, HttpSourceOptions, Proxy, RetryPolicy, Transport, TransportOptions};
use bytes::Bytes;

/// Long enough to be no reason for failure on a slow machine, where nothing is meant to time out.
const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> TransportOptions {
    TransportOptions::default().with_proxy(Proxy::None).with_idle_timeout(PATIENCE)
}

fn transport() -> Transport {
    Transport::new(options()).unwrap()
}

/// Retries at once, so that tests do not sleep.
fn eager() -> RetryPolicy {
    RetryPolicy::default().with_backoff(Duration::ZERO, Duration::ZERO)
}

/// Keeps only the first byte when opening, so that reads make requests.
fn source_options() -> HttpSourceOptions {
    HttpSourceOptions::default().with_retry(eager()).with_first(1).with_max_spool(0)
}

/// Bytes in which no position looks like another one near it.
fn content(size: usize) -> Bytes {
    (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

async fn read(source: &HttpSource, start: u64, end: u64) -> Result<Bytes, SourceError> {
    tokio::time::timeout(PATIENCE * 3, source.read(start..end)).await.expect("a read never hangs")
}

/// The HTTP error inside a source's.
fn cause(error: &SourceError) -> &HttpError {
    match error {
        SourceError::Backend { source, .. } => source.downcast_ref().expect("an HTTP error"),
        other => panic!("{other:?}"),
    }
}
