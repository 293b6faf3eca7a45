//! The counter file: how much each bucket holds, known without walking.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::layout::{BUCKETS, Bucket};
use crate::lock::FileLock;

const MAGIC: &[u8; 8] = b"blobuse1";
/// Magic, time, two numbers per bucket, checksum.
const SIZE: usize = 8 + 8 + BUCKETS * 16 + 8;
/// Updates take microseconds; a holder that takes longer than this is stopped or lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// Entries and bytes of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, delta: Delta) {
        self.entries = self.entries.saturating_add_signed(delta.entries);
        self.bytes = self.bytes.saturating_add_signed(delta.bytes);
    }
}

/// A change of a [`Tally`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delta {
    pub(crate) entries: i64,
    pub(crate) bytes: i64,
}

/// What the counter file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// When a walk last put the numbers right, in seconds since 1970.
    pub(crate) reconciled_at: u64,
    pub(crate) buckets: [Tally; BUCKETS],
}

impl Ledger {
    pub(crate) fn bytes(&self) -> u64 {
        self.buckets.iter().map(|tally| tally.bytes).fold(0, u64::saturating_add)
    }

    pub(crate) fn of(&self, bucket: Bucket) -> Tally {
        self.buckets[bucket.index()]
    }

    fn encode(&self) -> [u8; SIZE] {
        let numbers = self.buckets.iter().flat_map(|tally| [tally.entries, tally.bytes]);
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(MAGIC);
        for (slot, number) in
            bytes[8..SIZE - 8].chunks_exact_mut(8).zip([self.reconciled_at].into_iter().chain(numbers))
        {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let sum = blake3::hash(&bytes[..SIZE - 8]);
        bytes[SIZE - 8..].copy_from_slice(&sum.as_bytes()[..8]);
        bytes
    }

    fn decode(bytes: &[u8; SIZE]) -> Option<Self> {
        let sum = blake3::hash(&bytes[..SIZE - 8]);
        if bytes[..8] != *MAGIC || bytes[SIZE - 8..] != sum.as_bytes()[..8] {
            return None;
        }
        let mut numbers = bytes[8..SIZE - 8].chunks_exact(8).map(|slot| {
            let mut number = [0; 8];
            number.copy_from_slice(slot);
            u64::from_le_bytes(number)
        });
        let mut ledger = Self { reconciled_at: numbers.next()?, ..Self::default() };
        for tally in &mut ledger.buckets {
            *tally = Tally { entries: numbers.next()?, bytes: numbers.next()? };
        }
        Some(ledger)
    }
}

/// Whether a counter file may begin with `bytes`: it is empty for a moment before it is written.
pub(crate) fn is_beginning(bytes: &[u8]) -> bool {
    bytes.len() <= SIZE && (bytes.is_empty() || bytes.starts_with(MAGIC))
}

/// Changes the counter file under its lock: `change` gets what it says (`None` if it is missing or damaged) and
/// returns what it shall say. Returns that.
pub(crate) fn update(path: &Path, change: impl FnOnce(Option<Ledger>) -> Option<Ledger>) -> io::Result<Option<Ledger>> {
    let lock = FileLock::acquire(path, PATIENCE)?;
    let before = read_from(lock.file());
    let after = change(before);
    if let Some(ledger) = after
        && after != before
    {
        lock.file().write_all_at(&ledger.encode(), 0)?;
    }
    Ok(after)
}

/// What the counter file says, read without a lock: a torn read fails the checksum and is `None`.
pub(crate) fn read(path: &Path) -> Option<Ledger> {
    let (file, _) = crate::files::open_regular(path).ok()??;
    read_from(&file)
}

fn read_from(file: &std::fs::File) -> Option<Ledger> {
    let mut bytes = [0; SIZE];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Ledger::decode(&bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_damaged_byte_is_noticed() {
        let mut ledger = Ledger { reconciled_at: 77, ..Ledger::default() };
        ledger.buckets[3].add(Delta { entries: 2, bytes: 4096 });
        ledger.buckets[3].add(Delta { entries: -5, bytes: -96 });
        assert_eq!(ledger.of(Bucket::Blocks), Tally { entries: 0, bytes: 4000 });
        let bytes = ledger.encode();
        assert_eq!(Ledger::decode(&bytes), Some(ledger));
        for position in 0..bytes.len() {
            let mut bad = bytes;
            bad[position] ^= 1;
            assert_eq!(Ledger::decode(&bad), None, "byte {position}");
        }
    }

    #[test]
    fn updates_of_many_threads_all_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage");
        update(&path, |_| Some(Ledger::default())).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let step = |ledger: Option<Ledger>| {
                            let mut ledger = ledger?;
                            ledger.buckets[0].add(Delta { entries: 1, bytes: 10 });
                            Some(ledger)
                        };
                        update(&path, step).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&path).unwrap().buckets[0], Tally { entries: 200, bytes: 2000 });
    }
}
