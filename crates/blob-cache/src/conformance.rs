//! Kits for implementers of [`BlockStore`](crate::BlockStore) and [`TagCache`](crate::TagCache): one function per clause
//! of the contract, each of which panics when the clause is broken.
//!
//! [`block_store_conformance!`](crate::block_store_conformance) and
//! [`tag_cache_conformance!`](crate::tag_cache_conformance) make one test of each clause.
//! The kit for [`Cache`](blob_core::Cache) is `blob_core::conformance::cache`.
#![allow(clippy::unwrap_used)]

pub mod block;
pub mod tag;

#[doc(hidden)]
pub use futures_executor::block_on;
