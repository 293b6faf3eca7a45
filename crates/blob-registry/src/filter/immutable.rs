//! A tag is set once; nothing is deleted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::prelude::*;

/// A registry whose tags do not move and whose content stays.
///
/// Pointing a tag at what it points at already is fine; anything else is [`ErrorCode::Denied`], and deletions are
/// [`ErrorCode::Unsupported`]. A push with one tag that would move leaves the others alone too.
///
/// Pushes through one `Immutable` (and its clones) take turns for each tag, so of two that want the same tag one is
/// refused; so it is with several processes where the registry behind knows the condition
/// ([`PushManifest::if_unset`](crate::PushManifest::if_unset)), as those of this crate do. A tag that is set already is never
/// sent again. Where a registry does not know it, a new tag is looked at once more after the push, and losing it is
/// reported; nothing can undo it.
#[derive(Clone, Debug)]
pub struct Immutable {
    inner: Arc<dyn Registry>,
    turns: Arc<Turns>,
}

impl Immutable {
    /// Keeps the tags and the content of `inner`.
    pub fn new(inner: Arc<dyn Registry>) -> Self {
        Self { inner, turns: Arc::default() }
    }

    /// What `tag` points at, if it is set.
    async fn current(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>> {
        match self.inner.resolve(repository, &Target::Tag(tag.clone())).await {
            Ok(descriptor) => Ok(Some(descriptor.digest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn kept<T>(action: String) -> Result<T> {
    Err(RegistryError::detailed(action, ErrorCode::Unsupported, "this registry keeps what it has"))
}

fn moved(repository: &Repository, tag: &Tag, wanted: &Digest, current: &Digest) -> RegistryError {
    let action = format!("pointing tag {repository}:{tag} at {wanted}");
    RegistryError::detailed(action, ErrorCode::Denied, format!("tags do not move here, and it is at {current}"))
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for Immutable {
    async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        self.inner.resolve(repository, target).await
    }

    async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        self.inner.manifest(repository, target).await
    }

    async fn stat_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        self.inner.stat_blob(repository, digest).await
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader> {
        self.inner.read_blob(repository, digest, range).await
    }

    async fn local_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>> {
        self.inner.local_blob(repository, digest).await
    }

    async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        self.inner.push_blob(repository, blob).await
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        self.inner.start_upload(repository).await
    }

    async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        self.inner.resume_upload(repository, id).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<Mount> {
        self.inner.mount_blob(repository, digest, from).await
    }

    async fn push_manifest(&self, repository: &Repository, mut manifest: PushManifest) -> Result<PushedManifest> {
        manifest.tags.sort();
        manifest.tags.dedup();
        let _turn = self.turns.take(repository, &manifest.tags).await;
        let (digest, mut unset) = (manifest.digest, Vec::new());
        for tag in std::mem::take(&mut manifest.tags) {
            match self.current(repository, &tag).await? {
                None => unset.push(tag),
                Some(current) if current != digest => return Err(moved(repository, &tag, &digest, &current)),
                // It stays where it is, unless the caller's own condition fails: then the registry says so.
                Some(_) if manifest.if_match.is_some_and(|expected| expected != digest) => unset.push(tag),
                Some(_) => {}
            }
        }
        manifest.tags.clone_from(&unset);
        if unset.is_empty() {
            manifest.if_match = None;
        }
        // Where the registry can decide it, nobody gets in between.
        let asked = manifest.if_match.is_some();
        manifest.if_unset = true;
        let pushed = match self.inner.push_manifest(repository, manifest).await {
            Err(error) if !asked && error.error_code() == ErrorCode::PreconditionFailed => {
                let action = format!("pushing manifest {repository}@{digest}");
                return Err(RegistryError::detailed(
                    action,
                    ErrorCode::Denied,
                    "tags do not move here, and one is set",
                ));
            }
            other => other?,
        };
        for tag in unset {
            match self.current(repository, &tag).await? {
                Some(current) if current != digest => return Err(moved(repository, &tag, &digest, &current)),
                _ => {}
            }
        }
        Ok(pushed)
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        kept(format!("deleting manifest {repository}@{digest}"))
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        kept(format!("deleting blob {repository}@{digest}"))
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        kept(format!("deleting tag {repository}:{tag}"))
    }

    async fn tags(&self, repository: &Repository, page: &PageRequest) -> Result<Page<Tag>> {
        self.inner.tags(repository, page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        self.inner.referrers(repository, subject, artifact_type, page).await
    }

    async fn repositories(&self, page: &PageRequest) -> Result<Page<Repository>> {
        self.inner.repositories(page).await
    }
}

type Key = (Repository, Tag);

/// One lock for each tag that somebody is pushing now.
#[derive(Debug, Default)]
struct Turns {
    locks: Mutex<HashMap<Key, Arc<AsyncMutex<()>>>>,
}

/// The right to set some tags; dropping it gives it back.
struct Turn<'a> {
    turns: &'a Turns,
    keys: Vec<Key>,
    held: Vec<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the turn of all `tags`, which are sorted, so that two pushes never wait for one another in a circle.
    async fn take(&self, repository: &Repository, tags: &[Tag]) -> Turn<'_> {
        let mut turn = Turn { turns: self, keys: Vec::new(), held: Vec::new() };
        for tag in tags {
            let key = (repository.clone(), tag.clone());
            let lock = Arc::clone(self.locks().entry(key.clone()).or_default());
            turn.keys.push(key);
            turn.held.push(lock.lock_owned().await);
        }
        turn
    }

    fn locks(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<AsyncMutex<()>>>> {
        // The map is whole after every statement that changes it.
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held.clear();
        let mut locks = self.turns.locks();
        for key in &self.keys {
            // Others get hold of a lock under the map's own, so one that only the map has is nobody's.
            if locks.get(key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
                locks.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn locks_that_nobody_wants_are_forgotten() {
        let turns = Turns::default();
        let repository = Repository::new("a").unwrap();
        let tags = ["v1", "v2"].map(|tag| Tag::new(tag).unwrap());
        let turn = turns.take(&repository, &tags).await;
        let other = turns.take(&repository, &tags[1..]);
        let mut other = std::pin::pin!(other);
        assert!(other.as_mut().now_or_never().is_none(), "the tag is taken");
        drop(turn);
        let other = other.await;
        assert_eq!(turns.locks().len(), 1);
        drop(other);
        assert_eq!(turns.locks().len(), 0);
    }
}
