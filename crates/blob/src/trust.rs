//! Which policies an archive must satisfy, and the door that asks them.

mod held;
#[cfg(feature = "trust")]
mod spelling;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::Digest;
use blob_policy::{
    AdmitError, Evidence, FromManifest, Policy, PolicyError, Report, RequireAll, Subject, Trusted, admit,
    admit_without_verification,
};
use blob_registry::{Manifest, Outline, Registry, Repository};

use crate::archive_manifest::{ArchiveManifest, ArchiveManifestError};
use crate::client::Client;
use crate::error::Error;
use crate::location::Location;
use crate::pull::PullOptions;
use crate::verdicts::VerdictKey;

pub(crate) use held::HeldEvidence;
#[cfg(feature = "trust")]
pub use spelling::spellings;

/// Says which policies an archive must satisfy, by where it is.
pub trait PolicySource: Debug + Send + Sync {
    /// The policies for `location`; all must admit. None at all means that nobody verifies what is there. May look at the
    /// file system when `location` is a layout.
    fn policies_for(&self, location: &Location) -> Vec<Arc<dyn Policy>>;
}

#[cfg(feature = "trust")]
impl PolicySource for blob_policy::file::PolicySet {
    fn policies_for(&self, location: &Location) -> Vec<Arc<dyn Policy>> {
        Self::policies_for(self, &spellings(location))
    }
}

/// A manifest, and the repository that it and the evidence about it are in.
pub(crate) struct Place<'a> {
    pub(crate) location: &'a Location,
    pub(crate) registry: &'a Arc<dyn Registry>,
    pub(crate) repository: &'a Repository,
    pub(crate) manifest: &'a Manifest,
}

impl Place<'_> {
    /// The place, pinned to the manifest.
    pub(crate) fn pinned(&self) -> Location {
        self.location.with_target(self.manifest.descriptor.digest.into())
    }

    /// What the repository holds about the manifest; offline, what it held.
    pub(crate) fn evidence(&self, client: &Client) -> HeldEvidence {
        let place = (self.registry, self.repository);
        HeldEvidence::new(client, self.location, place, self.manifest.descriptor.digest)
    }

    /// What policies judge.
    pub(crate) fn subject<'s>(&'s self, evidence: &'s dyn Evidence, reference: &'s str) -> Result<Subject<'s>, Error> {
        let subject = Subject::new(&self.manifest.descriptor, &self.manifest.bytes, evidence);
        let location = || self.pinned().to_string();
        Ok(subject.map_err(|source| Error::Evidence { location: location(), source })?.with_reference(reference))
    }
}

impl Client {
    /// The policies that an archive at `location` must satisfy.
    pub(crate) async fn policies_for(&self, location: &Location, options: &PullOptions) -> Vec<Arc<dyn Policy>> {
        if let Some(policy) = &options.policy {
            return vec![Arc::clone(policy)];
        }
        let ask = |client: &Self, location: &Location| {
            let sources = client.policy_sources().iter().flat_map(|source| source.policies_for(location));
            client.policies().iter().cloned().chain(sources).collect()
        };
        if location.reference().is_some() || self.policy_sources().is_empty() {
            return ask(self, location);
        }
        // A path on disk is looked at, which may take its time.
        let (client, location) = (self.clone(), location.clone());
        match tokio::task::spawn_blocking(move || ask(&client, &location)).await {
            Ok(policies) => policies,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// The door: policies decide, or it is recorded that none did. A verdict that was reached a moment ago holds.
    pub(crate) async fn admit(
        &self,
        place: &Place<'_>,
        options: &PullOptions,
    ) -> Result<Trusted<ArchiveManifest>, Error> {
        self.admit_as(place, options, |location, source| Error::Manifest { location, source }).await
    }

    /// The same door for what need not be an archive.
    pub(crate) async fn admit_any(&self, place: &Place<'_>, options: &PullOptions) -> Result<Trusted<Outline>, Error> {
        let unreadable =
            |location, source| Error::Manifest { location, source: ArchiveManifestError::Manifest(source) };
        self.admit_as(place, options, unreadable).await
    }

    async fn admit_as<T: FromManifest>(
        &self,
        place: &Place<'_>,
        options: &PullOptions,
        unreadable: fn(String, T::Error) -> Error,
    ) -> Result<Trusted<T>, Error> {
        let pinned = || place.pinned().to_string();
        let not_that = |source: T::Error| unreadable(place.location.to_string(), source);
        let (evidence, reference) = (place.evidence(self), place.location.to_string());
        let subject = place.subject(&evidence, &reference)?;
        let Some(policy) = RequireAll::new(self.policies_for(place.location, options).await) else {
            if self.requires_verification() {
                return Err(Error::NotVerified { location: pinned() });
            }
            return admit_without_verification(&subject).map_err(not_that);
        };
        let key = policy.fingerprint().map(|policy| VerdictKey {
            manifest: place.manifest.descriptor.digest,
            policy,
            reference: reference.clone(),
        });
        let refused = |error| match error {
            AdmitError::Manifest(source) => not_that(source),
            AdmitError::Policy(source) => Error::Policy { location: pinned(), source },
            other => Error::Options(other.to_string()),
        };
        if let Some(key) = key.as_ref().filter(|_| !options.skip_cache)
            && let Some(report) = self.verdicts().find(key).await
        {
            let known = Known { report, fingerprint: key.policy };
            return admit(&known, &subject).await.map_err(refused);
        }
        let trusted: Trusted<T> = admit(&policy, &subject).await.map_err(refused)?;
        // What is known from an old list alone is judged anew each time, and counts for nobody who is online.
        let fresh = evidence.listed_at().is_none();
        if let (Some(key), Some(report)) = (key.as_ref().filter(|_| fresh), trusted.report()) {
            self.verdicts().keep(key, report).await;
        }
        Ok(trusted)
    }
}

/// A verdict that was reached a moment ago.
#[derive(Debug)]
struct Known {
    report: Report,
    fingerprint: Digest,
}

#[async_trait]
impl Policy for Known {
    async fn evaluate(&self, _: &Subject<'_>) -> Result<Report, PolicyError> {
        Ok(self.report.clone())
    }

    fn fingerprint(&self) -> Option<Digest> {
        Some(self.fingerprint)
    }
}
