//! Taking things out of registries again.

use blob_core::Digest;
use blob_registry::{Descriptor, Target};

use crate::client::Client;
use crate::error::Error;
use crate::location::Location;

impl Client {
    /// Deletes the tag that `location` names, and only the tag: the manifest stays reachable by its digest. Not every
    /// registry can do that; those that cannot answer [`ErrorCode::Unsupported`](blob_registry::ErrorCode::Unsupported).
    ///
    /// # Errors
    /// [`Error::Incomplete`] without a tag; [`Error::Registry`].
    pub async fn delete_tag(&self, location: &Location) -> Result<(), Error> {
        let needs = "tag";
        let tag = location.tag().ok_or_else(|| Error::Incomplete { location: location.to_string(), needs })?;
        let (registry, repository) = self.registry_without_mirrors(location).await?;
        let deleted = registry.delete_tag(&repository, &tag).await;
        let action = || format!("deleting the tag {location}");
        deleted.map_err(|source| Error::Registry { action: action(), source })?;
        self.forget_tag(location).await;
        Ok(())
    }

    /// Deletes the manifest with `digest` in the repository of `location`, and every tag that points at it. Blobs, and
    /// what refers to the manifest, stay until the registry collects its garbage.
    ///
    /// # Errors
    /// [`Error::Registry`].
    pub async fn delete_manifest(&self, location: &Location, digest: &Digest) -> Result<(), Error> {
        let (registry, repository) = self.registry_without_mirrors(location).await?;
        let deleted = registry.delete_manifest(&repository, digest).await;
        let action = || format!("deleting the manifest {}", location.with_target(Target::Digest(*digest)));
        deleted.map_err(|source| Error::Registry { action: action(), source })?;
        self.forget_tag(location).await;
        Ok(())
    }

    /// The manifests in the repository of `location` that refer to the manifest with `digest`, optionally of one artifact
    /// type, as the registry lists them: nothing about them was verified.
    ///
    /// # Errors
    /// [`Error::Registry`], also for more than 64 pages of them.
    pub async fn referrers(
        &self,
        location: &Location,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let (registry, repository) = self.registry_without_mirrors(location).await?;
        crate::inspect::referrers(&registry, (&repository, digest), artifact_type, location).await
    }

    async fn forget_tag(&self, location: &Location) {
        if let Some(reference) = location.reference() {
            self.caches().forget_tag(reference).await;
        }
    }
}
