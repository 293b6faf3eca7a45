//! Describing archives without reading their files.

use std::sync::Arc;

use blob_core::{ArchiveIndex, Compression, Digest};
use blob_policy::Trusted;
#[cfg(feature = "trust")]
use blob_registry::media_type;
use blob_registry::{Descriptor, PageRequest, Registry, RegistryError, Repository};

use crate::archive_manifest::ArchiveManifest;
use crate::client::Client;
use crate::error::Error;
use crate::location::Location;
use crate::pull::PullOptions;

/// Pages of referrers that are read at most: 64.
const MAX_PAGES: usize = 64;

/// What an archive is, from its manifest and index.
#[derive(Clone, Debug)]
pub struct Inspection {
    registry: Arc<dyn Registry>,
    repository: Repository,
    location: Location,
    manifest: Trusted<ArchiveManifest>,
    index: Arc<ArchiveIndex>,
    #[cfg(feature = "trust")]
    client: Client,
}

impl Client {
    /// Fetches and checks manifest and index: two requests at most, no file data.
    ///
    /// # Errors
    /// As [`pull`](Self::pull).
    pub async fn inspect(&self, location: &Location, options: &PullOptions) -> Result<Inspection, Error> {
        let options = &PullOptions { reads_all: false, ..options.clone() };
        let (fetched, index) = self.opened(location, options).await?;
        let crate::pull::Fetched { registry, repository, manifest, .. } = fetched;
        Ok(Inspection {
            registry,
            repository,
            location: location.clone(),
            manifest,
            index,
            #[cfg(feature = "trust")]
            client: self.clone(),
        })
    }
}

impl Inspection {
    /// The manifest, and whether a policy admitted it.
    pub fn manifest(&self) -> &Trusted<ArchiveManifest> {
        &self.manifest
    }

    /// The index: the listing of the archive.
    pub fn index(&self) -> &Arc<ArchiveIndex> {
        &self.index
    }

    /// How many files there are.
    pub fn file_count(&self) -> usize {
        self.index.len()
    }

    /// Bytes of all files, uncompressed.
    pub fn total_uncompressed_size(&self) -> u64 {
        self.index.original_bytes()
    }

    /// Stored bytes of all files; files that share bytes count each.
    pub fn total_compressed_size(&self) -> u64 {
        self.index.stored_bytes()
    }

    /// Stored bytes over uncompressed bytes: 0.5 is halved, 1.0 when there are none.
    pub fn compression_ratio(&self) -> f64 {
        match self.total_uncompressed_size() {
            0 => 1.0,
            size => self.total_compressed_size() as f64 / size as f64,
        }
    }

    /// Zstandard if any file is compressed.
    pub fn compression(&self) -> Compression {
        let any = self.index.entries().any(|entry| entry.compression() == Compression::Zstd);
        if any { Compression::Zstd } else { Compression::None }
    }

    /// The manifests that refer to this archive, such as signatures and attestations, optionally of one artifact type.
    /// They are as the registry lists them: nothing about them was verified.
    ///
    /// # Errors
    /// [`Error::Registry`].
    pub async fn referrers(&self, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        let subject = (&self.repository, self.manifest.digest());
        referrers(&self.registry, subject, artifact_type, &self.location).await
    }

    /// Every bundle about this archive, verified with `trust`: who said what, and when. Whether these are the signers one wants,
    /// is not asked.
    ///
    /// # Errors
    /// [`Error::Evidence`] when the registry fails, or has more than is looked at.
    #[cfg(feature = "trust")]
    pub async fn claims(&self, trust: &blob_policy::sigstore::Trust) -> Result<blob_policy::sigstore::Claims, Error> {
        use blob_policy::{Subject, sigstore};
        let bytes = self.manifest.as_bytes();
        let descriptor = Descriptor::new(media_type::IMAGE_MANIFEST, *self.manifest.digest(), bytes.len() as u64);
        let place = (&self.registry, &self.repository);
        let evidence = crate::trust::HeldEvidence::new(&self.client, &self.location, place, descriptor.digest);
        let failed = |source| Error::Evidence { location: self.location.to_string(), source };
        let subject = Subject::new(&descriptor, bytes, &evidence).map_err(failed)?;
        sigstore::Claims::collect(&subject, trust, &sigstore::SigstoreLimits::default()).await.map_err(failed)
    }
}

/// What refers to a manifest of a repository, all pages of it.
pub(crate) async fn referrers(
    registry: &Arc<dyn Registry>,
    subject: (&Repository, &Digest),
    artifact_type: Option<&str>,
    location: &Location,
) -> Result<Vec<Descriptor>, Error> {
    let action = || format!("listing the referrers of {location}");
    let (mut found, mut page) = (Vec::new(), PageRequest::first());
    for _ in 0..MAX_PAGES {
        let listed = registry.referrers(subject.0, subject.1, artifact_type, &page).await;
        let listed = listed.map_err(|source| Error::Registry { action: action(), source })?;
        found.extend(listed.items);
        match listed.next {
            Some(next) => page = PageRequest::first().after(next),
            None => return Ok(found),
        }
    }
    let detail = format!("there are more than {MAX_PAGES} pages of them");
    let source = RegistryError::Protocol { action: format!("{} referrers read", found.len()), detail };
    Err(Error::Registry { action: action(), source })
}
