//! Questions about manifests that every form of a layout answers in the same way, from its list and its blobs.

use std::collections::HashSet;
use std::sync::Arc;

use blob_core::Digest;
use bytes::Bytes;

use super::memo::{Child, Memo, Referrer, Said};
use super::refs::Index;
use crate::descriptor::{Descriptor, media_type};
use crate::error::{ErrorCode, RegistryError};
use crate::manifest::Outline;
use crate::reference::Target;
use crate::registry::Manifest;
use crate::store;

/// At most this many nested indexes are opened to find a manifest that is not listed itself.
const MAX_NESTED: usize = 10_000;

/// A layout, wherever its bytes are. Everything blocks.
pub(super) trait Lookup {
    /// The list of manifests.
    fn index(&self) -> Result<Arc<Index>, RegistryError>;

    /// The size of a blob in bytes.
    fn stat(&self, digest: &Digest) -> Result<Option<u64>, RegistryError>;

    /// The bytes of a manifest: at most 4 MiB, their digest checked.
    fn document(&self, digest: &Digest) -> Result<Option<Bytes>, RegistryError>;

    /// What is remembered of manifests.
    fn memo(&self) -> &Memo;

    /// The descriptor of a manifest, with the size that its blob has.
    fn resolve(&self, target: &Target) -> Result<Option<Descriptor>, RegistryError> {
        let index = self.index()?;
        let found = match target {
            Target::Tag(tag) => index.resolve(tag),
            Target::Digest(digest) => match index.find(digest) {
                Some(found) => Some(found),
                None => self.nested(&index, digest)?,
            },
        };
        let Some(found) = found else { return Ok(None) };
        let size = self.stat(&found.digest)?;
        Ok(size.map(|size| Descriptor::new(found.media_type, found.digest, size)))
    }

    /// A manifest, its digest checked.
    fn manifest(&self, target: &Target) -> Result<Option<Manifest>, RegistryError> {
        let Some(descriptor) = self.resolve(target)? else { return Ok(None) };
        let Some(bytes) = self.document(&descriptor.digest)? else { return Ok(None) };
        let descriptor = Descriptor { size: bytes.len() as u64, ..descriptor };
        Ok(Some(Manifest { descriptor, bytes }))
    }

    /// Looks for a manifest that only an index names, as of an image for several platforms.
    fn nested(&self, index: &Index, digest: &Digest) -> Result<Option<Descriptor>, RegistryError> {
        if self.stat(digest)?.is_none() {
            return Ok(None);
        }
        let mut seen = HashSet::new();
        let mut open: Vec<Digest> = index.indexes().collect();
        while let Some(parent) = open.pop() {
            if !seen.insert(parent) || seen.len() > MAX_NESTED {
                continue;
            }
            let Some(children) = self.children(&parent)? else { continue };
            if let Some(found) = children.iter().find(|child| child.digest == *digest) {
                return Ok(Some(Descriptor::new(found.media_type.as_ref(), found.digest, found.size)));
            }
            open.extend(children.iter().filter(|child| is_index(&child.media_type)).map(|child| child.digest));
        }
        Ok(None)
    }

    /// The manifests of an index that is here. Each is read once.
    fn children(&self, parent: &Digest) -> Result<Option<Arc<[Child]>>, RegistryError> {
        if let Some(known) = self.memo().children(parent) {
            // Another program may have taken it away.
            return Ok(self.stat(parent)?.map(|_| known));
        }
        let bytes = match self.document(parent) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            // What is damaged lists nothing; the rest of the layout is as good as it was.
            Err(error) if error.is_integrity() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(outline) = Outline::parse(&bytes) else { return Ok(None) };
        let mut kinds: Vec<Arc<str>> = Vec::new();
        let children = outline.manifests.into_iter().map(|child| {
            let known = kinds.iter().find(|kind| ***kind == *child.media_type).map(Arc::clone);
            let media_type = known.unwrap_or_else(|| {
                let kind: Arc<str> = child.media_type.into();
                // Most indexes have manifests of one kind or two.
                if kinds.len() < 8 {
                    kinds.push(Arc::clone(&kind));
                }
                kind
            });
            Child { media_type, digest: child.digest, size: child.size }
        });
        let children: Arc<[Child]> = children.collect();
        self.memo().remember_children(*parent, &children);
        Ok(Some(children))
    }

    /// Everything that is listed with this subject, by digest.
    fn referrers(&self, subject: &Digest, kind: Option<&str>) -> Result<Vec<Descriptor>, RegistryError> {
        let index = self.index()?;
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for entry in index.descriptors() {
            if !seen.insert(entry.digest) {
                continue;
            }
            let Said::About(referrer) = self.said(&entry)? else { continue };
            let wanted = kind.is_none_or(|kind| referrer.entry.artifact_type.as_deref() == Some(kind));
            // What is remembered may have been taken away by another program.
            if referrer.subject == *subject && wanted && self.stat(&entry.digest)?.is_some() {
                found.push(referrer.entry.clone());
            }
        }
        self.memo().trim(&seen);
        found.sort_by_key(|entry| entry.digest.to_string());
        Ok(found)
    }

    /// What a listed manifest says about another one. Each is read once.
    fn said(&self, entry: &Descriptor) -> Result<Said, RegistryError> {
        if let Some(known) = self.memo().said(&entry.digest) {
            return Ok(known);
        }
        let bytes = match self.document(&entry.digest) {
            Ok(Some(bytes)) => bytes,
            // It may come again.
            Ok(None) => return Ok(Said::Nothing),
            // Another program listed something that is damaged or no manifest: it cannot be anybody's referrer.
            Err(error) if error.is_integrity() || error.error_code() == ErrorCode::SizeInvalid => {
                tracing::warn!(%error, "an entry of a layout is left out of a list of referrers");
                return Ok(Said::Nothing);
            }
            Err(error) => return Err(error),
        };
        let outline = Outline::parse(&bytes).ok();
        let found = outline.and_then(|outline| {
            let subject = outline.subject.as_ref()?.digest;
            let descriptor = Descriptor { size: bytes.len() as u64, ..entry.clone() };
            Some(Arc::new(Referrer { subject, entry: store::referrer(&descriptor, outline) }))
        });
        let said = found.map_or(Said::Nothing, Said::About);
        self.memo().remember_said(entry.digest, said.clone());
        Ok(said)
    }
}

fn is_index(kind: &str) -> bool {
    matches!(kind, media_type::IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST)
}
