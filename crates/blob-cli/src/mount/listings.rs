//! What large directories hold, sorted, as long as somebody may go on reading them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use blob::core::NodeId;

/// All listings together have so many names at most, 16 MiB of numbers, and one more listing whatever its size.
const MAX_NAMES: usize = 4 << 20;

/// Listings that were asked for last. The kernel reads a directory piece by piece, and is told nothing in between.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<VecDeque<(NodeId, Arc<[NodeId]>)>>);

impl Listings {
    /// The listing of `directory`, which `make` makes if it is not there.
    pub(super) fn find(&self, directory: NodeId, make: impl FnOnce() -> Vec<NodeId>) -> Arc<[NodeId]> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = held.iter().position(|(id, _)| *id == directory)
            && let Some(found) = held.remove(at)
        {
            held.push_front(found.clone());
            return found.1;
        }
        // Others need not wait while this one is made; if two make the same, one of them is held.
        drop(held);
        let made: Arc<[NodeId]> = make().into();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(id, _)| *id != directory);
        let mut room = MAX_NAMES;
        held.retain(|(_, listing)| {
            room = room.saturating_sub(listing.len() + 64);
            room > 0
        });
        held.push_front((directory, Arc::clone(&made)));
        made
    }
}
