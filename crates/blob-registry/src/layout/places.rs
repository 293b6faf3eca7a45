//! The registry trait over layouts, whether there is one of them or one for each repository.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::source::FileSource;
use blob_core::{ByteSource, Digest};

use super::disk::Layout;
use super::upload::DiskUpload;
use super::{failed, offload, push};
use crate::descriptor::Descriptor;
use crate::error::{ErrorCode, RegistryError};
use crate::manifest::Outline;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{
    BlobReader, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob, PushedManifest, Registry,
    Upload, UploadId,
};
use crate::store::{self, Needed};

/// The directory of a repository's layout. No part of a repository name begins with an underscore.
const LAYOUT: &str = "_layout";

/// Where layouts are.
#[derive(Clone, Debug)]
pub(super) enum Places {
    /// One layout, whatever the repository is called.
    One(Layout),
    /// Beneath this directory, each repository as a path of directories with its layout in `_layout`.
    Many(Arc<Path>),
}

impl Places {
    /// The layout of `repository`.
    pub(super) fn layout(&self, repository: &Repository) -> Layout {
        match self {
            Self::One(layout) => layout.clone(),
            Self::Many(root) => Layout::new(root.join(repository.as_str()).join(LAYOUT)),
        }
    }

    /// A blob as a file.
    pub(super) async fn source(&self, repository: &Repository, digest: &Digest) -> Result<FileSource, RegistryError> {
        let (layout, digest) = (self.layout(repository), *digest);
        let source = offload(move || layout.source(&digest)).await?;
        source.ok_or_else(|| RegistryError::code(format!("reading blob {repository}@{digest}"), ErrorCode::BlobUnknown))
    }

    /// Makes `digest` a blob of `repository` if another one (or `from`) has it.
    async fn link(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, RegistryError> {
        let (places, target, digest) = (self.clone(), self.layout(repository), *digest);
        let from = from.map(|from| self.layout(from));
        offload(move || match (&places, from) {
            (Self::One(layout), _) => Ok(layout.stat(&digest)?.is_some()),
            (Self::Many(_), Some(from)) => target.link(&digest, &from),
            (Self::Many(root), None) => {
                for (_, layout) in layouts(root)? {
                    if target.link(&digest, &layout)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        })
        .await
    }

    async fn start(&self, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
        let (layout, repository) = (self.layout(repository), repository.clone());
        let upload = offload(move || DiskUpload::start(layout, repository)).await?;
        Ok(Box::new(upload))
    }
}

/// Every repository beneath `root` with its layout, in no order.
pub(super) fn layouts(root: &Path) -> Result<Vec<(Repository, Layout)>, RegistryError> {
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, String)> = vec![(root.to_owned(), String::new())];
    while let Some((directory, name)) = open.pop() {
        let entries = match fs::read_dir(&directory) {
            // Removed since its parent was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(failed(|| format!("listing {}", directory.display())))?,
        };
        for entry in entries {
            let entry = entry.map_err(failed(|| format!("listing {}", directory.display())))?;
            let (path, Some(file_name)) = (entry.path(), entry.file_name().to_str().map(str::to_owned)) else {
                continue;
            };
            // Links are not followed: they could lead in circles.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if file_name == LAYOUT {
                if let Ok(repository) = Repository::new(&name) {
                    found.push((repository, Layout::new(path)));
                }
                continue;
            }
            let name = if name.is_empty() { file_name } else { format!("{name}/{file_name}") };
            if Repository::new(&name).is_ok() {
                open.push((path, name));
            }
        }
    }
    found.retain(|(_, layout)| layout.exists());
    Ok(found)
}

fn unknown_manifest(action: &str, repository: &Repository, target: &Target) -> RegistryError {
    let action = match target {
        Target::Tag(tag) => format!("{action} manifest {repository}:{tag}"),
        Target::Digest(digest) => format!("{action} manifest {repository}@{digest}"),
    };
    RegistryError::code(action, ErrorCode::ManifestUnknown)
}

/// Stores a manifest under the lock, so that nothing it names is deleted meanwhile.
fn push_manifest(
    layout: &Layout,
    repository: &Repository,
    manifest: &PushManifest,
    outline: &Outline,
) -> Result<(), RegistryError> {
    layout.create()?;
    layout.update(|index| {
        for needed in store::needed(outline) {
            // A layout holds blobs and manifests in one place.
            let (Needed::Blob(digest) | Needed::Manifest(digest) | Needed::Any(digest)) = needed;
            if layout.stat(&digest)?.is_none() {
                return Err(store::missing(repository, &manifest.digest, &digest));
            }
        }
        for tag in &manifest.tags {
            let current = index.resolve(tag).map(|current| current.digest);
            store::check_condition(repository, tag, current.as_ref(), manifest)?;
        }
        layout.store(&manifest.digest, &manifest.bytes)?;
        let size = manifest.bytes.len() as u64;
        let mut descriptor = Descriptor::new(manifest.media_type.clone(), manifest.digest, size);
        descriptor.artifact_type.clone_from(&outline.artifact_type);
        index.list(&descriptor);
        for tag in &manifest.tags {
            index.tag(&descriptor, tag);
        }
        Ok(())
    })
}

/// Everything that `layout` lists with this subject, by digest.
fn referrers(layout: &Layout, subject: &Digest, kind: Option<&str>) -> Result<Vec<Descriptor>, RegistryError> {
    let mut listed: Vec<Descriptor> = layout.index()?.descriptors().collect();
    listed.sort_by_key(|entry| entry.digest.to_string());
    listed.dedup_by_key(|entry| entry.digest);
    let text = subject.to_string();
    let mut found = Vec::new();
    for entry in listed {
        let bytes = match layout.document(&entry.digest) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            // Another program listed something that is damaged or no manifest: it cannot be anybody's referrer.
            Err(error) if error.is_integrity() || error.error_code() == ErrorCode::SizeInvalid => {
                tracing::warn!(%error, "an entry of a layout is left out of a list of referrers");
                continue;
            }
            Err(error) => return Err(error),
        };
        // Most manifests do not name the subject at all: they need not be parsed.
        if !bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
            continue;
        }
        let Ok(outline) = Outline::parse(&bytes) else { continue };
        let about = outline.subject.as_ref().is_some_and(|named| named.digest == *subject);
        if about && kind.is_none_or(|kind| outline.artifact_type.as_deref() == Some(kind)) {
            found.push(store::referrer(&Descriptor { size: bytes.len() as u64, ..entry }, outline));
        }
    }
    Ok(found)
}

#[async_trait]
impl Registry for Places {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError> {
        let (layout, wanted) = (self.layout(repository), target.clone());
        let found = offload(move || layout.resolve(&wanted)).await?;
        found.ok_or_else(|| unknown_manifest("resolving", repository, target))
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest, RegistryError> {
        let (layout, wanted) = (self.layout(repository), target.clone());
        let found = offload(move || layout.manifest(&wanted)).await?;
        found.ok_or_else(|| unknown_manifest("reading", repository, target))
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        let (layout, wanted) = (self.layout(repository), *digest);
        let size = offload(move || layout.stat(&wanted)).await?;
        let action = || format!("looking for blob {repository}@{digest}");
        size.ok_or_else(|| RegistryError::code(action(), ErrorCode::BlobUnknown))
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        let source = self.source(repository, digest).await?;
        let (action, size) = (format!("reading blob {repository}@{digest}"), source.size());
        let range = range.unwrap_or(0..size);
        if !blob_core::range::fits(&range, size) {
            return Err(store::bad_range(action, range.start, range.end, size));
        }
        let stream = source.open(range.clone()).await;
        Ok(BlobReader { size, range, stream: stream.map_err(|source| RegistryError::Source { action, source })? })
    }

    async fn local_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        Ok(Some(Arc::new(self.source(repository, digest).await?)))
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob, RegistryError> {
        let action = format!("pushing blob {repository}@{}", blob.digest);
        let (layout, digest) = (self.layout(repository), blob.digest);
        if !blob.known_absent {
            let layout = layout.clone();
            // A file of another size is damaged, and is replaced.
            if offload(move || layout.stat(&digest)).await? == Some(blob.source.size()) {
                store::report_existing(&blob, &action)?;
                return Ok(PushedBlob::Existing);
            }
        }
        for from in &blob.mount_from {
            if matches!(self, Self::Many(_)) && self.link(repository, &digest, Some(from)).await? {
                store::report_existing(&blob, &action)?;
                return Ok(PushedBlob::Mounted);
            }
        }
        push::push(layout, blob, action).await?;
        Ok(PushedBlob::Uploaded)
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
        self.start(repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>, RegistryError> {
        let (layout, repository, id) = (self.layout(repository), repository.clone(), id.clone());
        let upload = offload(move || DiskUpload::resume(layout, repository, &id)).await?;
        Ok(Box::new(upload))
    }

    async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<Mount, RegistryError> {
        if self.link(repository, digest, from).await? {
            return Ok(Mount::Mounted);
        }
        Ok(Mount::Session(self.start(repository).await?))
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: PushManifest,
    ) -> Result<PushedManifest, RegistryError> {
        let (layout, repository) = (self.layout(repository), repository.clone());
        offload(move || {
            let outline = store::check_manifest(&repository, &manifest)?;
            push_manifest(&layout, &repository, &manifest, &outline)?;
            Ok(PushedManifest::new(manifest.digest, outline.subject.map(|subject| subject.digest)))
        })
        .await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let (layout, repository, digest) = (self.layout(repository), repository.clone(), *digest);
        offload(move || {
            let target = Target::Digest(digest);
            let unknown = || unknown_manifest("deleting", &repository, &target);
            if !layout.exists() || layout.resolve(&target)?.is_none() {
                return Err(unknown());
            }
            layout.locked(|| {
                // Off the list first: a crash in between leaves a file that nothing names.
                layout.change(|index| Ok(index.remove(&digest)))?;
                if layout.unlink(&digest)? { Ok(()) } else { Err(unknown()) }
            })
        })
        .await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let (layout, repository, digest) = (self.layout(repository), repository.clone(), *digest);
        offload(move || {
            let action = || format!("deleting blob {repository}@{digest}");
            let unknown = || RegistryError::code(action(), ErrorCode::BlobUnknown);
            if layout.stat(&digest)?.is_none() {
                return Err(unknown());
            }
            layout.update(|index| {
                if index.find(&digest).is_some() {
                    return Err(RegistryError::detailed(action(), ErrorCode::Denied, "it is a manifest"));
                }
                if layout.unlink(&digest)? { Ok(()) } else { Err(unknown()) }
            })
        })
        .await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), RegistryError> {
        let (layout, repository, tag) = (self.layout(repository), repository.clone(), tag.clone());
        offload(move || {
            let found = layout.exists() && layout.update(|index| Ok(index.untag(&tag)))?;
            if found { Ok(()) } else { Err(unknown_manifest("untagging", &repository, &Target::Tag(tag))) }
        })
        .await
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>, RegistryError> {
        let (layout, one) = (self.layout(repository), matches!(self, Self::One(_)));
        let tags = offload(move || {
            let index = layout.index()?;
            // One layout stands for any repository, so it is there once something is.
            let there = if one { !index.is_empty() } else { layout.exists() };
            Ok(there.then(|| index.tags()))
        });
        let unknown = || RegistryError::code(format!("listing the tags of {repository}"), ErrorCode::NameUnknown);
        let tags = tags.await?.ok_or_else(unknown)?;
        Ok(store::page(tags.into_keys(), page, ToString::to_string))
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>, RegistryError> {
        let (layout, subject, kind) = (self.layout(repository), *subject, artifact_type.map(str::to_owned));
        let found = offload(move || referrers(&layout, &subject, kind.as_deref())).await?;
        Ok(store::page(found, page, |entry| entry.digest.to_string()))
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>, RegistryError> {
        let Self::Many(root) = self else {
            return Err(RegistryError::unsupported("listing the repositories of a single layout"));
        };
        let root = Arc::clone(root);
        let mut names: Vec<Repository> =
            offload(move || layouts(&root)).await?.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(store::page(names, page, ToString::to_string))
    }
}
