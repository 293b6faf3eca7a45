//! An archive as a file system beside the same files on disk.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::report::Section;
use super::{Bench, cores, quietly};
use crate::server::Server;

const NAMES: usize = 10_000;
const SMALL_FILES: usize = 200;
const SMALL: usize = 64 << 10;
const LARGE: usize = 200 << 20;
/// How often what does not depend on a fresh mount is done.
const ROUNDS: usize = 20;

/// A mount that ends when it is dropped.
struct Mount {
    child: Child,
    directory: PathBuf,
}

impl Mount {
    /// Shows `reference` on `mnt`, with contents in `cache`.
    fn of(bench: &Bench, reference: &str, cache: &str) -> Result<Self, String> {
        let directory = bench.place().join("mnt");
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        fs::create_dir_all(&directory).map_err(failed)?;
        let mut command = bench.blob(&["-v", "mount", reference, "mnt"]);
        command.env_remove("BLOB_NO_CACHE").env("BLOB_CACHE_DIR", bench.place().join(cache));
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = spawned.map_err(|error| format!("blob mount: {error}"))?;
        let mut mount = Self { child, directory };
        let mut line = String::new();
        if let Some(output) = mount.child.stdout.as_mut() {
            BufReader::new(output).read_line(&mut line).map_err(|error| format!("blob mount: {error}"))?;
        }
        if line.is_empty() { Err(format!("blob mount said nothing: {}", mount.end())) } else { Ok(mount) }
    }

    /// Ends it, and gives what it wrote to standard error.
    fn end(mut self) -> String {
        self.terminate();
        let mut text = String::new();
        if let Some(errors) = self.child.stderr.as_mut() {
            // What cannot be read is not needed.
            let _ = errors.read_to_string(&mut text);
        }
        text
    }

    fn terminate(&mut self) {
        // It may have ended on its own.
        let _ = Command::new("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.terminate();
        let _ = self.child.wait();
    }
}

/// The requests of a mount, by what it said when it ended.
fn requests(said: &str) -> String {
    let counted = said.lines().rev().find_map(|line| line.split_once("requests=")?.1.split(' ').next());
    counted.unwrap_or("?").to_owned()
}

fn timed(mut work: impl FnMut() -> Result<(), String>) -> Result<f64, String> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64())
}

/// The median of several.
fn median(times: Result<Vec<f64>, String>) -> Result<f64, String> {
    let mut times = times?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn read(path: &std::path::Path) -> Result<(), String> {
    fs::read(path).map(drop).map_err(|error| format!("{}: {error}", path.display()))
}

/// Lists, reads small files and streams a large one.
pub(super) fn run(bench: &Bench) -> Result<Section, String> {
    let tree = bench.place().join("tree");
    write(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    let reference = format!("{}/bench/tree:v1", server.addr);
    quietly(bench.blob(&["push", &reference, "tree"]))?;
    let mut section = Section {
        title: "mount: an archive as a file system".into(),
        circumstances: format!(
            "{NAMES} small files, {SMALL_FILES} of 64 KiB and one of 200 MiB that does not compress; {} cores, a registry in memory beside \
             it; `blob mount`, first with an empty cache, then anew with that cache; *again* is what the kernel has by then",
            cores()
        ),
        header: vec!["work", "empty cache", "cached", "again", "directory in memory"],
        ..Section::default()
    };
    let (cold, first) = pass(bench, &reference)?;
    let (warm, second) = pass(bench, &reference)?;
    let mount = Mount::of(bench, &reference, "cache")?;
    let again = again(bench, "mnt")?;
    drop(mount);
    let plain = self::again(bench, "tree")?;
    let units = [("`find DIR | wc -l`, 10,200 files", "ms", 1e3), ("a file of 64 KiB", "µs", 1e6)];
    for (at, (work, unit, factor)) in units.into_iter().enumerate() {
        let cell = |times: &[f64; 3]| format!("{:.1} {unit}", times[at] * factor);
        section.rows.push(vec![work.into(), cell(&cold), cell(&warm), cell(&again), cell(&plain)]);
    }
    let cell = |times: &[f64; 3]| format!("{:.0} MiB/s", (LARGE >> 20) as f64 / times[2]);
    section.rows.push(vec!["`cat` of 200 MiB".into(), cell(&cold), cell(&warm), cell(&again), cell(&plain)]);
    section.rows.push(vec!["requests of the mount".into(), first, second, String::new(), String::new()]);
    section.notes.push(
        "Before the first byte of the large file it is fetched, verified and written to a temporary file, whole; that is part of its rate.".into(),
    );
    Ok(section)
}

fn write(tree: &std::path::Path) -> std::io::Result<()> {
    for directory in ["many", "small"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    for number in 0..NAMES {
        fs::write(tree.join(format!("many/file-{number:05}.txt")), number.to_string())?;
    }
    let mut state = 1_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        (0..length / 4).flat_map(|_| step().to_le_bytes()).collect()
    };
    for number in 0..SMALL_FILES {
        fs::write(tree.join(format!("small/{number}")), noise(SMALL))?;
    }
    fs::write(tree.join("large"), noise(LARGE))
}

/// Everything once, on a fresh mount: seconds of the listing, of a small file, of the large one; and the requests.
fn pass(bench: &Bench, reference: &str) -> Result<([f64; 3], String), String> {
    let mount = Mount::of(bench, reference, "cache")?;
    let find = timed(|| quietly(bench.shell("find mnt | wc -l")))?;
    let small = (0..SMALL_FILES).map(|number| timed(|| read(&mount.directory.join(format!("small/{number}")))));
    let small = median(small.collect())?;
    let large = timed(|| quietly(bench.shell("cat mnt/large > /dev/null")))?;
    Ok(([find, small, large], requests(&mount.end())))
}

/// Everything below `directory` several times, after once.
fn again(bench: &Bench, directory: &str) -> Result<[f64; 3], String> {
    let find = || timed(|| quietly(bench.shell(&format!("find {directory} | wc -l"))));
    let small = || timed(|| read(&bench.place().join(directory).join("small/7")));
    let large = || timed(|| quietly(bench.shell(&format!("cat {directory}/large > /dev/null"))));
    // What is asked for the first time is not known to the kernel yet.
    for work in [&find as &dyn Fn() -> Result<f64, String>, &small, &large] {
        work()?;
    }
    let several = |work: &dyn Fn() -> Result<f64, String>| median((0..ROUNDS).map(|_| work()).collect());
    Ok([several(&find)?, several(&small)?, several(&large)?])
}
