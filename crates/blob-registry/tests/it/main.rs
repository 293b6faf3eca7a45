//! Integration tests: real stores, real servers over loopback.
#![allow(clippy::unwrap_used)]
// Children of tests report over standard output; tests that cannot run here say so on standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[cfg(all(feature = "client", feature = "server", feature = "memory"))]
mod client;
#[cfg(all(feature = "layout", feature = "memory"))]
mod conformance;
#[cfg(all(feature = "layout", feature = "memory"))]
mod copy;
#[cfg(all(feature = "client", feature = "server", feature = "memory"))]
mod download;
#[cfg(feature = "memory")]
mod filter;
#[cfg(all(feature = "client", feature = "layout", feature = "server", feature = "memory"))]
mod interop;
#[cfg(feature = "memory")]
mod kind;
#[cfg(feature = "memory")]
mod kit;
#[cfg(all(feature = "layout", feature = "memory"))]
mod layout;
#[cfg(all(feature = "client", feature = "oci-client", feature = "server", feature = "memory"))]
mod oci_client;
#[cfg(all(feature = "client", feature = "server", feature = "memory"))]
mod referrers;
#[cfg(all(feature = "server", feature = "memory"))]
mod server;
#[cfg(feature = "memory")]
mod source;
#[cfg(all(feature = "client", feature = "layout", feature = "memory", feature = "server"))]
mod spec;
#[cfg(feature = "memory")]
mod unify;
#[cfg(all(feature = "server", feature = "memory"))]
mod wire;
