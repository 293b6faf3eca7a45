//! P6, P7 and P11: bytes over the wire, beside programs that do nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::measure::{Contender, Runs, in_turns};
use super::report::{Section, TIMED, row};
use super::requests::{Traffic, proxy};
use super::{Bench, quietly, same_as_data};
use crate::peers::find;
use crate::process::output;
use crate::server::{Server, build};

/// The environment variable with the size of the blob, in bytes.
const BYTES: &str = "BENCH_BYTES";

/// The contender that only hashes.
const HASH: &str = "SHA-256 once";

/// The contender that does the least with which a blob can be fetched and checked.
const FLOOR: &str = "floor";

/// Bytes per second of a line of 1 Gbit/s.
const LINE: f64 = 125e6;

pub(super) const REPOSITORY: &str = "bench/blob";

/// P6: everything of an archive over a line of 1 Gbit/s with 20 ms.
pub(super) fn over_a_line(bench: &Bench) -> Result<Section, String> {
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    quietly(bench.blob(&["push", &format!("{}/bench/data:v1", server.addr), "data"]))?;
    quietly(bench.shell("tar cf - data | zstd -3 -T0 -q > data.tar.zst"))?;
    let program = example(bench)?;
    let digest = sent(bench, &program, &server.addr, "data.tar.zst")?;
    let mut line = proxy(&server.addr, &["--rtt-ms", "20", "--mbit", "1000"])?;
    let addr = line.addr.clone();
    let url = format!("http://{addr}/v2/{REPOSITORY}/blobs/{digest}");
    let pull = format!("{addr}/bench/data:v1");
    let mut contenders = vec![
        Contender {
            name: "blob pull",
            command: Box::new(move || bench.blob(&["pull", &pull, "out-line"])),
            outputs: vec![bench.place().join("out-line")],
        },
        shell(
            bench,
            "curl, zstd, tar",
            format!("mkdir out-curl && curl -sSf {url} | zstd -dc | tar xf - -C out-curl"),
            "out-curl",
        ),
    ];
    let bytes = std::fs::metadata(bench.place().join("data.tar.zst")).map_err(|error| error.to_string())?.len();
    if find("skopeo").is_some() {
        image(bench, &server.addr, (&digest, bytes))?;
        let copy = format!("skopeo copy -q --src-tls-verify=false docker://{addr}/{REPOSITORY}:v1 dir:out-skopeo");
        contenders.push(shell(bench, "skopeo (no extraction)", copy, "out-skopeo"));
    }
    let results = in_turns(&contenders)?;
    same_as_data(bench, "out-line")?;
    Traffic::take(&mut line)?;
    quietly(bench.blob(&["pull", &format!("{addr}/bench/data:v1"), "out-again"]))?;
    let own = Traffic::take(&mut line)?;
    let mut section = Section {
        title: "P6: extract over a line of 1 Gbit/s and 20 ms".into(),
        circumstances: bench.circumstances(),
        header: TIMED.to_vec(),
        ..Section::default()
    };
    section.rows.push(row("pull", &results[0], None, "peak ≤ 96 MiB"));
    section.rows.extend(results[1..].iter().map(|peer| row("pull", peer, Some(&results[0]), "")));
    let ideal = own.down as f64 / LINE;
    section.notes.push(format!(
        "`blob pull` moved {:.1} MiB in {} requests, which take {ideal:.3} s on such a line; it took {:.2} of that (limit: \
         1.10). The tar file has {:.1} MiB, which take {:.3} s.",
        mib(own.down),
        own.requests,
        results[0].median() / ideal,
        mib(bytes),
        bytes as f64 / LINE
    ));
    Ok(section)
}

/// P7: one blob up and down.
pub(super) fn one_blob(bench: &Bench) -> Result<Section, String> {
    let blob = Blob::make(bench, 1 << 30)?;
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    let program = example(bench)?;
    let digest = sent(bench, &program, &server.addr, "blob")?;
    let mut section = Section {
        title: "P7: one blob up and down on loopback".into(),
        circumstances: blob.circumstances(bench),
        header: TIMED.to_vec(),
        ..Section::default()
    };
    down(bench, &blob, &program, (&server.addr, &digest), &mut section)?;
    up(bench, &program, (&server.addr, &digest), &mut section)?;
    let limit = "`blob serve` keeps the blob in memory, hashes what it is sent, and runs on the same cores. curl checks and \
                 hashes nothing; on the way up, oci-client and `transfer send` are told the digest, `transfer put` and skopeo \
                 compute it, ours while it sends.";
    section.notes.push(limit.into());
    Ok(section)
}

fn down(
    bench: &Bench,
    blob: &Blob,
    program: &Path,
    (addr, digest): (&str, &str),
    section: &mut Section,
) -> Result<(), String> {
    let size = blob.bytes.to_string();
    let source = format!("{addr}/{REPOSITORY}@{digest}");
    let url = format!("http://{addr}/v2/{REPOSITORY}/blobs/{digest}");
    let mut contenders = vec![
        call(
            bench,
            "transfer get",
            program,
            vec!["get".into(), source.clone(), size.clone(), "down".into()],
            &["down"],
        ),
        shell(bench, "curl", format!("curl -sSf -o down-curl {url}"), "down-curl"),
        shell(bench, "curl, sha256", format!("curl -sSf {url} | tee down-tee | openssl dgst -sha256"), "down-tee"),
        shell(bench, HASH, "openssl dgst -sha256 blob".into(), "none"),
        call(
            bench,
            FLOOR,
            program,
            vec!["floor-get".into(), source.clone(), size.clone(), "down-floor".into()],
            &["down-floor"],
        ),
        call(bench, "oci-client", program, vec!["peer-get".into(), source, size, "down-peer".into()], &["down-peer"]),
    ];
    if find("skopeo").is_some() {
        image(bench, addr, (digest, blob.bytes))?;
        let line = format!("skopeo copy -q --src-tls-verify=false docker://{addr}/{REPOSITORY}:v1 dir:down-skopeo");
        contenders.push(shell(bench, "skopeo", line, "down-skopeo"));
    }
    let results = in_turns(&contenders)?;
    quietly(bench.shell("cmp blob down"))?;
    rows("down", &results, section);
    Ok(())
}

/// A row for each program, and how ours stands to what it is to reach: 90 % of the slower of the best peer and one run of
/// SHA-256, with 1.15 times the processor time of a run of SHA-256 and a copy.
fn rows(work: &str, results: &[Runs], section: &mut Section) {
    let (ours, peers) = (&results[0], &results[1..]);
    section.rows.push(row(work, ours, None, "peak ≤ 96 MiB"));
    section.rows.extend(peers.iter().map(|peer| row(work, peer, Some(ours), "")));
    if let Some(floor) = peers.iter().find(|peer| peer.name == FLOOR) {
        section.notes.push(format!(
            "{work}: *floor* reads, writes and hashes on two threads and does nothing else, beside the same server on the \
             same cores; ours takes {:.2} of its time.",
            ours.median() / floor.median()
        ));
    }
    let others = peers.iter().filter(|peer| !peer.name.starts_with("transfer") && peer.name != FLOOR);
    let (hashing, moving): (Vec<&Runs>, Vec<&Runs>) = others.partition(|peer| peer.name == HASH);
    let best = moving.iter().map(|peer| peer.median()).fold(f64::INFINITY, f64::min);
    let (Some(hash), Some(copy)) = (hashing.first(), moving.first()) else { return };
    let (time, cpu) = (best.max(hash.median()) / 0.9, 1.15 * (hash.cpu + copy.cpu));
    section.notes.push(format!(
        "{work}: limit max(best peer, SHA-256) ÷ 0.9 = {time:.3} s, ours takes {:.2} of it; processor time: limit 1.15 × \
         (SHA-256 + curl) = {cpu:.2} s, ours takes {:.2} of it.",
        ours.median() / time,
        ours.cpu / cpu
    ));
}

fn up(bench: &Bench, program: &Path, (addr, digest): (&str, &str), section: &mut Section) -> Result<(), String> {
    let place = format!("{addr}/{REPOSITORY}");
    let url = format!("http://{addr}/v2/{REPOSITORY}/blobs");
    let start = format!("L=$(curl -sSf -i -X POST {url}/uploads/ | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')");
    let put = format!("case $L in /*) L=http://{addr}$L;; esac; curl -sSf -T blob \"$L?digest={digest}\"");
    let mut contenders = vec![
        call(bench, "transfer send", program, vec!["send".into(), format!("{place}@{digest}"), "blob".into()], &[]),
        call(bench, "transfer put", program, vec!["put".into(), place.clone(), "blob".into()], &[]),
        shell(bench, "curl", format!("{start}; {put}"), "none"),
        shell(bench, HASH, "openssl dgst -sha256 blob".into(), "none"),
        call(bench, "oci-client", program, vec!["peer-put".into(), place, "blob".into(), digest.into()], &[]),
    ];
    if find("skopeo").is_some() {
        let to = format!("docker://{addr}/{REPOSITORY}:v1");
        let line = format!("skopeo copy -q --preserve-digests --dest-tls-verify=false dir:down-skopeo {to}");
        contenders.push(shell(bench, "skopeo", line, "none"));
    }
    // What is there is not sent: it goes away before each run.
    for contender in &mut contenders {
        let make = std::mem::replace(&mut contender.command, Box::new(|| Command::new("true")));
        let (addr, digest) = (addr.to_owned(), digest.to_owned());
        contender.command = Box::new(move || {
            quiet_delete(bench, &addr, &digest);
            make()
        });
    }
    let results = in_turns(&contenders)?;
    rows("up", &results, section);
    Ok(())
}

/// P11: refusals, cuts, and `kill -9`.
pub(super) fn through_faults(bench: &Bench) -> Result<Section, String> {
    let blob = Blob::make(bench, 1 << 30)?;
    let program = example(bench)?;
    let mut section = Section {
        title: "P11: one blob through faults".into(),
        circumstances: blob.circumstances(bench),
        header: vec!["work", "program", "finished", "seconds", "bytes moved ÷ size", "requests"],
        ..Section::default()
    };
    let cut = format!("5:{}", blob.bytes / 8);
    let faults = ["--refuse", "2", "--cut", cut.as_str()];
    for name in ["transfer", "skopeo", "oci-client"] {
        let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
        let mut line = proxy(&server.addr, &faults)?;
        let Some(mut command) = pushing(bench, name, &program, &line.addr, &blob)? else { continue };
        section.rows.push(faulty(&mut command, ("up: 2 × 429, 5 cuts", name), &mut line, blob.bytes)?);
        if name == "transfer" {
            let source = format!("{}/{REPOSITORY}@{}", line.addr, blob.digest);
            let mut get = bench.at_home(Command::new(&program), &["get", &source, &blob.bytes.to_string(), "down"]);
            section.rows.push(faulty(&mut get, ("down: 2 × 429, 5 cuts", name), &mut line, blob.bytes)?);
        }
    }
    killed(bench, &program, &blob, &mut section)?;
    Ok(section)
}

/// `kill -9` in the middle, then the same again.
fn killed(bench: &Bench, program: &Path, blob: &Blob, section: &mut Section) -> Result<(), String> {
    let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
    let mut line = proxy(&server.addr, &["--mbit", "2000"])?;
    let place = format!("{}/{REPOSITORY}", line.addr);
    let source = format!("{place}@{}", blob.digest);
    let size = blob.bytes.to_string();
    let half = Duration::from_secs_f64(blob.bytes as f64 / 250e6 / 2.0);
    let jobs: [(&str, Vec<&str>); 2] = [
        ("up: kill -9, run again", vec!["put", &place, "blob", "journal"]),
        ("down: kill -9, run again", vec!["get", &source, &size, "down-killed"]),
    ];
    for (work, arguments) in jobs {
        let make = || bench.at_home(Command::new(program), &arguments);
        let mut child = make().stdout(Stdio::null()).spawn().map_err(|error| error.to_string())?;
        std::thread::sleep(half);
        child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
        section.rows.push(faulty(&mut make(), (work, "transfer"), &mut line, blob.bytes)?);
    }
    Ok(())
}

/// Runs a command that may fail; what went over the line since the last time is in the row.
fn faulty(
    command: &mut Command,
    (work, name): (&str, &str),
    line: &mut Server,
    size: u64,
) -> Result<Vec<String>, String> {
    let began = Instant::now();
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status().map_err(|error| error.to_string())?;
    let seconds = began.elapsed().as_secs_f64();
    let traffic = Traffic::take(line)?;
    let moved = traffic.up.max(traffic.down) as f64 / size as f64;
    Ok(vec![
        work.to_owned(),
        name.to_owned(),
        if ended.success() { "yes" } else { "no" }.to_owned(),
        format!("{seconds:.1}"),
        format!("{moved:.3}"),
        traffic.requests.to_string(),
    ])
}

/// The command that pushes the blob, if the program is there.
fn pushing(bench: &Bench, name: &str, program: &Path, addr: &str, blob: &Blob) -> Result<Option<Command>, String> {
    let place = format!("{addr}/{REPOSITORY}");
    Ok(match name {
        "transfer" => Some(bench.at_home(Command::new(program), &["put", &place, "blob"])),
        "oci-client" => Some(bench.at_home(Command::new(program), &["peer-put", &place, "blob", &blob.digest])),
        _ if find("skopeo").is_none() => None,
        _ => {
            let server = Server::start(&mut bench.blob(&["serve", "--listen", "127.0.0.1:0"]))?;
            let digest = sent(bench, program, &server.addr, "blob")?;
            image(bench, &server.addr, (&digest, blob.bytes))?;
            let from = server.addr.clone();
            quietly(bench.shell(&format!(
                "rm -rf image && skopeo copy -q --src-tls-verify=false docker://{from}/{REPOSITORY}:v1 dir:image"
            )))?;
            Some(bench.shell(&format!(
                "skopeo copy -q --preserve-digests --retry-times 5 --dest-tls-verify=false dir:image docker://{addr}/{REPOSITORY}:v1"
            )))
        }
    })
}

/// A file of random bytes.
pub(super) struct Blob {
    pub(super) bytes: u64,
    pub(super) digest: String,
}

impl Blob {
    /// `default` bytes, unless the environment says otherwise.
    pub(super) fn make(bench: &Bench, default: u64) -> Result<Self, String> {
        let bytes = match std::env::var(BYTES) {
            Ok(text) => text.parse().map_err(|_| format!("{BYTES}={text} is not a number of bytes"))?,
            Err(_) => default,
        };
        let line = format!(
            "openssl enc -aes-128-ctr -nosalt -pass pass:blob -in /dev/zero 2>/dev/null | head -c {bytes} > blob"
        );
        quietly(bench.at_home(Command::new("bash"), &["-c", &line]))?;
        let hashed = output(&mut bench.shell("sha256sum blob"))?;
        let hex = hashed.split(' ').next().unwrap_or_default();
        Ok(Self { bytes, digest: format!("sha256:{hex}") })
    }

    pub(super) fn circumstances(&self, bench: &Bench) -> String {
        let machine = bench.circumstances();
        let machine = machine.split_once("), ").map_or(machine.as_str(), |(_, machine)| machine);
        format!("{:.0} MiB of random bytes in /dev/shm, {machine}", mib(self.bytes))
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// The example that moves blobs, with the peer that is a library.
pub(super) fn example(_: &Bench) -> Result<PathBuf, String> {
    build("blob-registry", ("example", "transfer"), true)
}

/// Sends a file; its digest.
pub(super) fn sent(bench: &Bench, program: &Path, addr: &str, file: &str) -> Result<String, String> {
    let place = format!("{addr}/{REPOSITORY}");
    let said = output(&mut bench.at_home(Command::new(program), &["put", &place, file]))?;
    said.split(' ').next().map(str::to_owned).ok_or_else(|| format!("`transfer put` said {said:?}"))
}

/// Makes the blob the one layer of an image, so that programs for images can copy it.
pub(super) fn image(bench: &Bench, addr: &str, (digest, bytes): (&str, u64)) -> Result<(), String> {
    let config = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let layer = format!(
        "{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{digest}\",\"size\":{bytes}}}"
    );
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{kind}\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[{layer}]}}"
    );
    let url = format!("http://{addr}/v2/{REPOSITORY}");
    quietly(bench.shell(&format!("curl -sSf -X POST --data-binary '{{}}' -H 'Content-Type: application/octet-stream' '{url}/blobs/uploads/?digest={config}'")))?;
    quietly(
        bench.shell(&format!(
            "curl -sSf -X PUT -H 'Content-Type: {kind}' --data-binary '{manifest}' {url}/manifests/v1"
        )),
    )
}

/// Takes the blob out of the registry; that it was not there is as good.
pub(super) fn quiet_delete(bench: &Bench, addr: &str, digest: &str) {
    let url = format!("http://{addr}/v2/{REPOSITORY}/blobs/{digest}");
    let _ = bench.at_home(Command::new("curl"), &["-sS", "-X", "DELETE", &url]).output();
}

fn shell<'b>(bench: &'b Bench, name: &'static str, line: String, output: &str) -> Contender<'b> {
    Contender { name, command: Box::new(move || bench.shell(&line)), outputs: vec![bench.place().join(output)] }
}

fn call<'b>(
    bench: &'b Bench,
    name: &'static str,
    program: &Path,
    arguments: Vec<String>,
    outputs: &[&str],
) -> Contender<'b> {
    let program = program.to_owned();
    let command = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        bench.at_home(Command::new(&program), &arguments)
    };
    let outputs = outputs.iter().map(|output| bench.place().join(output)).collect();
    Contender { name, command: Box::new(command), outputs }
}
