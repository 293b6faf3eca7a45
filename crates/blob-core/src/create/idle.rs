//! Buffers between two uses: memory that is used again is neither asked for nor cleared again.

/// The smallest buffer, and what a file without content is counted for: it bounds the number of files in flight.
pub(super) const PAGE: u64 = 4096;

/// The bytes of the buffer for a content of `size` bytes.
pub(super) fn room_for(size: u64) -> u64 {
    size.next_power_of_two().max(PAGE)
}

/// Buffers that nobody uses, by size.
#[derive(Default)]
pub(super) struct Idle {
    /// By the power of two; the largest small file needs the 23rd.
    classes: [Vec<Vec<u8>>; 32],
    bytes: u64,
}

impl Idle {
    /// A buffer of exactly `room` bytes, a power of two.
    pub(super) fn take(&mut self, room: u64) -> Option<Vec<u8>> {
        let buffer = self.classes[room.trailing_zeros() as usize].pop()?;
        self.bytes -= room;
        Some(buffer)
    }

    /// Takes in a buffer whose length is a power of two.
    pub(super) fn put(&mut self, buffer: Vec<u8>) {
        let room = buffer.len() as u64;
        self.bytes += room;
        self.classes[room.trailing_zeros() as usize].push(buffer);
    }

    /// Frees buffers, the largest first, until they hold `limit` bytes at most.
    pub(super) fn shrink(&mut self, limit: u64) {
        let mut class = self.classes.len();
        while self.bytes > limit && class > 0 {
            match self.classes[class - 1].pop() {
                Some(buffer) => self.bytes -= buffer.len() as u64,
                None => class -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buffers_are_used_again_and_the_largest_freed_first() {
        let mut idle = Idle::default();
        for (size, room) in [(0, PAGE), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE), (8 << 20, 8 << 20)] {
            assert_eq!(room_for(size), room);
        }
        let mut used = vec![0; room_for(3 * PAGE) as usize];
        used[0] = 7;
        idle.put(used);
        assert_eq!(idle.take(8 * PAGE), None);
        assert_eq!(idle.take(4 * PAGE).unwrap()[0], 7);
        assert_eq!((idle.take(4 * PAGE), idle.bytes), (None, 0));

        for pages in [1, 1, 2, 4, 8] {
            idle.put(vec![0; (pages * PAGE) as usize]);
        }
        idle.shrink(5 * PAGE);
        assert_eq!(idle.bytes, 4 * PAGE);
        assert!(idle.take(8 * PAGE).is_none() && idle.take(4 * PAGE).is_none() && idle.take(2 * PAGE).is_some());
        idle.shrink(0);
        assert_eq!((idle.bytes, idle.take(PAGE)), (0, None));
    }
}
