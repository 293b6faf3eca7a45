//! Creating archives from directories.

mod blob;
mod changes;
mod follow;
mod format;
mod left_out;
mod round_trip;
mod stop;

use std::fs;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blob_core::codec::{DecodeLimits, Decoder, Expected};
use blob_core::{ArchiveIndex, CreateError, CreateOptions, Created, Event, Progress, create};

/// A directory with these files; parents are made.
fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        write(dir.path(), path, content);
    }
    dir
}

fn write(dir: &Path, path: &str, content: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn threads(count: usize) -> CreateOptions {
    options(|options| options.threads = NonZero::new(count))
}

fn options(change: impl FnOnce(&mut CreateOptions)) -> CreateOptions {
    let mut options = CreateOptions::default();
    change(&mut options);
    options
}

fn archive(dir: &Path, options: &CreateOptions) -> Result<(Created, Vec<u8>), CreateError> {
    let mut data = Vec::new();
    let created = create(dir, &mut data, options)?;
    assert_eq!(created.data_size, data.len() as u64);
    assert!(created.data_digest.matches(&data));
    created.index.check_data(&created.data_digest, created.data_size).unwrap();
    assert!(created.index.was_sorted());
    Ok((created, data))
}

/// The content of a file, with its digest checked.
fn read(index: &ArchiveIndex, data: &[u8], path: &str) -> Vec<u8> {
    let entry = index.entry(path).unwrap_or_else(|| panic!("{path} is not in the archive"));
    let range = entry.range();
    let stored = &data[range.start as usize..range.end as usize];
    let mut content = Vec::new();
    Decoder::new(DecodeLimits::default()).decode(&Expected::from(&entry), stored, &mut content).unwrap();
    content
}

fn paths(index: &ArchiveIndex) -> Vec<String> {
    index.entries().map(|entry| String::from_utf8(entry.path().to_vec()).unwrap()).collect()
}

/// Bytes that do not compress, different for every seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes that compress well, different for every seed.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let line = format!("line {seed} of a text that says the same thing again and again\n");
    line.into_bytes().into_iter().cycle().take(length).collect()
}

/// Calls `action` for every event.
fn watch(action: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Arc<dyn Progress> {
    Arc::new(move |event: &Event<'_>| {
        action(event);
        ControlFlow::Continue(())
    })
}

/// Lets the clock of the file system tick, so that what follows has another time.
fn tick() {
    std::thread::sleep(Duration::from_millis(20));
}
