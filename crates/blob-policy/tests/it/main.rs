//! Policies against bundles, registries and each other.
#![cfg(feature = "sigstore")]
#![allow(clippy::unwrap_used)]

mod certificates;
mod conformance;
#[cfg(feature = "sign")]
mod key_files;
mod keys;
#[cfg(feature = "slsa")]
mod provenance;
#[cfg(feature = "opa")]
mod rego;
#[cfg(feature = "sign")]
mod signing;
mod support;
mod vectors;
