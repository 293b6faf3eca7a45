//! `Expect: 100-continue`: a body that is not sent before the server asks for it.
//!
//! A refusal or redirect then costs a round trip instead of the body. A server that says nothing gets the body after a
//! short wait, as the protocol wants it (RFC 9110, section 10.1.1).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::body::{Body, BoxError};

/// A server that knows how to ask for a body does so within this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of `Expect: 100-continue`: an extension of the response to a request with that header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expectation {
    /// The server answered without having asked for the body, which was not sent.
    Unsent,
    /// The server asked for the body.
    Met,
    /// The server said nothing, so the body was sent after a second: next time it is better not to ask.
    Ignored,
}

/// Learns what became of the expectation.
#[derive(Debug)]
pub(super) struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// 0 while waiting, then the place in [`Expectation`].
    outcome: AtomicU8,
    asked: Notify,
}

impl Shared {
    fn learn(&self, outcome: u8) {
        // The first one counts.
        let _ = self.outcome.compare_exchange(0, outcome, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Watch {
    pub(super) fn outcome(&self) -> Expectation {
        match self.0.outcome.load(Ordering::Relaxed) {
            1 => Expectation::Met,
            2 => Expectation::Ignored,
            _ => Expectation::Unsent,
        }
    }
}

/// Holds the body of `request` back, if the request says `Expect`.
pub(super) fn hold_back(request: Request<Body>) -> (Request<Body>, Option<Watch>) {
    if !request.headers().contains_key(EXPECT) || request.body().is_end_stream() {
        return (request, None);
    }
    let shared = Arc::new(Shared::default());
    let (told, waiting) = (Arc::clone(&shared), Arc::clone(&shared));
    let gate = Box::pin(async move {
        let outcome = if timeout(PATIENCE, waiting.asked.notified()).await.is_ok() { 1 } else { 2 };
        waiting.learn(outcome);
    });
    let mut request = request.map(|body| Gated { gate: Some(gate), body }.boxed_unsync());
    hyper::ext::on_informational(&mut request, move |answer| {
        if answer.status() == StatusCode::CONTINUE {
            told.asked.notify_one();
        }
    });
    (request, Some(Watch(shared)))
}

/// A body behind a gate.
struct Gated {
    gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    body: Body,
}

impl http_body::Body for Gated {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
