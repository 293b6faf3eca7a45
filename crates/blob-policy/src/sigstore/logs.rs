//! Which transparency logs an entry is in, by the keys of the trust root that prove it.
//!
//! What a bundle calls a log is a name that anybody can write. A log counts once its key was seen to have signed the
//! checkpoint or the promise of the entry, and it counts by that key, under however many names a trust root lists it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sigstore_crypto::VerificationKey;
use sigstore_trust_root::{TimeRange, TrustedRoot};
use sigstore_types::{Bundle, TransparencyLogEntry};

use super::error::BundleError;

/// A log of a trust root.
struct Log {
    id: Vec<u8>,
    /// DER `SubjectPublicKeyInfo`: the same key is the same log.
    spki: Vec<u8>,
    key: VerificationKey,
    /// Where it is spoken to.
    #[cfg(feature = "sign")]
    url: String,
    /// When its key counted, if that is limited.
    valid_for: Option<TimeRange>,
}

/// The logs of a trust root.
pub(super) struct Logs(Vec<Log>);

impl Logs {
    /// Those whose keys are of a kind that can be used.
    pub(super) fn of(root: &TrustedRoot) -> Self {
        let usable = root.tlogs.iter().filter_map(|log| {
            let key = VerificationKey::from_spki(&log.public_key.raw_bytes).ok()?;
            let (id, spki) = (log.log_id.key_id.as_bytes().to_vec(), log.public_key.raw_bytes.as_bytes().to_vec());
            Some(Log {
                id,
                spki,
                key,
                #[cfg(feature = "sign")]
                url: log.base_url.trim_end_matches('/').to_owned(),
                valid_for: log.public_key.valid_for,
            })
        });
        Self(usable.collect())
    }

    /// How many logs have the entries of a bundle whose proofs and promises were verified before; it was signed at `times`,
    /// as far as anybody vouches for that.
    ///
    /// # Errors
    /// [`BundleError::NotProven`] for an entry that none was verified of, or that calls itself after another log;
    /// [`BundleError::LogTime`] for one whose log did not count then.
    pub(super) fn count(&self, bundle: &Bundle, times: &[Timestamp]) -> Result<usize, BundleError> {
        let mut seen = BTreeSet::new();
        for (at, entry) in bundle.verification_material.tlog_entries.iter().enumerate() {
            let log = self.proving(entry).ok_or(BundleError::NotProven { at })?;
            // A promise with a time was held against that of the log, and its time is among those that count. A proof has
            // none, and neither has a promise over no time: the key of a log that was retired, and perhaps got about, can
            // sign both today.
            let promised_at = entry.integrated_time.filter(|_| entry.inclusion_promise.is_some());
            let dated = promised_at.is_some_and(|at| times.contains(&at));
            if !dated && !log.counted_at(times) {
                return Err(BundleError::LogTime { at });
            }
            seen.insert(log.spki.as_slice());
        }
        Ok(seen.len())
    }

    /// How many different logs certainly are behind these addresses: those that the trust root knows by them, and one for
    /// addresses that it does not know, unless those are other addresses of the same logs.
    #[cfg(feature = "sign")]
    pub(super) fn behind<'a>(&self, urls: impl Iterator<Item = &'a str>) -> usize {
        let (mut known, mut any) = (BTreeSet::new(), false);
        for url in urls {
            any = true;
            let named = self.0.iter().find(|log| log.url == url.trim_end_matches('/'));
            known.extend(named.map(|log| log.spki.as_slice()));
        }
        known.len().max(usize::from(any))
    }

    /// The key of the log that an entry names, if it signed what the entry comes with: the checkpoint of the proof. A
    /// promise was verified with that very key, since the name is what it is looked up by.
    fn proving(&self, entry: &TransparencyLogEntry) -> Option<&Log> {
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
        signed.then_some(named)
    }
}

impl Log {
    /// Whether it counted at one of `times`; at present, where nobody knows when it was.
    fn counted_at(&self, times: &[Timestamp]) -> bool {
        let Some(range) = &self.valid_for else { return true };
        let now = [Timestamp::now()];
        let times = if times.is_empty() { &now } else { times };
        times.iter().any(|time| range.contains(*time))
    }
}
