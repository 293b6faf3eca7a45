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
use crate::sigstore::{Refused, is_bundle_media_type};

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

    /// The manifests that refer to the subject and may carry bundles: those listed with the artifact type of bundles, in
    /// either spelling of any version, and those listed without a type. Listed once, whatever the number of types; and what
    /// was listed and cannot be evidence is said.
    #[cfg(feature = "sigstore")]
    async fn bundles(&self) -> Result<BundleReferrers, EvidenceError> {
        let mut referrers = self.referrers(None).await?;
        referrers.retain(may_carry_bundles);
        Ok(BundleReferrers { referrers, passed_over: Vec::new() })
    }

    /// The digest of what is tagged `sha256-….sig`, where cosign put signatures before there were referrers. It is a
    /// hint for people: nothing about it was checked. `None` where there is none, or nobody looked.
    async fn legacy_signature(&self) -> Result<Option<Digest>, EvidenceError> {
        Ok(None)
    }
}

/// Who refers to a subject with bundles.
#[cfg(feature = "sigstore")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BundleReferrers {
    /// The manifests, in the order of the list.
    pub referrers: Vec<Descriptor>,
    /// What was listed and is no evidence, with the reason for each.
    pub passed_over: Vec<Refused>,
}

/// Whether a list has it as something that carries bundles, or does not say what it is.
#[cfg(feature = "sigstore")]
fn may_carry_bundles(listed: &Descriptor) -> bool {
    listed.artifact_type.as_deref().is_none_or(is_bundle_media_type)
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
    /// Bytes of a manifest that refers to the subject: 64 KiB by default. Larger ones are not read, and refusals name them.
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
    #[cfg(feature = "sigstore")]
    bundles: Option<BundleReferrers>,
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

/// What refers to a subject, each with what it says of itself; and what was listed and does not count, with the reason.
type Read = (Vec<(Descriptor, Outline)>, Vec<(Digest, String)>);

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

    /// What is listed and `wanted`; only that counts against the number of referrers.
    async fn listed(
        &self,
        artifact_type: Option<&str>,
        wanted: fn(&Descriptor) -> bool,
    ) -> Result<Vec<Descriptor>, EvidenceError> {
        let (mut found, mut request) = (Vec::new(), PageRequest::first());
        for _ in 0..self.limits.max_pages {
            let page = self.registry.referrers(&self.repository, &self.subject, artifact_type, &request).await;
            let page = page.map_err(|source| self.failed(source))?;
            found.extend(page.items.into_iter().filter(wanted));
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

    /// What the manifest that `listed` names says of itself; `None` if it is gone.
    async fn outline(&self, listed: &Descriptor) -> Result<Option<Outline>, EvidenceError> {
        let target = Target::Digest(listed.digest);
        let manifest = match self.registry.manifest(&self.repository, &target).await {
            Ok(manifest) => manifest,
            // A list may lag behind deletions: what is gone is no evidence.
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        // What was counted is what is read.
        if manifest.bytes.len() as u64 != listed.size {
            let (size, got) = (listed.size, manifest.bytes.len());
            return Err(self.over(format!("{} is listed with {size} bytes, and has {got}", listed.digest)));
        }
        let outline = Outline::parse(&manifest.bytes).unwrap_or_default();
        if outline.subject.as_ref().is_some_and(|subject| subject.digest == self.subject) {
            self.kept().add(listed.digest, manifest.bytes);
        }
        Ok(Some(outline))
    }

    /// Reads what is listed: what refers to our subject, each with what it says of itself, and why others do not count.
    async fn read(&self, listed: Vec<Descriptor>) -> Result<Read, EvidenceError> {
        let (mut ours, mut passed_over, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
        for descriptor in listed {
            let (digest, size, limit) = (descriptor.digest, descriptor.size, self.limits.max_referrer_bytes);
            if size > limit {
                tracing::warn!(%digest, size, subject = %self.subject, "listed referrer is too large to be read");
                passed_over.push((digest, format!("a manifest of {size} bytes, of {limit}, was not read")));
                continue;
            }
            bytes = bytes.saturating_add(size);
            if bytes > self.limits.max_total_bytes {
                return Err(self.over(format!("referrers of {} bytes", self.limits.max_total_bytes)));
            }
            match self.outline(&descriptor).await? {
                Some(outline) if outline.subject.as_ref().is_some_and(|subject| subject.digest == self.subject) => {
                    ours.push((descriptor, outline));
                }
                Some(_) => {
                    tracing::warn!(%digest, subject = %self.subject, "listed referrer has another subject");
                    passed_over.push((digest, "it is listed here, and does not refer to this manifest".into()));
                }
                None => passed_over.push((digest, "it is listed, and not there".into())),
            }
        }
        Ok((ours, passed_over))
    }
}

#[async_trait]
impl Evidence for RegistryEvidence {
    async fn referrers(&self, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        let kind = artifact_type.map(str::to_owned);
        if let Some(known) = self.kept().lists.get(&kind) {
            return Ok(known.clone());
        }
        let (ours, _) = self.read(self.listed(artifact_type, |_| true).await?).await?;
        let ours: Vec<_> = ours.into_iter().map(|(descriptor, _)| descriptor).collect();
        self.kept().lists.insert(kind, ours.clone());
        Ok(ours)
    }

    /// Asks for the whole list once: the types are told apart here, before anything that is listed is read.
    #[cfg(feature = "sigstore")]
    async fn bundles(&self) -> Result<BundleReferrers, EvidenceError> {
        if let Some(known) = &self.kept().bundles {
            return Ok(known.clone());
        }
        let (mut ours, passed_over) = self.read(self.listed(None, may_carry_bundles).await?).await?;
        // What the list did not say, the manifest does.
        ours.retain(|(listed, outline)| {
            listed.artifact_type.is_some() || outline.artifact_type.as_deref().is_some_and(is_bundle_media_type)
        });
        let referrers = ours.into_iter().map(|(descriptor, _)| descriptor).collect();
        let refused = |(digest, reason)| Refused { referrer: Some(digest), bundle: None, reason };
        let passed_over = passed_over.into_iter().map(refused).collect();
        let found = BundleReferrers { referrers, passed_over };
        self.kept().bundles = Some(found.clone());
        Ok(found)
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
