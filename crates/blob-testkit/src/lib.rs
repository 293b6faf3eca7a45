//! Test support for the crates of this workspace: proxies, real peers, directory trees.
#![doc = include_str!("../README.md")]

pub mod peers;
pub mod proxy;
pub mod trees;
