//! The proxy as a program, for callers that cannot link the library.
//!
//! It prints `listening on http://ADDR`, then obeys lines on standard input: `take` prints `requests=N up=B down=B` for what
//! was seen since the last `take`, `log` prints one line for each of those requests first. It ends with its input.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use blob_testkit::proxy::{Action, Faults, Gate, Proxy, ProxyOptions, Rule, Shape, Summary};

const USAGE: &str = "\
usage: blob-testkit-proxy --upstream ADDR:PORT [options]

options:
  --rtt-ms N          round-trip time in milliseconds
  --mbit N            bandwidth in Mbit/s in each direction
  --token TEXT        ask for this bearer token; /token hands it out
  --redirect-blobs    answer reads of blobs with a redirect to a second origin
  --refuse N          answer the first N starts of uploads and the first N reads of blobs with 429 and `Retry-After: 1`
  --cut N:BYTES       cut the first N bodies of each kind (sent to a session, read from a blob) after BYTES
  --reset-mib N       cut bodies at random, one in N MiB on average, the same every time
  --slow-manifests N  answer about manifests N milliseconds later
  --storm N:M         answer every N-th request below /v2/ with 429 and `Retry-After: 1`, M times

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
    let (mut gate, mut rules, mut resets) = (Gate::default(), Vec::new(), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value\n\n{USAGE}"));
        match arg.as_str() {
            "--upstream" => upstream = Some(value()?.parse()?),
            "--rtt-ms" => round_trip = Duration::from_millis(value()?.parse()?),
            "--mbit" => megabits = Some(value()?.parse::<u64>()?),
            "--token" => gate.token = Some(value()?),
            "--redirect-blobs" => gate.redirect_blobs = true,
            "--refuse" => {
                let times = value()?.parse()?;
                let refusal = || Action::status_with(429, "Retry-After", "1");
                rules.push(Rule::first("/blobs/uploads/", refusal()).method("POST").times(times));
                rules.push(Rule::first("/blobs/sha256:", refusal()).method("GET").times(times));
            }
            "--cut" => {
                let value = value()?;
                let (times, bytes) = value.split_once(':').ok_or_else(|| format!("{value} is not N:BYTES"))?;
                let (times, bytes) = (times.parse()?, bytes.parse()?);
                for method in ["PUT", "PATCH"] {
                    let cut = Rule::first("/blobs/uploads/", Action::CutUpload(bytes));
                    rules.push(cut.method(method).times(times));
                }
                rules.push(Rule::first("/blobs/sha256:", Action::Cut(bytes)).method("GET").times(times));
            }
            "--reset-mib" => resets = Some(value()?.parse::<u64>()? << 20),
            "--slow-manifests" => {
                let late = Action::Delay(Duration::from_millis(value()?.parse()?));
                rules.push(Rule::every("/manifests/", late));
            }
            "--storm" => {
                let value = value()?;
                let (every, times) = value.split_once(':').ok_or_else(|| format!("{value} is not N:M"))?;
                let (every, times): (u64, u64) = (every.parse()?, times.parse()?);
                let refusal = || Action::status_with(429, "Retry-After", "1");
                rules.extend((1..=times).map(|number| Rule::first("/v2/", refusal()).after(number * every)));
            }
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(());
            }
            _ => return Err(format!("unknown argument {arg}\n\n{USAGE}").into()),
        }
    }
    let upstream = upstream.ok_or(USAGE)?;
    let shape = Shape { round_trip, bytes_per_second: megabits.map(|m| m * 125_000) };
    let faults = Faults::script(rules);
    let faults = match resets {
        Some(mean) => faults.with_resets(1, mean),
        None => faults,
    };
    let proxy = Proxy::start(upstream, ProxyOptions { shape, gate, faults })?;
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
