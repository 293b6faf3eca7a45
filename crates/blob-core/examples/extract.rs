//! Extracts an archive, or makes one to extract: `extract pack zstd|none DIR ARCHIVE_DIR`, `extract unpack ARCHIVE_DIR
//! DEST [stream]`. `stream` reads the data as if it were far away.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use blob_core::{
    Archive, ByteSource, ByteStream, Compression, CreateBlobOptions, ExtractOptions, Local, ReadOptions, Selection,
    SourceError, SourceId,
};

/// A source that does not tell that it is local.
#[derive(Debug)]
struct Far(Arc<dyn ByteSource>);

#[async_trait::async_trait]
impl ByteSource for Far {
    fn id(&self) -> &SourceId {
        self.0.id()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        self.0.open(range).await
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pack", compression, dir, to] => {
            let mut options = CreateBlobOptions::default();
            options.create.compression = if compression == "none" { Compression::None } else { Compression::Zstd };
            blob_core::create_blob(Path::new(dir), Path::new(to), &options)?;
        }
        ["unpack", from, dest, ref rest @ ..] => {
            let from = Path::new(from);
            let mut archive =
                Archive::open_file(from.join("index.blob"), from.join("data.blob"), ReadOptions::default())?;
            if rest.contains(&"stream") {
                let source = Arc::new(Far(Arc::clone(archive.source())));
                archive = Archive::open(Arc::clone(archive.index()), source, ReadOptions::default())?;
            }
            let mut options = ExtractOptions::default();
            (options.preserve_mode, options.preserve_times) = (true, true);
            let report = futures_executor::block_on(archive.extract(Selection::everything(), dest, &options))?;
            eprintln!("{report:?}");
        }
        _ => return Err("extract pack zstd|none DIR ARCHIVE_DIR | unpack ARCHIVE_DIR DEST [stream]".into()),
    }
    Ok(())
}
