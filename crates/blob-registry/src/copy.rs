//! Copying an artifact with everything it refers to from one registry to another.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use blob_core::{Digest, Progress};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::OnceCell;

use crate::descriptor::Descriptor;
use crate::error::RegistryError;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{PushBlob, PushManifest, PushedBlob, Registry};
use crate::source::BlobSource;

mod copied;
mod plan;
#[cfg(all(unix, feature = "layout"))]
mod spool;

use plan::{Node, Plan};

pub use copied::CopiedBlobs;

/// A repository in a registry.
#[derive(Clone, Debug)]
pub struct Place {
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// The repository.
    pub repository: Repository,
}

impl Place {
    /// `repository` in `registry`.
    pub fn new(registry: Arc<dyn Registry>, repository: Repository) -> Self {
        Self { registry, repository }
    }
}

/// How a copy is made.
#[derive(Clone)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Tags to set at the destination when everything else is there; none by default, whatever was copied.
    pub tags: Vec<Tag>,
    /// Copy what refers to the artifact as well (signatures, attestations), and what refers to that.
    pub referrers: bool,
    /// Requests at a time: 4.
    pub concurrency: usize,
    /// Look at everything below a manifest that the destination has already. Without it such a manifest counts as
    /// complete, as registries promise.
    pub verify: bool,
    /// Change nothing, only find out what would be copied.
    pub dry_run: bool,
    /// Both places are in one registry, even if they are reached through two objects: blobs are mounted. Found out
    /// without help if it is one object.
    pub same_registry: bool,
    /// Manifests in all: 10,000.
    pub max_manifests: usize,
    /// Manifests below one another, referrers included: 32.
    pub max_depth: usize,
    /// Begin only if the blobs that are missing at the destination have at most this many bytes together, such as the
    /// room that its disk has. With a limit the destination is asked for every blob first. No limit by default.
    pub max_bytes: Option<u64>,
    /// Fetch blobs of 32 MiB and more into files of this directory first, over several connections, and send them from
    /// there; a copy that was killed goes on with what it has. The directory must exist and needs room for
    /// `concurrency` blobs. By default blobs are passed on while they come. On Unix, with the feature `layout`.
    pub spool_dir: Option<PathBuf>,
    /// What other copies to the same repository have sent, and need not be sent by this one. Each copy is by itself by
    /// default.
    pub copied: CopiedBlobs,
    /// Told of every blob, with its digest as `what`.
    pub progress: Option<Arc<dyn Progress>>,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            referrers: false,
            concurrency: 4,
            verify: false,
            dry_run: false,
            same_registry: false,
            max_manifests: 10_000,
            max_depth: 32,
            max_bytes: None,
            spool_dir: None,
            copied: CopiedBlobs::default(),
            progress: None,
        }
    }
}

impl std::fmt::Debug for CopyOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions")
            .field("tags", &self.tags)
            .field("referrers", &self.referrers)
            .field("concurrency", &self.concurrency)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}

/// What a copy did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// The artifact.
    pub root: Descriptor,
    /// Manifests that were sent.
    pub manifests_copied: u64,
    /// Manifests that were there.
    pub manifests_existing: u64,
    /// Blobs that were sent.
    pub blobs_copied: u64,
    /// Blobs that were there.
    pub blobs_existing: u64,
    /// Blobs that were mounted from the other repository.
    pub blobs_mounted: u64,
    /// Bytes of the manifests and blobs that were sent.
    pub bytes: u64,
    /// Referrers that are listed and not there any more, or are about something else; they were left out.
    pub referrers_missing: u64,
}

/// Copies the manifest `target` and everything it names from one place to another: only what is missing there, blobs
/// before the manifests that name them, those before the indexes that list them, and tags last of all.
///
/// A layer that its media type says is fetched from elsewhere is not copied.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use std::sync::Arc;
/// use blob_registry::{CopyOptions, ImageManifest, MemoryRegistry, Place, PushManifest, Registry, Repository, Tag};
/// # use blob_registry::{PushBlob, media_type};
/// # use blob_core::{Digest, MemorySource};
///
/// let from = Place::new(Arc::new(MemoryRegistry::new()), Repository::new("team/assets")?);
/// let to = Place::new(Arc::new(MemoryRegistry::new()), Repository::new("mirror/assets")?);
/// # let empty = PushBlob::new(Digest::sha256_of(b"{}"), Arc::new(MemorySource::new("{}")));
/// # from.registry.push_blob(&from.repository, empty).await?;
/// # let push = PushManifest::new(media_type::IMAGE_MANIFEST, ImageManifest::artifact("a/b", vec![]).to_bytes());
/// # from.registry.push_manifest(&from.repository, push.with_tags([Tag::new("v1")?])).await?;
/// let mut options = CopyOptions::default();
/// options.tags.push(Tag::new("v1")?);
/// options.referrers = true;
/// let report = blob_registry::copy(&from, &Tag::new("v1")?.into(), &to, &options).await?;
/// assert_eq!((report.manifests_copied, report.blobs_copied), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first failure on either side ends the copy; what was copied by then stays. [`RegistryError::TooLarge`] for a graph
/// over the limits of `options`, or whose manifests are over 64 MiB together; nothing was copied then.
///
/// # Cancellation
/// As after an error.
pub async fn copy(
    from: &Place,
    target: &Target,
    to: &Place,
    options: &CopyOptions,
) -> Result<CopyReport, RegistryError> {
    let plan = Plan::draw(from, target, to, options).await?;
    let report = CopyReport {
        root: plan.root().manifest.descriptor.clone(),
        manifests_copied: 0,
        manifests_existing: plan.nodes().filter(|node| node.existing).count() as u64,
        blobs_copied: 0,
        blobs_existing: 0,
        blobs_mounted: 0,
        bytes: 0,
        referrers_missing: plan.missing_referrers,
    };
    let mut run = Run { from, to, options, report };
    let blobs = plan.blobs(options);
    if let Some(limit) = options.max_bytes {
        check_size(to, options, &blobs, limit).await?;
    }
    run.blobs(blobs).await?;
    run.manifests(&plan).await?;
    Ok(run.report)
}

/// A copy whose plan is made.
struct Run<'a> {
    from: &'a Place,
    to: &'a Place,
    options: &'a CopyOptions,
    report: CopyReport,
}

impl Run<'_> {
    async fn blobs(&mut self, blobs: Vec<Descriptor>) -> Result<(), RegistryError> {
        let (from, to, options) = (self.from, self.to, self.options);
        let work = stream::iter(blobs).map(|blob| async move {
            let turn = options.copied.turn(&blob.digest).await;
            if turn.is_done() {
                return Ok((PushedBlob::Existing, blob.size));
            }
            let done = blob_to(from, to, options, &blob, false).await?;
            turn.done();
            Ok::<_, RegistryError>((done, blob.size))
        });
        let mut work = work.buffer_unordered(options.concurrency.max(1)).boxed();
        while let Some((done, size)) = work.try_next().await? {
            match done {
                PushedBlob::Uploaded => {
                    self.report.blobs_copied += 1;
                    self.report.bytes = self.report.bytes.saturating_add(size);
                }
                PushedBlob::Existing => self.report.blobs_existing += 1,
                PushedBlob::Mounted => self.report.blobs_mounted += 1,
            }
        }
        Ok(())
    }

    /// Pushes manifests level by level, and the tags when they are all there.
    async fn manifests(&mut self, plan: &Plan) -> Result<(), RegistryError> {
        let (from, to, options) = (self.from, self.to, self.options);
        let parties = Parties { from, to, options, again: &Mutex::default() };
        let levels = plan.levels();
        // What refers to the root is pushed behind it: the root then gets its tags at the very end.
        let root_is_last = levels.last().is_some_and(|level| level.iter().all(|node| node.is(plan.root())));
        for level in levels {
            let work = stream::iter(level).map(|node| async move {
                let tags = if root_is_last && node.is(plan.root()) { options.tags.as_slice() } else { &[] };
                parties.push(plan, node, tags).await
            });
            let mut work = work.buffer_unordered(options.concurrency.max(1)).boxed();
            while let Some(sent) = work.try_next().await? {
                self.report.manifests_copied += 1;
                self.sent_again(&sent);
                self.report.bytes = self.report.bytes.saturating_add(sent.bytes);
            }
        }
        if !root_is_last {
            self.tags(plan).await?;
        }
        Ok(())
    }

    /// Counts blobs that were taken to be there and were sent after all.
    fn sent_again(&mut self, sent: &SentManifest) {
        let blobs = sent.blobs.len() as u64;
        self.report.blobs_copied += blobs;
        self.report.blobs_existing = self.report.blobs_existing.saturating_sub(blobs);
    }

    /// Points the tags at a manifest that is there.
    async fn tags(&mut self, plan: &Plan) -> Result<(), RegistryError> {
        let Place { registry, repository } = self.to;
        let root = plan.root();
        let digest = root.manifest.descriptor.digest;
        let mut unset = Vec::new();
        for tag in &self.options.tags {
            match registry.resolve(repository, &tag.clone().into()).await {
                Ok(current) if current.digest == digest => {}
                Ok(_) => unset.push(tag.clone()),
                Err(error) if error.is_not_found() => unset.push(tag.clone()),
                Err(error) => return Err(error),
            }
        }
        if !unset.is_empty() {
            let parties = Parties { from: self.from, to: self.to, options: self.options, again: &Mutex::default() };
            let sent = parties.push(plan, root, &unset).await?;
            self.sent_again(&sent);
            // The manifest itself was there.
            self.report.bytes = self.report.bytes.saturating_add(sent.blob_bytes);
        }
        Ok(())
    }
}

/// Between whom a copy goes, and how.
#[derive(Clone, Copy)]
struct Parties<'a> {
    from: &'a Place,
    to: &'a Place,
    options: &'a CopyOptions,
    /// Manifests that were sent again with what they name, each once: a destination that keeps nothing is not served for
    /// ever. Whoever needs one that is on its way waits for it.
    again: &'a Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
}

/// What the push of a manifest came to.
#[derive(Default)]
struct SentManifest {
    /// Bytes of the manifest, and of what was sent for it.
    bytes: u64,
    /// Blobs that were sent for it, since the destination had lost them.
    blobs: HashSet<Digest>,
    /// Bytes of those.
    blob_bytes: u64,
}

impl Parties<'_> {
    /// Pushes one manifest. A destination that refuses it since it lacks what it should have is sent that.
    async fn push(&self, plan: &Plan, node: &Node, tags: &[Tag]) -> Result<SentManifest, RegistryError> {
        let mut sent = SentManifest::default();
        for attempt in 0..3 {
            match push(self.to, self.options, node, tags).await {
                Err(refusal) if refusal.misses_content() && attempt < 2 => {
                    self.send_again(plan, node, (&refusal, attempt > 0), &mut sent).await?;
                }
                done => {
                    sent.bytes = sent.blob_bytes.saturating_add(done?);
                    break;
                }
            }
        }
        Ok(sent)
    }

    /// Sends what a manifest names: what the refusal names whatever the destination says, the rest if it says that it has
    /// it not. Of one that refuses `again` nothing is believed.
    async fn send_again(
        &self,
        plan: &Plan,
        node: &Node,
        (refusal, again): (&RegistryError, bool),
        sent: &mut SentManifest,
    ) -> Result<(), RegistryError> {
        let Self { from, to, options, again: done } = *self;
        for blob in node.blobs() {
            if sent.blobs.contains(&blob.digest) {
                continue;
            }
            let absent = again || refusal.names(&blob.digest);
            if blob_to(from, to, options, blob, absent).await? == PushedBlob::Uploaded {
                tracing::warn!(blob = %blob.digest, repository = %to.repository, "the destination had lost it");
                sent.blobs.insert(blob.digest);
                sent.blob_bytes = sent.blob_bytes.saturating_add(blob.size);
            }
        }
        for child in plan.children(node) {
            let turn =
                Arc::clone(done.lock().unwrap_or_else(PoisonError::into_inner).entry(child.digest()).or_default());
            let mut of_child = SentManifest::default();
            let told = &mut of_child;
            turn.get_or_try_init(|| async move {
                *told = Box::pin(self.push(plan, child, &[])).await?;
                Ok::<_, RegistryError>(())
            })
            .await?;
            sent.blobs.extend(of_child.blobs);
            sent.blob_bytes = sent.blob_bytes.saturating_add(of_child.blob_bytes);
        }
        Ok(())
    }
}

/// Refuses blobs that are missing at the destination and have more than `limit` bytes.
async fn check_size(to: &Place, options: &CopyOptions, blobs: &[Descriptor], limit: u64) -> Result<(), RegistryError> {
    let missing = stream::iter(blobs).map(|blob| async move {
        match to.registry.stat_blob(&to.repository, &blob.digest).await {
            Ok(_) => Ok(0),
            Err(error) if error.is_not_found() => Ok(blob.size),
            Err(error) => Err(error),
        }
    });
    let missing = missing.buffer_unordered(options.concurrency.max(1)).boxed();
    let size = missing.try_fold(0_u64, |sum, size| async move { Ok(sum.saturating_add(size)) }).await?;
    if size > limit {
        return Err(RegistryError::TooLarge { action: "adding up the blobs to copy".into(), size, limit });
    }
    Ok(())
}

/// Copies one blob; without a question if it is known to be `absent`.
async fn blob_to(
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    blob: &Descriptor,
    absent: bool,
) -> Result<PushedBlob, RegistryError> {
    let mounts = is_same(from, to, options);
    if options.dry_run {
        return match to.registry.stat_blob(&to.repository, &blob.digest).await {
            Ok(_) => Ok(PushedBlob::Existing),
            Err(error) if error.is_not_found() && mounts => Ok(PushedBlob::Mounted),
            Err(error) if error.is_not_found() => Ok(PushedBlob::Uploaded),
            Err(error) => Err(error),
        };
    }
    let (registry, repository) = (Arc::clone(&from.registry), from.repository.clone());
    let source = BlobSource::locate(registry, repository, blob.digest, blob.size).await?;
    #[cfg(all(unix, feature = "layout"))]
    if let Some(dir) = options.spool_dir.as_deref().filter(|_| !mounts && spool::pays(&source)) {
        return spool::copy(from, to, options, (blob, dir), absent).await;
    }
    let mut push = PushBlob::new(blob.digest, source);
    push.known_absent = absent;
    if mounts {
        push.mount_from.push(from.repository.clone());
    }
    push.progress = options.progress.clone().map(|progress| (blob.digest.to_string(), progress));
    to.registry.push_blob(&to.repository, push).await
}

/// Pushes one manifest and gives its size in bytes.
async fn push(to: &Place, options: &CopyOptions, node: &Node, tags: &[Tag]) -> Result<u64, RegistryError> {
    let bytes = node.manifest.bytes.clone();
    let size = bytes.len() as u64;
    if options.dry_run {
        return Ok(size);
    }
    let mut push = PushManifest::new(node.manifest.descriptor.media_type.clone(), bytes);
    push.digest = node.manifest.descriptor.digest;
    to.registry.push_manifest(&to.repository, push.with_tags(tags.iter().cloned())).await?;
    Ok(size)
}

fn is_same(from: &Place, to: &Place, options: &CopyOptions) -> bool {
    let same = options.same_registry || Arc::ptr_eq(&from.registry, &to.registry);
    same && from.repository != to.repository
}

/// What a limit of a copy says when it is reached.
fn too_many(root: &Digest, what: &str, limit: usize) -> RegistryError {
    let action = format!("copying {root}: counting its {what}");
    RegistryError::TooLarge { action, size: limit as u64 + 1, limit: limit as u64 }
}
