//! Archives a directory to two files and tells how fast that was.
//!
//! `cargo run --release --example create -- <directory> <destination> [none|zstd] [threads] [MiB of memory]`
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use blob_core::{Compression, CreateBlobOptions, create_blob};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let mut path = || arguments.next().map(PathBuf::from).ok_or("two directories are needed");
    let (source, destination) = (path()?, path()?);
    let mut options = CreateBlobOptions::default();
    options.fsync = false;
    if arguments.next().is_some_and(|kind| kind == "none") {
        options.create.compression = Compression::None;
    }
    if let Some(threads) = arguments.next() {
        options.create.threads = Some(threads.to_string_lossy().parse()?);
    }
    if let Some(memory) = arguments.next() {
        options.create.memory = memory.to_string_lossy().parse::<u64>()? << 20;
    }
    let start = Instant::now();
    let created = create_blob(&source, &destination, &options)?;
    let seconds = start.elapsed().as_secs_f64();
    let report = &created.report;
    println!(
        "{} files, {:.1} MB to {:.1} MB in {seconds:.3} s: {:.0} MB/s; {} equal, {} raw, {} compressed; {}",
        report.files,
        report.original_bytes as f64 / 1e6,
        created.data_size as f64 / 1e6,
        report.original_bytes as f64 / 1e6 / seconds,
        report.deduplicated,
        report.stored_raw,
        report.compressed,
        created.data_digest,
    );
    Ok(())
}
