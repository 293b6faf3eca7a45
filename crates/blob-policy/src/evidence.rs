//! What others say about a manifest: its referrers, checked and bounded.

#[cfg(feature = "sigstore")]
mod bundles;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blob_core::{ByteSourceExt as _, Digest};
use blob_registry::{
    BlobSource, Descriptor, MAX_MANIFEST_BYTES, Outline, PageRequest, Registry, RegistryError, Repository, Tag, Target,
    media_type,
};
use bytes::Bytes;

use crate::error::EvidenceError;

#[cfg(feature = "sigstore")]
pub use bundles::BundleEvidence;

/// Hands out evidence about one manifest.
#[async_trait]
pub trait Evidence: Debug + Send + Sync {
    /// The manifests that refer to the subject, optionally of one artifact type. Each was read, has its digest, and
    /// names the subject as its own.
    async fn referrers(&self, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError>;

    /// Content of at most `max_bytes`, with the digest that `descriptor` names.
    async fn fetch(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Bytes, EvidenceError>;

    /// The digest of what is tagged `sha256-….sig`, where cosign put signatures before there were referrers. It is a
    /// hint for people: nothing about it was checked. `None` where there is none, or nobody looked.
    async fn legacy_signature(&self) -> Result<Option<Digest>, EvidenceError> {
        Ok(None)
    }
}

/// No evidence at all: for local archives, and policies that look at the manifest alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvidence;

#[async_trait]
impl Evidence for NoEvidence {
    async fn referrers(&self, _: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        Ok(Vec::new())
    }

    async fn fetch(&self, descriptor: &Descriptor, _: u64) -> Result<Bytes, EvidenceError> {
        let source = RegistryError::unsupported(format!("reading {} without a registry", descriptor.digest));
        Err(EvidenceError::Registry { subject: descriptor.digest, source })
    }
}

/// How much evidence is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EvidenceLimits {
    /// Referrers of one subject and kind: 256 by default. More is an error, so that none can hide behind the others.
    pub max_referrers: usize,
    /// Pages of the list of referrers: 64 by default.
    pub max_pages: usize,
    /// Bytes of a manifest that refers to the subject: 64 KiB by default. Larger ones are passed over, and not read.
    pub max_referrer_bytes: u64,
    /// Bytes of all manifests of one list: 8 MiB by default. More is an error.
    pub max_total_bytes: u64,
}

impl Default for EvidenceLimits {
    fn default() -> Self {
        Self { max_referrers: 256, max_pages: 64, max_referrer_bytes: 64 << 10, max_total_bytes: 8 << 20 }
    }
}

/// The evidence that a registry holds.
#[derive(Clone, Debug)]
pub struct RegistryEvidence {
    registry: Arc<dyn Registry>,
    repository: Repository,
    subject: Digest,
    limits: EvidenceLimits,
    /// What was read already, so that several policies cost no second request.
    kept: Arc<Mutex<Kept>>,
}

/// Lists of referrers by artifact type, and small content by digest.
#[derive(Debug, Default)]
struct Kept {
    lists: HashMap<Option<String>, Vec<Descriptor>>,
    contents: HashMap<Digest, Bytes>,
    bytes: usize,
}

impl Kept {
    fn add(&mut self, digest: Digest, bytes: Bytes) {
        if bytes.len() <= MAX_KEPT_BYTES && self.bytes + bytes.len() <= MAX_KEPT_TOTAL {
            self.bytes += bytes.len();
            self.contents.insert(digest, bytes);
        }
    }
}

/// Larger content is read again rather than kept.
const MAX_KEPT_BYTES: usize = 64 << 10;
/// What is kept of the evidence about one subject: 8 MiB.
const MAX_KEPT_TOTAL: usize = 8 << 20;

impl RegistryEvidence {
    /// The evidence in `repository` about the manifest `subject`.
    pub fn new(registry: Arc<dyn Registry>, repository: Repository, subject: Digest, limits: EvidenceLimits) -> Self {
        Self { registry, repository, subject, limits, kept: Arc::default() }
    }

    fn failed(&self, source: RegistryError) -> EvidenceError {
        EvidenceError::Registry { subject: self.subject, source }
    }

    /// A panic elsewhere leaves it as it was.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self, what: String) -> EvidenceError {
        EvidenceError::Limit { subject: self.subject, what }
    }

    async fn listed(&self, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        let (mut found, mut request) = (Vec::new(), PageRequest::first());
        for _ in 0..self.limits.max_pages {
            let page = self.registry.referrers(&self.repository, &self.subject, artifact_type, &request).await;
            let page = page.map_err(|source| self.failed(source))?;
            found.extend(page.items);
            if found.len() > self.limits.max_referrers {
                return Err(self.over(format!("more than {} referrers", self.limits.max_referrers)));
            }
            match page.next {
                Some(next) => request = PageRequest::first().after(next),
                None => return Ok(found),
            }
        }
        Err(self.over(format!("more than {} pages of referrers", self.limits.max_pages)))
    }

    /// Whether the manifest that `listed` names says of itself that it refers to our subject.
    async fn is_ours(&self, listed: &Descriptor) -> Result<bool, EvidenceError> {
        let target = Target::Digest(listed.digest);
        let manifest = match self.registry.manifest(&self.repository, &target).await {
            Ok(manifest) => manifest,
            // A list may lag behind deletions: what is gone is no evidence.
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(self.failed(error)),
        };
        // What was counted is what is read.
        if manifest.bytes.len() as u64 != listed.size {
            let (size, got) = (listed.size, manifest.bytes.len());
            return Err(self.over(format!("{} is listed with {size} bytes, and has {got}", listed.digest)));
        }
        let subject = Outline::parse(&manifest.bytes).ok().and_then(|outline| outline.subject);
        let ours = subject.is_some_and(|subject| subject.digest == self.subject);
        if ours {
            self.kept().add(listed.digest, manifest.bytes);
        }
        Ok(ours)
    }
}

#[async_trait]
impl Evidence for RegistryEvidence {
    async fn referrers(&self, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        let kind = artifact_type.map(str::to_owned);
        if let Some(known) = self.kept().lists.get(&kind) {
            return Ok(known.clone());
        }
        let (mut ours, mut bytes) = (Vec::new(), 0_u64);
        for descriptor in self.listed(artifact_type).await? {
            if descriptor.size > self.limits.max_referrer_bytes {
                let (digest, size) = (descriptor.digest, descriptor.size);
                tracing::warn!(%digest, size, subject = %self.subject, "listed referrer is too large to be read");
                continue;
            }
            bytes = bytes.saturating_add(descriptor.size);
            if bytes > self.limits.max_total_bytes {
                return Err(self.over(format!("referrers of {} bytes", self.limits.max_total_bytes)));
            }
            if self.is_ours(&descriptor).await? {
                ours.push(descriptor);
            } else {
                tracing::warn!(digest = %descriptor.digest, subject = %self.subject, "listed referrer has another subject");
            }
        }
        self.kept().lists.insert(kind, ours.clone());
        Ok(ours)
    }

    async fn fetch(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Bytes, EvidenceError> {
        if descriptor.size > max_bytes {
            return Err(self.over(format!("{} has {} bytes, of {max_bytes}", descriptor.digest, descriptor.size)));
        }
        let (registry, repository, digest) = (&self.registry, &self.repository, &descriptor.digest);
        if let Some(bytes) = self.kept().contents.get(digest).filter(|bytes| bytes.len() as u64 <= max_bytes) {
            return Ok(bytes.clone());
        }
        if media_type::is_manifest(&descriptor.media_type) {
            let limit = max_bytes.min(MAX_MANIFEST_BYTES);
            let manifest = registry.manifest(repository, &Target::Digest(*digest)).await;
            let bytes = manifest.map_err(|source| self.failed(source))?.bytes;
            return if bytes.len() as u64 > limit { Err(self.over(format!("{limit} bytes"))) } else { Ok(bytes) };
        }
        let source = BlobSource::new(Arc::clone(registry), repository.clone(), *digest, descriptor.size);
        let read = source.read(0..descriptor.size).await;
        let action = || format!("reading {repository}@{digest}");
        let bytes = read.map_err(|source| self.failed(RegistryError::Source { action: action(), source }))?;
        let got = Digest::of(digest.algorithm(), &bytes);
        if got == *digest {
            self.kept().add(*digest, bytes.clone());
            return Ok(bytes);
        }
        Err(self.failed(RegistryError::DigestMismatch { action: action(), expected: *digest, got }))
    }

    async fn legacy_signature(&self) -> Result<Option<Digest>, EvidenceError> {
        let name = format!("{}-{}.sig", self.subject.algorithm().name(), self.subject.hex());
        // A digest too long for a tag was never signed this way.
        let Ok(tag) = Tag::new(&name) else { return Ok(None) };
        match self.registry.resolve(&self.repository, &Target::Tag(tag)).await {
            Ok(descriptor) => Ok(Some(descriptor.digest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }
}
