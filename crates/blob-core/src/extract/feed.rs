//! Fetches stored bytes from a source that is not local and hands them to the threads, piece by piece.

use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::ExtractError;
use super::link::{Job, Link, Permit, pipe};
use super::run::Prepared;
use crate::error::ReadError;
use crate::source::{ByteSource, ByteStream, SourceError};

/// How many bytes of a large file wait for their thread: 2 MiB, and one chunk of the source.
const PIPE_BYTES: u64 = 2 << 20;

/// How much is fetched at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How many requests are in flight.
    pub(super) requests: usize,
    /// How many bytes are held between source and disk.
    pub(super) bytes: u64,
}

/// One request.
#[derive(Clone, Copy, Debug)]
enum Fetch {
    Run(usize),
    Large(usize),
}

/// Fetches everything that `prepared` needs.
///
/// Requests are admitted in order, each with the memory for its whole range; what finishes gives memory back. Threads
/// never wait for one another, so there is always somebody who can go on.
pub(super) async fn feed(link: &Arc<Link>, prepared: &Prepared, pace: Pace) -> Result<(), ExtractError> {
    let plan = &prepared.plan;
    let mut pending = (0..plan.larges.len()).map(Fetch::Large).chain((0..plan.runs.len()).map(Fetch::Run)).peekable();
    let mut flying = FuturesUnordered::new();
    std::future::poll_fn(|cx| {
        loop {
            link.watch(cx);
            if link.is_cancelled() {
                return Poll::Ready(Ok(()));
            }
            while flying.len() < pace.requests
                && let Some(&fetch) = pending.peek()
                && let Some(permit) = link.admit(cost(prepared, fetch), pace.bytes)
            {
                pending.next();
                flying.push(one(link, prepared, fetch, permit));
            }
            match flying.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(()))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) if pending.peek().is_none() => return Poll::Ready(Ok(())),
                // Nothing flies for want of memory: its return wakes this task.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

fn cost(prepared: &Prepared, fetch: Fetch) -> u64 {
    match fetch {
        Fetch::Run(at) => prepared.plan.runs[at].range.end - prepared.plan.runs[at].range.start,
        Fetch::Large(_) => PIPE_BYTES,
    }
}

async fn one(link: &Arc<Link>, prepared: &Prepared, fetch: Fetch, permit: Permit) -> Result<(), ExtractError> {
    match fetch {
        Fetch::Run(at) => run(link, prepared, at, permit).await,
        Fetch::Large(at) => large(link, prepared, at, permit).await,
    }
}

/// Reads a run and cuts it into its batches.
async fn run(link: &Arc<Link>, prepared: &Prepared, at: usize, mut permit: Permit) -> Result<(), ExtractError> {
    let run = &prepared.plan.runs[at];
    let mut cutter = Cutter {
        source: prepared.source(),
        stream: None,
        at: run.range.start,
        end: run.range.end,
        chunk: Bytes::new(),
    };
    for at in run.batches.clone() {
        let batch = &prepared.plan.batches[at];
        let failed = |source| {
            let path = prepared.tree.path(prepared.plan.files[batch.members.start]).into();
            ExtractError::Read(ReadError::Source { path, source })
        };
        let bytes = cutter.take(batch.range.clone()).await.map_err(failed)?;
        let permit = permit.split(batch.range.end - batch.range.start);
        link.push(Job::Batch { at, bytes, permit });
    }
    Ok(())
}

/// Cuts ranges out of a stream, in order.
struct Cutter<'a> {
    source: &'a Arc<dyn ByteSource>,
    stream: Option<ByteStream>,
    /// Where `chunk` begins.
    at: u64,
    end: u64,
    chunk: Bytes,
}

impl Cutter<'_> {
    async fn take(&mut self, range: Range<u64>) -> Result<Bytes, SourceError> {
        let length = (range.end - range.start) as usize;
        if length == 0 {
            return Ok(Bytes::new());
        }
        self.skip_to(range.start).await?;
        if self.chunk.is_empty() {
            self.next().await?;
        }
        if self.chunk.len() >= length {
            self.at += length as u64;
            return Ok(self.chunk.split_to(length));
        }
        let mut bytes = BytesMut::with_capacity(length);
        while bytes.len() < length {
            if self.chunk.is_empty() {
                self.next().await?;
            }
            let part = self.chunk.split_to(self.chunk.len().min(length - bytes.len()));
            self.at += part.len() as u64;
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }

    /// Drops what nobody wants.
    async fn skip_to(&mut self, start: u64) -> Result<(), SourceError> {
        while self.at < start {
            if self.chunk.is_empty() {
                self.next().await?;
            }
            let part = self.chunk.split_to(self.chunk.len().min((start - self.at) as usize));
            self.at += part.len() as u64;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(), SourceError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.source.open(self.at..self.end).await?),
        };
        let Some(chunk) = stream.try_next().await? else {
            let (id, expected) = (self.source.id().clone(), self.end - self.at);
            return Err(SourceError::Truncated { id, expected, got: 0 });
        };
        self.chunk = chunk;
        Ok(())
    }
}

/// Passes a large file on as it comes.
async fn large(link: &Arc<Link>, prepared: &Prepared, at: usize, permit: Permit) -> Result<(), ExtractError> {
    let large = &prepared.plan.larges[at];
    let failed = |source| {
        let path = prepared.tree.path(prepared.plan.files[large.members.start]).into();
        ExtractError::Read(ReadError::Source { path, source })
    };
    let source = prepared.source();
    let mut stream = source.open(large.range.clone()).await.map_err(failed)?;
    let (writer, reader) = pipe(PIPE_BYTES as usize);
    link.push(Job::Large { at, bytes: reader, permit });
    let (expected, mut got) = (large.range.end - large.range.start, 0);
    while let Some(chunk) = stream.try_next().await.map_err(failed)? {
        got += chunk.len() as u64;
        if !writer.write(chunk).await {
            // The thread stopped, and has said why.
            return Ok(());
        }
    }
    if got != expected {
        return Err(failed(SourceError::Truncated { id: source.id().clone(), expected, got }));
    }
    writer.finish();
    Ok(())
}
