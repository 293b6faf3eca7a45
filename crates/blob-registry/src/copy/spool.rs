//! Large blobs by way of a file: fetched over several connections, and not fetched again by the next attempt.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::source::FileSource;
use blob_core::{ByteSource, Digest, SourceId};
use tokio::task::spawn_blocking;

use super::{CopyOptions, Place};
use crate::descriptor::Descriptor;
use crate::download::{DownloadOptions, download};
use crate::error::RegistryError;
use crate::registry::{PushBlob, PushedBlob};

/// Smaller blobs are passed on while they come.
const SPOOL_FROM: u64 = 32 << 20;

/// How often a blob is fetched that other copies remove from under this one.
const TRIES: u32 = 4;

/// Whether `source` is worth a file: large, and not one already.
pub(super) fn pays(source: &Arc<dyn ByteSource>) -> bool {
    source.size() >= SPOOL_FROM && source.local().is_none()
}

/// Copies `blob` by way of a file in `dir`, which is removed when the blob is there.
pub(super) async fn copy(
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    (blob, dir): (&Descriptor, &Path),
    absent: bool,
) -> Result<PushedBlob, RegistryError> {
    let existing = !absent && is_existing(to, blob).await?;
    if existing {
        return Ok(PushedBlob::Existing);
    }
    let path = dir.join(blob.digest.hex());
    let mut fetch = DownloadOptions::default();
    let what = blob.digest.to_string();
    fetch.progress = options.progress.clone().map(|progress| (what.clone(), progress));
    let action = format!("copying blob {} by way of {}", blob.digest, path.display());
    let source = fetched(from, blob, (&path, &fetch), &action).await?;
    let mut push = PushBlob::new(blob.digest, Arc::new(source));
    push.known_absent = true;
    push.progress = options.progress.clone().map(|progress| (what, progress));
    let pushed = to.registry.push_blob(&to.repository, push).await?;
    // Another copy of the same blob by way of the same directory may have been faster.
    offload(&action, move || absent_is_fine(fs::remove_file(path))).await?;
    Ok(pushed)
}

async fn is_existing(to: &Place, blob: &Descriptor) -> Result<bool, RegistryError> {
    match to.registry.stat_blob(&to.repository, &blob.digest).await {
        Ok(size) => Ok(size == blob.size),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The blob in its file, open: nobody can take it away any more.
async fn fetched(
    from: &Place,
    blob: &Descriptor,
    (path, fetch): (&Path, &DownloadOptions),
    action: &str,
) -> Result<FileSource, RegistryError> {
    for _ in 0..TRIES {
        if !is_there(action, path.to_owned(), blob.digest).await? {
            download(from, blob, path, fetch).await?;
        }
        let (opened, id) = (path.to_owned(), SourceId::from(blob.digest));
        let source = offload(action, move || match FileSource::open(&opened) {
            Ok(source) => Ok(Some(source.with_id(id))),
            // Another copy that was done with it removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        if let Some(source) = source.await? {
            return Ok(source);
        }
    }
    Err(RegistryError::Io {
        action: action.to_owned(),
        transient: true,
        source: "other copies remove the file again and again".into(),
    })
}

fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether an earlier attempt fetched the blob and got no further.
async fn is_there(action: &str, path: PathBuf, digest: Digest) -> Result<bool, RegistryError> {
    offload(action, move || {
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut hasher = blob_core::Hasher::new(digest.algorithm());
        let mut block = vec![0; 1 << 20];
        loop {
            match io::Read::read(&mut file, &mut block)? {
                0 => return Ok(hasher.finish() == digest),
                length => hasher.update(&block[..length]),
            }
        }
    })
    .await
}

async fn offload<T: Send + 'static>(
    action: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RegistryError> {
    let done = spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| RegistryError::Io { action: action.to_owned(), transient: false, source: Box::new(error) })
}
