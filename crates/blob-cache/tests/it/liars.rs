//! The kit catches caches that break their contract.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use blob_cache::{MemoryCache, MemoryOptions, Simple, SimpleCache};
use blob_core::conformance::{block_on, cache as kit};
use blob_core::{ByteSource, Cache, CacheError, CacheWriter, Digest, MemorySource};
use bytes::Bytes;

use crate::support::{content, put, read};

/// How a cache lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    /// Returns content with one bit flipped.
    Flips,
    /// Has everything.
    Invents,
    /// Takes whatever is written.
    ChecksNothing,
    /// Stores before the commit.
    StoresEarly,
    /// Does not remove.
    KeepsAll,
    /// Does not store.
    Forgets,
}

#[derive(Clone, Debug)]
struct Liar {
    lie: Lie,
    honest: MemoryCache,
    loose: Arc<Mutex<Vec<(Digest, Bytes)>>>,
}

impl Liar {
    fn new(lie: Lie) -> Self {
        let honest = MemoryCache::new(MemoryOptions { max_bytes: 64 << 20, max_entry_bytes: 2 << 20 });
        Self { lie, honest, loose: Arc::default() }
    }
}

struct LooseWriter(Liar, Digest, Vec<u8>);

#[async_trait]
impl CacheWriter for LooseWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError> {
        self.2.extend_from_slice(&bytes);
        if self.0.lie == Lie::StoresEarly {
            self.0.loose.lock().unwrap().push((self.1, self.2.clone().into()));
        }
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), CacheError> {
        if self.0.lie != Lie::Forgets {
            self.0.loose.lock().unwrap().push((self.1, self.2.into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Cache for Liar {
    async fn get(&self, digest: &Digest) -> Result<Option<Arc<dyn ByteSource>>, CacheError> {
        let source = |bytes: Bytes| Arc::new(MemorySource::with_id(bytes, (*digest).into())) as Arc<dyn ByteSource>;
        match self.lie {
            Lie::None | Lie::KeepsAll => self.honest.get(digest).await,
            Lie::Flips => {
                let Some(bytes) = read(&self.honest, digest).await else { return Ok(None) };
                let mut bytes = bytes.to_vec();
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                Ok(Some(source(bytes.into())))
            }
            Lie::Invents => Ok(Some(source(Bytes::from_static(b"made up")))),
            Lie::ChecksNothing | Lie::StoresEarly | Lie::Forgets => {
                let loose = self.loose.lock().unwrap();
                Ok(loose.iter().rev().find(|(stored, _)| stored == digest).map(|(_, bytes)| source(bytes.clone())))
            }
        }
    }

    async fn begin(&self, digest: &Digest, size: u64) -> Result<Option<Box<dyn CacheWriter>>, CacheError> {
        match self.lie {
            Lie::ChecksNothing | Lie::StoresEarly | Lie::Forgets => {
                Ok(Some(Box::new(LooseWriter(self.clone(), *digest, Vec::new()))))
            }
            _ => self.honest.begin(digest, size).await,
        }
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.loose.lock().unwrap().retain(|(stored, _)| stored != digest);
        if self.lie == Lie::KeepsAll { Ok(()) } else { self.honest.remove(digest).await }
    }
}

/// Runs the clauses on fresh liars; returns how many object.
fn objections(lie: Lie) -> usize {
    let clause = |run: &dyn Fn(Liar)| catch_unwind(AssertUnwindSafe(|| run(Liar::new(lie)))).is_err();
    let outcomes = [
        clause(&|liar| block_on(kit::absent_is_none(&liar))),
        clause(&|liar| block_on(kit::roundtrip(&liar))),
        clause(&|liar| block_on(kit::dropping_the_writer_stores_nothing(&liar))),
        clause(&|liar| block_on(kit::other_content_is_refused(&liar))),
        clause(&|liar| block_on(kit::other_sizes_are_refused(&liar))),
        clause(&|liar| block_on(kit::remove_is_idempotent(&liar))),
        clause(&|liar| block_on(kit::storing_twice_is_fine(&liar))),
        clause(&|liar| block_on(kit::hits_read_the_same_every_way(&liar))),
        clause(&|liar| block_on(kit::held_hits_survive_removal(&liar))),
    ];
    outcomes.into_iter().filter(|objected| *objected).count()
}

#[test]
fn the_kit_catches_every_lie_and_nothing_else() {
    assert_eq!(objections(Lie::None), 0);
    for lie in [Lie::Flips, Lie::Invents, Lie::ChecksNothing, Lie::StoresEarly, Lie::KeepsAll, Lie::Forgets] {
        assert!(objections(lie) > 0, "{lie:?} passes the kit");
    }
}

/// Returns the same bytes for everything.
#[derive(Debug, Default)]
struct Parrot(Mutex<Vec<Digest>>);

#[async_trait]
impl SimpleCache for Parrot {
    async fn get(&self, _: &Digest) -> Result<Option<Bytes>, CacheError> {
        Ok(Some(Bytes::from_static(b"always the same")))
    }

    async fn put(&self, _: &Digest, _: Bytes) -> Result<(), CacheError> {
        Ok(())
    }

    async fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        self.0.lock().unwrap().push(*digest);
        Ok(())
    }
}

#[tokio::test]
async fn a_lying_store_behind_the_adapter_only_misses() {
    let cache = Simple::new(Parrot::default(), 1 << 20);
    assert!(put(&cache, &content(1, 100)).await.unwrap());
    assert!(cache.get(&Digest::sha256_of(&content(1, 100))).await.unwrap().is_none());
    assert!(cache.get(&Digest::sha256_of(b"always the same")).await.unwrap().is_some());
    assert!(cache.begin(&Digest::sha256_of(b""), (1 << 20) + 1).await.unwrap().is_none());
}
