//! Tests of the facade through its public interface, over real servers on loopback.
#![allow(clippy::unwrap_used, missing_docs)]

mod artifact;
mod away;
mod bypass;
mod caches;
mod counts;
mod errors;
mod held;
mod mirrors;
mod own_caches;
mod policy;
mod round_trip;
mod serve;
mod support;
mod tamper;
mod trust;
