//! What a registry does not have, and where else to look for it.

use std::path::Path;

use blob::pair::{DATA_NAME, INDEX_NAME};
use blob::registry::{ErrorCode, Reference, RegistryError};
use blob::{Error, Location};

/// What a registry does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Archive,
    Repository,
    /// The manifest is there, so the archive is damaged rather than absent.
    Blob,
}

/// What of a layout is not there at all, if that is what failed.
pub(super) fn of_layout(location: &Location, error: &Error) -> Option<String> {
    let Error::Registry { source: RegistryError::Io { .. }, .. } = error else { return None };
    match location {
        Location::Layout { dir, .. } if !dir.is_dir() => {
            Some(format!("there is no directory {}, so no layout in it", dir.display()))
        }
        Location::Layout { dir, .. } if !dir.join("oci-layout").is_file() => {
            Some(format!("the directory {} is no image layout: it has no file oci-layout", dir.display()))
        }
        Location::LayoutFile { file, .. } if !file.exists() => {
            let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(if dir.is_dir() {
                format!("there is no file {}, so no layout in it", file.display())
            } else {
                format!("there is no directory {} for the file {}", dir.display(), file.display())
            })
        }
        Location::Pair { dir, .. } if !dir.is_dir() => {
            Some(format!("there is no directory {}, so no archive in it", dir.display()))
        }
        Location::Pair { dir, .. } => {
            let absent = [INDEX_NAME, DATA_NAME].into_iter().find(|name| !dir.join(name).exists())?;
            Some(format!("the directory {} holds no archive: it has no file {absent}", dir.display()))
        }
        _ => None,
    }
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
