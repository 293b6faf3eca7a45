//! Directories of this machine as archives would hold them: listed and hashed, nothing of them stored.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use blob::core::create::{CreateOptions, CreateReport, UnstorableNames, create};
use blob::core::{ArchiveIndex, Compression};

use crate::alias::disk_prefix;
use crate::error::{Failure, Kind};
use crate::filter::{IgnoreFiles, Sieve};
use crate::session::Session;

/// The index of what is in `dir`, and what an archive could not hold of it. With `heed_ignore` it is what a push would take:
/// without what `.blobignore` files leave out.
pub(super) async fn index_of(
    dir: &Path,
    heed_ignore: bool,
    session: &Session,
) -> Result<(ArchiveIndex, CreateReport), Failure> {
    let mut options = CreateOptions::default();
    options.compression = Compression::None;
    options.unstorable_names = UnstorableNames::Skip;
    options.max_files = u64::MAX;
    options.progress = session.meter.comparing();
    let problem = Arc::default();
    if heed_ignore {
        let ignore = Some(IgnoreFiles::new(dir, Arc::clone(&problem)));
        let sieve = Sieve { ignore, drop_ignore_files: true, ..Sieve::default() };
        options.filter = Some(Arc::new(move |path: &[u8], kind| sieve.takes(path, kind)));
    }
    let owned = dir.to_owned();
    let work = move || create(&owned, &mut std::io::sink(), &options);
    let created = tokio::task::spawn_blocking(work).await;
    if let Some(failure) = problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(failure);
    }
    match created {
        Ok(created) => {
            let created = created.map_err(|source| blob::Error::Create { dir: dir.to_owned(), source })?;
            Ok((created.index, created.report))
        }
        Err(_) => Err(Failure::new(Kind::General, format!("reading {}: a thread failed", dir.display()))),
    }
}

/// Whether a word means a directory rather than an archive: it looks like a path, or there is one of that name.
pub(super) fn is_directory(typed: &str) -> bool {
    let path = typed.starts_with(['.', '/', '~']);
    disk_prefix(typed).is_empty() && (path || Path::new(typed).is_dir())
}

/// A path of an archive as the system has it.
pub(super) fn os_str(path: &[u8]) -> &std::ffi::OsStr {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::OsStr::from_bytes(path)
}

/// The last part of a path of an archive.
pub(super) fn name_of(path: &[u8]) -> &std::ffi::OsStr {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::OsStr::from_bytes(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default())
}
