//! Reading a range: one request, and more of them only when the first one breaks, each at the byte that was reached.

use std::ops::Range;
use std::sync::Arc;

use blob_core::{ByteStream, SourceError};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::Shared;
use super::fetch::Answer;
use crate::error::HttpError;
use crate::range::{Entity, Promise, RangeError};
use crate::retry::Retries;
use crate::transport::BodyStream;

/// Begins to read `range`, which lies inside the source.
pub(super) async fn open(shared: Arc<Shared>, range: Range<u64>) -> Result<ByteStream, SourceError> {
    let kept = range.start..range.end.min(shared.head.len() as u64);
    let kept = if kept.is_empty() { Bytes::new() } else { shared.head.slice(kept.start as usize..kept.end as usize) };
    let mut reading = Reading {
        offset: range.start + kept.len() as u64,
        end: range.end,
        retries: Retries::new(shared.remote.options.retry),
        answer: None,
        shared,
    };
    if reading.offset < reading.end {
        reading.connect().await?;
    }
    let rest = stream::try_unfold(reading, Reading::next);
    Ok(stream::iter((!kept.is_empty()).then_some(Ok(kept))).chain(rest).boxed())
}

/// A read under way.
struct Reading {
    shared: Arc<Shared>,
    /// The next byte to hand out.
    offset: u64,
    end: u64,
    retries: Retries,
    answer: Option<Body>,
}

/// The answer that is being read.
struct Body {
    stream: BodyStream,
    /// Bytes before `offset` that come first and are thrown away.
    skip: u64,
    /// Whether it is the whole, which goes on after the range.
    whole: bool,
    /// How many bytes were asked for.
    promised: u64,
    /// Who answered, redacted.
    target: String,
}

impl Reading {
    /// The next chunk.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, SourceError> {
        while self.offset < self.end {
            if self.answer.is_none() {
                self.connect().await?;
            }
            let Some(body) = &mut self.answer else { continue };
            match body.stream.next().await {
                Some(Ok(chunk)) => {
                    if let Some(chunk) = self.accept(chunk)? {
                        if self.offset == self.end {
                            self.finish().await?;
                        }
                        return Ok(Some((chunk, self)));
                    }
                }
                Some(Err(error)) => self.wait_after(error).await?,
                None => {
                    let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into();
                    let (target, received) = (body.target.clone(), body.stream.received());
                    self.wait_after(HttpError::Body { target, received, source }).await?;
                }
            }
        }
        Ok(None)
    }

    /// Takes what belongs to the range out of a chunk.
    fn accept(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, SourceError> {
        let body = self.answer.as_mut().expect("because the chunk came from it");
        let skipped = body.skip.min(chunk.len() as u64);
        body.skip -= skipped;
        let _ = chunk.split_to(skipped as usize);
        let left = self.end - self.offset;
        if chunk.len() as u64 > left {
            if !body.whole {
                let error = body.longer();
                return Err(self.failed(error));
            }
            chunk.truncate(left as usize);
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        self.offset += chunk.len() as u64;
        self.retries.progressed();
        Ok(Some(chunk))
    }

    /// The range is complete. A part must end here too: a server that has more to say did not mean this range. This is
    /// looked at before the last chunk is handed out, since many readers stop when they have what they asked for.
    async fn finish(&mut self) -> Result<(), SourceError> {
        let Some(body) = &mut self.answer else { return Ok(()) };
        if !body.whole && !body.stream.is_finished().await {
            let error = body.longer();
            return Err(self.failed(error));
        }
        self.answer = None;
        Ok(())
    }

    /// Asks for what is missing until there is an answer or no more hope.
    async fn connect(&mut self) -> Result<(), SourceError> {
        loop {
            let missing = self.offset..self.end;
            match self.shared.remote.fetch(missing.clone(), Some(self.shared.size)).await {
                Ok(Answer { promise, entity, body, target }) => {
                    self.pin(&entity, &target)?;
                    let whole = matches!(promise, Promise::Whole { .. });
                    if whole {
                        tracing::debug!(url = %target, skipped = missing.start, "the server does not answer ranges");
                    }
                    let skip = if whole { missing.start } else { 0 };
                    let promised = missing.end - missing.start;
                    self.answer = Some(Body { stream: body.into_stream(), skip, whole, promised, target });
                    return Ok(());
                }
                Err(error) => self.wait_after(error).await?,
            }
        }
    }

    /// Remembers what the content is, from the first answer on. Another read may have been first in the meantime.
    fn pin(&self, entity: &Entity, target: &str) -> Result<(), SourceError> {
        let pinned = self.shared.remote.entity.get_or_init(|| entity.clone());
        match pinned.difference(entity) {
            Some(detail) => Err(self.failed(HttpError::Changed { target: target.to_owned(), detail })),
            None => Ok(()),
        }
    }

    /// Waits before the next attempt, or gives up with `error`.
    async fn wait_after(&mut self, error: HttpError) -> Result<(), SourceError> {
        self.answer = None;
        let delay = if error.is_transient() { self.retries.next_delay(error.retry_after()) } else { None };
        let Some(delay) = delay else { return Err(self.failed(error)) };
        tracing::debug!(offset = self.offset, ?delay, "{error}: trying again");
        tokio::time::sleep(delay).await;
        Ok(())
    }

    fn failed(&self, error: HttpError) -> SourceError {
        let id = self.shared.id.clone();
        match error {
            HttpError::Changed { detail, .. } => SourceError::Changed { id, detail },
            error => SourceError::Backend { id, kind: error.kind(), source: error.into() },
        }
    }
}

impl Body {
    fn longer(&self) -> HttpError {
        HttpError::Range { target: self.target.clone(), source: RangeError::Longer { expected: self.promised } }
    }
}
