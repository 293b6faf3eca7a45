//! An OCI image layout in a tar file, which other programs call `oci-archive`.
//!
//! A tar file that is not compressed holds its members as they are, one behind the other. So nothing is unpacked: the
//! headers are read once, and blobs are parts of the file. Writing assembles a new file beside the old one, which takes
//! its place as a whole at the end; until then nobody sees anything of it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blob_core::source::{FileSource, SliceSource, SourceId};
use blob_core::{ByteSource, Digest, Hasher};
use bytes::Bytes;

mod members;
mod write;

use super::lookup::Lookup;
use super::memo::{Memo, Stamp};
use super::refs::Index;
use super::{failed, offload};
use crate::descriptor::Descriptor;
use crate::error::{ErrorCode, RegistryError};
use crate::manifest::Outline;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{
    BlobReader, MAX_MANIFEST_BYTES, Manifest, Page, PageRequest, PushBlob, PushManifest, PushedBlob, PushedManifest,
    Registry,
};
use crate::store;

use members::Members;
use write::NewFile;

/// One image layout in a tar file, whatever repository is asked for.
///
/// [`open`](Self::open) reads one that is there. [`begin`](Self::begin) adds to it, or makes one: what is pushed waits in
/// a temporary file beside it until [`finish`](Self::finish), and is gone if that is not called. Nothing can be deleted,
/// and there are no upload sessions.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use blob_registry::{ImageManifest, LayoutFile, PushManifest, Registry, Repository, Tag, media_type};
/// # use blob_core::{Digest, MemorySource};
/// # use blob_registry::PushBlob;
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("artifact.tar");
/// let any = Repository::new("layout")?;
/// let layout = LayoutFile::begin(&path).await?;
/// # let empty = PushBlob::new(Digest::sha256_of(b"{}"), std::sync::Arc::new(MemorySource::new("{}")));
/// # layout.push_blob(&any, empty).await?;
/// let manifest = ImageManifest::artifact("application/vnd.example", vec![]).to_bytes();
/// let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest).with_tags([Tag::new("v1")?]);
/// layout.push_manifest(&any, push).await?;
/// layout.finish().await?;
/// assert_eq!(LayoutFile::open(&path).await?.tags(&any, &Default::default()).await?.items, [Tag::new("v1")?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayoutFile {
    inner: Arc<Inner>,
    /// Whether pushes hash what is there.
    verify: bool,
}

/// Blobs are hashed by pieces of so many bytes.
const VERIFIED: usize = 1 << 20;

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writable: bool,
    state: Mutex<State>,
    memo: Memo,
    /// Held by the one who appends.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    index: Arc<Index>,
    blobs: HashMap<Digest, Extent>,
    /// The file that was there, and what it looked like.
    old: Option<(Arc<File>, Stamp)>,
    new: Option<NewFile>,
    changed: bool,
    finished: bool,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
struct Extent {
    in_old: bool,
    range: Range<u64>,
}

impl LayoutFile {
    /// Opens the layout in the file `path`, to be read.
    ///
    /// # Errors
    /// [`RegistryError::Io`], and [`RegistryError::Protocol`] for a file that is no tar file, is compressed, or holds no
    /// layout of a version that is known.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let path = path.into();
        offload(move || Ok(Self::from_state(path.clone(), false, read(&path)?))).await
    }

    /// Opens the layout in the file `path` to add to it; an empty file, or none, is an empty layout. Nothing is written
    /// before something is pushed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn begin(path: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let path: PathBuf = path.into();
        offload(move || {
            // The file is replaced, not a link to it.
            let path = std::fs::canonicalize(&path).or_else(|_| std::path::absolute(&path)).unwrap_or(path);
            let state = match std::fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => State::empty(),
                Ok(meta) if meta.is_file() && meta.len() == 0 => State::empty(),
                _ => read(&path)?,
            };
            Ok(Self::from_state(path, true, state))
        })
        .await
    }

    /// Puts the new file in the place of the old one, with everything that this had. Without a change nothing is written.
    ///
    /// # Errors
    /// [`RegistryError::Io`]; and [`RegistryError::Code`] with [`ErrorCode::TooManyRequests`] when another program changed
    /// the file since [`begin`](Self::begin), which would be lost.
    pub async fn finish(&self) -> Result<(), RegistryError> {
        let _turn = self.inner.turn.lock().await;
        let inner = Arc::clone(&self.inner);
        offload(move || inner.finish()).await
    }

    /// A handle on the same file whose pushes hash the blobs that are there, and write those anew that are damaged.
    #[must_use]
    pub fn with_verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    fn from_state(path: PathBuf, writable: bool, state: State) -> Self {
        let turn = tokio::sync::Mutex::new(());
        let inner = Arc::new(Inner { path, writable, state: Mutex::new(state), memo: Memo::default(), turn });
        Self { inner, verify: false }
    }

    fn unknown(&self, action: &str, target: &Target) -> RegistryError {
        let action = format!("{action} manifest {target} of {}", self.inner.path.display());
        RegistryError::code(action, ErrorCode::ManifestUnknown)
    }
}

impl State {
    fn empty() -> Self {
        let index = Arc::new(Index::empty());
        Self { index, blobs: HashMap::new(), old: None, new: None, changed: false, finished: false }
    }
}

/// Reads the headers of the file.
fn read(path: &Path) -> Result<State, RegistryError> {
    let action = || format!("opening the layout in {}", path.display());
    let meta = std::fs::metadata(path).map_err(failed(action))?;
    if !meta.is_file() {
        let detail = "expected a tar file, got something that is no regular file".into();
        return Err(RegistryError::Protocol { action: action(), detail });
    }
    let file = File::open(path).map_err(failed(action))?;
    let stamp = file.metadata().and_then(|meta| Stamp::from(&meta)).map_err(failed(action))?;
    let Members { index, blobs } = members::read(&file).map_err(|problem| problem.at(action()))?;
    let blobs = blobs.into_iter().map(|(digest, range)| (digest, Extent { in_old: true, range })).collect();
    let old = Some((Arc::new(file), stamp));
    Ok(State { index: Arc::new(index), blobs, old, ..State::empty() })
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Changes are whole before the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_writable(&self, action: &str) -> Result<(), RegistryError> {
        if self.writable && !self.state().finished {
            return Ok(());
        }
        let detail = format!(
            "the layout in {} is written as a whole: copy it to a directory, change it there, and copy it back",
            self.path.display()
        );
        Err(RegistryError::detailed(action, ErrorCode::Unsupported, detail))
    }

    fn has(&self, digest: &Digest) -> bool {
        self.state().blobs.contains_key(digest)
    }

    /// Whether a blob that is there is what its name says.
    fn is_sound(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let action = || format!("verifying blob {digest} in {}", self.path.display());
        let source = self.source(digest)?;
        let Some(blob_core::Local::File { file, offset }) = source.as_ref().and_then(|source| source.local()) else {
            return Ok(false);
        };
        let size = self.stat(digest)?.unwrap_or_default();
        let (mut hasher, mut done, mut piece) = (Hasher::new(digest.algorithm()), 0, vec![0; VERIFIED]);
        while done < size {
            let piece = &mut piece[..(size - done).min(VERIFIED as u64) as usize];
            file.read_exact_at(piece, offset + done).map_err(failed(action))?;
            hasher.update(piece);
            done += piece.len() as u64;
        }
        Ok(hasher.finish() == *digest)
    }

    /// A blob, as a part of the file that it is in.
    fn source(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        let action = || format!("opening blob {digest} in {}", self.path.display());
        let (file, range) = {
            let state = self.state();
            let Some(extent) = state.blobs.get(digest) else { return Ok(None) };
            let file = match (&state.old, &state.new) {
                (Some((old, _)), _) if extent.in_old => old,
                (_, Some(new)) if !extent.in_old => new.file(),
                _ => return Ok(None),
            };
            (file.try_clone().map_err(failed(action))?, extent.range.clone())
        };
        let whole = FileSource::from_file(file).map_err(failed(action))?;
        let part = SliceSource::new(Arc::new(whole), range);
        let part = part.map_err(|source| RegistryError::Source { action: action(), source })?;
        Ok(Some(Arc::new(part.with_id(SourceId::from(*digest)))))
    }

    /// Adds a manifest, whose blobs must be there.
    fn push_manifest(&self, repository: &str, manifest: &PushManifest, outline: &Outline) -> Result<(), RegistryError> {
        let mut index = Index::clone(&*self.state().index);
        for digest in store::needed(outline, false) {
            if !self.has(&digest) {
                return Err(store::missing(repository, &manifest.digest, &digest));
            }
        }
        for tag in &manifest.tags {
            let current = index.resolve(tag).map(|current| current.digest);
            store::check_condition(repository, tag, current.as_ref(), manifest)?;
        }
        if !matches!(self.document(&manifest.digest), Ok(Some(_))) {
            self.append_bytes(manifest.digest, &manifest.bytes)?;
        }
        let size = manifest.bytes.len() as u64;
        let mut descriptor = Descriptor::new(manifest.media_type.clone(), manifest.digest, size);
        descriptor.artifact_type.clone_from(&outline.artifact_type);
        index.list(&descriptor);
        for tag in &manifest.tags {
            index.tag(&descriptor, tag);
        }
        let mut state = self.state();
        state.changed |= !index.is_same(&state.index);
        state.index = Arc::new(index);
        Ok(())
    }
}

impl Lookup for Inner {
    fn index(&self) -> Result<Arc<Index>, RegistryError> {
        Ok(Arc::clone(&self.state().index))
    }

    fn stat(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        Ok(self.state().blobs.get(digest).map(|extent| extent.range.end - extent.range.start))
    }

    fn document(&self, digest: &Digest) -> Result<Option<Bytes>, RegistryError> {
        let action = || format!("reading manifest {digest} in {}", self.path.display());
        let Some(size) = self.stat(digest)? else { return Ok(None) };
        if size > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { action: action(), size, limit: MAX_MANIFEST_BYTES });
        }
        let Some(source) = self.source(digest)? else { return Ok(None) };
        let Some(blob_core::Local::File { file, offset }) = source.local() else { return Ok(None) };
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, offset).map_err(failed(action))?;
        let got = Digest::of(digest.algorithm(), &bytes);
        if got == *digest {
            return Ok(Some(bytes.into()));
        }
        Err(RegistryError::DigestMismatch { action: action(), expected: *digest, got })
    }

    fn memo(&self) -> &Memo {
        &self.memo
    }
}

#[async_trait]
impl Registry for LayoutFile {
    async fn resolve(&self, _repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError> {
        let (inner, wanted) = (Arc::clone(&self.inner), target.clone());
        let found = offload(move || inner.resolve(&wanted)).await?;
        found.ok_or_else(|| self.unknown("resolving", target))
    }

    async fn manifest(&self, _repository: &Repository, target: &Target) -> Result<Manifest, RegistryError> {
        let (inner, wanted) = (Arc::clone(&self.inner), target.clone());
        let found = offload(move || inner.manifest(&wanted)).await?;
        found.ok_or_else(|| self.unknown("reading", target))
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        let action = || format!("looking for blob {repository}@{digest}");
        self.inner.stat(digest)?.ok_or_else(|| RegistryError::code(action(), ErrorCode::BlobUnknown))
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        let action = format!("reading blob {repository}@{digest}");
        let Some(source) = self.inner.source(digest)? else {
            return Err(RegistryError::code(action, ErrorCode::BlobUnknown));
        };
        let size = source.size();
        let range = range.unwrap_or(0..size);
        if !blob_core::range::fits(&range, size) {
            return Err(store::bad_range(action, range.start, range.end, size));
        }
        let stream = source.open(range.clone()).await;
        let stream = stream.map_err(|source| RegistryError::Source { action, source })?;
        Ok(BlobReader { size, range, stream, ranged: true })
    }

    async fn local_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        let action = || format!("reading blob {repository}@{digest}");
        let found = self.inner.source(digest)?;
        found.map(Some).ok_or_else(|| RegistryError::code(action(), ErrorCode::BlobUnknown))
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob, RegistryError> {
        let action = format!("pushing blob {repository}@{}", blob.digest);
        self.inner.check_writable(&action)?;
        let turn = self.inner.turn.lock().await;
        let (inner, digest, verify) = (Arc::clone(&self.inner), blob.digest, self.verify);
        if offload(move || Ok(inner.has(&digest) && (!verify || inner.is_sound(&digest)?))).await? {
            drop(turn);
            store::report_existing(&blob, &action)?;
            return Ok(PushedBlob::Existing);
        }
        write::append(&self.inner, &blob, &action).await?;
        Ok(PushedBlob::Uploaded)
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: PushManifest,
    ) -> Result<PushedManifest, RegistryError> {
        self.inner.check_writable(&format!("pushing manifest {repository}@{}", manifest.digest))?;
        let _turn = self.inner.turn.lock().await;
        let (inner, repository) = (Arc::clone(&self.inner), repository.to_string());
        offload(move || {
            let outline = store::check_manifest(&repository, &manifest)?;
            inner.push_manifest(&repository, &manifest, &outline)?;
            Ok(PushedManifest::new(manifest.digest, outline.subject.map(|subject| subject.digest)))
        })
        .await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>, RegistryError> {
        let index = self.inner.index()?;
        if index.is_empty() {
            return Err(RegistryError::code(format!("listing the tags of {repository}"), ErrorCode::NameUnknown));
        }
        Ok(store::page(index.tags().into_keys(), page, ToString::to_string))
    }

    async fn referrers(
        &self,
        _repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>, RegistryError> {
        let (inner, subject, kind) = (Arc::clone(&self.inner), *subject, artifact_type.map(str::to_owned));
        let found = offload(move || inner.referrers(&subject, kind.as_deref())).await?;
        Ok(store::page(found, page, |entry| entry.digest.to_string()))
    }
}
