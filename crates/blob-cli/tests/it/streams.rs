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

/// Everything that may write more than a pipe holds.
const STREAMS: [&str; 14] = [
    "cat oci:layout:v1 large",
    "ls -R oci:layout:v1",
    "ls -R -o json oci:layout:v1",
    "ls -R -o jsonl oci:layout:v1",
    "tree oci:layout:v1",
    "find oci:layout:v1",
    "du -a oci:layout:v1",
    "diff oci:layout:v1 project",
    "check oci:layout:v1 project",
    "export oci:layout:v1",
    "cp oci:layout:v1:/ -",
    "cp oci:layout:v1:/large -",
    "pull --dry-run oci:layout:v1 out",
    "tags oci:layout",
];

#[test]
fn every_stream_may_be_left_early() {
    let place = Place::offline();
    fs::write(place.path("project/large"), vec![7; 1 << 20]).unwrap();
    for number in 0..2000 {
        fs::write(place.path(format!("project/docs/{number}-{}", "x".repeat(100))), "").unwrap();
    }
    place.run("push -q oci:layout:v1 project").success();
    for tag in 0..200 {
        fs::write(place.path(format!("project/docs/{tag}-{}", "x".repeat(100))), "other").unwrap();
    }
    for stream in STREAMS {
        // The reader is gone before the first byte, and after it.
        for reader in ["true", "head -c1"] {
            let script = format!("$BLOB {stream} | {reader} > first; echo \"${{PIPESTATUS[0]}}\"");
            let output = piped(&place, &script);
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{stream} | {reader}");
            // What differs says so, if it came that far.
            let code = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let differs = stream.starts_with("diff") || stream.starts_with("check");
            assert!(code == "0" || (differs && code == "1"), "{stream} | {reader}: {code}");
            let first = fs::read(place.path("first")).unwrap();
            assert_eq!(first.len(), usize::from(reader != "true"), "{stream} | {reader}");
        }
    }
}

#[test]
fn quiet_swallows_no_data() {
    let place = Place::laid_out();
    place.run("push -q --reproducible --exclude docs oci:layout:v2 project").success();
    place.assert(place.command("generate-key-pair k").env("BLOB_KEY_PASSWORD", "x")).success();
    // What was asked for is data: it is written in quiet as otherwise.
    for (line, code) in [
        ("cat oci:layout:v1 README.md", 0),
        ("ls oci:layout:v1", 0),
        ("tree oci:layout:v1", 0),
        ("inspect --referrers oci:layout:v1", 0),
        ("tags oci:layout", 0),
        ("referrers oci:layout:v1", 0),
        ("find oci:layout:v1", 0),
        ("du oci:layout:v1", 0),
        ("stat oci:layout:v1 README.md", 0),
        ("diff oci:layout:v1 oci:layout:v2", 1),
        ("export oci:layout:v1", 0),
        ("cp oci:layout:v1:/README.md -", 0),
        ("alias list", 0),
        ("config get output", 0),
        ("config path", 0),
        ("completion fish", 0),
        ("man", 0),
        ("schema tags", 0),
        ("version", 0),
        ("doctor", 0),
        ("cache status", 0),
        // A plan is what was asked for.
        ("gc --dry-run layout", 0),
        ("tag --dry-run oci:layout:v1 again", 0),
        ("rm --dry-run oci:layout:v1", 0),
        ("copy --dry-run oci:layout:v1 oci:other:v1", 0),
        ("cache prune --dry-run", 0),
        ("cache clear --dry-run", 0),
        ("alias add --dry-run new ghcr.io/a/b", 0),
        ("config set --dry-run output json", 0),
        ("push --dry-run --reproducible oci:layout:v3 project", 0),
    ] {
        let run = |options: &str| place.run(&format!("{options}{line}")).code(code).get_output().stdout.clone();
        let loud = run("");
        assert!(!loud.is_empty() || line.starts_with("referrers"), "{line}");
        assert_eq!(run("-q "), loud, "{line}");
    }
    // What only says that it is done is silent, but JSON that was asked for is data.
    for (line, wanted) in [
        ("pull --overwrite oci:layout:v1 out", ""),
        ("cp -f oci:layout:v1:/docs copy", ""),
        ("export -f out.tar oci:layout:v1", ""),
        ("check oci:layout:v1", ""),
        ("tag oci:layout:v1 again", ""),
        ("push --reproducible oci:layout:v1 project", "oci:layout@sha256:"),
        ("copy oci:layout:v1 oci:other", "sha256:"),
    ] {
        let quiet = stdout(&place.run(&format!("-q {line}")).success());
        assert!(quiet.starts_with(wanted) && quiet.is_empty() == wanted.is_empty(), "{line}: {quiet}");
        assert!(
            stdout(&place.run(&format!("-q -o json {line}")).success()).starts_with("{\n  \"schema_version\""),
            "{line}"
        );
    }
    place.run("-q cache path").success().stdout_eq("[ROOT]/home/.cache/blob\n");
    // A failure is said in quiet too.
    assert!(stderr(&place.run("-q ls oci:layout:v3").code(3)).starts_with("error: "));
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
fn lines_of_the_log_are_json_of_their_schema() {
    let place = Place::pushed();
    let told = place.run("-vvv --log-format json --trace-file trace ls --no-cache HOST/team/project:v1").success();
    let traced = fs::read_to_string(place.path("trace")).unwrap();
    for text in [stderr(&told), traced] {
        assert!(text.contains("\"url\":\"http://"), "{text}");
        for line in text.lines() {
            crate::schema::check("log", line);
            // What is there twice, programs see once.
            assert!(line.matches("\"target\":").count() < 2, "{line}");
        }
    }
}

#[test]
fn verbose_output_tells_what_happens() {
    let place = Place::served();
    let pushed = stderr(&place.run("-v push HOST/team/project:v1 project").success());
    let pulled = stderr(&place.run("-v --no-cache pull HOST/team/project:v1 copy").success());
    for (said, steps) in [
        (
            &pushed,
            &[
                "scanning the files",
                "scanned; archiving files=7",
                "archived files=7",
                "uploading the data",
                "uploaded",
                "traffic",
            ][..],
        ),
        (&pulled, &["fetching what=\"manifest\"", "extracting files=", "extracted files=", "traffic"]),
    ] {
        let mut rest = said.as_str();
        for step in steps {
            let (_, behind) = rest.split_once(step).unwrap_or_else(|| panic!("{step} is not in its place: {said}"));
            rest = behind;
        }
        assert!(said.lines().all(|line| line.starts_with(" INFO ")), "{said}");
    }
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
    let on_terminal = |options: &str| {
        let script = format!("script -qec 'stty cols 100; $BLOB push {options} oci:layout:v1 project' /dev/null");
        let mut command = Command::new("bash");
        place.isolate(&mut command);
        let output = command.env("BLOB", BLOB).env("TERM", "xterm").args(["-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = on_terminal("--level 19");
    assert!(text.contains("archiving  ["), "{text:?}");
    assert!(text.contains("\x1b[2KPushed oci:layout:v1\r\n"), "{text:?}");
    fs::remove_dir_all(place.path("layout")).unwrap();
    // What is told stands above the bar.
    let text = on_terminal("-v --color never --level 19");
    assert!(text.contains("archiving  ["), "{text:?}");
    assert!(text.contains("\r\x1b[2K INFO archived files=8"), "{text:?}");
}
