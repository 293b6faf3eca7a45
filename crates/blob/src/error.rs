//! What can go wrong, asked by questions rather than by layers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_cache::OpenError;
use blob_core::create::CreateError;
use blob_core::extract::ExtractError;
use blob_core::{FailureKind, IndexError, ReadError, SourceError};
use blob_http::HttpError;
use blob_policy::{EvidenceError, PolicyError};
use blob_registry::client::CredentialsError;
use blob_registry::{ErrorCode, ReferenceError, RegistryError};

use crate::archive_manifest::ArchiveManifestError;
use crate::tarball::TarError;

/// An operation of the facade failed.
///
/// Ask what it is by the `is_…` methods, or by [`kind`](Self::kind); the layers underneath are in its `source` chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is not the place of an archive.
    #[error("invalid reference {reference:?}")]
    InvalidReference {
        /// The text.
        reference: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// A place lacks the tag or digest that the operation needs.
    #[error("{location} names no {needs}: write {}", completed(location, needs))]
    Incomplete {
        /// The place.
        location: String,
        /// "tag" or "tag or digest".
        needs: &'static str,
    },
    /// The registry, or the layout, failed.
    #[error("{action}")]
    Registry {
        /// What was being done, to which archive.
        action: String,
        /// The cause.
        source: RegistryError,
    },
    /// Of several tags some point at the manifest now, and others could not be set.
    #[error("{location}: the tags {} are set, and not {}", set.join(", "), unset.join(", "))]
    SomeTags {
        /// The place, pinned to the manifest.
        location: String,
        /// The tags that point at it now.
        set: Vec<String>,
        /// The tags that do not, as far as this operation is concerned.
        unset: Vec<String>,
        /// Why the first of those could not be set.
        source: RegistryError,
    },
    /// The client is offline, and its caches lack what it needs.
    #[error("{location} cannot be opened offline: the cache does not have its {missing}")]
    Offline {
        /// The place.
        location: String,
        /// What is missing: "manifest" or "index".
        missing: &'static str,
    },
    /// The manifest is not an archive's.
    #[error("{location} cannot be opened")]
    Manifest {
        /// The place.
        location: String,
        /// What is wrong.
        source: ArchiveManifestError,
    },
    /// The index is not usable.
    #[error("{location} cannot be opened")]
    Index {
        /// The place.
        location: String,
        /// What is wrong.
        source: IndexError,
    },
    /// A policy did not admit the archive.
    #[error("{location}: policy violation")]
    Policy {
        /// The place, pinned to the manifest that was judged.
        location: String,
        /// Every reason.
        source: PolicyError,
    },
    /// The evidence for a policy is unusable.
    #[error("{location}: policy violation")]
    Evidence {
        /// The place.
        location: String,
        /// What is wrong.
        source: EvidenceError,
    },
    /// No signature could be made.
    #[cfg(feature = "sign")]
    #[error("signing {location}")]
    Sign {
        /// The place, pinned to the manifest.
        location: String,
        /// The cause.
        source: blob_policy::sign::SignError,
    },
    /// What was to be attested cannot be said.
    #[cfg(feature = "sign")]
    #[error("the attestation cannot be made")]
    Statement(#[source] blob_policy::sign::StatementError),
    /// A bundle could not be published beside its manifest.
    #[cfg(feature = "sign")]
    #[error("attaching a bundle to {location}")]
    Attach {
        /// The place, pinned to the manifest.
        location: String,
        /// The cause.
        source: blob_policy::sign::AttachError,
    },
    /// Only verified archives are wanted, and no policy says which.
    #[error("{location} is not verified: verification is required, but no policy is configured")]
    NotVerified {
        /// The place.
        location: String,
    },
    /// The archive could not be made.
    #[error("creating an archive of {}", dir.display())]
    Create {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: CreateError,
    },
    /// A pair of files is there already, and is not to be replaced.
    #[error("{} exists already", paths.first().map_or(Path::new("it"), PathBuf::as_path).display())]
    PairExists {
        /// The files, one at least.
        paths: Vec<PathBuf>,
    },
    /// There is nothing to push, and an empty archive is not wanted.
    #[error("nothing of {what} is to be stored")]
    Empty {
        /// The directory, or "the tar stream".
        what: String,
    },
    /// A file system has not the room for an archive that is to be assembled or copied there; nothing was written.
    #[error(
        "{} has room for {available} bytes, and {what} can take {needed} there",
        dir.display()
    )]
    NoRoom {
        /// The directory for temporary files, or that of the layout.
        dir: PathBuf,
        /// What is written: "an archive of" the directory or of the tar stream, or "a copy of" a place.
        what: String,
        /// How many bytes it can take; compression may make an archive less.
        needed: u64,
        /// How many bytes there is room for.
        available: u64,
    },
    /// A tar stream cannot become an archive.
    #[error("reading the tar stream")]
    Tar {
        /// What is wrong.
        source: TarError,
    },
    /// A file could not be read from the archive.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Files could not be extracted.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The bytes of an archive could not be read.
    #[error("{action}")]
    Source {
        /// What was being done.
        action: String,
        /// The cause.
        source: SourceError,
    },
    /// The client's options contradict each other, or one is not usable.
    #[error("cannot set up the client: {0}")]
    Options(String),
    /// What was to be attached cannot be.
    #[error("nothing was attached: {0}")]
    Attachment(String),
    /// The transport could not be set up.
    #[error("cannot set up the network transport")]
    Transport(#[source] HttpError),
    /// Credentials could not be had.
    #[error("cannot set up credentials")]
    Credentials(#[source] CredentialsError),
    /// The cache directory cannot be used.
    #[error("cannot use the cache directory {}", dir.display())]
    Cache {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: OpenError,
    },
    /// The operating system failed.
    #[error("{action}")]
    Io {
        /// What was being done, to which file.
        action: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// `location` with what it needs; a digest gives way to a tag.
fn completed(location: &str, needs: &str) -> String {
    let name = location.split_once('@').map_or(location, |(name, _)| name);
    match needs {
        "tag" => format!("{name}:TAG"),
        needs if needs.starts_with("digest") => format!("{name}@DIGEST"),
        _ => format!("{name}:TAG or {name}@DIGEST"),
    }
}

/// What an [`Error`] is about; each has an exit code on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing more particular.
    General,
    /// The caller asked for something that makes no sense.
    Usage,
    /// An archive, tag, file or directory does not exist.
    NotFound,
    /// Credentials are missing, wrong or not enough.
    Authentication,
    /// The network failed, or the registry is overloaded.
    Network,
    /// A policy did not admit the archive, or it is not verified.
    Verification,
    /// Bytes do not have the digest that was promised.
    HashMismatch,
    /// Some of what was asked for was done, and some could not be.
    Partial,
    /// The operation was cancelled.
    Cancelled,
}

impl Error {
    /// What this error is about.
    pub fn kind(&self) -> ErrorKind {
        match self {
            _ if self.is_offline() => ErrorKind::Network,
            #[cfg(feature = "sign")]
            Self::Statement(_) => ErrorKind::Usage,
            Self::InvalidReference { .. }
            | Self::Incomplete { .. }
            | Self::Options(_)
            | Self::Attachment(_)
            | Self::Cache { .. } => ErrorKind::Usage,
            Self::Registry { source, .. } => of_registry(source),
            Self::SomeTags { .. } => ErrorKind::Partial,
            Self::Index { source: IndexError::Data { .. }, .. } => ErrorKind::HashMismatch,
            Self::Policy { source, .. } => match source.registry_error().map(of_registry) {
                Some(kind @ (ErrorKind::Authentication | ErrorKind::Network)) => kind,
                _ => ErrorKind::Verification,
            },
            #[cfg(feature = "sign")]
            Self::Attach { source: blob_policy::sign::AttachError::Registry { source, .. }, .. } => of_registry(source),
            #[cfg(feature = "sign")]
            Self::Sign { source, .. } => of_signing(source),
            #[cfg(feature = "sign")]
            Self::Attach { .. } => ErrorKind::General,
            Self::Evidence { source: EvidenceError::Registry { source, .. }, .. } => match of_registry(source) {
                kind @ (ErrorKind::Authentication | ErrorKind::Network) => kind,
                _ => ErrorKind::Verification,
            },
            Self::Evidence { .. } | Self::NotVerified { .. } => ErrorKind::Verification,
            Self::Create { source: CreateError::Cancelled, .. } | Self::Extract(ExtractError::Cancelled) => {
                ErrorKind::Cancelled
            }
            Self::Tar { source: TarError::Cancelled } => ErrorKind::Cancelled,
            Self::Create { source: CreateError::NotFound { .. }, .. }
            | Self::Extract(ExtractError::NothingLeft { .. }) => ErrorKind::NotFound,
            Self::Read(source) | Self::Extract(ExtractError::Read(source)) => of_read(source),
            Self::Source { source, .. } => of_failure(source.kind()),
            // A file or variable that makes no sense is a mistake of the configuration, whoever is asked to log in.
            Self::Credentials(CredentialsError::Malformed { .. } | CredentialsError::Variable { .. }) => {
                ErrorKind::Usage
            }
            Self::Credentials(_) => ErrorKind::Authentication,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Manifest { .. }
            | Self::Offline { .. }
            | Self::Index { .. }
            | Self::Transport(_)
            | Self::NoRoom { .. }
            | Self::Empty { .. }
            | Self::Tar { .. }
            | Self::Create { .. }
            | Self::Extract(_)
            | Self::Io { .. }
            | Self::PairExists { .. } => ErrorKind::General,
        }
    }

    /// Whether an archive, tag, file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// Whether the client is offline and its caches lack what was asked for.
    pub fn is_offline(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if matches!(error.downcast_ref(), Some(HttpError::Offline { .. }))
                || error.downcast_ref().is_some_and(EvidenceError::is_offline)
                || error.downcast_ref::<Arc<EvidenceError>>().is_some_and(|shared| shared.is_offline())
            {
                return true;
            }
            next = error.source();
        }
        matches!(self, Self::Offline { .. })
    }

    /// Whether a text is not a reference, or lacks a tag.
    pub fn is_invalid_reference(&self) -> bool {
        matches!(self, Self::InvalidReference { .. } | Self::Incomplete { .. })
    }

    /// Whether the manifest is not an archive's.
    pub fn is_invalid_manifest(&self) -> bool {
        matches!(self, Self::Manifest { .. })
    }

    /// Whether the manifest lacks its index layer.
    pub fn is_missing_index(&self) -> bool {
        matches!(self, Self::Manifest { source: ArchiveManifestError::MissingIndex, .. })
    }

    /// Whether the manifest lacks its data layer.
    pub fn is_missing_data(&self) -> bool {
        matches!(self, Self::Manifest { source: ArchiveManifestError::MissingData, .. })
    }

    /// Whether a policy did not admit the archive, or it is not verified.
    pub fn is_policy_violation(&self) -> bool {
        self.kind() == ErrorKind::Verification
    }

    /// Whether credentials are missing, wrong or not enough.
    pub fn is_unauthorized(&self) -> bool {
        self.kind() == ErrorKind::Authentication
    }

    /// Whether bytes do not have the digest that was promised.
    pub fn is_hash_mismatch(&self) -> bool {
        self.kind() == ErrorKind::HashMismatch
    }

    /// Whether the source had more files than allowed.
    pub fn is_too_many_files(&self) -> bool {
        matches!(
            self,
            Self::Create { source: CreateError::TooManyFiles { .. }, .. }
                | Self::Tar { source: TarError::TooMany { .. } }
        )
    }
}

#[cfg(feature = "sign")]
fn of_signing(error: &blob_policy::sign::SignError) -> ErrorKind {
    use blob_policy::sign::{ServiceError, SignError};
    match error {
        SignError::Options(_) => ErrorKind::Usage,
        SignError::Token(_) | SignError::Service { source: ServiceError::Status { status: 401 | 403, .. }, .. } => {
            ErrorKind::Authentication
        }
        SignError::Service { source, .. } if source.is_transient() => ErrorKind::Network,
        SignError::SelfCheck(_) | SignError::Holder { .. } => ErrorKind::Verification,
        _ => ErrorKind::General,
    }
}

fn of_registry(error: &RegistryError) -> ErrorKind {
    if matches!(error, RegistryError::Options { .. }) {
        return ErrorKind::Usage;
    }
    // A registry that was sent other bytes than it was promised says so by its code.
    if error.error_code() == ErrorCode::DigestInvalid {
        return ErrorKind::HashMismatch;
    }
    of_failure(error.kind())
}

fn of_read(error: &ReadError) -> ErrorKind {
    match error.source_kind() {
        _ if error.is_not_found() => ErrorKind::NotFound,
        _ if error.is_hash_mismatch() => ErrorKind::HashMismatch,
        Some(kind) => of_failure(kind),
        None => ErrorKind::General,
    }
}

fn of_failure(kind: FailureKind) -> ErrorKind {
    match kind {
        FailureKind::NotFound => ErrorKind::NotFound,
        FailureKind::Unauthorized | FailureKind::Denied => ErrorKind::Authentication,
        FailureKind::Network => ErrorKind::Network,
        FailureKind::Integrity => ErrorKind::HashMismatch,
        _ => ErrorKind::General,
    }
}
