//! How much room a file system has.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{StatVfs, fstatvfs, statvfs};

/// How many bytes this process may still write where `path` is; `None` where the system does not tell, which is no
/// error: the write itself will say. Quotas, compression by the file system and what others write meanwhile are not
/// known here.
pub fn available(path: &Path) -> Option<u64> {
    statvfs(path).ok().and_then(|found| bytes(&found))
}

/// As [`available`], for an open directory.
pub(crate) fn available_in(dir: impl AsFd) -> Option<u64> {
    fstatvfs(dir).ok().and_then(|found| bytes(&found))
}

fn bytes(found: &StatVfs) -> Option<u64> {
    // A file system that counts no blocks has nothing to say about those that are free.
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_has_room_and_what_does_not_exist_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let room = available(dir.path()).unwrap();
        assert!(room > 0 && room < 1 << 60, "{room}");
        assert!(available_in(std::fs::File::open(dir.path()).unwrap()).is_some());
        assert_eq!(available(&dir.path().join("missing")), None);
    }
}
