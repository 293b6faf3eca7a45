//! Why something is not trusted: it was judged and found wanting, or it could not be judged.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use blob_core::Digest;
use blob_registry::RegistryError;

/// A policy did not admit its subject.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The evidence was judged, and does not suffice.
    #[error("{policy}: rejected: {}", Reasons(reasons))]
    Rejected {
        /// The policy.
        policy: String,
        /// Every reason, with the evidence that was tried.
        reasons: Vec<String>,
    },
    /// The evidence could not be had or understood; trying again, or with other credentials, may help.
    #[error("{policy}: cannot tell")]
    CannotTell {
        /// The policy.
        policy: String,
        /// What failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl PolicyError {
    /// A rejection for one reason.
    pub fn rejected(policy: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Rejected { policy: policy.into(), reasons: vec![reason.into()] }
    }

    /// A policy that could not be evaluated.
    pub fn cannot_tell(policy: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::CannotTell { policy: policy.into(), source: source.into() }
    }

    /// Whether the subject was judged, and found wanting.
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }

    /// The registry's error behind a policy that cannot tell, if that is what it was.
    pub fn registry_error(&self) -> Option<&RegistryError> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

/// Joins reasons with semicolons.
struct Reasons<'a>(&'a [String]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// A manifest was not admitted, or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError<E: Error + 'static> {
    /// A policy did not admit it.
    #[error("policy violation")]
    Policy(#[source] PolicyError),
    /// It was admitted, but cannot be read as what was asked for.
    #[error(transparent)]
    Manifest(E),
}

/// Evidence could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The registry failed.
    #[error("reading the evidence about {subject}")]
    Registry {
        /// The manifest that the evidence is about.
        subject: Digest,
        /// The cause.
        source: RegistryError,
    },
    /// There is more evidence than is looked at.
    #[error("the evidence about {subject} is over the limit: {what}")]
    Limit {
        /// The manifest that the evidence is about.
        subject: Digest,
        /// Which limit, and how large it is.
        what: String,
    },
    /// A file with evidence could not be read.
    #[error("reading the evidence in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The bytes given for a subject do not have its digest.
    #[error("the bytes given for {expected} have the digest {got}")]
    Subject {
        /// The digest of the descriptor.
        expected: Digest,
        /// The digest of the bytes.
        got: Digest,
    },
}
