//! Which transparency logs an entry is in, by the keys of the trust root that prove it.
//!
//! What a bundle calls a log is a name that anybody can write. A log counts once its key was seen to have signed the
//! checkpoint or the promise of the entry, and it counts by that key, under however many names a trust root lists it.

use std::collections::BTreeSet;

use sigstore_crypto::VerificationKey;
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, TransparencyLogEntry};

use super::error::BundleError;

/// A log of a trust root.
struct Log {
    id: Vec<u8>,
    /// DER `SubjectPublicKeyInfo`: the same key is the same log.
    spki: Vec<u8>,
    key: VerificationKey,
}

/// The logs of a trust root.
pub(super) struct Logs(Vec<Log>);

impl Logs {
    /// Those whose keys are of a kind that can be used.
    pub(super) fn of(root: &TrustedRoot) -> Self {
        let usable = root.tlogs.iter().filter_map(|log| {
            let key = VerificationKey::from_spki(&log.public_key.raw_bytes).ok()?;
            let (id, spki) = (log.log_id.key_id.as_bytes().to_vec(), log.public_key.raw_bytes.as_bytes().to_vec());
            Some(Log { id, spki, key })
        });
        Self(usable.collect())
    }

    /// How many logs have the entries of a bundle whose proofs and promises were verified before.
    ///
    /// # Errors
    /// [`BundleError::NotProven`] for an entry that none was verified of, or that calls itself after another log.
    pub(super) fn count(&self, bundle: &Bundle) -> Result<usize, BundleError> {
        let mut seen = BTreeSet::new();
        for (at, entry) in bundle.verification_material.tlog_entries.iter().enumerate() {
            seen.insert(self.proving(entry).ok_or(BundleError::NotProven { at })?);
        }
        Ok(seen.len())
    }

    /// The key of the log that an entry names, if it signed what the entry comes with: the checkpoint of the proof. A
    /// promise was verified with that very key, since the name is what it is looked up by.
    fn proving(&self, entry: &TransparencyLogEntry) -> Option<&[u8]> {
        let named = self.0.iter().find(|log| log.id == entry.log_id.key_id.as_bytes())?;
        let signed = match &entry.inclusion_proof {
            Some(proof) => {
                let checkpoint = proof.checkpoint.checkpoint()?;
                let by_hint = |hint: &[u8]| named.id.starts_with(hint);
                let signatures = checkpoint.signatures().iter().filter(|one| by_hint(one.key_id.as_bytes()));
                signatures.into_iter().any(|one| named.key.verify(checkpoint.signed_data(), &one.signature).is_ok())
            }
            None => entry.inclusion_promise.is_some(),
        };
        signed.then_some(named.spki.as_slice())
    }
}
