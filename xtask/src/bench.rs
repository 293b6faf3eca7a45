//! `cargo xtask bench`: the same work done by `blob` and by other programs, in one run.
//!
//! Runs of the contenders alternate, so that what the machine does meanwhile hits all of them alike. Results go to
//! `docs/benchmarks.md` between its markers, one section for each scenario; scenarios that did not run keep their section.

mod create;
mod extract;
mod index;
mod lines;
mod measure;
mod mount;
mod report;
mod requests;
mod start;
mod transfer;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::compare;
use crate::process::{isolate, output};
use crate::scratch::{Scratch, copy_tree};
use crate::server;
use crate::workspace::root;
use report::Section;

/// Where the work happens: memory, so that disks do not speak.
const MEMORY: &str = "/dev/shm";

/// The environment variable that names other input.
const DATA: &str = "BENCH_DATA";

type Scenario = fn(&Bench) -> Result<Section, String>;

const SCENARIOS: [(&str, Scenario); 16] = [
    ("P1", requests::cold_read),
    ("P2", requests::warm_read),
    ("P3", requests::unchanged_push),
    ("P4", create::run),
    ("P5", extract::run),
    ("P6", transfer::over_a_line),
    ("P7", transfer::one_blob),
    ("P8", index::index),
    ("P9", index::cache),
    ("P11", transfer::through_faults),
    ("blocks", requests::blocks),
    ("crowds", lines::crowds),
    ("lines", lines::lines),
    ("verify", verify::cost),
    ("start", start::run),
    ("mount", mount::run),
];

/// Runs the named scenarios, or all.
pub(crate) fn run(names: &[String]) -> Outcome {
    if let Some(unknown) = names.iter().find(|name| SCENARIOS.iter().all(|(known, _)| known != name)) {
        let known: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no scenario `{unknown}`; there are {}", known.join(", ")));
    }
    let chosen = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let bench = Bench::prepare()?;
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| chosen(name)) {
        eprintln!("== {name}");
        let section = scenario(&bench)?;
        println!("{section}");
        report::store(&root().join("docs/benchmarks.md"), name, &section)?;
    }
    Ok(())
}

/// What all scenarios share: the program, a directory in memory, and in it the tree `data`.
struct Bench {
    blob: PathBuf,
    scratch: Scratch,
    source: PathBuf,
    files: usize,
    bytes: u64,
}

impl Bench {
    fn prepare() -> Result<Self, String> {
        let blob = server::blob(true)?;
        let scratch = Scratch::new(Path::new(MEMORY), "bench")?;
        let source = data_source()?;
        eprintln!("copying {} to {}", source.display(), scratch.path().display());
        let data = scratch.path().join("data");
        copy_tree(&source, &data, &|_| false)?;
        fs::create_dir(scratch.path().join("home"))
            .map_err(|error| format!("{}: {error}", scratch.path().display()))?;
        let (files, bytes) = compare::totals(&data)?;
        Ok(Self { blob, scratch, source, files, bytes })
    }

    fn place(&self) -> &Path {
        self.scratch.path()
    }

    /// A `blob` command in the place, without the user's configuration.
    fn blob(&self, args: &[&str]) -> Command {
        self.at_home(Command::new(&self.blob), args)
    }

    /// A line for the shell in the place; a failure anywhere in a pipe counts.
    fn shell(&self, line: &str) -> Command {
        self.at_home(Command::new("bash"), &["-o", "pipefail", "-c", line])
    }

    fn at_home(&self, mut command: Command, args: &[&str]) -> Command {
        isolate(&mut command, &self.place().join("home"));
        // Every run is to be as cold as the first one.
        command.env("BLOB_NO_CACHE", "1");
        command.current_dir(self.place()).args(args);
        command
    }

    /// What was measured on what, for the head of a section.
    fn circumstances(&self) -> String {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, name)| name);
        let mib = self.bytes as f64 / (1024.0 * 1024.0);
        format!("{} files, {mib:.0} MiB ({}), {model}, {} cores", self.files, self.origin(), cores())
    }

    /// The source as a reader of the report can find it.
    fn origin(&self) -> String {
        if std::env::var_os(DATA).is_some() {
            format!("`{}`", self.source.display())
        } else {
            "`~/.cargo/registry/src`".into()
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Real input that every machine with Rust has: the sources of its dependencies. `BENCH_DATA` names another directory.
fn data_source() -> Result<PathBuf, String> {
    if let Some(source) = std::env::var_os(DATA) {
        return Ok(source.into());
    }
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let source = home.ok_or("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    if !source.is_dir() {
        return Err(format!("{}: no sources there; build the workspace first", source.display()));
    }
    Ok(source)
}

/// Fails unless the tree at `path` equals `data`.
fn same_as_data(bench: &Bench, path: &str) -> Outcome {
    let differences = compare::differences(&bench.place().join("data"), &bench.place().join(path))?;
    match differences.first() {
        None => Ok(()),
        Some(first) => Err(format!("`{path}` is not `data`: {} differences, the first: {first}", differences.len())),
    }
}

/// Runs a command that is not measured.
fn quietly(mut command: Command) -> Outcome {
    output(&mut command).map(drop)
}
