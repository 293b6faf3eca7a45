//! From names and keys in a file to those whose signatures count.

use std::path::Path;
use std::sync::Arc;

use super::build::Sources;
use super::error::PolicyFileError;
use super::presets;
use super::spec::{EvidenceSpec, KeySpec, KeylessSpec, LogUse, SignatureSpec};
use crate::policy::Policy;
use crate::sigstore::{
    ClaimRule, Identity, KeyPolicy, KeyRing, NamedIdentity, Pattern, PolicySetupError, PublicKey, SigstorePolicy,
    Thresholds, Trust, TrustedKey,
};

/// Those whose signatures count, and who else must vouch for them.
#[derive(Clone)]
pub(super) struct Signers {
    who: Who,
    evidence: Option<Thresholds>,
}

#[derive(Clone)]
enum Who {
    Certificates(Vec<Identity>),
    Keys(Vec<TrustedKey>, LogUse),
}

impl Signers {
    /// Who `spec` names; keys are read.
    pub(super) fn read(spec: &SignatureSpec, sources: &mut Sources<'_>) -> Result<Self, PolicyFileError> {
        spec.check().map_err(PolicyFileError::Meaning)?;
        let evidence = spec.evidence.map(EvidenceSpec::thresholds);
        if let Some(first) = spec.keys.first() {
            let keys: Result<Vec<_>, _> = spec.keys.iter().map(|key| trusted_key(key, sources)).collect();
            return Ok(Self { who: Who::Keys(keys?, first.transparency_log), evidence });
        }
        Ok(Self { who: Who::Certificates(identities(spec)?), evidence })
    }

    /// The holder of certificates whom `identity` names.
    pub(super) fn one(identity: Identity) -> Self {
        Self { who: Who::Certificates(vec![identity]), evidence: None }
    }

    /// Who they are, for people.
    pub(super) fn describe(&self) -> String {
        match &self.who {
            Who::Certificates(identities) => join(identities.iter().map(ToString::to_string)),
            Who::Keys(keys, _) => join(keys.iter().map(|key| format!("the key {:.16}", key.key.id()))),
        }
    }

    /// A policy that asks for their signature, or for a statement of theirs that meets `rule`.
    pub(super) fn policy(
        self,
        threshold: Option<usize>,
        rule: Option<Arc<dyn ClaimRule>>,
        sources: &mut Sources<'_>,
    ) -> Result<Arc<dyn Policy>, PolicyFileError> {
        let unusable = |source: PolicySetupError| PolicyFileError::unusable("the signers cannot be used", source);
        let threshold = threshold.unwrap_or(1);
        Ok(match self.who {
            Who::Certificates(identities) => {
                let policy = SigstorePolicy::new(sources.root()?, identities).map_err(unusable)?;
                let policy = self.evidence.into_iter().fold(policy, SigstorePolicy::evidence);
                let policy = policy.threshold(threshold).map_err(unusable)?;
                Arc::new(rule.into_iter().fold(policy, SigstorePolicy::rule))
            }
            Who::Keys(keys, log) => {
                let policy = match (log, self.evidence) {
                    (LogUse::Required, None) => KeyPolicy::logged(sources.root()?, keys),
                    (LogUse::Required, Some(evidence)) => KeyPolicy::with_evidence(sources.root()?, keys, evidence),
                    (LogUse::None, _) => KeyPolicy::without_transparency_log(keys),
                };
                let policy = policy.and_then(|policy| policy.threshold(threshold)).map_err(unusable)?;
                Arc::new(rule.into_iter().fold(policy, KeyPolicy::rule))
            }
        })
    }

    /// What their bundles are verified against, and their identities, if it is not keys that they have.
    pub(super) fn trust(self, sources: &mut Sources<'_>) -> Result<(Trust, Vec<Identity>), PolicyFileError> {
        let ring = |keys| KeyRing::new(keys).map(Arc::new).ok_or(PolicySetupError::Keys);
        let unusable = |source: PolicySetupError| PolicyFileError::unusable("the signers cannot be used", source);
        // The usual kinds of trust have names of their own: what was verified for one policy serves the others too.
        Ok(match (self.who, self.evidence) {
            (Who::Certificates(identities), None) => (Trust::Certificates(sources.root()?), identities),
            (Who::Certificates(identities), Some(evidence)) => {
                (Trust::CertificatesAt(sources.root()?, evidence), identities)
            }
            (Who::Keys(keys, LogUse::Required), evidence) => {
                let (root, ring) = (sources.root()?, ring(keys).map_err(unusable)?);
                let trust = match evidence {
                    None => Trust::LoggedKeys(root, ring),
                    Some(evidence) => Trust::KeysAt(root, ring, evidence),
                };
                (trust, Vec::new())
            }
            (Who::Keys(keys, LogUse::None), _) => (Trust::UnloggedKeys(ring(keys).map_err(unusable)?), Vec::new()),
        })
    }
}

/// The holders of certificates whom `spec` names, in the order of its sections.
pub(super) fn identities(spec: &SignatureSpec) -> Result<Vec<Identity>, PolicyFileError> {
    let named = spec.keyless.iter().map(named);
    let workflows = spec.github.iter().map(presets::github).chain(spec.gitlab.iter().map(presets::gitlab));
    let people =
        spec.google.iter().map(|address| presets::google(address)).chain(spec.email.iter().map(presets::email));
    named.chain(workflows).chain(people).collect()
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" or ")
}

/// `plain` with wildcards, or else `expression`; one of them is there, as was checked.
fn pattern(plain: Option<&String>, expression: Option<&String>) -> Result<Pattern, PolicyFileError> {
    let compiled = match (plain, expression) {
        (Some(text), _) if text.contains('*') => Pattern::glob(text),
        (Some(text), _) => Ok(Pattern::exact(text.clone())),
        (None, expression) => Pattern::regex(expression.map_or("", String::as_str)),
    };
    compiled.map_err(|source| PolicyFileError::unusable("a pattern of the signer cannot be used", source))
}

fn named(spec: &KeylessSpec) -> Result<Identity, PolicyFileError> {
    let san = match &spec.identity {
        Some(name) if spec.exact => Pattern::exact(name.clone()),
        name => pattern(name.as_ref(), spec.identity_regex.as_ref())?,
    };
    // An issuer is never a pattern unless it is written as one: it is who vouches for all the rest.
    let issuer = match &spec.issuer {
        Some(issuer) => Pattern::exact(issuer.clone()),
        None => pattern(None, spec.issuer_regex.as_ref())?,
    };
    let mut identity = NamedIdentity::new(san, issuer);
    for (name, wanted) in &spec.claims {
        let unusable = |source| PolicyFileError::unusable(format!("the claim {name} cannot be asked for"), source);
        let wanted = pattern(Some(wanted), None)?;
        identity = identity.claim(name, wanted).map_err(unusable)?;
    }
    Ok(identity.into())
}

fn trusted_key(spec: &KeySpec, sources: &mut Sources<'_>) -> Result<TrustedKey, PolicyFileError> {
    let bytes = sources.read(&spec.path)?;
    let mut key = TrustedKey::new(public_key(&bytes, &spec.path)?);
    (key.not_before, key.not_after) = (spec.not_before, spec.not_after);
    Ok(key)
}

fn public_key(bytes: &[u8], path: &Path) -> Result<PublicKey, PolicyFileError> {
    let read = match std::str::from_utf8(bytes) {
        Ok(pem) if pem.contains("PRIVATE KEY") => {
            let what = format!("{} is a private key: policies take the public one", path.display());
            return Err(PolicyFileError::Meaning(what));
        }
        _ => PublicKey::from_file_content(bytes),
    };
    read.map_err(|source| PolicyFileError::unusable(format!("{} is not a usable public key", path.display()), source))
}
