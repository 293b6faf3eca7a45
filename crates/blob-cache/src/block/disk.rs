//! Blocks in packs on disk; [`layout`](crate::layout) draws them.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::CacheError;
use bytes::{Bytes, BytesMut};

use super::{BlockKey, BlockStore, SEAL, SIZES};
use crate::admin::{CacheAdmin, Usage, Verified};
use crate::check::{Damage, Outcome};
use crate::dir::{Shared, admin};
use crate::error::disk;
use crate::evict::{self, Scope};
use crate::files::{is_absent, make_dirs, open_regular, open_with, touch};
use crate::layout::{Bucket, keyed_path, pack_name, pack_of_name};
use crate::{blocking, marker};

const PACK_MAGIC: &[u8; 8] = b"blobpak1";
/// What comes before the first slot, in bytes.
const PACK_HEADER: u64 = 4096;
const SLOT_MAGIC: &[u8; 4] = b"blk1";
/// What comes before the record in a slot, in bytes.
const SLOT_HEADER: usize = 16;
/// How many blocks a pack holds.
const PACKED: u64 = 512;

/// Keeps blocks in a cache directory: [`CacheDir::blocks`](crate::CacheDir::blocks). All disk work is done on threads
/// for blocking work.
#[derive(Clone, Debug)]
pub struct DiskBlockStore {
    shared: Arc<Shared>,
}

/// Where a block lies.
#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u64,
    stride: usize,
}

impl Slot {
    fn of(key: &BlockKey) -> Self {
        let stride = stride(key.block_size());
        Self { offset: PACK_HEADER + key.index() % PACKED * stride as u64, stride }
    }

    /// The record in the slot, if its header tells one. It is not checked here.
    fn read(self, file: &File) -> io::Result<Option<Bytes>> {
        let mut slot = BytesMut::zeroed(self.stride);
        let mut filled = 0;
        while filled < slot.len() {
            match file.read_at(&mut slot[filled..], self.offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        slot.truncate(filled);
        let Some((header, record)) = slot.split_first_chunk::<SLOT_HEADER>() else { return Ok(None) };
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if header[..4] != *SLOT_MAGIC {
            return Ok(None);
        }
        // A record that was cut short is returned as far as it goes: its seal tells.
        let length = length.min(record.len());
        Ok(Some(slot.freeze().slice(SLOT_HEADER..SLOT_HEADER + length)))
    }

    fn write(self, file: &File, record: &[u8]) -> io::Result<()> {
        let mut header = [0; SLOT_HEADER];
        header[..4].copy_from_slice(SLOT_MAGIC);
        header[4..8].copy_from_slice(&(record.len() as u32).to_le_bytes());
        // The header last: who sees it sees the record.
        file.write_all_at(record, self.offset + SLOT_HEADER as u64)?;
        file.write_all_at(&header, self.offset)
    }

    fn erase(self, file: &File) -> io::Result<()> {
        file.write_all_at(&[0; SLOT_HEADER], self.offset)
    }
}

fn stride(block_size: u32) -> usize {
    (SLOT_HEADER + SEAL + block_size as usize).next_multiple_of(64)
}

impl DiskBlockStore {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn path(&self, key: &BlockKey) -> PathBuf {
        keyed_path(&self.shared.root, Bucket::Blocks, &pack_name(key.source(), key.index() / PACKED))
    }

    /// Opens the pack of `key`; `None` when there is none, or was something else in its place.
    fn open(&self, path: &Path, options: &mut OpenOptions) -> io::Result<Option<(File, Metadata)>> {
        match open_with(options, path) {
            Ok(None) => {
                self.shared.heal(Bucket::Blocks, path, 0, "not a regular file");
                Ok(None)
            }
            Err(error) if is_absent(&error) => Ok(None),
            other => other,
        }
    }

    fn load(&self, key: &BlockKey) -> io::Result<Option<Bytes>> {
        let Some((file, meta)) = self.open(&self.path(key), OpenOptions::new().read(true))? else { return Ok(None) };
        touch(&file, &meta);
        Slot::of(key).read(&file)
    }

    fn store(&self, key: &BlockKey, record: &[u8]) -> io::Result<()> {
        let slot = Slot::of(key);
        if record.len() > slot.stride - SLOT_HEADER || !self.shared.wants(Bucket::Blocks, record.len() as u64) {
            return Ok(());
        }
        let path = self.path(key);
        let fresh = !path.exists();
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            marker::ensure(&self.shared.root).map_err(io::Error::other)?;
            make_dirs(parent, &self.shared.tmp)?;
        }
        // Room first: making it may evict this very pack.
        let bytes = evict::charge(record.len() as u64) + if fresh { PACK_HEADER } else { 0 };
        let reservation = evict::reserve(&self.shared, Bucket::Blocks, fresh.into(), bytes)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let Some((file, _)) = self.open(&path, &mut options)? else { return Ok(()) };
        if file.metadata()?.len() < PACK_HEADER {
            let mut header = [0; PACK_HEADER as usize];
            header[..8].copy_from_slice(PACK_MAGIC);
            header[8..12].copy_from_slice(&key.block_size().to_le_bytes());
            file.write_all_at(&header, 0)?;
        }
        slot.write(&file, record)?;
        reservation.keep(false);
        Ok(())
    }

    fn erase(&self, key: &BlockKey) -> io::Result<()> {
        match self.open(&self.path(key), OpenOptions::new().write(true))? {
            Some((file, _)) => Slot::of(key).erase(&file),
            None => Ok(()),
        }
    }

    /// Runs `work` on a thread, and names the block in its failure.
    async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        key: BlockKey,
        work: impl FnOnce(&Self, &BlockKey) -> io::Result<T> + Send + 'static,
    ) -> Result<T, CacheError> {
        let this = self.clone();
        blocking::run(move || {
            work(&this, &key).map_err(|error| {
                this.shared.note_failure(&error);
                disk(action, &this.path(&key), error)
            })
        })
        .await
    }
}

#[async_trait]
impl BlockStore for DiskBlockStore {
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        self.run("reading a block of", *key, Self::load).await
    }

    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError> {
        self.run("writing a block of", *key, move |this, key| this.store(key, &value)).await
    }

    async fn remove(&self, key: &BlockKey) -> Result<(), CacheError> {
        self.run("erasing a block of", *key, Self::erase).await
    }
}

#[async_trait]
impl CacheAdmin for DiskBlockStore {
    async fn usage(&self) -> Result<Usage, CacheError> {
        admin(&self.shared, Scope::One(Bucket::Blocks)).usage().await
    }

    async fn prune(&self, target_bytes: u64) -> Result<u64, CacheError> {
        admin(&self.shared, Scope::One(Bucket::Blocks)).prune(target_bytes).await
    }

    async fn clear(&self) -> Result<(), CacheError> {
        admin(&self.shared, Scope::One(Bucket::Blocks)).clear().await
    }

    async fn verify(&self) -> Result<Verified, CacheError> {
        admin(&self.shared, Scope::One(Bucket::Blocks)).verify(Damage::Drop).await
    }
}

/// Checks the seal of every block in a pack and erases those that fail, if damage is to go.
pub(crate) fn check_pack(path: &Path, damage: Damage) -> io::Result<Outcome> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(pack_of_name);
    let (Some((source, segment)), Some((file, meta))) = (name, open_regular(path)?) else {
        return Ok(Outcome::Damaged);
    };
    let mut header = [0; 12];
    match meta.len() {
        // Its writer has not come further yet, or died; the next one goes on.
        0 => return Ok(Outcome::Sound { checked: 0, dropped: 0 }),
        1..PACK_HEADER => return Ok(Outcome::Damaged),
        _ => {}
    }
    file.read_exact_at(&mut header, 0)?;
    let block_size = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let (true, true, Some(first)) =
        (header[..8] == *PACK_MAGIC, SIZES.contains(&block_size), segment.checked_mul(PACKED))
    else {
        return Ok(Outcome::Damaged);
    };
    let (mut checked, mut dropped) = (0, 0);
    for index in first..first.saturating_add(PACKED) {
        let key = BlockKey { source, block_size, index };
        let slot = Slot::of(&key);
        let Some(record) = slot.read(&file)? else { continue };
        checked += 1;
        if key.unseal(&record).is_none() {
            dropped += 1;
            if damage == Damage::Keep {
                continue;
            }
            let Some((file, _)) = open_with(OpenOptions::new().write(true), path)? else { return Ok(Outcome::Damaged) };
            slot.erase(&file)?;
        }
    }
    Ok(Outcome::Sound { checked, dropped })
}
