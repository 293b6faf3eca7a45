//! Test support for the crates of this workspace: proxies, hostile servers, real peers, directory trees.
#![doc = include_str!("../README.md")]

pub mod hostile;
pub mod peers;
pub mod proxy;
#[cfg(feature = "sigstore")]
pub mod sigstore;
pub mod trees;
