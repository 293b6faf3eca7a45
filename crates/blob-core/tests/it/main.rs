//! Tests of the crate through its public interface.
#![allow(clippy::unwrap_used)]

mod archive;
#[cfg(feature = "fs")]
mod create;
mod extract;
mod extract_cache;
mod extract_faults;
mod format;
mod source;
mod support;
mod troubled;
