//! HTTP for people who read parts of things: one checked attempt at a time, redirects and retries as explicit layers.
#![doc = include_str!("../README.md")]

pub mod error;
pub mod range;
pub mod redact;
pub mod redirect;
pub mod retry;
pub mod source;
pub mod transport;

pub use error::{HttpError, Waiting};
pub use range::RangeError;
pub use redact::Secret;
pub use redirect::{Followed, Outgoing, RedirectError, RedirectPolicy, send_following};
pub use retry::{Retries, RetryPolicy};
pub use source::{HttpSource, HttpSourceOptions};
pub use transport::{
    Body, BodyStream, BoxError, Bulk, ClientIdentity, Expectation, OriginOptions, Proxy, Response, ResponseBody,
    Traffic, Transport, TransportOptions, certificates_from_pem, empty, full, request_uri, stream_body,
};
