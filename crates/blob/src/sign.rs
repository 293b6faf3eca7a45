//! Signing and attesting: bundles beside the manifest that they are about.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use blob_core::Digest;
use blob_policy::EvidenceError;
use blob_policy::sign::{Attached, Equivalence, SignedBundle, Signer, Statement, attach};
use blob_policy::sigstore::{Claims, SigstoreLimits, Trust};
use blob_registry::Descriptor;

use crate::client::Client;
use crate::error::Error;
use crate::location::Location;
use crate::trust::Place;

pub use plan::{Equivalent, SignPlan};

/// How something is signed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SignOptions {
    /// Said of the manifest under the signature, as `cosign sign -a` does.
    pub annotations: BTreeMap<String, String>,
    /// Sign the bytes of the manifest themselves instead of a statement, for verifiers that know no statements.
    pub message: bool,
    /// Make the bundle and publish nothing.
    pub no_upload: bool,
    /// Sign even if an equivalent bundle is there.
    pub again: bool,
    /// A bundle that verifies with this and says the same is equivalent. Without it the signer says which are: those by its
    /// key, or for its identity, with the log entries and the time-stamps that a new one would have.
    pub equivalent: Option<Trust>,
}

/// A signature or attestation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Signed {
    /// What was signed, pinned to its digest.
    pub location: Location,
    /// Media type, digest and size of what was signed.
    pub subject: Descriptor,
    /// The bundle that was made; `None` if an equivalent one was there.
    pub bundle: Option<SignedBundle>,
    /// The manifest that carries the bundle, made now or before; `None` if nothing was to be published.
    pub referrer: Option<Digest>,
}

/// A signer, and how it signs what is pushed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignWith {
    /// Who signs.
    pub signer: Arc<dyn Signer>,
    /// How.
    pub options: SignOptions,
}

impl SignWith {
    /// Signs with `signer` and the defaults.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self { signer, options: SignOptions::default() }
    }
}

impl Client {
    /// Signs what is at `location`: an archive, or any other manifest. A tag is resolved once, at the registry itself and never by a mirror, and the
    /// digest is what is signed; where no tag can be believed, name a digest. Signing again with the same key, or as the same identity,
    /// finds what is there and changes nothing.
    ///
    /// # Errors
    /// [`Error::Sign`], [`Error::Attach`], [`Error::Registry`].
    ///
    /// # Cancellation
    /// What was uploaded stays, and does no harm.
    pub async fn sign(&self, location: &Location, signer: &dyn Signer, options: &SignOptions) -> Result<Signed, Error> {
        let (registry, repository, manifest) = self.manifest_to_sign(location).await?;
        let place = Place { location, registry: &registry, repository: &repository, manifest: &manifest };
        self.sign_manifest(&place, signer, options).await
    }

    /// Attaches a signed statement with `predicate`, of type `predicate_type`, to what is at `location`.
    ///
    /// # Errors
    /// As [`sign`](Self::sign); [`Error::Statement`] for a predicate that is no JSON object or a type that is no URI.
    pub async fn attest(
        &self,
        location: &Location,
        signer: &dyn Signer,
        predicate_type: &str,
        predicate: serde_json::Value,
        options: &SignOptions,
    ) -> Result<Signed, Error> {
        let (registry, repository, manifest) = self.manifest_to_sign(location).await?;
        let place = Place { location, registry: &registry, repository: &repository, manifest: &manifest };
        let statement = attestation(&place, predicate_type, predicate, options)?;
        self.publish(&place, signer, Some(&statement), options).await
    }

    /// Signs a manifest whose bytes are here.
    pub(crate) async fn sign_manifest(
        &self,
        place: &Place<'_>,
        signer: &dyn Signer,
        options: &SignOptions,
    ) -> Result<Signed, Error> {
        let statement = said(Statement::signature(place.manifest.descriptor.digest), options);
        self.publish(place, signer, (!options.message).then_some(&statement), options).await
    }

    /// Signs the statement, or else the manifest itself, and attaches the bundle.
    async fn publish(
        &self,
        place: &Place<'_>,
        signer: &dyn Signer,
        statement: Option<&Statement>,
        options: &SignOptions,
    ) -> Result<Signed, Error> {
        let subject = place.manifest.descriptor.clone();
        let location = place.pinned();
        let failed = |source| Error::Sign { location: location.to_string(), source };
        let mut prepared = None;
        if !options.again && !options.no_upload {
            let mut wanted = match &options.equivalent {
                Some(trust) => Some(Equivalence::verified_by(trust.clone())),
                None => signer.equivalence().await.map_err(failed)?,
            };
            // Some learn who they are only from their certificate, which is had before anything is published.
            if wanted.is_none() {
                prepared = signer.prepared().await.map_err(failed)?;
                if let Some(prepared) = &prepared {
                    wanted = prepared.equivalence().await.map_err(failed)?;
                }
            }
            let referrer = match wanted {
                Some(wanted) => self.equivalent(place, &wanted, statement).await?,
                None => None,
            };
            if referrer.is_some() {
                return Ok(Signed { location, subject, bundle: None, referrer });
            }
        }
        let signer = prepared.as_deref().unwrap_or(signer);
        let made = match statement {
            Some(statement) => signer.sign(statement).await,
            None => signer.sign_message(&place.manifest.bytes).await,
        };
        let bundle = made.map_err(failed)?;
        let referrer = if options.no_upload {
            None
        } else {
            let attached = attach(place.registry.as_ref(), place.repository, &subject, &bundle).await;
            let Attached { manifest, .. } =
                attached.map_err(|source| Error::Attach { location: location.to_string(), source })?;
            place.evidence(self).forget_bundles().await;
            Some(manifest)
        };
        Ok(Signed { location, subject, bundle: Some(bundle), referrer })
    }

    /// The referrer that says the same under a signature that is as good as one of ours.
    async fn equivalent(
        &self,
        place: &Place<'_>,
        equivalence: &Equivalence,
        statement: Option<&Statement>,
    ) -> Result<Option<Digest>, Error> {
        let (evidence, reference) = (place.evidence(self), place.location.to_string());
        let subject = place.subject(&evidence, &reference)?;
        let claims = match Claims::collect(&subject, equivalence.trust(), &SigstoreLimits::default()).await {
            Ok(claims) => claims,
            // Too much to look through is no reason not to sign.
            Err(EvidenceError::Limit { .. }) => return Ok(None),
            Err(source) => return Err(Error::Evidence { location: place.pinned().to_string(), source }),
        };
        if evidence.listed_at().is_some() {
            // What was there once is no reason to leave a signature out.
            let missing = "list of referrers as it is now";
            return Err(Error::Offline { location: place.pinned().to_string(), missing });
        }
        let wanted = statement.map(Statement::to_bytes);
        let same = claims.verified.iter().filter(|claim| equivalence.is_same_signer(claim)).find(|claim| {
            let said = claim.verified().statement();
            said.map(blob_policy::sigstore::Statement::bytes) == wanted.as_ref()
        });
        Ok(same.map(|claim| *claim.referrer()))
    }
}

/// The statement that `predicate` holds for what is at `place`.
fn attestation(
    place: &Place<'_>,
    predicate_type: &str,
    predicate: serde_json::Value,
    options: &SignOptions,
) -> Result<Statement, Error> {
    let statement = Statement::attestation(place.manifest.descriptor.digest, predicate_type, predicate);
    Ok(said(statement.map_err(Error::Statement)?, options))
}

/// The statement with the annotations that were asked for.
fn said(statement: Statement, options: &SignOptions) -> Statement {
    options.annotations.iter().fold(statement, |statement, (name, value)| statement.annotation(name, value))
}
