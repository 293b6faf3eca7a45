//! The command as a whole: what it writes, byte for byte, and how it exits.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_raw_string_hashes, reason = "this is how snapshots are updated")]

mod cache;
mod errors;
mod help;
mod json;
#[cfg(feature = "tui")]
mod open;
mod refused;
mod scenarios;
mod serve;
mod signals;
mod streams;
mod support;
mod text;
mod trust;
