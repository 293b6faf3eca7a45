//! Who must have signed, as it is typed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use blob::policy::file::{
    GithubSpec, GitlabSpec, KeySpec, KeylessSpec, LogUse, PolicySpec, ProvenanceSpec, SignatureSpec,
};
use clap::Args;

use crate::error::Failure;

/// Signers, each of whom must have signed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust options")]
pub(crate) struct SignerArgs {
    /// Require a signature with this public key, or one of several.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,

    /// Accept signatures by --key that are in no transparency log.
    #[arg(long, requires = "key")]
    pub(crate) insecure_ignore_tlog: bool,

    /// Require a signature by the holder of a certificate of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "certificate_identity_regexp")]
    pub(crate) certificate_identity: Option<String>,

    /// The same, by a regular expression over the whole name.
    #[arg(long, value_name = "REGEX")]
    pub(crate) certificate_identity_regexp: Option<String>,

    /// The issuer that vouches for the name.
    #[arg(long, value_name = "URL", conflicts_with = "certificate_oidc_issuer_regexp")]
    pub(crate) certificate_oidc_issuer: Option<String>,

    /// The same, by a regular expression over the whole issuer.
    #[arg(long, value_name = "REGEX")]
    pub(crate) certificate_oidc_issuer_regexp: Option<String>,

    /// Require a signature by a GitHub Actions workflow that built this repository.
    #[arg(long, value_name = "OWNER/NAME", group = "built")]
    pub(crate) repo: Option<String>,

    /// Require a signature by a GitLab pipeline of this project.
    #[arg(long, value_name = "GROUP/PROJECT", group = "built")]
    pub(crate) gitlab_project: Option<String>,

    /// With --repo or --gitlab-project: on this server instead of github.com or gitlab.com. For GitHub,
    /// --certificate-oidc-issuer names its issuer where that is not the usual one.
    #[arg(long, value_name = "HOST", requires = "built")]
    pub(crate) server: Option<String>,

    /// With --repo or --gitlab-project: built from one of these branches (or tags); `*` stands for anything but `/`.
    #[arg(long, value_name = "GLOB", value_delimiter = ',', requires = "built")]
    pub(crate) branches: Vec<String>,

    /// With --repo or --gitlab-project: built from one of these tags (or branches).
    #[arg(long, value_name = "GLOB", value_delimiter = ',', requires = "built")]
    pub(crate) tags: Vec<String>,

    /// Require a signature by this Google account, or one of several.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) google_account: Vec<String>,

    /// With --repo: started by this workflow file.
    #[arg(long, value_name = "FILE", requires = "repo")]
    pub(crate) workflow: Option<String>,

    /// With --repo: signed by this reusable workflow, OWNER/NAME/.github/workflows/FILE.
    #[arg(long, value_name = "WORKFLOW", requires = "repo")]
    pub(crate) signer_workflow: Option<String>,

    /// With --repo: require build provenance (SLSA) instead of a signature.
    #[arg(long, requires = "repo")]
    pub(crate) provenance: bool,
}

impl SignerArgs {
    /// Whether nobody is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.key.is_empty() && !self.names_certificate()
    }

    fn names_certificate(&self) -> bool {
        self.repo.is_some()
            || self.gitlab_project.is_some()
            || !self.google_account.is_empty()
            || self.certificate_identity.is_some()
            || self.certificate_identity_regexp.is_some()
            || self.certificate_oidc_issuer.is_some()
            || self.certificate_oidc_issuer_regexp.is_some()
    }

    /// Whoever was named, one kind after the other.
    pub(crate) fn signatures(&self) -> Result<Vec<SignatureSpec>, Failure> {
        let all = [self.keys(), self.named()?, self.github(), self.gitlab(), self.google()];
        Ok(all.into_iter().flatten().collect())
    }

    /// What is asked for, each of which must be met.
    pub(crate) fn specs(&self) -> Result<Vec<PolicySpec>, Failure> {
        let asked = |spec: SignatureSpec| {
            if self.provenance && !spec.github.is_empty() {
                return self.built(&spec);
            }
            PolicySpec { signature: Some(spec), ..PolicySpec::default() }
        };
        Ok(self.signatures()?.into_iter().map(asked).collect())
    }

    fn keys(&self) -> Option<SignatureSpec> {
        let log = if self.insecure_ignore_tlog { LogUse::None } else { LogUse::Required };
        let spec = |path: &PathBuf| KeySpec { transparency_log: log, ..KeySpec::new(path) };
        let keys: Vec<_> = self.key.iter().map(spec).collect();
        (!keys.is_empty()).then(|| SignatureSpec { keys, ..SignatureSpec::default() })
    }

    fn named(&self) -> Result<Option<SignatureSpec>, Failure> {
        let spec = KeylessSpec {
            issuer: self.certificate_oidc_issuer.clone(),
            issuer_regex: self.certificate_oidc_issuer_regexp.clone(),
            // A name on the command line is a name, whatever characters it has.
            identity: self.certificate_identity.clone(),
            exact: self.certificate_identity.is_some(),
            identity_regex: self.certificate_identity_regexp.clone(),
            claims: BTreeMap::new(),
        };
        let named = spec.identity.is_some() || spec.identity_regex.is_some();
        if self.repo.is_some() && named {
            let message = "--repo and --certificate-identity are two conditions, which two signatures could meet";
            return Err(Failure::usage(message).with_hint("--signer-workflow says which workflow signs for --repo"));
        }
        match (
            spec.identity.is_some() || spec.identity_regex.is_some(),
            spec.issuer.is_some() || spec.issuer_regex.is_some(),
        ) {
            (false, false) => Ok(None),
            (true, true) => Ok(Some(SignatureSpec { keyless: vec![spec], ..SignatureSpec::default() })),
            (true, false) => {
                let message =
                    "an identity counts only as its issuer vouches for it: --certificate-oidc-issuer is missing";
                Err(Failure::usage(message))
            }
            // The issuer of the server that the repository is on.
            (false, true) if self.repo.is_some() && self.certificate_oidc_issuer.is_some() => Ok(None),
            (false, true) => {
                let message = "an issuer vouches for the whole world: --certificate-identity is missing";
                Err(Failure::usage(message))
            }
        }
    }

    fn gitlab(&self) -> Option<SignatureSpec> {
        let spec = GitlabSpec {
            project: self.gitlab_project.clone()?,
            branches: self.branches.clone(),
            tags: self.tags.clone(),
            server: self.server.clone(),
            ..GitlabSpec::default()
        };
        Some(SignatureSpec { gitlab: vec![spec], ..SignatureSpec::default() })
    }

    fn google(&self) -> Option<SignatureSpec> {
        let google = self.google_account.clone();
        (!google.is_empty()).then(|| SignatureSpec { google, ..SignatureSpec::default() })
    }

    /// The issuer of the server that the repository is on, unless it vouches for a name of its own.
    fn issuer_of_server(&self) -> Option<String> {
        self.certificate_oidc_issuer.clone()
    }

    fn github(&self) -> Option<SignatureSpec> {
        let spec = GithubSpec {
            repository: self.repo.clone()?,
            branches: self.branches.clone(),
            tags: self.tags.clone(),
            workflow: self.workflow.clone(),
            signer_workflow: self.signer_workflow.clone(),
            server: self.server.clone(),
            issuer: self.issuer_of_server(),
            ..GithubSpec::default()
        };
        Some(SignatureSpec { github: vec![spec], ..SignatureSpec::default() })
    }

    fn built(&self, signer: &SignatureSpec) -> PolicySpec {
        let provenance = ProvenanceSpec {
            repository: self.repo.clone(),
            branches: self.branches.clone(),
            tags: self.tags.clone(),
            workflow: self.workflow.clone(),
            server: self.server.clone(),
            issuer: self.issuer_of_server(),
            signer: Some(signer.clone()),
            ..ProvenanceSpec::default()
        };
        PolicySpec { provenance: Some(provenance), ..PolicySpec::default() }
    }
}
