//! The client: against our server, against a real registry, and against servers that lie.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use blob_core::{Digest, SourceError};
use blob_http::{Proxy, RetryPolicy, Transport, TransportOptions};
use blob_registry::client::{RegistryClient, RegistryClientBuilder};
use blob_registry::{BlobReader, RegistryError, Repository, Tag, Target};
use futures_util::TryStreamExt as _;

mod auth;
mod conformance;
#[cfg(feature = "tls")]
mod goaway;
mod hostile;
mod interrupted;
mod issuer;
mod lists;
mod logins;
mod one_pass;
mod options;
mod peers;
mod reading;
mod referrers;
mod secrets;
mod seeded;
mod uploads;

/// Longer than any machine takes that is only busy.
const PATIENT: Duration = Duration::from_mins(1);

/// For tests in which somebody falls silent, which they then wait for.
const HASTY: Duration = Duration::from_secs(4);

/// A transport that gives up after so much silence.
fn transport(idle: Duration) -> Transport {
    static OPTIONS: OnceLock<TransportOptions> = OnceLock::new();
    let options = OPTIONS.get_or_init(|| TransportOptions::default().with_proxy(Proxy::None));
    Transport::new(options.clone().with_idle_timeout(idle)).unwrap()
}

fn builder(addr: SocketAddr) -> RegistryClientBuilder {
    building(addr, PATIENT)
}

fn building(addr: SocketAddr, idle: Duration) -> RegistryClientBuilder {
    let retry = RetryPolicy::default()
        .with_max_attempts(4)
        .with_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .with_max_retry_after(Duration::from_secs(2));
    RegistryClient::builder(addr.to_string()).transport(transport(idle)).retry(retry)
}

pub(crate) fn client(addr: SocketAddr) -> RegistryClient {
    builder(addr).build().unwrap()
}

/// As [`client`], for servers that fall silent.
pub(crate) fn hasty(addr: SocketAddr) -> RegistryClient {
    building(addr, HASTY).build().unwrap()
}

pub(crate) fn repository(name: &str) -> Repository {
    Repository::new(name).unwrap()
}

fn tag(name: &str) -> Tag {
    Tag::new(name).unwrap()
}

fn by_tag(name: &str) -> Target {
    Target::Tag(tag(name))
}

/// Bytes that no run of them repeats soon.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut block = Digest::sha256_of(b"noise");
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        bytes.extend_from_slice(block.as_bytes());
        block = Digest::sha256_of(block.as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Reads to the end.
async fn whole(reader: BlobReader) -> Result<Vec<u8>, SourceError> {
    reader
        .stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
}

/// The error with all its causes, in both forms.
pub(crate) fn everything(error: &RegistryError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text} {cause} {cause:?}");
        next = cause.source();
    }
    text
}
