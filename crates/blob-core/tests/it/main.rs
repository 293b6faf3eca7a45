//! Tests of the crate through its public interface.
#![allow(clippy::unwrap_used)]

mod archive;
mod extract;
mod extract_faults;
mod format;
mod support;
