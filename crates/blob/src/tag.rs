//! Naming archives: resolving and tagging.

use blob_core::{Digest, FailureKind};
use blob_registry::{Descriptor, Page, PageRequest, PushManifest, Registry, RegistryError, Repository, Tag, Target};

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
    /// [`Error`]: not found, or the registry fails; [`Error::SomeTags`] when it takes some of the tags only.
    pub async fn tag(&self, source: &Location, tags: &[Tag]) -> Result<Descriptor, Error> {
        let needs = "tag or digest";
        let target = source.target().ok_or_else(|| Error::Incomplete { location: source.to_string(), needs })?;
        let (registry, repository) = self.registry_without_mirrors(source).await?;
        let manifest = registry.manifest(&repository, &target).await;
        let action = || format!("reading the manifest of {source}");
        let manifest = manifest.map_err(|source| Error::Registry { action: action(), source })?;
        let mut push = PushManifest::new(&manifest.descriptor.media_type, manifest.bytes).with_tags(tags.to_vec());
        push.digest = manifest.descriptor.digest;
        let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        let action = format!("tagging {source} as {}", names.join(", "));
        self.point((registry.as_ref(), &repository, source), push, action).await?;
        Ok(manifest.descriptor)
    }

    /// Pushes a manifest under its tags, and tells the cache which were set. When that fails and there are several tags,
    /// each is tried alone: one that a registry protects does not keep it from setting the others.
    pub(crate) async fn point(
        &self,
        (registry, repository, location): (&dyn Registry, &Repository, &Location),
        push: PushManifest,
        action: String,
    ) -> Result<(), Error> {
        let (tags, digest) = (push.tags.clone(), push.digest);
        let Err(source) = registry.push_manifest(repository, push.clone()).await else {
            self.remember_tags(location, &tags, digest).await;
            return Ok(());
        };
        let (mut set, mut unset, mut first) = (Vec::new(), Vec::new(), None);
        let hopeless = |error: &RegistryError| matches!(error.kind(), FailureKind::Network | FailureKind::Unauthorized);
        let mut go_on = tags.len() > 1 && !hopeless(&source);
        for tag in &tags {
            if !go_on {
                unset.push(tag.clone());
                continue;
            }
            let mut one = push.clone();
            one.tags = vec![tag.clone()];
            match registry.push_manifest(repository, one).await {
                Ok(_) => set.push(tag.clone()),
                Err(error) => {
                    unset.push(tag.clone());
                    go_on = !hopeless(&error);
                    first.get_or_insert(error);
                }
            }
        }
        self.remember_tags(location, &set, digest).await;
        // What failed together may have succeeded one by one.
        if unset.is_empty() && !tags.is_empty() {
            return Ok(());
        }
        let source = first.unwrap_or(source);
        if set.is_empty() {
            return Err(Error::Registry { action, source });
        }
        let location = location.with_target(Target::Digest(digest)).to_string();
        let names = |tags: Vec<Tag>| tags.iter().map(ToString::to_string).collect();
        Err(Error::SomeTags { location, set: names(set), unset: names(unset), source })
    }

    /// Tells the cache where tags in the repository of `location` point now.
    pub(crate) async fn remember_tags(&self, location: &Location, tags: &[Tag], digest: Digest) {
        if let Some(reference) = location.reference() {
            for tag in tags {
                self.caches().set_tag(&reference.with_tag(tag.clone()), digest).await;
            }
        }
    }

    /// One page of the repositories of the registry `host`, as it lists them itself; many registries do not.
    ///
    /// # Errors
    /// [`Error::Registry`].
    pub async fn repositories(&self, host: &str, page: &PageRequest) -> Result<Page<Repository>, Error> {
        let any = format!("{host}/x").parse()?;
        let (registry, _) = self.registry_without_mirrors(&any).await?;
        let listed = registry.repositories(page).await;
        listed.map_err(|source| Error::Registry { action: format!("listing the repositories of {host}"), source })
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
