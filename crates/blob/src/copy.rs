//! Copying archives, and any other artifact, from one place to another: digests stay what they are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::{Progress, room};
use blob_registry::{CopiedBlobs, CopyReport, LayoutFile, MemoryRegistry, Place, Registry, RegistryError, Tag, Target};

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
    /// Several copies to one [`Location::LayoutFile`] are gathered in this, which [`layout_file`](Client::layout_file)
    /// begins, and who makes them [finishes](LayoutFile::finish) it. By default each copy writes the file anew.
    pub file: Option<LayoutFile>,
    /// What other copies to the same repository have sent already, or send now: several copies that are given clones of
    /// one send each blob once.
    pub copied: CopiedBlobs,
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
            file: None,
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
        if is_new(to) {
            source.registry.resolve(&source.repository, &target).await.map_err(failed)?;
        }
        let to_place = self.destination(to, options.dry_run, options.file.as_ref()).await?;
        let destination = &to_place.place;
        let mut copied = Copied { report: None, tags: Vec::new(), kept_tags: Vec::new() };
        for tag in to.tag().iter().chain(&options.tags) {
            if copied.tags.contains(tag) || copied.kept_tags.contains(tag) {
                continue;
            }
            let exists = options.keep_tags && exists(destination, tag).await.map_err(failed)?;
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
        how.copied = options.copied.clone();
        how.progress.clone_from(&options.progress);
        let room = room_of(to).filter(|_| !options.dry_run && !options.skip_room_check);
        how.max_bytes = room.as_ref().map(|(_, available)| *available);
        let copying = blob_registry::copy(&source, &target, destination, &how).await;
        let report = copying.map_err(|source| match (source, room) {
            (RegistryError::TooLarge { size: needed, limit, .. }, Some((dir, available))) if limit == available => {
                Error::NoRoom { dir, what: format!("a copy of {from}"), needed, available }
            }
            (source, _) => failed(source),
        })?;
        if options.file.is_none() {
            to_place.finish(to).await?;
        }
        if !options.dry_run {
            self.remember_tags(to, &copied.tags, report.root.digest).await;
        }
        copied.report = Some(report);
        Ok(copied)
    }

    /// Begins to write the layout in a tar file that `location` names, for several [copies](Self::copy) to it. `None` for
    /// every other kind of place.
    ///
    /// # Errors
    /// [`Error::Registry`] for a file that is there and holds no layout.
    pub async fn layout_file(&self, location: &Location) -> Result<Option<LayoutFile>, Error> {
        let Location::LayoutFile { file, .. } = location else { return Ok(None) };
        let begun = LayoutFile::begin(file.clone()).await;
        // As the layout calls itself, which is said once then.
        let real = || file.canonicalize().unwrap_or_else(|_| file.clone());
        let action = || format!("opening the layout in {}", real().display());
        begun.map(Some).map_err(|source| Error::Registry { action: action(), source })
    }

    /// Where something is pushed to. A dry run makes no layout: one that does not exist is as good as an empty registry.
    pub(crate) async fn destination(
        &self,
        to: &Location,
        dry_run: bool,
        file: Option<&LayoutFile>,
    ) -> Result<Destination, Error> {
        if let Location::Pair { dir, .. } = to {
            return Err(crate::client::fixed(dir));
        }
        check_parent(to)?;
        if dry_run && is_new(to) {
            let repository = crate::client::layout_repository();
            return Ok(Destination { place: Place::new(Arc::new(MemoryRegistry::new()), repository), file: None });
        }
        let file = match file {
            Some(file) => Some(file.clone()),
            None if dry_run => None,
            None => self.layout_file(to).await?,
        };
        let (registry, repository) = match &file {
            Some(file) => (Arc::new(file.clone()) as Arc<dyn Registry>, crate::client::layout_repository()),
            None if dry_run => self.registry_without_mirrors(to).await?,
            None => self.registry_for_push(to).await?,
        };
        Ok(Destination { place: Place::new(registry, repository), file })
    }
}

/// Where something is pushed to.
pub(crate) struct Destination {
    pub(crate) place: Place,
    /// What must be finished in the end.
    pub(crate) file: Option<LayoutFile>,
}

impl Destination {
    /// Puts the new file in its place, where a layout in a file is written to.
    pub(crate) async fn finish(&self, to: &Location) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        let finished = file.finish().await;
        finished.map_err(|source| Error::Registry { action: format!("writing to {to}"), source })
    }
}

/// Refuses a file in a directory that is not there, before anything is sent or planned.
fn check_parent(to: &Location) -> Result<(), Error> {
    let Location::LayoutFile { file, .. } = to else { return Ok(()) };
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent.is_dir() {
        return Ok(());
    }
    let (action, source) = (format!("opening {}", parent.display()), io::Error::from(io::ErrorKind::NotFound));
    let source = RegistryError::Io { action, transient: false, source: source.into() };
    Err(Error::Registry { action: format!("writing to {to}"), source })
}

/// Whether this is a layout that has yet to be made.
fn is_new(place: &Location) -> bool {
    match place {
        Location::Layout { dir, .. } => is_absent(dir),
        Location::LayoutFile { file, .. } => {
            std::fs::metadata(file).map_or(true, |meta| meta.is_file() && meta.len() == 0)
        }
        Location::Registry(_) | Location::Pair { .. } => false,
    }
}

fn is_absent(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

/// The directory of a layout, and how many bytes may be written there, as far as is known. What a file has is written
/// once more.
fn room_of(place: &Location) -> Option<(PathBuf, u64)> {
    match place {
        Location::Layout { dir, .. } => room::available(dir).map(|bytes| (dir.clone(), bytes)),
        Location::LayoutFile { file, .. } => {
            let had = std::fs::metadata(file).map_or(0, |meta| meta.len());
            let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            room::available(dir).map(|bytes| (file.clone(), bytes.saturating_sub(had)))
        }
        Location::Registry(_) | Location::Pair { .. } => None,
    }
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
