//! Integration tests: real stores, real servers over loopback.
#![allow(clippy::unwrap_used)]

#[cfg(all(feature = "client", feature = "server", feature = "memory"))]
mod client;
#[cfg(all(feature = "server", feature = "memory"))]
mod server;
#[cfg(all(feature = "server", feature = "memory"))]
mod wire;
