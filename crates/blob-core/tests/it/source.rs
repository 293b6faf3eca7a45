//! The contract of sources, for every source of this crate.

use std::sync::Arc;

use blob_core::source::{FileSource, SliceSource};
use blob_core::{ByteSource, MemorySource};
use bytes::Bytes;

fn memory(bytes: Bytes) -> Arc<dyn ByteSource> {
    Arc::new(MemorySource::new(bytes))
}

fn file(bytes: &[u8]) -> Arc<dyn ByteSource> {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    Arc::new(FileSource::from_file(file).unwrap())
}

fn surrounded(bytes: &[u8]) -> Bytes {
    [b"before", bytes, b"behind"].concat().into()
}

fn cut(inner: Arc<dyn ByteSource>) -> Arc<dyn ByteSource> {
    let end = inner.size() - 6;
    Arc::new(SliceSource::new(inner, 6..end).unwrap())
}

blob_core::byte_source_conformance!(memory_source, async |bytes| memory(bytes));
blob_core::byte_source_conformance!(file_source, async |bytes: Bytes| file(&bytes));
blob_core::byte_source_conformance!(slice_of_memory, async |bytes: Bytes| cut(memory(surrounded(&bytes))));
blob_core::byte_source_conformance!(slice_of_a_file, async |bytes: Bytes| cut(file(&surrounded(&bytes))));
