//! Naming archives: resolving and tagging.

use blob_core::Digest;
use blob_registry::{Descriptor, Page, PageRequest, PushManifest, Tag};

use crate::client::Client;
use crate::error::Error;
use crate::location::Location;

impl Client {
    /// What a tag points at now: media type, digest, size. One request without a body, to the registry itself: mirrors
    /// are not asked.
    ///
    /// # Errors
    /// [`Error`]: not found, or the registry fails.
    pub async fn resolve(&self, location: &Location) -> Result<Descriptor, Error> {
        let needs = "tag or digest";
        let target = location.target().ok_or_else(|| Error::Incomplete { location: location.to_string(), needs })?;
        let (registry, repository) = self.registry_without_mirrors(location).await?;
        let resolved = registry.resolve(&repository, &target).await;
        resolved.map_err(|source| Error::Registry { action: format!("resolving {location}"), source })
    }

    /// Points `tags` at the manifest that `source` names, in the same repository: one request to read the manifest,
    /// one for each tag. Works for any manifest, not only archives.
    ///
    /// # Errors
    /// [`Error`]: not found, or the registry fails.
    pub async fn tag(&self, source: &Location, tags: &[Tag]) -> Result<Descriptor, Error> {
        let needs = "tag or digest";
        let target = source.target().ok_or_else(|| Error::Incomplete { location: source.to_string(), needs })?;
        let (registry, repository) = self.registry_without_mirrors(source).await?;
        let manifest = registry.manifest(&repository, &target).await;
        let action = || format!("reading the manifest of {source}");
        let manifest = manifest.map_err(|source| Error::Registry { action: action(), source })?;
        let mut push = PushManifest::new(&manifest.descriptor.media_type, manifest.bytes).with_tags(tags.to_vec());
        push.digest = manifest.descriptor.digest;
        let pushed = registry.push_manifest(&repository, push).await;
        let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        let action = || format!("tagging {source} as {}", names.join(", "));
        pushed.map_err(|source| Error::Registry { action: action(), source })?;
        self.remember_tags(source, tags, manifest.descriptor.digest).await;
        Ok(manifest.descriptor)
    }

    /// Tells the cache where tags in the repository of `location` point now.
    pub(crate) async fn remember_tags(&self, location: &Location, tags: &[Tag], digest: Digest) {
        if let Some(reference) = location.reference() {
            for tag in tags {
                self.caches().set_tag(&reference.with_tag(tag.clone()), digest).await;
            }
        }
    }

    /// One page of the tags of the repository that `location` is in; its own tag does not matter.
    ///
    /// # Errors
    /// [`Error`]: not found, or the registry fails.
    pub async fn tags(&self, location: &Location, page: &PageRequest) -> Result<Page<Tag>, Error> {
        let (registry, repository) = self.registry(location).await?;
        let listed = registry.tags(&repository, page).await;
        listed.map_err(|source| Error::Registry { action: format!("listing the tags of {location}"), source })
    }
}
