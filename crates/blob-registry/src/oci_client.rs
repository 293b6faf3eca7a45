//! An [`oci_client::Client`] that a program has configured, as a [`Registry`].
//!
//! What that client cannot do, this registry cannot do either: uploads in pieces, deletion, conditions on tags, tags of
//! manifests whose digest is no SHA-256. It does not tell whether a list of referrers goes on, so they are listed only
//! where the registry is [known to answer with all of them at once](OciClient::with_whole_referrers); and it does not
//! write the lists that registries without the referrers API leave to their clients. It does not tell the size of a blob
//! in front of a range, which costs a request more here, and reads a manifest whole before its size can be checked. Its
//! errors name URLs with their queries; those are left out.
//!
//! ```
//! use blob_registry::oci_client::OciClient;
//! use oci_client::secrets::RegistryAuth;
//!
//! let client = oci_client::Client::new(oci_client::client::ClientConfig::default());
//! let registry = OciClient::new(client, "ghcr.io", RegistryAuth::Anonymous);
//! assert_eq!(registry.host(), "ghcr.io");
//! ```

mod error;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, ByteSourceExt as _, ByteStream, Digest, Event, SourceError, SourceId};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::HeaderValue;
use oci_client::client::Client;
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};

use crate::descriptor::{Descriptor, media_type};
use crate::error::{ErrorCode, Object, RegistryError};
use crate::manifest::Outline;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{
    BlobReader, MAX_MANIFEST_BYTES, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob,
    PushedManifest, Registry, Upload, UploadId,
};

use error::translate;

/// Kinds of manifests that are asked for.
const ACCEPTED: [&str; 4] = [
    media_type::IMAGE_MANIFEST,
    media_type::IMAGE_INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
];

/// Blobs up to this many bytes are handed to the client whole, so that it can choose another way to send them.
const MAX_WHOLE: u64 = 4 << 20;

/// Names of one page, where the caller does not say.
const PAGE: usize = 1000;

type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// An `oci_client::Client` as a registry. Clones share the client.
#[derive(Clone)]
pub struct OciClient {
    client: Client,
    host: String,
    auth: RegistryAuth,
    whole_referrers: bool,
}

impl OciClient {
    /// The registry `host` (`host` or `host:port`) as `client` reaches it. The client keeps the first credentials that it
    /// is given for a host: `auth` counts for nothing where it has some already.
    pub fn new(client: Client, host: impl Into<String>, auth: RegistryAuth) -> Self {
        Self { client, host: host.into(), auth, whole_referrers: false }
    }

    /// Says that the registry answers with all referrers of a manifest at once, so that they can be listed: the client
    /// hides whether a list goes on, and what a registry keeps for another page would be lost without a word. Without
    /// this, [`Registry::referrers`] is unsupported.
    #[must_use]
    pub fn with_whole_referrers(mut self, whole: bool) -> Self {
        self.whole_referrers = whole;
        self
    }

    /// The registry.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn tagged(&self, repository: &Repository, tag: &Tag) -> Reference {
        Reference::with_tag(self.host.clone(), repository.to_string(), tag.to_string())
    }

    fn digested(&self, repository: &Repository, digest: &Digest) -> Reference {
        Reference::with_digest(self.host.clone(), repository.to_string(), digest.to_string())
    }

    fn reference(&self, repository: &Repository, target: &Target) -> Reference {
        match target {
            Target::Tag(tag) => self.tagged(repository, tag),
            Target::Digest(digest) => self.digested(repository, digest),
        }
    }

    /// Something in the repository, where the client wants a reference and means the repository.
    fn anything(&self, repository: &Repository) -> Reference {
        Reference::with_tag(self.host.clone(), repository.to_string(), "latest".into())
    }

    /// Calls of the client that take no credentials use those that it was given.
    async fn introduce(&self, repository: &Repository, operation: RegistryOperation, action: &str) -> Result<()> {
        let reference = self.anything(repository);
        let answer = self.client.auth(&reference, &self.auth, operation).await;
        answer.map(drop).map_err(|error| translate(action, Object::Repository, error))
    }

    /// The blob's size and a stream of all of it.
    async fn whole(&self, repository: &Repository, digest: &Digest, action: &str) -> Result<(u64, ByteStream)> {
        self.introduce(repository, RegistryOperation::Pull, action).await?;
        let reference = self.digested(repository, digest);
        let got = self.client.pull_blob_stream(&reference, digest.to_string().as_str()).await;
        let stream = got.map_err(|error| translate(action, Object::Blob, error))?;
        let Some(size) = stream.content_length else {
            return Err(RegistryError::Protocol {
                action: action.into(),
                detail: "the registry does not say how large the blob is".into(),
            });
        };
        Ok((size, self.checked(repository, digest, stream.stream)))
    }

    /// The client's stream, with its errors as ours.
    fn checked(
        &self,
        repository: &Repository,
        digest: &Digest,
        stream: futures_util::stream::BoxStream<'static, std::io::Result<Bytes>>,
    ) -> ByteStream {
        let id = SourceId::new(format!("{}/{repository}@{digest}", self.host));
        let stream = stream.map(move |item| item.map_err(|error| error::of_stream(&id, &error)));
        stream.boxed()
    }

    fn name(&self, repository: &Repository, target: &Target) -> String {
        match target {
            Target::Tag(tag) => format!("{}/{repository}:{tag}", self.host),
            Target::Digest(digest) => format!("{}/{repository}@{digest}", self.host),
        }
    }

    /// A page of names, of which the client tells no more than that they came.
    fn page<T: fmt::Display>(names: Vec<T>, request: &PageRequest, wanted: usize) -> Page<T> {
        let mut names: Vec<T> = match &request.after {
            // Some registries answer every request with the whole list.
            Some(after) => names.into_iter().filter(|name| name.to_string() > *after).collect(),
            None => names,
        };
        names.sort_by_cached_key(ToString::to_string);
        names.truncate(wanted);
        // The registry may give fewer than asked for and have more: only an empty page is the end.
        let next = names.last().map(ToString::to_string);
        Page::new(names, next)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for OciClient {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        Ok(self.manifest(repository, target).await?.descriptor)
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        let action = format!("reading manifest {}", self.name(repository, target));
        let reference = self.reference(repository, target);
        let pulled = self.client.pull_manifest_raw(&reference, &self.auth, &ACCEPTED).await;
        let (bytes, said) = pulled.map_err(|error| translate(&action, Object::Manifest, error))?;
        let size = bytes.len() as u64;
        if size > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { action, size, limit: MAX_MANIFEST_BYTES });
        }
        let digest = match target {
            Target::Digest(digest) => *digest,
            Target::Tag(_) => said.parse().unwrap_or_else(|_| Digest::sha256_of(&bytes)),
        };
        if !digest.matches(&bytes) {
            let got = Digest::of(digest.algorithm(), &bytes);
            return Err(RegistryError::DigestMismatch { action, expected: digest, got });
        }
        let outline = Outline::parse(&bytes)
            .map_err(|error| RegistryError::detailed(&action, ErrorCode::ManifestInvalid, error.to_string()))?;
        let guess = if outline.manifests.is_empty() { media_type::IMAGE_MANIFEST } else { media_type::IMAGE_INDEX };
        let kind = outline.media_type.unwrap_or_else(|| guess.into());
        Ok(Manifest { descriptor: Descriptor::new(kind, digest, size), bytes })
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let action = format!("looking for blob {}/{repository}@{digest}", self.host);
        Ok(self.whole(repository, digest, &action).await?.0)
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        let action = format!("reading blob {}/{repository}@{digest}", self.host);
        let (size, stream) = self.whole(repository, digest, &action).await?;
        let range = range.unwrap_or(0..size);
        if range.start > range.end || range.end > size {
            let detail = format!("bytes {range:?} of {size}");
            return Err(RegistryError::detailed(action, ErrorCode::RangeInvalid, detail));
        }
        if range == (0..size) {
            return Ok(BlobReader { size, range, stream, ranged: true });
        }
        drop(stream);
        if range.is_empty() {
            return Ok(BlobReader { size, range, stream: futures_util::stream::empty().boxed(), ranged: true });
        }
        let reference = self.digested(repository, digest);
        let length = range.end - range.start;
        let text = digest.to_string();
        let got = self.client.pull_blob_stream_partial(&reference, text.as_str(), range.start, Some(length)).await;
        let stream = match got.map_err(|error| translate(&action, Object::Blob, error))? {
            oci_client::client::BlobResponse::Partial(part) => part.stream,
            oci_client::client::BlobResponse::Full(_) => {
                let detail = "the registry answers a range with the whole blob, which this client cannot cut".into();
                return Err(RegistryError::Protocol { action, detail });
            }
        };
        let stream = error::exactly(self.checked(repository, digest, stream), action, length);
        Ok(BlobReader { size, range, stream, ranged: true })
    }

    async fn local_blob(&self, _: &Repository, _: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        Ok(None)
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        let PushBlob { digest, source, .. } = &blob;
        let action = format!("pushing blob {}/{repository}@{digest}", self.host);
        self.introduce(repository, RegistryOperation::Push, &action).await?;
        let (reference, text) = (self.digested(repository, digest), digest.to_string());
        let tell = |event: &Event<'_>| match &blob.progress {
            Some((_, progress)) if progress.event(event).is_break() => {
                Err(RegistryError::Cancelled { action: action.clone() })
            }
            _ => Ok(()),
        };
        let (what, size) = (blob.progress.as_ref().map_or("", |(what, _)| what), source.size());
        let refuse = |error| translate(&action, Object::Blob, error);
        if !blob.known_absent && self.client.blob_exists(&reference, &text).await.map_err(refuse)? {
            tell(&Event::Existing { what, bytes: size })?;
            return Ok(PushedBlob::Existing);
        }
        for from in &blob.mount_from {
            let from = self.anything(from);
            if self.client.mount_blob(&reference, &from, &text).await.is_ok() {
                tell(&Event::Existing { what, bytes: size })?;
                return Ok(PushedBlob::Mounted);
            }
        }
        tell(&Event::Uploading { what, bytes: 0, bytes_total: size })?;
        if size <= MAX_WHOLE {
            let read = source.read(0..size).await;
            let bytes = read.map_err(|source| RegistryError::Source { action: action.clone(), source })?;
            if !digest.matches(&bytes) {
                let got = Digest::of(digest.algorithm(), &bytes);
                return Err(RegistryError::DigestMismatch { action, expected: *digest, got });
            }
            self.client.push_blob(&reference, bytes, &text).await.map_err(refuse)?;
        } else {
            let opened = source.open(0..size).await;
            let stream = opened.map_err(|source| RegistryError::Source { action: action.clone(), source })?;
            let stream = stream.map(|item| {
                item.map_err(|error: SourceError| OciDistributionError::IoError(std::io::Error::other(error)))
            });
            self.client.push_blob_stream(&reference, stream, &text, Some(size)).await.map_err(refuse)?;
        }
        tell(&Event::Uploading { what, bytes: size, bytes_total: size })?;
        Ok(PushedBlob::Uploaded)
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        Err(RegistryError::unsupported(format!("starting an upload to {}/{repository}", self.host)))
    }

    async fn resume_upload(&self, repository: &Repository, _: &UploadId) -> Result<Box<dyn Upload>> {
        Err(RegistryError::unsupported(format!("resuming an upload to {}/{repository}", self.host)))
    }

    /// Mounts, or is unsupported: where the registry opens a session instead, the client does not hand it out.
    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        let action = format!("mounting blob {}/{repository}@{digest}", self.host);
        let Some(from) = from else { return Err(RegistryError::unsupported(action)) };
        self.introduce(repository, RegistryOperation::Push, &action).await?;
        let (target, from) = (self.digested(repository, digest), self.anything(from));
        match self.client.mount_blob(&target, &from, &digest.to_string()).await {
            Ok(()) => Ok(Mount::Mounted),
            Err(OciDistributionError::SpecViolationError(_)) => Err(RegistryError::unsupported(action)),
            Err(error) => Err(translate(&action, Object::Blob, error)),
        }
    }

    async fn push_manifest(&self, repository: &Repository, manifest: PushManifest) -> Result<PushedManifest> {
        let action = format!("pushing manifest {}/{repository}@{}", self.host, manifest.digest);
        // A tag names the manifest by its SHA-256: it would point at something else.
        let misnamed = !manifest.tags.is_empty() && !matches!(manifest.digest, Digest::Sha256(_));
        if manifest.if_match.is_some() || misnamed {
            return Err(RegistryError::unsupported(action));
        }
        let size = manifest.bytes.len() as u64;
        if size > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { action, size, limit: MAX_MANIFEST_BYTES });
        }
        if !manifest.digest.matches(&manifest.bytes) {
            let got = Digest::of(manifest.digest.algorithm(), &manifest.bytes);
            return Err(RegistryError::DigestMismatch { action, expected: manifest.digest, got });
        }
        self.introduce(repository, RegistryOperation::Push, &action).await?;
        let kind = HeaderValue::from_str(&manifest.media_type)
            .map_err(|_| RegistryError::detailed(&action, ErrorCode::ManifestInvalid, "its media type is unusable"))?;
        let mut names: Vec<_> = manifest.tags.iter().map(|tag| self.tagged(repository, tag)).collect();
        if names.is_empty() {
            names.push(self.digested(repository, &manifest.digest));
        }
        for name in names {
            let pushed = self.client.push_manifest_raw(&name, manifest.bytes.clone(), kind.clone()).await;
            pushed.map_err(|error| translate(&action, Object::Manifest, error))?;
        }
        Ok(PushedManifest::new(manifest.digest, None))
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        Err(RegistryError::unsupported(format!("deleting manifest {}/{repository}@{digest}", self.host)))
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        Err(RegistryError::unsupported(format!("deleting blob {}/{repository}@{digest}", self.host)))
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        Err(RegistryError::unsupported(format!("deleting tag {}/{repository}:{tag}", self.host)))
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        let action = format!("listing the tags of {}/{repository}", self.host);
        let (wanted, after) = (page.limit.unwrap_or(PAGE).max(1), page.after.as_deref());
        let listed = self.client.list_tags(&self.anything(repository), &self.auth, Some(wanted), after).await;
        let listed = listed.map_err(|error| translate(&action, Object::Repository, error))?;
        let names = listed.tags.iter().filter_map(|name| Tag::new(name).ok()).collect();
        Ok(Self::page(names, page, wanted))
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let action = format!("listing the referrers of {}/{repository}@{subject}", self.host);
        if !self.whole_referrers {
            return Err(RegistryError::unsupported(action));
        }
        self.introduce(repository, RegistryOperation::Pull, &action).await?;
        let found = self.client.pull_referrers(&self.digested(repository, subject), artifact_type).await;
        let found = found.map_err(|error| translate(&action, Object::Manifest, error))?;
        let value = serde_json::to_value(found.manifests);
        let all = value.and_then(serde_json::from_value::<Vec<Descriptor>>);
        let mut all = all.map_err(|_| RegistryError::Protocol {
            action: action.clone(),
            detail: "the list of referrers names something that is no manifest".into(),
        })?;
        all.retain(|entry| artifact_type.is_none_or(|kind| entry.artifact_type.as_deref() == Some(kind)));
        let skip = page.after.as_deref().map_or(Ok(0), str::parse::<usize>);
        let skip = skip.map_err(|_| RegistryError::Protocol {
            action,
            detail: "the continuation token is not one of this list".into(),
        })?;
        let wanted = page.limit.unwrap_or(usize::MAX).max(1);
        let end = skip.saturating_add(wanted).min(all.len());
        let next = (end < all.len()).then(|| end.to_string());
        Ok(Page::new(all.into_iter().take(end).skip(skip).collect(), next))
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        let action = format!("listing the repositories of {}", self.host);
        let reference = Reference::with_tag(self.host.clone(), "none".into(), "latest".into());
        let (wanted, after) = (page.limit.unwrap_or(PAGE).max(1), page.after.as_deref());
        let listed = self.client.catalog(&reference, &self.auth, Some(wanted), after).await;
        let listed = listed.map_err(|error| translate(&action, Object::Repository, error))?;
        let names = listed.repositories.iter().filter_map(|name| Repository::new(name).ok()).collect();
        Ok(Self::page(names, page, wanted))
    }
}

impl fmt::Debug for OciClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OciClient").field("host", &self.host).finish_non_exhaustive()
    }
}
