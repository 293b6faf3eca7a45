//! Every command as a whole: what it writes into a pipe, on a terminal and for programs, and how it exits. A file in
//! `tests/snapshots` for each command; with `SNAPSHOTS=overwrite` in the environment they are written anew.
//!
//! What is written for programs is held against its schema besides.

mod cases;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use snapbox::{Assert, Data};

use crate::schema;
use crate::support::{Place, stdout};
use crate::terminal::Terminal;
use cases::{Case, Face, GROUPS};

/// Wide and high enough that nothing is broken or scrolls away.
const SIZE: (u16, u16) = (300, 400);

/// The password of every key.
const PASSWORD: &str = "secret";

/// The command of a case, and where it runs.
fn command(place: &Place, line: &str) -> Command {
    let mut command = place.command(line);
    command.env("BLOB_KEY_PASSWORD", PASSWORD).env("EDITOR", "true");
    if line.starts_with("login ") {
        command.env("BLOB_PASSWORD", PASSWORD);
    }
    command
}

/// A place with what the case needs.
fn prepared(case: &Case) -> Place {
    let place = if case.served { Place::pushed() } else { Place::laid_out() };
    fs::write(place.path("predicate.json"), "{\"found\": 0}\n").unwrap();
    fs::write(place.path("policy.yaml"), POLICY).unwrap();
    fs::write(place.path("manifest.json"), MANIFEST).unwrap();
    for line in case.before {
        let output = command(&place, line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    place
}

/// What policies are tried with.
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;

/// By a key of the place.
const POLICY: &str = "signature:\n  key:\n    path: k.pub\n    transparency_log: none\n";

/// The text with what differs from place to place named instead.
fn still(place: &Place, case: &Case, text: &str) -> String {
    let mut text = text.replace(place.host(), "[HOST]").replace(&place.root.path().display().to_string(), "[ROOT]");
    text = text.replace(env!("CARGO_BIN_EXE_blob"), "[BLOB]");
    if case.random {
        text = without_digests(&text);
        text = replace_between(&text, "image.created\": \"", "\"", "TIME");
        text = replace_between(&text, "image.created: ", "\n", "TIME");
    }
    for (before, after, name) in case.redacted {
        text = replace_between(&text, before, after, name);
    }
    text
}

/// Every run of 64 hexadecimal digits is `[DIGEST]`, one of 16 `[ID]`.
fn without_digests(text: &str) -> String {
    let (mut kept, mut digits) = (String::new(), String::new());
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() {
            digits.push(letter);
            continue;
        }
        kept += match digits.len() {
            64 => "[DIGEST]",
            16 => "[ID]",
            _ => &digits,
        };
        digits.clear();
        kept.push(letter);
    }
    kept.pop();
    kept
}

/// What stands between `before` and `after` is `[name]`, wherever it does.
fn replace_between(text: &str, before: &str, after: &str, name: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some((head, tail)) = rest.split_once(before) {
        let end = tail.find(after).unwrap_or(tail.len());
        kept.extend([head, before, "[", name, "]"]);
        rest = &tail[end..];
    }
    kept + rest
}

/// A heading and what stands below it, unless that is nothing.
fn section(text: &mut String, heading: &str, content: &str) {
    if !content.is_empty() {
        let newline = if content.ends_with('\n') { "" } else { "\n[no line break]\n" };
        let _ = write!(text, "--- {heading}\n{content}{newline}");
    }
}

fn run(place: &Place, case: &Case, options: &str) -> Output {
    let line = if options.is_empty() { case.line.to_owned() } else { format!("{} {options}", case.line) };
    let output = command(place, &line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(case.code), "{line}: {said}");
    output
}

/// What a case looks like in a pipe, on a terminal and to programs.
fn looks(case: &Case, shared: &mut Option<Place>) -> String {
    let mut text = format!("$ blob {}\n", case.line);
    let _ = writeln!(text, "exit {}", case.code);
    // What writes begins anew for each face; what reads finds the same each time.
    let mut place = || match shared.take() {
        Some(place) if !case.writes && place_fits(&place, case) => place,
        _ => prepared(case),
    };
    let mut now = place();
    for face in case.faces {
        if case.writes {
            now = prepared(case);
        }
        match face {
            Face::Pipe => {
                let output = run(&now, case, "");
                section(&mut text, "standard output", &still(&now, case, &String::from_utf8_lossy(&output.stdout)));
                section(&mut text, "standard error", &still(&now, case, &String::from_utf8_lossy(&output.stderr)));
            }
            Face::Terminal => {
                let terminal = Terminal::sized(&now, &command(&now, case.line), SIZE);
                let (status, screen) = terminal.last_screen();
                assert_eq!(
                    i32::try_from(status.exit_code()).unwrap(),
                    case.code,
                    "{} on a terminal: {screen}",
                    case.line
                );
                let screen = still(&now, case, &screen);
                section(&mut text, "terminal", screen.trim_start_matches('\n'));
            }
            Face::Json => {
                let output = run(&now, case, "-o json");
                let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
                programs(case, &out, &err);
                section(&mut text, "JSON", &still(&now, case, &out));
                section(&mut text, "JSON on standard error", &still(&now, case, &err));
            }
        }
    }
    // What is written once is a document there as well.
    if case.faces.contains(&Face::Json) && !case.writes {
        lines(&now, case);
    }
    if !case.writes && case.before.is_empty() {
        *shared = Some(now);
    }
    text
}

fn place_fits(place: &Place, case: &Case) -> bool {
    case.before.is_empty() && (place.host() != Place::NO_HOST) == case.served
}

/// A document is what its schema says, and an error is one.
fn programs(case: &Case, out: &str, err: &str) {
    assert!(out.is_empty() || case.schema.is_some(), "{} writes what has no schema: {out}", case.line);
    if let Some(name) = case.schema.filter(|_| !out.is_empty()) {
        schema::check(name, out);
    }
    for line in err.lines() {
        schema::check("error", line);
    }
    assert_eq!(err.lines().count(), usize::from(case.code != 0 && !case.silent), "{}: {err}", case.line);
}

/// Lines are what their schema says, or the document on one line.
fn lines(place: &Place, case: &Case) {
    let Some(name) = case.schema else { return };
    let line = format!("{name}-line");
    let output = run(place, case, "-o jsonl");
    for text in String::from_utf8(output.stdout).unwrap().lines() {
        schema::check(if schema::exists(&line) { &line } else { name }, text);
    }
    for text in String::from_utf8(output.stderr).unwrap().lines() {
        schema::check("error", text);
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name).with_extension("txt")
}

/// Holds the cases of a command against its file.
fn compare(name: &str) {
    let cases = GROUPS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} is no group")).1;
    let mut shared = None;
    let parts: Vec<String> = cases.iter().map(|case| looks(case, &mut shared)).collect();
    let expected = Data::read_from(&file(name), Some(snapbox::data::DataFormat::Text)).raw();
    Assert::new().action_env("SNAPSHOTS").normalize_paths(false).eq(parts.join("\n"), expected);
}

macro_rules! compared {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            compare($name);
        })*

        /// The groups that have a test.
        const TESTED: &[&str] = &[$($name),*];
    };
}

compared! {
    push "push"
    pull "pull"
    pack "pack"
    unpack "unpack"
    cat "cat"
    ls "ls"
    tree "tree"
    cp "cp"
    inspect "inspect"
    mount "mount"
    web "web"
    open "open"
    sign "sign"
    attest "attest"
    generate_key_pair "generate-key-pair"
    verify "verify"
    verify_bundle "verify-bundle"
    policy "policy"
    tag "tag"
    tags "tags"
    repos "repos"
    copy "copy"
    save "save"
    load "load"
    rm "rm"
    referrers "referrers"
    attach "attach"
    download "download"
    diff "diff"
    check "check"
    export "export"
    find "find"
    grep "grep"
    du "du"
    stat "stat"
    cache "cache"
    gc "gc"
    login "login"
    logout "logout"
    alias "alias"
    config "config"
    doctor "doctor"
    serve "serve"
    completion "completion"
    man "man"
    schema_of "schema"
    version "version"
    help "help"
}

/// The commands that the help of `words` lists.
fn listed(place: &Place, words: &str) -> Vec<String> {
    let text = stdout(&place.run(&format!("{words}--help")));
    let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn no_command_is_missing() {
    let place = Place::offline();
    let commands = listed(&place, "");
    assert!(commands.len() > 30, "{commands:?}");
    for command in &commands {
        let group = GROUPS.iter().find(|(name, _)| name == command);
        let (_, cases) = group.unwrap_or_else(|| panic!("`blob {command}` has no cases in faces/cases.rs"));
        assert!(TESTED.contains(&command.as_str()), "`blob {command}` has cases and no test");
        assert!(file(command).exists(), "`blob {command}` has no snapshot");
        for code in [false, true] {
            // The browser succeeds in `open`, mounts in `mount`, servers in `serve`, sites in `web`, and bundles that are in a log verify in `trust`.
            let elsewhere = ["help", "mount", "open", "serve", "verify-bundle", "web"].contains(&command.as_str());
            let covered = elsewhere || cases.iter().any(|case| (case.code != 0) == code);
            assert!(covered, "`blob {command}` has no case that {}", if code { "fails" } else { "succeeds" });
        }
        let inner = if command == "help" { Vec::new() } else { listed(&place, &format!("{command} ")) };
        for inner in inner.iter().filter(|inner| *inner != "help") {
            let words = format!("{command} {inner}");
            assert!(cases.iter().any(|case| case.line.starts_with(&words)), "`blob {words}` has no case");
        }
    }
    let files: BTreeSet<String> = fs::read_dir(file("x").parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, TESTED.iter().map(|name| (*name).to_owned()).collect(), "snapshots that no test makes");
}

#[test]
fn every_document_that_has_a_schema_is_written() {
    let schemas = stdout(&Place::offline().run("schema -o plain").success());
    let written: BTreeSet<&str> = GROUPS.iter().flat_map(|(_, cases)| *cases).filter_map(|case| case.schema).collect();
    // Errors are held against theirs in all cases, the others in tests of their own; configurations are what people write.
    let elsewhere = ["config", "error", "log", "mount", "progress", "serve", "stats", "verify-bundle", "web"];
    for name in schemas.lines().filter_map(|line| line.split('\t').next()) {
        let document = name.strip_suffix("-line").unwrap_or(name);
        assert!(written.contains(document) || elsewhere.contains(&document), "no case writes what {name} describes");
    }
}
