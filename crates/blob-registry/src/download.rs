//! Fetching one blob into a file, over as many connections as pay.
//!
//! The blob is read in closed ranges, each written where it belongs, and hashed in order by a follower that reads what is
//! complete. It begins with two connections; another one is added as long as the whole gets faster by it, and given up
//! when it does not or when the far side has too much of it. An idle connection takes over half of what the slowest one
//! still has to fetch. A transfer that breaks goes on at the byte it reached. A registry that answers ranges with
//! whole blobs is read in one go.
//!
//! Beside the partial file lies a journal, from which another process goes on after this one was killed. Memory is
//! bounded by the number of connections, whatever the size of the blob.

mod engine;
mod journal;
mod pace;
mod plan;
mod worker;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use blob_core::Progress;

use crate::copy::Place;
use crate::descriptor::Descriptor;
use crate::error::RegistryError;

/// How a blob is fetched into a file.
#[derive(Clone)]
#[non_exhaustive]
pub struct DownloadOptions {
    /// Connections at a time, at most: 8. Fewer are used where more do not help. Each takes up to 2 MiB of memory.
    pub connections: usize,
    /// Keep what came when the download fails or is dropped, and go on with it the next time: yes. The partial file and
    /// its journal lie beside the target, under names that begin with a dot and the target's name.
    pub resume: bool,
    /// Flush the file and its directory to the disk before the download counts as done: no. Without it, a loss of power
    /// right behind the download may leave a file with holes.
    pub sync: bool,
    /// Told of `Event::Downloading` as `what`.
    pub progress: Option<(String, Arc<dyn Progress>)>,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self { connections: 8, resume: true, sync: false, progress: None }
    }
}

impl DownloadOptions {
    /// Sets the most connections at a time; 0 counts as 1.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets whether what came is kept and used by the next attempt.
    #[must_use]
    pub fn with_resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Sets whether the file is flushed to the disk.
    #[must_use]
    pub fn with_sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Sets who is told how far it got, and under which name.
    #[must_use]
    pub fn with_progress(mut self, what: impl Into<String>, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some((what.into(), progress));
        self
    }
}

impl fmt::Debug for DownloadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadOptions")
            .field("connections", &self.connections)
            .field("resume", &self.resume)
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}

/// What a download did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// Bytes that an earlier attempt had brought.
    pub resumed: u64,
    /// Bytes that came now.
    pub fetched: u64,
    /// Connections that were used at a time, at most.
    pub connections: usize,
    /// Whether what came first did not have the digest, and everything was fetched once more.
    pub repeated: bool,
}

/// Fetches `blob` into the file `path`, which appears, or is replaced, when its content is complete and has the digest.
///
/// Bytes with a wrong digest are fetched once more, over a single connection and without ranges, before the download
/// fails.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use std::sync::Arc;
/// use blob_registry::{Descriptor, DownloadOptions, MemoryRegistry, Place, Registry, Repository, download};
/// # use blob_core::{Digest, MemorySource};
/// # use blob_registry::PushBlob;
///
/// let from = Place::new(Arc::new(MemoryRegistry::new()), Repository::new("team/assets")?);
/// # let push = PushBlob::new(Digest::sha256_of(b"content"), Arc::new(MemorySource::new("content")));
/// # from.registry.push_blob(&from.repository, push).await?;
/// let blob = Descriptor::of("application/octet-stream", b"content");
/// # let dir = std::env::temp_dir().join(format!("blob-download-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// let path = dir.join("content");
/// let downloaded = download(&from, &blob, &path, &DownloadOptions::default()).await?;
/// assert_eq!((downloaded.fetched, std::fs::read(&path)?), (7, b"content".to_vec()));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RegistryError::DigestMismatch`] and [`RegistryError::SizeMismatch`] when the registry has other bytes;
/// [`RegistryError::Io`] for the file, and for the network when repetition did not help; [`RegistryError::Cancelled`];
/// those of [`Registry::read_blob`](crate::Registry::read_blob).
///
/// # Cancellation
/// Dropping the future ends the transfers. What came stays for the next attempt, if the options say so.
///
/// # Panics
/// Outside of a Tokio runtime with its clock.
pub async fn download(
    from: &Place,
    blob: &Descriptor,
    path: &Path,
    options: &DownloadOptions,
) -> Result<Downloaded, RegistryError> {
    engine::run(from, blob, path, options).await
}
