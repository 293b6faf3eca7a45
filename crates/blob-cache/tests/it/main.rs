//! The crate from outside: contracts, damage, other processes, failing disks, request counts.
#![allow(clippy::unwrap_used)]

mod blocks;
mod damage;
mod evict;
mod examples;
mod failing;
mod foreign;
mod kits;
mod liars;
mod lying_stores;
mod many;
mod poison;
mod processes;
mod support;
