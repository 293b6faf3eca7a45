//! Referrers that are what a list says they are.
//!
//! A list of referrers is what somebody says: the registry, or whoever wrote the tag that stands in for it. Here every
//! entry is read again by its digest, and counts only if the manifest itself names the subject.

use blob_core::Digest;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::descriptor::Descriptor;
use crate::error::RegistryError;
use crate::manifest::Outline;
use crate::reference::{Repository, Target};
use crate::registry::{PageRequest, Registry};

/// So many manifests are read at the same time.
const AT_ONCE: usize = 4;

/// How much is read to find the referrers of one manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReferrerLimits {
    /// Entries of the list: 256.
    pub max_referrers: usize,
    /// Pages of the list: 64.
    pub max_pages: usize,
    /// Bytes of one manifest: 64 KiB. Larger ones are left out.
    pub max_referrer_bytes: u64,
    /// Bytes of all manifests that are read: 8 MiB.
    pub max_total_bytes: u64,
}

impl Default for ReferrerLimits {
    fn default() -> Self {
        Self { max_referrers: 256, max_pages: 64, max_referrer_bytes: 64 << 10, max_total_bytes: 8 << 20 }
    }
}

/// A manifest that refers to the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedReferrer {
    /// As it was listed.
    pub descriptor: Descriptor,
    /// The manifest, which has the digest and the size that were listed.
    pub bytes: Bytes,
}

/// Why a listed manifest is none of the referrers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftOut {
    /// The registry does not have it: lists may lag behind deletions.
    Gone,
    /// It is no manifest, or names another subject, or none.
    OtherSubject,
    /// It is larger than [`ReferrerLimits::max_referrer_bytes`], and was not read.
    TooLarge,
}

/// What came of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedReferrers {
    /// The referrers, in the order of the list.
    pub referrers: Vec<VerifiedReferrer>,
    /// What was listed besides, in the same order.
    pub left_out: Vec<(Descriptor, LeftOut)>,
}

/// The referrers could not be found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferrersError {
    /// The registry failed.
    #[error("cannot read what refers to {subject}")]
    Registry {
        /// The manifest that is referred to.
        subject: Digest,
        /// The cause.
        source: RegistryError,
    },
    /// There is more than the limits allow: nobody knows what the rest would have said.
    #[error("there is too much that refers to {subject}: {what}")]
    Limit {
        /// The manifest that is referred to.
        subject: Digest,
        /// What is over which limit.
        what: String,
    },
    /// The list says another size than the manifest has, by which it was counted.
    #[error("{digest} is listed with {listed} bytes, and has {got}")]
    Size {
        /// The manifest that is listed.
        digest: Digest,
        /// The size in the list, in bytes.
        listed: u64,
        /// Its real size, in bytes.
        got: u64,
    },
}

/// The manifests that refer to `subject`, optionally of one artifact type, each read and found to do so.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use blob_registry::referrers::{ReferrerLimits, verified_referrers};
/// use blob_registry::{Descriptor, ImageManifest, MemoryRegistry, PushManifest, Registry as _, RegistryExt as _};
/// use blob_registry::{Repository, media_type};
///
/// let (registry, repository) = (MemoryRegistry::new(), Repository::new("team/assets")?);
/// registry.ensure_empty_config(&repository).await?;
/// let subject = ImageManifest::artifact("application/vnd.acme.thing", vec![]).to_bytes();
/// let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &subject);
/// registry.push_manifest(&repository, PushManifest::new(media_type::IMAGE_MANIFEST, subject)).await?;
/// let note = ImageManifest::artifact("application/vnd.acme.note", vec![]).with_subject(descriptor.clone());
/// registry.push_manifest(&repository, PushManifest::new(media_type::IMAGE_MANIFEST, note.to_bytes())).await?;
///
/// let limits = ReferrerLimits::default();
/// let found = verified_referrers(&registry, (&repository, &descriptor.digest), None, &limits).await?;
/// assert_eq!((found.referrers.len(), found.left_out.len()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ReferrersError`]. What is gone, too large or refers to something else is no error: it is [left out](VerifiedReferrers).
pub async fn verified_referrers(
    registry: &dyn Registry,
    (repository, subject): (&Repository, &Digest),
    artifact_type: Option<&str>,
    limits: &ReferrerLimits,
) -> Result<VerifiedReferrers, ReferrersError> {
    let over = |what: String| ReferrersError::Limit { subject: *subject, what };
    let listed = listed(registry, (repository, subject), artifact_type, limits).await?;
    let mut total = 0_u64;
    for descriptor in listed.iter().filter(|descriptor| descriptor.size <= limits.max_referrer_bytes) {
        total = total.saturating_add(descriptor.size);
        if total > limits.max_total_bytes {
            return Err(over(format!("referrers of more than {} bytes", limits.max_total_bytes)));
        }
    }
    let read = listed.into_iter().map(|descriptor| async move {
        let judged = if descriptor.size > limits.max_referrer_bytes {
            Err(LeftOut::TooLarge)
        } else {
            judge(registry, (repository, subject), &descriptor).await?
        };
        Ok::<_, ReferrersError>((descriptor, judged))
    });
    let mut read = stream::iter(read.collect::<Vec<_>>()).buffered(AT_ONCE);
    let mut found = VerifiedReferrers::default();
    while let Some(read) = read.next().await {
        match read? {
            (descriptor, Ok(bytes)) => found.referrers.push(VerifiedReferrer { descriptor, bytes }),
            (descriptor, Err(why)) => found.left_out.push((descriptor, why)),
        }
    }
    Ok(found)
}

/// The whole list.
async fn listed(
    registry: &dyn Registry,
    (repository, subject): (&Repository, &Digest),
    artifact_type: Option<&str>,
    limits: &ReferrerLimits,
) -> Result<Vec<Descriptor>, ReferrersError> {
    let over = |what: String| ReferrersError::Limit { subject: *subject, what };
    let (mut found, mut request) = (Vec::new(), PageRequest::first());
    for _ in 0..limits.max_pages {
        let page = registry.referrers(repository, subject, artifact_type, &request).await;
        let page = page.map_err(|source| ReferrersError::Registry { subject: *subject, source })?;
        found.extend(page.items);
        if found.len() > limits.max_referrers {
            return Err(over(format!("more than {} referrers", limits.max_referrers)));
        }
        match page.next {
            Some(next) => request = PageRequest::first().after(next),
            None => return Ok(found),
        }
    }
    Err(over(format!("more than {} pages of referrers", limits.max_pages)))
}

/// The manifest that `listed` names, if it says of itself that it refers to `subject`.
async fn judge(
    registry: &dyn Registry,
    (repository, subject): (&Repository, &Digest),
    listed: &Descriptor,
) -> Result<Result<Bytes, LeftOut>, ReferrersError> {
    let manifest = match registry.manifest(repository, &Target::Digest(listed.digest)).await {
        Ok(manifest) => manifest,
        Err(error) if error.is_not_found() => return Ok(Err(LeftOut::Gone)),
        Err(source) => return Err(ReferrersError::Registry { subject: *subject, source }),
    };
    // What was counted is what is read.
    let got = manifest.bytes.len() as u64;
    if got != listed.size {
        return Err(ReferrersError::Size { digest: listed.digest, listed: listed.size, got });
    }
    let named = Outline::parse(&manifest.bytes).ok().and_then(|outline| outline.subject);
    let ours = named.is_some_and(|named| named.digest == *subject);
    Ok(if ours { Ok(manifest.bytes) } else { Err(LeftOut::OtherSubject) })
}
