//! Reads the data of an archive in pieces, with or without a cache for blocks: `ranged_reads REF sequential|random on|off`.
//!
//! A proxy that counts shows what the block cache saves (`cargo xtask bench blocks`).

use std::error::Error;
use std::sync::Arc;

use blob::cache::MemoryBlockStore;
use blob::core::ByteSourceExt as _;
use blob::{Client, Location, PullOptions};

/// How many reads at random.
const READS: u64 = 3000;
/// How long each of them is, in bytes.
const LENGTH: u64 = 4096;
/// How long the steps of a sequential read are, in bytes: not a multiple of a block.
const STEP: u64 = 100 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [reference, work, blocks] = &words[..] else {
        return Err("usage: ranged_reads REF sequential|random on|off".into());
    };
    let mut builder = Client::builder();
    if blocks == "on" {
        builder = builder.block_cache(Arc::new(MemoryBlockStore::new(64 << 20)));
    }
    let location: Location = reference.parse()?;
    let archive = builder.build()?.pull(&location, &PullOptions::default()).await?;
    let (source, size) = (archive.source(), archive.source().size());
    if work == "sequential" {
        let mut at = 0;
        while at < size {
            let end = size.min(at + STEP);
            source.read(at..end).await?;
            at = end;
        }
        return Ok(());
    }
    // Numbers without order, the same each time (a linear congruence).
    let mut state = 1_u64;
    for _ in 0..READS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let start = (state >> 16) % size.saturating_sub(LENGTH).max(1);
        source.read(start..size.min(start + LENGTH)).await?;
    }
    Ok(())
}
