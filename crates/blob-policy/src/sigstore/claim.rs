//! What is known for sure about a manifest: every bundle about it, verified once.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use blob_core::Digest;
use blob_registry::{Descriptor, ImageManifest, media_type};

use super::BundleError;
use super::bundle::{Bundle, MAX_BUNDLE_BYTES, is_bundle_media_type};
use super::key::KeyRing;
use super::signer::Signer;
use super::trust::TrustRoot;
use super::verify::{Artifact, Thresholds, VerifiedBundle, verify_with_certificate, verify_with_certificate_at};
use crate::error::{EvidenceError, chain};
use crate::policy::Subject;

/// Layers of one referrer that are looked at.
const MAX_LAYERS: usize = 8;

/// Characters of a reason that are kept.
const MAX_REASON: usize = 500;

/// Bytes of a manifest that carries bundles.
const MAX_REFERRER_BYTES: u64 = 64 << 10;

/// What bundles are verified against.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trust {
    /// Certificates of the authorities in this root, with a log entry.
    Certificates(TrustRoot),
    /// Certificates of the authorities in this root, with as much evidence as this.
    CertificatesAt(TrustRoot, Thresholds),
    /// Managed keys, with as much evidence as this by logs and authorities of the root.
    KeysAt(TrustRoot, Arc<KeyRing>, Thresholds),
    /// Managed keys, with an entry in a log of this root.
    LoggedKeys(TrustRoot, Arc<KeyRing>),
    /// Managed keys, and nobody else: who holds a key can sign in secret and at any time claimed.
    UnloggedKeys(Arc<KeyRing>),
}

/// How many bundles are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SigstoreLimits {
    /// Bundles about one manifest: 64 by default.
    pub max_bundles: usize,
    /// Bytes of one bundle: [`MAX_BUNDLE_BYTES`] by default and at most.
    pub max_bundle_bytes: u64,
    /// Bytes of all bundles about one manifest: 32 MiB by default.
    pub max_total_bytes: u64,
}

impl Default for SigstoreLimits {
    fn default() -> Self {
        Self { max_bundles: 64, max_bundle_bytes: MAX_BUNDLE_BYTES, max_total_bytes: 32 << 20 }
    }
}

/// A verified bundle about our manifest, and where it was found.
#[derive(Clone, Debug)]
pub struct VerifiedClaim {
    referrer: Digest,
    bundle: Digest,
    verified: VerifiedBundle,
}

impl VerifiedClaim {
    /// The manifest that carries the bundle.
    pub fn referrer(&self) -> &Digest {
        &self.referrer
    }

    /// The bundle.
    pub fn bundle(&self) -> &Digest {
        &self.bundle
    }

    /// What it proved.
    pub fn verified(&self) -> &VerifiedBundle {
        &self.verified
    }

    /// Who signed it.
    pub fn signer(&self) -> &Signer {
        self.verified.signer()
    }
}

/// Something that was found and does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The manifest that refers to the subject, if it is known.
    pub referrer: Option<Digest>,
    /// The bundle, where one was looked at.
    pub bundle: Option<Digest>,
    /// Why it does not count.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(referrer) = &self.referrer {
            write!(f, "{referrer}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Everything that was found about a manifest, judged by [`Trust`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Claims {
    /// What verified.
    pub verified: Vec<VerifiedClaim>,
    /// What did not, and what cannot be evidence at all.
    pub refused: Vec<Refused>,
    /// What could not be read; other bundles may still suffice.
    pub unread: Option<Arc<EvidenceError>>,
}

impl Claims {
    /// Verifies every bundle about `subject`, within `limits`.
    ///
    /// # Errors
    /// [`EvidenceError`] when the list of referrers cannot be had. A single one that cannot is in [`Claims::unread`].
    pub async fn collect(subject: &Subject<'_>, trust: &Trust, limits: &SigstoreLimits) -> Result<Self, EvidenceError> {
        let mut collector =
            Collector { subject, trust, limits, claims: Self::default(), bundles: 0, bytes: 0, full: false };
        let found = subject.evidence().bundles().await?;
        collector.claims.refused.extend(found.passed_over);
        for referrer in found.referrers {
            collector.referrer(&referrer).await;
            if collector.full {
                break;
            }
        }
        Ok(collector.claims)
    }

    /// As [`collect`](Self::collect), but what another policy collected for the same subject, trust and limits is taken as
    /// it is, and so is its failure: policies that are asked one after the other wait for a registry once.
    ///
    /// # Errors
    /// As [`collect`](Self::collect), as [`EvidenceError::Shared`].
    pub async fn of(subject: &Subject<'_>, trust: &Trust, limits: &SigstoreLimits) -> Result<Arc<Self>, EvidenceError> {
        let key = format!("{} {limits:?}", trust.fingerprint());
        let known = |kept: &[Kept]| Some(kept.iter().find(|entry| entry.0 == key)?.1.clone());
        if let Some(known) = known(&subject.memo().lock()) {
            return known.map_err(EvidenceError::Shared);
        }
        // Whether there is a list at all depends on no trust.
        if let Some(failed) = subject.memo().lock().iter().find_map(|entry| entry.1.as_ref().err().cloned()) {
            return Err(EvidenceError::Shared(failed));
        }
        let collected = Self::collect(subject, trust, limits).await.map(Arc::new).map_err(Arc::new);
        subject.memo().lock().push((key, collected.clone()));
        collected.map_err(EvidenceError::Shared)
    }
}

/// By what was asked for: what was verified, or why nothing could be.
type Kept = (String, Result<Arc<Claims>, Arc<EvidenceError>>);

/// What was verified about one subject, for each kind of trust that policies asked with.
#[derive(Debug, Default)]
pub(crate) struct ClaimsMemo(Mutex<Vec<Kept>>);

impl ClaimsMemo {
    /// A panic elsewhere leaves the list as it was.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets others of the same thread have their turn: one bundle may take milliseconds to verify, and there may be many.
async fn others_first() {
    let mut had_theirs = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut had_theirs, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Collector<'a> {
    subject: &'a Subject<'a>,
    trust: &'a Trust,
    limits: &'a SigstoreLimits,
    claims: Claims,
    bundles: usize,
    bytes: u64,
    full: bool,
}

impl Collector<'_> {
    async fn referrer(&mut self, referrer: &Descriptor) {
        let name = referrer.digest;
        if referrer.media_type != media_type::IMAGE_MANIFEST {
            return self.refuse(name, None, format!("a referrer of type {:.200?}", referrer.media_type));
        }
        if referrer.size > MAX_REFERRER_BYTES {
            return self.refuse(name, None, format!("a manifest of {} bytes, of {MAX_REFERRER_BYTES}", referrer.size));
        }
        self.bytes = self.bytes.saturating_add(referrer.size);
        let bytes = match self.subject.evidence().fetch(referrer, MAX_REFERRER_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) => return self.unread(name, None, error),
        };
        let manifest = match ImageManifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => return self.refuse(name, None, error.to_string()),
        };
        if manifest.layers.is_empty() || manifest.layers.len() > MAX_LAYERS {
            return self.refuse(name, None, format!("{} layers, of 1 to {MAX_LAYERS}", manifest.layers.len()));
        }
        for layer in &manifest.layers {
            if self.full {
                return;
            }
            if is_bundle_media_type(&layer.media_type) {
                self.layer(name, layer).await;
            } else {
                self.refuse(name, Some(layer.digest), format!("a layer of type {:.200?}", layer.media_type));
            }
        }
    }

    async fn layer(&mut self, referrer: Digest, layer: &Descriptor) {
        let limit = self.limits.max_bundle_bytes.min(MAX_BUNDLE_BYTES);
        if layer.size > limit {
            let error = BundleError::TooLarge { limit, got: layer.size };
            return self.refuse(referrer, Some(layer.digest), error.to_string());
        }
        (self.bundles, self.bytes) = (self.bundles + 1, self.bytes.saturating_add(layer.size));
        if self.bundles > self.limits.max_bundles || self.bytes > self.limits.max_total_bytes {
            self.full = true;
            let what = format!("{} bundles and {} bytes", self.limits.max_bundles, self.limits.max_total_bytes);
            let subject = self.subject.descriptor().digest;
            return self.unread(referrer, Some(layer.digest), EvidenceError::Limit { subject, what });
        }
        let bytes = match self.subject.evidence().fetch(layer, limit).await {
            Ok(bytes) => bytes,
            Err(error) => return self.unread(referrer, Some(layer.digest), error),
        };
        others_first().await;
        let artifact = Artifact::Content(self.subject.bytes());
        match Bundle::parse(&bytes).and_then(|bundle| self.trust.verify(&bundle, artifact)) {
            Ok(verified) => self.claims.verified.push(VerifiedClaim { referrer, bundle: layer.digest, verified }),
            Err(error) => self.refuse(referrer, Some(layer.digest), error.reason()),
        }
    }

    /// Much of a reason may be what somebody wrote into a bundle: people read the beginning.
    fn refuse(&mut self, referrer: Digest, bundle: Option<Digest>, mut reason: String) {
        if let Some((end, _)) = reason.char_indices().nth(MAX_REASON) {
            reason.truncate(end);
            reason.push('…');
        }
        self.claims.refused.push(Refused { referrer: Some(referrer), bundle, reason });
    }

    /// The first failure is kept as it is: it is the one that the others, which are told by their texts, follow from.
    fn unread(&mut self, referrer: Digest, bundle: Option<Digest>, error: EvidenceError) {
        match &error {
            EvidenceError::Registry { source, .. } if source.is_not_found() => {
                self.refuse(referrer, bundle, format!("gone: {source}"));
            }
            _ if self.claims.unread.is_some() => self.refuse(referrer, bundle, chain(&error)),
            _ => self.claims.unread = Some(Arc::new(error)),
        }
    }
}

impl Trust {
    /// The digest of everything that verification depends on: authorities, logs, and keys with their times.
    pub fn fingerprint(&self) -> Digest {
        let mut text = String::new();
        let (kind, root, keys) = match self {
            Self::Certificates(root) | Self::CertificatesAt(root, _) => ("certificates", Some(root), None),
            Self::LoggedKeys(root, keys) | Self::KeysAt(root, keys, _) => ("logged keys", Some(root), Some(keys)),
            Self::UnloggedKeys(keys) => ("keys", None, Some(keys)),
        };
        let _ = write!(text, "{kind}");
        if let Self::CertificatesAt(_, thresholds) | Self::KeysAt(_, _, thresholds) = self {
            let _ = write!(text, " {thresholds:?}");
        }
        if let Some(root) = root {
            let _ = write!(text, " root {}", root.digest());
        }
        for key in keys.into_iter().flat_map(|keys| keys.keys()) {
            let _ = write!(text, " key {} {:?} {:?}", key.key.id(), key.not_before, key.not_after);
        }
        Digest::sha256_of(text.as_bytes())
    }

    /// Verifies one bundle about `artifact`, wherever it came from.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn verify(&self, bundle: &Bundle, artifact: Artifact<'_>) -> Result<VerifiedBundle, BundleError> {
        match self {
            Self::Certificates(root) => verify_with_certificate(root, bundle, artifact),
            Self::CertificatesAt(root, thresholds) => verify_with_certificate_at(root, thresholds, bundle, artifact),
            Self::KeysAt(root, keys, thresholds) => keys.verify(Some((root, thresholds)), bundle, artifact),
            Self::LoggedKeys(root, keys) => keys.verify(Some((root, &Thresholds::default())), bundle, artifact),
            Self::UnloggedKeys(keys) => keys.verify(None, bundle, artifact),
        }
    }
}
