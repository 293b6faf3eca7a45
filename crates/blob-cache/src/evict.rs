//! Keeping within the cap: counting what is stored, evicting what was unused for longest, reclaiming leftovers.
//!
//! A store first adds its size to the counter; if that passes a cap, it evicts down to the low-water mark (90 % of the
//! cap), so that walks of the tree are rare: each frees a tenth of the cap. One process evicts at a time. Readers hold
//! no lock: they have the file open, and an unlinked file stays readable.

mod inventory;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::dir::Shared;
use crate::files;
use crate::layout::{self, BUCKETS, Bucket, is_entry_name};
use crate::lock::{self, FileLock};
use crate::marker;
use crate::turn;
use crate::usage::{self, Delta, Ledger, Tally};
use inventory::{Inventory, unused_for};

/// A walk of a hundred thousand entries takes a quarter of a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Somebody waits for what is being stored: then it is better not to store it.
const STORING_PATIENCE: Duration = Duration::from_millis(500);
/// How old the counter may grow before a store that comes near a cap puts it right, in seconds.
const RECONCILE_AFTER: u64 = 24 * 3600;
/// How old it may grow otherwise: a walk of a million entries takes 15 seconds, and a counter errs by little.
const RECONCILE_ALWAYS_AFTER: u64 = 30 * 24 * 3600;
/// Leftovers without a living writer go after this long, in seconds: a temporary exists before it is locked.
const ORPHANED_AFTER: u64 = 60;
/// Leftovers on file systems without locks go after this long, in seconds.
const ABANDONED_AFTER: u64 = 24 * 3600;
/// How many leftovers one call looks at.
const RECLAIM_AT_ONCE: usize = 4096;

/// What housekeeping covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    One(Bucket),
}

impl Scope {
    pub(crate) fn covers(self, bucket: Bucket) -> bool {
        self == Self::All || self == Self::One(bucket)
    }
}

/// What an entry of `bytes` counts as.
pub(crate) fn charge(bytes: u64) -> u64 {
    bytes.max(1).checked_next_multiple_of(4096).unwrap_or(u64::MAX)
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Bytes that are counted before they are published, so that the cap holds. Dropping it without
/// [`keep`](Self::keep) takes them back.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    shared: &'a Shared,
    bucket: Bucket,
    delta: Delta,
    kept: bool,
}

impl Reservation<'_> {
    /// The bytes are there. `replaced` tells that the entry was there before, and is counted already.
    pub(crate) fn keep(mut self, replaced: bool) {
        self.kept = !replaced;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let back = Delta { entries: -self.delta.entries, bytes: -self.delta.bytes };
        fly(self.shared, self.bucket, back);
        if !self.kept {
            count(self.shared, self.bucket, back);
        }
    }
}

/// Counts `entries` new entries of `bytes` together and makes room for them.
///
/// # Errors
/// When eviction was needed and failed, or could not bring the cache within its cap.
pub(crate) fn reserve(shared: &Shared, bucket: Bucket, entries: u32, bytes: u64) -> io::Result<Reservation<'_>> {
    let bytes = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let delta = Delta { entries: i64::from(entries), bytes };
    fly(shared, bucket, delta);
    let reservation = Reservation { shared, bucket, delta, kept: false };
    let ledger = count(shared, bucket, delta);
    if ledger.is_none_or(|ledger| is_stale(shared, &ledger) || Limits::exceeded(shared, &ledger).is_some()) {
        make_room(shared)?;
    }
    Ok(reservation)
}

/// Adds to what is counted and not yet published.
fn fly(shared: &Shared, bucket: Bucket, delta: Delta) {
    shared.in_flight.lock().unwrap_or_else(PoisonError::into_inner)[bucket.index()].add(delta);
}

/// Takes `bytes` of a removed entry off the counter.
pub(crate) fn uncount(shared: &Shared, bucket: Bucket, bytes: u64) {
    count(shared, bucket, Delta { entries: -1, bytes: -i64::try_from(charge(bytes)).unwrap_or(i64::MAX) });
}

/// Adds to the counter. `None` if it is lost, or could not be had: then it is put right later.
fn count(shared: &Shared, bucket: Bucket, delta: Delta) -> Option<Ledger> {
    let outcome = usage::update(&shared.at_root(layout::USAGE), |ledger| {
        let mut ledger = ledger?;
        ledger.buckets[bucket.index()].add(delta);
        Some(ledger)
    });
    outcome.ok().flatten()
}

/// Whether the counter is too old to rely on, so near to the caps or far from them as it says it is.
fn is_stale(shared: &Shared, ledger: &Ledger) -> bool {
    // A counter from the future is as stale as one from the past.
    let age = unix_now().abs_diff(ledger.reconciled_at);
    let near = |bytes: u64, cap: u64| bytes > cap - cap / 5;
    let options = &shared.options;
    let near_any = near(ledger.bytes(), options.max_bytes)
        || Bucket::ALL.iter().any(|bucket| near(ledger.of(*bucket).bytes, options.cap(*bucket)));
    age > if near_any { RECONCILE_AFTER } else { RECONCILE_ALWAYS_AFTER }
}

/// What the buckets may hold, in bytes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    total: u64,
    buckets: [u64; BUCKETS],
}

impl Limits {
    const NONE: Self = Self { total: u64::MAX, buckets: [u64::MAX; BUCKETS] };

    /// Low-water marks for the caps that `ledger` exceeds; `None` when it exceeds none.
    fn exceeded(shared: &Shared, ledger: &Ledger) -> Option<Self> {
        let mut limits = Self::NONE;
        let low = |cap: u64| cap - cap / 10;
        if ledger.bytes() > shared.options.max_bytes {
            limits.total = low(shared.options.max_bytes);
        }
        for bucket in Bucket::ALL {
            let cap = shared.options.cap(bucket);
            if ledger.of(bucket).bytes > cap {
                limits.buckets[bucket.index()] = low(cap);
            }
        }
        let any = limits.total != u64::MAX || limits.buckets.iter().any(|limit| *limit != u64::MAX);
        any.then_some(limits)
    }

    /// How many bytes of `bucket` have to go, the oldest of all buckets first.
    fn excess(&self, ledger: &Ledger, bucket: Bucket) -> u64 {
        let own = ledger.of(bucket).bytes.saturating_sub(self.buckets[bucket.index()]);
        own.max(ledger.bytes().saturating_sub(self.total))
    }
}

/// Brings the cache within its caps, if it still exceeds them when the lock is had.
fn make_room(shared: &Shared) -> io::Result<()> {
    marker::require(&shared.root)?;
    let _lock = FileLock::acquire(&shared.at_root(layout::LOCK), STORING_PATIENCE)?;
    let before = usage::read(&shared.at_root(layout::USAGE));
    if before.is_some_and(|ledger| !is_stale(shared, &ledger) && Limits::exceeded(shared, &ledger).is_none()) {
        return Ok(());
    }
    let mut inventory = Inventory::take(shared)?;
    // What is being stored right now is counted and not yet to be found.
    let limits = Limits::exceeded(shared, &inventory.ledger).unwrap_or(Limits::NONE);
    inventory.evict(shared, limits);
    inventory.settle(shared, before)?;
    reclaim_locked(shared);
    if Limits::exceeded(shared, &inventory.ledger).is_some() {
        // What remains cannot be removed, or is being stored by other threads.
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "no room below the cap"));
    }
    Ok(())
}

/// Evicts from `scope` until it holds at most `target` bytes. Returns the bytes freed.
pub(crate) fn prune(shared: &Shared, scope: Scope, target: u64) -> io::Result<u64> {
    marker::require(&shared.root)?;
    let _lock = FileLock::acquire(&shared.at_root(layout::LOCK), PATIENCE)?;
    let before = usage::read(&shared.at_root(layout::USAGE));
    let mut inventory = Inventory::take(shared)?;
    let mut limits = Limits::NONE;
    match scope {
        Scope::All => limits.total = target,
        Scope::One(bucket) => limits.buckets[bucket.index()] = target,
    }
    let freed = inventory.evict(shared, limits);
    inventory.settle(shared, before)?;
    reclaim_locked(shared);
    Ok(freed)
}

/// Evicts from `scope` what was unused for at least `seconds`. Returns the bytes freed.
pub(crate) fn prune_unused(shared: &Shared, scope: Scope, seconds: u64) -> io::Result<u64> {
    marker::require(&shared.root)?;
    let _lock = FileLock::acquire(&shared.at_root(layout::LOCK), PATIENCE)?;
    let before = usage::read(&shared.at_root(layout::USAGE));
    let mut inventory = Inventory::take(shared)?;
    let freed = inventory.evict_unused(shared, scope, seconds)?;
    inventory.settle(shared, before)?;
    reclaim_locked(shared);
    Ok(freed)
}

/// How much of `scope` was unused for at least `seconds`.
pub(crate) fn unused(shared: &Shared, scope: Scope, seconds: u64) -> io::Result<Tally> {
    let (mut tally, now) = (Tally::default(), i64::try_from(unix_now()).unwrap_or(i64::MAX));
    walk(shared, scope, &mut |bucket, _, meta| {
        if unused_for(meta, now) >= seconds {
            tally.add(Delta { entries: 1, bytes: i64::try_from(occupied(bucket, meta)).unwrap_or(i64::MAX) });
        }
    })?;
    Ok(tally)
}

/// The counters; a walk puts them right if they are lost.
pub(crate) fn ledger(shared: &Shared) -> io::Result<Ledger> {
    if let Some(ledger) = usage::read(&shared.at_root(layout::USAGE)) {
        return Ok(ledger);
    }
    let inventory = Inventory::take(shared)?;
    // A cache that cannot be written can be measured all the same.
    let _ = inventory.settle(shared, None);
    Ok(inventory.ledger)
}

/// What a file counts as.
fn occupied(bucket: Bucket, meta: &std::fs::Metadata) -> u64 {
    // Packs have holes.
    if bucket == Bucket::Blocks { meta.blocks().saturating_mul(512) } else { charge(meta.len()) }
}

/// Shows every entry of `scope`. Only names that entries can have are shown; links are not followed.
pub(crate) fn walk(
    shared: &Shared,
    scope: Scope,
    each: &mut dyn FnMut(Bucket, &Path, &std::fs::Metadata),
) -> io::Result<()> {
    for bucket in Bucket::ALL.into_iter().filter(|bucket| scope.covers(*bucket)) {
        let path = shared.root.join(bucket.name());
        let is_dir = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        if is_dir {
            walk_level(shared, bucket, path, if bucket.is_addressed() { 2 } else { 1 }, each)?;
        }
    }
    Ok(())
}

/// `above` levels of directories lie between `dir` and the entries.
fn walk_level(
    shared: &Shared,
    bucket: Bucket,
    dir: PathBuf,
    above: u8,
    each: &mut dyn FnMut(Bucket, &Path, &std::fs::Metadata),
) -> io::Result<()> {
    let listing = match std::fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Of another user: what is in there is neither counted nor removed, and keeps nobody from the rest.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::debug!(%error, "a directory of the cache cannot be listed");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for entry in listing {
        let entry = entry?;
        shared.visited.fetch_add(1, Ordering::Relaxed);
        if above > 0 {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk_level(shared, bucket, entry.path(), above - 1, each)?;
            }
            continue;
        }
        let named = entry.file_name().to_str().is_some_and(|name| is_entry_name(bucket, name));
        // An entry may vanish while the directory is listed.
        if named && let Ok(meta) = entry.metadata() {
            each(bucket, &entry.path(), &meta);
        }
    }
    Ok(())
}

/// Removes temporaries whose writers are gone, unless another process is at it.
pub(crate) fn reclaim(shared: &Shared) {
    if let Ok(_lock) = FileLock::acquire(&shared.at_root(layout::LOCK), Duration::ZERO) {
        reclaim_locked(shared);
    }
}

fn reclaim_locked(shared: &Shared) {
    // A link to elsewhere is not followed, and names that are not ours are somebody else's.
    if !std::fs::symlink_metadata(&shared.tmp).is_ok_and(|meta| meta.is_dir()) {
        return;
    }
    let Ok(listing) = std::fs::read_dir(&shared.tmp) else { return };
    for entry in listing.take(RECLAIM_AT_ONCE).flatten() {
        shared.visited.fetch_add(1, Ordering::Relaxed);
        if !entry.file_name().to_str().is_some_and(|name| files::is_unique_name(name) || turn::is_name(name)) {
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        let age = unix_now().abs_diff(u64::try_from(meta.mtime()).unwrap_or_default());
        let held = files::open_regular(&entry.path()).ok().flatten().and_then(|(file, _)| lock::is_held(&file));
        if is_leftover(age, held) {
            let _ =
                if meta.is_dir() { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
        }
    }
}

/// Whether a temporary of `age` seconds is left over; `held` tells whether its writer lives, if that can be known.
fn is_leftover(age: u64, held: Option<bool>) -> bool {
    match held {
        Some(true) => false,
        Some(false) => age > ORPHANED_AFTER,
        None => age > ABANDONED_AFTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leftovers_are_reclaimed() {
        for (age, held, expect) in [
            (0, Some(false), false),
            (61, Some(false), true),
            (u64::MAX, Some(true), false),
            (3600, None, false),
            (24 * 3600 + 1, None, true),
        ] {
            assert_eq!(is_leftover(age, held), expect, "{age} {held:?}");
        }
    }

    #[test]
    fn entries_count_as_whole_pages() {
        for (bytes, expect) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (u64::MAX, u64::MAX)] {
            assert_eq!(charge(bytes), expect);
        }
    }
}
