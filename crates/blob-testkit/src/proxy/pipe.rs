//! A body on its way through the proxy: counted, slowed down, damaged.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};

use super::count::{Live, Way};
use super::fault::Action;
use super::service::Service;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// One body under way.
pub(super) struct Pipe {
    pub(super) body: Incoming,
    pub(super) way: Way,
    pub(super) live: Arc<Live>,
    pub(super) service: Arc<Service>,
    pub(super) fault: Option<Action>,
    /// Bytes handed on so far.
    pub(super) sent: u64,
}

impl Pipe {
    /// The body to send on. An empty one stays visibly empty, so that no `Transfer-Encoding` appears where none was.
    pub(super) fn into_body(self) -> Body {
        if self.body.is_end_stream() {
            return full(Bytes::new());
        }
        let frames = futures_util::stream::unfold(Some(self), |pipe| async move {
            let mut pipe = pipe?;
            match pipe.next().await? {
                Ok(frame) => Some((Ok(frame), Some(pipe))),
                Err(error) => Some((Err(error), None)),
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        if let Some(error) = self.stop().await {
            return Some(Err(error));
        }
        let data = match self.body.frame().await? {
            Ok(frame) => match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Some(Ok(trailers)),
            },
            Err(error) => return Some(Err(error.into())),
        };
        let data = self.damage(data);
        self.service.line.transfer(self.way, data.len()).await;
        self.live.add(self.way, data.len() as u64);
        self.sent += data.len() as u64;
        Some(Ok(Frame::data(data)))
    }

    /// Whether the fault's position is reached: a cut gives the error that closes the connection, a stall never returns.
    async fn stop(&self) -> Option<BoxError> {
        match self.fault {
            Some(Action::Cut(at)) if self.sent >= at => {
                // Hyper may hold written bytes back while a body is ready without pause; give it the chance to flush.
                tokio::task::yield_now().await;
                Some("cut by the fault script".into())
            }
            Some(Action::Stall(at)) if self.sent >= at => std::future::pending().await,
            _ => None,
        }
    }

    /// Shortens the chunk to the position of a cut or stall, or flips the byte that the fault names.
    fn damage(&self, mut data: Bytes) -> Bytes {
        match self.fault {
            Some(Action::Cut(at) | Action::Stall(at)) => {
                let left = usize::try_from(at - self.sent).unwrap_or(usize::MAX);
                data.truncate(left);
                data
            }
            Some(Action::Flip(at)) => {
                let Some(index) = at.checked_sub(self.sent).and_then(|i| usize::try_from(i).ok()) else { return data };
                if index >= data.len() {
                    return data;
                }
                let mut changed = BytesMut::from(&data[..]);
                changed[index] ^= 0xff;
                changed.freeze()
            }
            _ => data,
        }
    }
}

/// A body that is in memory.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
