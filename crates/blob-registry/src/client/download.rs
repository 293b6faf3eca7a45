//! Reading blobs: ranges that are checked, transfers that go on where they broke off.
//!
//! An answer to a range is believed only if it says that it is that range of a blob of that size; an answer with the
//! whole blob is cut to what was asked for. A transfer that breaks, stalls or ends early is taken up at the byte it
//! reached, as long as bytes keep coming. Who reads a whole blob learns of a wrong digest in place of the last chunk.

use std::ops::Range;
use std::sync::Arc;

use blob_core::{Digest, Hasher, SourceError, SourceId};
use blob_http::Retries;
use blob_http::transport::BodyStream;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method, StatusCode};
use tokio::time::sleep;

use super::Core;
use super::answer::{Answer, protocol, transport};
use super::call::{BULK_ABOVE, Call};
use super::scope::Scope;
use crate::error::{ErrorCode, Object, RegistryError};
use crate::reference::Repository;
use crate::registry::BlobReader;

impl Core {
    /// The size of a blob. Only a 200 with a length counts; storage that refuses a HEAD is asked for the first byte.
    pub(super) async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        self.stat_blob_as(Scope::pull(repository), repository, digest).await
    }

    /// As [`Self::stat_blob`], with the token that the requests behind it will need.
    pub(super) async fn stat_blob_as(
        &self,
        scope: Scope,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<u64, RegistryError> {
        let action = format!("looking for blob {}", self.name_of(repository, digest));
        let url = self.url(repository, &format!("blobs/{digest}"));
        let call = Call::new(Method::HEAD, url, repository, action, Object::Blob).with_scope(scope);
        let answer = self.send(&call).await?;
        if let Some(got) =
            answer.content_digest(&call.action)?.filter(|got| got != digest && answer.status.is_success())
        {
            return Err(RegistryError::DigestMismatch { action: call.action, expected: *digest, got });
        }
        match (answer.status, answer.content_length()) {
            (StatusCode::OK, Some(size)) => Ok(size),
            (StatusCode::OK | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _) => {
                self.probe(repository, digest).await
            }
            // URLs that are signed for GET forbid HEAD.
            (status, _) if answer.foreign && matches!(status.as_u16(), 400 | 401 | 403) => {
                self.probe(repository, digest).await
            }
            _ => Err(answer.refuse(&call).await),
        }
    }

    /// The size of a blob from an answer to the range of its first byte.
    async fn probe(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        let blob = Blob::new(self, repository, digest);
        let answer = self.get(&blob, Some(&(0..1))).await?;
        if answer.status == StatusCode::RANGE_NOT_SATISFIABLE && answer.header("content-range") == Some("bytes */0") {
            return Ok(0);
        }
        Ok(self.judge(&blob, answer, Some(&(0..1)), None).await?.size)
    }

    /// Asks for a blob or a range of it: where it was found last, else at the registry.
    async fn get(&self, blob: &Blob<'_>, range: Option<&Range<u64>>) -> Result<Answer, RegistryError> {
        // Who wants everything may do so because what came from there was wrong.
        if let Some(url) = self.profile.signed(blob.repository, blob.digest).filter(|_| range.is_some()) {
            let mut call = blob.call(range);
            call.url = url;
            match self.send(&call).await {
                // Expired, or forgotten over there: the registry hands out a new one.
                Ok(answer) if matches!(answer.status.as_u16(), 400 | 401 | 403 | 404 | 410) => {}
                Err(error) if !error.is_transient() => return Err(error),
                Err(_) => {}
                Ok(answer) => return Ok(answer),
            }
            self.profile.set_signed(blob.repository, blob.digest, None);
        }
        let answer = self.send(&blob.call(range)).await?;
        if answer.foreign && answer.status.is_success() {
            self.profile.set_signed(blob.repository, blob.digest, Some(answer.url.clone()));
        }
        Ok(answer)
    }

    /// Checks an answer against what was asked for: `range`, or the whole blob, of `size` bytes if that is known.
    async fn judge(
        &self,
        blob: &Blob<'_>,
        answer: Answer,
        range: Option<&Range<u64>>,
        size: Option<u64>,
    ) -> Result<Opened, RegistryError> {
        let action = &blob.action;
        if let Some(encoding) = answer.header(CONTENT_ENCODING.as_str())
            && !encoding.trim().eq_ignore_ascii_case("identity")
        {
            return Err(protocol(action, "the answer is encoded although the plain bytes were asked for"));
        }
        let (total, skip) = match (answer.status, range) {
            (StatusCode::PARTIAL_CONTENT, Some(range)) => {
                let header = answer.header(CONTENT_RANGE.as_str());
                let (got, total) = header
                    .and_then(parse_content_range)
                    .ok_or_else(|| protocol(action, "the answer to a range has no usable Content-Range"))?;
                if range.end > total {
                    return Err(blob.outside(range, total));
                }
                if got != *range {
                    let detail = format!("asked for bytes {range:?} and got an answer about bytes {got:?}");
                    return Err(protocol(action, detail));
                }
                (total, 0)
            }
            (StatusCode::OK, _) => {
                let total = match answer.content_length() {
                    Some(total) => total,
                    None => match size {
                        Some(size) => size,
                        None => Box::pin(self.size_by_head(blob)).await?,
                    },
                };
                if range.is_some() && self.profile.ranges_ignored.set() {
                    tracing::warn!(host = self.host, "ranges are answered with whole blobs: reads will be slow");
                }
                (total, range.map_or(0, |range| range.start))
            }
            (StatusCode::PARTIAL_CONTENT, None) => {
                return Err(protocol(action, "asked for the whole blob and got a part of it"));
            }
            _ => return Err(answer.refuse(&blob.call(range)).await),
        };
        if let Some(expected) = size.filter(|&size| size != total) {
            return Err(RegistryError::SizeMismatch { action: action.clone(), expected, got: total });
        }
        if let Some(range) = range.filter(|range| range.end > total) {
            return Err(blob.outside(range, total));
        }
        let exact = answer.status == StatusCode::PARTIAL_CONTENT;
        Ok(Opened { body: answer.body.into_stream(), skip, size: total, exact })
    }

    /// The size of a blob whose GET does not say it.
    async fn size_by_head(&self, blob: &Blob<'_>) -> Result<u64, RegistryError> {
        let mut call = blob.call(None);
        call.method = Method::HEAD;
        let answer = self.send(&call).await?;
        match (answer.status, answer.content_length()) {
            (StatusCode::OK, Some(size)) => Ok(size),
            _ => Err(protocol(&blob.action, "the registry does not say how large the blob is")),
        }
    }
}

/// What is read.
struct Blob<'a> {
    repository: &'a Repository,
    digest: &'a Digest,
    url: url::Url,
    action: String,
}

impl<'a> Blob<'a> {
    fn new(core: &Core, repository: &'a Repository, digest: &'a Digest) -> Self {
        let url = core.url(repository, &format!("blobs/{digest}"));
        Self { repository, digest, url, action: format!("reading blob {}", core.name_of(repository, digest)) }
    }

    /// A GET. Ranges are closed: some registries refuse open ones.
    fn call(&self, range: Option<&Range<u64>>) -> Call {
        let call = Call::new(Method::GET, self.url.clone(), self.repository, self.action.clone(), Object::Blob)
            .with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        match range {
            Some(range) => {
                let value = HeaderValue::from_str(&format!("bytes={}-{}", range.start, range.end - 1));
                let mut call = call.with_header(RANGE, value.expect("because numbers are ASCII"));
                call.bulk = range.end - range.start > BULK_ABOVE;
                call
            }
            None => call,
        }
    }

    fn outside(&self, range: &Range<u64>, size: u64) -> RegistryError {
        let detail = format!("bytes {range:?} are outside a blob of {size} bytes");
        RegistryError::detailed(&self.action, ErrorCode::RangeInvalid, detail)
    }
}

/// An answer that passed the checks.
struct Opened {
    body: BodyStream,
    /// How many bytes come before the wanted ones.
    skip: u64,
    /// The size of the whole blob.
    size: u64,
    /// Whether the body is said to be exactly the range.
    exact: bool,
}

/// Reads a blob, or `range` of it.
pub(super) async fn read(
    core: Arc<Core>,
    repository: &Repository,
    digest: &Digest,
    range: Option<Range<u64>>,
) -> Result<BlobReader, RegistryError> {
    let blob = Blob::new(&core, repository, digest);
    if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
        let size = core.stat_blob(repository, digest).await?;
        if range.start > range.end || range.end > size {
            return Err(blob.outside(range, size));
        }
        return Ok(BlobReader { size, range: range.clone(), stream: stream::empty().boxed(), ranged: true });
    }
    let answer = core.get(&blob, range.as_ref()).await?;
    let opened = core.judge(&blob, answer, range.as_ref(), None).await?;
    let (size, ranged) = (opened.size, range.is_none() || opened.exact);
    let hasher = range.is_none().then(|| Hasher::new(digest.algorithm()));
    let range = range.unwrap_or(0..size);
    if range.is_empty() && !digest.matches(b"") {
        let got = Digest::of(digest.algorithm(), b"");
        return Err(RegistryError::DigestMismatch { action: blob.action, expected: *digest, got });
    }
    let action = blob.action;
    let retries = Retries::new(core.retry);
    let (repository, digest) = (repository.clone(), *digest);
    let left = range.clone();
    let state = Reading { core, repository, digest, action, left, size, opened: Some(opened), hasher, retries };
    let stream = stream::try_unfold(state, |state| async move {
        let id = SourceId::from(state.digest);
        state.next().await.map_err(|error| error.into_source_error(id))
    });
    Ok(BlobReader { size, range, stream: stream.boxed(), ranged })
}

/// The state of a transfer.
struct Reading {
    core: Arc<Core>,
    repository: Repository,
    digest: Digest,
    action: String,
    /// What is still to come.
    left: Range<u64>,
    size: u64,
    /// The answer being read; `None` after it broke off.
    opened: Option<Opened>,
    /// Takes in everything, if that is the whole blob.
    hasher: Option<Hasher>,
    retries: Retries,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, RegistryError> {
        while !self.left.is_empty() {
            if self.opened.is_none() {
                self.reopen().await?;
            }
            let Some(opened) = &mut self.opened else { continue };
            let error = match opened.body.next().await {
                Some(Ok(chunk)) => match self.take(chunk)? {
                    Some(chunk) => return Ok(Some((chunk, self))),
                    None => continue,
                },
                Some(Err(error)) => transport(&self.action, error),
                None => self.truncated(),
            };
            self.opened = None;
            let wait = self.retries.next_delay(None).filter(|_| error.is_transient());
            let Some(wait) = wait else { return Err(error) };
            tracing::debug!(action = self.action, offset = self.left.start, ?wait, "resuming");
            sleep(wait).await;
        }
        Ok(None)
    }

    async fn reopen(&mut self) -> Result<(), RegistryError> {
        let blob = Blob::new(&self.core, &self.repository, &self.digest);
        let answer = self.core.get(&blob, Some(&self.left)).await?;
        self.opened = Some(self.core.judge(&blob, answer, Some(&self.left), Some(self.size)).await?);
        Ok(())
    }

    /// What of `chunk` was asked for.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let Some(opened) = &mut self.opened else { return Ok(None) };
        let skipped = opened.skip.min(chunk.len() as u64);
        opened.skip -= skipped;
        chunk = chunk.split_off(skipped as usize);
        let left = self.left.end - self.left.start;
        if chunk.len() as u64 > left {
            if opened.exact {
                return Err(protocol(&self.action, "the answer has more bytes than it said"));
            }
            chunk.truncate(left as usize);
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        self.retries.progressed();
        self.left.start += chunk.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        if self.left.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            self.check(hasher.finish())?;
        }
        Ok(Some(chunk))
    }

    fn check(&self, got: Digest) -> Result<(), RegistryError> {
        if got == self.digest {
            return Ok(());
        }
        // Whoever tries again gets the bytes from the registry rather than from where these came from.
        self.core.profile.set_signed(&self.repository, &self.digest, None);
        Err(RegistryError::DigestMismatch { action: self.action.clone(), expected: self.digest, got })
    }

    fn truncated(&self) -> RegistryError {
        let (id, expected) = (SourceId::from(self.digest), self.left.end);
        let source = SourceError::Truncated { id, expected, got: self.left.start };
        RegistryError::Io { action: self.action.clone(), transient: true, source: Box::new(source) }
    }
}

/// `bytes 0-9/100` as range and total.
fn parse_content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let (range, total) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (first, last, total) = (number(first)?, number(last)?, number(total)?);
    (unit.eq_ignore_ascii_case("bytes") && first <= last && last < total).then(|| (first..last + 1, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some((0..10, 100)));
        assert_eq!(parse_content_range("Bytes 99-99/100"), Some((99..100, 100)));
        for bad in [
            "",
            "bytes",
            "bytes 0-9/*",
            "bytes */100",
            "bytes 9-0/100",
            "bytes 0-100/100",
            "bytes=0-9/100",
            "items 0-9/100",
            "bytes 0-9",
            "bytes +0-9/100",
            "bytes -1-9/100",
            "bytes 0-18446744073709551615/18446744073709551615",
            "bytes 0-99999999999999999999/100",
            "bytes 0--9/100",
            "bytes 0-9/100, bytes 0-9/100",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_content_range_is_survived(text in "bytes [0-9*/, -]{0,30}|\\PC{0,30}") {
            if let Some((range, total)) = parse_content_range(&text) {
                prop_assert!(range.start < range.end && range.end <= total);
            }
        }
    }
}
