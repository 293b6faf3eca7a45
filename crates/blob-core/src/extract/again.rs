//! Stored bytes that turned out wrong are read once more, past whatever keeps bytes between the source and its reader.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::StreamExt as _;

use super::cached::stoppable;
use super::link::Link;
use crate::source::{ByteSource, read_again};

/// What a thread wants to have read again.
#[derive(Debug)]
struct Request {
    range: Range<u64>,
    answer: SyncSender<Bytes>,
}

/// The end of the threads.
#[derive(Clone, Debug)]
pub(super) struct Again(mpsc::UnboundedSender<Request>);

/// The end of the async side.
pub(super) struct Requests(mpsc::UnboundedReceiver<Request>);

/// The way from one to the other.
pub(super) fn channel() -> (Again, Requests) {
    let (sender, receiver) = mpsc::unbounded();
    (Again(sender), Requests(receiver))
}

impl Again {
    /// Other bytes than those that came before, if there can be any. Blocks: for threads.
    pub(super) fn read(&self, range: Range<u64>) -> Option<Bytes> {
        let (answer, answered) = sync_channel(1);
        self.0.unbounded_send(Request { range, answer }).ok()?;
        // The sender is dropped without an answer where there is none, or everything was stopped.
        answered.recv().ok()
    }
}

impl Requests {
    /// Answers, one after the other, until the threads are done or everything was stopped.
    pub(super) async fn serve(mut self, link: &Link, source: &Arc<dyn ByteSource>) {
        let answer = async {
            while let Some(Request { range, answer }) = self.0.next().await {
                if let Some(bytes) = read_again(&**source, range).await {
                    // The thread waits for it.
                    let _ = answer.try_send(bytes);
                }
            }
        };
        stoppable(link, answer).await;
    }
}
