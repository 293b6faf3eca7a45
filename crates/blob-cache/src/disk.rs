//! Verified bytes by digest, in files.

mod entry;
mod writer;

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::{ByteSource, Cache, CacheError, CacheWriter, Digest, MemorySource};
use bytes::Bytes;

use crate::admin::{CacheAdmin, Usage, Verified};
use crate::check::{Damage, digest_of};
use crate::dir::{CacheDir, CacheOptions, Checked, Shared, admin};
use crate::error::{OpenError, disk};
use crate::evict::Scope;
use crate::files::{Stamp, discard, is_absent, is_private, open_regular, read_at_once, touch};
use crate::layout::{Bucket, content_path};
use crate::{blocking, map};
use entry::EntrySource;
use writer::DiskWriter;

/// Entries up to this size that changed a moment ago are served from the very bytes that were hashed: 1 MiB.
const SERVED_FROM_MEMORY: u64 = 1 << 20;
/// Manifests and indexes above this size are mapped rather than read: 64 MiB.
const MAPPED_ABOVE: u64 = 64 << 20;
/// Entries up to this size that lie in memory are checked again in place: 64 KiB take some 30 microseconds.
const CHECKED_IN_PLACE: u64 = 64 * 1024;
/// From 1 MiB on, the pages of a buffer are asked for at once: touched one by one, they take longer than reading does.
const LARGE: usize = 1 << 20;

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

    /// The entry, if this process checked it, it has not changed since, and nobody else has a link to it.
    fn open_checked(&self, digest: &Digest) -> Option<Arc<dyn ByteSource>> {
        let Checked { stamp, seal } = self.shared.checked.get(&(self.bucket, *digest))?;
        if self.shared.options.verify_every_time && stamp.size > CHECKED_IN_PLACE {
            return None;
        }
        let (file, meta) = open_regular(&self.path(digest)).ok()??;
        let check_again = self.shared.options.verify_every_time;
        // Under another name, or with access to it, somebody may edit the file and reset its time.
        if Stamp::of(&meta) != stamp || meta.nlink() > 1 || !is_private(&meta) {
            return None;
        }
        if check_again {
            let mut bytes = vec![0; stamp.size as usize];
            let sound = read_at_once(&file, &mut bytes, 0) && seal? == blake3::hash(&bytes);
            touch(&file, &meta);
            return sound.then(|| Arc::new(MemorySource::with_id(bytes, (*digest).into())) as Arc<dyn ByteSource>);
        }
        touch(&file, &meta);
        if self.is_mapped(stamp) {
            let bytes = map::entry(&file, &meta).ok()??;
            return Some(Arc::new(MemorySource::with_id(bytes, (*digest).into())));
        }
        Some(Arc::new(EntrySource::new(*digest, file, stamp)))
    }

    /// Whether its readers want an entry as a whole, in memory: it is hashed there, so that the bytes that were hashed are
    /// the ones that are used, and nothing is read twice.
    fn is_whole(&self) -> bool {
        self.bucket != Bucket::Contents
    }

    fn is_mapped(&self, stamp: Stamp) -> bool {
        self.is_whole() && stamp.size > MAPPED_ABOVE
    }

    /// Opens and checks an entry.
    fn load(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        if let Some(hit) = self.open_checked(digest) {
            return Ok(Some(hit));
        }
        let path = self.path(digest);
        let Some((file, meta)) = self.open_entry(&path)? else { return Ok(None) };
        let failed = |error| disk("reading the cache entry", &path, error);
        let hit = self.check(digest, file, &meta).map_err(failed)?;
        if hit.is_none() {
            self.shared.checked.invalidate(&(self.bucket, *digest));
            self.shared.heal(self.bucket, &path, meta.len(), "its digest differs");
        }
        Ok(hit)
    }

    fn open_entry(&self, path: &Path) -> Result<Option<(File, Metadata)>, CacheError> {
        match open_regular(path) {
            Ok(Some(opened)) => Ok(Some(opened)),
            Ok(None) => {
                self.shared.heal(self.bucket, path, 0, "not a regular file");
                Ok(None)
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(disk("reading the cache entry", path, error)),
        }
    }

    /// What the cache holds under `digest`, whole and **not hashed**, for those who can do something else with the bytes
    /// while they hash them: they have to, before anybody else sees what they made of them, and [`remove`](Cache::remove)
    /// what is wrong. An entry above `max_bytes` is reported as absent; one above 64 MiB is mapped rather than read.
    ///
    /// # Errors
    /// [`CacheError`] when the disk refuses.
    pub async fn read_unverified(&self, digest: &Digest, max_bytes: u64) -> Result<Option<Bytes>, CacheError> {
        let (this, digest) = (self.clone(), *digest);
        blocking::run(move || this.whole(&digest, max_bytes)).await
    }

    fn whole(&self, digest: &Digest, max_bytes: u64) -> Result<Option<Bytes>, CacheError> {
        let path = self.path(digest);
        let Some((file, meta)) = self.open_entry(&path)?.filter(|(_, meta)| meta.len() <= max_bytes) else {
            return Ok(None);
        };
        let bytes = if meta.len() > MAPPED_ABOVE { map::entry(&file, &meta) } else { Ok(None) };
        let bytes = match bytes {
            Ok(None) => read_whole(&file, meta.len()),
            done => done,
        };
        touch(&file, &meta);
        bytes.map_err(|error| disk("reading the cache entry", &path, error))
    }

    /// Hashes the open `file`; `None` when its digest is another one.
    fn check(&self, digest: &Digest, file: File, meta: &Metadata) -> io::Result<Option<Arc<dyn ByteSource>>> {
        let stamp = Stamp::of(meta);
        let settled = stamp.is_settled();
        let every_time = self.shared.options.verify_every_time;
        let small = stamp.size <= SERVED_FROM_MEMORY && (every_time || !settled);
        let in_memory = match self.is_mapped(stamp) {
            true => map::entry(&file, meta)?,
            false if small || self.is_whole() => Some(match read_whole(&file, stamp.size)? {
                Some(bytes) => bytes,
                None => return Ok(None),
            }),
            false => None,
        };
        let sound = match &in_memory {
            Some(bytes) => digest.matches(bytes),
            None => match digest_of(&file, stamp.size, digest) {
                Ok(found) => found == *digest,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                Err(error) => return Err(error),
            },
        };
        if !sound {
            return Ok(None);
        }
        touch(&file, meta);
        if settled {
            let again = every_time && stamp.size <= CHECKED_IN_PLACE;
            let seal = in_memory.as_ref().filter(|_| again).map(|bytes| blake3::hash(bytes));
            self.shared.checked.insert((self.bucket, *digest), Checked { stamp, seal });
        }
        Ok(Some(match in_memory {
            Some(bytes) => Arc::new(MemorySource::with_id(bytes, (*digest).into())),
            None => Arc::new(EntrySource::new(*digest, file, stamp)),
        }))
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

/// The `size` bytes of `file`; `None` if it is shorter.
fn read_whole(file: &File, size: u64) -> io::Result<Option<Bytes>> {
    let size = size as usize;
    let read = |bytes: &mut [u8]| match file.read_exact_at(bytes, 0) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    if size < LARGE {
        let mut bytes = vec![0; size];
        return Ok(read(&mut bytes)?.then(|| bytes.into()));
    }
    let mut bytes = map::memory(size)?;
    Ok(read(&mut bytes)?.then(|| Bytes::from_owner(bytes)))
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

    /// An entry is hashed once in each process, and read only as long as nobody wrote to its file since.
    fn verifies(&self) -> bool {
        true
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
        admin(&self.shared, Scope::One(self.bucket)).verify(Damage::Drop).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_read_whole_or_not_at_all_whatever_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entry");
        for size in [0, 1, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 7] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            let file = File::open(&path).unwrap();
            assert!(read_whole(&file, size as u64).unwrap().unwrap() == content, "{size}");
            assert!(read_whole(&file, size as u64 + 1).unwrap().is_none(), "{size}: the file is shorter by now");
            assert!(read_whole(&file, size as u64 + 2 * LARGE as u64).unwrap().is_none(), "{size}");
        }
    }
}
