//! Names that would do harm on a terminal, or to who reads lines.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{Place, signal, stderr, stdout};
use crate::terminal::Terminal;

/// A sequence of a terminal, a line break, a tab, text that runs backwards, what looks like an escaped line break, and an
/// ordinary name.
const NAMES: [&str; 6] = ["a\x1b[2Jb", "new\nline", "tab\tbed", "gpj\u{202e}exe", "new\\nline", "plain"];

/// A place with a directory of such names, below another such name, as `oci:odd:v1`, and with some of it missing as `v2`.
fn place() -> Place {
    let place = Place::offline();
    let dir = place.path("odd\x1b[31m");
    fs::create_dir(&dir).unwrap();
    for name in NAMES {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join(name), name).unwrap();
    }
    let made = std::process::Command::new("mkfifo").arg(dir.join("pipe\x1b[2J")).status().unwrap();
    assert!(made.success());
    push(&place, "v1");
    fs::remove_dir_all(dir.join(NAMES[0])).unwrap();
    fs::write(dir.join(NAMES[3]).join(NAMES[3]), "other").unwrap();
    push(&place, "v2");
    place
}

fn push(place: &Place, tag: &str) {
    let mut command = place.command(&format!("push --reproducible -a key=\x1b[2J oci:odd:{tag} odd\x1b[31m"));
    let pushed = place.assert(&mut command).success();
    harmless("push", &stdout(&pushed));
}

/// Nothing but text and line breaks, and tabs between values.
fn harmless(line: &str, text: &str) {
    let wild = |letter: char| {
        (letter.is_control() && !matches!(letter, '\n' | '\t'))
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(wild), "{line}: {text:?}");
}

/// Commands that show names; `ODD` is a path with several of them.
const COMMANDS: [&str; 26] = [
    "ls oci:odd:v1",
    "ls -lR oci:odd:v1",
    "tree oci:odd:v1",
    "find oci:odd:v1",
    "find -l oci:odd:v1",
    "grep -c . oci:odd:v1",
    "du -a oci:odd:v1",
    "stat oci:odd:v1 ODD",
    "inspect oci:odd:v1",
    "diff oci:odd:v1 oci:odd:v2",
    "diff --name-only oci:odd:v1 oci:odd:v2",
    "check oci:odd:v1 odd\x1b[31m",
    "pull --dry-run oci:odd:v1 out\x1b[2J",
    "pull oci:odd:v1 out\x1b[2J",
    "pull oci:odd:v2 out\x1b[2J",
    "cp --dry-run oci:odd:v1:/ODD copy\x1b[2J",
    "cp oci:odd:v1:/ODD copy\x1b[2J",
    "cp oci:odd:v1:/ODD\x1b[2J copy\x1b[2J",
    "export -f out\x1b[2J.tar oci:odd:v1",
    "cat oci:odd:v1 ODD\x1b[2J",
    "ls oci:odd\x1b[2J:v1",
    "ls oci:odd:v1 ODD\x1b[2J",
    "push --strict oci:odd:v3 odd\x1b[31m",
    "alias add a\x1b[2J registry.test/a",
    "config get a\x1b[2J",
    "frob\x1b[2J",
];

#[test]
fn names_cannot_control_a_terminal() {
    let place = place();
    let odd = format!("{}/{}", NAMES[0], NAMES[0]);
    for line in COMMANDS {
        let line = line.replace("ODD", &odd);
        for format in ["text", "table", "plain", "json", "jsonl"] {
            let output = place.run(&format!("{line} -o {format}"));
            let (out, err) = (stdout(&output), stderr(&output));
            assert!(!(out.is_empty() && err.is_empty()) || line.starts_with("diff"), "{line}");
            harmless(&line, &out);
            harmless(&line, &err);
        }
        let terminal =
            Terminal::sized(&place, &place.command(&format!("--no-color --progress never {line}")), (200, 100));
        let (_, raw) = terminal.end();
        harmless(&line, &raw.replace("\r\n", "\n"));
    }
}

#[test]
fn what_is_on_a_line_can_be_taken_back() {
    let place = place();
    let names: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let back = |text: &str| text.lines().map(|line| taken_back(line.trim_end_matches('/'))).collect::<BTreeSet<_>>();
    for format in ["text", "plain"] {
        assert_eq!(back(&stdout(&place.run(&format!("ls -o {format} oci:odd:v1")).success())), names, "{format}");
        let dirs = stdout(&place.run(&format!("find --type d -o {format} oci:odd:v1")).success());
        assert_eq!(back(&dirs), names, "{format}");
        let gone = stdout(&place.run(&format!("diff --name-only -o {format} oci:odd:v1 oci:odd:v2")).code(1));
        let expected = [0, 3].map(|at| format!("{0}/{0}", NAMES[at]));
        assert_eq!(back(&gone), expected.into_iter().collect(), "{format}");
    }
    let sums = stdout(&place.run("du -o plain oci:odd:v1").success());
    let sums: BTreeSet<String> =
        sums.lines().map(|line| taken_back(line.split_once('\t').unwrap().1.trim_end_matches('/'))).collect();
    assert!(names.is_subset(&sums), "{sums:?}");
    let stats = stdout(&place.run("tree -o plain oci:odd:v1").success());
    assert!(back(&stats).is_superset(&names), "{stats}");
    // As they are, with what ends them.
    let raw = stdout(&place.run("ls -0 oci:odd:v1").success());
    assert_eq!(raw.split_terminator('\0').map(str::to_owned).collect::<BTreeSet<_>>(), names);
}

#[test]
fn a_name_as_it_is_listed_is_known() {
    let place = Place::bare();
    fs::create_dir_all(place.path("odd/new\nline")).unwrap();
    fs::write(place.path("odd/new\nline/esc\u{1b}[31m"), "found\n").unwrap();
    place.run("push -q oci:layout:v1 odd").success();
    for line in ["cat oci:layout:v1", "grep found oci:layout:v1", "ls oci:layout:v1"] {
        let mut command = place.command(line);
        let told = stderr(&place.assert(command.arg(r"new\nline/esc\u{1b}[31m")).code(3));
        assert!(told.contains(r"did you mean $'new\nline/esc\x1b[31m'?"), "{line}: {told}");
    }
}

/// A name as it was before it was listed.
fn taken_back(line: &str) -> String {
    let (mut name, mut rest) = (String::new(), line);
    while let Some((before, escape)) = rest.split_once('\\') {
        name += before;
        let (letter, after) = escape.split_at(1);
        rest = after;
        match letter {
            "\\" => name.push('\\'),
            "n" => name.push('\n'),
            "t" => name.push('\t'),
            "u" => {
                let (digits, after) = after.strip_prefix('{').unwrap().split_once('}').unwrap();
                name.push(char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap());
                rest = after;
            }
            other => panic!("\\{other} in {line}"),
        }
    }
    name + rest
}

#[test]
fn progress_and_the_log_cannot_either() {
    let place = place();
    for mode in ["always", "json"] {
        let mut command = place.command(&format!("--progress {mode} push oci:odd:v4 odd\x1b[31m"));
        harmless(mode, &stderr(&place.assert(&mut command).success()));
    }
    // Nor does the log, at its most talkative.
    for line in [
        "push oci:odd:v5 odd\x1b[31m",
        "cat oci:odd:v1 plain/plain",
        "ls oci:odd\x1b[2J:v1",
        "pull -f oci:odd:v1 out\x1b[2J",
    ] {
        let output = place.run(&format!("-vvv --no-color --trace-file log {line}"));
        harmless(line, &stderr(&output));
        harmless(line, &fs::read_to_string(place.path("log")).unwrap());
    }
    let mut command = place.command("serve --listen 127.0.0.1:0 --root root\x1b[2J");
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    crate::support::eventually("the server", || place.path("root\x1b[2J").exists());
    signal("TERM", child.id());
    let output = child.wait_with_output().unwrap();
    harmless("serve", &String::from_utf8_lossy(&output.stderr));
}
