//! Blobs on their way into a layout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blob_core::source::check_range;
use blob_core::{Local, SourceError};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;

use super::disk::Layout;
use super::write::Incoming;
use super::{failed, offload};
use crate::error::RegistryError;
use crate::registry::PushBlob;
use crate::store;

/// Bytes per step.
const STEP: usize = 1 << 20;

/// Writes the source of `blob` to `layout`: straight from memory or a file of this process where it is one.
pub(super) async fn push(layout: Layout, blob: PushBlob, action: String) -> Result<(), RegistryError> {
    if blob.source.local().is_some() {
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(Arc::clone(&dropped));
        let result = offload(move || push_local(&layout, &blob, &action, &dropped)).await;
        drop(guard);
        return result;
    }
    push_stream(layout, blob, action).await
}

/// Tells a thread that nobody waits for it any more.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn push_local(layout: &Layout, blob: &PushBlob, action: &str, dropped: &AtomicBool) -> Result<(), RegistryError> {
    layout.create()?;
    let mut incoming = Incoming::begin(&layout.temporaries(), blob.digest)?;
    let size = blob.source.size();
    let mut buffer = Vec::new();
    while incoming.written() < size {
        let start = incoming.written();
        let length = (size - start).min(STEP as u64) as usize;
        match blob.source.local() {
            Some(Local::Bytes(bytes)) => incoming.write(step(bytes, blob, start, length, action)?)?,
            Some(Local::File { file, offset }) => {
                buffer.resize(length, 0);
                std::os::unix::fs::FileExt::read_exact_at(file, &mut buffer, offset + start).map_err(|source| {
                    let source = SourceError::Io { id: blob.source.id().clone(), offset: start, source };
                    RegistryError::Source { action: action.into(), source }
                })?;
                incoming.write(&buffer)?;
            }
            _ => {
                let source = std::io::Error::other("the source is local no longer");
                return Err(failed(|| action.to_owned())(source));
            }
        }
        store::report_sent(blob, incoming.written(), action)?;
        if dropped.load(Ordering::Relaxed) {
            return Err(RegistryError::Cancelled { action: action.into() });
        }
    }
    incoming.finish(&layout.blob_path(&blob.digest), action)
}

/// A part of a source in memory, which may have lied about its size.
fn step<'a>(
    bytes: &'a Bytes,
    blob: &PushBlob,
    start: u64,
    length: usize,
    action: &str,
) -> Result<&'a [u8], RegistryError> {
    let end = start + length as u64;
    let fits = check_range(blob.source.id(), &(start..end), bytes.len() as u64);
    fits.map_err(|source| RegistryError::Source { action: action.into(), source })?;
    Ok(&bytes[start as usize..end as usize])
}

async fn push_stream(layout: Layout, blob: PushBlob, action: String) -> Result<(), RegistryError> {
    let size = blob.source.size();
    let failure = |source| RegistryError::Source { action: action.clone(), source };
    let mut stream = blob.source.open(0..size).await.map_err(failure)?;
    let (target, digest) = (layout.blob_path(&blob.digest), blob.digest);
    let mut incoming = offload(move || {
        layout.create()?;
        Incoming::begin(&layout.temporaries(), digest)
    })
    .await?;
    let mut gathered = BytesMut::new();
    loop {
        let chunk = stream.try_next().await.map_err(failure)?;
        let end = chunk.is_none();
        gathered.extend_from_slice(&chunk.unwrap_or_default());
        if gathered.len() >= STEP || (end && !gathered.is_empty()) {
            let piece = gathered.split().freeze();
            incoming = offload(move || incoming.write(&piece).map(|()| incoming)).await?;
            store::report_sent(&blob, incoming.written(), &action)?;
        }
        if end {
            break;
        }
        if incoming.written() + gathered.len() as u64 > size {
            break;
        }
    }
    let got = incoming.written() + gathered.len() as u64;
    if got != size {
        return Err(RegistryError::SizeMismatch { action, expected: size, got });
    }
    offload(move || incoming.finish(&target, &action)).await
}
