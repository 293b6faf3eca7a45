//! What the threads share: whose turn it is, how much memory is in use, and the results in order.
//!
//! Files are admitted strictly in order. The file that is to be written next is therefore always admitted or first in
//! line, and everything that holds memory before it is about to be given back: nobody waits for ever.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::encode::Outcome;
use super::error::CreateError;
use super::idle::{Idle, PAGE, room_for};

/// The committer is woken when so many results wait for it, or so many bytes: waking it for each small file would cost
/// more than the file.
const BATCH: usize = 32;
const BATCH_BYTES: u64 = 1 << 20;

/// The files, in order, on their way through the threads.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Threads that wait for memory or for their turn.
    room: Condvar,
    /// The committer, who waits for a result.
    ready: Condvar,
    stopped: AtomicBool,
    total: usize,
    memory: u64,
}

#[derive(Default)]
struct State {
    /// The next file to be admitted.
    next: usize,
    /// The next file to be committed.
    head: usize,
    /// Results from `head` on, as far as they are there.
    done: VecDeque<Option<Outcome>>,
    /// How many of them are there, and how many bytes they hold.
    ready: (usize, u64),
    /// Bytes that admitted files hold or may ask for.
    used: u64,
    /// Large files admitted, and large files read.
    large: (u64, u64),
    idle: Idle,
    waiting: usize,
    failure: Option<(usize, CreateError)>,
}

/// A file that a thread may work on.
pub(super) struct Turn {
    pub(super) file: usize,
    /// The number of the large file among the large ones.
    pub(super) ticket: u64,
    /// Bytes set aside for it.
    pub(super) reserved: u64,
}

impl Queue {
    /// A queue of `total` files that may hold `memory` bytes.
    pub(super) fn new(total: usize, memory: u64) -> Self {
        Self {
            state: Mutex::default(),
            room: Condvar::new(),
            ready: Condvar::new(),
            stopped: AtomicBool::new(false),
            total,
            memory,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.waiting += 1;
        // Only the committer can make room.
        self.ready.notify_one();
        let mut state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Takes the next file, once there is memory for it; `None` when there is none left or all is over. `cost` tells
    /// the bytes for a file, and `None` for a large one, which is streamed. A file that costs more than there is gets
    /// in when it is alone.
    pub(super) fn admit(&self, cost: impl Fn(usize) -> Option<u64>) -> Option<Turn> {
        let mut state = self.lock();
        loop {
            if self.is_stopped() || state.next == self.total {
                return None;
            }
            let file = state.next;
            let wanted = cost(file);
            let reserved = wanted.unwrap_or(PAGE).max(PAGE);
            if state.used == 0 || state.used + reserved <= self.memory {
                state.next += 1;
                state.used += reserved;
                let ticket = state.large.0;
                state.large.0 += u64::from(wanted.is_none());
                return Some(Turn { file, ticket, reserved });
            }
            state = self.wait(state);
        }
    }

    /// Waits until all large files before this one have been read; `None` when all is over.
    pub(super) fn lane(&self, ticket: u64) -> Option<Lane<'_>> {
        let mut state = self.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            if state.large.1 == ticket {
                return Some(Lane(self));
            }
            state = self.wait(state);
        }
    }

    /// Gives back bytes that were set aside.
    pub(super) fn release(&self, bytes: u64) {
        let mut state = self.lock();
        state.used -= bytes;
        self.wake(&state);
    }

    fn wake(&self, state: &State) {
        if state.waiting > 0 {
            self.room.notify_all();
        }
    }

    /// A buffer of at least `size` bytes, which hold anything.
    pub(super) fn buffer(&self, size: u64) -> Vec<u8> {
        let room = room_for(size);
        let mut state = self.lock();
        if let Some(buffer) = state.idle.take(room) {
            return buffer;
        }
        let State { idle, used, .. } = &mut *state;
        idle.shrink(self.memory.saturating_sub(*used));
        drop(state);
        vec![0; room as usize]
    }

    /// Takes back a buffer, and the bytes that were set aside for it.
    pub(super) fn recycle(&self, buffer: Vec<u8>, reserved: u64) {
        self.recycle_all(&mut vec![(buffer, reserved)]);
    }

    /// Takes back buffers, each with the bytes that were set aside for it.
    pub(super) fn recycle_all(&self, buffers: &mut Vec<(Vec<u8>, u64)>) {
        let mut state = self.lock();
        let State { idle, used, .. } = &mut *state;
        for (buffer, reserved) in buffers.drain(..) {
            *used -= reserved;
            idle.put(buffer);
        }
        idle.shrink(self.memory.saturating_sub(*used));
        self.wake(&state);
    }

    /// Hands over the result for `file`.
    pub(super) fn deposit(&self, file: usize, outcome: Outcome) {
        let mut state = self.lock();
        if self.is_stopped() {
            return;
        }
        state.ready.0 += 1;
        state.ready.1 += match &outcome {
            Outcome::Small { reserved, .. } => *reserved,
            // Its reader is waiting for the committer.
            Outcome::Large(_) => BATCH_BYTES,
            Outcome::Empty | Outcome::Link | Outcome::Copy => 0,
        };
        let at = file - state.head;
        while state.done.len() <= at {
            state.done.push_back(None);
        }
        state.done[at] = Some(outcome);
        let (results, bytes) = state.ready;
        let worthwhile = results >= BATCH || bytes >= BATCH_BYTES || state.next == self.total;
        if worthwhile && state.done.front().is_some_and(Option::is_some) {
            self.ready.notify_one();
        }
    }

    /// Waits for the next results in order, and appends all that are there to `outcomes`; false when all is over.
    pub(super) fn next_outcomes(&self, outcomes: &mut VecDeque<Outcome>) -> bool {
        let mut state = self.lock();
        loop {
            if self.is_stopped() {
                return false;
            }
            let before = outcomes.len();
            while let Some(outcome) = state.done.front_mut().and_then(Option::take) {
                state.done.pop_front();
                outcomes.push_back(outcome);
            }
            if outcomes.len() > before {
                state.head += outcomes.len() - before;
                state.ready = (0, 0);
                return true;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether all is over.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Ends everything: whoever waits is woken, and results that nobody will fetch are dropped, which wakes those who
    /// are sending them.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        self.stopped.store(true, Ordering::Relaxed);
        let abandoned = std::mem::take(&mut state.done);
        drop(state);
        drop(abandoned);
        self.room.notify_all();
        self.ready.notify_all();
    }

    /// Ends everything because of `file`. Of several failures the one of the first file is reported.
    pub(super) fn fail(&self, file: usize, error: CreateError) {
        let mut state = self.lock();
        if state.failure.as_ref().is_none_or(|(first, _)| file < *first) {
            state.failure = Some((file, error));
        }
        drop(state);
        self.stop();
    }

    /// Why everything ended, if it was a file's fault.
    pub(super) fn failure(&self) -> Option<CreateError> {
        self.lock().failure.take().map(|(_, error)| error)
    }
}

/// Ends everything when it goes out of scope, be it by return or by panic.
pub(super) struct StopOnDrop<'a>(pub(super) &'a Queue);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Ends everything when its thread panics.
pub(super) struct StopOnPanic<'a>(pub(super) &'a Queue);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// The right to stream a large file. One at a time is streamed, since only one at a time is written, and its encoder
/// uses all cores.
pub(super) struct Lane<'a>(&'a Queue);

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.large.1 += 1;
        self.0.wake(&state);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_admits_in_order_and_a_large_one_alone() {
        let queue = Queue::new(3, 10 * PAGE);
        let cost = |file: usize| Some([4 * PAGE, 99 * PAGE, PAGE][file]);
        let first = queue.admit(cost).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let turn = queue.admit(cost).unwrap();
                let alone = queue.lock().used == turn.reserved;
                queue.release(turn.reserved);
                (turn.file, alone)
            });
            queue.recycle(queue.buffer(4 * PAGE), first.reserved);
            assert_eq!(second.join().unwrap(), (1, true));
        });
        assert_eq!(queue.admit(cost).unwrap().file, 2);
        assert!(queue.admit(cost).is_none());
    }

    #[test]
    fn the_first_failure_is_reported() {
        let queue = Queue::new(9, 0);
        queue.fail(5, CreateError::Cancelled);
        queue.fail(3, CreateError::TooManyFiles { limit: 3 });
        queue.fail(7, CreateError::Cancelled);
        assert!(matches!(queue.failure(), Some(CreateError::TooManyFiles { limit: 3 })));
        assert!(
            queue.admit(|_| Some(0)).is_none() && !queue.next_outcomes(&mut VecDeque::new()) && queue.lane(0).is_none()
        );
    }
}
