//! Policies written down in YAML: which signatures, which provenance, which rules, for which references.
//!
//! A file holds either one policy, or a list of them with the references that each is for:
//!
//! ```yaml
//! policies:
//!   - match: ^ghcr\.io/acme/
//!     policy:
//!       signature:
//!         keyless:
//!           issuer: https://token.actions.githubusercontent.com
//!           identity: https://github.com/acme/*/.github/workflows/release.yml@refs/tags/*
//!       provenance:
//!         slsa:
//!           repository: acme/*
//!           tag: v*
//! ```
//!
//! Reading is strict: a key that is not known, a policy that asks for nothing, and a pattern that cannot be used are
//! errors with line and column. Nothing in a file is ever left out in silence. Paths in a file are relative to it.
//!
//! ```
//! use blob_policy::file::{PolicyContext, PolicyFile};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "signature: {github: {repository: acme/app, tags: ['v*']}}";
//! let file = PolicyFile::parse(text, "release.yaml".as_ref())?;
//! let policies = file.rules[0].build(&PolicyContext::beside("release.yaml".as_ref()))?;
//! assert_eq!(policies.len(), 1);
//!
//! let slip = PolicyFile::parse("signatur: {}", "release.yaml".as_ref()).unwrap_err();
//! assert!(slip.to_string().starts_with("release.yaml:1:1: unknown field `signatur`"));
//! # Ok(())
//! # }
//! ```

mod build;
mod error;
mod list;
mod matching;
mod presets;
mod set;
mod signers;
mod spec;
mod yaml;

use std::io::ErrorKind;
use std::path::Path;

use blob_core::plain;

pub use build::PolicyContext;
pub use error::PolicyFileError;
pub use matching::{ReferencePattern, spellings};
pub use presets::{EmailSpec, GithubSpec, GitlabSpec};
pub use set::PolicySet;
pub use spec::{
    EvidenceSpec, KeySpec, KeylessSpec, LogUse, PolicyRule, PolicySpec, ProvenanceSpec, RegoSpec, SignatureSpec,
};

/// The largest policy file, and the largest module or document that one names: 1 MiB.
pub const MAX_POLICY_BYTES: u64 = 1 << 20;

/// A policy file that was read, and whose patterns are usable; the files it names are not read yet.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// The rules, in the order of the file; there is at least one.
    pub rules: Vec<PolicyRule>,
}

impl PolicyFile {
    /// Reads YAML text; `path` is what errors call it.
    ///
    /// # Errors
    /// [`PolicyFileError::Syntax`] with line and column; [`PolicyFileError::Empty`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, PolicyFileError> {
        Ok(Self { rules: yaml::parse(text, path)? })
    }

    /// Reads the file at `path`, of at most [`MAX_POLICY_BYTES`]; blocks.
    ///
    /// # Errors
    /// [`PolicyFileError`].
    pub fn read(path: &Path) -> Result<Self, PolicyFileError> {
        let bytes = bounded(path)?;
        let text = String::from_utf8(bytes).map_err(|_| PolicyFileError::NotText { path: path.to_owned() })?;
        Self::parse(&text, path)
    }
}

/// The content of a file that a policy consists of.
fn bounded(path: &Path) -> Result<Vec<u8>, PolicyFileError> {
    plain::read(path, MAX_POLICY_BYTES).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => PolicyFileError::TooLarge { path: path.to_owned() },
        _ => PolicyFileError::Read { path: path.to_owned(), source },
    })
}
