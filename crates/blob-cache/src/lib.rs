//! Caches that may forget, never lie and never fail a read.
#![doc = include_str!("../README.md")]

mod admin;
mod block;
mod blocking;
mod check;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dir;
mod disk;
mod error;
mod evict;
mod files;
mod flights;
pub mod layout;
mod lock;
mod map;
mod marker;
mod memory;
mod patient;
mod simple;
mod tag;
mod tiered;
mod turn;
mod usage;

pub use admin::{CacheAdmin, Usage, Verified};
pub use block::{BlockCache, BlockKey, BlockOptions, BlockStore, DiskBlockStore, MemoryBlockStore};
pub use dir::{CacheDir, CacheOptions};
pub use disk::DiskCache;
pub use error::OpenError;
pub use flights::Flights;
pub use memory::{MemoryCache, MemoryOptions};
pub use patient::Patient;
pub use simple::{Simple, SimpleCache};
pub use tag::{DiskTagCache, MemoryTagCache, TagCache, TagEntry};
pub use tiered::Tiered;
