//! Contents that were verified, held until others need the room: small ones in memory, large ones on disk.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;

use blob::core::{Digest, Entry};
use bytes::Bytes;

/// What an entry costs besides its bytes, so that many small ones have a bound too.
const OVERHEAD: u64 = 256;

/// Which content. Files that are equal share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    digest: Digest,
    /// Where it is stored: what is wrong with one copy is not wrong with another.
    offset: u64,
}

impl Key {
    pub(super) fn of(entry: &Entry<'_>) -> Self {
        Self { digest: entry.digest(), offset: entry.data_offset() }
    }

    /// One of many, for tests.
    #[cfg(test)]
    pub(super) fn number(number: u64) -> Self {
        Self { digest: Digest::sha256_of(&number.to_le_bytes()), offset: number }
    }
}

/// A verified content.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// At most 8 MiB.
    Memory(Bytes),
    /// A file without a name, which goes when the last reader does, and its size in bytes.
    Disk(Arc<File>, u64),
}

impl Content {
    /// What it takes of memory and of the disk, in bytes.
    fn cost(&self) -> (u64, u64) {
        match self {
            Self::Memory(bytes) => (bytes.len() as u64 + OVERHEAD, 0),
            Self::Disk(_, size) => (0, *size),
        }
    }
}

/// Contents in the order in which they were used.
#[derive(Debug, Default)]
pub(super) struct Held {
    contents: HashMap<Key, (Content, u64)>,
    order: BTreeMap<u64, Key>,
    uses: u64,
    memory: u64,
    /// Bytes on disk, also those that are about to be written.
    disk: u64,
}

impl Held {
    /// The content, which is now the one that was used last.
    pub(super) fn find(&mut self, key: &Key) -> Option<Content> {
        let (content, used) = self.contents.get_mut(key)?;
        self.order.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.order.insert(self.uses, *key);
        Some(content.clone())
    }

    /// Holds a content, and lets go of others until it is within `max_memory` bytes. What it takes on disk was
    /// [reserved](Self::reserve).
    pub(super) fn put(&mut self, key: Key, content: Content, max_memory: u64) {
        self.memory += content.cost().0;
        self.uses += 1;
        self.order.insert(self.uses, key);
        if let Some((before, used)) = self.contents.insert(key, (content, self.uses)) {
            self.order.remove(&used);
            self.release(&before);
        }
        let newest = self.uses;
        while self.memory > max_memory {
            let oldest = self.oldest(|content| matches!(content, Content::Memory(_))).filter(|used| *used != newest);
            let Some(oldest) = oldest else { break };
            self.remove(oldest);
        }
    }

    /// Makes room for `size` bytes on disk within `max_disk`, and takes it. False if those who are writing have it.
    pub(super) fn reserve(&mut self, size: u64, max_disk: u64) -> bool {
        while self.disk.saturating_add(size) > max_disk {
            let Some(oldest) = self.oldest(|content| matches!(content, Content::Disk(..))) else { return false };
            self.remove(oldest);
        }
        self.disk += size;
        true
    }

    /// Gives back room that was reserved for what did not come.
    pub(super) fn give_back(&mut self, size: u64) {
        self.disk -= size;
    }

    fn oldest(&self, which: impl Fn(&Content) -> bool) -> Option<u64> {
        let fits = |key: &Key| self.contents.get(key).is_some_and(|(content, _)| which(content));
        self.order.iter().find(|(_, key)| fits(key)).map(|(used, _)| *used)
    }

    fn remove(&mut self, used: u64) {
        if let Some((content, _)) = self.order.remove(&used).and_then(|key| self.contents.remove(&key)) {
            self.release(&content);
        }
    }

    fn release(&mut self, content: &Content) {
        let (memory, disk) = content.cost();
        self.memory -= memory;
        self.disk -= disk;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk(size: u64) -> Content {
        Content::Disk(Arc::new(tempfile::tempfile().unwrap()), size)
    }

    #[test]
    fn memory_goes_to_what_was_used_last() {
        let mut held = Held::default();
        let content = || Content::Memory(Bytes::from_static(&[0; 1000]));
        for number in 0..3 {
            held.put(Key::number(number), content(), 4000);
        }
        assert!(held.find(&Key::number(0)).is_some());
        held.put(Key::number(3), content(), 4000);
        assert!(held.find(&Key::number(1)).is_none(), "it was the oldest");
        for number in [0, 2, 3] {
            assert!(held.find(&Key::number(number)).is_some(), "{number}");
        }
        held.put(Key::number(3), content(), 4000);
        assert_eq!(held.memory, 3 * (1000 + OVERHEAD), "the same again takes no more");
        held.put(Key::number(4), content(), 10);
        assert_eq!((held.contents.len(), held.order.len()), (1, 1), "what was put last stays in any case");
    }

    #[test]
    fn the_disk_is_reserved_before_it_is_written() {
        let mut held = Held::default();
        assert!(held.reserve(60, 100));
        assert!(!held.reserve(60, 100), "somebody is writing");
        held.put(Key::number(0), disk(60), 1 << 20);
        held.put(Key::number(1), Content::Memory(Bytes::from_static(b"small")), 1 << 20);
        assert!(held.reserve(60, 100), "what is held makes room");
        assert!(held.find(&Key::number(0)).is_none() && held.find(&Key::number(1)).is_some());
        held.give_back(60);
        assert_eq!(held.disk, 0);
        assert!(!held.reserve(101, 100));
    }
}
