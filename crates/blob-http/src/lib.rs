//! HTTP for people who read parts of things: one checked attempt at a time, redirects and retries as explicit layers.
#![doc = include_str!("../README.md")]

pub mod error;
pub mod redact;
pub mod redirect;
pub mod retry;
pub mod transport;

pub use error::{HttpError, Waiting};
pub use redact::Secret;
pub use redirect::{Followed, Outgoing, RedirectError, RedirectPolicy, send_following};
pub use retry::{Retries, RetryPolicy};
pub use transport::{
    Body, BodyStream, BoxError, ClientIdentity, Proxy, Response, ResponseBody, Transport, TransportOptions, empty,
    full, request_uri, stream_body,
};
