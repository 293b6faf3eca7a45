//! The official conformance program of the distribution specification against `blob serve`, with every switch on.
//!
//! The program is built by whoever runs this: it is the Go program in `conformance/` of
//! `github.com/opencontainers/distribution-spec`. It ends with success when it could not even begin, and when it had
//! to skip something, so what counts is what it reports.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::process::{isolate, shown};
use crate::scratch::Scratch;
use crate::server::{self, Server};

/// The user `ann` with the password `correct horse`.
const USERS: &str = "ann:$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n";

/// One way to run the program.
struct Run {
    name: &'static str,
    /// Options of the server.
    serve: &'static [&'static str],
    /// More of the program's environment.
    environment: &'static [(&'static str, &'static str)],
}

const SPARSE: &[(&str, &str)] = &[("OCI_DATA_SPARSE", "true")];

/// Where the certificate of a server is that speaks TLS, and its key.
const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";

/// Version 1.1 is what the program takes for stable; what its main branch adds is switched off then.
const STABLE: &[(&str, &str)] = &[("OCI_VERSION", "1.1")];

/// The program believes what this machine believes: here, the server's own certificate.
const TLS: &[(&str, &str)] = &[("OCI_DATA_SPARSE", "true"), ("OCI_TLS", "enabled"), ("SSL_CERT_FILE", CHAIN)];

const RUNS: [Run; 8] = [
    Run { name: "memory", serve: &[], environment: &[] },
    Run { name: "directory", serve: &["--root", "registry"], environment: &[] },
    Run { name: "memory, sparse", serve: &["--sparse"], environment: SPARSE },
    Run {
        name: "directory, passwords, sparse",
        serve: &["--root", "registry", "--htpasswd", "htpasswd", "--sparse"],
        environment: SPARSE,
    },
    Run {
        name: "directory, tokens, sparse",
        serve: &["--root", "registry", "--htpasswd", "htpasswd", "--tokens", "--sparse"],
        environment: SPARSE,
    },
    Run {
        name: "directory, tokens, sparse, TLS",
        serve: &[
            "--root",
            "registry",
            "--htpasswd",
            "htpasswd",
            "--tokens",
            "--sparse",
            "--tls-cert",
            CHAIN,
            "--tls-key",
            KEY,
        ],
        environment: TLS,
    },
    Run {
        name: "directory, tokens, version 1.1",
        serve: &["--root", "registry", "--htpasswd", "htpasswd", "--tokens"],
        environment: STABLE,
    },
    Run {
        name: "memory, challenged every time",
        serve: &["--htpasswd", "htpasswd"],
        environment: &[("OCI_CACHE_AUTH", "false")],
    },
];

/// How many tests ended how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    errors: u64,
    skipped: u64,
    disabled: u64,
}

/// Runs the program at `path` against servers of every kind; one failure or skip is an error.
pub(super) fn run(path: &Path) -> Outcome {
    let program = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let blob = server::blob(false)?;
    println!("{:<38} {:>6} {:>6} {:>6} {:>8}", "server", "passed", "failed", "skipped", "disabled");
    let mut bad = Vec::new();
    for Run { name, serve, environment } in RUNS {
        let scratch = Scratch::new(&std::env::temp_dir(), "conformance")?;
        let report = one((&program, environment), (&blob, serve), scratch.path())?;
        let counts = counts(&report).ok_or_else(|| format!("{} gave no counts:\n{report}", program.display()))?;
        let Counts { passed, skipped, disabled, .. } = counts;
        let failed = counts.failed + counts.errors;
        println!("{name:<38} {passed:>6} {failed:>6} {skipped:>6} {disabled:>8}");
        let all_on = !environment.iter().any(|(name, _)| *name == "OCI_VERSION");
        if failed + skipped > 0 || passed == 0 || (all_on && disabled > 0) {
            bad.push(format!("{name}:\n{}", complaints(&report)));
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(bad.join("\n")) }
}

/// Runs it once and gives what it wrote.
fn one(
    (program, environment): (&Path, &[(&str, &str)]),
    (blob, options): (&Path, &[&str]),
    place: &Path,
) -> Result<String, String> {
    fs::write(place.join("htpasswd"), USERS).map_err(|error| format!("{}: {error}", place.display()))?;
    if options.contains(&CHAIN) {
        certify(place)?;
    }
    let mut serve = Command::new(blob);
    isolate(serve.current_dir(place).args(["serve", "--listen", "127.0.0.1:0"]).args(options), place);
    let server = Server::start(&mut serve)?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OCI_")) {
        command.env_remove(name);
    }
    isolate(command.current_dir(place), place);
    command.env("OCI_REGISTRY", &server.addr).env("OCI_TLS", "disabled").env("OCI_VERSION", "dev");
    command.env("OCI_USERNAME", "ann").env("OCI_PASSWORD", "correct horse");
    command.env("OCI_RESULTS_DIR", "results").env("OCI_LOG", "error").envs(environment.iter().copied());
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{} could not be started: {error}", shown(&command)))?;
    if !place.join("results/results.yaml").is_file() {
        return Err(format!("{} left no results: {}", shown(&command), String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes a certificate for this machine that nobody vouches for.
fn certify(place: &Path) -> Outcome {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", CHAIN, "-keyout", KEY]);
    let output = command.current_dir(place).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{} could not be started: {error}", shown(&command)))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{} failed: {}", shown(&command), String::from_utf8_lossy(&output.stderr)))
}

/// The counts below `OCI Conformance Result`: lines of the form `  Pass....: 12`.
fn counts(report: &str) -> Option<Counts> {
    let (_, summary) = report.split_once("OCI Conformance Result:")?;
    let of = |name: &str| {
        let line = summary.lines().map(str::trim).find(|line| line.starts_with(name))?;
        line.rsplit_once(':')?.1.trim().parse().ok()
    };
    Some(Counts {
        passed: of("Pass.")?,
        failed: of("FAIL.")?,
        errors: of("Error.")?,
        skipped: of("Skip.")?,
        disabled: of("Disabled.")?,
    })
}

/// The tests that did not pass, each with what is said below it.
fn complaints(report: &str) -> String {
    let tests = report.split("OCI Conformance Result:").next().unwrap_or_default();
    let bad = |line: &&str| {
        let line = line.trim();
        line.starts_with("- ") || [": FAIL", ": Error", ": Skip", ": Disabled"].iter().any(|end| line.ends_with(end))
    };
    tests.lines().filter(bad).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Test results\nOCI Conformance Test: FAIL\n  OCI Conformance Test/ping: Pass\n  \
        OCI Conformance Test/empty/tag list: FAIL\n   - expected one of [200], received 500\n\nConfiguration:\n  \
        registry: here\n\nOCI Conformance Result: FAIL\n  Disabled......................:          0\n  \
        Skip..........................:          2\n  Pass..........................:        984\n  \
        FAIL..........................:          1\n  Error.........................:          0\n  \
        Total.........................:        987\n\nAPI conformance:\n  Tag listing...................:       FAIL\n";

    #[test]
    fn what_the_program_reports_is_read() {
        let expected = Counts { passed: 984, failed: 1, errors: 0, skipped: 2, disabled: 0 };
        assert_eq!(counts(REPORT), Some(expected));
        assert_eq!(counts("failed to load config"), None);
        let shown = complaints(REPORT);
        assert!(shown.contains("tag list: FAIL\n   - expected one of") && !shown.contains("ping"), "{shown}");
    }
}
