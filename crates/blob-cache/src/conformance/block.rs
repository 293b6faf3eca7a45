//! The contract of [`BlockStore`], clause by clause. Every clause wants an empty store that takes 1 MiB.

use blob_core::SourceId;
use bytes::Bytes;

use crate::{BlockKey, BlockStore};

const BLOCK_SIZE: u32 = 4096;

fn key(source: &str, index: u64) -> BlockKey {
    BlockKey::new(&SourceId::new(source), BLOCK_SIZE, index)
}

fn value(byte: u8, length: usize) -> Bytes {
    vec![byte; length].into()
}

/// What was never stored is absent.
pub async fn absent_is_none(store: &dyn BlockStore) {
    assert_eq!(store.get(&key("a", 0)).await.unwrap(), None, "a store invents blocks");
}

/// What was stored comes back as it was, from the shortest to the longest value.
pub async fn values_come_back(store: &dyn BlockStore) {
    let longest = key("a", 0).max_value_len();
    for (index, length) in [0, 1, 32, 33, 1000, longest - 1, longest].into_iter().enumerate() {
        let key = key("a", index as u64);
        store.put(&key, value(index as u8 + 1, length)).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), Some(value(index as u8 + 1, length)), "a value of {length} bytes");
    }
}

/// Blocks of other sources, numbers and block sizes are others.
pub async fn keys_are_told_apart(store: &dyn BlockStore) {
    let other_size = BlockKey::new(&SourceId::new("a"), BLOCK_SIZE * 2, 0);
    let far = [1, 511, 512, 513, 1 << 20, u64::MAX].map(|index| key("a", index));
    let keys: Vec<BlockKey> = [key("a", 0), key("b", 0), other_size].into_iter().chain(far).collect();
    for (number, key) in keys.iter().enumerate() {
        store.put(key, value(number as u8, 100)).await.unwrap();
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(store.get(key).await.unwrap(), Some(value(number as u8, 100)), "{key}");
    }
}

/// A put replaces what was there, also by something shorter.
pub async fn put_replaces(store: &dyn BlockStore) {
    for length in [100, 200, 50] {
        store.put(&key("a", 7), value(length as u8, length)).await.unwrap();
        assert_eq!(store.get(&key("a", 7)).await.unwrap(), Some(value(length as u8, length)));
    }
}

/// What was removed is absent, its neighbours are not, and removing again is fine.
pub async fn remove_is_idempotent(store: &dyn BlockStore) {
    for index in 0..3 {
        store.put(&key("a", index), value(1, 64)).await.unwrap();
    }
    for _ in 0..2 {
        store.remove(&key("a", 1)).await.unwrap();
        assert_eq!(store.get(&key("a", 1)).await.unwrap(), None);
    }
    store.remove(&key("never", 1)).await.unwrap();
    assert!(store.get(&key("a", 0)).await.unwrap().is_some());
    assert!(store.get(&key("a", 2)).await.unwrap().is_some());
}

/// Makes a module of tests, one per clause. The expression makes an empty store, with whatever keeps it alive:
/// `block_store_conformance!(memory, || (MemoryBlockStore::new(1 << 20), ()));`
#[macro_export]
macro_rules! block_store_conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::block_store_conformance!(
                @each $make => absent_is_none values_come_back keys_are_told_apart put_replaces remove_is_idempotent
            );
        }
    };
    (@each $make:expr => $($clause:ident)*) => {
        $(#[test]
        fn $clause() {
            let (store, _keep) = ($make)();
            $crate::conformance::block_on($crate::conformance::block::$clause(&store));
        })*
    };
}
