//! Copying archives, and any other artifact, from one place to another: digests stay what they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::{Progress, room};
use blob_registry::{CopyReport, MemoryRegistry, Place, RegistryError, Tag, Target};

use crate::client::Client;
use crate::error::Error;
use crate::location::Location;
use crate::pull::PullOptions;

/// How a copy is made.
#[derive(Clone)]
#[non_exhaustive]
pub struct CopyOptions {
    /// More tags at the destination, besides the one that it names.
    pub tags: Vec<Tag>,
    /// Copy what refers to the artifact as well, such as signatures, and what refers to that: yes by default.
    pub referrers: bool,
    /// Leave tags alone that exist at the destination, whatever they point at.
    pub keep_tags: bool,
    /// Change nothing, only find out what would be copied.
    pub dry_run: bool,
    /// Whether to begin although the file system of a layout says that it has not the room for what is missing there. By
    /// default that is refused before anything is copied.
    pub skip_room_check: bool,
    /// Requests at a time: 4 by default, at least 1.
    pub concurrency: usize,
    /// Told of every blob, with its digest as `what`.
    pub progress: Option<Arc<dyn Progress>>,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            referrers: true,
            keep_tags: false,
            dry_run: false,
            skip_room_check: false,
            concurrency: 4,
            progress: None,
        }
    }
}

impl std::fmt::Debug for CopyOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions")
            .field("tags", &self.tags)
            .field("referrers", &self.referrers)
            .field("keep_tags", &self.keep_tags)
            .field("dry_run", &self.dry_run)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// What became of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// What was sent and what was there; `None` when every tag exists and is left alone, so that nothing was looked at.
    pub report: Option<CopyReport>,
    /// The tags that point at the artifact now, or would.
    pub tags: Vec<Tag>,
    /// The tags that exist and were left alone.
    pub kept_tags: Vec<Tag>,
}

impl Client {
    /// Copies what `from` names, with everything below it, to the repository or layout of `to`: only what is missing
    /// there, blobs before the manifests that name them, tags last. Within one registry blobs are mounted.
    ///
    /// `to` may name a tag; a layout that does not exist is made.
    ///
    /// # Errors
    /// [`Error::Incomplete`] when `from` names nothing, [`Error::Options`] when `to` names a digest, [`Error::NoRoom`],
    /// [`Error::Registry`] for either side, and as [`fetch`](Self::fetch) when the client has a policy: what it does not
    /// admit is not copied.
    ///
    /// # Cancellation
    /// What was copied when the future is dropped stays; no tag points at it.
    pub async fn copy(&self, from: &Location, to: &Location, options: &CopyOptions) -> Result<Copied, Error> {
        let needs = "tag or digest";
        let mut target = from.target().ok_or_else(|| Error::Incomplete { location: from.to_string(), needs })?;
        if let Some(Target::Digest(_)) = to.target() {
            let problem = format!("{to} names a digest: what is copied keeps its own, so name a tag or nothing");
            return Err(Error::Options(problem));
        }
        let failed = |source| Error::Registry { action: format!("copying {from} to {to}"), source };
        let source = self.registry(from).await?;
        let source = Place::new(source.0, source.1);
        // Before a layout is made for what may not be let in.
        if !self.policies_for(from, &PullOptions::default()).await.is_empty() || self.requires_verification() {
            let options = PullOptions { skip_cache: true, ..PullOptions::default() };
            let (registry, repository, manifest) = self.manifest_with(from, &options).await?;
            let place = crate::trust::Place {
                location: from,
                registry: &registry,
                repository: &repository,
                manifest: &manifest,
            };
            self.admit_any(&place, &options).await?;
            // What was judged is copied, wherever the tag points by then.
            target = manifest.descriptor.digest.into();
        }
        // Nor for what is not there.
        if matches!(to, Location::Layout { dir, .. } if is_absent(dir)) {
            source.registry.resolve(&source.repository, &target).await.map_err(failed)?;
        }
        let destination = self.destination(to, options.dry_run).await?;
        let mut copied = Copied { report: None, tags: Vec::new(), kept_tags: Vec::new() };
        for tag in to.tag().iter().chain(&options.tags) {
            if copied.tags.contains(tag) || copied.kept_tags.contains(tag) {
                continue;
            }
            let exists = options.keep_tags && exists(&destination, tag).await.map_err(failed)?;
            if exists { copied.kept_tags.push(tag.clone()) } else { copied.tags.push(tag.clone()) }
        }
        if copied.tags.is_empty() && !copied.kept_tags.is_empty() {
            return Ok(copied);
        }
        let mut how = blob_registry::CopyOptions::default();
        how.tags.clone_from(&copied.tags);
        how.referrers = options.referrers;
        how.dry_run = options.dry_run;
        how.concurrency = options.concurrency;
        how.same_registry = same_registry(from, to);
        how.progress.clone_from(&options.progress);
        let room = room_of(to).filter(|_| !options.dry_run && !options.skip_room_check);
        how.max_bytes = room.as_ref().map(|(_, available)| *available);
        let copying = blob_registry::copy(&source, &target, &destination, &how).await;
        let report = copying.map_err(|source| match (source, room) {
            (RegistryError::TooLarge { size: needed, limit, .. }, Some((dir, available))) if limit == available => {
                Error::NoRoom { dir, what: format!("a copy of {from}"), needed, available }
            }
            (source, _) => failed(source),
        })?;
        if !options.dry_run {
            self.remember_tags(to, &copied.tags, report.root.digest).await;
        }
        copied.report = Some(report);
        Ok(copied)
    }

    /// Where something is pushed to. A dry run makes no layout: one that does not exist is as good as an empty registry.
    pub(crate) async fn destination(&self, to: &Location, dry_run: bool) -> Result<Place, Error> {
        let (registry, repository) = match to {
            Location::Layout { dir, .. } if dry_run && is_absent(dir) => {
                let repository = crate::client::layout_repository();
                (Arc::new(MemoryRegistry::new()) as _, repository)
            }
            _ if dry_run => self.registry_without_mirrors(to).await?,
            _ => self.registry_for_push(to).await?,
        };
        Ok(Place::new(registry, repository))
    }
}

fn is_absent(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

/// The directory of a layout, and how many bytes may be written there, as far as is known.
fn room_of(place: &Location) -> Option<(PathBuf, u64)> {
    let Location::Layout { dir, .. } = place else { return None };
    room::available(dir).map(|bytes| (dir.clone(), bytes))
}

fn same_registry(from: &Location, to: &Location) -> bool {
    match (from.reference(), to.reference()) {
        (Some(from), Some(to)) => from.host() == to.host(),
        _ => false,
    }
}

async fn exists(place: &Place, tag: &Tag) -> Result<bool, RegistryError> {
    match place.registry.resolve(&place.repository, &tag.clone().into()).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
