//! The blob archive format: a small index and one data blob, both content-addressed.
#![doc = include_str!("../README.md")]

pub mod archive;
pub mod cache;
pub mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "fs")]
pub mod create;
pub mod digest;
pub mod entry;
pub mod error;
#[cfg(feature = "fs")]
pub mod extract;
pub mod index;
pub mod path;
#[cfg(feature = "fs")]
pub mod plain;
pub mod progress;
pub mod range;
#[cfg(feature = "fs")]
pub mod room;
pub mod source;
mod threads;

pub use archive::{Archive, DirStats, EntryStream, FileKind, Flights, Metadata, ReadLimits, ReadOptions};
pub use cache::{Alarm, Cache, CacheError, CacheWriter, Turn, Turns};
#[cfg(feature = "fs")]
pub use create::{
    CreateBlobOptions, CreateError, CreateOptions, CreateReport, Created, create, create_blob, create_to,
};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use entry::{Compression, EmptyDir, Entry, Symlink};
pub use error::ReadError;
#[cfg(feature = "fs")]
pub use extract::{
    Existing, ExtractError, ExtractLimits, ExtractOptions, ExtractReport, FromCache, Layout, Selection, Symlinks,
};
pub use index::{
    ArchiveIndex, DirEntry, Directory, IndexBuilder, IndexError, IndexLimits, NewDirectory, NewFile, NewSymlink, Node,
    NodeId,
};
pub use path::{ArchivePath, PathError};
pub use progress::{Event, NoProgress, Progress};
pub use source::{ByteSource, ByteSourceExt, ByteStream, FailureKind, Local, MemorySource, SourceError, SourceId};
