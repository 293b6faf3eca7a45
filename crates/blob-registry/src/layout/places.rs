//! The registry trait over layouts, whether there is one of them or one for each repository.

mod beneath;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::source::FileSource;
use blob_core::{ByteSource, Digest};

use super::disk::Layout;
use super::gc::{self, GcOptions, GcReport};
use super::lookup::Lookup as _;
use super::memo::Stamp;
use super::upload::DiskUpload;
use super::verify::{self, Found, Verify};
use super::{offload, push};
use crate::descriptor::Descriptor;
use crate::error::{ErrorCode, RegistryError};
use crate::manifest::Outline;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{
    BlobReader, MAX_MANIFEST_BYTES, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob,
    PushedManifest, Registry, Upload, UploadId,
};
use crate::store;

pub(super) use beneath::{Beneath, layouts};

/// What a layout by itself is called in reports.
const ALONE: &str = "layout";

/// Where layouts are.
#[derive(Clone, Debug)]
pub(super) enum Places {
    /// One layout, whatever the repository is called.
    One(Layout),
    /// Beneath a directory, each repository as a path of directories with its layout in `_layout`.
    Many(Beneath),
}

impl Places {
    /// The same, taking manifests without their blobs or refusing them.
    pub(super) fn with_sparse(self, sparse: bool) -> Self {
        match self {
            Self::One(layout) => Self::One(layout.with_sparse(sparse)),
            Self::Many(mut beneath) => {
                beneath.sparse = sparse;
                Self::Many(beneath)
            }
        }
    }

    /// The same, verifying blobs or not.
    pub(super) fn with_verify(self, verify: bool) -> Self {
        match self {
            Self::One(layout) => Self::One(layout.with_verify(if verify { Verify::Report } else { Verify::No })),
            Self::Many(mut beneath) => {
                beneath.verify = if verify { Verify::SetAside } else { Verify::No };
                Self::Many(beneath)
            }
        }
    }

    /// The same, verifying blobs or not, and leaving those that are damaged where they are.
    pub(super) fn with_verify_in_place(self, verify: bool) -> Self {
        match self.with_verify(verify) {
            Self::Many(mut beneath) if verify => {
                beneath.verify = Verify::Report;
                Self::Many(beneath)
            }
            other => other,
        }
    }

    /// The layout of `repository`.
    pub(super) fn layout(&self, repository: &Repository) -> Layout {
        match self {
            Self::One(layout) => layout.clone(),
            Self::Many(beneath) => beneath.layout(repository),
        }
    }

    /// What messages call `repository`: a single layout is known by its directory.
    fn shown(&self, repository: &Repository) -> String {
        match self {
            Self::One(layout) => format!("oci:{}", layout.root().display()),
            Self::Many(_) => repository.to_string(),
        }
    }

    /// A blob as a file; and what that file was before it was opened, if its content is still to be looked at.
    async fn source(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(FileSource, Option<Stamp>), RegistryError> {
        let (layout, digest, served) = (self.layout(repository), *digest, matches!(self, Self::Many(_)));
        let source = offload(move || {
            let stamp = if layout.verify() == Verify::No { None } else { verified(&layout, &digest)? };
            let Some(source) = layout.source(&digest)? else { return Ok(None) };
            let hidden = served && is_manifest(&layout, &digest, Some(source.size()))?;
            Ok((!hidden).then_some((source, stamp)))
        });
        let source = source.await?;
        let action = || format!("reading blob {}@{digest}", self.shown(repository));
        source.ok_or_else(|| RegistryError::code(action(), ErrorCode::BlobUnknown))
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
            (Self::One(layout), _) => {
                layout.freshen(&digest);
                let there = layout.stat(&digest)?.is_some();
                Ok(there && (layout.verify() == Verify::No || layout.is_sound(&digest)))
            }
            (Self::Many(_), Some(from)) => target.link(&digest, &from),
            (Self::Many(beneath), None) => {
                for (repository, layout) in layouts(&beneath.root)? {
                    // What is known to be sound is remembered with the repository.
                    if layout.stat(&digest)?.is_some() && target.link(&digest, &beneath.layout(&repository))? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        })
        .await
    }

    /// Collects the garbage of every layout.
    pub(super) async fn collect_garbage(&self, options: &GcOptions) -> Result<GcReport, RegistryError> {
        let (places, options) = (self.clone(), options.clone());
        offload(move || match &places {
            Self::One(layout) => {
                let mut report = GcReport::default();
                match gc::collect(layout, &options, &mut report) {
                    // What was found out by then is worth more than an error.
                    Err(error) if !report.damaged.is_empty() => {
                        report.uncollected(Repository::new(ALONE).expect("it is a good name"), error);
                        Ok(report)
                    }
                    done => done.map(|()| report),
                }
            }
            Self::Many(beneath) => {
                let mut report = GcReport::default();
                for (repository, layout) in layouts(&beneath.root)? {
                    // What is damaged is out of the way for pushes, whether reads look for it or not.
                    let layout = layout.with_verify(Verify::SetAside);
                    if let Err(error) = gc::collect(&layout, &options, &mut report) {
                        report.uncollected(repository, error);
                    }
                }
                Ok(report)
            }
        })
        .await
    }

    /// Bytes of everything that is kept of a repository, or of all of them.
    pub(super) async fn used(&self, repository: Option<&Repository>) -> Result<u64, RegistryError> {
        let (places, wanted) = (self.clone(), repository.cloned());
        offload(move || match (&places, wanted) {
            (Self::One(layout), _) => layout.used(&mut HashSet::new()),
            (Self::Many(_), Some(repository)) => places.layout(&repository).used(&mut HashSet::new()),
            (Self::Many(beneath), None) => {
                // A blob that several repositories have is one file.
                let (mut sum, mut linked) = (0_u64, HashSet::new());
                for (_, layout) in layouts(&beneath.root)? {
                    sum = sum.saturating_add(layout.used(&mut linked)?);
                }
                Ok(sum)
            }
        })
        .await
    }

    async fn start(&self, repository: &Repository) -> Result<Box<dyn Upload>, RegistryError> {
        let (layout, name) = (self.layout(repository), self.shown(repository));
        let upload = offload(move || DiskUpload::start(layout, name)).await?;
        Ok(Box::new(upload))
    }
}

/// Makes a manifest young whose presence somebody is told of: they need not push it, and name it soon. What it names stays
/// with it. Single layouts are read by people who do not want their files touched.
fn told_of(layout: &Layout, found: Option<&Descriptor>, served: bool) {
    if let Some(found) = found
        && served
    {
        layout.freshen(&found.digest);
    }
}

/// Looks at a blob that is about to be read. One that is large and not known to be sound is left to whoever reads it whole:
/// then this is its file.
fn verified(layout: &Layout, digest: &Digest) -> Result<Option<Stamp>, RegistryError> {
    if let Ok(stamp) = Stamp::of(&layout.blob_path(digest))
        && stamp.size() > verify::FIRST
    {
        return Ok((!layout.memo().is_sound(digest, stamp)).then_some(stamp));
    }
    match layout.judge(digest)? {
        Found::Sound | Found::Absent => Ok(None),
        Found::Damaged(got) => Err(verify::damaged(*digest, got)),
    }
}

/// Whether a layout has a blob of this size, damaged or not; where blobs are verified, whether it has it undamaged.
fn has(layout: &Layout, digest: &Digest, size: u64) -> Result<bool, RegistryError> {
    // A file of another size is damaged.
    let there = layout.stat(digest)? == Some(size);
    Ok(there && (layout.verify() == Verify::No || layout.judge(digest)? == Found::Sound))
}

/// Whether content of this size is listed as a manifest, which is then no blob.
fn is_manifest(layout: &Layout, digest: &Digest, size: Option<u64>) -> Result<bool, RegistryError> {
    let possible = size.is_some_and(|size| size <= MAX_MANIFEST_BYTES);
    Ok(possible && layout.index()?.find(digest).is_some())
}

fn unknown_manifest(action: &str, repository: &str, target: &Target) -> RegistryError {
    let action = match target {
        Target::Tag(tag) => format!("{action} manifest {repository}:{tag}"),
        Target::Digest(digest) => format!("{action} manifest {repository}@{digest}"),
    };
    RegistryError::code(action, ErrorCode::ManifestUnknown)
}

/// Stores a manifest under the lock, so that nothing it names is deleted meanwhile.
fn push_manifest(
    layout: &Layout,
    repository: &str,
    manifest: &PushManifest,
    outline: &Outline,
) -> Result<(), RegistryError> {
    layout.create()?;
    layout.update(|index| {
        for digest in store::needed(outline, layout.is_sparse()) {
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

#[async_trait]
impl Registry for Places {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor, RegistryError> {
        let (layout, wanted, served) = (self.layout(repository), target.clone(), matches!(self, Self::Many(_)));
        let found = offload(move || {
            let found = layout.resolve(&wanted)?;
            told_of(&layout, found.as_ref(), served);
            Ok(found)
        });
        let found = found.await?;
        found.ok_or_else(|| unknown_manifest("resolving", &self.shown(repository), target))
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest, RegistryError> {
        let (layout, wanted, served) = (self.layout(repository), target.clone(), matches!(self, Self::Many(_)));
        let found = offload(move || {
            let found = layout.manifest(&wanted)?;
            told_of(&layout, found.as_ref().map(|manifest| &manifest.descriptor), served);
            Ok(found)
        });
        let found = found.await?;
        found.ok_or_else(|| unknown_manifest("reading", &self.shown(repository), target))
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        let (layout, wanted, served) = (self.layout(repository), *digest, matches!(self, Self::Many(_)));
        let size = offload(move || {
            let size = layout.stat(&wanted)?;
            if !served || size.is_none() {
                return Ok(size);
            }
            layout.freshen(&wanted);
            Ok(if is_manifest(&layout, &wanted, size)? { None } else { size })
        });
        let size = size.await?;
        let action = || format!("looking for blob {}@{digest}", self.shown(repository));
        size.ok_or_else(|| RegistryError::code(action(), ErrorCode::BlobUnknown))
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        let (source, unseen) = self.source(repository, digest).await?;
        let (action, size) = (format!("reading blob {}@{digest}", self.shown(repository)), source.size());
        let range = range.unwrap_or(0..size);
        if !blob_core::range::fits(&range, size) {
            return Err(store::bad_range(action, range.start, range.end, size));
        }
        let stream = source.open(range.clone()).await;
        let mut stream = stream.map_err(|source| RegistryError::Source { action, source })?;
        if let Some(stamp) = unseen.filter(|_| range == (0..size)) {
            stream = self.layout(repository).watched(*digest, stream, stamp);
        }
        Ok(BlobReader { size, range, stream, ranged: true })
    }

    async fn local_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Arc<dyn ByteSource>>, RegistryError> {
        // Whoever reads the file itself passes by those who look at its content.
        let (source, unseen) = self.source(repository, digest).await?;
        Ok(if unseen.is_none() { Some(Arc::new(source)) } else { None })
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob, RegistryError> {
        let action = format!("pushing blob {}@{}", self.shown(repository), blob.digest);
        let (layout, digest) = (self.layout(repository), blob.digest);
        if !blob.known_absent {
            let layout = layout.clone();
            let size = blob.source.size();
            // What is damaged is replaced.
            let there = offload(move || {
                layout.freshen(&digest);
                has(&layout, &digest, size)
            });
            if there.await? {
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
        let (layout, name, id) = (self.layout(repository), self.shown(repository), id.clone());
        let upload = offload(move || DiskUpload::resume(layout, name, &id)).await?;
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
        let (layout, repository) = (self.layout(repository), self.shown(repository));
        offload(move || {
            let outline = store::check_manifest(&repository, &manifest)?;
            push_manifest(&layout, &repository, &manifest, &outline)?;
            Ok(PushedManifest::new(manifest.digest, outline.subject.map(|subject| subject.digest)))
        })
        .await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), RegistryError> {
        let (layout, repository, digest) = (self.layout(repository), self.shown(repository), *digest);
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
        let (layout, repository, digest) = (self.layout(repository), self.shown(repository), *digest);
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
        let (layout, repository, tag) = (self.layout(repository), self.shown(repository), tag.clone());
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
        let unknown = || {
            let action = format!("listing the tags of {}", self.shown(repository));
            RegistryError::code(action, ErrorCode::NameUnknown)
        };
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
        let found = offload(move || layout.referrers(&subject, kind.as_deref())).await?;
        Ok(store::page(found, page, |entry| entry.digest.to_string()))
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>, RegistryError> {
        let Self::Many(beneath) = self else {
            return Err(RegistryError::unsupported("listing the repositories of a single layout"));
        };
        let root = Arc::clone(&beneath.root);
        let mut names: Vec<Repository> =
            offload(move || layouts(&root)).await?.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(store::page(names, page, ToString::to_string))
    }
}
