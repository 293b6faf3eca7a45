//! Sigstore bundles: who signed a manifest, and with what evidence, checked offline.
//!
//! A bundle is verified whole before anything in it is believed: signature, certificate chain at every authenticated
//! time, certificate transparency, log inclusion with its checkpoint, time-stamps, and that the signed digest is that
//! of our manifest. Only then is there a [`VerifiedBundle`], and there is no other way to one.
//!
//! Verification opens no socket: trust roots are embedded, read from a file, or given as bytes. With the feature `tuf`,
//! `TrustRootSource` fetches them.
//!
//! ```
//! use blob_policy::sigstore::{Identity, SigstorePolicy, TrustRoot};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let release = Identity::github_actions("acme/app")?.workflow("release.yml")?.tags(["v*"])?.deny_self_hosted();
//! let policy = SigstorePolicy::new(TrustRoot::production()?, vec![release.into()])?;
//! # let _ = policy;
//! # Ok(())
//! # }
//! ```

mod bundle;
mod claim;
mod error;
mod github;
mod identity;
mod key;
mod logs;
mod pattern;
mod policy;
#[cfg(feature = "tuf")]
mod refresh;
mod signer;
mod trust;
mod verify;

pub use bundle::{Bundle, MAX_BUNDLE_BYTES, is_bundle_media_type};
pub(crate) use claim::ClaimsMemo;
pub use claim::{Claims, Refused, SigstoreLimits, Trust, VerifiedClaim};
pub use error::BundleError;
pub use github::{GithubActions, GithubServer};
pub use identity::{Identity, IdentityError, NamedIdentity};
pub use key::{KeyRing, MAX_KEYS, TrustedKey, verify_with_key_without_log};
pub use pattern::{Pattern, PatternError};
pub use policy::{ClaimRule, KeyPolicy, PolicySetupError, SigstorePolicy};
#[cfg(feature = "tuf")]
pub use refresh::{Refreshed, TrustRootSource};
pub use signer::{CertificateClaims, CertificateSigner, San, Signer};
pub use trust::{MAX_TRUST_ROOT_BYTES, TrustRoot, TrustRootError};
pub use verify::{
    Artifact, PublicKey, Statement, Thresholds, VerifiedBundle, verify_with_certificate, verify_with_certificate_at,
    verify_with_key, verify_with_key_at,
};

/// The artifact type of a referrer that carries bundles, and the media type of its layers, as they are written. Those that
/// others wrote are found in either spelling of any version ([`is_bundle_media_type`]).
pub const BUNDLE_ARTIFACT_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The predicate type with which a DSSE statement says "I sign this", and nothing more.
pub const COSIGN_SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
