//! Stores for blocks and tags that break their contract: the kits catch them, and no reader gets what they made up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use blob_cache::conformance::{block, tag};
use blob_cache::{
    BlockCache, BlockKey, BlockOptions, BlockStore, MemoryBlockStore, MemoryTagCache, TagCache, TagEntry,
};
use blob_core::conformance::block_on;
use blob_core::{
    Archive, ArchivePath, ByteSource, CacheError, Compression, Digest, ExtractOptions, IndexBuilder, NewFile,
    ReadOptions,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::support::{Counting, content};

/// How a store for blocks lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BlockLie {
    None,
    /// One bit is another.
    Flips,
    /// The last byte is missing.
    Cuts,
    /// Has everything.
    Invents,
    /// Ignores the number of the block.
    MixesUp,
    /// Ignores which source it is of.
    MixesUpSources,
    /// Keeps the first value.
    NeverReplaces,
    KeepsAll,
    Forgets,
}

#[derive(Debug)]
struct BlockLiar(BlockLie, MemoryBlockStore);

impl BlockLiar {
    fn key(&self, key: &BlockKey) -> BlockKey {
        match self.0 {
            BlockLie::MixesUp => key.with_index(0),
            BlockLie::MixesUpSources => {
                BlockKey::new(&blob_core::SourceId::new("one for all"), key.block_size(), key.index())
            }
            _ => *key,
        }
    }
}

#[async_trait]
impl BlockStore for BlockLiar {
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        if self.0 == BlockLie::Invents {
            return Ok(Some(Bytes::from_static(b"made up")));
        }
        let Some(value) = self.1.get(&self.key(key)).await? else { return Ok(None) };
        let mut value = value.to_vec();
        match (self.0, value.last_mut()) {
            (BlockLie::Flips, Some(last)) => *last ^= 1,
            (BlockLie::Cuts, Some(_)) => drop(value.pop()),
            _ => {}
        }
        Ok(Some(value.into()))
    }

    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError> {
        let known = self.0 == BlockLie::NeverReplaces && self.1.get(key).await?.is_some();
        if known || self.0 == BlockLie::Forgets {
            return Ok(());
        }
        self.1.put(&self.key(key), value).await
    }

    async fn remove(&self, key: &BlockKey) -> Result<(), CacheError> {
        if self.0 == BlockLie::KeepsAll { Ok(()) } else { self.1.remove(&self.key(key)).await }
    }
}

/// How many of `clauses` object.
fn objections(clauses: &[&dyn Fn()]) -> usize {
    clauses.iter().filter(|clause| catch_unwind(AssertUnwindSafe(clause)).is_err()).count()
}

#[test]
fn the_kit_catches_every_lie_about_blocks_and_nothing_else() {
    use BlockLie::{Cuts, Flips, Forgets, Invents, KeepsAll, MixesUp, MixesUpSources, NeverReplaces};
    let run = |lie| {
        let liar = || BlockLiar(lie, MemoryBlockStore::new(8 << 20));
        objections(&[
            &|| block_on(block::absent_is_none(&liar())),
            &|| block_on(block::values_come_back(&liar())),
            &|| block_on(block::keys_are_told_apart(&liar())),
            &|| block_on(block::put_replaces(&liar())),
            &|| block_on(block::remove_is_idempotent(&liar())),
        ])
    };
    assert_eq!(run(BlockLie::None), 0);
    for lie in [Flips, Cuts, Invents, MixesUp, MixesUpSources, NeverReplaces, KeepsAll, Forgets] {
        assert!(run(lie) > 0, "{lie:?} passes the kit");
    }
}

/// A store that knows how values are sealed, and seals other bytes: what its seal says is right, and what is in it is not.
/// It cannot be made to forget.
#[derive(Debug)]
struct Forger(MemoryBlockStore);

#[async_trait]
impl BlockStore for Forger {
    async fn get(&self, key: &BlockKey) -> Result<Option<Bytes>, CacheError> {
        let Some(value) = self.0.get(key).await? else { return Ok(None) };
        let mut data = value[32..].to_vec();
        for byte in &mut data {
            *byte ^= 1;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(key.source()).update(&key.index().to_le_bytes()).update(&data);
        Ok(Some([hasher.finalize().as_bytes(), &data[..]].concat().into()))
    }

    async fn put(&self, key: &BlockKey, value: Bytes) -> Result<(), CacheError> {
        self.0.put(key, value).await
    }

    async fn remove(&self, _: &BlockKey) -> Result<(), CacheError> {
        Ok(())
    }
}

const LARGE: usize = 9 << 20;

/// Small files, stored, and a large one of few stored bytes.
fn archive(store: Arc<dyn BlockStore>) -> (Archive, Arc<Counting>, Vec<Bytes>) {
    let (mut builder, mut data, mut contents) = (IndexBuilder::new(), Vec::new(), Vec::new());
    for number in 0..4 {
        let large = number == 3;
        let file = if large { vec![0; LARGE].into() } else { content(number, 3000) };
        let start = data.len() as u64;
        let compression = if large { Compression::Zstd } else { Compression::None };
        if large {
            let mut encoder = blob_core::codec::Encoder::new(3).unwrap();
            encoder.begin(LARGE as u64).unwrap();
            encoder.stream(&file, true, &mut data).unwrap();
        } else {
            data.extend_from_slice(&file);
        }
        builder.file(NewFile {
            path: ArchivePath::new(format!("f{number}")).unwrap(),
            data_offset: start,
            data_size: data.len() as u64 - start,
            original_size: file.len() as u64,
            hash: Digest::sha256_of(&file).as_bytes().try_into().unwrap(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            compression,
        });
        contents.push(file);
    }
    let index = builder.finish(data.len() as u64, &Digest::sha256_of(&data)).unwrap();
    let far = Counting::new(data.into());
    let source = BlockCache::new(store).wrap(Arc::clone(&far) as Arc<dyn ByteSource>, BlockOptions::default());
    (Archive::open(Arc::new(index), source, ReadOptions::default()).unwrap(), far, contents)
}

#[tokio::test]
async fn whatever_a_store_says_of_a_block_reads_are_right() {
    let lies = [BlockLie::Flips, BlockLie::Cuts, BlockLie::Invents, BlockLie::MixesUp, BlockLie::KeepsAll];
    let memory = || MemoryBlockStore::new(1 << 20);
    let mut stores: Vec<Arc<dyn BlockStore>> = vec![Arc::new(Forger(memory()))];
    stores.extend(lies.map(|lie| Arc::new(BlockLiar(lie, memory())) as Arc<dyn BlockStore>));
    for store in stores {
        let name = format!("{store:?}");
        let (archive, far, contents) = archive(store);
        let mut reads = 0;
        for _ in 0..3 {
            for (number, content) in contents.iter().enumerate() {
                let path = format!("f{number}");
                assert!(archive.read(&path).await.unwrap() == *content, "{name}");
                let chunks: Vec<Bytes> = archive.stream(&path).await.unwrap().try_collect().await.unwrap();
                assert!(chunks.concat() == *content, "{name}");
                reads += 2;
            }
            let out = tempfile::tempdir().unwrap();
            archive.copy_dir("", out.path().join("out"), &ExtractOptions::default()).await.unwrap();
            for (number, content) in contents.iter().enumerate() {
                assert!(std::fs::read(out.path().join(format!("out/f{number}"))).unwrap() == *content, "{name}");
                reads += 1;
            }
        }
        assert!(far.requests() <= reads + 3, "{name}: {} requests for {reads} reads", far.requests());
    }
}

/// How a cache of tags lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TagLie {
    None,
    /// Names another digest.
    Other,
    /// Names a digest of another kind.
    OtherKind,
    Invents,
    /// Ignores the tag.
    MixesUp,
    /// Ignores case.
    FoldsCase,
    /// Says that it was asked just now.
    Rejuvenates,
    /// Believes what is old.
    NeverExpires,
    NeverReplaces,
    KeepsAll,
    Forgets,
}

#[derive(Debug)]
struct TagLiar {
    lie: TagLie,
    honest: MemoryTagCache,
    first: AtomicBool,
    last: Mutex<Option<(String, TagEntry)>>,
}

impl TagLiar {
    fn new(lie: TagLie) -> Self {
        let ttl = if lie == TagLie::NeverExpires { Duration::MAX } else { Duration::from_mins(5) };
        Self { lie, honest: MemoryTagCache::new(ttl, 100), first: AtomicBool::new(true), last: Mutex::default() }
    }

    fn key(&self, key: &str) -> String {
        match self.lie {
            TagLie::MixesUp => key.split(':').next().unwrap_or_default().to_owned(),
            TagLie::FoldsCase => key.to_lowercase(),
            _ => key.to_owned(),
        }
    }
}

#[async_trait]
impl TagCache for TagLiar {
    async fn get(&self, key: &str) -> Result<Option<TagEntry>, CacheError> {
        let made_up = TagEntry::now(Digest::sha256_of(b"made up"));
        if self.lie == TagLie::Invents {
            return Ok(Some(made_up));
        }
        if self.lie == TagLie::Rejuvenates {
            let last = self.last.lock().unwrap().clone();
            return Ok(last.filter(|(known, _)| known == key).map(|(_, entry)| TagEntry::now(entry.digest)));
        }
        let Some(found) = self.honest.get(&self.key(key)).await? else { return Ok(None) };
        Ok(Some(match self.lie {
            TagLie::Other => TagEntry { digest: made_up.digest, ..found },
            TagLie::OtherKind => {
                TagEntry { digest: Digest::of(blob_core::Algorithm::Sha512, found.digest.as_bytes()), ..found }
            }
            _ => found,
        }))
    }

    async fn put(&self, key: &str, entry: &TagEntry) -> Result<(), CacheError> {
        *self.last.lock().unwrap() = Some((key.to_owned(), *entry));
        let first = self.first.swap(false, Ordering::SeqCst);
        if self.lie == TagLie::Forgets || (self.lie == TagLie::NeverReplaces && !first) {
            return Ok(());
        }
        self.honest.put(&self.key(key), entry).await
    }

    async fn remove(&self, key: &str) -> Result<(), CacheError> {
        if self.lie == TagLie::KeepsAll { Ok(()) } else { self.honest.remove(&self.key(key)).await }
    }
}

#[test]
fn the_kit_catches_every_lie_about_tags_and_nothing_else() {
    use TagLie::{
        FoldsCase, Forgets, Invents, KeepsAll, MixesUp, NeverExpires, NeverReplaces, Other, OtherKind, Rejuvenates,
    };
    let run = |lie| {
        let liar = || TagLiar::new(lie);
        objections(&[
            &|| block_on(tag::absent_is_none(&liar())),
            &|| block_on(tag::entries_come_back(&liar())),
            &|| block_on(tag::keys_are_told_apart(&liar())),
            &|| block_on(tag::put_replaces(&liar())),
            &|| block_on(tag::old_and_future_entries_are_absent(&liar())),
            &|| block_on(tag::remove_is_idempotent(&liar())),
        ])
    };
    assert_eq!(run(TagLie::None), 0);
    for lie in
        [Other, OtherKind, Invents, MixesUp, FoldsCase, Rejuvenates, NeverExpires, NeverReplaces, KeepsAll, Forgets]
    {
        assert!(run(lie) > 0, "{lie:?} passes the kit");
    }
}
