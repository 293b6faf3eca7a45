//! Keeps files by their digest: the second run finds what the first one stored.
//!
//! ```text
//! cargo run --example disk_cache -- FILE…
//! ```
#![allow(clippy::print_stdout)]

use std::error::Error;

use blob_cache::{CacheAdmin, CacheDir, CacheOptions};
use blob_core::{Cache, Digest};
use bytes::Bytes;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::temp_dir().join("blob-cache-example");
    let options = CacheOptions { max_bytes: 64 << 20, ..CacheOptions::default() };
    let dir = CacheDir::open(root, options)?;
    let contents = dir.contents();
    for path in std::env::args_os().skip(1) {
        let bytes = Bytes::from(std::fs::read(&path)?);
        let digest = Digest::sha256_of(&bytes);
        let known = contents.get(&digest).await?.is_some();
        if !known && let Some(mut writer) = contents.begin(&digest, bytes.len() as u64).await? {
            writer.write(bytes).await?;
            writer.commit().await?;
        }
        println!("{digest} {} {}", if known { "hit" } else { "stored" }, path.display());
    }
    let usage = dir.usage().await?;
    println!("{} entries, {} of {} bytes in {}", usage.entries, usage.bytes, usage.max_bytes, dir.root().display());
    Ok(())
}
