//! The same for callers without an async runtime: every call here waits for its result.
//!
//! The client owns a small runtime. Do not use it from within async code: use [`crate::Client`] there.
//!
//! ```no_run
//! let client = blob::blocking::Client::new()?;
//! let archive = client.pull(&"ghcr.io/team/assets:v1".parse()?)?;
//! let readme = archive.read("README.md")?;
//! # Ok::<(), blob::Error>(())
//! ```

mod file;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use blob_core::extract::{ExtractOptions, ExtractReport};
use blob_policy::Trusted;
use blob_registry::{Descriptor, Tag};
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::{ArchiveManifest, Error, Inspection, Location, PullOptions, PushOptions, Pushed};

pub use file::File;

/// A [`crate::Client`] whose calls wait. Clones share everything.
#[derive(Clone, Debug)]
pub struct Client {
    inner: crate::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// A client with the defaults.
    ///
    /// # Errors
    /// As [`crate::Client::new`]; [`Error::Io`] when threads cannot be started.
    pub fn new() -> Result<Self, Error> {
        Self::wrap(crate::Client::new()?)
    }

    /// Waits for what `client` does.
    ///
    /// # Errors
    /// [`Error::Io`] when threads cannot be started.
    pub fn wrap(client: crate::Client) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("blob-net").enable_all().build();
        let action = || "starting the threads of the client".to_owned();
        let runtime = Arc::new(runtime.map_err(|source| Error::Io { action: action(), source })?);
        Ok(Self { inner: client, runtime })
    }

    /// As [`crate::Client::push`].
    ///
    /// # Errors
    /// The same.
    pub fn push(&self, location: &Location, dir: &Path, options: &PushOptions) -> Result<Pushed, Error> {
        self.runtime.block_on(self.inner.push(location, dir, options))
    }

    /// As [`crate::Client::push_archive`].
    ///
    /// # Errors
    /// The same.
    pub fn push_archive(
        &self,
        location: &Location,
        archive: &blob_core::Archive,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        self.runtime.block_on(self.inner.push_archive(location, archive, options))
    }

    /// As [`crate::Client::pull`], with the default options.
    ///
    /// # Errors
    /// The same.
    pub fn pull(&self, location: &Location) -> Result<Archive, Error> {
        self.pull_with(location, &PullOptions::default())
    }

    /// As [`crate::Client::pull`].
    ///
    /// # Errors
    /// The same.
    pub fn pull_with(&self, location: &Location, options: &PullOptions) -> Result<Archive, Error> {
        let inner = self.runtime.block_on(self.inner.pull(location, options))?;
        Ok(Archive { inner, runtime: Arc::clone(&self.runtime) })
    }

    /// As [`crate::Client::fetch`].
    ///
    /// # Errors
    /// The same.
    pub fn fetch(&self, location: &Location) -> Result<Trusted<ArchiveManifest>, Error> {
        self.runtime.block_on(self.inner.fetch(location))
    }

    /// As [`crate::Client::inspect`].
    ///
    /// # Errors
    /// The same.
    pub fn inspect(&self, location: &Location, options: &PullOptions) -> Result<Inspection, Error> {
        self.runtime.block_on(self.inner.inspect(location, options))
    }

    /// As [`crate::Client::resolve`].
    ///
    /// # Errors
    /// The same.
    pub fn resolve(&self, location: &Location) -> Result<Descriptor, Error> {
        self.runtime.block_on(self.inner.resolve(location))
    }

    /// As [`crate::Client::tag`].
    ///
    /// # Errors
    /// The same.
    pub fn tag(&self, source: &Location, tags: &[Tag]) -> Result<Descriptor, Error> {
        self.runtime.block_on(self.inner.tag(source, tags))
    }
}

/// An open archive whose calls wait; listing and looking up need no waiting and are those of
/// [`blob_core::Archive`].
#[derive(Clone, Debug)]
pub struct Archive {
    inner: crate::Archive,
    runtime: Arc<Runtime>,
}

impl Deref for Archive {
    type Target = crate::Archive;

    fn deref(&self) -> &crate::Archive {
        &self.inner
    }
}

impl Archive {
    /// Reads and verifies a file, whole.
    ///
    /// # Errors
    /// As [`blob_core::Archive::read`].
    pub fn read(&self, path: impl AsRef<[u8]>) -> Result<Bytes, Error> {
        Ok(self.runtime.block_on(self.inner.read(path))?)
    }

    /// Opens a file to read from and seek in. Small files are verified at once; large ones stored as they are, are
    /// read in pieces.
    ///
    /// # Errors
    /// As [`blob_core::Archive::read`].
    pub fn open_file(&self, path: impl AsRef<[u8]>) -> Result<File, Error> {
        File::open(self.inner.clone(), Arc::clone(&self.runtime), path.as_ref())
    }

    /// Extracts the files at `paths` to `dest`.
    ///
    /// # Errors
    /// As [`blob_core::Archive::copy_to`].
    pub fn copy_to<P: AsRef<[u8]> + Sync>(
        &self,
        paths: &[P],
        dest: &Path,
        options: &ExtractOptions,
    ) -> Result<ExtractReport, Error> {
        Ok(self.runtime.block_on(self.inner.copy_to(paths, dest, options))?)
    }

    /// Extracts everything beneath `prefix` to `dest`; the empty prefix is everything.
    ///
    /// # Errors
    /// As [`blob_core::Archive::copy_dir`].
    pub fn copy_dir(
        &self,
        prefix: impl AsRef<[u8]>,
        dest: &Path,
        options: &ExtractOptions,
    ) -> Result<ExtractReport, Error> {
        Ok(self.runtime.block_on(self.inner.copy_dir(prefix, dest, options))?)
    }

    /// Extracts one file to exactly `dest`.
    ///
    /// # Errors
    /// As [`blob_core::Archive::copy_file`].
    pub fn copy_file(
        &self,
        path: impl AsRef<[u8]>,
        dest: &Path,
        options: &ExtractOptions,
    ) -> Result<ExtractReport, Error> {
        Ok(self.runtime.block_on(self.inner.copy_file(path, dest, options))?)
    }

    /// Saves the archive as a pair of files, the data verified.
    ///
    /// # Errors
    /// As [`blob_core::Archive::save`].
    pub fn save(&self, index: &Path, data: &Path) -> Result<(), Error> {
        Ok(self.runtime.block_on(self.inner.save(index, data))?)
    }
}
