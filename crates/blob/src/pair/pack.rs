//! Making a pair of files from a directory.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use blob_core::Progress;
use blob_core::create::{
    CreateBlobOptions, CreateError, CreateOptions, CreateReport, Created, ManifestOutput, create, create_blob,
};
use jiff::Timestamp;

use super::{DATA_NAME, INDEX_NAME, MANIFEST_NAME};
use crate::archive_manifest::{ArchiveManifest, CREATED};
use crate::error::Error;
use crate::push::{CREATED_FORMAT, SetOnDrop, Watcher};

/// How a directory is packed.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct PackOptions {
    /// How the directory becomes an archive.
    pub create: CreateOptions,
    /// Annotations of the manifest. `org.opencontainers.image.created` is added unless it is among them.
    pub annotations: BTreeMap<String, String>,
    /// The time of creation; now by default.
    pub created: Option<Timestamp>,
    /// Replace a pair that is there, once the new one is complete. By default that is refused before anything is read.
    pub overwrite: bool,
    /// Make the archive, but write nothing: [`Packed`] then says what would be.
    pub dry_run: bool,
    /// Told of files and bytes; may cancel.
    pub progress: Option<Arc<dyn Progress>>,
}

impl std::fmt::Debug for PackOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackOptions")
            .field("annotations", &self.annotations)
            .field("overwrite", &self.overwrite)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}

/// What was packed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Packed {
    /// The manifest beside the pair.
    pub manifest: ArchiveManifest,
    /// What was found in the directory.
    pub report: CreateReport,
}

/// Archives the directory `dir` as a pair of files with its manifest in the directory `dest`, which is made if it is not
/// there: `index.blob`, `data.blob` and `manifest.json`. All of them take their names at the end, or none.
///
/// # Errors
/// [`Error::Create`]; [`Error::PairExists`] for a pair that is not to be replaced.
///
/// # Cancellation
/// Dropping the future stops the threads that read the directory and waits until they have removed their temporary
/// files, for a few seconds at most.
pub async fn pack(dir: &Path, dest: &Path, options: &PackOptions) -> Result<Packed, Error> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let mut create = options.create.clone();
    create.progress = Arc::new(Watcher { inner: options.progress.clone(), cancelled: Arc::clone(&cancelled) });
    let created = options.created.unwrap_or_else(Timestamp::now).strftime(CREATED_FORMAT).to_string();
    let mut annotations = options.annotations.clone();
    annotations.entry(CREATED.into()).or_insert(created);
    let work = Work { dir: dir.into(), dest: dest.into(), create, annotations };
    let (overwrite, dry_run) = (options.overwrite, options.dry_run);
    let (over, finished) = std::sync::mpsc::channel::<()>();
    // The flag is set first, then the end is waited for.
    let _wait = Wait(finished);
    let _stop = SetOnDrop(cancelled);
    let work = tokio::task::spawn_blocking(move || {
        let _over = over;
        work.check(overwrite)?;
        if dry_run { work.plan() } else { work.run(overwrite) }
    });
    work.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Waits until the other end is dropped.
struct Wait(Receiver<()>);

impl Drop for Wait {
    fn drop(&mut self) {
        // An error is what ends it well.
        let _ = self.0.recv_timeout(Duration::from_secs(5));
    }
}

struct Work {
    dir: PathBuf,
    dest: PathBuf,
    create: CreateOptions,
    annotations: BTreeMap<String, String>,
}

impl Work {
    /// Refuses what stands in the way before anything is read.
    fn check(&self, overwrite: bool) -> Result<(), Error> {
        let failed = |source| CreateError::Output { path: self.dest.clone(), doing: "create", source };
        match std::fs::metadata(&self.dest) {
            Ok(found) if !found.is_dir() => return Err(self.failed(failed(io::ErrorKind::NotADirectory.into()))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed(failed(error))),
        }
        let names = [INDEX_NAME, DATA_NAME, MANIFEST_NAME].map(|name| self.dest.join(name));
        let there: Vec<PathBuf> = names.into_iter().filter(|path| path.symlink_metadata().is_ok()).collect();
        if let Some(path) = there.iter().find(|path| path.is_dir()) {
            return Err(self.failed(CreateError::Output {
                path: path.clone(),
                doing: "replace",
                source: io::ErrorKind::IsADirectory.into(),
            }));
        }
        if there.is_empty() || overwrite { Ok(()) } else { Err(Error::PairExists { paths: there }) }
    }

    fn run(self, overwrite: bool) -> Result<Packed, Error> {
        let annotations = self.annotations.clone();
        let bytes = move |created: &Created| manifest(created, annotations.clone()).as_bytes().to_vec();
        let mut options = CreateBlobOptions::default();
        options.create = self.create.clone();
        options.manifest = Some(ManifestOutput { name: MANIFEST_NAME.into(), bytes: Arc::new(bytes) });
        options.replace = overwrite;
        let is_new = !self.dest.exists();
        let created = create_blob(&self.dir, &self.dest, &options).map_err(|source| {
            if is_new {
                // It is empty again, if it is ours.
                let _ = std::fs::remove_dir(&self.dest);
            }
            match source {
                // It came while this one was made.
                CreateError::Output { path, source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                    Error::PairExists { paths: vec![path] }
                }
                source => self.failed(source),
            }
        })?;
        Ok(self.packed(created))
    }

    fn plan(mut self) -> Result<Packed, Error> {
        // As the deed does: what it replaces is no part of the archive.
        for name in [INDEX_NAME, DATA_NAME, MANIFEST_NAME] {
            if let Ok(old) = self.dest.join(name).symlink_metadata() {
                self.create.exclude_inodes.push((old.dev(), old.ino()));
            }
        }
        let created = create(&self.dir, &mut io::sink(), &self.create).map_err(|source| self.failed(source))?;
        Ok(self.packed(created))
    }

    fn packed(self, created: Created) -> Packed {
        Packed { manifest: manifest(&created, self.annotations), report: created.report }
    }

    fn failed(&self, source: CreateError) -> Error {
        match source {
            CreateError::Empty => Error::Empty { what: self.dir.display().to_string() },
            source => Error::Create { dir: self.dir.clone(), source },
        }
    }
}

fn manifest(created: &Created, annotations: BTreeMap<String, String>) -> ArchiveManifest {
    ArchiveManifest::build(created.index.as_bytes(), (created.data_digest, created.data_size), annotations)
}
