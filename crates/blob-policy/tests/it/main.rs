//! Policies against bundles, registries and each other.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "sigstore")]
mod conformance;
#[cfg(feature = "sigstore")]
mod keys;
#[cfg(feature = "sigstore")]
mod support;
