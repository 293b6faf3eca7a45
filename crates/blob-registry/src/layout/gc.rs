//! Garbage collection: blobs that no manifest of a layout names.
//!
//! Every manifest that `index.json` lists is kept, tagged or not, and with it everything that it names, at any depth.
//! An entry of `index.json` that cannot be read, or no `index.json` at all, ends a collection before anything is removed:
//! what such a layout needs is not known. The rest goes if it is old enough: whoever pushes sends blobs first and the manifest last, so what is fresh may be
//! about to be named. A manifest is pushed under the lock that removing takes too, and a push whose blob has just gone
//! is refused: it cannot come to pass that a manifest is there without its blobs.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blob_core::{Algorithm, Digest};

use super::disk::{Layout, is_absent};
use super::verify::{Found, Verify};
use super::{failed, write};
use crate::descriptor::media_type;
use crate::error::RegistryError;
use crate::manifest::Outline;
use crate::reference::Repository;

/// So many files are removed before others get the lock.
const BATCH: usize = 512;

/// What a collection does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcOptions {
    /// What is younger stays: 24 hours. It must be longer than the longest push takes from its first blob to its
    /// manifest.
    pub grace: Duration,
    /// Upload sessions and temporary files that nobody has written to for this long are given up: 24 hours.
    pub unfinished: Duration,
    /// Remove manifests too, if they have no tag, no index that is kept names them, and their subject, if they have
    /// one, is not kept.
    pub untagged: bool,
    /// Hash every blob that is kept, whatever is known of it, and tell which are damaged. A store of repositories takes
    /// those out of their place, so that a push mends them; that leaves what is removed as it is.
    pub verify: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_hours(24),
            unfinished: write::LEFTOVER,
            untagged: false,
            verify: false,
            dry_run: false,
        }
    }
}

impl GcOptions {
    /// The same, keeping what is younger than `grace`.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The same, giving up uploads that stood still for `unfinished`.
    #[must_use]
    pub fn with_unfinished(mut self, unfinished: Duration) -> Self {
        self.unfinished = unfinished;
        self
    }

    /// The same, removing untagged manifests or not.
    #[must_use]
    pub fn with_untagged(mut self, untagged: bool) -> Self {
        self.untagged = untagged;
        self
    }

    /// The same, hashing every blob that is kept or not.
    #[must_use]
    pub fn with_verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// The same, only saying what would be done or doing it.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// A repository whose garbage was not collected, or not all of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Uncollected {
    /// Its name.
    pub repository: Repository,
    /// Why.
    pub error: Arc<RegistryError>,
}

/// What a collection did, or would have done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GcReport {
    /// What was removed, with its size in bytes.
    pub removed: Vec<(Digest, u64)>,
    /// Bytes that are free now. What another repository has too, as a mount, frees nothing.
    pub freed: u64,
    /// How many blobs and manifests are named by what is kept.
    pub kept: usize,
    /// How many are named by nothing and too young to go.
    pub young: usize,
    /// Upload sessions, temporary files and damaged blobs out of their place that were given up.
    pub leftovers: usize,
    /// Blobs and manifests that are needed and damaged, or cannot be read from the disk, where that was looked for.
    /// Where the lists of what is needed cannot be read, all are looked at.
    pub damaged: Vec<Digest>,
    /// Repositories that could not be collected to the end.
    pub uncollected: Vec<Uncollected>,
}

impl GcReport {
    /// Adds a failure to it.
    pub(super) fn uncollected(&mut self, repository: Repository, error: RegistryError) {
        tracing::warn!(%repository, %error, "garbage could not be collected");
        self.uncollected.push(Uncollected { repository, error: Arc::new(error) });
    }
}

/// A file of the layout that may have to go.
struct Candidate {
    digest: Digest,
    path: PathBuf,
}

/// What a manifest names.
struct Named {
    blobs: Vec<Digest>,
    manifests: Vec<(Digest, bool)>,
    subject: Option<Digest>,
}

/// Collects the garbage of one layout, and adds to `report` what was done, also if it ends with an error.
pub(super) fn collect(layout: &Layout, options: &GcOptions, report: &mut GcReport) -> Result<(), RegistryError> {
    if !layout.exists() {
        return Ok(());
    }
    layout.check_own()?;
    let mut marker = Marker { layout, options, known: HashMap::new() };
    // Reading every manifest takes long. It is done before the lock is taken; under it only new ones are read.
    let marked = marker.mark();
    if options.verify {
        // What is needed may not be known, just since something is damaged: then all of it is looked at.
        let files = files(layout)?;
        let there = files.iter().filter(|file| marked.as_ref().map_or(true, |kept| kept.contains(&file.digest)));
        let blobs = marker.known.values().flat_map(|named| &named.blobs).copied().collect();
        let may_go = if options.dry_run { Some(HashSet::new()) } else { marked.is_err().then_some(blobs) };
        scrub(layout, there, may_go.as_ref(), report);
    }
    let kept = marked?;
    let (there, candidates): (Vec<_>, Vec<_>) =
        files(layout)?.into_iter().partition(|file| kept.contains(&file.digest));
    report.kept += there.len();
    if options.dry_run {
        for candidate in candidates {
            count(&candidate, options, report, |_| Ok(()))?;
        }
        return Ok(());
    }
    let mut left = candidates.into_iter().peekable();
    let first = options.untagged;
    while first || left.peek().is_some() {
        let batch: Vec<Candidate> = left.by_ref().take(BATCH).collect();
        let last = batch.len() < BATCH;
        layout.locked(|| {
            let kept = marker.mark()?;
            if options.untagged {
                layout.change(|index| {
                    let old = |digest: &Digest| is_old(layout, digest, options);
                    index.keep(|digest| kept.contains(digest) || !old(digest));
                    Ok(())
                })?;
            }
            for candidate in batch {
                if kept.contains(&candidate.digest) {
                    report.kept += 1;
                    continue;
                }
                count(&candidate, options, report, |path| fs::remove_file(path))?;
            }
            Ok(())
        })?;
        if last {
            break;
        }
    }
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        // A directory that is not there needs no sync; a removal that is lost is done again the next time.
        let _ = write::sync_directory(&layout.root().join("blobs").join(algorithm.name()));
    }
    report.leftovers += layout.reclaim(options.unfinished) + layout.reclaim_damaged(options.unfinished);
    Ok(())
}

/// Hashes files, and reports which are damaged: those with other content, and those that cannot be read. They are taken
/// out of their place where the layout does that; if `may_go` is given, only what is in there.
fn scrub<'a>(
    layout: &Layout,
    files: impl Iterator<Item = &'a Candidate>,
    may_go: Option<&HashSet<Digest>>,
    report: &mut GcReport,
) {
    let only_look = layout.clone().with_verify(Verify::Report);
    for file in files {
        let stays = may_go.is_some_and(|may_go| !may_go.contains(&file.digest));
        match if stays { &only_look } else { layout }.scrub(&file.digest) {
            Ok(Found::Sound | Found::Absent) => {}
            Ok(Found::Damaged(_)) => report.damaged.push(file.digest),
            Err(error) => {
                tracing::error!(path = %file.path.display(), %error, "a blob on disk cannot be read");
                report.damaged.push(file.digest);
            }
        }
    }
}

/// Removes a file and counts it, unless it is young or gone.
fn count(
    candidate: &Candidate,
    options: &GcOptions,
    report: &mut GcReport,
    remove: impl FnOnce(&PathBuf) -> std::io::Result<()>,
) -> Result<(), RegistryError> {
    use std::os::unix::fs::MetadataExt as _;
    let action = || format!("collecting {}", candidate.path.display());
    let meta = match fs::symlink_metadata(&candidate.path) {
        Err(error) if is_absent(&error) => return Ok(()),
        other => other.map_err(failed(action))?,
    };
    if !old_enough(&meta, options) {
        report.young += 1;
        return Ok(());
    }
    match remove(&candidate.path) {
        Err(error) if is_absent(&error) => return Ok(()),
        other => other.map_err(failed(action))?,
    }
    tracing::debug!(digest = %candidate.digest, bytes = meta.len(), dry_run = options.dry_run, "garbage");
    report.removed.push((candidate.digest, meta.len()));
    if meta.nlink() == 1 {
        report.freed += meta.len();
    }
    Ok(())
}

fn old_enough(meta: &fs::Metadata, options: &GcOptions) -> bool {
    // A time in the future is no age at all.
    let age = meta.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    age.is_some_and(|age| age >= options.grace)
}

fn is_old(layout: &Layout, digest: &Digest, options: &GcOptions) -> bool {
    fs::metadata(layout.blob_path(digest)).map_or(true, |meta| old_enough(&meta, options))
}

/// Everything under the name of a digest in `blobs`. Other files are not ours to judge.
fn files(layout: &Layout) -> Result<Vec<Candidate>, RegistryError> {
    let mut found = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let directory = layout.root().join("blobs").join(algorithm.name());
        let action = || format!("listing {}", directory.display());
        let entries = match fs::read_dir(&directory) {
            Err(error) if is_absent(&error) => continue,
            other => other.map_err(failed(action))?,
        };
        for entry in entries {
            let entry = entry.map_err(failed(action))?;
            let digest =
                entry.file_name().to_str().and_then(|name| format!("{}:{name}", algorithm.name()).parse().ok());
            if let Some(digest) = digest
                && entry.file_type().is_ok_and(|kind| kind.is_file())
            {
                found.push(Candidate { digest, path: entry.path() });
            }
        }
    }
    Ok(found)
}

/// Finds out what is named.
struct Marker<'a> {
    layout: &'a Layout,
    options: &'a GcOptions,
    /// What each manifest names that was read so far.
    known: HashMap<Digest, Named>,
}

impl Marker<'_> {
    /// Everything that the index lists, and what that names.
    fn mark(&mut self) -> Result<HashSet<Digest>, RegistryError> {
        let index = self.layout.present_index()?;
        let mut kept = HashSet::new();
        // Entries say what they are; with `untagged`, those without a tag wait until somebody needs them.
        let (mut open, mut waiting) = (Vec::new(), Vec::new());
        for entry in index.listed() {
            let (entry, tagged) = entry.map_err(|text| self.unreadable(&text))?;
            let item = (entry.digest, media_type::is_manifest(&entry.media_type));
            if tagged || !self.options.untagged { open.push(item) } else { waiting.push(item) }
        }
        loop {
            while let Some((digest, manifest)) = open.pop() {
                if !kept.insert(digest) {
                    continue;
                }
                if let Some(named) = self.named(&digest, manifest)? {
                    kept.extend(&named.blobs);
                    open.extend(named.manifests.iter().filter(|(child, _)| !kept.contains(child)));
                }
            }
            // What is said about something that is kept is kept with it.
            let mut rest = Vec::new();
            for (digest, manifest) in waiting {
                let subject = self.named(&digest, manifest)?.and_then(|named| named.subject);
                if subject.is_some_and(|subject| kept.contains(&subject)) {
                    open.push((digest, manifest));
                } else if is_old(self.layout, &digest, self.options) {
                    rest.push((digest, manifest));
                } else {
                    // Too young to go, and so is what it names.
                    open.push((digest, manifest));
                }
            }
            waiting = rest;
            if open.is_empty() {
                return Ok(kept);
            }
        }
    }

    /// The end of a collection at an entry that does not say which manifest it is.
    fn unreadable(&self, entry: &str) -> RegistryError {
        let shown: String = entry.chars().take(200).collect();
        let action = format!("collecting garbage in {}", self.layout.root().display());
        let detail = format!("nothing is removed: an entry of index.json is no descriptor that is known here: {shown}");
        RegistryError::Protocol { action, detail }
    }

    /// What a manifest names. `None` for what is no manifest, or not here.
    ///
    /// A manifest that cannot be read ends the collection: what it names is not known.
    fn named(&mut self, digest: &Digest, manifest: bool) -> Result<Option<&Named>, RegistryError> {
        if !self.known.contains_key(digest) {
            let bytes = match self.layout.document(digest) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(None),
                // Content of another kind may be of any size. What is damaged may have named something.
                Err(RegistryError::TooLarge { .. }) if !manifest => return Ok(None),
                Err(error) => return Err(error),
            };
            let outline = match Outline::parse(&bytes) {
                Ok(outline) => outline,
                Err(_) if !manifest => return Ok(None),
                Err(error) => {
                    let action = format!("collecting garbage in {}", self.layout.root().display());
                    let detail = format!("manifest {digest} cannot be read, so what it needs is not known: {error}");
                    return Err(RegistryError::Protocol { action, detail });
                }
            };
            let named = Named {
                blobs: outline.blobs.iter().map(|blob| blob.digest).chain(outline.fs_layers).collect(),
                manifests: outline
                    .manifests
                    .iter()
                    .map(|child| (child.digest, media_type::is_manifest(&child.media_type)))
                    .collect(),
                subject: outline.subject.map(|subject| subject.digest),
            };
            self.known.insert(*digest, named);
        }
        Ok(self.known.get(digest))
    }
}
