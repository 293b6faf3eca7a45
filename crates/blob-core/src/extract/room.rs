//! Whether there is room for what is to be written, found out before anything is.

use std::os::fd::AsFd as _;

use rustix::fs::FileType;

use super::run::Extraction;
use super::select::Tree;
use super::sink::{Destination, root};
use super::{ExtractError, FromCache};
use crate::room::available_in;

impl Extraction {
    /// Refuses what the destination's file system has not the room for. Where files share blocks with a cache, or are
    /// its files, nobody knows beforehand how much is written.
    pub(super) fn check_room(&self, tree: &Tree, destination: &Destination) -> Result<(), ExtractError> {
        let options = &self.options;
        let shares = options.from_cache != FromCache::Copy && self.has_cache();
        if options.skip_room_check || shares {
            return Ok(());
        }
        let sizes = tree.files.iter().map(|&placed| tree.entry(placed).original_size());
        let mut needed = sizes.fold(0, u64::saturating_add);
        if needed == 0 {
            return Ok(());
        }
        let Some(available) = available_in(destination.root().fd()) else { return Ok(()) };
        if needed > available && !destination.is_hidden() && options.existing.replaces() {
            needed = needed.saturating_sub(replaced(tree, destination));
        }
        if needed <= available {
            return Ok(());
        }
        Err(ExtractError::NoRoom { path: self.order.dest.clone(), needed, available })
    }
}

/// How many bytes the files free that are replaced.
fn replaced(tree: &Tree, destination: &Destination) -> u64 {
    let mut freed: u64 = 0;
    for &placed in &tree.files {
        let path = tree.target(placed);
        let (parent, name) = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or((&b""[..], &path[..]), |slash| (&path[..slash], &path[slash + 1..]));
        let Ok(parent) = destination.root().dir(parent) else { continue };
        if let Ok(Some(stat)) = root::stat(parent.as_fd(), name)
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            // What has other names stays on disk.
            && stat.st_nlink == 1
        {
            freed = freed.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        }
    }
    freed
}
