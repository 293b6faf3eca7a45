//! Verifying without opening: every policy is asked, and every verdict is reported.

use std::sync::Arc;
use std::time::SystemTime;

use blob_policy::{Evidence, Policy, PolicyError, Report};
use blob_registry::Descriptor;

use crate::client::Client;
use crate::error::Error;
use crate::location::Location;
use crate::pull::PullOptions;
use crate::trust::Place;

/// How something is verified.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Another policy than the client's.
    pub policy: Option<Arc<dyn Policy>>,
    /// Evidence from elsewhere than the repository, such as bundles in files.
    pub evidence: Option<Arc<dyn Evidence>>,
}

/// What became of a verification.
#[derive(Debug)]
pub struct Verification {
    location: Location,
    descriptor: Descriptor,
    outcomes: Vec<Outcome>,
    evidence_listed_at: Option<SystemTime>,
}

/// What one policy said.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The policy.
    pub policy: String,
    /// Its report, or why it does not admit.
    pub verdict: Result<Report, PolicyError>,
}

impl Client {
    /// Asks every policy about what is at `location`, an archive or any other manifest, whatever others say. Nothing is
    /// taken from a cache unless the client is [offline](crate::ClientBuilder::offline), and no earlier verdict counts.
    ///
    /// Whether all admit is [`Verification::is_admitted`]; a refusal is no error here.
    ///
    /// # Errors
    /// [`Error::NotVerified`] when no policy is for the location; [`Error::Registry`] when the manifest cannot be had.
    pub async fn verify(&self, location: &Location, options: &VerifyOptions) -> Result<Verification, Error> {
        let mut pull = PullOptions { skip_cache: true, ..PullOptions::default() };
        pull.policy.clone_from(&options.policy);
        let policies = self.policies_for(location, &pull).await;
        if policies.is_empty() {
            return Err(Error::NotVerified { location: location.to_string() });
        }
        let (registry, repository, manifest) = self.manifest_with(location, &pull).await?;
        let place = Place { location, registry: &registry, repository: &repository, manifest: &manifest };
        let (held, reference) = (place.evidence(self), location.to_string());
        let evidence = options.evidence.as_deref().unwrap_or(&held);
        let subject = place.subject(evidence, &reference)?;
        let mut outcomes = Vec::new();
        for policy in policies {
            let verdict = policy.evaluate(&subject).await;
            outcomes.push(Outcome { policy: policy.name(), verdict });
        }
        let (location, descriptor) = (place.pinned(), manifest.descriptor.clone());
        Ok(Verification { location, descriptor, outcomes, evidence_listed_at: held.listed_at() })
    }
}

impl Verification {
    /// What was verified, pinned to its digest.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Media type, digest and size of what was verified.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// What each policy said, in order; there is at least one.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// When the registry was asked which manifests refer to this one, if that is known from the cache alone: signatures that
    /// were added since, or taken away, are not. `None` for what was asked for just now.
    pub fn evidence_listed_at(&self) -> Option<SystemTime> {
        self.evidence_listed_at
    }

    /// Whether every policy admits.
    pub fn is_admitted(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.verdict.is_ok())
    }

    /// What all policies that refuse said, as one error, if any does: it is a rejection if one of them rejects, whatever the
    /// others could not tell.
    pub fn into_error(self) -> Option<Error> {
        let location = self.location.to_string();
        let refusals = self.outcomes.into_iter().filter_map(|outcome| outcome.verdict.err()).collect();
        PolicyError::all_of(refusals).map(|source| Error::Policy { location, source })
    }
}
