//! OCI image layouts on disk (image-spec, "image-layout.md") as registries.
//!
//! [`LayoutRegistry`] is one layout as other programs read and write it: `skopeo copy oci:DIR:TAG …` and back.
//! [`LayoutStore`] keeps one layout for each repository beneath a directory, for a server to stand on. [`LayoutFile`] is a
//! layout in a tar file, read where it lies and replaced as a whole.
//!
//! Content appears under its final name only when it is whole, checked and on disk; `index.json` is replaced as a whole
//! under a lock that other processes with this code keep to. A process that is killed leaves at most temporary files,
//! which are removed a day later, and upload sessions, which can be resumed until then. The lock is advisory: programs
//! that do not know it must not write to the layout at the same time.
//!
//! Deleting a manifest leaves its layers; [`LayoutRegistry::collect_garbage`] and [`LayoutStore::collect_garbage`]
//! remove what no manifest needs any more, also while others push.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::{ByteSource, Digest};

use crate::error::RegistryError;
use crate::reference::Repository;

mod disk;
mod file;
mod forward;
mod gc;
mod link;
mod lock;
mod lookup;
mod memo;
mod places;
mod push;
mod refs;
mod upload;
mod verify;
mod write;

use disk::Layout;
use places::{Beneath, Places};

pub use file::LayoutFile;
pub use gc::{GcOptions, GcReport, Uncollected};

/// One image layout, whatever repository is asked for.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use blob_registry::{ImageManifest, LayoutRegistry, PushManifest, Registry, Repository, Tag, media_type};
/// # use blob_core::{Digest, MemorySource};
/// # use blob_registry::PushBlob;
///
/// let directory = tempfile::tempdir()?;
/// let layout = LayoutRegistry::open_or_create(directory.path().join("layout")).await?;
/// let any = Repository::new("layout")?;
/// # let empty = PushBlob::new(Digest::sha256_of(b"{}"), std::sync::Arc::new(MemorySource::new("{}")));
/// # layout.push_blob(&any, empty).await?;
/// let manifest = ImageManifest::artifact("application/vnd.example", vec![]).to_bytes();
/// let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest).with_tags([Tag::new("v1")?]);
/// layout.push_manifest(&any, push).await?;
/// assert_eq!(layout.tags(&any, &Default::default()).await?.items, [Tag::new("v1")?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayoutRegistry {
    places: Places,
}

impl LayoutRegistry {
    /// Opens the layout in `directory`, and makes one if there is none.
    ///
    /// # Errors
    /// [`RegistryError::Io`], and [`RegistryError::Protocol`] for a layout of another version.
    pub async fn open_or_create(directory: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let layout = Layout::new(directory);
        offload(move || {
            layout.create()?;
            layout.check()?;
            layout.reclaim(write::LEFTOVER);
            Ok(Self { places: Places::One(layout) })
        })
        .await
    }

    /// Opens the layout in `directory`, which must be there. Nothing is written unless something is pushed.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let layout = Layout::new(directory);
        offload(move || {
            layout.check()?;
            Ok(Self { places: Places::One(layout) })
        })
        .await
    }

    /// Takes manifests whose blobs are not here, or refuses them, which is the default. Counts for this handle and
    /// clones of it.
    #[must_use]
    pub fn with_sparse(self, sparse: bool) -> Self {
        Self { places: self.places.with_sparse(sparse) }
    }

    /// Hashes blobs when they are read, and before a push takes what is here for its content, or trusts the disk, which is
    /// the default. Blobs of up to 64 MiB are hashed before anything of them is handed out, whole reads of larger ones as
    /// they go; each once, for as long as its file stays the same. Counts for this handle and clones of it.
    #[must_use]
    pub fn with_verify(self, verify: bool) -> Self {
        Self { places: self.places.with_verify(verify) }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        match &self.places {
            Places::One(layout) => layout.root(),
            Places::Many(beneath) => &beneath.root,
        }
    }

    /// A blob as a local file, to be read and pushed without a stream. `None` if it is not there.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub async fn local_source(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        let Places::One(layout) = &self.places else { return Ok(None) };
        let (layout, digest) = (layout.clone(), *digest);
        let source = offload(move || layout.source(&digest)).await?;
        Ok(source.map(|source| Arc::new(source) as Arc<dyn ByteSource>))
    }
}

impl LayoutRegistry {
    /// Removes what no listed manifest needs. Others may read and push meanwhile; programs that do not know the lock
    /// must not write.
    ///
    /// # Errors
    /// [`RegistryError::Io`]; and the error of a listed manifest that cannot be read, since what it needs is then not
    /// known. What was removed before stays removed.
    pub async fn collect_garbage(&self, options: &GcOptions) -> Result<GcReport, RegistryError> {
        self.places.collect_garbage(options).await
    }
}

/// A layout for each repository, beneath one directory.
///
/// The layout of `team/assets` is in `team/assets/_layout`. Repositories come to be with their first content; a mount
/// from one to another is a hard link where the file system has them.
#[derive(Clone, Debug)]
pub struct LayoutStore {
    places: Places,
}

impl LayoutStore {
    /// Opens the store in `directory`, and makes the directory if there is none.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let root: Arc<Path> = directory.into().into();
        offload(move || {
            std::fs::create_dir_all(&root).map_err(failed(|| format!("creating {}", root.display())))?;
            for (_, layout) in places::layouts(&root)? {
                layout.reclaim(write::LEFTOVER);
            }
            Ok(Self { places: Places::Many(Beneath::new(root)) })
        })
        .await
    }

    /// Takes manifests whose blobs are not here, or refuses them, which is the default. Counts for this handle and
    /// clones of it.
    #[must_use]
    pub fn with_sparse(self, sparse: bool) -> Self {
        Self { places: self.places.with_sparse(sparse) }
    }

    /// As [`LayoutRegistry::with_verify`]; and blobs that turn out to be damaged are taken out of their place, to
    /// `.blob/damaged` of their layout: they are then not there any more, so that a push mends them.
    #[must_use]
    pub fn with_verify(self, verify: bool) -> Self {
        Self { places: self.places.with_verify(verify) }
    }

    /// The same, but damaged blobs stay where they are, and reading them is an error: for stores that are only read.
    #[must_use]
    pub fn with_verify_in_place(self, verify: bool) -> Self {
        Self { places: self.places.with_verify_in_place(verify) }
    }

    /// Removes what no listed manifest needs, repository by repository, as [`LayoutRegistry::collect_garbage`] does.
    ///
    /// A repository whose garbage cannot be collected is in the report, and those behind it are collected all the same.
    ///
    /// # Errors
    /// [`RegistryError::Io`] when the repositories cannot be listed.
    pub async fn collect_garbage(&self, options: &GcOptions) -> Result<GcReport, RegistryError> {
        self.places.collect_garbage(options).await
    }

    /// The layout directory of a repository, which need not exist.
    pub fn directory(&self, repository: &Repository) -> PathBuf {
        self.places.layout(repository).root().to_owned()
    }
}

#[async_trait::async_trait]
impl crate::filter::Usage for LayoutStore {
    async fn used(&self, repository: Option<&Repository>) -> Result<u64, RegistryError> {
        self.places.used(repository).await
    }
}

forward::registry_through!(LayoutRegistry, places);
forward::registry_through!(LayoutStore, places);

/// Makes an error of the operating system an error of the registry: `action` says what was being done.
fn failed(action: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> RegistryError {
    move |source| RegistryError::Io { action: action(), transient: false, source: Box::new(source) }
}

/// Runs disk work where it may block.
async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(source) => Err(RegistryError::Io {
            action: "working on an image layout".into(),
            transient: false,
            source: Box::new(source),
        }),
    }
}
