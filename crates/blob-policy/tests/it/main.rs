//! Policies against bundles, registries and each other.
#![cfg(feature = "sigstore")]
#![allow(clippy::unwrap_used)]

mod certificates;
mod conformance;
#[cfg(feature = "sign")]
mod counted;
mod discovery;
#[cfg(feature = "sign")]
mod interop;
#[cfg(feature = "sign")]
mod key_files;
#[cfg(feature = "sign")]
mod keyless;
mod keys;
mod login;
#[cfg(feature = "sign")]
mod mutations;
#[cfg(feature = "file")]
mod policy_files;
#[cfg(feature = "slsa")]
mod provenance;
#[cfg(feature = "tuf")]
mod refresh;
#[cfg(feature = "opa")]
mod rego;
#[cfg(feature = "sign")]
mod signing;
mod support;
mod vectors;
