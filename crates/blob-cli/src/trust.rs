//! Which signatures and which provenance are asked for on the command line.

mod root;
mod signers;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob::Location;
use blob::core::plain;
use blob::policy::Policy;
use blob::policy::file::{
    MAX_POLICY_BYTES, PolicyContext, PolicyFile, PolicyFileError, PolicyRule, PolicySet, PolicySpec, RegoSpec,
    SignatureSpec,
};
use blob::policy::sigstore::{PublicKey, TrustRoot};
use clap::Args;

use crate::error::Failure;
use crate::session::Session;

pub(crate) use root::{RootArgs, off_thread, read_root};
pub(crate) use signers::SignerArgs;

/// Options of commands that read archives. What is given must all be met, and the policies of the configuration too.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust options")]
pub(crate) struct TrustArgs {
    /// Open only archives that a policy verified (--require-signed).
    #[arg(long)]
    pub(crate) verify: bool,

    #[command(flatten)]
    pub(crate) wanted: WantedArgs,
}

impl TrustArgs {
    /// Whether anything is to be verified that the configuration does not ask for.
    pub(crate) fn is_given(&self) -> bool {
        self.verify || !self.wanted.is_empty()
    }
}

/// What is asked for.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust options")]
pub(crate) struct WantedArgs {
    /// Require what this policy file asks for. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Vec<PathBuf>,

    /// Require that the rules in this Rego module allow it; the signers are those of the other options.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy_rego: Vec<PathBuf>,

    /// Leave out the policies of the configuration.
    #[arg(long)]
    pub(crate) no_default_policy: bool,

    #[command(flatten)]
    pub(crate) signers: SignerArgs,

    #[command(flatten)]
    pub(crate) root: RootArgs,
}

/// Rules, and what their paths are relative to.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<PolicyRule>,
    pub(crate) context: PolicyContext,
}

impl WantedArgs {
    /// Whether anything is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.policy.is_empty() && self.policy_rego.is_empty() && self.signers.is_empty()
    }

    /// What was asked for, as rules for `references` (each a list of its spellings); signatures are checked against `root`,
    /// or else the embedded one.
    fn rules(&self, references: &[Vec<String>], root: Option<&TrustRoot>) -> Result<Vec<Rules>, Failure> {
        let context = context(Path::new(""), root);
        let mut all = Vec::new();
        let mut from_files = Vec::new();
        for path in &self.policy {
            let file = PolicyFile::read(path).map_err(refused)?;
            for signers in
                file.rules.iter().filter(|rule| is_for(rule, references)).filter_map(|rule| signers(rule, path))
            {
                if !from_files.contains(&signers) {
                    from_files.push(signers);
                }
            }
            let context = context.moved_to(path.parent().unwrap_or(Path::new("")));
            all.push(Rules { rules: file.rules, context });
        }
        let mut specs = self.signers.specs()?;
        if !self.policy_rego.is_empty() {
            // Signers of the command line come first, and with the trust root of the command line.
            let given: Vec<_> = self.signers.signatures()?.into_iter().map(|spec| (spec, None)).collect();
            specs.push(self.judged(if given.is_empty() { &from_files } else { &given })?);
        }
        if !specs.is_empty() {
            all.push(Rules { rules: specs.into_iter().map(PolicyRule::everywhere).collect(), context });
        }
        Ok(all)
    }

    /// As [`rules`](Self::rules), for `locations`, each of which every policy file must be for. Files are read elsewhere: they
    /// may be on a disk that does not answer.
    pub(crate) async fn rules_for(
        &self,
        locations: &[&Location],
        root: Option<&TrustRoot>,
    ) -> Result<Vec<Rules>, Failure> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let locations: Vec<Location> = locations.iter().copied().cloned().collect();
        let (wanted, root) = (self.clone(), root.cloned());
        off_thread(move || {
            let references: Vec<_> = locations.iter().map(blob::spellings).collect();
            let rules = wanted.rules(&references, root.as_ref())?;
            wanted.check_files(&rules, &locations)?;
            Ok(rules)
        })
        .await
    }

    /// The rules in Rego, over claims of those who are named once.
    fn judged(&self, named: &[Signers]) -> Result<PolicySpec, Failure> {
        let (signer, trusted_root) = match named {
            [one] => one.clone(),
            [] => {
                let message = "--policy-rego judges claims of signers, and none is named";
                let hint = "add --key, --repo, or --certificate-identity with its issuer";
                return Err(Failure::usage(message).with_hint(hint));
            }
            _ => {
                let message = "--policy-rego with several kinds of signers leaves open whose claims the rules see";
                let hint = "name the signers in a policy file, as `rego.signer`";
                return Err(Failure::usage(message).with_hint(hint));
            }
        };
        let (modules, data) = (self.policy_rego.clone(), Vec::new());
        let rego = Some(RegoSpec { modules, data, signer: Some(signer) });
        Ok(PolicySpec { rego, trusted_root, ..PolicySpec::default() })
    }

    /// Makes sure that every file in `rules`, which are these, is for each of `locations`: one that is for other references
    /// would be left out without a word.
    fn check_files(&self, rules: &[Rules], locations: &[Location]) -> Result<(), Failure> {
        for (path, rules) in self.policy.iter().zip(rules) {
            for location in locations {
                let spellings = [blob::spellings(location)];
                if !rules.rules.iter().any(|rule| is_for(rule, &spellings)) {
                    let message = format!("the policy file {} has no rule for {location}", path.display());
                    return Err(Failure::usage(message).with_hint("look at its `match` patterns"));
                }
            }
        }
        Ok(())
    }

    /// What was asked for, as policies for a reference of these spellings. Nobody is asked for a trust root.
    pub(crate) async fn policies_for(
        &self,
        spellings: &[String],
        session: &Session,
    ) -> Result<Vec<Arc<dyn Policy>>, Failure> {
        let root = self.root.find_offline(session).await?;
        let (wanted, spellings) = (self.clone(), spellings.to_vec());
        off_thread(move || wanted.built_for(&spellings, root.as_ref())).await
    }

    fn built_for(&self, spellings: &[String], root: Option<&TrustRoot>) -> Result<Vec<Arc<dyn Policy>>, Failure> {
        let (mut set, references) = (PolicySet::new(), [spellings.to_vec()]);
        let all = self.rules(&references, root)?;
        for (path, rules) in self.policy.iter().zip(&all) {
            if !rules.rules.iter().any(|rule| is_for(rule, &references)) {
                let message = format!("the policy file {} has no rule for this reference", path.display());
                return Err(Failure::usage(message).with_hint("policy files with `match` need --reference"));
            }
        }
        for Rules { rules, context } in all {
            set.add_rules(&rules, &context, &references).map_err(refused)?;
        }
        Ok(set.policies_for(spellings))
    }
}

/// Whose claims count, and the trust root that their policy names.
type Signers = (SignatureSpec, Option<PathBuf>);

/// Whether a rule is for one of `references`, each a list of its spellings.
fn is_for(rule: &PolicyRule, references: &[Vec<String>]) -> bool {
    rule.pattern.as_ref().is_none_or(|pattern| references.iter().any(|spellings| pattern.matches(spellings)))
}

/// The signers of a rule in `file`, with paths that are right from here too.
fn signers(rule: &PolicyRule, file: &Path) -> Option<Signers> {
    let mut spec = rule.policy.signature.clone()?;
    let dir = file.parent().unwrap_or(Path::new(""));
    spec.keys.iter_mut().for_each(|key| key.path = dir.join(&key.path));
    Some((spec, rule.policy.trusted_root.as_ref().map(|root| dir.join(root))))
}

/// Paths are relative to `dir`, and signatures are checked against `root`, or else the embedded one.
pub(crate) fn context(dir: &Path, root: Option<&TrustRoot>) -> PolicyContext {
    let context = PolicyContext::within(dir);
    root.iter().fold(context, |context, root| context.trusted_root(Clone::clone(root)))
}

/// The content of a plain file of at most `limit` bytes; blocks.
pub(crate) fn bounded(path: &Path, limit: u64, what: &str) -> Result<Vec<u8>, Failure> {
    plain::read(path, limit).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => Failure::usage(format!("{} has more than {limit} bytes", path.display())),
        _ => Failure::io(format!("reading {what} {}", path.display()), &error),
    })
}

/// The public key in a file; blocks.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let content = bounded(path, MAX_POLICY_BYTES, "the key")?;
    let key = PublicKey::from_file_content(&content);
    key.map_err(|error| Failure::usage(format!("{} is not a usable public key: {}", path.display(), error.reason())))
}

/// The policies for `locations`, out of `all`.
pub(crate) fn policy_set(all: &[Rules], locations: &[Location]) -> Result<PolicySet, Failure> {
    let spellings: Vec<_> = locations.iter().map(blob::spellings).collect();
    let mut set = PolicySet::new();
    for Rules { rules, context } in all {
        set.add_rules(rules, context, &spellings).map_err(refused)?;
    }
    Ok(set)
}

/// A policy that cannot be used is a mistake of whoever wrote it, and stops the command.
#[allow(clippy::needless_pass_by_value)] // so that it is given to `map_err` as it is
pub(crate) fn refused(error: PolicyFileError) -> Failure {
    Failure::from_chain(&error)
}

/// What may help against a refusal, by its reasons. They quote what others wrote, so only how a reason begins is looked at:
/// nobody suggests an option by writing its reason into a bundle.
pub(crate) fn hint(reasons: &[String]) -> Option<&'static str> {
    for (part, hint) in [
        (
            "the bundle has no transparency log entry",
            "--insecure-ignore-tlog (in a policy file `transparency_log: none`) accepts keys that sign without a log",
        ),
        ("no signature found", "nobody signed it here: `blob sign` does, and `blob referrers` lists what there is"),
        ("a statement of type ", "an attestation is no signature: ask for it with --provenance, or sign the archive"),
        (
            "the bundle was made with a managed key, not with a certificate",
            "it was signed with a key: name its public key with --key",
        ),
        (
            "the bundle was made with a certificate, not with a managed key",
            "it was signed keyless: name the signer with --repo, or --certificate-identity and its issuer",
        ),
        ("issuer is ", "`blob verify --explain` shows who signed it"),
        ("identity is ", "`blob verify --explain` shows who signed it"),
    ] {
        if reasons.iter().any(|reason| told(reason).starts_with(part)) {
            return Some(hint);
        }
    }
    None
}

/// A reason without the evidence that it is about: `sha256:… by SIGNER: REASON`.
fn told(reason: &str) -> &str {
    reason.split_once(": ").filter(|(about, _)| about.starts_with("sha")).map_or(reason, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_suggests_an_option_by_what_they_write() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (reason, expect) in [
            (format!("{digest}: the bundle has no transparency log entry"), Some("--insecure-ignore-tlog")),
            (format!("{digest}: payload type \"the bundle has no transparency log entry\""), None),
            (format!("{digest}: the signed statement is not understood: no signature found"), None),
            ("no signature found".into(), Some("nobody signed it here")),
            (format!("{digest} by the key 00: a statement of type \"x\" is not a signature"), Some("--provenance")),
            (format!("{digest} by a@b.c (issuer https://i): issuer is \"https://i\", not \"x\""), Some("--explain")),
        ] {
            let got = hint(std::slice::from_ref(&reason));
            assert_eq!(got.is_some(), expect.is_some(), "{reason}: {got:?}");
            assert!(expect.is_none_or(|part| got.is_some_and(|got| got.contains(part))), "{reason}: {got:?}");
        }
    }
}
