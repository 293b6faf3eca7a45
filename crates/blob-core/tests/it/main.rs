//! Tests of the crate through its public interface.
#![allow(clippy::unwrap_used)]

mod format;
