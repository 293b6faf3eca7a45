//! Contents that were verified, held until others need the room: small ones in memory, large ones on disk.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;

use blob::core::{Digest, Entry};
use bytes::Bytes;

use super::room::Taken;

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

/// A verified content. Its room is taken until the last clone is gone, whether it is held or not.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// At most 8 MiB.
    Memory(Bytes),
    /// A file without a name, which goes when the last reader does.
    Disk(Arc<Spooled>),
}

/// A large file on disk.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// Its bytes.
    pub(crate) file: File,
    /// How many they are.
    pub(crate) size: u64,
    _room: Taken,
}

/// Bytes with their room.
struct Roomed {
    bytes: Bytes,
    _room: Taken,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Where a content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Memory,
    Disk,
}

impl Content {
    /// What a small file takes of the room in memory, in bytes.
    pub(super) fn cost(bytes: &Bytes) -> u64 {
        bytes.len() as u64 + OVERHEAD
    }

    pub(super) fn memory(bytes: Bytes, room: Taken) -> Self {
        Self::Memory(Bytes::from_owner(Roomed { bytes, _room: room }))
    }

    pub(super) fn disk(file: File, size: u64, room: Taken) -> Self {
        Self::Disk(Arc::new(Spooled { file, size, _room: room }))
    }

    fn place(&self) -> Place {
        match self {
            Self::Memory(_) => Place::Memory,
            Self::Disk(_) => Place::Disk,
        }
    }
}

/// Contents in the order in which they were used.
#[derive(Debug, Default)]
pub(super) struct Held {
    contents: HashMap<Key, (Content, u64)>,
    order: BTreeMap<u64, Key>,
    uses: u64,
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

    /// Holds a content.
    pub(super) fn put(&mut self, key: Key, content: Content) {
        self.uses += 1;
        self.order.insert(self.uses, key);
        if let Some((_, used)) = self.contents.insert(key, (content, self.uses)) {
            self.order.remove(&used);
        }
    }

    /// Lets go of the content at `place` that was unused for longest. Whoever reads it still has it.
    pub(super) fn evict(&mut self, place: Place) -> Option<Content> {
        let is_there = |key: &Key| self.contents.get(key).is_some_and(|(content, _)| content.place() == place);
        let used = self.order.iter().find(|(_, key)| is_there(key)).map(|(used, _)| *used)?;
        let key = self.order.remove(&used)?;
        self.contents.remove(&key).map(|(content, _)| content)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contents::room::Room;

    #[test]
    fn what_was_used_last_stays_longest() {
        let (room, mut held) = (Room::new(10_000), Held::default());
        let memory = || Content::memory(Bytes::from_static(&[0; 1000]), room.take(1000).unwrap());
        let disk = || Content::disk(tempfile::tempfile().unwrap(), 1000, room.take(1000).unwrap());
        for number in 0..3 {
            held.put(Key::number(number), memory());
            held.put(Key::number(10 + number), disk());
        }
        assert!(held.find(&Key::number(0)).is_some());
        for expected in [1, 2, 0] {
            held.evict(Place::Memory).unwrap();
            assert!(held.find(&Key::number(expected)).is_none(), "{expected}");
        }
        assert!(held.evict(Place::Memory).is_none() && held.find(&Key::number(10)).is_some());
        held.put(Key::number(11), disk());
        assert_eq!((held.contents.len(), held.order.len()), (3, 3), "the same again is there once");
        assert!(room.take(7001).is_none() && room.take(7000).is_some());
    }

    #[test]
    fn room_is_taken_as_long_as_somebody_reads() {
        let (room, mut held) = (Room::new(1000), Held::default());
        held.put(Key::number(0), Content::memory(Bytes::from_static(&[7; 500]), room.take(500).unwrap()));
        held.put(Key::number(1), Content::disk(tempfile::tempfile().unwrap(), 500, room.take(500).unwrap()));
        let Some(Content::Memory(bytes)) = held.find(&Key::number(0)) else { panic!("it is held in memory") };
        let part = bytes.slice(10..20);
        drop((bytes, held.evict(Place::Memory)));
        assert!(room.take(1).is_none(), "a part of it is still being sent");
        assert_eq!(part, [7; 10][..]);
        drop(part);
        assert!(room.take(500).is_some());
        let reader = held.find(&Key::number(1));
        drop(held.evict(Place::Disk));
        assert!(room.take(501).is_none());
        drop(reader);
        assert!(room.take(1000).is_some());
    }
}
