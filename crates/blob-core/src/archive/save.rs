//! An archive to a pair of local files.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt as _;

use super::Archive;
use crate::digest::Hasher;
use crate::error::ReadError;
use crate::source::{ReadAhead, SourceError};
use crate::threads::offload;

impl Archive {
    /// Writes the index and the data to two files, which [`open_file`](Self::open_file) opens. Parents are created, and
    /// files that exist are replaced. Both are complete, verified and on disk before either gets its name.
    ///
    /// # Errors
    /// [`ReadError::Data`], [`ReadError::Io`]; [`ReadError::DataMismatch`] when the index records a digest for the data
    /// and the data has another. Neither file is touched then.
    ///
    /// # Cancellation
    /// Dropping the future removes what was written.
    pub async fn save(&self, index: impl AsRef<Path>, data: impl AsRef<Path>) -> Result<(), ReadError> {
        let (index_path, data_path) = (index.as_ref().to_path_buf(), data.as_ref().to_path_buf());
        let mut out = offload(move || Temporary::create(data_path)).await?;
        let size = self.source().size();
        let mut chunks =
            Arc::clone(self.source()).read_ahead(0..size, ReadAhead::default()).map_err(ReadError::Data)?;
        let (mut hasher, mut got) = (Hasher::sha256(), 0);
        while let Some(chunk) = chunks.try_next().await.map_err(ReadError::Data)? {
            got += chunk.len() as u64;
            let written = offload(move || {
                hasher.update(&chunk);
                out.write(&chunk).map(|()| (hasher, out))
            });
            (hasher, out) = written.await?;
        }
        if got != size {
            return Err(ReadError::Data(SourceError::Truncated {
                id: self.source().id().clone(),
                expected: size,
                got,
            }));
        }
        let got = hasher.finish();
        if let Some(expected) = self.index().data_digest().filter(|expected| *expected != got) {
            return Err(ReadError::DataMismatch { expected, got });
        }
        let bytes = self.index().as_bytes().clone();
        offload(move || {
            let mut index = Temporary::create(index_path)?;
            index.write(&bytes)?;
            index.sync()?;
            out.sync()?;
            // An index without its data would be worse than data without its index.
            out.publish()?;
            index.publish()
        })
        .await
    }
}

/// A file under a temporary name beside its final one; removed unless it is published.
struct Temporary {
    file: File,
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Temporary {
    fn create(target: PathBuf) -> Result<Self, ReadError> {
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |action, source| ReadError::Io { action, path: target.clone(), source };
        std::fs::create_dir_all(parent).map_err(|error| failed("creating the directory of", error))?;
        for _ in 0..16 {
            let path = parent.join(crate::extract::random_name());
            match File::create_new(&path) {
                Ok(file) => return Ok(Self { file, path, target, published: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("creating", error)),
            }
        }
        Err(failed("creating", io::ErrorKind::AlreadyExists.into()))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ReadError {
        ReadError::Io { action, path: self.target.clone(), source }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.file.write_all(bytes).map_err(|error| self.failed("writing", error))
    }

    fn sync(&self) -> Result<(), ReadError> {
        self.file.sync_all().map_err(|error| self.failed("waiting for the disk to write", error))
    }

    fn publish(mut self) -> Result<(), ReadError> {
        std::fs::rename(&self.path, &self.target).map_err(|error| self.failed("naming", error))?;
        self.published = true;
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| self.failed("waiting for the disk to name", error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
