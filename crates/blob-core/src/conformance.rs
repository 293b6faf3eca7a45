//! Kits for implementers of this crate's contracts: one function per clause, each of which panics when the clause is
//! broken, and a macro that makes one test of each.
#![allow(clippy::unwrap_used)]

pub mod cache;
pub mod source;

#[doc(hidden)]
pub use futures_executor::block_on;
