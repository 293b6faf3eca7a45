//! Which bundles are as good as one that a signer would make now, so that signing again adds nothing.

use super::token::Holder;
use crate::sigstore::{Signer, Trust, VerifiedClaim};

/// What a bundle must prove for a signer to leave it at that: it verifies with as much evidence as a new one would have,
/// and it is by the same signer.
#[derive(Clone, Debug)]
pub struct Equivalence {
    trust: Trust,
    holder: Option<Holder>,
}

impl Equivalence {
    /// Every bundle that verifies with `trust`: keys, whose holder is the signer.
    pub fn verified_by(trust: Trust) -> Self {
        Self { trust, holder: None }
    }

    /// Bundles that verify with `trust` and whose certificate is for `holder`.
    pub(super) fn held_by(trust: Trust, holder: Holder) -> Self {
        Self { trust, holder: Some(holder) }
    }

    /// What bundles are verified with.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whether a claim that was verified with [`trust`](Self::trust) is by the same signer.
    pub fn is_same_signer(&self, claim: &VerifiedClaim) -> bool {
        match (&self.holder, claim.signer()) {
            (None, _) => true,
            (Some(holder), Signer::Certificate(certificate)) => holder.is_named_by(certificate),
            (Some(_), Signer::Key { .. }) => false,
        }
    }
}
