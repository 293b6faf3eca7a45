//! The proxy as a program, for callers that cannot link the library.
//!
//! It prints `listening on http://ADDR`, then obeys lines on standard input: `take` prints `requests=N up=B down=B` for what
//! was seen since the last `take`, `log` prints one line for each of those requests first. It ends with its input.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use blob_testkit::proxy::{Gate, Proxy, ProxyOptions, Shape, Summary};

const USAGE: &str = "\
usage: blob-testkit-proxy --upstream ADDR:PORT [options]

options:
  --rtt-ms N          round-trip time in milliseconds
  --mbit N            bandwidth in Mbit/s in each direction
  --token TEXT        ask for this bearer token; /token hands it out
  --redirect-blobs    answer reads of blobs with a redirect to a second origin

commands on standard input:
  take                print `requests=N up=B down=B` since the last take
  log                 the same, after one line for each request
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut upstream = None;
    let (mut round_trip, mut megabits) = (Duration::ZERO, None);
    let mut gate = Gate::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value\n\n{USAGE}"));
        match arg.as_str() {
            "--upstream" => upstream = Some(value()?.parse()?),
            "--rtt-ms" => round_trip = Duration::from_millis(value()?.parse()?),
            "--mbit" => megabits = Some(value()?.parse::<u64>()?),
            "--token" => gate.token = Some(value()?),
            "--redirect-blobs" => gate.redirect_blobs = true,
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(());
            }
            _ => return Err(format!("unknown argument {arg}\n\n{USAGE}").into()),
        }
    }
    let upstream = upstream.ok_or(USAGE)?;
    let shape = Shape { round_trip, bytes_per_second: megabits.map(|m| m * 125_000) };
    let proxy = Proxy::start(upstream, ProxyOptions { shape, gate, ..ProxyOptions::default() })?;
    say(format_args!("listening on http://{}", proxy.addr()))?;
    for line in std::io::stdin().lock().lines() {
        let requests = match line?.trim() {
            "take" => proxy.take(),
            "log" => {
                let requests = proxy.take();
                requests.iter().try_for_each(|request| say(format_args!("{request}")))?;
                requests
            }
            other => return Err(format!("unknown command {other:?}\n\n{USAGE}").into()),
        };
        say(format_args!("{}", Summary::of(&requests)))?;
    }
    Ok(())
}

/// Prints a line at once: the reader waits for it at the other end of a pipe.
fn say(line: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
