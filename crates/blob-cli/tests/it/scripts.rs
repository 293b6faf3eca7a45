//! What scripts for the Go program's command rely on: its 25 scenarios, in words of our own, in `tests/scripts`.
//!
//! Each runs in a directory of its own, with its configuration and cache below it, a sample project and a registry;
//! once with our own registry and once with `docker-registry`, where there is one. A line is one of
//!
//! ```text
//! # a remark
//! [!] blob WORDS…         run the command; with `!` it has to fail
//! [!] stdout REGEX        the last command wrote what matches; lines are matched one by one unless (?s) says otherwise
//! [!] stderr REGEX        the same for standard error
//! mkdir DIR               make a directory
//! write FILE TEXT         write a file, where \n ends lines
//! exists FILE…            all of them are there
//! equal FILE FILE         both hold the same bytes
//! ```
//!
//! `$REGISTRY` is the registry's address and `$TAG` a tag that no other script uses.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Output;

use blob_testkit::peers::{DockerRegistry, require};
use regex::RegexBuilder;

use crate::support::Place;

/// The project that the scripts push.
const PROJECT: [(&str, &str); 7] = [
    ("README.md", "# Sample\n\nA project to push.\n"),
    ("config/app.yaml", "name: sample-app\nversion: 1.0.0\nenvironment: production\n"),
    ("config/database.json", "{\n  \"host\": \"localhost\"\n}\n"),
    ("docs/api/reference.md", "# Reference\n"),
    ("docs/guide.md", "# Guide\n"),
    ("src/main.go", "package main\n\nfunc main() {}\n"),
    ("src/utils/helpers.go", "package utils\n"),
];

/// A script that runs.
struct Run<'a> {
    place: &'a Place,
    registry: &'a str,
    tag: &'a str,
    last: Option<Output>,
}

impl Run<'_> {
    /// What is wrong with this line, if anything.
    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = line.replace("$REGISTRY", self.registry).replace("$TAG", self.tag);
        let (negated, line) = line.strip_prefix("! ").map_or((false, line.as_str()), |rest| (true, rest));
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "" | "#" => {}
            "blob" => self.blob(rest, negated)?,
            "stdout" | "stderr" => self.wrote(verb, rest, negated)?,
            "mkdir" => fs::create_dir(self.place.path(rest)).unwrap(),
            "write" => {
                let (path, text) = rest.split_once(' ').unwrap();
                let path = self.place.path(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text.replace("\\n", "\n")).unwrap();
            }
            "exists" => {
                let absent = rest.split(' ').find(|path| !self.place.path(path).exists());
                absent.map_or(Ok(()), |path| Err(format!("{path} does not exist")))?;
            }
            "equal" => {
                let (left, right) = rest.split_once(' ').unwrap();
                let read = |path: &str| fs::read(self.place.path(path)).unwrap();
                if read(left) != read(right) {
                    return Err("the files differ".into());
                }
            }
            other => return Err(format!("{other} is no verb of scripts")),
        }
        Ok(())
    }

    fn blob(&mut self, words: &str, fails: bool) -> Result<(), String> {
        let mut command = self.place.command(words);
        command.env("XDG_CONFIG_HOME", self.place.path(".config")).env("XDG_CACHE_HOME", self.place.path(".cache"));
        let output = command.output().unwrap();
        let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr).into_owned());
        self.last = Some(output);
        if status.success() == fails { Err(format!("ended with {status}: {said}")) } else { Ok(()) }
    }

    fn wrote(&self, stream: &str, regex: &str, negated: bool) -> Result<(), String> {
        let last = self.last.as_ref().ok_or("no command has run")?;
        let text = String::from_utf8_lossy(if stream == "stdout" { &last.stdout } else { &last.stderr });
        let found = RegexBuilder::new(regex).multi_line(true).build().unwrap().is_match(&text);
        if found == negated { Err(format!("{stream} was: {text}")) } else { Ok(()) }
    }
}

/// Runs all scripts; gives what is wrong with any of them.
fn run_all(registry: &str) -> String {
    let mut scripts: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    assert_eq!(scripts.len(), 25);
    let mut problems = String::new();
    for (number, script) in scripts.iter().enumerate() {
        let place = Place::bare();
        for (path, content) in PROJECT {
            let path = place.path("sample-project").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let tag = format!("t{number}");
        let mut run = Run { place: &place, registry, tag: &tag, last: None };
        for (number, line) in fs::read_to_string(script).unwrap().lines().enumerate() {
            if let Err(problem) = run.line(line) {
                let name = script.file_name().unwrap().to_string_lossy();
                let _ = writeln!(problems, "{name}:{}: {line}\n{problem}", number + 1);
                break;
            }
        }
    }
    problems
}

#[test]
fn the_scenarios_hold_word_for_word() {
    let server = Place::with_server();
    assert_eq!(run_all(server.host()), "");
}

#[test]
fn the_scenarios_hold_against_docker_registry() {
    let Some(registry) = require("docker-registry", DockerRegistry::start()) else { return };
    assert_eq!(run_all(&registry.addr().to_string()), "");
}

#[test]
fn a_scenario_that_does_not_hold_is_found_out() {
    let place = Place::bare();
    let mut run = Run { place: &place, registry: "localhost:1", tag: "t", last: None };
    for (line, wanted) in [
        ("stdout x", "no command has run"),
        ("blob nonsense", "ended with"),
        ("! blob version", "ended with"),
        ("stdout ^nothing$", "stdout was: blob "),
        ("! stdout ^blob", "stdout was: blob "),
        ("exists sample", "sample does not exist"),
        ("think hard", "think is no verb"),
    ] {
        let problem = run.line(line).unwrap_err();
        assert!(problem.starts_with(wanted), "{line}: {problem}");
    }
}
