//! What a policy file says, as data.
//!
//! Both dialects that are in use are read to the same data: `signature.keyless` and `provenance.slsa`, and the flatter
//! one that puts their members into `signature` and `provenance` themselves.

mod provenance;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::list::{given, glob, one_or_many, regex, text, with_cause};
use super::matching::ReferencePattern;
use super::presets::{EmailSpec, GithubSpec, GitlabSpec};
use crate::sigstore::Thresholds;

pub use provenance::ProvenanceSpec;

/// The most logs, and the most time-stamp authorities, that can be asked for: a bundle has no more.
const MAX_WITNESSES: usize = 8;

/// A policy and the references that it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// Found anywhere in a reference; `None` is for every reference, and cannot be written in a list of rules.
    #[serde(rename = "match", deserialize_with = "given")]
    pub pattern: Option<ReferencePattern>,
    /// What is asked for.
    pub policy: PolicySpec,
}

/// What is asked for; every section that is there must be met.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PolicySpec {
    /// Who must have signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureSpec>,
    /// How it must have been built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ProvenanceSpec>,
    /// What rules must allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rego: Option<RegoSpec>,
    /// A `trusted_root.json` instead of that of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<PathBuf>,
}

impl PolicySpec {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.signature.is_none() && self.provenance.is_none() && self.rego.is_none()
    }
}

impl<'de> Deserialize<'de> for PolicySpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename = "policy")]
        struct Written {
            #[serde(default, deserialize_with = "given")]
            signature: Option<SignatureSpec>,
            #[serde(default, deserialize_with = "given")]
            provenance: Option<ProvenanceSpec>,
            #[serde(default, deserialize_with = "given")]
            rego: Option<RegoSpec>,
            #[serde(default, deserialize_with = "given")]
            trusted_root: Option<PathBuf>,
        }
        let Written { signature, provenance, rego, trusted_root } = Written::deserialize(deserializer)?;
        let spec = Self { signature, provenance, rego, trusted_root };
        if spec.is_empty() {
            return Err(serde::de::Error::custom("the policy asks for nothing: add signature, provenance or rego"));
        }
        Ok(spec)
    }
}

/// Whose signature counts: holders of certificates, or of keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SignatureWritten")]
pub struct SignatureSpec {
    /// Holders of certificates by name and issuer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keyless: Vec<KeylessSpec>,
    /// GitHub Actions workflows by repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub github: Vec<GithubSpec>,
    /// GitLab pipelines by project.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gitlab: Vec<GitlabSpec>,
    /// E-mail addresses that Google vouches for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub google: Vec<String>,
    /// E-mail addresses that others vouch for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<EmailSpec>,
    /// Public keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeySpec>,
    /// How many of them must have signed; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<usize>,
    /// Who else must vouch for each signature; a transparency log by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceSpec>,
}

/// Which logs and authorities must vouch for a signature; what is left out is as by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "evidence")]
pub struct EvidenceSpec {
    /// Different transparency logs that have it: 1 by default.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub log_entries: Option<usize>,
    /// Different time-stamp authorities that stamped it: 0 by default.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub time_stamps: Option<usize>,
    /// Whether the certificate must be in a certificate transparency log: it must, by default.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub certificate_transparency: Option<bool>,
}

impl EvidenceSpec {
    /// As verification takes it.
    pub(super) fn thresholds(self) -> Thresholds {
        let usual = Thresholds::default();
        Thresholds {
            log_entries: self.log_entries.unwrap_or(usual.log_entries),
            certificate_transparency: self.certificate_transparency.unwrap_or(usual.certificate_transparency),
            time_stamps: self.time_stamps.unwrap_or(usual.time_stamps),
        }
    }

    fn check(self) -> Result<(), String> {
        let Thresholds { log_entries, time_stamps, .. } = self.thresholds();
        if log_entries == 0 && time_stamps == 0 {
            return Err("the evidence asks for no log and no time-stamp: nothing would say when it was signed".into());
        }
        if log_entries.max(time_stamps) > MAX_WITNESSES {
            return Err(format!("the evidence asks for more than {MAX_WITNESSES} logs or time-stamps"));
        }
        Ok(())
    }
}

/// A holder of a certificate, by name and issuer; both must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "keyless")]
pub struct KeylessSpec {
    /// The issuer, exactly.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// A regular expression over the whole issuer.
    #[serde(default, deserialize_with = "regex", skip_serializing_if = "Option::is_none")]
    pub issuer_regex: Option<String>,
    /// The name. `*` stands for anything within a part between slashes, `**` for anything.
    #[serde(default, alias = "subject", deserialize_with = "glob", skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Take the name as it is: `*` stands for itself.
    #[serde(default)]
    pub exact: bool,
    /// A regular expression over the whole name.
    #[serde(default, alias = "subject_regex", deserialize_with = "regex", skip_serializing_if = "Option::is_none")]
    pub identity_regex: Option<String>,
    /// What else the certificate must say, with wildcards as in the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// Whether signatures by a key must be in a transparency log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogUse {
    /// They must.
    #[default]
    Required,
    /// The key alone suffices: whoever ever held it can sign unseen, at any time claimed.
    None,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "KeyWritten")]
pub struct KeySpec {
    /// The file with the key, PEM or DER.
    pub path: PathBuf,
    /// Whether its signatures must be in a log.
    pub transparency_log: LogUse,
    /// Signatures made earlier do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Signatures made later do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

impl KeySpec {
    /// The key in `path`, for signatures that are in a log.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), transparency_log: LogUse::Required, not_before: None, not_after: None }
    }
}

/// Rules in Rego over what was verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "rego")]
pub struct RegoSpec {
    /// Files with modules; one at least is of the package `blob.policy`.
    #[serde(alias = "module", deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<PathBuf>,
    /// JSON files that the rules see as `data`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<PathBuf>,
    /// Whose claims the rules see, without a threshold: how many must have signed is for the rules to say, or for a section
    /// `signature`. Without, see [`PolicyRule::build`].
    #[serde(default, deserialize_with = "any_of_them", skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignatureSpec>,
}

impl RegoSpec {
    /// That nothing is asked for which the rules would not be held to.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.signer.as_ref().and_then(|signer| signer.threshold) {
            Some(_) => Err("rules see the claims of all who are named: a `threshold` stands below `signature`".into()),
            None => Ok(()),
        }
    }
}

/// Signers without a threshold.
fn any_of_them<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SignatureSpec>, D::Error> {
    let signer: Option<SignatureSpec> = given(deserializer)?;
    let spec = RegoSpec { signer, ..RegoSpec::default() };
    spec.check().map_err(serde::de::Error::custom)?;
    Ok(spec.signer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "signature")]
struct SignatureWritten {
    #[serde(default, deserialize_with = "one_or_many")]
    keyless: Vec<KeylessSpec>,
    #[serde(default, deserialize_with = "one_or_many")]
    github: Vec<GithubSpec>,
    #[serde(default, deserialize_with = "one_or_many")]
    gitlab: Vec<GitlabSpec>,
    #[serde(default, deserialize_with = "one_or_many")]
    google: Vec<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    email: Vec<EmailSpec>,
    #[serde(default, alias = "keys", deserialize_with = "one_or_many")]
    key: Vec<KeySpec>,
    #[serde(default, deserialize_with = "given")]
    threshold: Option<usize>,
    #[serde(default, deserialize_with = "given")]
    evidence: Option<EvidenceSpec>,
    #[serde(default, deserialize_with = "text")]
    issuer: Option<String>,
    #[serde(default, deserialize_with = "regex")]
    issuer_regex: Option<String>,
    #[serde(default, alias = "identity", deserialize_with = "glob")]
    subject: Option<String>,
    #[serde(default, alias = "identity_regex", deserialize_with = "regex")]
    subject_regex: Option<String>,
}

impl TryFrom<SignatureWritten> for SignatureSpec {
    type Error = String;

    fn try_from(written: SignatureWritten) -> Result<Self, String> {
        let SignatureWritten {
            mut keyless,
            github,
            gitlab,
            google,
            email,
            key,
            threshold,
            evidence,
            issuer,
            issuer_regex,
            subject,
            subject_regex,
        } = written;
        if issuer.is_some() || issuer_regex.is_some() || subject.is_some() || subject_regex.is_some() {
            if !keyless.is_empty() {
                return Err("a signer stands in `signature` itself or below `keyless`, not in both".into());
            }
            let (identity, identity_regex) = (subject, subject_regex);
            keyless.push(KeylessSpec { issuer, issuer_regex, identity, identity_regex, ..KeylessSpec::default() });
        }
        let spec = Self { keyless, github, gitlab, google, email, keys: key, threshold, evidence };
        spec.check()?;
        Ok(spec)
    }
}

impl SignatureSpec {
    /// That somebody is named, and each by all that is needed.
    pub(super) fn check(&self) -> Result<(), String> {
        let certificates =
            self.keyless.len() + self.github.len() + self.gitlab.len() + self.google.len() + self.email.len();
        match (certificates, self.keys.len()) {
            (0, 0) => {
                return Err("the signature names no signer: add keyless, github, gitlab, google, email or key".into());
            }
            (1.., 1..) => {
                return Err("a signature is by certificate or by key: write two policies to ask for both".into());
            }
            _ => {}
        }
        if self.keys.iter().any(|key| key.transparency_log != self.keys[0].transparency_log) {
            return Err("all keys of a signature need the same transparency_log".into());
        }
        let signers = certificates + self.keys.len();
        if let Some(threshold) = self.threshold.filter(|threshold| !(1..=signers).contains(threshold)) {
            return Err(format!("the threshold is {threshold}, and {signers} signers are named"));
        }
        let unlogged = self.keys.iter().any(|key| key.transparency_log == LogUse::None);
        match self.evidence {
            Some(_) if unlogged => {
                return Err(
                    "`evidence` and `transparency_log: none` exclude each other: nobody vouches for such keys".into()
                );
            }
            Some(evidence) if !self.keys.is_empty() && evidence.certificate_transparency.is_some() => {
                return Err("`certificate_transparency` is for certificates, and keys have none".into());
            }
            Some(evidence) => evidence.check()?,
            None => {}
        }
        self.keyless.iter().try_for_each(KeylessSpec::check)?;
        // Names and patterns are tried out here, where an error still has its place in the file.
        super::signers::identities(self).map(drop).map_err(|error| with_cause(&error))
    }
}

impl KeylessSpec {
    fn check(&self) -> Result<(), String> {
        for (what, plain, pattern) in
            [("issuer", &self.issuer, &self.issuer_regex), ("identity", &self.identity, &self.identity_regex)]
        {
            if what == "identity" && pattern.is_some() && self.exact {
                return Err("`exact` is for `identity`, and means nothing beside `identity_regex`".into());
            }
            match (plain, pattern) {
                (None, None) => return Err(format!("the signer needs `{what}` or `{what}_regex`")),
                (Some(_), Some(_)) => return Err(format!("`{what}` and `{what}_regex` exclude each other")),
                _ => {}
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "key")]
struct KeyWritten {
    #[serde(default, deserialize_with = "given")]
    path: Option<PathBuf>,
    #[serde(default, deserialize_with = "text")]
    url: Option<String>,
    #[serde(default)]
    transparency_log: LogUse,
    #[serde(default, deserialize_with = "given")]
    not_before: Option<Timestamp>,
    #[serde(default, deserialize_with = "given")]
    not_after: Option<Timestamp>,
}

impl TryFrom<KeyWritten> for KeySpec {
    type Error = String;

    fn try_from(written: KeyWritten) -> Result<Self, String> {
        let KeyWritten { path, url, transparency_log, not_before, not_after } = written;
        if let Some(url) = url {
            return Err(format!("keys are not fetched: save {url:?} to a file, look at it, and write `path`"));
        }
        let path = path.ok_or("the key needs `path`")?;
        if let (Some(start), Some(end)) = (not_before, not_after)
            && start > end
        {
            return Err("not_before is later than not_after".into());
        }
        Ok(Self { path, transparency_log, not_before, not_after })
    }
}
