//! Integration tests: real stores, real servers over loopback.
#![allow(clippy::unwrap_used)]

#[cfg(all(feature = "layout", feature = "memory"))]
mod conformance;
#[cfg(all(feature = "server", feature = "memory"))]
mod server;
#[cfg(all(feature = "server", feature = "memory"))]
mod wire;
