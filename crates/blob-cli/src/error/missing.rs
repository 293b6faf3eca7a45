//! What a registry does not have, and where else to look for it.

use blob::registry::{ErrorCode, Reference, RegistryError};

/// What a registry does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Archive,
    Repository,
    /// The manifest is there, so the archive is damaged rather than absent.
    Blob,
}

impl Missing {
    pub(super) fn of(error: &RegistryError) -> Self {
        match error {
            RegistryError::Code { code: ErrorCode::NameUnknown, .. } => Self::Repository,
            RegistryError::Code { code: ErrorCode::BlobUnknown, .. } => Self::Blob,
            _ => Self::Archive,
        }
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            // To whom it is not shown, a repository is one that does not exist.
            Self::Archive | Self::Repository => "archive not found",
            Self::Blob => "a blob of the archive is missing",
        }
    }

    pub(super) fn hint(self, reference: &Reference) -> String {
        let (host, repository) = (reference.host(), reference.repository());
        match self {
            Self::Archive => format!("`blob tags {host}/{repository}` lists the tags"),
            Self::Repository => format!("{host} has no repository {repository}, or does not show it without a log-in"),
            Self::Blob => "push the archive again, or copy it from where it is whole".into(),
        }
    }
}
