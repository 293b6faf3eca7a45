//! What a policy is, and what it sees.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::Digest;
use blob_registry::Descriptor;
use bytes::Bytes;

use crate::error::{EvidenceError, PolicyError};
use crate::evidence::Evidence;

/// Decides whether a manifest may be used.
///
/// A policy judges the bytes in the [`Subject`]; it never fetches the manifest again, since a registry could answer
/// with another one.
///
/// # Cancellation
/// Dropping the future ends the evaluation; nothing is admitted.
#[async_trait]
pub trait Policy: Debug + Send + Sync {
    /// Admits `subject`, with a report of what was checked, or says why not.
    ///
    /// # Errors
    /// [`PolicyError::Rejected`] when the evidence was judged, [`PolicyError::CannotTell`] when it could not be.
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError>;

    /// What people know the policy by.
    fn name(&self) -> String {
        "policy".into()
    }

    /// The digest of everything that the verdict depends on besides the subject and its reference: rules, keys, trust
    /// roots. Two policies with one fingerprint judge alike, so a verdict may be remembered for a while under it. `None`,
    /// the default, is never remembered.
    fn fingerprint(&self) -> Option<Digest> {
        None
    }
}

#[async_trait]
impl<P: Policy + ?Sized> Policy for Arc<P> {
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        (**self).evaluate(subject).await
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn fingerprint(&self) -> Option<Digest> {
        (**self).fingerprint()
    }
}

/// A manifest whose digest was checked, and the evidence about it.
///
/// What policies find out about the evidence is kept with the subject and its clones, so that several policies read and
/// verify it once.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    descriptor: &'a Descriptor,
    bytes: &'a Bytes,
    evidence: &'a dyn Evidence,
    reference: Option<&'a str>,
    #[cfg(feature = "sigstore")]
    memo: Arc<crate::sigstore::ClaimsMemo>,
}

impl<'a> Subject<'a> {
    /// Checks that `bytes` have the digest and size of `descriptor`.
    ///
    /// # Errors
    /// [`EvidenceError::Subject`], [`EvidenceError::SubjectSize`].
    pub fn new(
        descriptor: &'a Descriptor,
        bytes: &'a Bytes,
        evidence: &'a dyn Evidence,
    ) -> Result<Self, EvidenceError> {
        let got = Digest::of(descriptor.digest.algorithm(), bytes);
        if got != descriptor.digest {
            return Err(EvidenceError::Subject { expected: descriptor.digest, got });
        }
        if descriptor.size != bytes.len() as u64 {
            let (subject, got) = (descriptor.digest, bytes.len() as u64);
            return Err(EvidenceError::SubjectSize { subject, expected: descriptor.size, got });
        }
        Ok(Self {
            descriptor,
            bytes,
            evidence,
            reference: None,
            #[cfg(feature = "sigstore")]
            memo: Arc::default(),
        })
    }

    /// Also says by which words the manifest was asked for. They are the asker's: nobody vouches for them.
    #[must_use]
    pub fn with_reference(mut self, reference: &'a str) -> Self {
        self.reference = Some(reference);
        self
    }

    /// The words by which the manifest was asked for, if they are known.
    pub fn reference(&self) -> Option<&'a str> {
        self.reference
    }

    #[cfg(feature = "sigstore")]
    pub(crate) fn memo(&self) -> &crate::sigstore::ClaimsMemo {
        &self.memo
    }

    /// Media type, digest and size of the manifest.
    pub fn descriptor(&self) -> &'a Descriptor {
        self.descriptor
    }

    /// The manifest's bytes, which have the descriptor's digest.
    pub fn bytes(&self) -> &'a Bytes {
        self.bytes
    }

    /// What others say about the manifest.
    pub fn evidence(&self) -> &'a dyn Evidence {
        self.evidence
    }
}

/// What a policy checked before it admitted its subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The checks, in the order in which they were made.
    pub checks: Vec<Check>,
    /// Evidence that was looked at and does not count, each with the reason.
    pub refused: Vec<String>,
}

/// One thing that a policy found to be so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// The policy.
    pub policy: String,
    /// What it found.
    pub finding: String,
}

impl Report {
    /// A report of one finding.
    pub fn admitted(policy: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { checks: vec![Check { policy: policy.into(), finding: finding.into() }], refused: Vec::new() }
    }

    /// Adds what another policy found about the same subject; a reason that both give is kept once.
    pub fn extend(&mut self, other: Self) {
        self.checks.extend(other.checks);
        for reason in other.refused {
            if !self.refused.contains(&reason) {
                self.refused.push(reason);
            }
        }
    }
}
