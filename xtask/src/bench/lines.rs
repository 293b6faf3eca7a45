//! `lines` and `crowds`: bad lines, many small things, and registries that need patience.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::measure;
use super::report::Section;
use super::requests::{Traffic, proxy};
use super::transfer::{Blob, REPOSITORY, example, image, quiet_delete, sent};
use super::{Bench, quietly};
use crate::peers::find;
use crate::process::output;
use crate::server::{Server, build};

/// How often each contender runs on each line.
const ROUNDS: usize = 5;

/// What the lines carry, unless the environment says otherwise: at 1 Gbit/s this takes 2.1 seconds.
const LINE_BYTES: u64 = 256 << 20;

/// Small blobs.
const MANY: &str = "1000";

/// Processes that attach a referrer to one subject at the same time.
const WRITERS: usize = 32;

/// The digest of `{}`, which every registry here has.
const SUBJECT: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

const LINES: [(&str, &[&str]); 3] = [
    ("1 Gbit/s", &["--mbit", "1000"]),
    ("1 Gbit/s, 50 ms", &["--mbit", "1000", "--rtt-ms", "50"]),
    // One block of 1 MiB in a hundred.
    ("1 Gbit/s, 50 ms, 1 % resets", &["--mbit", "1000", "--rtt-ms", "50", "--reset-mib", "100"]),
];

/// One blob over lines from good to bad.
pub(super) fn lines(bench: &Bench) -> Result<Section, String> {
    let blob = Blob::make(bench, LINE_BYTES)?;
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    let program = example(bench)?;
    let digest = sent(bench, &program, &server.addr, "blob")?;
    image(bench, &server.addr, (&digest, blob.bytes))?;
    let skopeo = find("skopeo").is_some();
    if skopeo {
        let from = format!("docker://{}/{REPOSITORY}:v1", server.addr);
        quietly(bench.shell(&format!("rm -rf image && skopeo copy -q --src-tls-verify=false {from} dir:image")))?;
    }
    let mut section = Section {
        title: "lines: one blob over good and bad lines".into(),
        circumstances: blob.circumstances(bench),
        header: vec!["line", "work", "program", "finished", "seconds", "ratio", "moved ÷ size", "limit", "peak MiB"],
        ..Section::default()
    };
    let ideal = blob.bytes as f64 / 125e6;
    for (name, options) in LINES {
        for down in [true, false] {
            let mut results = Vec::new();
            for contender in contenders(bench, &program, skopeo) {
                let mut line = proxy(&server.addr, options)?;
                let before = || {
                    if !down {
                        quiet_delete(bench, &server.addr, &digest);
                    }
                };
                let mut series = Series { bench, line: &mut line, blob: &blob, digest: &digest, before: &before };
                results.push((contender.name, series.repeat(&contender, down)?));
            }
            // Whoever comes next finds the blob again.
            sent(bench, &program, &server.addr, "blob")?;
            let ours = results[0].1.median();
            for (program, series) in &results {
                section.rows.push(series.row([name, if down { "down" } else { "up" }, program], ours, blob.bytes));
            }
        }
    }
    section.notes.push(format!(
        "The line alone takes {ideal:.2} s for these bytes. Resets cut a connection once in 100 MiB on average, at places \
         that are the same for everybody; *moved* counts both directions. oci-client does not repeat what fails; skopeo \
         runs with `--retry-times 5`."
    ));
    Ok(section)
}

/// A program, and how it moves the blob over the line at an address.
struct Mover<'b> {
    name: &'static str,
    command: Box<Move<'b>>,
}

/// Makes a command from an address, a blob, and whether it goes down.
type Move<'b> = dyn Fn(&str, &Blob, bool) -> Command + 'b;

fn contenders<'b>(bench: &'b Bench, program: &Path, skopeo: bool) -> Vec<Mover<'b>> {
    let own = |prefix: &'static str| {
        let program = program.to_owned();
        move |addr: &str, blob: &Blob, down: bool| {
            let (place, size) = (format!("{addr}/{REPOSITORY}"), blob.bytes.to_string());
            let source = format!("{place}@{}", blob.digest);
            let (get, put) = (format!("{prefix}get"), format!("{prefix}put"));
            let mut arguments =
                if down { vec![get.as_str(), &source, &size, "down"] } else { vec![put.as_str(), &place, "blob"] };
            if !down && !prefix.is_empty() {
                arguments.push(&blob.digest);
            }
            bench.at_home(Command::new(&program), &arguments)
        }
    };
    let mut all = vec![
        Mover { name: "transfer", command: Box::new(own("")) },
        Mover { name: "oci-client", command: Box::new(own("peer-")) },
    ];
    if skopeo {
        let command = move |addr: &str, _: &Blob, down: bool| {
            let at = format!("docker://{addr}/{REPOSITORY}:v1");
            bench.shell(&if down {
                format!("skopeo copy -q --retry-times 5 --src-tls-verify=false {at} dir:down")
            } else {
                format!("skopeo copy -q --preserve-digests --retry-times 5 --dest-tls-verify=false dir:image {at}")
            })
        };
        all.push(Mover { name: "skopeo", command: Box::new(command) });
    }
    all
}

/// Runs of one program over one line.
struct Series<'a> {
    bench: &'a Bench,
    line: &'a mut Server,
    blob: &'a Blob,
    digest: &'a str,
    before: &'a dyn Fn(),
}

#[derive(Default)]
struct Outcomes {
    finished: usize,
    runs: usize,
    /// Seconds of the runs that finished, sorted.
    seconds: Vec<f64>,
    /// The most that one run moved, in bytes.
    moved: u64,
    /// KiB.
    peak: u64,
}

impl Series<'_> {
    fn repeat(&mut self, mover: &Mover<'_>, down: bool) -> Result<Outcomes, String> {
        let mut outcomes = Outcomes::default();
        for round in 0..ROUNDS {
            let down_path = self.bench.place().join("down");
            measure::remove(&down_path)?;
            (self.before)();
            let run = measure::attempt((mover.command)(&self.line.addr, self.blob, down))?;
            let traffic = Traffic::take(self.line)?;
            eprintln!("   {round} {:<24} {:>8.3} s {}", mover.name, run.wall, if run.success { "" } else { "failed" });
            outcomes.runs += 1;
            outcomes.moved = outcomes.moved.max(traffic.up + traffic.down);
            outcomes.peak = outcomes.peak.max(run.peak);
            if run.success {
                outcomes.finished += 1;
                outcomes.seconds.push(run.wall);
                if down && down_path.is_file() {
                    quietly(self.bench.shell(&format!("echo '{}  down' | sha256sum -c --quiet", &self.digest[7..])))?;
                }
            }
        }
        outcomes.seconds.sort_by(f64::total_cmp);
        Ok(outcomes)
    }
}

impl Outcomes {
    fn median(&self) -> f64 {
        measure::median(&self.seconds)
    }

    fn row(&self, [line, work, program]: [&str; 3], ours: f64, size: u64) -> Vec<String> {
        let (low, high) = (self.seconds.first().copied(), self.seconds.last().copied());
        let seconds = match (low, high) {
            (Some(low), Some(high)) => format!("{:.2} [{low:.2}–{high:.2}]", self.median()),
            _ => "–".to_owned(),
        };
        let is_ours = program == "transfer";
        let ratio =
            if is_ours || self.seconds.is_empty() { String::new() } else { format!("{:.2}", ours / self.median()) };
        vec![
            line.to_owned(),
            work.to_owned(),
            program.to_owned(),
            format!("{} of {}", self.finished, self.runs),
            seconds,
            ratio,
            format!("{:.3}", self.moved as f64 / size as f64),
            if is_ours { "all; peak ≤ 96 MiB".to_owned() } else { String::new() },
            format!("{:.0}", self.peak as f64 / 1024.0),
        ]
    }
}

/// Many small blobs, a manifest that is missed slowly, refusals, and writers of one list.
pub(super) fn crowds(bench: &Bench) -> Result<Section, String> {
    let program = build("blob-registry", ("example", "crowd"), true)?;
    let mut section = Section {
        title: "crowds: many small things".into(),
        circumstances: format!("{} blobs of 1 KiB, 16 at a time, round trips of 5 ms, {} cores", MANY, super::cores()),
        header: vec!["work", "program", "finished", "seconds", "requests", "tokens", "limit"],
        ..Section::default()
    };
    let gate = ["--token", "t0ken", "--rtt-ms", "5"];
    small_blobs(bench, &program, ("", &gate), &mut section)?;
    let storm = ["--token", "t0ken", "--rtt-ms", "5", "--storm", "50:10"];
    small_blobs(bench, &program, (", 10 × 429", &storm), &mut section)?;
    unknown_kind(bench, &program, &mut section)?;
    writers(bench, &program, &mut section)?;
    section.notes.push(
        "In the storm every 50th request is answered with 429 and `Retry-After: 1`, ten times; refusals that come \
         together may be waited for together. The miss of the manifest takes 8 s; *manifest first* is what programs do \
         that ask in that order. The writers attach one referrer each, all at once, to one subject in Debian's \
         docker-registry, which has no referrers API: *found* is what the list holds afterwards."
            .into(),
    );
    Ok(section)
}

fn small_blobs(
    bench: &Bench,
    program: &Path,
    (kind, options): (&str, &[&str]),
    section: &mut Section,
) -> Result<(), String> {
    for (name, prefix) in [("crowd", ""), ("oci-client", "peer-")] {
        let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
        for work in ["put", "get"] {
            // The proxy counts refusals from its start.
            let mut line = proxy(&server.addr, options)?;
            let place = format!("{}/{REPOSITORY}", line.addr);
            let command = bench.at_home(Command::new(program), &[&format!("{prefix}{work}"), &place, MANY]);
            let run = measure::attempt(command)?;
            let traffic = Traffic::take(&mut line)?;
            let limit = if prefix.is_empty() { "1 token" } else { "" };
            section.rows.push(vec![
                format!("{work} {MANY} blobs{kind}"),
                name.to_owned(),
                yes(run.success),
                format!("{:.2}", run.wall),
                traffic.requests.to_string(),
                traffic.tokens.to_string(),
                limit.to_owned(),
            ]);
            if !run.success && work == "put" {
                // There is nothing to get then; it is put by the other program.
                quietly(
                    bench.at_home(Command::new(program), &["put", &format!("{}/{REPOSITORY}", server.addr), MANY]),
                )?;
            }
        }
    }
    Ok(())
}

fn unknown_kind(bench: &Bench, program: &Path, section: &mut Section) -> Result<(), String> {
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    quietly(bench.at_home(Command::new(program), &["put", &format!("{}/{REPOSITORY}", server.addr), "1"]))?;
    let content = "printf '00000000%.0s' {1..128} | sha256sum | cut -d' ' -f1";
    let digest = format!("sha256:{}", output(&mut bench.shell(content))?.trim());
    let mut line = proxy(&server.addr, &["--slow-manifests", "8000", "--rtt-ms", "50"])?;
    let base = format!("http://{}/v2/{REPOSITORY}", line.addr);
    let curl = format!("curl -sfI {base}/manifests/{digest} || curl -sSfI {base}/blobs/{digest}");
    let place = format!("{}/{REPOSITORY}@{digest}", line.addr);
    let commands = [
        ("crowd", bench.at_home(Command::new(program), &["kind", &place]), "one round trip (0.05 s) + connecting"),
        ("curl, manifest first", bench.shell(&curl), ""),
    ];
    for (name, command, limit) in commands {
        let run = measure::attempt(command)?;
        let traffic = Traffic::take(&mut line)?;
        section.rows.push(vec![
            "a digest of unknown kind".into(),
            name.into(),
            yes(run.success),
            format!("{:.2}", run.wall),
            traffic.requests.to_string(),
            traffic.tokens.to_string(),
            limit.into(),
        ]);
    }
    Ok(())
}

/// Processes that attach referrers to one subject at the same time, on a registry without the API.
fn writers(bench: &Bench, program: &Path, section: &mut Section) -> Result<(), String> {
    let Some(docker) = DockerRegistry::start(bench)? else {
        section.notes.push("docker-registry is not installed: no writers of referrers.".into());
        return Ok(());
    };
    for (name, locks, limit) in [("one machine", Some("locks"), "all found"), ("32 machines", None, "")] {
        let place = format!("{}/bench/{}@{SUBJECT}", docker.addr, if locks.is_some() { "one" } else { "many" });
        let began = Instant::now();
        let mut children = Vec::new();
        for number in 0..WRITERS {
            let number = number.to_string();
            let arguments = ["attach", &place, &number].into_iter().chain(locks);
            let mut command = bench.at_home(Command::new(program), &arguments.collect::<Vec<_>>());
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
            children.push(child.map_err(|error| format!("crowd could not be started: {error}"))?);
        }
        let mut failed = 0;
        for mut child in children {
            failed += usize::from(!child.wait().map_err(|error| error.to_string())?.success());
        }
        let seconds = began.elapsed().as_secs_f64();
        let found = output(&mut bench.at_home(Command::new(program), &["referrers", &place]))?;
        section.rows.push(vec![
            format!("{WRITERS} processes attach referrers, as {name}"),
            "crowd".into(),
            format!("{} of {WRITERS}, {} found", WRITERS - failed, found.trim()),
            format!("{seconds:.2}"),
            String::new(),
            String::new(),
            limit.into(),
        ]);
    }
    Ok(())
}

fn yes(success: bool) -> String {
    if success { "yes" } else { "no" }.to_owned()
}

/// Debian's docker-registry, which keeps everything in memory; killed when dropped.
struct DockerRegistry {
    child: Child,
    addr: String,
}

impl DockerRegistry {
    fn start(bench: &Bench) -> Result<Option<Self>, String> {
        let Some(program) = find("docker-registry") else { return Ok(None) };
        let config: PathBuf = bench.place().join("registry.yml");
        let probe = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let addr = probe.map_err(|error| format!("finding a port: {error}"))?.to_string();
        let text = format!("version: 0.1\nlog:\n  level: error\nstorage:\n  inmemory: {{}}\nhttp:\n  addr: {addr}\n");
        std::fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let registry = Self { child: child.map_err(|error| format!("docker-registry: {error}"))?, addr };
        let wait = format!("curl -sSf --retry 50 --retry-delay 0 --retry-connrefused http://{}/v2/", registry.addr);
        quietly(bench.shell(&wait))?;
        Ok(Some(registry))
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
