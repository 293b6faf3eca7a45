//! Tests of the crate through its public interface.
#![allow(clippy::unwrap_used)]

mod archive;
mod format;
mod support;
