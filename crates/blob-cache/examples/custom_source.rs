//! An own source: an object in any store that the crate `object_store` speaks to (S3, Google Cloud Storage, Azure, local
//! files, memory), here read through a block cache.
//!
//! ```text
//! cargo run --example custom_source -- FILE
//! ```
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use blob_cache::{BlockCache, BlockOptions, MemoryBlockStore};
use blob_core::source::check_range;
use blob_core::{ByteSource, ByteSourceExt as _, ByteStream, FailureKind, Local, SourceError, SourceId};
use futures_util::{StreamExt as _, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

/// An object as a [`ByteSource`]. Its entity tag pins the bytes: an object that is replaced is an error, not a mixture.
#[derive(Debug)]
pub struct ObjectSource {
    store: Arc<dyn ObjectStore>,
    path: Path,
    id: SourceId,
    size: u64,
    tag: Option<String>,
}

impl ObjectSource {
    /// Looks at the object: one request.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(store: Arc<dyn ObjectStore>, path: Path) -> object_store::Result<Self> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let meta = store.get_opts(&path, options).await?.meta;
        let tag = meta.e_tag.clone();
        let version = tag.clone().unwrap_or_else(|| format!("{}+{}", meta.last_modified, meta.size));
        let id = SourceId::new(format!("{store}/{path}#{version}"));
        Ok(Self { store, path, id, size: meta.size, tag })
    }
}

/// What a failure of the store is to readers.
fn failed(id: &SourceId, error: object_store::Error) -> SourceError {
    use object_store::Error::{NotFound, PermissionDenied, Precondition, Unauthenticated};
    let kind = match &error {
        NotFound { .. } => FailureKind::NotFound,
        PermissionDenied { .. } => FailureKind::Denied,
        Unauthenticated { .. } => FailureKind::Unauthorized,
        Precondition { .. } => FailureKind::Integrity,
        _ => FailureKind::Network,
    };
    SourceError::Backend { id: id.clone(), kind, source: Box::new(error) }
}

#[async_trait]
impl ByteSource for ObjectSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        check_range(&self.id, &range, self.size)?;
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: self.tag.clone(),
            ..GetOptions::default()
        };
        let answer = self.store.get_opts(&self.path, options).await.map_err(|error| failed(&self.id, error))?;
        if answer.range != range {
            let detail = format!("expected bytes {range:?}, got {:?}", answer.range);
            return Err(SourceError::Changed { id: self.id.clone(), detail });
        }
        let (id, expected) = (self.id.clone(), range.end - range.start);
        // A stream that ends early is an error, and so is one that does not end.
        let chunks = stream::try_unfold((answer.into_stream(), 0), move |(mut chunks, got)| {
            let id = id.clone();
            async move {
                loop {
                    match chunks.next().await {
                        None if got == expected => return Ok(None),
                        None => return Err(SourceError::Truncated { id, expected, got }),
                        Some(Err(error)) => return Err(failed(&id, error)),
                        Some(Ok(chunk)) if chunk.is_empty() => {}
                        Some(Ok(chunk)) if got + chunk.len() as u64 > expected => {
                            return Err(SourceError::Changed { id, detail: "more bytes than were asked for".into() });
                        }
                        Some(Ok(chunk)) => {
                            let got = got + chunk.len() as u64;
                            return Ok(Some((chunk, (chunks, got))));
                        }
                    }
                }
            }
        });
        Ok(chunks.boxed())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: custom_source FILE")?;
    let path = Path::from_absolute_path(std::path::absolute(file)?)?;
    let source = Arc::new(ObjectSource::open(Arc::new(LocalFileSystem::new()), path).await?);
    let cached = BlockCache::new(Arc::new(MemoryBlockStore::new(16 << 20))).wrap(source, BlockOptions::default());
    let head = cached.read(0..cached.size().min(64)).await?;
    println!("{} has {} bytes and begins with {:?}", cached.id(), cached.size(), String::from_utf8_lossy(&head));
    Ok(())
}
