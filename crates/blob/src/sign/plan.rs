//! What signing would do, found out without signing, and without anybody hearing of it but the registry that is read.

use blob_core::Digest;
use blob_policy::sign::{Equivalence, Signer, Statement};
use blob_registry::Descriptor;

use super::{SignOptions, attestation, said};
use crate::client::Client;
use crate::error::Error;
use crate::location::Location;
use crate::trust::Place;

/// What [`Client::sign`] or [`Client::attest`] would do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignPlan {
    /// What would be signed, pinned to its digest; the bundle would be attached to it there.
    pub location: Location,
    /// Media type, digest and size of what would be signed.
    pub subject: Descriptor,
    /// The type of the statement that would be signed; `None` for the bytes of the manifest themselves.
    pub predicate_type: Option<String>,
    /// Whether an equivalent bundle is there.
    pub equivalent: Equivalent,
}

/// Whether a bundle is there that says the same, and that is as good as the one that would be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Equivalent {
    /// This manifest carries it.
    Found(Digest),
    /// None is.
    Missing,
    /// It is not known before signing who signs.
    Unknown,
}

impl Client {
    /// What [`sign`](Self::sign) would do with these. Nothing is signed or sent, and no certificate is asked for; a signer may
    /// ask for an identity token.
    ///
    /// # Errors
    /// As [`sign`](Self::sign), as far as that is known before.
    pub async fn plan_sign(
        &self,
        location: &Location,
        signer: &dyn Signer,
        options: &SignOptions,
    ) -> Result<SignPlan, Error> {
        let (registry, repository, manifest) = self.manifest_to_sign(location).await?;
        let place = Place { location, registry: &registry, repository: &repository, manifest: &manifest };
        let statement = said(Statement::signature(manifest.descriptor.digest), options);
        self.plan(&place, signer, (!options.message).then_some(&statement), options).await
    }

    /// What [`attest`](Self::attest) would do, as [`plan_sign`](Self::plan_sign) finds it out.
    ///
    /// # Errors
    /// As [`attest`](Self::attest), as far as that is known before.
    pub async fn plan_attest(
        &self,
        location: &Location,
        signer: &dyn Signer,
        predicate_type: &str,
        predicate: serde_json::Value,
        options: &SignOptions,
    ) -> Result<SignPlan, Error> {
        let (registry, repository, manifest) = self.manifest_to_sign(location).await?;
        let place = Place { location, registry: &registry, repository: &repository, manifest: &manifest };
        let statement = attestation(&place, predicate_type, predicate, options)?;
        self.plan(&place, signer, Some(&statement), options).await
    }

    async fn plan(
        &self,
        place: &Place<'_>,
        signer: &dyn Signer,
        statement: Option<&Statement>,
        options: &SignOptions,
    ) -> Result<SignPlan, Error> {
        let location = place.pinned();
        let failed = |source| Error::Sign { location: location.to_string(), source };
        signer.check(statement.is_none()).map_err(failed)?;
        let wanted = match &options.equivalent {
            Some(trust) => Some(Equivalence::verified_by(trust.clone())),
            None => signer.equivalence().await.map_err(failed)?,
        };
        let equivalent = match wanted {
            None => Equivalent::Unknown,
            Some(wanted) => match self.equivalent(place, &wanted, statement).await? {
                Some(referrer) => Equivalent::Found(referrer),
                None => Equivalent::Missing,
            },
        };
        let predicate_type = statement.map(|statement| statement.predicate_type().to_owned());
        Ok(SignPlan { location, subject: place.manifest.descriptor.clone(), predicate_type, equivalent })
    }
}
