//! From start to exit: what a person waits for who types a small command.

use std::fs;
use std::process::Command;
use std::time::Instant;

use super::report::Section;
use super::{Bench, cores, quietly};
use crate::server::Server;

/// How often each command runs, in turns with the others.
const ROUNDS: usize = 40;
const ENTRIES: usize = 10_000;
/// What the released program may weigh, in MiB: more is looked into before it is raised.
const LARGEST: f64 = 48.0;

/// Starts small commands on an archive of 10,000 files that is cached, and weighs the program.
pub(super) fn run(bench: &Bench) -> Result<Section, String> {
    let place = bench.place().join("many");
    let failed = |error: std::io::Error| format!("{}: {error}", place.display());
    fs::create_dir(&place).map_err(failed)?;
    for number in 0..ENTRIES {
        fs::write(place.join(format!("file-{number:05}.txt")), number.to_string()).map_err(failed)?;
    }
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    let reference = format!("{}/bench/many:v1", server.addr);
    quietly(bench.blob(&["push", &reference, "many"]))?;

    let cached = |args: &[&str]| {
        let mut command = bench.blob(args);
        command.env_remove("BLOB_NO_CACHE").env("BLOB_CACHE_DIR", bench.place().join("cache"));
        command
    };
    let commands = [
        ("`blob --version`", "5"),
        ("`blob ls` of 10,000 cached entries", "15"),
        ("`blob cat` of one of them", "10"),
        ("`bash -c 'ls many'`", ""),
        ("`bash -c true`", ""),
    ];
    let command = |at: usize| match at {
        0 => cached(&["--version"]),
        1 => cached(&["ls", &reference]),
        2 => cached(&["cat", &reference, "file-05000.txt"]),
        3 => bench.shell("ls many"),
        _ => bench.shell("true"),
    };
    let mut times = vec![Vec::new(); commands.len()];
    for round in 0..=ROUNDS {
        for (at, times) in times.iter_mut().enumerate() {
            let command: Command = command(at);
            let begin = Instant::now();
            quietly(command)?;
            if round > 0 {
                times.push(begin.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let mut section = Section {
        title: "start: small commands from start to exit".into(),
        circumstances: format!("{ENTRIES} files in one directory, {ROUNDS} rounds in turns, {} cores", cores()),
        header: vec!["command", "median ms", "interval", "limit"],
        ..Section::default()
    };
    for ((name, limit), mut times) in commands.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let interval = format!("{:.1}–{:.1}", times[0], times[ROUNDS - 1]);
        section.rows.push(vec![(*name).into(), format!("{:.1}", times[ROUNDS / 2]), interval, (*limit).into()]);
    }
    let size = fs::metadata(&bench.blob).map_err(|error| format!("{}: {error}", bench.blob.display()))?.len();
    let size = size as f64 / (1024.0 * 1024.0);
    section.notes.push(format!("The program, with everything it can do, has {size:.1} MiB (limit: {LARGEST} MiB)."));
    Ok(section)
}
