//! One OCI image layout on disk (image-spec, "image-layout.md"). Everything here blocks.
//!
//! ```text
//! oci-layout            the version of the form
//! index.json            the manifests, with their tags
//! blobs/sha256/<hex>    all content, manifests too
//! .blob/lock            held while index.json is changed
//! .blob/tmp/<random>    files that are being written
//! .blob/uploads/<id>    upload sessions
//! .blob/damaged/<random> blobs that were found to be damaged
//! ```

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blob_core::Digest;
use blob_core::source::{FileSource, SourceId};
use bytes::Bytes;

use super::failed;
use super::lock;
use super::lookup::Lookup;
use super::memo::{Memo, Stamp};
use super::refs::Index;
use super::verify::Verify;
use super::write::{self, Incoming};
use crate::error::{ErrorCode, RegistryError};
use crate::registry::MAX_MANIFEST_BYTES;

/// Larger `index.json` files are neither written nor read: 64 MiB.
pub(super) const MAX_INDEX_BYTES: u64 = 64 << 20;

/// More upload sessions than this are not open at a time.
const MAX_SESSIONS: usize = 10_000;

/// Blobs that somebody asks for are made young again when they are older than this.
const FRESH: Duration = Duration::from_mins(10);

/// A lock that others hold for longer is not waited for. They hold one while they write, or read what was uploaded once
/// more: a process that is stopped must not hold up every thread of this one.
const PATIENCE: Duration = Duration::from_secs(30);

/// A layout directory, which need not exist yet.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: Arc<Path>,
    memo: Arc<Memo>,
    sparse: bool,
    verify: Verify,
    /// How long a lock is waited for.
    patience: Duration,
}

impl Layout {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self::remembered(root, Arc::default())
    }

    /// The same, with what is remembered of it.
    pub(super) fn remembered(root: impl Into<PathBuf>, memo: Arc<Memo>) -> Self {
        Self { root: root.into().into(), memo, sparse: false, verify: Verify::No, patience: PATIENCE }
    }

    /// How long a lock on something of this layout is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same, taking manifests without their blobs or refusing them.
    pub(super) fn with_sparse(self, sparse: bool) -> Self {
        Self { sparse, ..self }
    }

    /// Whether manifests may come without their blobs.
    pub(super) fn is_sparse(&self) -> bool {
        self.sparse
    }

    /// The same, doing this about damaged blobs.
    pub(super) fn with_verify(self, verify: Verify) -> Self {
        Self { verify, ..self }
    }

    /// What is done about damaged blobs.
    pub(super) fn verify(&self) -> Verify {
        self.verify
    }

    /// What is remembered of it.
    pub(super) fn memo(&self) -> &Memo {
        &self.memo
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where content with this digest is.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    pub(super) fn temporaries(&self) -> PathBuf {
        self.root.join(".blob/tmp")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join(".blob/uploads")
    }

    pub(super) fn damaged(&self) -> PathBuf {
        self.root.join(".blob/damaged")
    }

    /// Whether there is a layout.
    pub(super) fn exists(&self) -> bool {
        self.root.join("oci-layout").is_file()
    }

    /// Checks that there is a layout of a version we know.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        let path = self.root.join("oci-layout");
        let action = || format!("opening the layout {}", self.root.display());
        let marker = read_bounded(&path, 4096).map_err(failed(action))?;
        let version = serde_json::from_slice::<serde_json::Value>(&marker).ok();
        let version = version.as_ref().and_then(|marker| marker.get("imageLayoutVersion")?.as_str());
        match version {
            Some(version) if version.starts_with("1.") => Ok(()),
            other => {
                let detail = format!("expected imageLayoutVersion 1.0.0 in oci-layout, got {other:?}");
                Err(RegistryError::Protocol { action: action(), detail })
            }
        }
    }

    /// Refuses to write to a layout whose directories are links, as in one that somebody else packed: what lies behind them
    /// is not the layout's, to be replaced or removed. Reading does no harm, since all content is checked.
    pub(super) fn check_own(&self) -> Result<(), RegistryError> {
        let own = [".blob", ".blob/tmp", ".blob/uploads", ".blob/damaged", ".blob/lock"];
        for name in ["blobs", "blobs/sha256", "blobs/sha512"].into_iter().chain(own) {
            let path = self.root.join(name);
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
                let action = format!("writing to the image layout {}", self.root.display());
                let detail = format!("{} is a symbolic link, which may lead anywhere: remove it", path.display());
                return Err(RegistryError::Protocol { action, detail });
            }
        }
        Ok(())
    }

    /// Makes the layout if there is none. The marker file comes last: a layout that has it is whole.
    pub(super) fn create(&self) -> Result<(), RegistryError> {
        self.check_own()?;
        if self.exists() {
            return Ok(());
        }
        let action = || format!("creating the image layout {}", self.root.display());
        for directory in [self.root.join("blobs/sha256"), self.temporaries(), self.uploads()] {
            write::make_directory(&directory).map_err(failed(action))?;
        }
        self.update(|_| Ok(()))?;
        write::replace(&self.temporaries(), &self.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// Removes what crashed writers left behind and nobody touched for `age`. Returns how many files that were.
    pub(super) fn reclaim(&self, age: Duration) -> usize {
        self.reclaim_in(&[self.temporaries(), self.uploads()], age)
    }

    /// The same for damaged blobs that were set aside.
    pub(super) fn reclaim_damaged(&self, age: Duration) -> usize {
        self.reclaim_in(&[self.damaged()], age)
    }

    fn reclaim_in(&self, directories: &[PathBuf], age: Duration) -> usize {
        if self.check_own().is_err() {
            return 0;
        }
        directories.iter().map(|directory| write::reclaim(directory, age)).sum()
    }

    /// Refuses another upload session where there are too many.
    pub(super) fn check_sessions(&self, name: &str) -> Result<(), RegistryError> {
        let count = || fs::read_dir(self.uploads()).map_or(0, Iterator::count);
        if count() < MAX_SESSIONS {
            return Ok(());
        }
        self.reclaim(write::LEFTOVER);
        let left = count();
        if left < MAX_SESSIONS {
            return Ok(());
        }
        let detail = format!("{left} upload sessions are open, and {MAX_SESSIONS} may be");
        Err(RegistryError::detailed(format!("uploading to {name}"), ErrorCode::TooManyRequests, detail))
    }

    /// A blob as a source whose id is its digest.
    pub(super) fn source(&self, digest: &Digest) -> Result<Option<FileSource>, RegistryError> {
        let path = self.blob_path(digest);
        // Opening something else than a file, such as a pipe, could block for ever.
        let opened =
            fs::metadata(&path).and_then(|meta| if meta.is_file() { FileSource::open(&path) } else { absent() });
        match opened {
            Ok(source) => Ok(Some(source.with_id(SourceId::from(*digest)))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed(|| format!("opening blob {digest}"))(error)),
        }
    }

    /// The size of a blob in bytes.
    pub(super) fn stat(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        match fs::metadata(self.blob_path(digest)) {
            Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed(|| format!("looking for blob {digest}"))(error)),
        }
    }

    /// The list of manifests of a layout that must have one. A layout that was restored in part may lack the list and
    /// have the blobs.
    pub(super) fn present_index(&self) -> Result<Arc<Index>, RegistryError> {
        let path = self.root.join("index.json");
        let action = || format!("reading {}, without which nothing is known of what is needed", path.display());
        fs::metadata(&path).map_err(failed(action))?;
        self.index()
    }

    /// The list of manifests. A layout without one has none.
    pub(super) fn index(&self) -> Result<Arc<Index>, RegistryError> {
        let path = self.root.join("index.json");
        let action = || format!("reading {}", path.display());
        let read = || -> io::Result<Result<Arc<Index>, serde_json::Error>> {
            let file = write::open_file(&path)?;
            let stamp = Stamp::from(&file.metadata()?)?;
            if let Some(index) = self.memo.index(stamp) {
                return Ok(Ok(index));
            }
            let index = Index::parse(&take_bounded(file, MAX_INDEX_BYTES)?).map(Arc::new);
            if let Ok(index) = &index {
                self.memo.remember(stamp, Arc::clone(index));
            }
            Ok(index)
        };
        match read() {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(error)) => Err(RegistryError::Protocol {
                action: action(),
                detail: format!("expected an object with a list of manifests: {error}"),
            }),
            Err(error) if is_absent(&error) => Ok(Arc::new(Index::empty())),
            Err(error) => Err(failed(action)(error)),
        }
    }

    /// Changes the list of manifests while no other process that keeps to the lock does. An error changes nothing.
    pub(super) fn update<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.locked(|| self.change(change))
    }

    /// Does `work` while no other process that keeps to the lock changes the layout.
    pub(super) fn locked<T>(&self, work: impl FnOnce() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        self.check_own()?;
        let action = || format!("locking {}", self.root.display());
        let Some(_lock) = self.lock().map_err(failed(action))? else {
            let seconds = self.patience.as_secs();
            let detail = Some(format!("another program has held .blob/lock for over {seconds} s; try again later"));
            let (code, status, retry_after) = (ErrorCode::TooManyRequests, Some(503), Some(Duration::from_secs(1)));
            return Err(RegistryError::Code { action: action(), code, detail, status, retry_after });
        };
        work()
    }

    /// Changes the list of manifests; the caller holds the lock.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let path = self.root.join("index.json");
        let before = self.index()?;
        let mut index = Index::clone(&before);
        let result = change(&mut index)?;
        let there = path.exists();
        if !there && self.exists() {
            // Listing only what comes from now on would make garbage of all that is there.
            let detail = "the layout has no index.json: restore the file, or write one without manifests".into();
            return Err(RegistryError::Protocol { action: format!("changing {}", path.display()), detail });
        }
        if !index.is_same(&before) || !there {
            let bytes = index.to_bytes()?;
            let size = bytes.len() as u64;
            if size > MAX_INDEX_BYTES {
                // It could not be read again.
                let action = "writing index.json, the list of manifests".to_owned();
                return Err(RegistryError::TooLarge { action, size, limit: MAX_INDEX_BYTES });
            }
            write::replace(&self.temporaries(), &path, &bytes)?;
            // Nobody else replaces it while the lock is held. Without a stamp it is read again.
            if let Ok(stamp) = Stamp::of(&path) {
                self.memo.remember(stamp, Arc::new(index));
            }
        }
        Ok(result)
    }

    /// Waits for the lock, which is free again when the file is dropped or the process ends. `None` if it takes too
    /// long.
    fn lock(&self) -> io::Result<Option<File>> {
        let path = self.root.join(".blob/lock");
        let open = || File::options().create(true).truncate(false).write(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(self.root.join(".blob"))?;
                open()?
            }
            other => other?,
        };
        Ok(lock::wait(&file, self.patience)?.then_some(file))
    }

    /// Whether the list of manifests, or an index on it, names this one.
    pub(super) fn names_manifest(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let index = self.index()?;
        Ok(index.find(digest).is_some() || self.nested(&index, digest)?.is_some())
    }

    /// The bytes of a manifest: at most 4 MiB, their digest checked.
    pub(super) fn document(&self, digest: &Digest) -> Result<Option<Bytes>, RegistryError> {
        let action = || format!("reading manifest {digest}");
        match self.stat(digest)? {
            None => return Ok(None),
            Some(size) if size > MAX_MANIFEST_BYTES => {
                return Err(RegistryError::TooLarge { action: action(), size, limit: MAX_MANIFEST_BYTES });
            }
            Some(_) => {}
        }
        let bytes = match read_bounded(&self.blob_path(digest), MAX_MANIFEST_BYTES) {
            Err(error) if is_absent(&error) => return Ok(None),
            other => other.map_err(failed(action))?,
        };
        let got = Digest::of(digest.algorithm(), &bytes);
        if got == *digest {
            return Ok(Some(bytes.into()));
        }
        Err(RegistryError::DigestMismatch { action: action(), expected: *digest, got })
    }

    /// Bytes of all content, uploads that are not finished and damaged blobs included. Files with several names count
    /// unless they are in `linked`, and are there afterwards.
    pub(super) fn used(&self, linked: &mut HashSet<(u64, u64)>) -> Result<u64, RegistryError> {
        use std::os::unix::fs::MetadataExt as _;
        let blobs = ["sha256", "sha512"].map(|algorithm| self.root.join("blobs").join(algorithm));
        let mut sum = 0_u64;
        for directory in blobs.into_iter().chain([self.uploads(), self.temporaries(), self.damaged()]) {
            let entries = match fs::read_dir(&directory) {
                Err(error) if is_absent(&error) => continue,
                other => other.map_err(failed(|| format!("listing {}", directory.display())))?,
            };
            // What goes away while it is counted takes nothing any more.
            let files = entries.flatten().filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file);
            let new = files.filter(|meta| meta.nlink() == 1 || linked.insert((meta.dev(), meta.ino())));
            sum = new.fold(sum, |sum, meta| sum.saturating_add(meta.len()));
        }
        Ok(sum)
    }

    /// Makes a blob young again: whoever was told that it is there need not send it, and names it soon. What fails here
    /// is found out by the push of the manifest.
    pub(super) fn freshen(&self, digest: &Digest) {
        let path = self.blob_path(digest);
        let age = fs::metadata(&path).and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_none_or(|age| age <= FRESH) {
            return;
        }
        let young = || -> io::Result<()> {
            let file = write::open_file(&path)?;
            let before = Stamp::from(&file.metadata()?)?;
            file.set_modified(SystemTime::now())?;
            self.memo.restamp(digest, before, Stamp::from(&file.metadata()?)?);
            Ok(())
        };
        if let Err(error) = young() {
            tracing::debug!(%error, %digest, "a blob could not be made young");
        }
    }

    /// Stores the bytes of a manifest, whose digest was checked. What is there is read: damage is mended by a push.
    pub(super) fn store(&self, digest: &Digest, bytes: &[u8]) -> Result<(), RegistryError> {
        self.check_own()?;
        if matches!(self.document(digest), Ok(Some(_))) {
            self.freshen(digest);
            return Ok(());
        }
        let mut incoming = Incoming::begin(&self.temporaries(), *digest)?;
        incoming.write(bytes)?;
        incoming.finish(&self.blob_path(digest), &format!("writing manifest {digest}"))
    }

    /// Removes the file of a blob. False if there is none.
    pub(super) fn unlink(&self, digest: &Digest) -> Result<bool, RegistryError> {
        self.check_own()?;
        let path = self.blob_path(digest);
        let removed = fs::remove_file(&path).and_then(|()| write::sync_directory(path.parent().unwrap_or(&self.root)));
        match removed {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(failed(|| format!("removing {}", path.display()))(error)),
        }
    }
}

impl Lookup for Layout {
    fn index(&self) -> Result<Arc<Index>, RegistryError> {
        Self::index(self)
    }

    fn stat(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        Self::stat(self, digest)
    }

    fn document(&self, digest: &Digest) -> Result<Option<Bytes>, RegistryError> {
        Self::document(self, digest)
    }

    fn memo(&self) -> &Memo {
        &self.memo
    }
}

/// Whether an error says that there is no such file.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn absent<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotFound.into())
}

/// Reads a file of at most `limit` bytes.
fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    take_bounded(write::open_file(path)?, limit)
}

fn take_bounded(file: File, limit: u64) -> io::Result<Vec<u8>> {
    // A buffer that grows as it is filled would have room for twice as much.
    let expected = file.metadata()?.len().min(limit) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("the file is over the limit of {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
