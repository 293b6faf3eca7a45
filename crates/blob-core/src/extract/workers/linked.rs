//! Files that become another name of the cache's file.

use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::atomic::Ordering;

use super::Worker;
use super::cached::{Stored, hash, problem};
use crate::digest::Digest;
use crate::extract::ExtractError;
use crate::extract::select::Placed;
use crate::extract::sink::{Finished, OutFile};

/// What is wrong with the cache's file; `None` when the link was made.
type Verdict = Option<String>;

impl Worker<'_> {
    /// Makes equal files links to the cache's file. `None` when that cannot be, or only for some: the others are to be
    /// copied, which replaces nothing that is right already.
    ///
    /// The file is hashed first. A change after that is a change of a file that can only be read, and whoever makes it
    /// writable changes what he sees under both names.
    pub(super) fn linked(
        &self,
        members: &[Placed],
        digest: &Digest,
        stored: Stored<'_>,
    ) -> Result<Option<Verdict>, ExtractError> {
        let Some(mode) = self.link_mode(members, stored) else { return Ok(None) };
        let shop = self.shop;
        let wrong = problem(&hash(stored.file, stored.size, digest), digest);
        if wrong.is_some() {
            return Ok(Some(wrong));
        }
        if stored.file.set_permissions(Permissions::from_mode(mode)).is_err() {
            return Ok(None);
        }
        let tree = &shop.prepared.tree;
        let dirs: Vec<OwnedFd> =
            members.iter().map(|placed| self.handles.reopen(placed.dir)).collect::<Result<_, _>>()?;
        let mut files = Vec::with_capacity(members.len());
        for (&placed, dir) in members.iter().zip(&dirs) {
            // Another file system, too many links, no /proc, evicted meanwhile: whatever it is, a copy will do. What
            // was linked so far is removed when it is dropped.
            let Ok(file) = OutFile::link(dir, tree.name(placed), stored.file, shop.publish) else { return Ok(None) };
            files.push(file);
        }
        for ((file, &placed), dir) in files.into_iter().zip(members).zip(&dirs) {
            let finished = shop.finish(placed, file, dir)?;
            if finished == Finished::Written {
                shop.tally.linked.fetch_add(1, Ordering::Relaxed);
            }
            self.count(placed, finished);
        }
        Ok(Some(None))
    }

    /// The permissions of a file that stands in for all `members`; `None` when there is no such file.
    fn link_mode(&self, members: &[Placed], stored: Stored<'_>) -> Option<u32> {
        let umask = self.shop.umask?;
        let mut modes = members.iter().map(|&placed| self.shop.mode(placed) & !umask);
        let first = modes.next()?;
        // Without the right to read it, the cache could not open it again.
        if stored.offset != 0 || first & 0o511 != 0o400 || modes.any(|mode| mode & 0o555 != first & 0o555) {
            return None;
        }
        let mode = first & 0o444;
        let found = stored.file.metadata().ok()?;
        // Other links keep the permissions that they were made with.
        (found.nlink() == 1 || found.mode() & 0o7777 == mode).then_some(mode)
    }
}

/// The umask of this process, where it can be read without setting it.
pub(super) fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(value.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    #[cfg(target_os = "linux")]
    fn the_umask_is_known() {
        assert!(super::umask().unwrap() <= 0o777);
    }
}
