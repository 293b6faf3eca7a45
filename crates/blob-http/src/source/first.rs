//! The opening request: size, identity and the first bytes in one round trip.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use blob_core::{Digest, SourceId};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use url::Url;

use super::Remote;
use super::fetch::Answer;
use crate::error::HttpError;
use crate::range::{Entity, Promise, RangeError};
use crate::redact;
use crate::retry::Retries;
use crate::transport::BodyStream;

/// What the opening request told.
pub(super) struct First {
    pub(super) size: u64,
    pub(super) entity: Entity,
    pub(super) head: Bytes,
}

/// Makes the opening request, with retries.
pub(super) async fn fetch(remote: &Remote) -> Result<First, HttpError> {
    let mut retries = Retries::new(remote.options.retry);
    loop {
        let error = match attempt(remote).await {
            Ok(first) => return Ok(first),
            Err(error) => error,
        };
        let delay = if error.is_transient() { retries.next_delay(error.retry_after()) } else { None };
        let Some(delay) = delay else { return Err(error) };
        tokio::time::sleep(delay).await;
    }
}

async fn attempt(remote: &Remote) -> Result<First, HttpError> {
    let wanted = remote.options.first.max(1);
    let Answer { promise, entity, body, target } = remote.fetch(0..wanted, None).await?;
    let mut stream = body.into_stream();
    let (size, head) = match promise {
        Promise::Part { range, total } => {
            let head = take_part(&mut stream, range.end).await;
            let head = head.map_err(|source| HttpError::Range { target, source })?;
            (total, head)
        }
        Promise::Whole { total: Some(total) } if total > remote.options.max_spool => {
            // What comes after is not waited for: dropping the body ends the transfer.
            let (head, _) = take(&mut stream, wanted.min(total)).await;
            (total, head.slice(..head.len().min(wanted as usize)))
        }
        Promise::Whole { total } => {
            let head = take_whole(stream, total, remote.options.max_spool, &target).await?;
            (head.len() as u64, head)
        }
        Promise::Empty | Promise::Other => (0, Bytes::new()),
    };
    Ok(First { size, entity, head })
}

/// Reads until there are at least `enough` bytes or no more come, for whatever reason, which is handed back.
async fn take(stream: &mut BodyStream, enough: u64) -> (Bytes, Option<HttpError>) {
    let mut all = BytesMut::new();
    while (all.len() as u64) < enough {
        match stream.next().await {
            Some(Ok(chunk)) => all.extend_from_slice(&chunk),
            Some(Err(error)) => return (all.freeze(), Some(error)),
            None => break,
        }
    }
    (all.freeze(), None)
}

/// The promised part, or the beginning of it: if the connection breaks, what came is as good as it would be otherwise,
/// and the rest can be asked for when it is needed.
async fn take_part(stream: &mut BodyStream, length: u64) -> Result<Bytes, RangeError> {
    let (head, _) = take(stream, length).await;
    if head.len() as u64 > length || (head.len() as u64 == length && !stream.is_finished().await) {
        return Err(RangeError::Longer { expected: length });
    }
    Ok(head)
}

/// The whole, up to `limit` bytes.
async fn take_whole(mut stream: BodyStream, total: Option<u64>, limit: u64, target: &str) -> Result<Bytes, HttpError> {
    let (whole, error) = take(&mut stream, limit.saturating_add(1)).await;
    if let Some(error) = error {
        return Err(error);
    }
    match total {
        None if whole.len() as u64 > limit => Err(HttpError::SizeUnknown { target: target.to_owned(), limit }),
        Some(expected) if whole.len() as u64 > expected => {
            Err(HttpError::Range { target: target.to_owned(), source: RangeError::Longer { expected } })
        }
        Some(expected) if (whole.len() as u64) < expected => {
            let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into();
            Err(HttpError::Body { target: target.to_owned(), received: whole.len() as u64, source })
        }
        _ => Ok(whole),
    }
}

/// Tells apart the sources whose servers do not pin their content.
static UNPINNED: AtomicU64 = AtomicU64::new(0);

/// What the bytes are, as far as the server says: by strong entity tag, else by time of change and size. A server that
/// says neither gets an id which no other source has, so that no cache mixes two states of the resource. A query may
/// hold secrets, so the id has its digest in its place.
pub(super) fn id(url: &Url, entity: &Entity, size: u64) -> SourceId {
    let mut name = redact::url(url);
    if let Some(query) = url.query() {
        name = format!("{name}?{}", Digest::sha256_of(query.as_bytes()));
    }
    let pin = match (entity.strong_etag(), &entity.last_modified) {
        (Some(etag), _) => format!("etag:{etag}"),
        (None, Some(time)) => format!("modified:{time}|size:{size}"),
        (None, None) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let count = UNPINNED.fetch_add(1, Ordering::Relaxed);
            format!("unpinned:{}.{now}.{count}|size:{size}", std::process::id())
        }
    };
    SourceId::new(format!("{name}|{pin}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_pin_content_and_hide_queries() {
        let url: Url = "http://host/x?sig=canary".parse().unwrap();
        let tagged = Entity { etag: Some("\"v1\"".into()), last_modified: None };
        let shown = id(&url, &tagged, 5).to_string();
        assert!(shown.starts_with("http://host/x?sha256:") && shown.ends_with("|etag:\"v1\""), "{shown}");
        assert!(!shown.contains("canary"));
        assert_ne!(id(&url, &tagged, 5), id(&"http://host/x?sig=other".parse().unwrap(), &tagged, 5));
        let weak = Entity { etag: Some("W/\"v1\"".into()), last_modified: Some("then".into()) };
        assert!(id(&url, &weak, 5).as_str().ends_with("|modified:then|size:5"));
        assert_ne!(id(&url, &Entity::default(), 5), id(&url, &Entity::default(), 5));
    }
}
