//! Evidence that outlives the connection: what a registry listed and held about a manifest, kept in the caches for clients
//! that are offline.
//!
//! No verdict is kept here. Offline everything is judged anew, by the policies of that time; contents are found by their
//! digests, and each manifest must name the subject as its own. Only *which* manifests refer to the subject is believed as
//! the registry said it when it was last asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use blob_cache::TagEntry;
use blob_core::Digest;
#[cfg(feature = "trust")]
use blob_policy::BundleReferrers;
use blob_policy::{Evidence, EvidenceError, EvidenceLimits, RegistryEvidence};
use blob_registry::{Descriptor, MAX_MANIFEST_BYTES, Outline, Registry, Repository, media_type};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::caches::{Caches, load, store};
use crate::client::Client;
use crate::location::Location;

/// Bytes of a list that is kept; one of as many referrers as are looked at has less.
const MAX_LIST_BYTES: u64 = 1 << 20;
/// The name of the list of those who may carry bundles.
#[cfg(feature = "trust")]
const BUNDLES: &str = "bundles";

/// The evidence in a repository about one manifest: asked for, or, offline, as it was kept.
#[derive(Debug)]
pub(crate) struct HeldEvidence {
    asked: RegistryEvidence,
    kept: Option<Kept>,
}

/// Where it is kept.
#[derive(Debug)]
struct Kept {
    caches: Caches,
    subject: Digest,
    /// The repository, as keys of the cache name it.
    repository: String,
    limits: EvidenceLimits,
    offline: bool,
    /// When the list that was answered from the cache was asked for; the oldest, if there were several.
    listed_at: Mutex<Option<SystemTime>>,
}

/// A list as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    subject: String,
    name: String,
    referrers: Vec<Descriptor>,
}

impl HeldEvidence {
    /// The evidence about the manifest `subject` in `repository` of `registry`, which is where `location` is.
    pub(crate) fn new(
        client: &Client,
        location: &Location,
        (registry, repository): (&Arc<dyn Registry>, &Repository),
        subject: Digest,
    ) -> Self {
        let limits = client.limits().evidence;
        let kept = location.reference().map(|reference| Kept {
            caches: client.caches().clone(),
            subject,
            repository: format!("{}/{}", reference.host(), reference.repository()),
            limits,
            offline: client.is_offline(),
            listed_at: Mutex::default(),
        });
        // Both are needed: a list is found by its name, and what it lists by digest.
        let kept = kept.filter(|kept| kept.caches.tags.is_some() && kept.caches.manifests.is_some());
        Self { asked: RegistryEvidence::new(Arc::clone(registry), repository.clone(), subject, limits), kept }
    }

    /// When the registry listed what was taken from the cache; `None` if nothing was.
    pub(crate) fn listed_at(&self) -> Option<SystemTime> {
        *self.kept.as_ref()?.listed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cache, if nobody else can be asked.
    fn offline(&self) -> Option<&Kept> {
        self.kept.as_ref().filter(|kept| kept.offline)
    }

    /// Keeps what the registry listed as `name`, and the manifests in the list, for those who are offline later.
    async fn remember(&self, name: &str, referrers: &[Descriptor], asked_at: SystemTime) {
        let Some(kept) = &self.kept else { return };
        for referrer in referrers {
            // They were read a moment ago, and are in memory.
            if let Ok(bytes) = self.asked.fetch(referrer, kept.limits.max_referrer_bytes).await {
                store(kept.caches.manifests.as_ref(), &referrer.digest, &bytes).await;
            }
        }
        let list = List { subject: kept.subject.to_string(), name: name.into(), referrers: referrers.to_vec() };
        let (Ok(bytes), Some(tags)) = (serde_json::to_vec(&list).map(Bytes::from), &kept.caches.tags) else { return };
        // The list from before counts no more, whether or not this one can be kept.
        kept.forget(name).await;
        if bytes.len() as u64 > MAX_LIST_BYTES {
            return;
        }
        let digest = Digest::sha256_of(&bytes);
        store(kept.caches.manifests.as_ref(), &digest, &bytes).await;
        let entry = TagEntry { digest, resolved_at: asked_at };
        if let Err(error) = tags.put(&kept.key(name), &entry).await {
            tracing::debug!("a list of referrers was not kept: {error}");
        }
    }

    /// Forgets who may carry bundles, since there is one more: what is missing is told offline, and what is old is not.
    #[cfg(feature = "sign")]
    pub(crate) async fn forget_bundles(&self) {
        if let Some(kept) = &self.kept {
            kept.forget(BUNDLES).await;
        }
    }
}

impl Kept {
    /// What a list is found by in the cache for tags. It has blanks, which no reference has.
    fn key(&self, name: &str) -> String {
        format!("{name} about {}@{}", self.repository, self.subject)
    }

    async fn forget(&self, name: &str) {
        if let Some(tags) = &self.caches.tags
            && let Err(error) = tags.remove(&self.key(name)).await
        {
            tracing::debug!("a list of referrers was not forgotten: {error}");
        }
    }

    fn missing(&self, missing: impl Into<String>) -> EvidenceError {
        EvidenceError::Offline { subject: self.subject, missing: missing.into() }
    }

    /// Content of at most `limit` bytes, as it was kept; the cache is not believed what it is.
    async fn content(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes, EvidenceError> {
        let (digest, size) = (descriptor.digest, descriptor.size);
        if size > limit {
            let what = format!("{digest} has {size} bytes, of {limit}");
            return Err(EvidenceError::Limit { subject: self.subject, what });
        }
        // The size is what a stranger says: what has another one may be right for everybody else, and stays.
        let found = load(self.caches.manifests.as_ref(), &digest, limit.max(MAX_MANIFEST_BYTES)).await;
        found.filter(|bytes| bytes.len() as u64 == size).ok_or_else(|| self.missing(digest.to_string()))
    }

    /// The referrers that were listed as `name`, each of which is here and refers to the subject.
    async fn list(&self, name: &str) -> Result<Vec<Descriptor>, EvidenceError> {
        let missing = || self.missing("list of referrers");
        let tags = self.caches.tags.as_ref().ok_or_else(missing)?;
        // Nobody asked in the future, whatever the cache says.
        let known = tags.get(&self.key(name)).await.ok().flatten().filter(|e| e.resolved_at <= SystemTime::now());
        let TagEntry { digest, resolved_at } = known.ok_or_else(missing)?;
        let bytes = load(self.caches.manifests.as_ref(), &digest, MAX_LIST_BYTES).await.ok_or_else(missing)?;
        let list: List = serde_json::from_slice(&bytes).map_err(|_| missing())?;
        if list.subject != self.subject.to_string() || list.name != name {
            return Err(missing());
        }
        let most = self.limits;
        let total = list.referrers.iter().map(|listed| listed.size).fold(0, u64::saturating_add);
        if list.referrers.len() > most.max_referrers || total > most.max_total_bytes {
            let what = format!("{} referrers of {total} bytes in the cache", list.referrers.len());
            return Err(EvidenceError::Limit { subject: self.subject, what });
        }
        let mut ours = Vec::new();
        for listed in list.referrers {
            let bytes = self.content(&listed, most.max_referrer_bytes).await?;
            let outline = Outline::parse(&bytes).unwrap_or_default();
            if outline.subject.is_some_and(|subject| subject.digest == self.subject) {
                ours.push(listed);
            } else {
                tracing::warn!(digest = %listed.digest, subject = %self.subject, "kept referrer has another subject");
            }
        }
        self.say(resolved_at);
        Ok(ours)
    }

    fn say(&self, listed_at: SystemTime) {
        let mut known = self.listed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let at = jiff::Timestamp::try_from(listed_at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            tracing::info!(subject = %self.subject, "the evidence is from the cache, as listed at {at:.0}");
        }
        *known = Some(known.map_or(listed_at, |known| known.min(listed_at)));
    }
}

#[async_trait]
impl Evidence for HeldEvidence {
    async fn referrers(&self, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, EvidenceError> {
        let name = artifact_type.map_or_else(|| "referrers".to_owned(), |kind| format!("referrers of type {kind}"));
        if let Some(kept) = self.offline() {
            return kept.list(&name).await;
        }
        let asked_at = SystemTime::now();
        let found = self.asked.referrers(artifact_type).await?;
        self.remember(&name, &found, asked_at).await;
        Ok(found)
    }

    async fn fetch(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Bytes, EvidenceError> {
        if let Some(kept) = self.offline() {
            return kept.content(descriptor, max_bytes).await;
        }
        let bytes = self.asked.fetch(descriptor, max_bytes).await?;
        // Manifests were kept when they were listed.
        if let Some(kept) = self.kept.as_ref().filter(|_| !media_type::is_manifest(&descriptor.media_type)) {
            store(kept.caches.manifests.as_ref(), &descriptor.digest, &bytes).await;
        }
        Ok(bytes)
    }

    #[cfg(feature = "trust")]
    async fn bundles(&self) -> Result<BundleReferrers, EvidenceError> {
        if let Some(kept) = self.offline() {
            return Ok(BundleReferrers { referrers: kept.list(BUNDLES).await?, passed_over: Vec::new() });
        }
        let asked_at = SystemTime::now();
        let found = self.asked.bundles().await?;
        self.remember(BUNDLES, &found.referrers, asked_at).await;
        Ok(found)
    }

    /// Offline nobody looked.
    async fn legacy_signature(&self) -> Result<Option<Digest>, EvidenceError> {
        match self.offline() {
            Some(_) => Ok(None),
            None => self.asked.legacy_signature().await,
        }
    }
}
