//! Who is trusted: policies that decide before the first byte.
#![doc = include_str!("../README.md")]

mod all_any;
mod error;
mod evidence;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "opa")]
pub mod opa;
mod policy;
#[cfg(feature = "sign")]
pub mod sign;
#[cfg(feature = "sigstore")]
pub mod sigstore;
#[cfg(feature = "slsa")]
pub mod slsa;
mod trusted;

pub use all_any::{RequireAll, RequireAny};
pub use error::{AdmitError, EvidenceError, PolicyError, Refusals};
#[cfg(feature = "sigstore")]
pub use evidence::{BundleEvidence, BundleReferrers};
pub use evidence::{Evidence, EvidenceLimits, NoEvidence, RegistryEvidence};
pub use policy::{Check, Policy, Report, Subject};
pub use trusted::{FromManifest, Trusted, admit, admit_without_verification};
