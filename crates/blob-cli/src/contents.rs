//! Reading files for mounts and sites: each is fetched once for all who want it, verified whole, and held within bounds.

mod args;
mod failed;
mod held;
mod room;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blob::Archive;
use blob::core::archive::EntryStream;
use blob::core::codec::SMALL;
use blob::core::{Entry, Node, NodeId};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OnceCell, Semaphore};

pub(crate) use self::args::RoomArgs;
use self::failed::Failed;
pub(crate) use self::held::{Content, Spooled};
use self::held::{Held, Key, Place};
use self::room::{Room, Taken};
use crate::error::{Failure, Kind};
use crate::ui::escape::shown;

/// What is counted when small files are on their way: 256 KiB.
const UNIT: u64 = 256 << 10;
/// So many large files are on their way at a time; each takes some 20 MiB of memory, however large it is.
const LARGE_AT_A_TIME: usize = 3;
/// Less memory than this would let files of 8 MiB push each other out while they are read.
const LEAST_MEMORY: u64 = 64 << 20;

/// What contents may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of contents in memory; a quarter is for those on their way.
    pub(crate) memory: u64,
    /// Bytes of large files on disk.
    pub(crate) disk: u64,
    /// How long a read waits for room that others have; for as long as it takes by `None`, where readers do not dawdle.
    pub(crate) patience: Option<Duration>,
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It could not be had.
    Failed,
    /// It is not what the index promises.
    Damaged,
    /// There is no room for it on disk.
    NoRoom,
    /// Those who are reading have all the room there is.
    Busy,
}

/// A read that is under way, and what came of it.
type Flight = Arc<OnceCell<Result<Content, Unreadable>>>;

/// Files as they are read.
#[derive(Debug)]
pub(crate) struct Contents {
    archive: Archive,
    bounds: Bounds,
    spool_dir: PathBuf,
    held: Mutex<Held>,
    failed: Mutex<Failed>,
    flying: Mutex<HashMap<Key, Flight>>,
    /// Room for small files that are on their way, in units.
    small: Semaphore,
    units: u64,
    /// Turns of large files, behind which no small one waits.
    large: Semaphore,
    /// Room for contents, of which all have their part that are held or read by somebody.
    memory: Room,
    disk: Room,
}

impl Contents {
    pub(crate) fn new(archive: Archive, bounds: Bounds, spool_dir: PathBuf) -> Self {
        let memory = bounds.memory.max(LEAST_MEMORY);
        let units = (memory / 4 / UNIT).min(u64::from(u32::MAX) >> 4);
        Self {
            archive,
            bounds,
            spool_dir,
            held: Mutex::default(),
            failed: Mutex::default(),
            flying: Mutex::default(),
            small: Semaphore::new(units as usize),
            units,
            large: Semaphore::new(LARGE_AT_A_TIME),
            memory: Room::new(memory / 4 * 3),
            disk: Room::new(bounds.disk),
        }
    }

    /// The content of `entry`, if it is held.
    pub(crate) fn held(&self, entry: &Entry<'_>) -> Option<Content> {
        self.lock().find(&Key::of(entry))
    }

    /// The content of the file with the number `id`, verified. Of those who want it at the same time one reads; a
    /// failure is shared by them, and by who asks within the next [seconds](Failed), and told once.
    pub(crate) async fn read(&self, id: NodeId) -> Result<Content, Unreadable> {
        let Some(Node::File(entry)) = self.archive.index().by_id(id) else { return Err(Unreadable::Failed) };
        let key = Key::of(&entry);
        let flight = {
            let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
            // What landed is held, or known to have failed, before it is off the list.
            if let Some(content) = self.lock().find(&key) {
                return Ok(content);
            }
            if let Some(why) = self.failures().find(&key, Instant::now()) {
                return Err(why);
            }
            Arc::clone(flying.entry(key).or_default())
        };
        let landed = flight.get_or_init(|| async {
            let outcome = self.fetch(entry, key).await;
            if let Err(why) = &outcome {
                self.failures().put(key, *why, Instant::now());
            }
            self.flying.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            outcome
        });
        landed.await.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, entry: Entry<'_>, key: Key) -> Result<Content, Unreadable> {
        let turn = if entry.original_size().max(entry.data_size()) > SMALL {
            self.large.acquire().await
        } else {
            let units = (entry.original_size() + entry.data_size()).div_ceil(UNIT).clamp(1, self.units);
            self.small.acquire_many(units as u32).await
        };
        // Nobody closes the semaphores.
        let _turn = turn.map_err(|_| Unreadable::Failed)?;
        let stream = self.archive.stream(entry.path()).await.map_err(|error| refuse(entry.path(), &error.into()))?;
        let content = if stream.is_provisional() {
            self.spool(entry, stream).await?
        } else {
            let gathered = gather(stream).await;
            let bytes = gathered.map_err(|error| refuse(entry.path(), &error.into()))?;
            let room = self.take(Place::Memory, Content::cost(&bytes), entry.path()).await?;
            Content::memory(bytes, room)
        };
        self.lock().put(key, content.clone());
        Ok(content)
    }

    /// Writes a large file to one without a name; it is given to nobody before its end was reached and was right.
    async fn spool(&self, entry: Entry<'_>, stream: EntryStream) -> Result<Content, Unreadable> {
        let (path, size) = (entry.path(), entry.original_size());
        if size > self.bounds.disk {
            let message = format!("it has {size} bytes, and --spool-size allows {}", self.bounds.disk);
            return Err(refuse(path, &Failure::usage(message))).map_err(|_| Unreadable::NoRoom);
        }
        let room = self.take(Place::Disk, size, path).await?;
        match write(&self.spool_dir, stream, size).await {
            Ok(file) => Ok(Content::disk(file, size, room)),
            Err(Spooling::Read(failure)) => Err(refuse(path, &failure)),
            Err(Spooling::Write(error)) => {
                let message = format!("writing it to a temporary file in {}", self.spool_dir.display());
                let failure = Failure::io(message, &error);
                Err(refuse(path, &failure)).map_err(|failed| no_room(&error).unwrap_or(failed))
            }
        }
    }

    /// Takes room for a file, of what is held if need be, and waits for those who read.
    async fn take(&self, place: Place, size: u64, path: &[u8]) -> Result<Taken, Unreadable> {
        let room = match place {
            Place::Memory => &self.memory,
            Place::Disk => &self.disk,
        };
        let taken = async {
            loop {
                let mut freed = std::pin::pin!(room.freed().notified());
                freed.as_mut().enable();
                if let Some(taken) = room.take(size) {
                    return taken;
                }
                if self.lock().evict(place).is_none() {
                    freed.await;
                }
            }
        };
        let Some(patience) = self.bounds.patience else { return Ok(taken.await) };
        tokio::time::timeout(patience, taken).await.map_err(|_| {
            tracing::warn!("cannot read {}: those who read other files have all the room", shown(path));
            Unreadable::Busy
        })
    }
}

/// Why a large file is not on disk.
enum Spooling {
    Read(Failure),
    Write(io::Error),
}

async fn write(dir: &Path, mut stream: EntryStream, size: u64) -> Result<File, Spooling> {
    let dir = dir.to_owned();
    let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(dir)).await;
    let made = made.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).map_err(Spooling::Write)?;
    let mut file = tokio::fs::File::from_std(made);
    let mut left = size;
    while let Some(chunk) = stream.try_next().await.map_err(|error| Spooling::Read(error.into()))? {
        left = left.saturating_sub(chunk.len() as u64);
        file.write_all(&chunk).await.map_err(Spooling::Write)?;
    }
    file.flush().await.map_err(Spooling::Write)?;
    debug_assert_eq!(left, 0, "a stream that ends well has given everything");
    Ok(file.into_std().await)
}

/// A small file, which is verified before the stream gives anything of it.
async fn gather(mut stream: EntryStream) -> Result<Bytes, blob::core::ReadError> {
    let first = stream.try_next().await?.unwrap_or_default();
    let Some(second) = stream.try_next().await? else { return Ok(first) };
    let mut all = BytesMut::from(&first[..]);
    all.extend_from_slice(&second);
    while let Some(chunk) = stream.try_next().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

/// Says why a file cannot be read: whoever reads it learns only that it cannot.
fn refuse(path: &[u8], failure: &Failure) -> Unreadable {
    tracing::error!("cannot read {}: {}", shown(path), failure.sentence());
    if failure.kind == Kind::HashMismatch { Unreadable::Damaged } else { Unreadable::Failed }
}

fn no_room(error: &io::Error) -> Option<Unreadable> {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    full.then_some(Unreadable::NoRoom)
}
