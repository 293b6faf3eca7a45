//! Files whose content a cache has: verified once more on their way, so that a cache that lies is found out.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use super::{STEP, Worker, write_small};
use crate::codec::SMALL;
use crate::digest::{Digest, Hasher};
use crate::extract::select::Placed;
use crate::extract::sink::{Finished, OutFile};
use crate::extract::{ExtractError, FromCache};
use crate::path::Shown;
use crate::source::{ByteSource, Local};

const OTHER: &str = "its content has another digest";

/// Content of a cache as a file.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Worker<'_> {
    /// Writes equal files from `content`; the answer is whether it was theirs. If not, nothing of it stays.
    pub(super) fn cached(&mut self, group: &Range<usize>, content: &dyn ByteSource) -> Result<bool, ExtractError> {
        let prepared = self.shop.prepared;
        let members = &prepared.plan.files[group.clone()];
        let digest = prepared.tree.entry(members[0]).digest();
        self.shop.check()?;
        let wrong = match content.local() {
            Some(Local::Bytes(bytes)) => self.small(members, &digest, bytes)?,
            Some(Local::File { file, offset }) => {
                let stored = Stored { file, offset, size: content.size() };
                if stored.size <= SMALL && self.shop.options.from_cache == FromCache::Copy {
                    self.small_file(members, &digest, stored)?
                } else {
                    self.stream(members, &digest, stored)?
                }
            }
            None => Some("it is not local any more".to_owned()),
        };
        if let Some(problem) = &wrong {
            let path = Shown(prepared.tree.path(members[0]));
            let alarm = &prepared.tree.archive.options().alarm;
            alarm.raise(format_args!("{path}: the content cache cannot be used"), problem);
        }
        Ok(wrong.is_none())
    }

    fn small_file(
        &mut self,
        members: &[Placed],
        digest: &Digest,
        stored: Stored<'_>,
    ) -> Result<Option<String>, ExtractError> {
        let mut content = std::mem::take(&mut self.content);
        content.resize(stored.size as usize, 0);
        let wrong = match stored.file.read_exact_at(&mut content, stored.offset) {
            Ok(()) => self.small(members, digest, &content),
            Err(error) => Ok(Some(error.to_string())),
        };
        self.content = content;
        wrong
    }

    /// The answer is what is wrong.
    fn small(&mut self, members: &[Placed], digest: &Digest, content: &[u8]) -> Result<Option<String>, ExtractError> {
        if !digest.matches(content) {
            return Ok(Some(OTHER.to_owned()));
        }
        for &placed in members {
            let finished = write_small(self.shop, &mut self.handles, placed, content)?;
            self.count(placed, finished);
        }
        Ok(None)
    }

    /// Writes large files, and those that share the blocks of the cache's file, and looks at their content before they
    /// get their names.
    fn stream(&self, members: &[Placed], digest: &Digest, stored: Stored<'_>) -> Result<Option<String>, ExtractError> {
        let shop = self.shop;
        if shop.options.from_cache == FromCache::HardLink
            && let Some(verdict) = self.linked(members, digest, stored)?
        {
            return Ok(verdict);
        }
        let dirs: Vec<OwnedFd> =
            members.iter().map(|placed| self.handles.reopen(placed.dir)).collect::<Result<_, _>>()?;
        let mut files = Vec::with_capacity(members.len());
        for (&placed, dir) in members.iter().zip(&dirs) {
            files.push(shop.create(placed, dir)?);
        }
        let reflink = shop.options.from_cache == FromCache::Reflink && stored.offset == 0;
        let wrong = if reflink && files.iter().all(|file| file.share(stored.file)) {
            // What the files hold now is what counts, whatever happens to the cache's file.
            files.iter().find_map(|file| problem(&hash(file.content(), stored.size, digest), digest))
        } else {
            problem(&self.copy(&mut files, members, stored)?, digest)
        };
        if wrong.is_some() {
            return Ok(wrong);
        }
        for ((file, &placed), dir) in files.into_iter().zip(members).zip(&dirs) {
            let finished = shop.finish(placed, file, dir)?;
            self.count(placed, finished);
        }
        Ok(None)
    }

    /// Copies to all files; the answer is the digest of what was copied, or why the cache's file could not be read.
    fn copy(
        &self,
        files: &mut [OutFile<'_>],
        members: &[Placed],
        stored: Stored<'_>,
    ) -> Result<io::Result<Digest>, ExtractError> {
        let mut hasher = Hasher::new(self.shop.prepared.tree.entry(members[0]).digest().algorithm());
        let mut buffer = vec![0; STEP.min(stored.size) as usize];
        let mut at = 0;
        while at < stored.size {
            self.shop.check()?;
            let part = STEP.min(stored.size - at) as usize;
            if let Err(error) = stored.file.read_exact_at(&mut buffer[..part], stored.offset + at) {
                return Ok(Err(error));
            }
            hasher.update(&buffer[..part]);
            for (file, &placed) in files.iter_mut().zip(members) {
                file.write(&buffer[..part]).map_err(|error| self.shop.failed("writing", placed, error))?;
            }
            at += part as u64;
        }
        Ok(Ok(hasher.finish()))
    }

    pub(super) fn count(&self, placed: Placed, finished: Finished) {
        if finished == Finished::Written {
            let (tally, size) = (self.shop.tally, self.shop.prepared.tree.entry(placed).original_size());
            tally.cached.fetch_add(1, Ordering::Relaxed);
            tally.cached_bytes.fetch_add(size, Ordering::Relaxed);
        }
    }
}

/// What is wrong with content that has the digest `got`.
pub(super) fn problem(got: &io::Result<Digest>, expected: &Digest) -> Option<String> {
    match got {
        Ok(got) if got == expected => None,
        Ok(_) => Some(OTHER.to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Hashes a file of `size` bytes as `like` was made; one of another size has no digest.
pub(super) fn hash(file: &File, size: u64, like: &Digest) -> io::Result<Digest> {
    if file.metadata()?.len() != size {
        return Err(io::Error::other("it has another size"));
    }
    let mut hasher = Hasher::new(like.algorithm());
    let mut buffer = vec![0; STEP.min(size) as usize];
    let mut at = 0;
    while at < size {
        let part = STEP.min(size - at) as usize;
        file.read_exact_at(&mut buffer[..part], at)?;
        hasher.update(&buffer[..part]);
        at += part as u64;
    }
    Ok(hasher.finish())
}
