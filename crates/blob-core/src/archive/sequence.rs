//! Many files one after the other, in few requests: what exports and checks of whole archives read by.

use std::ops::Range;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, future, stream};

use super::Archive;
use super::stream::EntryStream;
use crate::codec::{DecodeError, Expected, SMALL};
use crate::entry::Entry;
use crate::error::ReadError;
use crate::source::ByteSourceExt as _;
use crate::threads::offload;

/// Stored bytes that one request reads for small files, and content bytes that come of them: 8 and 16 MiB.
const RUN_STORED: u64 = 8 << 20;
const RUN_CONTENT: u64 = 16 << 20;

/// Unwanted bytes that one request may read between two files: 64 KiB.
const MAX_GAP: u64 = 64 << 10;

/// Files without stored bytes that are handed out at a time.
const RUN_FILES: usize = 4096;

/// Files that are read together: small ones by one request, or a large one alone.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    members: Range<usize>,
    stored: Range<u64>,
    content: u64,
    large: bool,
}

/// Cuts files, in the order in which they are wanted, into runs. Files of a run lie behind one another in the data, near
/// enough to be read in one go; a file that lies before its predecessor begins a new run, unless the run has its bytes.
fn runs(files: &[(Range<u64>, u64)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, (range, size)) in files.iter().enumerate() {
        let large = (*size).max(range.end - range.start) > SMALL;
        if let Some(run) = runs.last_mut().filter(|run| !run.large && !large && run.members.len() < RUN_FILES) {
            let inside = range.is_empty() || (run.stored.start <= range.start && range.end <= run.stored.end);
            let first = run.stored.is_empty();
            let near = run.stored.start <= range.start
                && range.start <= run.stored.end.saturating_add(MAX_GAP)
                && range.end - run.stored.start <= RUN_STORED;
            if run.content + size <= RUN_CONTENT && (inside || first || near) {
                if !range.is_empty() {
                    let start = if first { range.start } else { run.stored.start };
                    run.stored = start..range.end.max(run.stored.end);
                }
                run.content += size;
                run.members.end = at + 1;
                continue;
            }
        }
        runs.push(Run { members: at..at + 1, stored: range.clone(), content: *size, large });
    }
    runs
}

impl Archive {
    /// The contents of `files`, in their order, as one stream of streams. Small files that lie near one another in the
    /// data are read by one request, and verified before they are handed out; larger ones are read alone, as by
    /// [`stream`](Self::stream). The content cache is asked for the latter only.
    ///
    /// Each stream is to be read to its end before the next one is asked for. Memory is at most 48 MiB, whatever the
    /// sizes of the files.
    ///
    /// # Errors
    /// [`ReadError`], for the first file that cannot be had; the stream is over then.
    pub fn contents<'a>(&'a self, files: Vec<Entry<'a>>) -> BoxStream<'a, Result<(Entry<'a>, EntryStream), ReadError>> {
        let until_one_fails = |failed: &mut bool, (file, content): (Entry<'a>, Result<EntryStream, ReadError>)| {
            let item = (!*failed).then(|| content.map(|content| (file, content)));
            *failed |= matches!(item, Some(Err(_)));
            future::ready(item)
        };
        self.each_content(files).scan(false, until_one_fails).boxed()
    }

    /// As [`contents`](Self::contents), except that a file which
    /// [alone is wrong](ReadError::is_about_one_file) is an error in its place, and the others follow. Whatever else fails is
    /// told for the first file that it keeps from being read, and the stream is over then. What comes up within the stream of
    /// a large file is for who reads it to judge.
    pub fn each_content<'a>(
        &'a self,
        files: Vec<Entry<'a>>,
    ) -> BoxStream<'a, (Entry<'a>, Result<EntryStream, ReadError>)> {
        let plan: Vec<(Range<u64>, u64)> = files.iter().map(|file| (file.range(), file.original_size())).collect();
        let fetched = stream::iter(runs(&plan)).map(move |run| {
            let members: Vec<Entry<'a>> = files[run.members.clone()].to_vec();
            async move {
                if run.large {
                    return stream::iter(members).then(|file| self.alone(file)).boxed();
                }
                let contents = match self.read_run(&members, run.stored).await {
                    Ok(contents) => contents,
                    Err(error) => vec![Err(error)],
                };
                let streams =
                    members.into_iter().zip(contents).map(|(file, content)| (file, content.map(EntryStream::verified)));
                stream::iter(streams).boxed()
            }
        });
        let until_all_fail = |failed: &mut bool, item: (Entry<'a>, Result<EntryStream, ReadError>)| {
            let next = (!*failed).then_some(item);
            *failed |= matches!(&next, Some((_, Err(error))) if !error.is_about_one_file());
            future::ready(next)
        };
        fetched.buffered(2).flatten().scan(false, until_all_fail).boxed()
    }

    async fn alone<'a>(&self, file: Entry<'a>) -> (Entry<'a>, Result<EntryStream, ReadError>) {
        let content = self.stream_entry(file).await;
        (file, content)
    }

    /// The contents of small files whose stored bytes lie in `stored`, as far as they are what the index promises.
    async fn read_run(
        &self,
        files: &[Entry<'_>],
        stored: Range<u64>,
    ) -> Result<Vec<Result<Bytes, ReadError>>, ReadError> {
        let path = || -> Box<[u8]> { files.first().map(Entry::path).unwrap_or_default().into() };
        let start = stored.start;
        let bytes = if stored.is_empty() {
            Bytes::new()
        } else {
            self.source().read(stored).await.map_err(|source| ReadError::Source { path: path(), source })?
        };
        let work: Vec<(Expected, Bytes)> = files
            .iter()
            .map(|file| {
                let range = file.range();
                let own = if range.is_empty() {
                    Bytes::new()
                } else {
                    bytes.slice((range.start - start) as usize..(range.end - start) as usize)
                };
                (Expected::from(file), own)
            })
            .collect();
        let archive = self.clone();
        let decoded: Vec<Result<Bytes, DecodeError>> = offload(move || {
            let mut decoded = Vec::with_capacity(work.len());
            for (expected, stored) in work {
                decoded.push(archive.decode(&expected, stored));
            }
            decoded
        })
        .await;
        let mut contents = Vec::with_capacity(files.len());
        for (file, decoded) in files.iter().zip(decoded) {
            let content = match decoded {
                Err(error) => self.decode_again(*file, error).await,
                decoded => decoded,
            };
            contents.push(content.map_err(|source| ReadError::Decode { path: file.path().into(), source }));
        }
        Ok(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(u64, u64, u64)], expected: &[(Range<usize>, Range<u64>)]) {
        let files: Vec<(Range<u64>, u64)> = files.iter().map(|(start, end, size)| (*start..*end, *size)).collect();
        let got: Vec<_> = runs(&files).into_iter().map(|run| (run.members, run.stored)).collect();
        assert_eq!(got, expected, "{files:?}");
    }

    #[test]
    fn near_files_share_a_request() {
        check(&[(0, 10, 10), (10, 20, 30), (20, 20, 0), (100, 110, 5)], &[(0..4, 0..110)]);
        check(&[(0, 0, 0), (50, 60, 10), (0, 0, 0)], &[(0..3, 50..60)]);
        // A copy of what was read already.
        check(&[(0, 10, 10), (10, 20, 10), (0, 10, 10)], &[(0..3, 0..20)]);
        // Backwards, and far away.
        check(
            &[(90, 100, 10), (0, 10, 10), (1 << 20, (1 << 20) + 5, 5)],
            &[(0..1, 90..100), (1..2, 0..10), (2..3, 1 << 20..(1 << 20) + 5)],
        );
    }

    #[test]
    fn large_files_stand_alone_and_runs_are_bounded() {
        let large = SMALL + 1;
        check(&[(0, 10, 10), (10, 20, large), (20, 30, 1)], &[(0..1, 0..10), (1..2, 10..20), (2..3, 20..30)]);
        let half = RUN_CONTENT / 2;
        check(&[(0, 1, half), (1, 2, half), (2, 3, half)], &[(0..2, 0..2), (2..3, 2..3)]);
        check(&[(0, 5 << 20, 1), (5 << 20, 10 << 20, 1)], &[(0..1, 0..5 << 20), (1..2, 5 << 20..10 << 20)]);
    }
}
