//! Talks to one registry over HTTP (OCI distribution specification 1.1).
//!
//! A [`RegistryClient`] is made once per registry and shared: it holds the connections, the tokens, and what it learned
//! of the registry's ways. It guesses nothing: every answer is checked against what was asked for, and every number
//! from outside has a limit.
//!
//! ```
//! use blob_registry::client::{Credential, RegistryClient, Static};
//!
//! let client = RegistryClient::builder("localhost:5000")
//!     .credentials(Static::new().with("localhost:5000", Credential::basic("user", "password")))
//!     .build()?;
//! assert_eq!(client.host(), "localhost:5000");
//! # Ok::<(), blob_registry::RegistryError>(())
//! ```

mod admission;
mod answer;
mod auth;
mod builder;
mod call;
mod certs;
mod challenge;
pub mod credentials;
mod download;
mod given;
mod journal;
mod limit;
mod manifests;
mod mirror;
mod options;
mod pages;
mod profile;
mod push;
mod realm;
mod referrers;
mod scope;
mod token;
mod turn;
mod upload;
mod warning;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, Digest, Progress};
use blob_http::{RetryPolicy, Transport};
use http::HeaderMap;
use url::Url;

use crate::descriptor::Descriptor;
use crate::error::RegistryError;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{
    BlobReader, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob, PushedManifest, Registry,
    Upload, UploadId,
};

pub use admission::Admission;
pub use builder::{ClientLimits, RegistryClientBuilder};
pub use certs::CertificateDirs;
pub use credentials::{
    Anonymous, Chain, Credential, CredentialStore, Credentials, CredentialsError, DockerConfig, Saved, Static,
};

pub use mirror::{Mirror, Mirrored};
pub use options::{ClientCertificate, RegistryOptions, RegistryOptionsError};
pub use push::PushContent;
pub use referrers::ReferrersSupport;

use auth::Auth;
use given::Given;
use journal::Journal;
use limit::Limit;
use profile::Profile;
use warning::Warned;

/// A registry on the network. Clones share everything.
///
/// # Cancellation
/// Dropping a future ends its request. A push that is dropped or fails ends its upload session on the registry, in the
/// background and with a time limit, unless a journal keeps it for the next process
/// ([`RegistryClientBuilder::upload_journal`]). An [`Upload`] that is dropped stays behind as a session, which registries
/// remove after a while; [`Upload::cancel`] removes it at once.
#[derive(Clone)]
pub struct RegistryClient {
    core: Arc<Core>,
}

/// What all operations share.
struct Core {
    /// The registry as references write it.
    host: String,
    /// `https://host/`, or `http://host/`.
    origin: Url,
    /// The registry that is meant, where this one stands in for others.
    namespace: Option<String>,
    /// What every request to the origin brings along, besides what it needs.
    headers: HeaderMap,
    transport: Transport,
    auth: Auth,
    retry: RetryPolicy,
    limits: ClientLimits,
    /// Where processes of this machine lock what a registry cannot change in one step.
    locks: Option<PathBuf>,
    /// Whether lists of referrers that were replaced are deleted.
    cleans_referrers: bool,
    profile: Profile,
    /// Where uploads are that registries put elsewhere.
    given: Given,
    limit: Limit,
    warned: Warned,
    /// Where uploads are written down.
    journal: Option<Journal>,
}

impl RegistryClient {
    /// Begins a client for the registry at `host`: `host` or `host:port`, as references write it.
    pub fn builder(host: impl Into<String>) -> RegistryClientBuilder {
        RegistryClientBuilder::new(host.into())
    }

    /// The registry, as it was named.
    pub fn host(&self) -> &str {
        &self.core.host
    }

    /// Says that `repository` will be written to: from now on one token that allows reading and writing is asked for,
    /// instead of one for reading first. Credentials that only allow reading may be refused altogether then.
    pub fn will_push(&self, repository: &Repository) {
        self.core.profile.set_written(repository);
    }

    /// How the registry keeps the referrers of manifests in `repository`. Asks once, and not at all where that showed
    /// before.
    ///
    /// # Errors
    /// What reading from the repository can give.
    pub async fn referrers_support(&self, repository: &Repository) -> Result<ReferrersSupport, RegistryError> {
        self.core.referrers_support(repository).await
    }

    /// Pushes content whose digest nobody knows yet, in one pass: it is hashed while it is sent. The answer is its digest.
    /// Content below 8 MiB is hashed first and sent only if it is not there.
    ///
    /// With a [journal](RegistryClientBuilder::upload_journal) a push that was killed goes on where it was, the state of the
    /// hash included: of what was sent, at most the last 16 MiB are read again.
    ///
    /// # Errors
    /// What [`Registry::push_blob`] gives.
    pub async fn push_content(
        &self,
        repository: &Repository,
        content: &PushContent,
    ) -> Result<(Digest, PushedBlob), RegistryError> {
        push::push_content(&self.core, repository, content).await
    }

    /// Pushes the file at `path` as [`push_content`](Self::push_content) does; `progress` is told of it under a name.
    ///
    /// # Errors
    /// What [`Registry::push_blob`] gives; [`RegistryError::Source`] also when the file was changed meanwhile.
    pub async fn push_file(
        &self,
        repository: &Repository,
        path: &Path,
        progress: Option<(String, Arc<dyn Progress>)>,
    ) -> Result<(Digest, PushedBlob), RegistryError> {
        push::push_file(&self.core, repository, path, progress).await
    }

    /// Whether the registry, or the storage it redirects to, was seen to answer ranges with whole blobs: then every
    /// ranged read costs the transfer of everything before it.
    pub fn ignores_ranges(&self) -> bool {
        self.core.profile.ranges_ignored.is_set()
    }
}

impl Core {
    /// The URL of `rest` below `repository`.
    fn url(&self, repository: &Repository, rest: &str) -> Url {
        let mut url = self.origin.clone();
        url.set_path(&format!("/v2/{repository}/{rest}"));
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// `host/repository:tag` or `host/repository@digest`.
    fn name(&self, repository: &Repository, target: &Target) -> String {
        match target {
            Target::Tag(tag) => format!("{}/{repository}:{tag}", self.host),
            Target::Digest(digest) => self.name_of(repository, digest),
        }
    }

    fn name_of(&self, repository: &Repository, digest: &Digest) -> String {
        format!("{}/{repository}@{digest}", self.host)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for RegistryClient {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError> {
        self.core.resolve(repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest, RegistryError> {
        self.core.manifest(repository, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        self.core.stat_blob(repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        download::read(Arc::clone(&self.core), repository, digest, range).await
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob, RegistryError> {
        push::push(&self.core, repository, &blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
        upload::start(&self.core, repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>, RegistryError> {
        upload::resume(&self.core, repository, id).await
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<Mount, RegistryError> {
        upload::mount(&self.core, repository, digest, from).await
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: PushManifest,
    ) -> Result<PushedManifest, RegistryError> {
        self.core.push_manifest(repository, manifest).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        self.core.delete_manifest(repository, digest).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        self.core.delete_blob(repository, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), RegistryError> {
        self.core.delete_tag(repository, tag).await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>, RegistryError> {
        self.core.tags(repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>, RegistryError> {
        self.core.referrers(repository, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>, RegistryError> {
        self.core.repositories(page).await
    }

    async fn local_blob(&self, _: &Repository, _: &Digest) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        Ok(None)
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient").field("host", &self.core.host).finish_non_exhaustive()
    }
}
