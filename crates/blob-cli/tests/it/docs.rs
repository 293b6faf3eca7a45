//! The documentation does what it says: its `console` blocks are run, page by page, and what they print is compared.
//!
//! A block is fenced with `console`. Lines that begin with `$ ` are commands (those behind them that begin with `> ` go
//! on), the others are what they print, both streams together. Within the expected lines, `…` stands for anything on a
//! line, and a line that is nothing but `…` for any number of lines. A command without expected lines may print what it
//! likes. Commands succeed, unless what they print has a line that begins with `error:` or the block is fenced with
//! `console,fails`. Blocks fenced with `console,norun` are for readers alone.
//!
//! A page is one session of `bash` in an empty directory with an empty home. `localhost:5000` is a `blob serve` of its
//! own. What a page needs and does not show stands in comments: `<!-- run: mkdir project -->`. A page with the comment
//! `<!-- sigstore: … -->` has services for signing of its own: `trusted_root.json` and `signing_config.json` name them, and
//! `token` is an identity token for ann@example.com of https://accounts.google.com.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blob_testkit::sigstore::{Instance, Person};

use crate::support::{BLOB, Place};

/// What stands for the server in the documentation.
const SERVER: &str = "localhost:5000";

/// Printed between commands, on a line of its own.
const MARK: &str = "@@ command";

/// A command of a page and what it is to print.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    /// `None` for anything.
    expected: Option<Vec<String>>,
    fails: bool,
    hidden: bool,
}

impl Step {
    fn fails(&self) -> bool {
        self.fails || self.expected.iter().flatten().any(|line| line.starts_with("error:"))
    }
}

/// The commands of a page, in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // Inside a block: whether it is run, and whether its commands fail.
    let mut block: Option<(bool, bool)> = None;
    for (number, line) in page.lines().enumerate() {
        let text = line.trim_end();
        match block {
            None if text.trim_start().starts_with("```") => {
                let info: Vec<&str> = text.trim_start().trim_start_matches('`').split(',').map(str::trim).collect();
                block = Some((info[0] == "console" && !info.contains(&"norun"), info.contains(&"fails")));
            }
            None => {
                if let Some(hidden) = text.strip_prefix("<!-- run: ").and_then(|rest| rest.strip_suffix(" -->")) {
                    let command = hidden.to_owned();
                    steps.push(Step { line: number + 1, command, expected: None, fails: false, hidden: true });
                }
            }
            Some(_) if text.trim_start() == "```" => block = None,
            Some((false, _)) => {}
            Some((true, fails)) => {
                if let Some(command) = text.strip_prefix("$ ") {
                    let command = command.to_owned();
                    steps.push(Step { line: number + 1, command, expected: None, fails, hidden: false });
                } else if let Some(step) = steps.last_mut().filter(|step| !step.hidden) {
                    match (text.strip_prefix("> "), &mut step.expected) {
                        (Some(more), None) => {
                            let _ = write!(step.command, "\n{more}");
                        }
                        (_, expected) => expected.get_or_insert_default().push(text.to_owned()),
                    }
                }
            }
        }
    }
    // Empty lines at the end of a block belong to its layout.
    for expected in steps.iter_mut().filter_map(|step| step.expected.as_mut()) {
        while expected.last().is_some_and(String::is_empty) {
            expected.pop();
        }
    }
    steps
}

/// Whether a line is what is expected, where `…` is anything.
fn line_fits(expected: &str, got: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(first) = parts.next() else { return got.is_empty() };
    let Some(mut rest) = got.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether lines are what is expected, where a line of `…` is any number of them.
fn fits(expected: &[String], got: &[&str]) -> bool {
    match expected.split_first() {
        None => got.is_empty(),
        Some((line, rest)) if line.trim() == "…" => (0..=got.len()).any(|skip| fits(rest, &got[skip..])),
        Some((line, rest)) => {
            got.split_first().is_some_and(|(first, others)| line_fits(line, first) && fits(rest, others))
        }
    }
}

/// Runs the commands of a page; the answer is what is wrong with it.
fn run(name: &str, page: &str) -> String {
    let steps = steps(page);
    if steps.is_empty() {
        return String::new();
    }
    let place = Place::with_server();
    let work = place.path("page");
    fs::create_dir(&work).unwrap();
    let _instance = page.lines().any(|line| line.starts_with("<!-- sigstore: ")).then(|| sigstore(&work));
    let mut script = String::new();
    for step in &steps {
        let command = step.command.replace(SERVER, place.host());
        let _ = write!(script, "{{ {command}\n}} 2>&1 </dev/null\nprintf '\\n{MARK} %s\\n' $?\n");
    }
    let mut bash = Command::new("bash");
    place.isolate(&mut bash);
    let path = std::env::var("PATH").unwrap_or_default();
    let binaries = Path::new(BLOB).parent().unwrap().display().to_string();
    let output = bash
        .args(["--noprofile", "--norc", "-c", &script])
        .current_dir(&work)
        .env("PATH", format!("{binaries}:{path}"))
        .env("LC_ALL", "C.UTF-8")
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace(place.host(), SERVER);
    let mut problems = String::new();
    let mark = format!("\n{MARK} ");
    let mut parts = text.split(&mark);
    let mut printed = parts.next().unwrap_or_default();
    for step in &steps {
        let place = format!("{name}:{}: $ {}", step.line, step.command);
        let Some(next) = parts.next() else {
            let _ = writeln!(problems, "{place}\nthe session ended here:\n{printed}");
            break;
        };
        let (code, after) = next.split_once('\n').unwrap_or((next, ""));
        if (code != "0") != step.fails() {
            let _ = writeln!(problems, "{place}\nended with {code}:\n{printed}\n");
        } else if let Some(expected) = &step.expected {
            let got: Vec<&str> = printed.trim_end_matches('\n').lines().map(str::trim_end).collect();
            let got = if printed.trim_end_matches('\n').is_empty() { Vec::new() } else { got };
            if !fits(expected, &got) {
                let _ = writeln!(problems, "{place}\nexpected:\n{}\n\ngot:\n{}\n", expected.join("\n"), got.join("\n"));
            }
        }
        printed = after;
    }
    problems
}

/// Services for signing, and the files that name them.
fn sigstore(work: &Path) -> Instance {
    let instance = Instance::start().unwrap();
    let token = Person::email("https://accounts.google.com", "ann@example.com").token();
    for (name, content) in [
        ("trusted_root.json", instance.trusted_root()),
        ("signing_config.json", instance.signing_config(true)),
        ("token", token),
    ] {
        fs::write(work.join(name), content).unwrap();
    }
    instance
}

/// The pages: those of the book and the README.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    let mut open = vec![root.join("docs")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

#[test]
fn every_page_does_what_it_says() {
    let pages = pages();
    let results: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = pages
            .iter()
            .map(|page| {
                scope.spawn(move || {
                    run(&page.file_name().unwrap().to_string_lossy(), &fs::read_to_string(page).unwrap())
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let problems: String = results.concat();
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn blocks_are_read_as_they_are_meant() {
    let page = "text\n<!-- run: mkdir a -->\n```sh\n$ not this\n```\n```console\n$ echo \\\n> x\nx\n\n$ false\nerror: y\n```\n\
                ```console,norun\n$ no\n```\n```console,fails\n$ z\n```\n";
    let steps = steps(page);
    let commands: Vec<&str> = steps.iter().map(|step| step.command.as_str()).collect();
    assert_eq!(commands, ["mkdir a", "echo \\\nx", "false", "z"]);
    assert_eq!(steps.iter().map(Step::fails).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(steps[1].expected, Some(vec!["x".to_owned()]));
    assert_eq!((steps[0].line, steps[3].line), (2, 18));
}

#[test]
fn ellipses_stand_for_anything() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (expected, got, fit) in [
        ("a", "a", true),
        ("a", "b", false),
        ("a…", "abc", true),
        ("a…c", "abc", true),
        ("a…c", "abcd", false),
        ("…b…", "abc", true),
        ("a\n…\nz", "a\nb\nc\nz", true),
        ("a\n…\nz", "a\nz", true),
        ("a\n…\nz", "a\nb", false),
        ("…", "", true),
    ] {
        assert_eq!(fits(&lines(expected), &got.lines().collect::<Vec<_>>()), fit, "{expected} {got}");
    }
}

#[test]
fn a_page_that_is_wrong_is_found_out() {
    let said = run("page.md", "```console\n$ echo one\ntwo\n$ blob tags localhost:5000/none\nx\n$ exit 3\n```\n");
    for expected in [
        "page.md:2: $ echo one\nexpected:\ntwo\n\ngot:\none\n",
        "page.md:4: ",
        "ended with 3",
        "the session ended here",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
}
