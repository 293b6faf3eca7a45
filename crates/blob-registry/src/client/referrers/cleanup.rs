//! Deleting lists of referrers that were replaced: each write of a list leaves the one before it without a tag.
//!
//! A deletion takes every tag of a manifest with it, so a list goes only when no tag of the repository points at it and
//! when it lists something (all empty lists are one manifest). Nobody can tell whether an index of somebody else's lists
//! it, or whether somebody tags it between the look and the deletion; so this is done only where it was asked for.

use blob_core::Digest;

use super::Change;
use crate::client::Core;
use crate::manifest::ImageIndex;
use crate::reference::Target;
use crate::registry::PageRequest;

/// In a repository with more tags than this, nothing is looked for and nothing is deleted.
const MOST_TAGS: usize = 256;

impl Core {
    /// Deletes the lists `replaced`, as far as nothing points at them. What fails is a warning: the change was made.
    pub(super) async fn clean_up(&self, change: &Change<'_>, mut replaced: Vec<Digest>) {
        let nothing = Digest::sha256_of(&ImageIndex::new(Vec::new()).to_bytes());
        replaced.retain(|digest| *digest != nothing);
        replaced.sort_unstable();
        replaced.dedup();
        if replaced.is_empty() {
            return;
        }
        let cleaned = async {
            let Some(kept) = self.tagged(change).await? else {
                tracing::debug!(repository = %change.repository, "too many tags: replaced lists of referrers stay");
                return Ok(());
            };
            for digest in replaced.iter().filter(|digest| !kept.contains(digest)) {
                self.delete_untracked(change.repository, digest).await?;
            }
            Ok::<(), crate::RegistryError>(())
        };
        match cleaned.await {
            Err(error) if error.is_unsupported() => tracing::debug!(%error, "replaced lists of referrers stay"),
            Err(error) => tracing::warn!(%error, "a replaced list of referrers stays"),
            Ok(()) => {}
        }
    }

    /// What all tags of the repository point at; `None` if there are too many.
    async fn tagged(&self, change: &Change<'_>) -> Result<Option<Vec<Digest>>, crate::RegistryError> {
        let (mut found, mut request) = (Vec::new(), PageRequest::first());
        loop {
            let page = self.tags(change.repository, &request).await?;
            if found.len() + page.items.len() > MOST_TAGS {
                return Ok(None);
            }
            for tag in page.items {
                match self.resolve(change.repository, &Target::Tag(tag)).await {
                    Ok(descriptor) => found.push(descriptor.digest),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            match page.next {
                Some(next) => request = PageRequest::first().after(next),
                None => return Ok(Some(found)),
            }
        }
    }
}
