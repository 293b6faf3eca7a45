//! Room that contents take, until the last who has them is done with them: readers may be slow.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// So many bytes, of memory or of a disk. Clones are the same room.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    free: Mutex<u64>,
    /// Tells that some of it has become free.
    freed: Notify,
}

/// A part of it, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Room,
    size: u64,
}

impl Room {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(Inner { free: Mutex::new(bytes), freed: Notify::new() }))
    }

    /// Takes `size` bytes, if they are free.
    pub(super) fn take(&self, size: u64) -> Option<Taken> {
        let mut free = self.free();
        *free = free.checked_sub(size)?;
        Some(Taken { room: self.clone(), size })
    }

    /// Tells when something becomes free.
    pub(super) fn freed(&self) -> &Notify {
        &self.0.freed
    }

    fn free(&self) -> MutexGuard<'_, u64> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.room.free() += self.size;
        self.room.freed().notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_once() {
        let room = Room::new(100);
        let first = room.take(60).unwrap();
        assert!(room.take(41).is_none());
        let second = room.clone().take(40).unwrap();
        assert!(room.take(1).is_none() && room.take(0).is_some());
        drop(first);
        assert!(room.take(61).is_none() && room.take(60).is_some());
        drop(second);
        assert!(room.take(100).is_some());
    }
}
