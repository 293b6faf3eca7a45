//! What the certificate authority will write into a certificate for a token.
//!
//! It serves to find bundles that are there already, and to notice an authority that certifies somebody else. What a
//! bundle proves to others is decided by its certificate alone.

use std::fmt;

use serde::Deserialize;

use crate::sigstore::{CertificateSigner, San};

/// Sigstore's own log in, which passes on who somebody else vouched for.
const PUBLIC_LOGIN: &str = "https://oauth2.sigstore.dev/auth";
const GITHUB_ACTIONS: &str = "https://token.actions.githubusercontent.com";
const BUILDKITE: &str = "https://agent.buildkite.com";

/// Who a token is for, as a certificate names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sign) struct Holder {
    san: San,
    issuer: String,
    /// Who vouched to the issuer: an authority may be set up to name them instead.
    behind: Option<String>,
    /// What was built, where the name alone does not say so: a reusable workflow signs for many repositories.
    repository: Option<String>,
    git_ref: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: Option<String>,
    email: Option<String>,
    #[serde(rename = "federated_claims")]
    federated: Option<Federated>,
    job_workflow_ref: Option<String>,
    repository: Option<String>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    ci_config_ref_uri: Option<String>,
    project_path: Option<String>,
    organization_slug: Option<String>,
    pipeline_slug: Option<String>,
}

#[derive(Deserialize)]
struct Federated {
    connector_id: String,
}

impl Holder {
    /// By the claims of a token; `None` where it is not known how the authority names them.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let claims: Claims = serde_json::from_slice(payload).ok()?;
        let behind = claims.federated.map(|federated| federated.connector_id);
        let issuer = match &behind {
            Some(connector) if claims.iss == PUBLIC_LOGIN => connector.clone(),
            _ => claims.iss,
        };
        let whose = |san, repository, git_ref| {
            Some(Self { san, issuer: issuer.clone(), behind: behind.clone(), repository, git_ref })
        };
        let plain = |san| whose(san, None, None);
        if let Some(email) = claims.email {
            return plain(San::Email(email));
        }
        if issuer == GITHUB_ACTIONS {
            let on_github = |rest: String| format!("https://github.com/{rest}");
            let (workflow, repository) = (on_github(claims.job_workflow_ref?), on_github(claims.repository?));
            let git_ref = Some(claims.git_ref?);
            return whose(San::Uri(workflow), Some(repository), git_ref);
        }
        if let Some(config) = claims.ci_config_ref_uri {
            let project = format!("{}/{}", issuer, claims.project_path?);
            let san = San::Uri(format!("https://{config}"));
            return whose(san, Some(project), None);
        }
        if issuer == BUILDKITE {
            let pipeline = format!("{}/{}", claims.organization_slug?, claims.pipeline_slug?);
            return plain(San::Uri(format!("https://buildkite.com/{pipeline}")));
        }
        // SPIFFE, and others whose subject is a URI.
        plain(San::Uri(claims.sub.filter(|sub| sub.contains("://"))?))
    }

    /// Whether a verified certificate names them, however the authority is set up.
    pub(in crate::sign) fn is_certified_by(&self, certificate: &CertificateSigner) -> bool {
        let known = certificate.issuer == self.issuer || self.behind.as_ref() == Some(&certificate.issuer);
        let same = |wanted: &Option<String>, got: &Option<String>| wanted.is_none() || got.is_none() || wanted == got;
        known
            && certificate.san == self.san
            && same(&self.repository, &certificate.claims.source_repository_uri)
            && same(&self.git_ref, &certificate.claims.source_repository_ref)
    }

    /// Whether a verified certificate names them.
    pub(in crate::sign) fn is_named_by(&self, certificate: &CertificateSigner) -> bool {
        let claims = &certificate.claims;
        let same = |wanted: &Option<String>, got: &Option<String>| wanted.is_none() || wanted == got;
        certificate.san == self.san
            && certificate.issuer == self.issuer
            && same(&self.repository, &claims.source_repository_uri)
            && same(&self.git_ref, &claims.source_repository_ref)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (issuer {})", self.san.as_str(), self.issuer)?;
        if let (Some(repository), Some(git_ref)) = (&self.repository, &self.git_ref) {
            write!(f, " for {repository} at {git_ref}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_certificates() {
        let mail = r#"{"iss":"https://oauth2.sigstore.dev/auth","sub":"x","email":"a@b.c","federated_claims":{"connector_id":"https://accounts.google.com"}}"#;
        let github = r#"{"iss":"https://token.actions.githubusercontent.com","sub":"repo:a/b","repository":"a/b","ref":"refs/heads/main","job_workflow_ref":"a/w/.github/workflows/x.yml@refs/heads/main"}"#;
        for (payload, expect) in [
            (mail, Some(("a@b.c", "https://accounts.google.com", None))),
            (
                github,
                Some((
                    "https://github.com/a/w/.github/workflows/x.yml@refs/heads/main",
                    GITHUB_ACTIONS,
                    Some("https://github.com/a/b"),
                )),
            ),
            (
                r#"{"iss":"https://gitlab.com","sub":"x","project_path":"a/b","ci_config_ref_uri":"gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main"}"#,
                Some((
                    "https://gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main",
                    "https://gitlab.com",
                    Some("https://gitlab.com/a/b"),
                )),
            ),
            (
                r#"{"iss":"https://agent.buildkite.com","sub":"x","organization_slug":"o","pipeline_slug":"p"}"#,
                Some(("https://buildkite.com/o/p", BUILDKITE, None)),
            ),
            (
                r#"{"iss":"https://spire.test","sub":"spiffe://test/x"}"#,
                Some(("spiffe://test/x", "https://spire.test", None)),
            ),
            (r#"{"iss":"https://token.actions.githubusercontent.com","sub":"repo:a/b"}"#, None),
            (r#"{"iss":"https://x.test","sub":"somebody"}"#, None),
            ("{}", None),
        ] {
            let holder = Holder::read(payload.as_bytes());
            let got = holder.as_ref().map(|h| (h.san.as_str(), h.issuer.as_str(), h.repository.as_deref()));
            assert_eq!(got, expect, "{payload}");
        }
    }
}
