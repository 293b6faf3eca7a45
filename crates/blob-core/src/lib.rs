//! The blob archive format: a small index and one data blob, both content-addressed.
#![doc = include_str!("../README.md")]

pub mod cache;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod digest;
pub mod path;
pub mod progress;
pub mod range;
pub mod source;
#[cfg(feature = "fs")]
mod threads;

pub use cache::{Cache, CacheError, CacheWriter};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use path::{ArchivePath, PathError};
pub use progress::{Event, NoProgress, Progress};
pub use source::{ByteSource, ByteSourceExt, ByteStream, FailureKind, Local, MemorySource, SourceError, SourceId};
