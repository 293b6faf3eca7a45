//! The threads that read, hash and compress files.
//!
//! A file up to 8 MiB is read whole and handed over as it is to be stored. A larger one is handed over in pieces while
//! it is read, so that it never stands in memory.

use std::fs::File;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256 as Hasher};

use super::content::{Contents, Known, Sha256};
use super::error::{Change, CreateError};
use super::follow::Source;
use super::idle::room_for;
use super::opened::{CHUNK, Opened};
use super::options::CreateOptions;
use super::queue::{Queue, StopOnPanic, Turn};
use super::walk::Found;
use crate::codec::{DecodeError, Encoder, SMALL};
use crate::entry::Compression;

/// Pieces of a large file on their way from the reader to the writer.
const PIECES: usize = 4;

/// Compressed bytes are sent on from here, so that pieces are worth a write.
const WORTH_SENDING: usize = 256 << 10;

/// A piece is sent at least this often, in bytes read, however little it compresses to: progress and cancellation
/// depend on it.
const HEARTBEAT: u64 = 8 << 20;

/// Threads inside the encoder of a large file.
const MAX_ENCODER_THREADS: usize = 8;

/// What becomes of a file.
pub(super) enum Outcome {
    /// It has no content.
    Empty,
    /// It is another name of a file before it.
    Link,
    /// Its content is that of a file before it.
    Copy,
    /// What is to be stored is the first `length` bytes of `buffer`.
    Small { buffer: Vec<u8>, length: usize, compression: Compression, reserved: u64 },
    /// It comes in pieces.
    Large(Stream),
}

/// A large file on its way.
pub(super) struct Stream {
    pub(super) compression: Compression,
    /// Ends with [`Piece::End`]; if not, the reader failed.
    pub(super) pieces: Receiver<Piece>,
    /// Takes buffers back.
    pub(super) spare: Sender<Vec<u8>>,
}

pub(super) enum Piece {
    /// Bytes to be stored, and how many bytes of the file have been read.
    Stored { bytes: Vec<u8>, read: u64 },
    /// The file is complete and has this digest.
    End(Sha256),
}

/// Where the contents of files are.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// In files beneath this directory, by their paths, and where links lead that are followed.
    Directory(Source<'a>),
    /// Behind one another in this file, where the stamp of each says.
    Spool(&'a File),
}

/// What the threads work on.
pub(super) struct Job<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) files: &'a [Found],
    pub(super) options: &'a CreateOptions,
    pub(super) known: Known,
    pub(super) contents: Mutex<Contents>,
    pub(super) queue: Queue,
    /// The encoder for large files, which is used by one thread at a time.
    large_encoder: Mutex<Option<Encoder>>,
}

impl<'a> Job<'a> {
    pub(super) fn new(origin: Origin<'a>, files: &'a [Found], options: &'a CreateOptions) -> Self {
        Self {
            origin,
            files,
            options,
            known: Known::of(files),
            contents: Mutex::new(Contents::new(files.len())),
            queue: Queue::new(files.len(), options.memory),
            large_encoder: Mutex::new(None),
        }
    }

    pub(super) fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until no file is left or all is over.
    pub(super) fn work(&self) {
        let _guard = StopOnPanic(&self.queue);
        let mut encoder = None;
        while let Some(turn) = self.queue.admit(|file| self.cost(file)) {
            let file = turn.file;
            if let Err(error) = self.encode(&turn, &mut encoder) {
                self.queue.fail(file, error);
            }
        }
    }

    /// The bytes that a file may need at a time: its content, and as much again to compress it. `None` for large ones.
    fn cost(&self, file: usize) -> Option<u64> {
        let size = self.files[file].stamp.size;
        if self.known.link(file).is_some() {
            return Some(0);
        }
        let buffers = if self.options.compression == Compression::Zstd { 2 } else { 1 };
        (size <= SMALL).then(|| buffers * room_for(size))
    }

    fn encode(&self, turn: &Turn, encoder: &mut Option<Encoder>) -> Result<(), CreateError> {
        let (file, reserved) = (turn.file, turn.reserved);
        let found = &self.files[file];
        if self.known.link(file).is_some() {
            self.queue.deposit(file, Outcome::Link);
            self.queue.release(reserved);
            return Ok(());
        }
        let open = Opened::new(self.origin, found, self.options.change_detection)?;
        if found.stamp.size > SMALL {
            self.large(turn, &open, encoder)?;
            self.queue.release(reserved);
            return Ok(());
        }
        if found.stamp.size == 0 {
            open.check_empty()?;
            open.check_unchanged()?;
            self.contents().set(file, Hasher::digest(b"").into());
            self.queue.deposit(file, Outcome::Empty);
            self.queue.release(reserved);
            return Ok(());
        }
        self.small(turn, &open, encoder)
    }

    fn small(&self, turn: &Turn, open: &Opened<'_>, encoder: &mut Option<Encoder>) -> Result<(), CreateError> {
        let (queue, path, size) = (&self.queue, open.path(), open.size());
        let room = room_for(size);
        let mut buffer = queue.buffer(size);
        let content = &mut buffer[..size as usize];
        open.read_at(content, 0)?;
        open.check_unchanged()?;
        let digest: Sha256 = Hasher::digest(&*content).into();
        if self.contents().claim(turn.file, digest) < turn.file {
            queue.deposit(turn.file, Outcome::Copy);
            queue.recycle(buffer, turn.reserved);
            return Ok(());
        }
        let mut compressed = None;
        if self.options.compresses(path, size) {
            let mut target = queue.buffer(size);
            let encoder =
                ready(encoder, || Encoder::new(self.options.level)).map_err(|error| codec_error(path, error))?;
            let frame = encoder.encode(content, &mut target).map_err(|error| codec_error(path, error))?;
            match frame.map(<[u8]>::len) {
                Some(length) => compressed = Some((target, length)),
                None => queue.recycle(target, 0),
            }
        }
        let outcome = if let Some((target, length)) = compressed {
            queue.recycle(buffer, turn.reserved - room);
            Outcome::Small { buffer: target, length, compression: Compression::Zstd, reserved: room }
        } else {
            if turn.reserved > room {
                queue.release(turn.reserved - room);
            }
            Outcome::Small { buffer, length: size as usize, compression: Compression::None, reserved: room }
        };
        queue.deposit(turn.file, outcome);
        Ok(())
    }

    /// Streams a large file once its turn has come; one that may equal another is hashed before that.
    fn large(&self, turn: &Turn, open: &Opened<'_>, encoder: &mut Option<Encoder>) -> Result<(), CreateError> {
        let mut expected = None;
        if self.known.may_have_twin(open.size()) {
            let Some(digest) = self.hash(open)? else { return Ok(()) };
            expected = Some(digest);
            if self.contents().claim(turn.file, digest) < turn.file {
                self.queue.deposit(turn.file, Outcome::Copy);
                // Others wait for this one's turn to be over.
                drop(self.queue.lane(turn.ticket));
                return Ok(());
            }
        }
        let Some(lane) = self.queue.lane(turn.ticket) else { return Ok(()) };
        let compression = self.large_compression(open, encoder)?;
        let ((sender, pieces), (spare, spares)) = (sync_channel(PIECES), channel());
        self.queue.deposit(turn.file, Outcome::Large(Stream { compression, pieces, spare }));
        let mut out = Out { sender, spares, read: 0, sent: 0 };
        let digest = match compression {
            Compression::None => self.copy(open, &mut out)?,
            Compression::Zstd => self.compress(open, &mut out)?,
        };
        drop(lane);
        let Some(digest) = digest else { return Ok(()) };
        open.check_unchanged()?;
        if expected.is_some_and(|expected| expected != digest) {
            return Err(CreateError::changed(open.path(), Change::Rewritten));
        }
        // The writer may have gone away: then all is over, or another file turned out to have the same content.
        let _ = out.sender.send(Piece::End(digest));
        Ok(())
    }

    /// Whether a large file's beginning gets smaller by a thirty-second at least.
    fn large_compression(&self, open: &Opened<'_>, encoder: &mut Option<Encoder>) -> Result<Compression, CreateError> {
        let path = open.path();
        if !self.options.compresses(path, open.size()) {
            return Ok(Compression::None);
        }
        let mut content = vec![0; CHUNK];
        open.read_at(&mut content, 0)?;
        let encoder = ready(encoder, || Encoder::new(self.options.level)).map_err(|error| codec_error(path, error))?;
        let mut scratch = Vec::new();
        let frame = encoder.encode(&content, &mut scratch).map_err(|error| codec_error(path, error))?;
        let pays = frame.is_some_and(|frame| frame.len() <= CHUNK / 32 * 31);
        Ok(if pays { Compression::Zstd } else { Compression::None })
    }

    /// The digest of a large file; `None` when all is over.
    fn hash(&self, open: &Opened<'_>) -> Result<Option<Sha256>, CreateError> {
        let (mut hasher, mut chunk) = (Hasher::new(), vec![0; CHUNK]);
        for (offset, length) in open.chunks() {
            if self.queue.is_stopped() {
                return Ok(None);
            }
            open.read_at(&mut chunk[..length], offset)?;
            hasher.update(&chunk[..length]);
        }
        open.check_unchanged()?;
        Ok(Some(hasher.finalize().into()))
    }

    /// Sends a large file as it is; `None` when nobody wants it any more.
    fn copy(&self, open: &Opened<'_>, out: &mut Out) -> Result<Option<Sha256>, CreateError> {
        let mut hasher = Hasher::new();
        for (offset, length) in open.chunks() {
            let mut chunk = out.spare();
            chunk.resize(length, 0);
            open.read_at(&mut chunk, offset)?;
            hasher.update(&chunk);
            out.read = offset + length as u64;
            if self.queue.is_stopped() || !out.send(chunk) {
                return Ok(None);
            }
        }
        Ok(Some(hasher.finalize().into()))
    }

    /// Sends a large file compressed; `None` when nobody wants it any more.
    fn compress(&self, open: &Opened<'_>, out: &mut Out) -> Result<Option<Sha256>, CreateError> {
        let size = open.size();
        let mut encoder = self.large_encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| codec_error(open.path(), error);
        let encoder = ready(&mut encoder, || self.threaded_encoder()).map_err(failed)?;
        encoder.begin(size).map_err(failed)?;
        let (mut hasher, mut chunk, mut stored) = (Hasher::new(), vec![0; CHUNK], out.spare());
        for (offset, length) in open.chunks() {
            let chunk = &mut chunk[..length];
            open.read_at(chunk, offset)?;
            out.read = offset + length as u64;
            encoder.stream(chunk, out.read == size, &mut stored).map_err(failed)?;
            // The encoder's threads are at work on the chunk meanwhile.
            hasher.update(chunk);
            if self.queue.is_stopped() {
                return Ok(None);
            }
            if out.is_due(stored.len()) || out.read == size {
                if !out.send(stored) {
                    return Ok(None);
                }
                stored = out.spare();
            }
        }
        Ok(Some(hasher.finalize().into()))
    }

    /// Frames made with threads differ from those made without, but not by the number of threads: so there is always
    /// one at least.
    fn threaded_encoder(&self) -> Result<Encoder, DecodeError> {
        let mut encoder = Encoder::new(self.options.level)?;
        encoder.set_workers(self.options.thread_count().min(MAX_ENCODER_THREADS) as u32)?;
        Ok(encoder)
    }
}

/// Where the pieces of a large file go.
struct Out {
    sender: SyncSender<Piece>,
    spares: Receiver<Vec<u8>>,
    /// Bytes of the file read, and those of them that the writer knows of.
    read: u64,
    sent: u64,
}

impl Out {
    /// An empty buffer, used before if there is one.
    fn spare(&self) -> Vec<u8> {
        let mut spare = self.spares.try_recv().unwrap_or_default();
        spare.clear();
        spare
    }

    fn is_due(&self, bytes: usize) -> bool {
        bytes >= WORTH_SENDING || self.read - self.sent >= HEARTBEAT
    }

    /// Sends `bytes`, waiting while the writer is behind; tells whether it wants more.
    fn send(&mut self, bytes: Vec<u8>) -> bool {
        self.sent = self.read;
        self.sender.send(Piece::Stored { bytes, read: self.read }).is_ok()
    }
}

/// The encoder, made when it is first needed.
fn ready(
    encoder: &mut Option<Encoder>,
    make: impl FnOnce() -> Result<Encoder, DecodeError>,
) -> Result<&mut Encoder, DecodeError> {
    match encoder {
        Some(encoder) => Ok(encoder),
        none => Ok(none.insert(make()?)),
    }
}

fn codec_error(path: &[u8], source: DecodeError) -> CreateError {
    CreateError::Codec { path: path.into(), source: Box::new(source) }
}
