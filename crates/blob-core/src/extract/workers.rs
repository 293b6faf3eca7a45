//! The threads of an extraction: decode, verify, write.

mod cached;
mod linked;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

use super::again::Again;
use super::fill::Fill;
use super::link::{Job, Link};
use super::plan::Batch;
use super::run::Prepared;
use super::select::Placed;
use super::sink::{Finished, Handles, OutFile, Publish, Root, Scan, io_error};
use super::{Existing, ExtractError, ExtractOptions, FromCache};
use crate::codec::{self, DecodeError, Decoder, Expected, SMALL, StreamDecoder};
use crate::entry::{Compression, Entry};
use crate::error::ReadError;
use crate::progress::Event;
use crate::source::{Local, SourceError};

/// How much of a large file is read from disk at once: 1 MiB.
const STEP: u64 = 1 << 20;

/// What the threads share.
pub(super) struct Workshop<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) root: &'a Root,
    pub(super) publish: Publish,
    pub(super) options: &'a ExtractOptions,
    pub(super) link: &'a Link,
    /// Whether jobs come from the link; otherwise everything is at hand, and `next` counts what was taken.
    pub(super) fed: bool,
    pub(super) next: AtomicUsize,
    pub(super) tally: &'a Tally,
    /// Where verified content is kept.
    pub(super) fill: Option<&'a Fill>,
    /// Whom to ask for other bytes when those that came were wrong.
    pub(super) again: Option<&'a Again>,
    /// The permissions that new files do not get, as far as that has to be known.
    pub(super) umask: Option<u32>,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) cached: AtomicU64,
    pub(super) cached_bytes: AtomicU64,
    pub(super) linked: AtomicU64,
    /// Files that somebody else put there meanwhile.
    pub(super) occupied: std::sync::Mutex<Vec<Placed>>,
}

/// One thread's tools.
struct Worker<'a> {
    shop: &'a Workshop<'a>,
    handles: Handles<'a>,
    decoder: Decoder,
    stored: Vec<u8>,
    content: Vec<u8>,
}

/// What `content` holds, or that the stored bytes are it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verified {
    Stored,
    Decoded,
}

impl Workshop<'_> {
    /// The umask, for links: what is created has it applied by the system.
    pub(super) fn umask_for(options: &ExtractOptions) -> Option<u32> {
        (options.from_cache == FromCache::HardLink).then(linked::umask).flatten()
    }

    /// Works until there is nothing left, or something failed: the link then knows.
    pub(super) fn work(&self) {
        let _stop = StopOnPanic(self.link);
        let mut worker = Worker {
            shop: self,
            handles: Handles::new(self.root, &self.prepared.tree),
            decoder: Decoder::new(self.prepared.tree.archive.options().limits.decode),
            stored: Vec::new(),
            content: Vec::new(),
        };
        let result = if self.fed { worker.fed() } else { worker.at_hand() };
        match result {
            Ok(()) => {}
            // Somebody else knows why.
            Err(ExtractError::Cancelled) => self.link.cancel(),
            Err(error) => self.link.fail(error),
        }
    }

    fn check(&self) -> Result<(), ExtractError> {
        if self.link.is_cancelled() { Err(ExtractError::Cancelled) } else { Ok(()) }
    }
}

impl Worker<'_> {
    fn fed(&mut self) -> Result<(), ExtractError> {
        let plan = &self.shop.prepared.plan;
        while let Some(job) = self.shop.link.pop() {
            match job {
                Job::Batch { at, bytes, permit } => {
                    self.batch(&plan.batches[at], &bytes)?;
                    // The bytes go first: the permit says that they are gone.
                    drop(bytes);
                    drop(permit);
                }
                Job::Cached { at, content, right } => {
                    let was_right = self.cached(&plan.asked[at], &*content)?;
                    // The file is closed before the next one is asked for. The async side may be gone.
                    drop(content);
                    let _ = right.send(was_right);
                }
                Job::Large { at, bytes, permit } => {
                    let large = &plan.larges[at];
                    let result = self.large(large, |_, take| {
                        while let Some(chunk) = bytes.read().map_err(|_| ExtractError::Cancelled)? {
                            take(&chunk)?;
                        }
                        Ok(())
                    });
                    drop(bytes);
                    drop(permit);
                    if let Err(error) = result {
                        self.large_again(large, error)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn at_hand(&mut self) -> Result<(), ExtractError> {
        let plan = &self.shop.prepared.plan;
        loop {
            let at = self.shop.next.fetch_add(1, Ordering::Relaxed);
            if let Some(large) = plan.larges.get(at) {
                self.local_large(large)?;
            } else if let Some(batch) = plan.batches.get(at - plan.larges.len()) {
                self.local_batch(batch)?;
            } else {
                return Ok(());
            }
        }
    }

    fn local_batch(&mut self, batch: &Batch) -> Result<(), ExtractError> {
        let (start, end) = (batch.range.start, batch.range.end);
        match self.shop.prepared.source().local() {
            Some(Local::Bytes(bytes)) => {
                let bytes = Bytes::clone(bytes);
                self.batch(batch, &bytes[start as usize..end as usize])
            }
            Some(Local::File { .. }) => {
                let mut stored = std::mem::take(&mut self.stored);
                stored.resize((end - start) as usize, 0);
                let read = self.pread(&mut stored, start).map_err(|source| self.unreadable(batch, source));
                let result = read.and_then(|()| self.batch(batch, &stored));
                self.stored = stored;
                result
            }
            None => Err(self.not_local(batch)),
        }
    }

    fn local_large(&mut self, batch: &Batch) -> Result<(), ExtractError> {
        let (mut at, end) = (batch.range.start, batch.range.end);
        match self.shop.prepared.source().local() {
            Some(Local::Bytes(bytes)) => {
                let bytes = bytes.slice(at as usize..end as usize);
                self.large(batch, |_, take| bytes.chunks(STEP as usize).try_for_each(take))
            }
            Some(Local::File { .. }) => {
                let mut stored = std::mem::take(&mut self.stored);
                let result = self.large(batch, |worker, take| {
                    while at < end {
                        stored.resize(STEP.min(end - at) as usize, 0);
                        worker.pread(&mut stored, at).map_err(|source| worker.unreadable(batch, source))?;
                        take(&stored)?;
                        at += stored.len() as u64;
                    }
                    Ok(())
                });
                self.stored = stored;
                result
            }
            None => Err(self.not_local(batch)),
        }
    }

    fn pread(&self, buffer: &mut [u8], at: u64) -> Result<(), SourceError> {
        use std::os::unix::fs::FileExt as _;
        let source = self.shop.prepared.source();
        let Some(Local::File { file, offset }) = source.local() else { return Ok(()) };
        file.read_exact_at(buffer, offset + at).map_err(|error| SourceError::Io {
            id: source.id().clone(),
            offset: at,
            source: error,
        })
    }

    fn unreadable(&self, batch: &Batch, source: SourceError) -> ExtractError {
        ReadError::Source { path: self.first_path(batch), source }.into()
    }

    fn not_local(&self, batch: &Batch) -> ExtractError {
        ReadError::NotLocal { path: self.first_path(batch) }.into()
    }

    fn first_path(&self, batch: &Batch) -> Box<[u8]> {
        let prepared = self.shop.prepared;
        prepared.tree.path(prepared.plan.files[batch.members.start]).into()
    }

    /// Decodes, verifies and writes the files of a batch, one after the other.
    fn batch(&mut self, batch: &Batch, bytes: &[u8]) -> Result<(), ExtractError> {
        let prepared = self.shop.prepared;
        // What the buffer holds: files that share bytes stand side by side, and are decoded once.
        let mut last: Option<(Entry<'_>, Verified)> = None;
        // What came instead of the bytes of `last`, if those were wrong.
        let mut other: Option<Bytes> = None;
        for &placed in &prepared.plan.files[batch.members.clone()] {
            self.shop.check()?;
            let entry = prepared.tree.entry(placed);
            let stored = match entry.data_size() {
                0 => &[][..],
                size => {
                    let start = (entry.data_offset() - batch.range.start) as usize;
                    &bytes[start..start + size as usize]
                }
            };
            let verified = match last {
                Some((before, verified)) if is_same(&before, &entry) => verified,
                _ => {
                    other = None;
                    match self.verify(&entry, stored) {
                        Ok(verified) => verified,
                        Err(error) => {
                            let bytes = self.again(&entry, &error).ok_or_else(|| damaged(&entry, error))?;
                            let bytes = &*other.insert(bytes);
                            self.verify(&entry, bytes).map_err(|source| damaged(&entry, source))?
                        }
                    }
                }
            };
            let content = match verified {
                Verified::Stored => other.as_deref().unwrap_or(stored),
                Verified::Decoded => &self.content,
            };
            if let (Some(fill), None) = (self.shop.fill, last.filter(|(before, _)| is_same(before, &entry))) {
                fill.offer(entry.digest(), content);
            }
            last = Some((entry, verified));
            write_small(self.shop, &mut self.handles, placed, content)?;
        }
        Ok(())
    }

    fn verify(&mut self, entry: &Entry<'_>, stored: &[u8]) -> Result<Verified, DecodeError> {
        let expected = Expected::from(entry);
        if expected.compression == Compression::None {
            return codec::verify(&expected, stored).map(|()| Verified::Stored);
        }
        self.decoder.decode(&expected, stored, &mut self.content).map(|()| Verified::Decoded)
    }

    /// Other stored bytes than those that failed with `error`, if there can be any.
    fn again(&self, entry: &Entry<'_>, error: &DecodeError) -> Option<Bytes> {
        self.shop.again.filter(|_| error.is_about_bytes())?.read(entry.range())
    }

    /// A second attempt at a large file with few stored bytes; the others are never kept between source and reader.
    fn large_again(&self, batch: &Batch, error: ExtractError) -> Result<(), ExtractError> {
        let entry = self.shop.prepared.tree.entry(self.shop.prepared.plan.files[batch.members.start]);
        let ExtractError::Read(ReadError::Decode { source, .. }) = &error else { return Err(error) };
        let Some(stored) = (entry.data_size() <= SMALL).then(|| self.again(&entry, source)).flatten() else {
            return Err(error);
        };
        self.large(batch, |_, take| take(&stored))
    }

    /// Decodes a large file as its bytes come, and writes it, and its equals, as it goes.
    fn large(
        &self,
        batch: &Batch,
        mut bytes: impl FnMut(&Self, &mut dyn FnMut(&[u8]) -> Result<(), ExtractError>) -> Result<(), ExtractError>,
    ) -> Result<(), ExtractError> {
        let (shop, prepared) = (self.shop, self.shop.prepared);
        let members = &prepared.plan.files[batch.members.clone()];
        let entry = prepared.tree.entry(members[0]);
        let failed = |source| damaged(&entry, source);
        let limits = prepared.tree.archive.options().limits.decode;
        let mut decoder = StreamDecoder::new(Expected::from(&entry), limits).map_err(failed)?;

        let dirs: Vec<OwnedFd> =
            members.iter().map(|placed| self.handles.reopen(placed.dir)).collect::<Result<_, _>>()?;
        let mut files = Vec::with_capacity(members.len());
        for (&placed, dir) in members.iter().zip(&dirs) {
            files.push(shop.create(placed, dir)?);
        }
        let mut tee = shop.fill.map(|fill| fill.stream(entry.digest(), entry.original_size()));
        bytes(self, &mut |chunk| {
            shop.check()?;
            let fed = decoder.feed(chunk, |content| {
                if let Some(tee) = &mut tee {
                    tee.write(content);
                }
                for (file, &placed) in files.iter_mut().zip(members) {
                    file.write(content).map_err(|error| Stop::Write(placed, error))?;
                }
                Ok(())
            });
            fed.map_err(|stop| match stop {
                Stop::Decode(source) => failed(source),
                Stop::Write(placed, error) => shop.failed("writing", placed, error),
            })
        })?;
        decoder.finish().map_err(failed)?;
        if let Some(tee) = tee {
            tee.commit();
        }
        for ((file, &placed), dir) in files.into_iter().zip(members).zip(&dirs) {
            shop.finish(placed, file, dir)?;
        }
        Ok(())
    }
}

/// Stops everybody else when a thread panics, as a caller's progress watcher may: they would wait for it for ever.
struct StopOnPanic<'a>(&'a Link);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// Why feeding a decoder stopped.
enum Stop {
    Decode(DecodeError),
    Write(Placed, std::io::Error),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

fn damaged(entry: &Entry<'_>, source: DecodeError) -> ExtractError {
    ReadError::Decode { path: entry.path().into(), source }.into()
}

/// Whether two files are the same bytes, stored once.
fn is_same(a: &Entry<'_>, b: &Entry<'_>) -> bool {
    a.range() == b.range() && a.digest() == b.digest() && a.compression() == b.compression()
}

fn write_small(
    shop: &Workshop<'_>,
    handles: &mut Handles<'_>,
    placed: Placed,
    content: &[u8],
) -> Result<Finished, ExtractError> {
    let dir = handles.get(placed.dir)?;
    let mut file = shop.create(placed, dir)?;
    file.write(content).map_err(|error| shop.failed("writing", placed, error))?;
    shop.finish(placed, file, dir)
}

impl Workshop<'_> {
    fn failed(&self, action: &'static str, placed: Placed, error: std::io::Error) -> ExtractError {
        io_error(action, self.root.path(&self.prepared.tree.target(placed)), error)
    }

    fn create<'d>(&'d self, placed: Placed, dir: &'d OwnedFd) -> Result<OutFile<'d>, ExtractError> {
        OutFile::create(dir, self.prepared.tree.name(placed), self.mode(placed), self.publish)
            .map_err(|error| self.failed("creating", placed, error))
    }

    /// The mode that a file gets, less the umask.
    fn mode(&self, placed: Placed) -> u32 {
        if self.options.preserve_mode { self.prepared.tree.entry(placed).mode() & 0o777 } else { 0o666 }
    }

    /// Gives a verified file its name and counts it.
    fn finish(&self, placed: Placed, file: OutFile<'_>, dir: &OwnedFd) -> Result<Finished, ExtractError> {
        let entry = self.prepared.tree.entry(placed);
        let mtime = self.options.preserve_times.then(|| entry.mtime_ns());
        let finished =
            file.finish(mtime, self.options.fsync).map_err(|error| self.failed("finishing", placed, error))?;
        let tally = self.tally;
        match finished {
            Finished::Written => {
                tally.files.fetch_add(1, Ordering::Relaxed);
                tally.bytes.fetch_add(entry.original_size(), Ordering::Relaxed);
            }
            Finished::Occupied => self.occupied(placed, dir)?,
        }
        let Some(progress) = &self.options.progress else { return Ok(finished) };
        let event = Event::Extracted {
            path: entry.path(),
            files: tally.files.load(Ordering::Relaxed),
            files_total: self.prepared.tree.files.len() as u64,
            bytes: tally.bytes.load(Ordering::Relaxed),
            bytes_total: self.prepared.bytes,
        };
        if progress.event(&event).is_break() { Err(ExtractError::Cancelled) } else { Ok(finished) }
    }

    /// Somebody else put a file there since the destination was looked at.
    fn occupied(&self, placed: Placed, dir: &OwnedFd) -> Result<(), ExtractError> {
        let (tree, root) = (&self.prepared.tree, self.root);
        let scan = Scan { tree, root, existing: self.options.existing, modes: false, gone: None, threads: 1 };
        if self.options.existing == Existing::KeepEqual {
            if !scan.is_same(dir, placed)? {
                return scan.refuse(&[placed]);
            }
            self.tally.kept.fetch_add(1, Ordering::Relaxed);
        } else {
            self.tally.occupied.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(placed);
        }
        Ok(())
    }
}
