//! Blobs that one layout takes over from another: mounts.

use std::fs;
use std::io::{self, Read as _};

use blob_core::Digest;

use super::disk::{Layout, is_absent};
use super::failed;
use super::memo::Stamp;
use super::verify::Verify;
use super::write::{self, Incoming};
use crate::error::RegistryError;

impl Layout {
    /// Takes a blob over from another layout: by a hard link, or by a checked copy where that cannot be. False if the
    /// other one does not have it, or, where blobs are verified, if it is damaged.
    pub(super) fn link(&self, digest: &Digest, from: &Self) -> Result<bool, RegistryError> {
        let action = || format!("taking blob {digest} over from {}", from.root().display());
        if from.stat(digest)?.is_none() {
            return Ok(false);
        }
        // What is damaged would be damaged here too, and nobody would look again: it was told to be there.
        let verify = self.verify() != Verify::No;
        if verify && !from.clone().with_verify(self.verify()).is_sound(digest) {
            return Ok(false);
        }
        from.freshen(digest);
        self.create()?;
        let target = self.blob_path(digest);
        let directory = target.parent().unwrap_or(self.root()).to_owned();
        fs::create_dir_all(&directory).map_err(failed(action))?;
        match fs::hard_link(from.blob_path(digest), &target) {
            Ok(()) => {
                if let (true, Ok(stamp)) = (verify, Stamp::of(&target)) {
                    self.memo().remember_sound(*digest, stamp);
                }
                write::sync_directory(&directory).map(|()| true).map_err(failed(action))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.freshen(digest);
                Ok(!verify || self.is_sound(digest))
            }
            Err(error) if is_absent(&error) => Ok(false),
            Err(_) => self.copy(digest, from).map(|()| true),
        }
    }

    fn copy(&self, digest: &Digest, from: &Self) -> Result<(), RegistryError> {
        let action = || format!("copying blob {digest} from {}", from.root().display());
        let mut file = write::open_file(&from.blob_path(digest)).map_err(failed(action))?;
        let mut incoming = Incoming::begin(&self.temporaries(), *digest)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(failed(action))? {
                0 => return incoming.finish(&self.blob_path(digest), &action()),
                length => incoming.write(&buffer[..length])?,
            }
        }
    }
}
