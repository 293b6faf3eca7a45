//! Bytes that were wrong when they came are not what later reads get.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use blob_cache::{BlockCache, BlockOptions, BlockStore, MemoryBlockStore};
use blob_core::{
    Archive, ArchivePath, ByteSource, ByteStream, Compression, Digest, ExtractError, ExtractOptions, IndexBuilder,
    Local, MemorySource, NewFile, ReadError, ReadOptions, SourceError, SourceId,
};
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::support::{content, open};

/// A far side that gives wrong bytes at first.
#[derive(Debug)]
struct Mirror {
    right: MemorySource,
    wrong_answers: u64,
    requests: AtomicU64,
}

#[async_trait]
impl ByteSource for Mirror {
    fn id(&self) -> &SourceId {
        self.right.id()
    }

    fn size(&self) -> u64 {
        self.right.size()
    }

    fn local(&self) -> Option<Local<'_>> {
        None
    }

    async fn open(&self, range: Range<u64>) -> Result<ByteStream, SourceError> {
        let stream = self.right.open(range).await?;
        if self.requests.fetch_add(1, Ordering::SeqCst) >= self.wrong_answers {
            return Ok(stream);
        }
        let flipped = stream.map(|chunk| chunk.map(|chunk| chunk.iter().map(|byte| byte ^ 1).collect::<Bytes>()));
        Ok(flipped.boxed())
    }
}

/// Four stored files of 3,000 bytes in one block, and a fifth of zeros that is large but has few stored bytes.
struct Sample {
    builder: IndexBuilder,
    data: Vec<u8>,
    contents: Vec<Bytes>,
}

const LARGE: usize = 9 << 20;

fn sample() -> Sample {
    let mut sample = Sample { builder: IndexBuilder::new(), data: Vec::new(), contents: Vec::new() };
    for number in 0..5 {
        let large = number == 4;
        let content = if large { vec![0; LARGE].into() } else { content(number, 3000) };
        let start = sample.data.len() as u64;
        let compression = if large { Compression::Zstd } else { Compression::None };
        if large {
            let mut encoder = blob_core::codec::Encoder::new(3).unwrap();
            encoder.begin(LARGE as u64).unwrap();
            encoder.stream(&content, true, &mut sample.data).unwrap();
        } else {
            sample.data.extend_from_slice(&content);
        }
        sample.builder.file(NewFile {
            path: ArchivePath::new(format!("f{number}")).unwrap(),
            data_offset: start,
            data_size: sample.data.len() as u64 - start,
            original_size: content.len() as u64,
            hash: Digest::sha256_of(&content).as_bytes().try_into().unwrap(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            compression,
        });
        sample.contents.push(content);
    }
    sample
}

impl Sample {
    fn over(&self, wrong_answers: u64, store: Arc<dyn BlockStore>) -> (Archive, Arc<Mirror>) {
        let right = MemorySource::new(self.data.clone());
        let mirror = Arc::new(Mirror { right, wrong_answers, requests: AtomicU64::new(0) });
        let source = BlockCache::new(store).wrap(Arc::clone(&mirror) as Arc<dyn ByteSource>, BlockOptions::default());
        let index = self.builder.clone().finish(self.data.len() as u64, &Digest::sha256_of(&self.data)).unwrap();
        (Archive::open(Arc::new(index), source, ReadOptions::default()).unwrap(), mirror)
    }
}

fn stores(place: &tempfile::TempDir) -> [Arc<dyn BlockStore>; 2] {
    [Arc::new(MemoryBlockStore::new(1 << 20)), Arc::new(open(&place.path().join("cache"), 1 << 30).blocks())]
}

#[tokio::test]
async fn a_wrong_answer_is_neither_believed_nor_kept() {
    let (sample, place) = (sample(), tempfile::tempdir().unwrap());
    for store in stores(&place) {
        let (archive, mirror) = sample.over(1, store);
        for number in [1, 0, 4, 2] {
            assert_eq!(archive.read(format!("f{number}")).await.unwrap(), sample.contents[number], "f{number}");
        }
        let requests = mirror.requests.load(Ordering::SeqCst);
        assert!(requests <= 3, "the wrong answer, once more past the cache, and the block anew: {requests}");
    }
}

#[tokio::test]
async fn large_files_of_few_bytes_are_read_again_too() {
    let (sample, place) = (sample(), tempfile::tempdir().unwrap());
    for store in stores(&place) {
        let (archive, _) = sample.over(1, store);
        assert_eq!(archive.read("f4").await.unwrap(), sample.contents[4]);
    }
    // So they are for a stream, before it gives anything away.
    let (archive, mirror) = sample.over(1, Arc::new(MemoryBlockStore::new(1 << 20)));
    let streamed = async || {
        let mut stream = archive.stream("f4").await?;
        let mut size = 0;
        while let Some(chunk) = stream.next().await {
            size += chunk?.len();
        }
        Ok::<_, ReadError>(size)
    };
    assert_eq!(streamed().await.unwrap(), LARGE);
    assert_eq!(mirror.requests.load(Ordering::SeqCst), 2);
    assert_eq!(streamed().await.unwrap(), LARGE);
}

#[tokio::test]
async fn extractions_and_sequences_read_again_what_was_wrong() {
    let (sample, place) = (sample(), tempfile::tempdir().unwrap());
    for store in stores(&place) {
        let (archive, _) = sample.over(1, store);
        let out = tempfile::tempdir().unwrap();
        archive.copy_dir("", out.path().join("out"), &ExtractOptions::default()).await.unwrap();
        for (number, content) in sample.contents.iter().enumerate() {
            assert!(std::fs::read(out.path().join(format!("out/f{number}"))).unwrap() == *content, "f{number}");
        }
    }
    let (archive, _) = sample.over(1, Arc::new(MemoryBlockStore::new(1 << 20)));
    let files = (0..4).map(|number| archive.entry(format!("f{number}")).unwrap()).collect();
    let mut contents = archive.contents(files);
    let mut at = 0;
    while let Some(next) = contents.next().await {
        let (_, mut stream) = next.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), sample.contents[at]);
        at += 1;
    }
    assert_eq!(at, 4);
}

#[tokio::test]
async fn what_stays_wrong_is_an_error_after_few_requests() {
    let (sample, place) = (sample(), tempfile::tempdir().unwrap());
    for store in stores(&place) {
        let (archive, mirror) = sample.over(u64::MAX, store);
        let error = archive.read("f1").await.unwrap_err();
        assert!(matches!(&error, ReadError::Decode { source, .. } if source.is_hash_mismatch()), "{error:?}");
        assert_eq!(mirror.requests.load(Ordering::SeqCst), 2);
        let out = tempfile::tempdir().unwrap();
        let error = archive.copy_file("f1", out.path().join("f1"), &ExtractOptions::default()).await.unwrap_err();
        assert!(matches!(error, ExtractError::Read(ReadError::Decode { .. })), "{error:?}");
        assert_eq!(mirror.requests.load(Ordering::SeqCst), 4);
        assert!(!out.path().join("f1").exists());
    }
}
