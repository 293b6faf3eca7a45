//! Why a cache directory cannot be used, and how failures of the disk become [`CacheError`]s.

use std::io;
use std::path::{Path, PathBuf};

use blob_core::CacheError;

/// A directory cannot serve as a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory holds things that no cache wrote: it is left alone.
    #[error("{} is not a cache of ours: it has no {} and is not empty", root.display(), crate::layout::MARKER)]
    Foreign {
        /// The directory.
        root: PathBuf,
    },
    /// A newer program owns the directory.
    #[error("the cache {} has version {found}, this program knows versions up to {supported}", root.display())]
    Version {
        /// The directory.
        root: PathBuf,
        /// The version in its marker file.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// The operating system failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// A disk failure as the error that the seam knows.
pub(crate) fn disk(action: &str, path: &Path, source: io::Error) -> CacheError {
    CacheError::Backend { action: format!("{action} {}", path.display()), source: Box::new(source) }
}

/// Whether trying again soon would fail the same way: a full, read-only, failing or forbidden disk, or a lock that somebody
/// does not give up.
pub(crate) fn is_lasting(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let failing = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    failing
        || matches!(
            error.kind(),
            Kind::PermissionDenied
                | Kind::ReadOnlyFilesystem
                | Kind::StorageFull
                | Kind::QuotaExceeded
                | Kind::FileTooLarge
                | Kind::WouldBlock
        )
}
