//! Test support for the crates of this workspace: proxies, real peers, directory trees.
#![doc = include_str!("../README.md")]

pub mod peers;
pub mod proxy;
#[cfg(feature = "sigstore")]
pub mod sigstore;
pub mod trees;
