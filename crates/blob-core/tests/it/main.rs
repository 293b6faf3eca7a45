//! Tests of the crate through its public interface.
#![allow(clippy::unwrap_used)]

mod archive;
#[cfg(feature = "fs")]
mod create;
mod extract;
mod extract_faults;
mod format;
mod support;
