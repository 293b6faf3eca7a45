//! Which bundles are as good as one that a signer would make now, so that signing again adds nothing.

use super::token::Holder;
use crate::sigstore::{CertificateSigner, Signer, Trust, VerifiedClaim};

/// What a bundle must prove for a signer to leave it at that: it verifies with as much evidence as a new one would have,
/// and it is by the same signer.
#[derive(Clone, Debug)]
pub struct Equivalence {
    trust: Trust,
    who: Who,
}

#[derive(Clone, Debug)]
enum Who {
    /// Whoever verifies.
    Anybody,
    /// Whoever a token is for.
    Holder(Holder),
    /// Whoever a certificate is for.
    Certified(Box<CertificateSigner>),
}

impl Equivalence {
    /// Every bundle that verifies with `trust`: keys, whose holder is the signer.
    pub fn verified_by(trust: Trust) -> Self {
        Self { trust, who: Who::Anybody }
    }

    /// Bundles that verify with `trust` and whose certificate is for `holder`.
    pub(super) fn held_by(trust: Trust, holder: Holder) -> Self {
        Self { trust, who: Who::Holder(holder) }
    }

    /// Bundles that verify with `trust` and whose certificate names whom `certificate` names.
    pub(super) fn certified(trust: Trust, certificate: CertificateSigner) -> Self {
        Self { trust, who: Who::Certified(Box::new(certificate)) }
    }

    /// What bundles are verified with.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whether a claim that was verified with [`trust`](Self::trust) is by the same signer.
    pub fn is_same_signer(&self, claim: &VerifiedClaim) -> bool {
        match (&self.who, claim.signer()) {
            (Who::Anybody, _) => true,
            (Who::Holder(holder), Signer::Certificate(certificate)) => holder.is_named_by(certificate),
            (Who::Certified(ours), Signer::Certificate(certificate)) => same(ours, certificate),
            (_, Signer::Key { .. }) => false,
        }
    }
}

/// Whether two certificates are for the same workload: by name, issuer, and what was built from which ref.
fn same(one: &CertificateSigner, other: &CertificateSigner) -> bool {
    let source = |signer: &CertificateSigner| {
        let claims = &signer.claims;
        [&claims.source_repository_uri, &claims.source_repository_ref, &claims.build_signer_uri].map(Clone::clone)
    };
    one.san == other.san && one.issuer == other.issuer && source(one) == source(other)
}
