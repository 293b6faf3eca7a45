//! [`EntryStream`] as a reader of tokio's traits. It needs no runtime: only the traits are tokio's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::EntryStream;
use crate::error::ReadError;

/// Reads a file of an archive. Once a read failed, every further one fails the same way, so that a caller who misses
/// the error cannot take the end for a good one.
#[derive(Debug)]
pub struct EntryReader {
    stream: EntryStream,
    chunk: Bytes,
    failed: Option<Arc<ReadError>>,
}

impl EntryReader {
    pub(super) fn new(stream: EntryStream) -> Self {
        Self { stream, chunk: Bytes::new(), failed: None }
    }

    /// Whether bytes come before the whole is verified: see [`EntryStream::is_provisional`].
    pub fn is_provisional(&self) -> bool {
        self.stream.is_provisional()
    }
}

/// A [`ReadError`] inside an `io::Error`: the same one each time.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
struct Shared(Arc<ReadError>);

fn io_error(error: &Arc<ReadError>) -> io::Error {
    let kind = if error.is_corrupt() || error.is_hash_mismatch() {
        io::ErrorKind::InvalidData
    } else if error.is_not_found() {
        io::ErrorKind::NotFound
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, Shared(Arc::clone(error)))
}

impl AsyncBufRead for EntryReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if let Some(error) = &this.failed {
            return Poll::Ready(Err(io_error(error)));
        }
        if this.chunk.is_empty() {
            match ready!(this.stream.poll_next_unpin(cx)) {
                Some(Ok(chunk)) => this.chunk = chunk,
                Some(Err(error)) => {
                    let error = this.failed.insert(Arc::new(error));
                    return Poll::Ready(Err(io_error(error)));
                }
                None => {}
            }
        }
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.chunk.len());
        self.chunk.advance(amount);
    }
}

impl AsyncRead for EntryReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let chunk = ready!(self.as_mut().poll_fill_buf(cx))?;
        let length = chunk.len().min(out.remaining());
        out.put_slice(&chunk[..length]);
        self.consume(length);
        Poll::Ready(Ok(()))
    }
}
