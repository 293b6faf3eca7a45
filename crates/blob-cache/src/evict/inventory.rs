//! What there is, and who goes first.
//!
//! A walk counts bytes by the time since they were used, in classes; from that follows how old an entry has to be to
//! go, and a second walk removes those. So memory is bounded by the number of classes, however many entries there are.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::PoisonError;

use super::{Limits, Scope, occupied, unix_now, walk};
use crate::dir::Shared;
use crate::files;
use crate::layout::{self, BUCKETS, Bucket};
use crate::usage::{self, Delta, Ledger};

/// Younger than this, entries are told apart by the second: an hour.
const BY_SECOND: u64 = 3600;
/// Older than this, they are all the same: 90 days, by the minute up to there.
const OLDEST: u64 = 90 * 24 * 3600;

/// What a cache holds.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) ledger: Ledger,
    /// When it was taken, in seconds since 1970.
    now: i64,
    /// Bytes by class of age and bucket, less what turned out to be beyond removal. At most 133,140 classes.
    ages: BTreeMap<u32, [u64; BUCKETS]>,
}

/// Which entries of a bucket go.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// All older ones.
    class: u32,
    /// So many bytes of this class.
    allowance: u64,
}

/// What one walk removed.
#[derive(Clone, Copy, Debug, Default)]
struct Removed {
    freed: u64,
    /// Bytes that could not be removed.
    stuck: u64,
}

impl Inventory {
    pub(super) fn take(shared: &Shared) -> io::Result<Self> {
        // Before the walk: what is published meanwhile may be counted twice, but is not missed.
        let buckets = *shared.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inventory = Self {
            ledger: Ledger { reconciled_at: unix_now(), buckets },
            now: i64::try_from(unix_now()).unwrap_or(i64::MAX),
            ages: BTreeMap::new(),
        };
        walk(shared, Scope::All, &mut |bucket, _, meta| {
            let bytes = occupied(bucket, meta);
            let delta = Delta { entries: 1, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) };
            inventory.ledger.buckets[bucket.index()].add(delta);
            inventory.ages.entry(inventory.class(meta)).or_default()[bucket.index()] += bytes;
        })?;
        Ok(inventory)
    }

    /// The class of an entry; older ones have higher classes.
    fn class(&self, meta: &Metadata) -> u32 {
        let age = unused_for(meta, self.now).min(OLDEST);
        let class = if age < BY_SECOND { age } else { BY_SECOND + age / 60 };
        u32::try_from(class).unwrap_or(u32::MAX)
    }

    /// Removes what `limits` ask for, the oldest first. An entry that cannot be removed is passed over, and a younger
    /// one goes instead.
    pub(super) fn evict(&mut self, shared: &Shared, limits: Limits) -> u64 {
        let first = self.remove(shared, self.cuts(limits));
        if first.stuck == 0 {
            return first.freed;
        }
        first.freed + self.remove(shared, self.cuts(limits)).freed
    }

    /// Where to cut each bucket; `None` for those that stay as they are.
    fn cuts(&self, limits: Limits) -> [Option<Cut>; BUCKETS] {
        let mut cuts = [None; BUCKETS];
        let mut ledger = self.ledger;
        for (&class, sizes) in self.ages.iter().rev() {
            for bucket in Bucket::ALL {
                let bytes = sizes[bucket.index()];
                let excess = limits.excess(&ledger, bucket);
                if bytes == 0 || excess == 0 {
                    continue;
                }
                let allowance = if bytes <= excess { u64::MAX } else { excess };
                cuts[bucket.index()] = Some(Cut { class, allowance });
                let gone = i64::try_from(bytes.min(excess)).unwrap_or(i64::MAX);
                ledger.buckets[bucket.index()].add(Delta { entries: 0, bytes: -gone });
            }
        }
        cuts
    }

    /// Removes what of `scope` was unused for at least `seconds`. Returns the bytes freed.
    pub(super) fn evict_unused(&mut self, shared: &Shared, scope: Scope, seconds: u64) -> io::Result<u64> {
        let mut removed = Removed::default();
        walk(shared, scope, &mut |bucket, path, meta| {
            if unused_for(meta, self.now) >= seconds {
                let entry = (bucket, self.class(meta), occupied(bucket, meta));
                self.remove_one(shared, entry, path, &mut removed);
            }
        })?;
        Ok(removed.freed)
    }

    fn remove(&mut self, shared: &Shared, mut cuts: [Option<Cut>; BUCKETS]) -> Removed {
        let mut removed = Removed::default();
        for bucket in Bucket::ALL {
            let Some(cut) = &mut cuts[bucket.index()] else { continue };
            let outcome = walk(shared, Scope::One(bucket), &mut |_, path, meta| {
                let (class, bytes) = (self.class(meta), occupied(bucket, meta));
                if class < cut.class || class == cut.class && cut.allowance == 0 {
                    return;
                }
                if class == cut.class {
                    cut.allowance = cut.allowance.saturating_sub(bytes);
                }
                self.remove_one(shared, (bucket, class, bytes), path, &mut removed);
            });
            if let Err(error) = outcome {
                tracing::debug!(bucket = bucket.name(), %error, "listing the cache to evict from it failed");
            }
        }
        removed
    }

    fn remove_one(&mut self, shared: &Shared, entry: (Bucket, u32, u64), path: &Path, removed: &mut Removed) {
        let (bucket, class, bytes) = entry;
        if let Some(sizes) = self.ages.get_mut(&class) {
            sizes[bucket.index()] = sizes[bucket.index()].saturating_sub(bytes);
        }
        match files::discard(path, &shared.tmp) {
            Ok(there) => {
                let delta = Delta { entries: -1, bytes: -i64::try_from(bytes).unwrap_or(i64::MAX) };
                self.ledger.buckets[bucket.index()].add(delta);
                removed.freed += if there { bytes } else { 0 };
            }
            Err(error) => {
                removed.stuck += bytes;
                tracing::debug!(path = %path.display(), %error, "a cache entry cannot be evicted");
            }
        }
    }

    /// Writes the counter: what was found, and what was added since `before` was read. An entry that was stored in
    /// between may be counted twice; the next walk puts that right, and too much is the safe side.
    pub(super) fn settle(&self, shared: &Shared, before: Option<Ledger>) -> io::Result<()> {
        let truth = self.ledger;
        usage::update(&shared.at_root(layout::USAGE), |now| {
            let mut ledger = truth;
            if let (Some(before), Some(now)) = (before, now) {
                for (index, tally) in ledger.buckets.iter_mut().enumerate() {
                    let (then, now) = (before.buckets[index], now.buckets[index]);
                    tally.bytes = tally.bytes.saturating_add(now.bytes.saturating_sub(then.bytes));
                    tally.entries = tally.entries.saturating_add(now.entries.saturating_sub(then.entries));
                }
            }
            Some(ledger)
        })?;
        Ok(())
    }
}

/// How many seconds ago an entry was used last, at the time `now` in seconds since 1970.
pub(super) fn unused_for(meta: &Metadata, now: i64) -> u64 {
    // A time from the future must not protect an entry for ever.
    let sane = |time: i64| if time > now { i64::MIN } else { time };
    let age = now.saturating_sub(sane(meta.atime()).max(sane(meta.mtime())));
    u64::try_from(age).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Tally;

    #[test]
    fn the_oldest_goes_first_within_each_limit() {
        let bucket = |index: usize, bytes| {
            let mut sizes = [0; BUCKETS];
            sizes[index] = bytes;
            sizes
        };
        let (contents, blocks) = (Bucket::Contents.index(), Bucket::Blocks.index());
        let mut ledger = Ledger::default();
        ledger.buckets[contents] = Tally { entries: 3, bytes: 300 };
        ledger.buckets[blocks] = Tally { entries: 1, bytes: 100 };
        let ages = BTreeMap::from([
            (1, bucket(contents, 100)),
            (2, bucket(blocks, 100)),
            (3, bucket(contents, 100)),
            (4, bucket(contents, 100)),
        ]);
        let inventory = Inventory { ledger, now: 0, ages };
        let cut = |limits: Limits, index: usize| inventory.cuts(limits)[index].map(|cut| (cut.class, cut.allowance));
        let total = |total| Limits { total, ..Limits::NONE };
        for (limits, of_contents, of_blocks) in [
            (total(400), None, None),
            (total(399), Some((4, 1)), None),
            (total(200), Some((3, u64::MAX)), None),
            (total(150), Some((3, u64::MAX)), Some((2, 50))),
            (total(0), Some((1, u64::MAX)), Some((2, u64::MAX))),
        ] {
            assert_eq!((cut(limits, contents), cut(limits, blocks)), (of_contents, of_blocks), "{limits:?}");
        }
        let mut own = Limits::NONE;
        own.buckets[blocks] = 0;
        assert_eq!((cut(own, contents), cut(own, blocks)), (None, Some((2, u64::MAX))));
    }
}
