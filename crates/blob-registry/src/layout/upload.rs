//! Upload sessions on disk: files that outlive the process.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use async_trait::async_trait;
use blob_core::{Algorithm, Digest, Hasher};
use bytes::Bytes;

use super::disk::{Layout, is_absent};
use super::{failed, lock, offload, write};
use crate::error::{ErrorCode, RegistryError};
use crate::registry::{Upload, UploadId};
use crate::{store, token};

/// A handle on a session. Several may exist, in several processes: each append checks that it meets the end.
pub(super) struct DiskUpload {
    session: Session,
    offset: u64,
    /// The hash of everything up to the offset, if this handle wrote it all; else the file is read at the commit.
    hasher: Option<Hasher>,
}

#[derive(Clone)]
struct Session {
    layout: Layout,
    /// What messages call the repository.
    name: String,
    id: String,
}

impl DiskUpload {
    /// Opens a new session.
    pub(super) fn start(layout: Layout, name: String) -> Result<Self, RegistryError> {
        layout.create()?;
        let session = Session { layout, name, id: token::random()? };
        session.layout.check_sessions(&session.name)?;
        let create = || {
            fs::create_dir_all(session.layout.uploads())?;
            File::options().write(true).create_new(true).open(session.path())
        };
        create().map_err(failed(|| session.action()))?;
        // A server that runs for years must not pile up what clients gave up: one session in 64 looks for leftovers.
        if ["00", "55", "aa", "ff"].iter().any(|start| session.id.starts_with(start)) {
            session.layout.reclaim(write::LEFTOVER);
        }
        Ok(Self { session, offset: 0, hasher: Some(Hasher::sha256()) })
    }

    /// Takes up a session where it stands.
    pub(super) fn resume(layout: Layout, name: String, id: &UploadId) -> Result<Self, RegistryError> {
        let session = Session { layout, name, id: id.as_str().to_owned() };
        // What is not one of our names is never made part of a path.
        if !token::is_wellformed(&session.id) {
            return Err(session.unknown());
        }
        match fs::metadata(session.path()) {
            Ok(meta) if meta.is_file() => {
                let offset = meta.len();
                // Every request has a handle of its own: reading it all once more for each would take for ever.
                let hasher = match offset {
                    0 => Some(Hasher::sha256()),
                    _ => session.layout.memo().hashed(&session.id, offset),
                };
                Ok(Self { session, offset, hasher })
            }
            Err(error) if !is_absent(&error) => Err(failed(|| session.action())(error)),
            _ => Err(session.unknown()),
        }
    }
}

impl Session {
    fn path(&self) -> PathBuf {
        self.layout.uploads().join(&self.id)
    }

    fn action(&self) -> String {
        format!("uploading to {}", self.name)
    }

    fn unknown(&self) -> RegistryError {
        RegistryError::code(self.action(), ErrorCode::BlobUploadUnknown)
    }

    /// The file, locked, and checked to hold `offset` bytes.
    fn claim(&self, offset: u64) -> Result<File, RegistryError> {
        let path = self.path();
        let claimed = || -> io::Result<Option<File>> {
            let file = File::options().read(true).write(true).open(&path)?;
            if !lock::wait(&file, self.layout.patience())? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // Whoever had the lock before may have published or removed the file.
            let (own, named) = (file.metadata()?, fs::metadata(&path)?);
            Ok((own.ino() == named.ino() && own.dev() == named.dev()).then_some(file))
        };
        let file = match claimed() {
            Ok(Some(file)) => file,
            Ok(None) => return Err(self.unknown()),
            Err(error) if is_absent(&error) => return Err(self.unknown()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let seconds = self.layout.patience().as_secs();
                let detail = format!("another request has held the session for over {seconds} s");
                return Err(RegistryError::detailed(self.action(), ErrorCode::BlobUploadInvalid, detail));
            }
            Err(error) => return Err(failed(|| self.action())(error)),
        };
        let held = file.metadata().map_err(failed(|| self.action()))?.len();
        if held == offset { Ok(file) } else { Err(store::moved(self.action(), offset, held)) }
    }

    fn append(&self, offset: u64, bytes: &[u8]) -> Result<(), RegistryError> {
        let file = self.claim(offset)?;
        file.write_all_at(bytes, offset).map_err(|error| {
            // Half a piece would shift the offset that the caller knows. If even this fails, the next one is refused.
            let _ = file.set_len(offset);
            failed(|| self.action())(error)
        })
    }

    fn commit(&self, offset: u64, hasher: Option<Hasher>, digest: &Digest) -> Result<(), RegistryError> {
        let mut file = self.claim(offset)?;
        self.layout.memo().forget_hashed(&self.id);
        let got = match hasher {
            Some(hasher) if digest.algorithm() == Algorithm::Sha256 => hasher.finish(),
            _ => hash(&mut file, digest.algorithm()).map_err(failed(|| self.action()))?,
        };
        let path = self.path();
        if got != *digest {
            fs::remove_file(&path).map_err(failed(|| self.action()))?;
            return Err(RegistryError::DigestMismatch { action: self.action(), expected: *digest, got });
        }
        write::publish(&file, &path, &self.layout.blob_path(digest)).map_err(failed(|| self.action()))
    }

    fn remove(&self) -> Result<(), RegistryError> {
        self.layout.memo().forget_hashed(&self.id);
        match fs::remove_file(self.path()) {
            Err(error) if is_absent(&error) => Err(self.unknown()),
            other => other.map_err(failed(|| self.action())),
        }
    }
}

/// The digest of everything in `file`.
pub(super) fn hash(file: &mut File, algorithm: Algorithm) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 1 << 20];
    file.rewind()?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

#[async_trait]
impl Upload for DiskUpload {
    fn id(&self) -> UploadId {
        UploadId::new(self.session.id.clone())
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    async fn append(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        let (session, offset, length) = (self.session.clone(), self.offset, bytes.len() as u64);
        // Taken, so that a call that is dropped half-way leaves no hash that may lack these bytes.
        let hasher = self.hasher.take();
        self.hasher = offload(move || {
            session.append(offset, &bytes)?;
            Ok(hasher.map(|mut hasher| {
                hasher.update(&bytes);
                session.layout.memo().remember_hashed(&session.id, offset + length, &hasher);
                hasher
            }))
        })
        .await?;
        self.offset += length;
        Ok(())
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<(), RegistryError> {
        let digest = *digest;
        offload(move || self.session.commit(self.offset, self.hasher, &digest)).await
    }

    async fn cancel(self: Box<Self>) -> Result<(), RegistryError> {
        offload(move || self.session.remove()).await
    }
}
