//! Source repositories as URIs, compared in parts.

use std::fmt;

/// `git+https://host/path.git@ref`, in parts that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceUri {
    host: String,
    path: String,
    pub(super) git_ref: Option<String>,
}

impl SourceUri {
    /// Reads `https://` URIs, with `git+` before and `.git`, `/` and `@ref` behind or without. No user, query or escape:
    /// what could be read in two ways is not read.
    pub(super) fn parse(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("git+").unwrap_or(uri).strip_prefix("https://")?;
        let (host, rest) = rest.split_once('/')?;
        let (path, git_ref) = rest.split_once('@').map_or((rest, None), |(path, git_ref)| (path, Some(git_ref)));
        let path = path.strip_suffix('/').unwrap_or(path);
        let path = path.strip_suffix(".git").unwrap_or(path);
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.chars().all(valid);
        let plain_host =
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':'));
        if !plain_host || !path.split('/').all(segment) || git_ref.is_some_and(str::is_empty) {
            return None;
        }
        let host = host.to_ascii_lowercase();
        // GitHub does not tell cases apart; other hosts do.
        let path = if host == "github.com" { path.to_ascii_lowercase() } else { path.to_owned() };
        Some(Self { host, path, git_ref: git_ref.map(str::to_owned) })
    }

    pub(super) fn same_repository(&self, other: &Self) -> bool {
        self.host == other.host && self.path == other.path
    }
}

impl fmt::Display for SourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/{}", self.host, self.path)
    }
}

/// The file in `https://host/owner/name/.github/workflows/file@ref`; `None` for other shapes.
pub(super) fn workflow_path(uri: &str) -> Option<&str> {
    let (place, _) = uri.strip_prefix("https://")?.split_once('@')?;
    place.splitn(4, '/').nth(3).filter(|path| path.starts_with(".github/workflows/"))
}
