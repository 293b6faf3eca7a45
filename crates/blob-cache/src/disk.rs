//! Verified bytes by digest, in files.

mod entry;
mod writer;

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, Cache, CacheError, CacheWriter, Digest, MemorySource};

use crate::admin::{CacheAdmin, Usage, Verified};
use crate::blocking;
use crate::check::digest_of;
use crate::dir::{CacheDir, CacheOptions, Shared, admin};
use crate::error::{OpenError, disk};
use crate::evict::Scope;
use crate::files::{Stamp, discard, is_absent, open_regular, read_at_once, touch};
use crate::layout::{Bucket, content_path};
use entry::EntrySource;
use writer::DiskWriter;

/// Entries up to this size that changed a moment ago are served from the very bytes that were hashed: 1 MiB.
const SERVED_FROM_MEMORY: u64 = 1 << 20;
/// Entries up to this size that lie in memory are checked again in place: 64 KiB take some 40 microseconds.
const CHECKED_IN_PLACE: u64 = 64 * 1024;

/// A content-addressed cache in a directory.
///
/// A hit has had its size and digest checked since this process started, and is an open file: it stays readable when
/// another process evicts it. It is a [`Local::File`](blob_core::Local), so readers can map, splice or reflink it;
/// its stream also notices a file that is changed while it is read, and ends in an error then.
///
/// An entry that is damaged, or is not a file, is dropped with one warning and reported as absent.
///
/// # Blocking
/// All disk work is done on tokio's threads for blocking work, or in place outside a runtime, except for what takes
/// fewer microseconds than a change of thread: opening an entry that this process checked before (three system calls
/// on cached metadata), reading up to 256 KiB of one that the system holds in memory, and asking whether the directory
/// takes writes.
#[derive(Clone, Debug)]
pub struct DiskCache {
    shared: Arc<Shared>,
    bucket: Bucket,
}

impl DiskCache {
    pub(crate) fn new(shared: Arc<Shared>, bucket: Bucket) -> Self {
        Self { shared, bucket }
    }

    /// The contents of the cache directory at `root`: short for [`CacheDir::open`] and [`CacheDir::contents`].
    ///
    /// # Errors
    /// As [`CacheDir::open`].
    pub fn open(root: impl Into<PathBuf>, options: CacheOptions) -> Result<Self, OpenError> {
        Ok(CacheDir::open(root, options)?.contents())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        content_path(&self.shared.root, self.bucket, digest)
    }

    /// The entry, if this process checked it and it has not changed since.
    fn open_checked(&self, digest: &Digest) -> Option<Arc<dyn ByteSource>> {
        let stamp = self.shared.checked.get(&(self.bucket, *digest))?;
        let check_again = self.shared.options.verify_every_time;
        if check_again && stamp.size > CHECKED_IN_PLACE {
            return None;
        }
        let file = open_regular(&self.path(digest)).ok()??;
        let meta = file.metadata().ok()?;
        if Stamp::of(&meta) != stamp {
            return None;
        }
        if check_again {
            let mut bytes = vec![0; stamp.size as usize];
            let sound = read_at_once(&file, &mut bytes, 0) && digest.matches(&bytes);
            touch(&file, &meta);
            return sound.then(|| Arc::new(MemorySource::with_id(bytes, (*digest).into())) as Arc<dyn ByteSource>);
        }
        touch(&file, &meta);
        Some(Arc::new(EntrySource::new(*digest, file, stamp)))
    }

    /// Opens and checks an entry.
    fn load(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        if let Some(hit) = self.open_checked(digest) {
            return Ok(Some(hit));
        }
        let path = self.path(digest);
        let failed = |error| disk("reading the cache entry", &path, error);
        let file = match open_regular(&path) {
            Ok(Some(file)) => file,
            Ok(None) => {
                self.shared.heal(self.bucket, &path, 0, "not a regular file");
                return Ok(None);
            }
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let meta = file.metadata().map_err(failed)?;
        let hit = self.check(digest, file, &meta).map_err(failed)?;
        if hit.is_none() {
            self.shared.checked.invalidate(&(self.bucket, *digest));
            self.shared.heal(self.bucket, &path, meta.len(), "its digest differs");
        }
        Ok(hit)
    }

    /// Hashes the open `file`; `None` when its digest is another one.
    fn check(&self, digest: &Digest, file: File, meta: &Metadata) -> io::Result<Option<Arc<dyn ByteSource>>> {
        let stamp = Stamp::of(meta);
        let settled = stamp.is_settled();
        if stamp.size <= SERVED_FROM_MEMORY && (self.shared.options.verify_every_time || !settled) {
            let mut bytes = vec![0; stamp.size as usize];
            match file.read_exact_at(&mut bytes, 0) {
                Ok(()) if digest.matches(&bytes) => {}
                Ok(()) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
            touch(&file, meta);
            if settled {
                self.shared.checked.insert((self.bucket, *digest), stamp);
            }
            return Ok(Some(Arc::new(MemorySource::with_id(bytes, (*digest).into()))));
        }
        match digest_of(&file, stamp.size, digest) {
            Ok(found) if found == *digest => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        touch(&file, meta);
        if settled {
            self.shared.checked.insert((self.bucket, *digest), stamp);
        }
        Ok(Some(Arc::new(EntrySource::new(*digest, file, stamp))))
    }

    /// Removes the entry of `digest`, if there is one.
    fn delete(&self, digest: &Digest) -> Result<(), CacheError> {
        let path = self.path(digest);
        self.shared.checked.invalidate(&(self.bucket, *digest));
        let size = std::fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
        match discard(&path, &self.shared.tmp) {
            Ok(true) => crate::evict::uncount(&self.shared, self.bucket, size),
            Ok(false) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(disk("removing the cache entry", &path, error)),
        }
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Cache for DiskCache {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        if let Some(hit) = self.open_checked(digest) {
            return Ok(Some(hit));
        }
        let (this, digest) = (self.clone(), *digest);
        blocking::run(move || this.load(&digest)).await
    }

    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        if !self.shared.wants(self.bucket, size) || self.open_checked(digest).is_some() {
            return Ok(None);
        }
        let writer = DiskWriter::new(Arc::clone(&self.shared), self.bucket, *digest, size);
        Ok(Some(Box::new(writer)))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        let (this, digest) = (self.clone(), *digest);
        blocking::run(move || this.delete(&digest)).await
    }
}

#[async_trait]
impl CacheAdmin for DiskCache {
    async fn usage(&self) -> Result<Usage, CacheError> {
        admin(&self.shared, Scope::One(self.bucket)).usage().await
    }

    async fn prune(&self, target_bytes: u64) -> Result<u64, CacheError> {
        admin(&self.shared, Scope::One(self.bucket)).prune(target_bytes).await
    }

    async fn clear(&self) -> Result<(), CacheError> {
        admin(&self.shared, Scope::One(self.bucket)).clear().await
    }

    async fn verify(&self) -> Result<Verified, CacheError> {
        admin(&self.shared, Scope::One(self.bucket)).verify().await
    }
}
