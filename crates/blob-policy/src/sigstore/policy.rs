//! Policies over verified bundles.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::COSIGN_SIGN_PREDICATE;
use super::claim::{Claims, SigstoreLimits, Trust, VerifiedClaim};
use super::identity::Identity;
use super::key::{KeyRing, TrustedKey};
use super::signer::Signer;
use super::trust::TrustRoot;
use super::verify::Thresholds;
use crate::error::PolicyError;
use crate::policy::{Policy, Report, Subject};

/// Judges one verified claim. What several rules ask for, one claim must meet alone.
pub trait ClaimRule: Debug + Send + Sync {
    /// What was found to be so, for the report.
    ///
    /// # Errors
    /// Why the claim does not do, as a reason for a person.
    fn check(&self, claim: &VerifiedClaim) -> Result<String, String>;
}

/// Admits what is signed by certificate holders that one knows.
#[derive(Clone, Debug)]
pub struct SigstorePolicy {
    identities: Vec<Identity>,
    shared: Shared,
}

/// Admits what is signed with public keys that one has.
#[derive(Clone, Debug)]
pub struct KeyPolicy {
    shared: Shared,
    keys: usize,
}

#[derive(Clone, Debug)]
struct Shared {
    name: &'static str,
    trust: Trust,
    rules: Vec<Arc<dyn ClaimRule>>,
    threshold: usize,
    limits: SigstoreLimits,
}

/// A policy that could never admit, or would admit everything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicySetupError {
    /// Nobody is named whose signature would count.
    #[error("no signer is named")]
    NoSigner,
    /// The keys are none, more than are tried, or one of them twice.
    #[error("the keys are none, too many, or the same twice")]
    Keys,
    /// The number of signatures cannot be reached.
    #[error("{threshold} signatures are asked for, {signers} signers are named")]
    Threshold {
        /// Signatures.
        threshold: usize,
        /// Signers.
        signers: usize,
    },
}

impl SigstorePolicy {
    /// Asks for a signature by any of `identities`: of the manifest itself, or as a statement that says so. Another
    /// statement (provenance, a scan) by the same signer is no signature, unless a [`rule`](Self::rule) asks for it.
    ///
    /// # Errors
    /// [`PolicySetupError::NoSigner`].
    pub fn new(root: TrustRoot, identities: Vec<Identity>) -> Result<Self, PolicySetupError> {
        if identities.is_empty() {
            return Err(PolicySetupError::NoSigner);
        }
        Ok(Self { identities, shared: Shared::new("sigstore", Trust::Certificates(root)) })
    }

    /// Asks for as much evidence as `thresholds` say: less where an instance publishes nothing, or more.
    #[must_use]
    pub fn evidence(mut self, thresholds: Thresholds) -> Self {
        if let Trust::Certificates(root) | Trust::CertificatesAt(root, _) = self.shared.trust.clone() {
            self.shared.trust = Trust::CertificatesAt(root, thresholds);
        }
        self
    }

    /// Asks for signatures by `threshold` of the identities, each by another signer.
    ///
    /// # Errors
    /// [`PolicySetupError::Threshold`].
    pub fn threshold(mut self, threshold: usize) -> Result<Self, PolicySetupError> {
        self.shared.set_threshold(threshold, self.identities.len())?;
        Ok(self)
    }

    /// Asks for a statement that meets `rule`, and all that are given, instead of a plain signature.
    #[must_use]
    pub fn rule(mut self, rule: Arc<dyn ClaimRule>) -> Self {
        self.shared.rules.push(rule);
        self
    }

    /// Looks at no more than `limits`.
    #[must_use]
    pub fn limits(mut self, limits: SigstoreLimits) -> Self {
        self.shared.limits = limits;
        self
    }
}

impl KeyPolicy {
    /// Asks for a signature with one of `keys` that is in a transparency log of `root`.
    ///
    /// # Errors
    /// [`PolicySetupError::Keys`].
    pub fn logged(root: TrustRoot, keys: Vec<TrustedKey>) -> Result<Self, PolicySetupError> {
        let ring = Arc::new(KeyRing::new(keys).ok_or(PolicySetupError::Keys)?);
        Ok(Self { keys: ring.count(), shared: Shared::new("key", Trust::LoggedKeys(root, ring)) })
    }

    /// Asks for a signature with one of `keys`, with as much evidence as `thresholds` say. Without a log entry there must
    /// be a time-stamp: for neither there is [`without_transparency_log`](Self::without_transparency_log).
    ///
    /// # Errors
    /// [`PolicySetupError::Keys`].
    pub fn with_evidence(
        root: TrustRoot,
        keys: Vec<TrustedKey>,
        thresholds: Thresholds,
    ) -> Result<Self, PolicySetupError> {
        let ring = Arc::new(KeyRing::new(keys).ok_or(PolicySetupError::Keys)?);
        Ok(Self { keys: ring.count(), shared: Shared::new("key", Trust::KeysAt(root, ring, thresholds)) })
    }

    /// Asks for a signature with one of `keys` and for nothing else: it may be in no log, and nobody knows when it was
    /// made. For keys that sign where no log can be reached.
    ///
    /// # Errors
    /// [`PolicySetupError::Keys`].
    pub fn without_transparency_log(keys: Vec<TrustedKey>) -> Result<Self, PolicySetupError> {
        let ring = Arc::new(KeyRing::new(keys).ok_or(PolicySetupError::Keys)?);
        Ok(Self { keys: ring.count(), shared: Shared::new("key without log", Trust::UnloggedKeys(ring)) })
    }

    /// Asks for signatures with `threshold` different keys.
    ///
    /// # Errors
    /// [`PolicySetupError::Threshold`].
    pub fn threshold(mut self, threshold: usize) -> Result<Self, PolicySetupError> {
        self.shared.set_threshold(threshold, self.keys)?;
        Ok(self)
    }

    /// Asks for a statement that meets `rule`, and all that are given, instead of a plain signature.
    #[must_use]
    pub fn rule(mut self, rule: Arc<dyn ClaimRule>) -> Self {
        self.shared.rules.push(rule);
        self
    }

    /// Looks at no more than `limits`.
    #[must_use]
    pub fn limits(mut self, limits: SigstoreLimits) -> Self {
        self.shared.limits = limits;
        self
    }
}

#[async_trait]
impl Policy for SigstorePolicy {
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        let fits = |claim: &VerifiedClaim| match claim.signer() {
            Signer::Certificate(signer) => {
                let tried: Vec<_> = self.identities.iter().map(|identity| identity.check(signer)).collect();
                let fitting = tried.iter().enumerate().filter(|(_, r)| r.is_ok()).map(|(at, _)| at).collect();
                let reasons: Vec<_> = tried.into_iter().filter_map(Result::err).collect();
                Wanted { fitting, reason: reasons.join(", ") }
            }
            Signer::Key { .. } => Wanted { fitting: Vec::new(), reason: "made with a key".into() },
        };
        self.shared.evaluate(subject, fits).await
    }

    fn name(&self) -> String {
        self.shared.name.into()
    }
}

#[async_trait]
impl Policy for KeyPolicy {
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        // Only keys of the ring verify, so every key stands for itself.
        let every: Vec<usize> = (0..self.keys).collect();
        self.shared.evaluate(subject, |_| Wanted { fitting: every.clone(), reason: String::new() }).await
    }

    fn name(&self) -> String {
        self.shared.name.into()
    }
}

/// The wanted signers that a claim may stand for; if none, why.
struct Wanted {
    fitting: Vec<usize>,
    reason: String,
}

impl Shared {
    fn new(name: &'static str, trust: Trust) -> Self {
        Self { name, trust, rules: Vec::new(), threshold: 1, limits: SigstoreLimits::default() }
    }

    fn set_threshold(&mut self, threshold: usize, signers: usize) -> Result<(), PolicySetupError> {
        if !(1..=signers).contains(&threshold) {
            return Err(PolicySetupError::Threshold { threshold, signers });
        }
        self.threshold = threshold;
        Ok(())
    }

    async fn evaluate(
        &self,
        subject: &Subject<'_>,
        fits: impl Fn(&VerifiedClaim) -> Wanted + Send,
    ) -> Result<Report, PolicyError> {
        let collected = Claims::of(subject, &self.trust, &self.limits).await;
        let claims = collected.map_err(|source| PolicyError::cannot_tell(self.name, source))?;
        let mut report = Report::default();
        let mut reasons: Vec<_> = claims.refused.iter().map(ToString::to_string).collect();
        let mut signers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for claim in &claims.verified {
            let wanted = fits(claim);
            let judged = if wanted.fitting.is_empty() { Err(wanted.reason) } else { self.judge(claim) };
            match judged {
                Ok(finding) => {
                    report.checks.extend(Report::admitted(self.name, finding).checks);
                    signers.entry(claim.signer().holder()).or_default().extend(wanted.fitting);
                }
                Err(reason) => reasons.push(format!("{} by {}: {reason}", claim.referrer(), claim.signer())),
            }
        }
        let counted = distinct(&signers.into_values().collect::<Vec<_>>());
        if counted >= self.threshold {
            report.refused = reasons;
            return Ok(report);
        }
        if counted > 0 {
            reasons.push(format!("{counted} of {} signers signed", self.threshold));
        }
        if let Some(source) = &claims.unread {
            return Err(PolicyError::CannotTell {
                policy: self.name.into(),
                reasons,
                source: Arc::clone(source).into(),
            });
        }
        if claims.verified.is_empty() && claims.refused.iter().all(|refused| refused.bundle.is_none()) {
            reasons.push("no signature found".into());
        }
        reasons.extend(legacy(subject).await);
        Err(PolicyError::Rejected { policy: self.name.into(), reasons })
    }

    /// Whether a claim by a wanted signer says what is wanted.
    fn judge(&self, claim: &VerifiedClaim) -> Result<String, String> {
        let mut findings = vec![format!("signed by {}", claim.signer())];
        if let Some(time) = claim.verified().times().first() {
            findings.push(format!("at {time}"));
        }
        if self.rules.is_empty() {
            let other = claim.verified().statement().filter(|said| said.predicate_type() != COSIGN_SIGN_PREDICATE);
            if let Some(said) = other {
                return Err(format!("a statement of type {:?} is not a signature", said.predicate_type()));
            }
        }
        for rule in &self.rules {
            findings.push(rule.check(claim)?);
        }
        findings.push(format!("in {}", claim.referrer()));
        Ok(findings.join(", "))
    }
}

/// What an older tool left, which is not looked into: its format says nothing about a log that can be checked here.
async fn legacy(subject: &Subject<'_>) -> Option<String> {
    let found = subject.evidence().legacy_signature().await.ok().flatten()?;
    Some(format!("a signature in cosign's older form is at {found}, and is not verified: sign again as a bundle"))
}

/// How many wanted signers can each be given a signer of their own: a largest matching, so that one signature never
/// counts twice, whatever the order.
fn distinct(signers: &[Vec<usize>]) -> usize {
    fn place(at: usize, signers: &[Vec<usize>], seen: &mut Vec<usize>, taken: &mut BTreeMap<usize, usize>) -> bool {
        for &wanted in &signers[at] {
            if seen.contains(&wanted) {
                continue;
            }
            seen.push(wanted);
            let free = taken.get(&wanted).copied().is_none_or(|holder| place(holder, signers, seen, taken));
            if free {
                taken.insert(wanted, at);
                return true;
            }
        }
        false
    }
    let mut taken = BTreeMap::new();
    (0..signers.len()).filter(|&at| place(at, signers, &mut Vec::new(), &mut taken)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_signer_counts_once() {
        for (signers, expect) in [
            (vec![], 0),
            (vec![vec![0, 1]], 1),
            (vec![vec![0], vec![0]], 1),
            (vec![vec![0, 1], vec![0]], 2),
            (vec![vec![0], vec![0, 1], vec![1, 2]], 3),
        ] {
            assert_eq!(distinct(&signers), expect, "{signers:?}");
        }
    }
}
