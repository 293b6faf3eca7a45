//! From what a file says to policies.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use blob_core::Digest;

use super::bounded;
use super::error::PolicyFileError;
use super::presets;
use super::signers::Signers;
use super::spec::{PolicyRule, PolicySpec, ProvenanceSpec, RegoSpec, SignatureSpec};
use crate::error::PolicyError;
use crate::opa::OpaPolicy;
use crate::policy::{Policy, Report, Subject};
use crate::sigstore::{GithubServer, Identity, NamedIdentity, Pattern, TrustRoot};
use crate::slsa::Provenance;

/// What the paths in a file are relative to, and which trust root counts where a policy names none.
#[derive(Clone, Debug)]
pub struct PolicyContext {
    base: PathBuf,
    confined: bool,
    root: Arc<OnceLock<TrustRoot>>,
}

impl PolicyContext {
    /// Paths are relative to the file at `path`; the trust root is that of the public-good instance as it was when this
    /// was built.
    pub fn beside(path: &Path) -> Self {
        Self::within(path.parent().unwrap_or(Path::new("")))
    }

    /// Paths are relative to `dir`.
    pub fn within(dir: &Path) -> Self {
        Self { base: dir.to_owned(), confined: false, root: Arc::default() }
    }

    /// Uses `root` where a policy names none.
    #[must_use]
    pub fn trusted_root(mut self, root: TrustRoot) -> Self {
        self.root = Arc::new(OnceLock::from(root));
        self
    }

    /// The same trust root, with paths relative to `dir`.
    #[must_use]
    pub fn moved_to(&self, dir: &Path) -> Self {
        Self { base: dir.to_owned(), confined: self.confined, root: Arc::clone(&self.root) }
    }

    /// Reads nothing that is outside of the directory, through links either: for policies that somebody else wrote, who is
    /// not to have files of this machine read.
    #[must_use]
    pub fn confined(mut self) -> Self {
        self.confined = true;
        self
    }

    /// Where the file is that a policy names.
    fn place(&self, path: &Path) -> Result<PathBuf, PolicyFileError> {
        let place = self.base.join(path);
        if !self.confined {
            return Ok(place);
        }
        let base = if self.base.as_os_str().is_empty() { Path::new(".") } else { &self.base };
        let real = |path: &Path| {
            let found = path.canonicalize();
            found.map_err(|source| PolicyFileError::Read { path: path.to_owned(), source })
        };
        let found = real(&place)?;
        if found.starts_with(real(base)?) {
            return Ok(found);
        }
        Err(PolicyFileError::Outside { path: place, dir: base.to_owned() })
    }

    fn default_root(&self) -> Result<TrustRoot, PolicyFileError> {
        if let Some(root) = self.root.get() {
            return Ok(root.clone());
        }
        let root = TrustRoot::production();
        let root = root.map_err(|source| PolicyFileError::unusable("the embedded trust root", source))?;
        Ok(self.root.get_or_init(|| root).clone())
    }
}

/// The files that a policy consists of, noted as they are read.
pub(super) struct Sources<'a> {
    context: &'a PolicyContext,
    own_root: Option<&'a Path>,
    root: Option<TrustRoot>,
    noted: String,
}

impl Sources<'_> {
    pub(super) fn read(&mut self, path: &Path) -> Result<Vec<u8>, PolicyFileError> {
        let bytes = bounded(&self.context.place(path)?)?;
        let _ = write!(self.noted, " {} {}", path.display(), Digest::sha256_of(&bytes));
        Ok(bytes)
    }

    fn read_text(&mut self, path: &Path) -> Result<String, PolicyFileError> {
        let not_text = |_| PolicyFileError::NotText { path: self.context.base.join(path) };
        String::from_utf8(self.read(path)?).map_err(not_text)
    }

    /// The trust root of the policy, read when it is first needed.
    pub(super) fn root(&mut self) -> Result<TrustRoot, PolicyFileError> {
        if let Some(root) = &self.root {
            return Ok(root.clone());
        }
        let root = match self.own_root {
            None => self.context.default_root()?,
            Some(path) => {
                let path = self.context.place(path)?;
                TrustRoot::from_file(&path)
                    .map_err(|source| PolicyFileError::unusable(format!("the trust root {}", path.display()), source))?
            }
        };
        let _ = write!(self.noted, " root {}", root.digest());
        self.root = Some(root.clone());
        Ok(root)
    }
}

impl PolicyRule {
    /// A rule for every reference.
    pub fn everywhere(policy: PolicySpec) -> Self {
        Self { pattern: None, policy }
    }

    /// The policies that the rule consists of, one for each section; all must admit. Keys, modules, documents and trust
    /// roots are read now. Blocks.
    ///
    /// Who may have signed provenance is said by `signer`; otherwise it is GitHub Actions for the repository that is asked
    /// for, or the workflow that is the builder, or those whom `signature` names. The rules in Rego see claims of their
    /// `signer`, otherwise of those whom `signature` names, otherwise of those who may sign the provenance.
    ///
    /// # Errors
    /// [`PolicyFileError`].
    pub fn build(&self, context: &PolicyContext) -> Result<Vec<Arc<dyn Policy>>, PolicyFileError> {
        let PolicySpec { signature, provenance, rego, trusted_root } = &self.policy;
        if self.policy.is_empty() {
            return Err(PolicyFileError::Meaning("the policy asks for nothing".into()));
        }
        let mut built: Vec<(String, Arc<dyn Policy>)> = Vec::new();
        let own_root = trusted_root.as_deref();
        let mut sources = Sources { context, own_root, root: None, noted: String::new() };
        if let Some(spec) = signature {
            let signers = Signers::read(spec, &mut sources)?;
            let name = format!("signature by {}", signers.describe());
            built.push((name, signers.policy(spec.threshold, None, &mut sources)?));
        }
        if let Some(spec) = provenance {
            spec.check().map_err(PolicyFileError::Meaning)?;
            let (signers, threshold) = provenance_signers(spec, signature.as_ref(), &mut sources)?;
            let name = format!("provenance by {}", signers.describe());
            built.push((name, signers.policy(threshold, Some(Arc::new(asked_for(spec)?)), &mut sources)?));
        }
        if let Some(spec) = rego {
            spec.check().map_err(PolicyFileError::Meaning)?;
            let signers = match (spec.signer.as_ref().or(signature.as_ref()), provenance) {
                (Some(named), _) => Signers::read(named, &mut sources)?,
                (None, Some(provenance)) => provenance_signers(provenance, None, &mut sources)?.0,
                (None, None) => {
                    let what =
                        "the rules in Rego judge claims of signers whom one names: add signature, or rego.signer";
                    return Err(PolicyFileError::Meaning(what.into()));
                }
            };
            let files: Vec<_> = spec.modules.iter().map(|path| path.display().to_string()).collect();
            built.push((format!("rules of {}", files.join(", ")), rules(spec, signers, &mut sources)?));
        }
        let written = serde_json::to_string(&self.policy).map_err(|e| PolicyFileError::unusable("the policy", e))?;
        let all = format!("{} {written}{}", env!("CARGO_PKG_VERSION"), sources.noted);
        let whole = Digest::sha256_of(all.as_bytes());
        Ok(built.into_iter().map(|(name, inner)| named(name, inner, &whole)).collect())
    }
}

fn named(name: String, inner: Arc<dyn Policy>, whole: &Digest) -> Arc<dyn Policy> {
    let fingerprint = Digest::sha256_of(format!("{name} {whole}").as_bytes());
    Arc::new(Named { name, fingerprint, inner })
}

/// A policy with a name and a fingerprint of everything it was built from.
#[derive(Debug)]
struct Named {
    name: String,
    fingerprint: Digest,
    inner: Arc<dyn Policy>,
}

#[async_trait]
impl Policy for Named {
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        let mut result = self.inner.evaluate(subject).await;
        match &mut result {
            Ok(report) => report.checks.iter_mut().for_each(|check| check.policy.clone_from(&self.name)),
            Err(PolicyError::Rejected { policy, .. } | PolicyError::CannotTell { policy, .. }) => {
                policy.clone_from(&self.name);
            }
            // What each of several says stands under its own name.
            Err(PolicyError::Several(_)) => {}
        }
        result
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn fingerprint(&self) -> Option<Digest> {
        Some(self.fingerprint)
    }
}

fn unusable(source: impl std::error::Error + Send + Sync + 'static) -> PolicyFileError {
    PolicyFileError::unusable("the provenance cannot be asked for", source)
}

/// What is asked of the build.
pub(super) fn asked_for(spec: &ProvenanceSpec) -> Result<Provenance, PolicyFileError> {
    let server = presets::server(spec.server.as_ref(), spec.issuer.as_ref())?;
    let from = match (&spec.repository, &spec.repository_regex, &spec.builder) {
        (Some(repository), ..) => Some(source(repository, server)?),
        (None, Some(expression), _) => Some(Provenance::require_sources(Pattern::regex(expression).map_err(unusable)?)),
        (None, None, _) => None,
    };
    let mut wanted = match (from, &spec.builder) {
        (Some(from), None) => from,
        (Some(from), Some(builder)) if widely(builder) => from.builders(Pattern::glob(builder).map_err(unusable)?),
        (Some(from), Some(builder)) => from.builder(builder).map_err(unusable)?,
        (None, Some(builder)) if widely(builder) => {
            Provenance::require_builders(Pattern::glob(builder).map_err(unusable)?)
        }
        (None, builder) => Provenance::require_builder(builder.as_deref().unwrap_or_default()).map_err(unusable)?,
    };
    if !spec.branches.is_empty() {
        wanted = wanted.branches(spec.branches.iter().map(String::as_str)).map_err(unusable)?;
    }
    if !spec.tags.is_empty() {
        wanted = wanted.tags(spec.tags.iter().map(String::as_str)).map_err(unusable)?;
    }
    if !spec.refs.is_empty() {
        wanted = wanted.refs(spec.refs.iter().map(String::as_str)).map_err(unusable)?;
    }
    if let Some(file) = &spec.workflow {
        let path = if file.contains('/') { file.clone() } else { format!(".github/workflows/{file}") };
        wanted = wanted.workflow(&path).map_err(unusable)?;
    }
    Ok(if spec.allow_v0_2 { wanted.allow_v0_2() } else { wanted })
}

/// Whether wildcards stand where a builder is compared exactly.
fn widely(builder: &str) -> bool {
    builder.split('@').next().is_some_and(|base| base.contains('*'))
}

/// `owner/name` on GitHub, or a URI; with wildcards or without.
fn source(repository: &str, server: GithubServer) -> Result<Provenance, PolicyFileError> {
    let on_github = !repository.contains("://");
    let uri = if on_github { server.uri(repository) } else { repository.to_owned() };
    if on_github && (repository.matches('/').count() != 1 || repository.split('/').any(str::is_empty)) {
        let what = format!("{repository:?} is not a repository: \"owner/name\" or \"https://host/path\" is expected");
        return Err(PolicyFileError::Meaning(what));
    }
    let wanted = if uri.contains('*') {
        // Sources on GitHub are compared in lower case, since GitHub does not tell cases apart.
        let uri = if uri.starts_with("https://github.com/") { uri.to_ascii_lowercase() } else { uri };
        Provenance::require_sources(Pattern::glob(&uri).map_err(unusable)?)
    } else {
        Provenance::require_source(&uri).map_err(unusable)?
    };
    Ok(if on_github { wanted.by_github_actions_on(server) } else { wanted })
}

/// Who may have signed the provenance, and how many of them must have.
fn provenance_signers(
    spec: &ProvenanceSpec,
    signature: Option<&SignatureSpec>,
    sources: &mut Sources<'_>,
) -> Result<(Signers, Option<usize>), PolicyFileError> {
    if let Some(named) = &spec.signer {
        return Ok((Signers::read(named, sources)?, named.threshold));
    }
    let server = presets::server(spec.server.as_ref(), spec.issuer.as_ref())?;
    let builder = spec.builder.as_deref().and_then(|builder| server.path_of(builder));
    let builder =
        builder.and_then(|rest| Some(rest.split_once('@')?.0)).filter(|path| path.contains("/.github/workflows/"));
    let repository = spec.repository.as_deref().filter(|text| !text.contains("://"));
    if let Some(repository) = repository {
        return Ok((Signers::one(github_signer(server, repository, builder)?), None));
    }
    if let Some(workflow) = builder {
        let san = Pattern::glob(&format!("{}@**", server.uri(workflow))).map_err(unusable)?;
        let identity = NamedIdentity::new(san, Pattern::exact(server.issuer())).uri();
        return Ok((Signers::one(identity.into()), None));
    }
    if let Some(named) = signature {
        return Ok((Signers::read(named, sources)?, named.threshold));
    }
    let what = "neither a repository on GitHub nor a workflow as builder says who may have signed the provenance: \
                add provenance.signer";
    Err(PolicyFileError::Meaning(what.into()))
}

/// A workflow of the repository, or the workflow `builder` of another on its behalf.
fn github_signer(server: GithubServer, repository: &str, builder: Option<&str>) -> Result<Identity, PolicyFileError> {
    if repository.contains('*') {
        let at = |end: &str| Pattern::glob(&format!("{}{end}", server.uri(repository))).map_err(unusable);
        let named = match builder {
            Some(workflow) => Pattern::glob(&format!("{}@**", server.uri(workflow))).map_err(unusable)?,
            None => at("/.github/workflows/*@**")?,
        };
        let named = NamedIdentity::new(named, Pattern::exact(server.issuer())).uri();
        return Ok(named.claim("source_repository_uri", at("")?).map_err(unusable)?.into());
    }
    let own = Identity::github_actions(repository).map_err(unusable)?.on_server(server);
    let same = |workflow: &&str| {
        let prefix = workflow.split("/.github/").next().unwrap_or_default();
        !prefix.eq_ignore_ascii_case(repository) && !workflow.contains('*')
    };
    Ok(match builder.filter(same) {
        Some(workflow) => own.signer_workflow(workflow).map_err(unusable)?.into(),
        None => own.into(),
    })
}

fn rules(spec: &RegoSpec, signers: Signers, sources: &mut Sources<'_>) -> Result<Arc<dyn Policy>, PolicyFileError> {
    let failed = |source| PolicyFileError::unusable("the rules in Rego cannot be used", source);
    let mut modules = Vec::new();
    for path in &spec.modules {
        modules.push((path.display().to_string(), sources.read_text(path)?));
    }
    let texts: Vec<_> = modules.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (trust, identities) = signers.trust(sources)?;
    let mut policy = OpaPolicy::new(trust, identities, &texts).map_err(failed)?;
    for path in &spec.data {
        policy = policy.data(&sources.read_text(path)?).map_err(failed)?;
    }
    Ok(Arc::new(policy))
}
