//! Whose signature counts.

use std::fmt;

use super::github::GithubActions;
use super::pattern::{Pattern, PatternError};
use super::signer::{CertificateClaims, CertificateSigner, San};

/// Decides by a verified certificate whether its holder is the signer one wants.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Identity {
    /// By name, issuer and single claims.
    Named(NamedIdentity),
    /// A GitHub Actions workflow, by the repository that was built.
    GithubActions(GithubActions),
}

/// A signer by name, issuer and single claims; everything that is asked for must be so.
#[derive(Clone, Debug)]
pub struct NamedIdentity {
    san: Pattern,
    kind: Option<SanKind>,
    issuer: Pattern,
    claims: Vec<(&'static str, Pattern)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum SanKind {
    Email,
    Uri,
}

/// A wanted identity that makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A pattern in it.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// No claim has this name.
    #[error("no certificate claim is named {0:?}")]
    UnknownClaim(String),
    /// Not a repository.
    #[error("{0:?} is not a repository: \"owner/name\" is expected")]
    Repository(String),
    /// Not a workflow file.
    #[error("{0:?} is not the path of a workflow file")]
    Workflow(String),
    /// Not the host of a server.
    #[error("{0:?} is not a host name")]
    Host(String),
    /// Not the address of an issuer.
    #[error("{0:?} is not an issuer: \"https://…\" is expected")]
    Issuer(String),
    /// Not an e-mail address.
    #[error("{0:?} is not an e-mail address")]
    Email(String),
}

impl Identity {
    /// A signer by exact name and issuer: the strictest form.
    pub fn exact(san: &str, issuer: &str) -> Self {
        Self::Named(NamedIdentity::new(Pattern::exact(san), Pattern::exact(issuer)))
    }

    /// Any workflow of the GitHub repository `owner/name`; narrow it with [`GithubActions`].
    ///
    /// # Errors
    /// [`IdentityError::Repository`].
    pub fn github_actions(repository: &str) -> Result<GithubActions, IdentityError> {
        GithubActions::new(repository)
    }

    /// A pipeline of a project on gitlab.com (`group/project`, also with subgroups), at any of the refs that match `refs`
    /// (`refs/heads/main`; wildcards as in [`Pattern::glob`]); without any, at every ref.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn gitlab(project: &str, refs: &[&str]) -> Result<Self, IdentityError> {
        Self::gitlab_at("gitlab.com", project, refs)
    }

    /// The same on the GitLab server at `host`, whose issuer is `https://HOST`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn gitlab_at(host: &str, project: &str, refs: &[&str]) -> Result<Self, IdentityError> {
        if !is_name(host) {
            return Err(IdentityError::Host(host.to_owned()));
        }
        let segments: Vec<_> = project.split('/').collect();
        if segments.len() < 2 || segments.iter().any(|segment| !is_name(segment)) {
            return Err(IdentityError::Repository(project.to_owned()));
        }
        let issuer = format!("https://{}", host.to_ascii_lowercase());
        let repository = format!("{issuer}/{project}");
        // The name of the pipeline's file may stand anywhere, also in another project; the repository is a claim.
        let named = NamedIdentity::new(Pattern::glob(&format!("{issuer}/**"))?, Pattern::exact(issuer));
        let named = named.uri().claim("source_repository_uri", Pattern::exact(repository))?;
        let refs = if refs.is_empty() { &["**"] } else { refs };
        Ok(Self::Named(named.claim("source_repository_ref", Pattern::any_glob(refs)?)?))
    }

    /// A person or service account that Google vouches for.
    ///
    /// # Errors
    /// [`IdentityError::Email`].
    pub fn google(address: &str) -> Result<Self, IdentityError> {
        Self::email(address, "https://accounts.google.com")
    }

    /// The holder of an e-mail address, as `issuer` says. A URI that looks like the address does not count.
    ///
    /// # Errors
    /// [`IdentityError::Email`], [`IdentityError::Issuer`].
    pub fn email(address: &str, issuer: &str) -> Result<Self, IdentityError> {
        let parts = address.split_once('@');
        let whole = parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
        if !whole || address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*') {
            return Err(IdentityError::Email(address.to_owned()));
        }
        if issuer.is_empty() {
            return Err(IdentityError::Issuer(issuer.to_owned()));
        }
        let mut named = NamedIdentity::new(Pattern::exact(address), Pattern::exact(issuer));
        named.kind = Some(SanKind::Email);
        Ok(Self::Named(named))
    }

    /// Whether `signer` is wanted.
    ///
    /// # Errors
    /// What differs, as a reason for a person.
    pub fn check(&self, signer: &CertificateSigner) -> Result<(), String> {
        match self {
            Self::Named(named) => named.check(signer),
            Self::GithubActions(workflow) => workflow.check(signer),
        }
    }
}

impl NamedIdentity {
    /// A signer whose name and issuer match.
    pub fn new(san: Pattern, issuer: Pattern) -> Self {
        Self { san, kind: None, issuer, claims: Vec::new() }
    }

    /// The name must be a URI, not an e-mail address.
    #[must_use]
    pub fn uri(mut self) -> Self {
        self.kind = Some(SanKind::Uri);
        self
    }

    /// Also asks for a claim by its name, which is that of a field of [`CertificateClaims`]. A certificate without it
    /// does not match.
    ///
    /// # Errors
    /// [`IdentityError::UnknownClaim`].
    pub fn claim(mut self, name: &str, pattern: Pattern) -> Result<Self, IdentityError> {
        let known = CertificateClaims::NAMES.iter().find(|known| **known == name);
        let known = known.ok_or_else(|| IdentityError::UnknownClaim(name.to_owned()))?;
        self.claims.push((known, pattern));
        Ok(self)
    }

    fn check(&self, signer: &CertificateSigner) -> Result<(), String> {
        expect("issuer", &self.issuer, Some(&signer.issuer))?;
        let kind = if matches!(signer.san, San::Email(_)) { SanKind::Email } else { SanKind::Uri };
        if self.kind.is_some_and(|wanted| wanted != kind) {
            return Err(format!("identity {:?} is of another kind", signer.san.as_str()));
        }
        expect("identity", &self.san, Some(signer.san.as_str()))?;
        // A branch may be called `x@refs/tags/v1`: which part is the ref would be for the pattern to say.
        if signer.san.as_str().matches("@refs/").count() > 1 {
            return Err(format!("identity {:?} names two refs", signer.san.as_str()));
        }
        self.claims.iter().try_for_each(|(name, pattern)| expect(name, pattern, signer.claims.named(name)))
    }
}

/// Whether `got` is there and matches; otherwise a reason that shows both.
pub(super) fn expect(what: &str, pattern: &Pattern, got: Option<&str>) -> Result<(), String> {
    match got {
        Some(got) if pattern.matches(got) => Ok(()),
        Some(got) => Err(format!("{what} is {got:?}, not {:?}", pattern.to_string())),
        None => Err(format!("the certificate has no {what}, {:?} is asked for", pattern.to_string())),
    }
}

/// A segment of a repository's path.
pub(super) fn is_name(segment: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !segment.is_empty() && segment.chars().all(valid) && segment.chars().any(|c| c != '.')
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(named) => write!(f, "{} (issuer {})", named.san, named.issuer),
            Self::GithubActions(workflow) => workflow.fmt(f),
        }
    }
}

impl From<NamedIdentity> for Identity {
    fn from(named: NamedIdentity) -> Self {
        Self::Named(named)
    }
}

impl From<GithubActions> for Identity {
    fn from(workflow: GithubActions) -> Self {
        Self::GithubActions(workflow)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn signer(san: San, issuer: &str) -> CertificateSigner {
        CertificateSigner { san, issuer: issuer.into(), claims: CertificateClaims::default() }
    }

    #[test]
    fn names_and_issuers() {
        let google = "https://accounts.google.com";
        let ann = signer(San::Email("ann@example.com".into()), google);
        Identity::google("ann@example.com").unwrap().check(&ann).unwrap();
        Identity::exact("ann@example.com", google).check(&ann).unwrap();
        assert!(Identity::google("ann@example.co").unwrap().check(&ann).is_err());
        assert!(Identity::email("ann@example.com", "https://other").unwrap().check(&ann).is_err());
        let fake = signer(San::Uri("ann@example.com".into()), google);
        assert!(Identity::google("ann@example.com").unwrap().check(&fake).is_err(), "a URI is no e-mail address");
        for bad in ["", "ann", "@example.com", "ann@", "a@b@c", "*@example.com", "a b@example.com"] {
            assert!(matches!(Identity::google(bad), Err(IdentityError::Email(_))), "{bad}");
        }
        assert!(matches!(Identity::email("a@b.c", ""), Err(IdentityError::Issuer(_))));
        let any = NamedIdentity::new(Pattern::regex(".*@example\\.com").unwrap(), Pattern::exact(google));
        Identity::from(any.clone()).check(&ann).unwrap();
        assert!(Identity::from(any.clone()).check(&signer(San::Email("a@exampleXcom".into()), google)).is_err());
        let wants = any.claim("build_trigger", Pattern::exact("push")).unwrap();
        assert!(Identity::from(wants).check(&ann).unwrap_err().contains("no build_trigger"));
        let named = NamedIdentity::new(Pattern::exact("a"), Pattern::exact("b"));
        assert!(matches!(named.claim("trigger", Pattern::exact("c")), Err(IdentityError::UnknownClaim(_))));
    }

    #[test]
    fn a_branch_that_is_called_like_a_tag_is_not_one() {
        let issuer = "https://token.actions.githubusercontent.com";
        let at = |git_ref: &str| {
            signer(San::Uri(format!("https://github.com/acme/app/.github/workflows/x.yml@{git_ref}")), issuer)
        };
        for pattern in [
            Pattern::glob("https://github.com/acme/app/**@refs/tags/v*").unwrap(),
            Pattern::regex(".*@refs/tags/v.*").unwrap(),
        ] {
            let tagged = Identity::from(NamedIdentity::new(pattern, Pattern::exact(issuer)));
            tagged.check(&at("refs/tags/v1")).unwrap();
            tagged.check(&at("refs/tags/v1@home")).unwrap();
            assert!(tagged.check(&at("refs/heads/x@refs/tags/v1")).unwrap_err().contains("two refs"));
        }
    }

    #[test]
    fn gitlab_projects_by_claim() {
        let identity = Identity::gitlab("acme/tools/app", &["refs/heads/main", "refs/tags/v*"]).unwrap();
        let mut from = signer(
            San::Uri("https://gitlab.com/acme/tools/app//.gitlab-ci.yml@refs/tags/v1".into()),
            "https://gitlab.com",
        );
        assert!(identity.check(&from).is_err(), "no claims");
        from.claims.source_repository_uri = Some("https://gitlab.com/acme/tools/app".into());
        from.claims.source_repository_ref = Some("refs/tags/v1".into());
        identity.check(&from).unwrap();
        Identity::gitlab("acme/tools/app", &[]).unwrap().check(&from).unwrap();
        assert!(Identity::gitlab("acme/tools/app", &["refs/heads/*"]).unwrap().check(&from).is_err());
        // Another server's projects of the same name are others.
        let own = Identity::gitlab_at("git.acme.example", "acme/tools/app", &[]).unwrap();
        assert!(own.check(&from).is_err());
        let mut there = from.clone();
        there.issuer = "https://git.acme.example".into();
        assert!(own.check(&there).is_err(), "the names are those of gitlab.com");
        there.san = San::Uri("https://git.acme.example/acme/tools/app//.gitlab-ci.yml@refs/tags/v1".into());
        there.claims.source_repository_uri = Some("https://git.acme.example/acme/tools/app".into());
        own.check(&there).unwrap();
        assert!(identity.check(&there).is_err());
        from.claims.source_repository_uri = Some("https://gitlab.com/acme/tools/app-evil".into());
        assert!(identity.check(&from).is_err());
        assert!(matches!(Identity::gitlab_at("a/b", "acme/app", &[]), Err(IdentityError::Host(_))));
        for bad in ["", "acme", "acme/../x", "acme/a b"] {
            assert!(matches!(Identity::gitlab(bad, &[]), Err(IdentityError::Repository(_))), "{bad}");
        }
    }
}
