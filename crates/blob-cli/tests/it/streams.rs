//! Pipes: who reads may stop, and what is piped is not disturbed.

use blob_testkit::peers::{find, require};
use std::fs;
use std::process::Command;

use crate::support::{BLOB, Place, stderr, stdout};

/// Runs `script` in a shell in which `blob` is the command.
fn piped(place: &Place, script: &str) -> std::process::Output {
    let mut command = Command::new("bash");
    place.isolate(&mut command);
    command.env("BLOB", BLOB).env("HOST", place.host());
    command.args(["-c", &format!("set -o pipefail; {script}")]).output().unwrap()
}

#[test]
fn a_reader_that_stops_is_no_error() {
    let place = Place::served();
    fs::write(place.path("project/large"), vec![7; 20 << 20]).unwrap();
    place.run("push -q HOST/a/b:v1 project").success();
    for script in [
        "$BLOB cat $HOST/a/b:v1 large | head -c1",
        "for i in $(seq 200); do echo large; done | xargs $BLOB cat $HOST/a/b:v1 | head -c1",
        "$BLOB ls -o json $HOST/a/b:v1 | true",
    ] {
        let output = piped(&place, script);
        assert!(output.status.success(), "{script}: {}", output.status);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
    }
}

#[test]
fn a_full_output_is_an_error() {
    let place = Place::laid_out();
    let output = piped(&place, "$BLOB cat oci:layout:v1 README.md > /dev/full");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "error: writing to standard output: No space left on device (os error 28)\n");
}

#[test]
fn standard_error_is_empty_where_there_is_no_terminal() {
    let place = Place::pushed();
    for line in [
        "push HOST/a/b:v1 project",
        "pull HOST/team/project:v1 out",
        "cp HOST/team/project:v1:/docs copy",
        "cat HOST/team/project:v1 README.md",
        "ls HOST/team/project:v1",
        "tree HOST/team/project:v1",
        "inspect --referrers HOST/team/project:v1",
        "tag HOST/team/project:v1 latest",
        "tags HOST/team/project",
        "version",
    ] {
        assert_eq!(stderr(&place.run(line).success()), "", "{line}");
    }
}

#[test]
fn progress_is_written_where_it_is_forced() {
    let place = Place::served();
    let data: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(place.path("project/large"), data).unwrap();
    let pushed = place.run("push --progress always -c zstd --level 19 HOST/a/b:v1 project").success();
    assert!(stderr(&pushed).contains(" of "), "{}", stderr(&pushed));
    let silent = place.run("push --progress never HOST/a/b:v2 project").success();
    assert_eq!(stderr(&silent), "");
}

#[test]
fn the_log_says_what_happens_and_how_much_was_moved() {
    let place = Place::pushed();
    let verbose = place.run("--no-cache -v cat HOST/team/project:v1 README.md").success();
    assert_eq!(stdout(&verbose), "# Sample\n");
    let log = stderr(&verbose);
    assert!(log.contains("not verified") && log.contains("requests=2"), "{log}");
    let more = stderr(&place.run("--no-cache -vv cat HOST/team/project:v1 README.md").success());
    assert!(more.contains("/v2/team/project/manifests/v1") && more.contains("status=200"), "{more}");
}

#[test]
fn options_come_from_the_environment_too() {
    let place = Place::pushed();
    let run = |line: &str, name: &str, value: &str| place.assert(place.command(line).env(name, value));
    assert!(stdout(&run("ls HOST/team/project:v1", "BLOB_OUTPUT", "json").success()).starts_with('{'));
    assert_eq!(stdout(&run("pull HOST/team/project:v1 out", "BLOB_QUIET", "1").success()), "");
    assert_ne!(stdout(&run("pull HOST/team/project:v1 out", "BLOB_QUIET", "0").success()), "");
    run("ls HOST/team/project:v1", "BLOB_REQUIRE_SIGNED", "true").code(6);
    run("ls HOST/team/project:v1", "BLOB_TIMEOUT", "never").code(2);
    run("push HOST/a/b:v1 project", "SOURCE_DATE_EPOCH", "never").code(2);
}

#[test]
fn a_terminal_shows_progress_and_is_left_clean() {
    // `script` runs a command on a pseudo-terminal.
    if require("progress on a terminal", find("script")).is_none() {
        return;
    }
    let place = Place::offline();
    let data: Vec<u8> = (0..8_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(place.path("project/large"), data).unwrap();
    let script = "script -qec 'stty cols 100; $BLOB push --level 19 oci:layout:v1 project' /dev/null";
    let mut command = Command::new("bash");
    place.isolate(&mut command);
    let output = command.env("BLOB", BLOB).env("TERM", "xterm").args(["-c", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("archiving  ["), "{text:?}");
    assert!(text.contains("\x1b[2KPushed oci:layout:v1\r\n"), "{text:?}");
}
