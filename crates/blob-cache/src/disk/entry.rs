//! A cache hit: an open file that was checked.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_core::source::check_range;
use blob_core::{ByteSource, ByteStream, Digest, Local, SourceError, SourceId};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use std::os::unix::fs::FileExt as _;

use crate::files::{Stamp, read_at_once};

/// How much one step of a stream reads: 1 MiB.
const CHUNK: u64 = 1 << 20;
/// Reads up to this size are done in place when the system has the bytes in memory: copying 256 KiB takes less time
/// than a change of thread.
const IN_PLACE: u64 = 256 * 1024;

/// The bytes of an entry. Streams of it end in [`SourceError::Changed`] when the file was written to since its digest
/// was checked; those who read [`Local::File`] themselves have to rely on the check.
#[derive(Debug)]
pub(super) struct EntrySource {
    id: SourceId,
    file: Arc<File>,
    stamp: Stamp,
}

impl EntrySource {
    pub(super) fn new(digest: Digest, file: File, stamp: Stamp) -> Self {
        Self { id: digest.into(), file: Arc::new(file), stamp }
    }
}

#[async_trait]
impl ByteSource for EntrySource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn size(&self) -> u64 {
        self.stamp.size
    }

    fn local(&self) -> Option<Local<'_>> {
        Some(Local::File { file: &self.file, offset: 0 })
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        check_range(&self.id, &range, self.stamp.size)?;
        let (file, id, stamp) = (Arc::clone(&self.file), self.id.clone(), self.stamp);
        let steps = stream::try_unfold(range.start, move |offset| {
            let (file, id, end) = (Arc::clone(&file), id.clone(), range.end);
            async move {
                if offset == end {
                    return Ok(None);
                }
                let length = CHUNK.min(end - offset);
                let chunk = read_on_a_thread(file, id, stamp, offset..offset + length).await?;
                Ok(Some((chunk, offset + length)))
            }
        });
        Ok(steps.boxed())
    }
}

/// Reads in place what takes no waiting or where nobody waits, else on a thread for blocking work.
async fn read_on_a_thread(
    file: Arc<File>,
    id: SourceId,
    stamp: Stamp,
    range: Range<u64>,
) -> Result<Bytes, SourceError> {
    if range.end - range.start <= IN_PLACE {
        let mut chunk = BytesMut::zeroed((range.end - range.start) as usize);
        if read_at_once(&file, &mut chunk, range.start) {
            return unchanged(&file, &id, stamp, range.start).map(|()| chunk.freeze());
        }
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return read(&file, &id, stamp, &range) };
    let (name, offset) = (id.clone(), range.start);
    match runtime.spawn_blocking(move || read(&file, &id, stamp, &range)).await {
        Ok(outcome) => outcome,
        Err(error) => Err(SourceError::Io { id: name, offset, source: std::io::Error::other(error) }),
    }
}

/// Reads `range` and makes sure that these are still the bytes that were checked.
fn read(file: &File, id: &SourceId, stamp: Stamp, range: &Range<u64>) -> Result<Bytes, SourceError> {
    let mut chunk = BytesMut::zeroed((range.end - range.start) as usize);
    let outcome = file.read_exact_at(&mut chunk, range.start);
    unchanged(file, id, stamp, range.start)?;
    outcome.map_err(|source| SourceError::Io { id: id.clone(), offset: range.start, source })?;
    Ok(chunk.freeze())
}

/// Makes sure that the file is still the one that was checked.
fn unchanged(file: &File, id: &SourceId, stamp: Stamp, offset: u64) -> Result<(), SourceError> {
    let meta = file.metadata().map_err(|source| SourceError::Io { id: id.clone(), offset, source })?;
    if Stamp::of(&meta) == stamp {
        return Ok(());
    }
    let detail = "its cache file was written to since it was checked".to_owned();
    Err(SourceError::Changed { id: id.clone(), detail })
}
