//! GitHub's servers: github.com, its tenants, and those that enterprises run themselves.

use crate::sigstore::identity::{IdentityError, is_name};

/// A GitHub server, and the issuer that vouches for the workflows on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubServer {
    host: String,
    issuer: String,
}

impl Default for GithubServer {
    /// github.com, with its usual issuer.
    fn default() -> Self {
        Self { host: "github.com".into(), issuer: "https://token.actions.githubusercontent.com".into() }
    }
}

impl GithubServer {
    /// The server at `host`, with the issuer that such servers have: that of the tenant for `*.ghe.com`, and
    /// `https://HOST/_services/token` for a server of one's own.
    ///
    /// # Errors
    /// [`IdentityError::Host`].
    pub fn new(host: &str) -> Result<Self, IdentityError> {
        if !is_name(host) {
            return Err(IdentityError::Host(host.to_owned()));
        }
        let host = host.to_ascii_lowercase();
        if host == "github.com" {
            return Ok(Self::default());
        }
        let tenant = host.strip_suffix(".ghe.com").is_some_and(|tenant| !tenant.is_empty());
        let issuer =
            if tenant { format!("https://token.actions.{host}") } else { format!("https://{host}/_services/token") };
        Ok(Self { host, issuer })
    }

    /// Another issuer, exactly: enterprises can have one of their own, such as
    /// `https://token.actions.githubusercontent.com/acme`.
    ///
    /// # Errors
    /// [`IdentityError::Issuer`].
    pub fn issued_by(mut self, issuer: &str) -> Result<Self, IdentityError> {
        let rest = issuer.strip_prefix("https://").filter(|rest| !rest.is_empty());
        rest.ok_or_else(|| IdentityError::Issuer(issuer.to_owned()))?;
        self.issuer = issuer.into();
        Ok(self)
    }

    /// The host, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether `host` is that of the server.
    pub(crate) fn is_at(&self, host: &str) -> bool {
        self.host.eq_ignore_ascii_case(host)
    }

    /// The address of a place on the server.
    pub(crate) fn uri(&self, path: &str) -> String {
        format!("https://{}/{path}", self.host)
    }

    /// What follows the server's address in `uri`.
    pub(crate) fn path_of<'u>(&self, uri: &'u str) -> Option<&'u str> {
        let (host, path) = uri.strip_prefix("https://")?.split_once('/')?;
        self.is_at(host).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn servers_and_their_issuers() {
        for (host, issuer) in [
            ("github.com", "https://token.actions.githubusercontent.com"),
            ("GitHub.com", "https://token.actions.githubusercontent.com"),
            ("acme.ghe.com", "https://token.actions.acme.ghe.com"),
            ("git.acme.example", "https://git.acme.example/_services/token"),
            ("ghe.com", "https://ghe.com/_services/token"),
        ] {
            let server = GithubServer::new(host).unwrap();
            assert_eq!((server.host(), server.issuer()), (host.to_ascii_lowercase().as_str(), issuer));
        }
        for bad in ["", "https://git.acme.example", "git.acme.example/x", "a b", ".."] {
            assert!(matches!(GithubServer::new(bad), Err(IdentityError::Host(_))), "{bad}");
        }
        let own = GithubServer::default().issued_by("https://token.actions.githubusercontent.com/acme").unwrap();
        assert_eq!((own.host(), own.issuer()), ("github.com", "https://token.actions.githubusercontent.com/acme"));
        for bad in ["", "acme", "http://token.example", "https://"] {
            assert!(matches!(GithubServer::default().issued_by(bad), Err(IdentityError::Issuer(_))), "{bad}");
        }
        let server = GithubServer::new("git.acme.example").unwrap();
        assert_eq!(server.path_of("https://GIT.acme.example/a/b"), Some("a/b"));
        for other in ["https://git.acme.example.evil/a/b", "http://git.acme.example/a/b", "https://git.acme.example"] {
            assert_eq!(server.path_of(other), None, "{other}");
        }
    }
}
