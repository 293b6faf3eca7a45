//! Files as memory, and memory for files: the one place of this crate that needs `unsafe`.
//!
//! A large archive index that is read to memory stays there as long as the archive is open, once for each process.
//! Mapped, its pages belong to the system, which shares them and takes them back when memory is short.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;

use bytes::Bytes;
use memmap2::MmapMut;

use crate::files::is_private;

/// Maps the whole of `file`, an entry of the cache that `meta` describes. `None` when somebody else may write to it, so
/// that it has to be read instead.
///
/// Memory that changes under a shared slice is undefined behaviour, and touching a page behind the end of a file that
/// was cut kills the process. So only files are mapped that nobody writes to: entries are written under another name,
/// get their own once, by renaming, are replaced by renaming and removed by unlinking, which leaves what is mapped as
/// it is; their directory is this user's alone. Checked here is what is left: that the file belongs to this user, that
/// nobody else may write to it, and that it has no second name under which it could be taken for an ordinary file.
#[allow(unsafe_code, reason = "mapping a file cannot be expressed safely; see above for why it holds")]
pub(crate) fn entry(file: &File, meta: &Metadata) -> io::Result<Option<Bytes>> {
    if !is_private(meta) || meta.nlink() != 1 || meta.len() == 0 {
        return Ok(None);
    }
    // SAFETY: nobody writes to the file or cuts it while it is mapped: see the documentation of this function.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Some(Bytes::from_owner(map)))
}

/// Memory of `size` bytes, all zero, in large pages where the system has them.
pub(crate) fn memory(size: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(size)?;
    #[cfg(target_os = "linux")]
    // A wish: without large pages everything is the same, but slower.
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_files_that_nobody_else_writes_are_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entry");
        std::fs::write(&path, "content").unwrap();
        let map = || {
            let file = File::open(&path).unwrap();
            entry(&file, &file.metadata().unwrap()).unwrap()
        };
        for (mode, mapped) in [(0o600, true), (0o444, true), (0o620, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(map().is_some(), mapped, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let kept = map().unwrap();
        std::fs::hard_link(&path, dir.path().join("other")).unwrap();
        assert!(map().is_none());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kept, "content", "what is mapped outlives its name");
    }
}
