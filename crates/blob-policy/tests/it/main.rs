//! Policies against bundles, registries and each other.
#![cfg(feature = "sigstore")]
#![allow(clippy::unwrap_used)]

mod certificates;
mod conformance;
mod keys;
#[cfg(feature = "slsa")]
mod provenance;
#[cfg(feature = "opa")]
mod rego;
mod support;
mod vectors;
