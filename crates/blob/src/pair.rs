//! An archive as a pair of files, index and data side by side, with the manifest above them where there is one.
//!
//! A pair is read as a repository with a single manifest, so whatever reads archives reads pairs, and copies push them. It is
//! made as a whole and never changed. A pair without a manifest, as other programs write them, gets one made up from what
//! its index says; nobody then vouches for the index itself.

mod pack;

use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::source::FileSource;
use blob_core::{ArchiveIndex, ByteSource, Digest, Hasher, IndexLimits, MemorySource, SourceId};
use blob_policy::FromManifest as _;
use blob_registry::{
    BlobReader, Descriptor, EMPTY_JSON, ErrorCode, MAX_MANIFEST_BYTES, Manifest, Page, PageRequest, PushBlob,
    PushManifest, PushedBlob, PushedManifest, Registry, RegistryError, Repository, Tag, Target, media_type,
};
use bytes::Bytes;

pub use pack::{PackOptions, Packed, pack};

use crate::archive_manifest::ArchiveManifest;

/// The file of a pair with the index.
pub const INDEX_NAME: &str = "index.blob";
/// The file of a pair with the data.
pub const DATA_NAME: &str = "data.blob";
/// The file beside a pair with its manifest.
pub const MANIFEST_NAME: &str = "manifest.json";
/// The one tag of a pair.
pub(crate) const PAIR_TAG: &str = "latest";

/// Whether there is a manifest beside the pair in `dir`. Blocks for one question to the file system.
pub fn has_manifest(dir: &Path) -> bool {
    dir.join(MANIFEST_NAME).symlink_metadata().is_ok()
}

/// A pair in a directory.
#[derive(Debug)]
pub(crate) struct PairRegistry {
    dir: PathBuf,
    manifest: ArchiveManifest,
    index: Bytes,
    data: Arc<dyn ByteSource>,
}

impl PairRegistry {
    /// Opens the pair in `dir`. A manifest that is there must fit both files. Blocks while manifest and index are read,
    /// and while the data is hashed, where neither says its digest.
    ///
    /// # Errors
    /// [`RegistryError`]: not found for a file that is not there, an integrity error for files that do not fit.
    pub(crate) fn open(dir: &Path, limits: &IndexLimits) -> Result<Self, RegistryError> {
        let action = |name: &str| format!("reading {}", dir.join(name).display());
        let index = read(&dir.join(INDEX_NAME), limits.max_bytes)?;
        let data = FileSource::open(dir.join(DATA_NAME)).map_err(|error| unreadable(action(DATA_NAME), error))?;
        let manifest = if has_manifest(dir) {
            let bytes = read(&dir.join(MANIFEST_NAME), MAX_MANIFEST_BYTES)?;
            let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
            let parsed = ArchiveManifest::from_manifest(&descriptor, &bytes);
            parsed.map_err(|error| unreadable(action(MANIFEST_NAME), error))?
        } else {
            made_up(&index, (&dir.join(DATA_NAME), data.size()))
                .map_err(|error| unreadable(action(INDEX_NAME), error))?
        };
        for (name, layer, size) in
            [(INDEX_NAME, manifest.index(), index.len() as u64), (DATA_NAME, manifest.data(), data.size())]
        {
            if layer.size != size {
                return Err(RegistryError::SizeMismatch { action: action(name), expected: layer.size, got: size });
            }
        }
        let (expected, got) = (manifest.index().digest, Digest::sha256_of(&index));
        if expected != got {
            return Err(RegistryError::DigestMismatch { action: action(INDEX_NAME), expected, got });
        }
        let data = Arc::new(data.with_id(SourceId::from(manifest.data().digest)));
        Ok(Self { dir: dir.to_owned(), manifest, index, data })
    }

    fn blob(&self, action: impl FnOnce() -> String, digest: &Digest) -> Result<Arc<dyn ByteSource>, RegistryError> {
        if *digest == self.manifest.data().digest {
            Ok(Arc::clone(&self.data))
        } else if *digest == self.manifest.index().digest {
            Ok(Arc::new(MemorySource::new(self.index.clone())))
        } else if *digest == Digest::sha256_of(EMPTY_JSON) {
            Ok(Arc::new(MemorySource::new(EMPTY_JSON)))
        } else {
            Err(RegistryError::code(action(), ErrorCode::BlobUnknown))
        }
    }

    /// It is made as a whole.
    fn fixed<T>(&self) -> Result<T, RegistryError> {
        Err(RegistryError::unsupported(format!("changing the pair of files in {}", self.dir.display())))
    }
}

#[async_trait]
impl Registry for PairRegistry {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError> {
        Ok(self.manifest(repository, target).await?.descriptor)
    }

    async fn manifest(&self, _repository: &Repository, target: &Target) -> Result<Manifest, RegistryError> {
        let known = match target {
            Target::Tag(tag) => tag.as_str() == PAIR_TAG,
            Target::Digest(digest) => digest == self.manifest.digest(),
        };
        if !known {
            let action = format!("reading {target} of the pair of files in {}", self.dir.display());
            return Err(RegistryError::code(action, ErrorCode::ManifestUnknown));
        }
        let bytes = self.manifest.as_bytes().clone();
        let descriptor = Descriptor::new(media_type::IMAGE_MANIFEST, *self.manifest.digest(), bytes.len() as u64);
        Ok(Manifest { descriptor, bytes })
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        Ok(self.blob(|| format!("looking for blob {repository}@{digest}"), digest)?.size())
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        let action = format!("reading blob {repository}@{digest}");
        let source = self.blob(|| action.clone(), digest)?;
        let size = source.size();
        let range = range.unwrap_or(0..size);
        if !blob_core::range::fits(&range, size) {
            return Err(RegistryError::code(action, ErrorCode::RangeInvalid));
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
        self.blob(|| format!("reading blob {repository}@{digest}"), digest).map(Some)
    }

    async fn push_blob(&self, _repository: &Repository, _blob: PushBlob) -> Result<PushedBlob, RegistryError> {
        self.fixed()
    }

    async fn push_manifest(
        &self,
        _repository: &Repository,
        _manifest: PushManifest,
    ) -> Result<PushedManifest, RegistryError> {
        self.fixed()
    }

    async fn tags(&self, _repository: &Repository, page: &PageRequest) -> Result<Page<Tag>, RegistryError> {
        let wanted = page.after.as_deref().is_none_or(|after| after < PAIR_TAG);
        Ok(Page::new(if wanted { vec![pair_tag()] } else { Vec::new() }, None))
    }

    async fn referrers(
        &self,
        _repository: &Repository,
        _subject: &Digest,
        _artifact_type: Option<&str>,
        _page: &PageRequest,
    ) -> Result<Page<Descriptor>, RegistryError> {
        Ok(Page::new(Vec::new(), None))
    }
}

/// The one tag of a pair.
pub(crate) fn pair_tag() -> Tag {
    Tag::new(PAIR_TAG).expect("the name is valid")
}

/// The manifest of a pair that has none: the same for the same files.
fn made_up(
    index: &Bytes,
    (path, size): (&Path, u64),
) -> Result<ArchiveManifest, Box<dyn std::error::Error + Send + Sync>> {
    let mut limits = IndexLimits::default();
    limits.max_bytes = index.len() as u64;
    let digest = match ArchiveIndex::parse(index.clone(), &limits)?.data_digest() {
        Some(digest) => digest,
        None => hash(path)?,
    };
    Ok(ArchiveManifest::build(index, (digest, size), std::collections::BTreeMap::default()))
}

fn hash(path: &Path) -> std::io::Result<Digest> {
    let (mut hasher, mut file) = (Hasher::sha256(), blob_core::plain::open(path)?);
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&chunk[..length]),
        }
    }
}

/// A whole file of `limit` bytes at most.
fn read(path: &Path, limit: u64) -> Result<Bytes, RegistryError> {
    let action = || format!("reading {}", path.display());
    let io = |error: std::io::Error| unreadable(action(), error);
    let file = blob_core::plain::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    let size = bytes.len() as u64;
    if size > limit {
        return Err(RegistryError::TooLarge { action: action(), size, limit });
    }
    Ok(bytes.into())
}

fn unreadable(action: String, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RegistryError {
    RegistryError::Io { action, transient: false, source: error.into() }
}
