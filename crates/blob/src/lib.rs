//! File archives in OCI registries: push, open lazily, verify, pull.
#![doc = include_str!("../README.md")]

mod archive_manifest;
mod artifact;
pub mod blocking;
mod caches;
mod client;
mod copy;
mod delete;
mod error;
mod head_start;
mod indexes;
mod inspect;
mod location;
pub mod pair;
mod pull;
mod push;
mod remembered;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "sign")]
mod sign;
mod tag;
pub mod tarball;
mod trust;
mod verdicts;
mod verify;
pub mod zip;

pub use archive_manifest::{
    ARTIFACT_TYPE, ArchiveManifest, ArchiveManifestError, CREATED, DATA_MEDIA_TYPE, INDEX_MEDIA_TYPE,
    MAX_EMBEDDED_INDEX,
};
pub use artifact::{Artifact, ArtifactFile, AttachFile, AttachOptions, Attachment};
pub use caches::CacheUse;
pub use client::{Client, ClientBuilder, Layer, Limits};
pub use copy::{Copied, CopyOptions};
pub use error::{Error, ErrorKind};
pub use inspect::Inspection;
pub use location::Location;
pub use pull::{Archive, PullOptions};
pub use push::{PushOptions, Pushed};
pub use remembered::Outdated;
#[cfg(feature = "sign")]
pub use sign::{Equivalent, SignOptions, SignPlan, SignWith, Signed};
pub use trust::PolicySource;
#[cfg(feature = "trust")]
pub use trust::spellings;
pub use verdicts::forget_verdicts;
pub use verify::{Outcome, Verification, VerifyOptions};

pub use blob_registry::client::{
    Admission, CertificateDirs, ClientCertificate, Credential, CredentialStore, Mirror, RegistryOptions,
    RegistryOptionsError, Saved,
};
pub use {blob_cache as cache, blob_core as core, blob_http as http, blob_policy as policy, blob_registry as registry};
