//! P1 and P3: what goes over the wire, counted by a proxy in front of the embedded server.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::report::Section;
use super::{Bench, quietly};
use crate::server::{Server, build};

const HEADER: [&str; 6] = ["work", "requests", "limit", "bytes up", "bytes down", "command"];
const REPOSITORY: &str = "bench/data:v1";

/// P1: one file by tag, nothing cached: plain, with a token, with a token and blobs elsewhere.
pub(super) fn cold_read(bench: &Bench) -> Result<Section, String> {
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    quietly(bench.blob(&["push", &format!("{}/{REPOSITORY}", server.addr), "data"]))?;
    let path = some_file(bench)?;
    let mut section = section(bench, "P1: cold read of one file");
    let cases: [(&str, &[&str], &str); 3] = [
        ("plain", &[], "≤ 3"),
        ("token", &["--token", "t0ken"], "≤ 5"),
        ("token, blobs redirected", &["--token", "t0ken", "--redirect-blobs"], "≤ 8"),
    ];
    for (work, options, limit) in cases {
        let mut proxy = proxy(&server.addr, options)?;
        let reference = format!("{}/{REPOSITORY}", proxy.addr);
        quietly(bench.blob(&["cat", &reference, &path]))?;
        let log = proxy.ask("log", "requests=")?;
        section.rows.push(row(work, &log, limit, &format!("blob cat HOST/{REPOSITORY} {path}"))?);
        section.notes.push(format!("Requests, {work}:\n\n```text\n{}\n```", log.join("\n")));
    }
    Ok(section)
}

/// P2: the same file again, by another process with the same cache: within the time for which tags are believed.
pub(super) fn warm_read(bench: &Bench) -> Result<Section, String> {
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    quietly(bench.blob(&["push", &format!("{}/{REPOSITORY}", server.addr), "data"]))?;
    let path = some_file(bench)?;
    let mut section = section(bench, "P2: warm read of one file");
    let mut proxy = proxy(&server.addr, &[])?;
    let reference = format!("{}/{REPOSITORY}", proxy.addr);
    let mut fastest = f64::INFINITY;
    for (work, limit) in [("first read", ""), ("second read", "0"), ("third read", "0")] {
        let mut command = bench.blob(&["cat", "--cache-dir", "cache", &reference, &path]);
        command.env_remove("BLOB_NO_CACHE");
        let started = Instant::now();
        quietly(command)?;
        fastest = fastest.min(started.elapsed().as_secs_f64());
        let log = proxy.ask("take", "requests=")?;
        section.rows.push(row(work, &log, limit, &format!("blob cat HOST/{REPOSITORY} {path}"))?);
    }
    section.notes.push(format!("From start to exit, the fastest: {:.1} ms (limit: 10 ms).", fastest * 1e3));
    Ok(section)
}

/// What the block cache does to the number of requests, at several round-trip times.
pub(super) fn blocks(bench: &Bench) -> Result<Section, String> {
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    let program = build("blob", ("example", "ranged_reads"), true)?;
    // Noise, so that there is as much to read as there are bytes.
    quietly(bench.shell("mkdir -p blocks && head -c 16M /dev/urandom > blocks/noise"))?;
    quietly(bench.blob(&["push", "-c", "none", &format!("{}/bench/blocks:v1", server.addr), "blocks"]))?;
    let mut section = section(bench, "blocks: requests with and without the block cache");
    section.circumstances = format!("16 MiB of noise, {} cores", super::cores());
    section.header = vec!["round trip", "work", "requests without", "with", "limit", "seconds without", "with"];
    for round_trip in ["0", "5", "50"] {
        let mut proxy = proxy(&server.addr, &["--rtt-ms", round_trip])?;
        let reference = format!("{}/bench/blocks:v1", proxy.addr);
        for (work, limit) in [("sequential", "≤ without"), ("random", "≤ without ÷ 10")] {
            let (mut requests, mut seconds) = (Vec::new(), Vec::new());
            for blocks in ["off", "on"] {
                let started = Instant::now();
                quietly(bench.at_home(Command::new(&program), &[&reference, work, blocks]))?;
                seconds.push(format!("{:.2}", started.elapsed().as_secs_f64()));
                let log = proxy.ask("take", "requests=")?;
                requests.push(row(work, &log, limit, "")?.swap_remove(1));
            }
            let work = if work == "random" { "3,000 reads of 4 KiB at random" } else { "all in steps of 100 KiB" };
            let cells = [work, &requests[0], &requests[1], limit, &seconds[0], &seconds[1]];
            section.rows.push([format!("{round_trip} ms")].into_iter().chain(cells.map(str::to_owned)).collect());
        }
    }
    Ok(section)
}

/// P3: a push of what is there already.
pub(super) fn unchanged_push(bench: &Bench) -> Result<Section, String> {
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    let mut proxy = proxy(&server.addr, &[])?;
    let reference = format!("{}/{REPOSITORY}", proxy.addr);
    let mut section = section(bench, "P3: push of an unchanged tree");
    for (work, limit) in [("first push", ""), ("second push", "≤ 2")] {
        quietly(bench.blob(&["push", &reference, "data"]))?;
        let log = proxy.ask("log", "requests=")?;
        section.rows.push(row(work, &log, limit, &format!("blob push HOST/{REPOSITORY} data"))?);
        if work == "second push" {
            section.notes.push(format!("Requests of the second push:\n\n```text\n{}\n```", log.join("\n")));
        }
    }
    Ok(section)
}

fn section(bench: &Bench, title: &str) -> Section {
    Section { title: title.into(), circumstances: bench.circumstances(), header: HEADER.to_vec(), ..Section::default() }
}

pub(super) fn proxy(upstream: &str, options: &[&str]) -> Result<Server, String> {
    let binary = build("blob-testkit", ("bin", "blob-testkit-proxy"), true)?;
    Server::start(Command::new(binary).args(["--upstream", upstream]).args(options).stderr(Stdio::inherit()))
}

/// What a proxy saw since it was asked last.
pub(super) struct Traffic {
    pub(super) requests: u64,
    /// Requests for tokens among them.
    pub(super) tokens: usize,
    /// Body bytes towards the registry.
    pub(super) up: u64,
    /// Body bytes towards the client.
    pub(super) down: u64,
}

impl Traffic {
    pub(super) fn take(proxy: &mut Server) -> Result<Self, String> {
        let log = proxy.ask("log", "requests=")?;
        let summary = log.last().map(String::as_str).unwrap_or_default();
        let value = |name| number(summary, name)?.parse().map_err(|_| format!("the proxy said {summary:?}"));
        let tokens = log.iter().filter(|request| request.contains(" /token")).count();
        Ok(Self { requests: value("requests")?, tokens, up: value("up")?, down: value("down")? })
    }
}

/// The value of `name` in the proxy's summary.
fn number(summary: &str, name: &str) -> Result<String, String> {
    let found = summary.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned).ok_or_else(|| format!("the proxy said {summary:?}, without `{name}`"))
}

/// A file of ordinary size from the middle of the tree.
fn some_file(bench: &Bench) -> Result<String, String> {
    let listing = bench.shell("find data -type f -size +8k -size -64k | LC_ALL=C sort");
    let listing = crate::process::output(&mut { listing })?;
    let files: Vec<&str> = listing.lines().filter_map(|line| line.strip_prefix("data/")).collect();
    files
        .get(files.len() / 2)
        .map(|path| (*path).to_owned())
        .ok_or_else(|| "no file of 8 to 64 KiB in the data".to_owned())
}

fn row(work: &str, log: &[String], limit: &str, command: &str) -> Result<Vec<String>, String> {
    let summary = log.last().map(String::as_str).unwrap_or_default();
    let value = |name: &str| number(summary, name);
    Ok(vec![
        work.to_owned(),
        value("requests")?,
        limit.to_owned(),
        value("up")?,
        value("down")?,
        format!("`{command}`"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_made_from_the_summary_of_the_proxy() {
        let log = ["GET / -> 200, 0 up, 7 down".to_owned(), "requests=1 up=0 down=7".to_owned()];
        assert_eq!(
            row("plain", &log, "≤ 3", "blob cat"),
            Ok(["plain", "1", "≤ 3", "0", "7", "`blob cat`"].map(str::to_owned).to_vec())
        );
        assert!(row("plain", &[], "", "").is_err());
    }
}
