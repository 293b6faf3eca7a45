//! Comfort on top of the trait: whole lists as streams, and questions that take several calls.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{Digest, MemorySource};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::descriptor::{Descriptor, EMPTY_JSON};
use crate::error::RegistryError;
use crate::reference::{Repository, Tag, Target};
use crate::registry::{Page, PageRequest, PushBlob, Registry};

/// A list of more pages than this is taken to go round in circles.
const MAX_PAGES: usize = 10_000;

/// A list that comes page by page, each asked for when the one before is used up.
pub type Listing<'a, T> = BoxStream<'a, Result<T, RegistryError>>;

/// What every [`Registry`] can do by what it must be able to do.
///
/// ```
/// use blob_registry::{ImageManifest, MemoryRegistry, PushManifest, Registry as _, RegistryExt as _};
/// use blob_registry::{Repository, Tag, media_type};
/// use futures_util::TryStreamExt as _;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
///
/// let (registry, repository) = (MemoryRegistry::new(), Repository::new("team/notes")?);
/// registry.ensure_empty_config(&repository).await?;
/// for tag in ["v1", "v2", "v3"] {
///     let note = ImageManifest::artifact("application/vnd.acme.note", vec![]).with_annotation("note", tag);
///     let push = PushManifest::new(media_type::IMAGE_MANIFEST, note.to_bytes()).with_tags([Tag::new(tag)?]);
///     registry.push_manifest(&repository, push).await?;
/// }
/// let tags: Vec<Tag> = registry.all_tags(&repository, Some(2)).try_collect().await?;
/// assert_eq!(tags.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait RegistryExt: Registry {
    /// All tags of a repository, `page` at a time.
    fn all_tags<'a>(&'a self, repository: &'a Repository, page: Option<usize>) -> Listing<'a, Tag> {
        let action = move || format!("listing the tags of {repository}");
        pages(action, page, move |request| async move { self.tags(repository, &request).await })
    }

    /// All repositories, `page` at a time.
    fn all_repositories(&self, page: Option<usize>) -> Listing<'_, Repository> {
        let action = || "listing the repositories".to_owned();
        pages(action, page, move |request| async move { self.repositories(&request).await })
    }

    /// All manifests whose subject is `subject`, optionally of one artifact type, `page` at a time.
    fn all_referrers<'a>(
        &'a self,
        repository: &'a Repository,
        subject: &'a Digest,
        artifact_type: Option<&'a str>,
        page: Option<usize>,
    ) -> Listing<'a, Descriptor> {
        let action = move || format!("listing the referrers of {repository}@{subject}");
        pages(
            action,
            page,
            move |request| async move { self.referrers(repository, subject, artifact_type, &request).await },
        )
    }

    /// Whether the repository has this manifest or tag.
    ///
    /// # Errors
    /// What [`Registry::resolve`] gives, except that it is not there.
    async fn has_manifest(&self, repository: &Repository, target: &Target) -> Result<bool, RegistryError> {
        there(self.resolve(repository, target).await.map(drop))
    }

    /// Whether the repository has this blob.
    ///
    /// # Errors
    /// What [`Registry::stat_blob`] gives, except that it is not there.
    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, RegistryError> {
        there(self.stat_blob(repository, digest).await.map(drop))
    }

    /// Of `blobs`, those that the repository lacks, in order; eight are asked for at once.
    ///
    /// # Errors
    /// As [`has_blob`](Self::has_blob).
    async fn missing_blobs(&self, repository: &Repository, blobs: &[Digest]) -> Result<Vec<Digest>, RegistryError> {
        let mut asked = Vec::with_capacity(blobs.len());
        for &digest in blobs {
            asked.push(async move { Ok::<_, RegistryError>((digest, self.has_blob(repository, &digest).await?)) });
        }
        let asked: Vec<(Digest, bool)> = stream::iter(asked).buffered(8).try_collect().await?;
        Ok(asked.into_iter().filter(|(_, there)| !there).map(|(digest, _)| digest).collect())
    }

    /// Sees to it that the repository has the empty blob, which manifests of artifacts without a configuration name.
    ///
    /// # Errors
    /// What [`Registry::push_blob`] gives.
    async fn ensure_empty_config(&self, repository: &Repository) -> Result<Descriptor, RegistryError> {
        let empty = Descriptor::empty();
        let source = Arc::new(MemorySource::new(EMPTY_JSON.to_vec()));
        self.push_blob(repository, PushBlob::new(empty.digest, source)).await?;
        Ok(empty)
    }
}

impl<R: Registry + ?Sized> RegistryExt for R {}

/// "Not there" is an answer here.
fn there(answer: Result<(), RegistryError>) -> Result<bool, RegistryError> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where a list stands.
enum Place {
    At(Option<String>),
    End,
}

/// The items of all pages. A page that leads to one that was there before ends the list with an error.
fn pages<'a, T, F>(
    action: impl Fn() -> String + Send + 'a,
    limit: Option<usize>,
    ask: impl Fn(PageRequest) -> F + Send + 'a,
) -> Listing<'a, T>
where
    T: Send + 'a,
    F: Future<Output = Result<Page<T>, RegistryError>> + Send + 'a,
{
    let (mut seen, mut count) = (HashSet::new(), 0);
    let state = (Place::At(None), action, ask);
    let pages = stream::try_unfold(state, move |(place, action, ask)| {
        let next = match &place {
            Place::End => None,
            Place::At(token) => {
                count += 1;
                let fresh = token.as_ref().is_none_or(|token| seen.insert(Digest::sha256_of(token.as_bytes())));
                Some((token.clone(), fresh && count <= MAX_PAGES))
            }
        };
        async move {
            let Some((token, sound)) = next else { return Ok(None) };
            if !sound {
                let detail = format!("page {count} of the list leads back, or there is no end to it");
                return Err(RegistryError::Protocol { action: action(), detail });
            }
            let mut request = PageRequest::first();
            (request.limit, request.after) = (limit, token);
            let page = ask(request).await?;
            let place = page.next.map_or(Place::End, |token| Place::At(Some(token)));
            Ok(Some((stream::iter(page.items.into_iter().map(Ok)), (place, action, ask))))
        }
    });
    pages.try_flatten().boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorCode;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn listing(
        next: impl Fn(usize) -> Option<String> + Send + Sync + 'static,
    ) -> (Listing<'static, usize>, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let next = Arc::new(next);
        let ask = move |_| {
            let (number, next) = (count.fetch_add(1, Ordering::SeqCst), Arc::clone(&next));
            async move { Ok(Page::new(vec![number * 2, number * 2 + 1], next(number))) }
        };
        (pages(|| "listing".into(), None, ask), asked)
    }

    #[tokio::test]
    async fn pages_are_asked_for_when_they_are_needed() {
        let (items, asked) = listing(|page| (page < 4).then(|| page.to_string()));
        let first: Vec<usize> = items.take(3).try_collect().await.unwrap();
        assert_eq!(first, [0, 1, 2]);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let (items, asked) = listing(|page| (page < 4).then(|| page.to_string()));
        assert_eq!(items.try_collect::<Vec<_>>().await.unwrap().len(), 10);
        assert_eq!(asked.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn loops_end_in_an_error() {
        let (mut items, asked) = listing(|page| Some((page % 3).to_string()));
        let mut last = None;
        while let Some(item) = items.next().await {
            last = Some(item);
        }
        let error = last.unwrap().unwrap_err();
        assert_eq!((error.error_code(), asked.load(Ordering::SeqCst)), (ErrorCode::Unknown, 4), "{error}");
        assert!(error.to_string().contains("leads back"));
    }
}
