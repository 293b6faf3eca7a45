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

use crate::files::Stamp;

/// How much one step of a stream reads: 1 MiB.
const CHUNK: u64 = 1 << 20;

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

/// Reads on a thread for blocking work, or in place outside a runtime.
async fn read_on_a_thread(
    file: Arc<File>,
    id: SourceId,
    stamp: Stamp,
    range: Range<u64>,
) -> Result<Bytes, SourceError> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return read(&file, &id, stamp, &range) };
    let (name, offset) = (id.clone(), range.start);
    match runtime.spawn_blocking(move || read(&file, &id, stamp, &range)).await {
        Ok(outcome) => outcome,
        Err(error) => Err(SourceError::Io { id: name, offset, source: std::io::Error::other(error) }),
    }
}

/// Reads `range` and makes sure that these are still the bytes that were checked.
fn read(file: &File, id: &SourceId, stamp: Stamp, range: &Range<u64>) -> Result<Bytes, SourceError> {
    let failed = |source| SourceError::Io { id: id.clone(), offset: range.start, source };
    let mut chunk = BytesMut::zeroed((range.end - range.start) as usize);
    let outcome = file.read_exact_at(&mut chunk, range.start);
    if Stamp::of(&file.metadata().map_err(failed)?) != stamp {
        let detail = "its cache file was written to since it was checked".to_owned();
        return Err(SourceError::Changed { id: id.clone(), detail });
    }
    outcome.map_err(failed)?;
    Ok(chunk.freeze())
}
