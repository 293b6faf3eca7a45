//! The calling thread's part: writing the results in order, each content once.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::content::Sha256;
use super::encode::{Job, Outcome, Piece, Stream};
use super::error::CreateError;
use super::report::CreateReport;
use crate::digest::{Digest, Hasher};
use crate::entry::Compression;
use crate::progress::Event;

/// Small contents are gathered to writes of this size: 256 KiB.
const GATHER: usize = 256 << 10;

/// Buffers are given back so many at a time.
const BATCH: usize = 32;

/// Where a file's content stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) compression: Compression,
    pub(super) digest: Sha256,
}

/// Why nothing more is written.
pub(super) enum Stop {
    /// It failed here.
    Failed(CreateError),
    /// A thread stopped; it knows why.
    Elsewhere,
}

impl From<CreateError> for Stop {
    fn from(error: CreateError) -> Self {
        Self::Failed(error)
    }
}

/// What was written.
pub(super) struct Committed {
    pub(super) placements: Vec<Placement>,
    pub(super) data_size: u64,
    pub(super) data_digest: Digest,
}

/// Writes everything that the threads hand over to `data`.
pub(super) fn commit(job: &Job<'_>, data: &mut dyn Write, report: &mut CreateReport) -> Result<Committed, Stop> {
    let placements = Vec::with_capacity(job.files.len());
    let bytes_total = job.files.iter().map(|file| file.stamp.size).sum();
    let mut commit = Commit { job, sink: Sink::new(data), placements, used: Vec::new(), bytes: 0, bytes_total, report };
    let mut outcomes = VecDeque::new();
    for file in 0..job.files.len() {
        let outcome = match outcomes.pop_front() {
            Some(outcome) => outcome,
            None => commit.wait(&mut outcomes)?,
        };
        let placement = commit.place(file, outcome)?;
        commit.placements.push(placement);
        commit.bytes += job.files[file].stamp.size;
        commit.progress(file, file as u64 + 1, 0)?;
    }
    commit.report.stored_bytes = commit.sink.written;
    // Some registries, and other implementations, cannot handle an empty blob.
    if commit.sink.written == 0 {
        commit.sink.write(&[0])?;
    }
    let placements = commit.placements;
    let (data_size, data_digest) = commit.sink.finish()?;
    Ok(Committed { placements, data_size, data_digest })
}

struct Commit<'a, 'w> {
    job: &'a Job<'a>,
    sink: Sink<'w>,
    placements: Vec<Placement>,
    /// Buffers to be given back, all at once.
    used: Vec<(Vec<u8>, u64)>,
    bytes: u64,
    bytes_total: u64,
    report: &'a mut CreateReport,
}

impl Commit<'_, '_> {
    /// Gives back what was used, and waits for more.
    fn wait(&mut self, outcomes: &mut VecDeque<Outcome>) -> Result<Outcome, Stop> {
        self.job.queue.recycle_all(&mut self.used);
        if !self.job.queue.next_outcomes(outcomes) {
            return Err(Stop::Elsewhere);
        }
        outcomes.pop_front().ok_or(Stop::Elsewhere)
    }

    fn place(&mut self, file: usize, outcome: Outcome) -> Result<Placement, Stop> {
        match outcome {
            Outcome::Empty => {
                let (offset, digest) = (self.sink.written, self.job.contents().digest(file));
                Ok(Placement { offset, size: 0, compression: Compression::None, digest })
            }
            Outcome::Link => {
                let first = self.job.known.link(file).expect("the thread found it to be a link");
                self.report.hard_linked += 1;
                self.report.deduplicated_bytes += self.job.files[file].stamp.size;
                Ok(self.placements[first])
            }
            Outcome::Copy => {
                let first = self.job.contents().first(file);
                Ok(self.copy(file, first))
            }
            Outcome::Small { buffer, length, compression, reserved } => {
                let (first, digest) = {
                    let contents = self.job.contents();
                    (contents.first(file), contents.digest(file))
                };
                // Its thread may have been faster than the one that had the same content in an earlier file.
                let placement = if first < file {
                    self.copy(file, first)
                } else {
                    let offset = self.sink.written;
                    self.sink.write(&buffer[..length])?;
                    self.count(compression);
                    Placement { offset, size: length as u64, compression, digest }
                };
                self.used.push((buffer, reserved));
                if self.used.len() == BATCH {
                    self.job.queue.recycle_all(&mut self.used);
                }
                Ok(placement)
            }
            Outcome::Large(stream) => {
                let first = self.job.contents().first(file);
                if first < file { Ok(self.copy(file, first)) } else { self.stream(file, &stream) }
            }
        }
    }

    fn copy(&mut self, file: usize, first: usize) -> Placement {
        self.report.deduplicated += 1;
        self.report.deduplicated_bytes += self.job.files[file].stamp.size;
        self.placements[first]
    }

    fn count(&mut self, compression: Compression) {
        match compression {
            Compression::None => self.report.stored_raw += 1,
            Compression::Zstd => self.report.compressed += 1,
        }
    }

    /// Writes a large file as it comes in.
    fn stream(&mut self, file: usize, stream: &Stream) -> Result<Placement, Stop> {
        let (offset, compression) = (self.sink.written, stream.compression);
        loop {
            match stream.pieces.recv() {
                Ok(Piece::Stored { bytes, read }) => {
                    self.sink.write(&bytes)?;
                    // The reader may be done and gone, with no more use for it.
                    let _ = stream.spare.send(bytes);
                    self.progress(file, file as u64, read)?;
                }
                Ok(Piece::End(digest)) => {
                    self.job.contents().set(file, digest);
                    self.count(compression);
                    return Ok(Placement { offset, size: self.sink.written - offset, compression, digest });
                }
                Err(_) => return Err(Stop::Elsewhere),
            }
        }
    }

    /// Tells that `files` files are done, and `read` bytes of the one after them.
    fn progress(&self, file: usize, files: u64, read: u64) -> Result<(), CreateError> {
        let event = Event::Archived {
            path: self.job.files[file].path.as_bytes(),
            files,
            files_total: self.job.files.len() as u64,
            bytes: self.bytes + read,
            bytes_total: self.bytes_total,
        };
        if self.job.options.progress.event(&event).is_break() { Err(CreateError::Cancelled) } else { Ok(()) }
    }
}

/// The data blob: counts, hashes, and gathers small writes.
struct Sink<'w> {
    data: &'w mut dyn Write,
    hasher: Hasher,
    gathered: Vec<u8>,
    /// Bytes taken, gathered ones among them.
    written: u64,
}

impl<'w> Sink<'w> {
    fn new(data: &'w mut dyn Write) -> Self {
        Self { data, hasher: Hasher::sha256(), gathered: Vec::with_capacity(GATHER), written: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CreateError> {
        self.written += bytes.len() as u64;
        if bytes.len() > GATHER - self.gathered.len() {
            self.flush()?;
        }
        if bytes.len() < GATHER {
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        self.hasher.update(bytes);
        self.data.write_all(bytes).map_err(data_error)
    }

    fn flush(&mut self) -> Result<(), CreateError> {
        self.hasher.update(&self.gathered);
        self.data.write_all(&self.gathered).map_err(data_error)?;
        self.gathered.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(u64, Digest), CreateError> {
        self.flush()?;
        self.data.flush().map_err(data_error)?;
        Ok((self.written, self.hasher.finish()))
    }
}

fn data_error(source: io::Error) -> CreateError {
    CreateError::Write { what: "data", source }
}
