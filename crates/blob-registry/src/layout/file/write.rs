//! The new file: members are appended as they come, and the list of manifests last.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob_core::{Digest, Hasher};
use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use tar::{EntryType, Header};

use super::super::disk::MAX_INDEX_BYTES;
use super::super::memo::Stamp;
use super::super::write::{publish, publish_new};
use super::super::{failed, offload};
use super::{Extent, Inner, State};
use crate::error::{ErrorCode, RegistryError};
use crate::registry::PushBlob;
use crate::{store, token};

/// The unit of tar files.
const BLOCK: u64 = 512;

/// Bytes are gathered to steps of this size: 1 MiB.
const STEP: usize = 1 << 20;

/// A file that takes the place of another at the end, and is removed if it does not come to that.
#[derive(Debug)]
pub(super) struct NewFile {
    file: Arc<File>,
    path: Option<PathBuf>,
    /// Where the next member begins. What lies behind it belongs to nobody.
    end: u64,
}

impl NewFile {
    /// A file beside `target` that holds the marker of layouts.
    fn create(target: &Path) -> Result<Self, RegistryError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.blob-{}", &token::random()?[..16]));
        let action = || format!("creating a temporary file beside {}", target.display());
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed(action))?;
        let mut new = Self { file: Arc::new(file), path: Some(path), end: 0 };
        new.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed(action))?;
        Ok(new)
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Writes a member, and gives the place of its content.
    fn add(&mut self, name: &str, content: &[u8]) -> io::Result<Range<u64>> {
        self.file.write_all_at(content, self.end + before(name))?;
        self.close(name, content.len() as u64)
    }

    /// Writes what is around a content of `size` bytes that was written where the next member has its own.
    fn close(&mut self, name: &str, size: u64) -> io::Result<Range<u64>> {
        let mut head = Vec::new();
        if name.len() > SHORT {
            head.extend_from_slice(header("././@LongLink", EntryType::GNULongName, name.len() as u64 + 1).as_bytes());
            head.extend_from_slice(name.as_bytes());
            head.resize(2 * BLOCK as usize, 0);
        }
        let short = &name[..name.len().min(SHORT)];
        head.extend_from_slice(header(short, EntryType::Regular, size).as_bytes());
        self.file.write_all_at(&head, self.end)?;
        let start = self.end + before(name);
        let content = start..start + size;
        let end = content.end.next_multiple_of(BLOCK);
        self.file.write_all_at(&[0; BLOCK as usize][..(end - content.end) as usize], content.end)?;
        self.end = end;
        Ok(content)
    }

    /// Appends a part of another file as a member.
    fn carry(&mut self, name: &str, from: &File, range: &Range<u64>) -> io::Result<Range<u64>> {
        let size = range.end - range.start;
        let (mut source, mut target) = (from, &*self.file);
        source.seek(SeekFrom::Start(range.start))?;
        target.seek(SeekFrom::Start(self.end + before(name)))?;
        let copied = io::copy(&mut source.take(size), &mut target)?;
        if copied < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.close(name, size)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // One that cannot be removed is found by its name.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Longer names have a member of their own before the one that they are for.
const SHORT: usize = 100;

/// How many bytes stand before the content of a member.
fn before(name: &str) -> u64 {
    if name.len() > SHORT { 3 * BLOCK } else { BLOCK }
}

/// A header for a name of at most a hundred bytes.
fn header(name: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// The name of a blob in a layout.
fn member(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl State {
    /// The new file, made if there is none yet.
    fn new_file(&mut self, target: &Path) -> Result<&mut NewFile, RegistryError> {
        let new = match self.new.take() {
            Some(new) => new,
            None => NewFile::create(target)?,
        };
        Ok(self.new.insert(new))
    }

    fn record(&mut self, digest: Digest, range: Range<u64>) {
        self.blobs.insert(digest, Extent { in_old: false, range });
        self.changed = true;
    }
}

/// Appends the source of `blob`, whose digest is checked. The caller has the turn: what is half written when this fails
/// is written over by the next.
pub(super) async fn append(inner: &Arc<Inner>, blob: &PushBlob, action: &str) -> Result<(), RegistryError> {
    let size = blob.source.size();
    let failure = |source| RegistryError::Source { action: action.to_owned(), source };
    let mut stream = blob.source.open(0..size).await.map_err(failure)?;
    let (opened, name) = (Arc::clone(inner), member(&blob.digest));
    let (file, start) = offload(move || {
        let mut state = opened.state();
        let new = state.new_file(&opened.path)?;
        Ok((Arc::clone(&new.file), new.end + before(&name)))
    })
    .await?;
    let (mut hasher, mut written, mut gathered) = (Hasher::new(blob.digest.algorithm()), 0, BytesMut::new());
    loop {
        let chunk = stream.try_next().await.map_err(failure)?;
        let end = chunk.is_none();
        gathered.extend_from_slice(&chunk.unwrap_or_default());
        if gathered.len() >= STEP || (end && !gathered.is_empty()) {
            let (piece, file, at) = (gathered.split().freeze(), Arc::clone(&file), start + written);
            written += piece.len() as u64;
            let doing = action.to_owned();
            hasher = offload(move || {
                hasher.update(&piece);
                file.write_all_at(&piece, at).map_err(failed(|| doing))?;
                Ok(hasher)
            })
            .await?;
            store::report_sent(blob, written, action)?;
        }
        if end || written + gathered.len() as u64 > size {
            break;
        }
    }
    let got = written + gathered.len() as u64;
    if got != size {
        return Err(RegistryError::SizeMismatch { action: action.into(), expected: size, got });
    }
    let got = hasher.finish();
    if got != blob.digest {
        return Err(RegistryError::DigestMismatch { action: action.into(), expected: blob.digest, got });
    }
    let (inner, digest, action) = (Arc::clone(inner), blob.digest, action.to_owned());
    offload(move || {
        let mut state = inner.state();
        let range = state.new_file(&inner.path)?.close(&member(&digest), size).map_err(failed(|| action))?;
        state.record(digest, range);
        Ok(())
    })
    .await
}

/// What stands where a file is to be, locked against others who would put theirs there.
enum Standing {
    Nothing,
    /// The lock lasts as long as this. Where locks are not to be had it is none, and the comparison of stamps is all there is.
    Locked(#[expect(dead_code, reason = "it is kept for its lock")] File),
    /// Somebody else is about to put another file there.
    Taken,
}

impl Standing {
    fn lock(path: &Path) -> io::Result<Self> {
        // What is no file is not opened: that may take for ever. Nothing is put in its place.
        let file = match path.metadata() {
            Ok(meta) if meta.is_file() => File::open(path)?,
            Ok(_) => return Ok(Self::Nothing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(error) => return Err(error),
        };
        Ok(match file.try_lock() {
            Err(TryLockError::WouldBlock) => Self::Taken,
            Ok(()) | Err(TryLockError::Error(_)) => Self::Locked(file),
        })
    }

    fn is_taken(&self) -> bool {
        matches!(self, Self::Taken)
    }
}

impl Inner {
    /// Appends content whose digest was checked. The caller has the turn.
    pub(super) fn append_bytes(&self, digest: Digest, bytes: &[u8]) -> Result<(), RegistryError> {
        let action = || format!("writing {digest} to {}", self.path.display());
        let mut state = self.state();
        let range = state.new_file(&self.path)?.add(&member(&digest), bytes).map_err(failed(action))?;
        state.record(digest, range);
        Ok(())
    }

    /// Takes over what the old file has, adds the list, and gives the file its name.
    pub(super) fn finish(&self) -> Result<(), RegistryError> {
        let action = || format!("writing {}", self.path.display());
        let mut state = self.state();
        if !state.changed || state.finished {
            return Ok(());
        }
        let before = state.old.as_ref().map(|(_, stamp)| *stamp);
        // Whoever has it ends before us, and then the file is another one.
        let standing = Standing::lock(&self.path).map_err(failed(action))?;
        let changed = || {
            let detail = "another program changed it meanwhile: do it again to add to what it has now";
            RegistryError::detailed(action(), ErrorCode::TooManyRequests, detail)
        };
        if standing.is_taken() || before != self.stamp() {
            return Err(changed());
        }
        let index = state.index.to_bytes()?;
        if index.len() as u64 > MAX_INDEX_BYTES {
            let (size, limit) = (index.len() as u64, MAX_INDEX_BYTES);
            return Err(RegistryError::TooLarge { action: action(), size, limit });
        }
        let mut kept: Vec<(Digest, Range<u64>)> =
            state.blobs.iter().filter(|(_, at)| at.in_old).map(|(digest, at)| (*digest, at.range.clone())).collect();
        kept.sort_by_key(|(_, range)| range.start);
        let old = state.old.as_ref().map(|(file, _)| Arc::clone(file));
        for (digest, range) in kept {
            let Some(old) = &old else { break };
            let range = state.new_file(&self.path)?.carry(&member(&digest), old, &range).map_err(failed(action))?;
            state.record(digest, range);
        }
        let new = state.new_file(&self.path)?;
        let write = |new: &mut NewFile| {
            new.add("index.json", &index)?;
            new.file.write_all_at(&[0; 2 * BLOCK as usize], new.end)?;
            new.file.set_len(new.end + 2 * BLOCK)?;
            new.file.sync_all()
        };
        write(new).map_err(failed(action))?;
        // Carrying took its time, and not everybody locks.
        if before != self.stamp() {
            return Err(changed());
        }
        if let Some(path) = &new.path {
            match standing {
                Standing::Nothing => publish_new(&new.file, path, &self.path),
                _ => publish(&new.file, path, &self.path),
            }
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => changed(),
                _ => failed(action)(error),
            })?;
        }
        new.path = None;
        state.finished = true;
        Ok(())
    }

    /// That of what stands there now; an empty file is as good as none.
    fn stamp(&self) -> Option<Stamp> {
        Stamp::of(&self.path).ok().filter(|stamp| stamp.size() > 0)
    }
}
