//! `blob grep`: the same lines as grep(1) finds, in order, with few requests.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::errors::{data_blob, flip};
use crate::schema;
use crate::support::{Place, stderr, stdout};

/// A place with files of many kinds as `oci:found:v1`.
fn place() -> Place {
    let place = Place::offline();
    let dir = place.path("texts");
    for (path, content) in [
        ("a.txt", "alpha\nBeta gamma\nalphabet\n\nlast line without end"),
        ("b/one.md", "# Alpha\nnothing\nbeta\nbeta beta\n"),
        ("b/two.md", "\u{e4}lpha\nb\u{ea}ta\n"),
        ("b/c/three.rs", "fn alpha() {}\nfn beta() {}\n// alpha, beta\n"),
        ("windows.txt", "alpha\r\nbeta\r\n"),
        ("empty", ""),
        ("z.log", "beta\n"),
    ] {
        let file = dir.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    fs::write(dir.join("latin1.txt"), b"alph\xe9\nbeta\n").unwrap();
    place.run("push -q --reproducible oci:found:v1 texts").success();
    place
}

#[test]
fn the_same_lines_as_grep_finds() {
    let place = place();
    for (ours, theirs) in [
        ("alpha", "alpha"),
        ("-i alpha", "-i alpha"),
        ("-w beta", "-w beta"),
        ("-x beta", "-x beta"),
        ("-F ()", "-F ()"),
        ("^fn.*[({]", "^fn.*[({]"),
        ("--invert-match a", "-v a"),
        ("-m1 beta", "-m1 beta"),
        ("--only-matching b[et]*a", "-o b[et]*a"),
        ("-c beta", "-c beta"),
        ("-l beta", "-l beta"),
        ("--files-without-match beta", "-L beta"),
        ("-g *.md beta", "--include=*.md beta"),
        ("-g !*.md alpha", "--exclude=*.md alpha"),
    ] {
        let found = stdout(&place.run(&format!("grep -n {ours} oci:found:v1")).success());
        let mut system = Command::new("grep");
        let kind = if theirs.starts_with("-F") { "-rna" } else { "-rnaE" };
        system.arg(kind).args(theirs.split(' ')).arg(".").env("LC_ALL", "C").current_dir(place.path("texts"));
        let expected = String::from_utf8_lossy(&system.output().unwrap().stdout).into_owned();
        let expected: BTreeSet<&str> =
            expected.lines().map(|line| line.trim_start_matches("./")).filter(|line| !line.ends_with(":0")).collect();
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines.iter().copied().collect::<BTreeSet<_>>(), expected, "{ours}");
        // By path, and in a file by line.
        let place_of = |line: &&str| {
            let mut parts = line.split(':');
            (parts.next().unwrap().to_owned(), parts.next().and_then(|it| it.parse::<u64>().ok()))
        };
        assert!(lines.is_sorted_by_key(place_of), "{ours}: {found}");
    }
}

#[test]
fn lines_around_are_as_in_grep() {
    let place = place();
    for options in ["-C1", "-A1", "-B2"] {
        let found = stdout(&place.run(&format!("grep -n {options} beta oci:found:v1 b/one.md")).success());
        let mut system = Command::new("grep");
        system.arg("-n").args(options.split(' ')).args(["beta", "one.md"]).current_dir(place.path("texts/b"));
        assert_eq!(found, String::from_utf8(system.output().unwrap().stdout).unwrap(), "{options}");
    }
    let two = stdout(&place.run("grep -A1 ^beta$ oci:found:v1 b/one.md z.log").success());
    assert_eq!(two, "b/one.md:beta\nb/one.md-beta beta\n--\nz.log:beta\n");
}

#[test]
fn what_is_written_for_programs_fits_its_schema() {
    let place = place();
    for line in
        ["grep -o jsonl -C1 alph oci:found:v1", "grep -o jsonl -c beta oci:found:v1", "grep -o jsonl -l b oci:found:v1"]
    {
        let found = stdout(&place.run(line).success());
        assert!(found.lines().count() > 2, "{found}");
        found.lines().for_each(|line| schema::check("grep-line", line));
    }
    let document = stdout(&place.run("grep -o json alph.? oci:found:v1 latin1.txt").success());
    schema::check("grep", &document);
    let document: Value = serde_json::from_str(&document).unwrap();
    let line = &document["lines"][0];
    assert_eq!((&line["text"], &line["text_base64"]), (&"alph\u{fffd}".into(), &"YWxwaOk=".into()));
    assert_eq!(line["matches"][0]["start"], 0);
    let mut shaped = place.command("grep beta oci:found:v1 z.log");
    let shaped =
        stdout(&place.assert(shaped.args(["--format", "{{range .lines}}{{.path}}:{{.line}}{{end}}"])).success());
    assert_eq!(shaped, "z.log:1\n");
}

#[test]
fn binary_files_are_passed_over_unless_they_are_named() {
    let place = Place::offline();
    fs::create_dir(place.path("mixed")).unwrap();
    fs::write(place.path("mixed/binary"), b"before\n\0needle\n").unwrap();
    fs::write(place.path("mixed/text"), "needle\n").unwrap();
    place.run("push -q oci:layout:v1 mixed").success();
    place.run("grep needle oci:layout:v1").success().stdout_eq("text:needle\n");
    let named = stdout(&place.run("grep needle oci:layout:v1 binary").success());
    assert!(named.starts_with("binary file matches (a NUL byte is at "), "{named}");
    let text = stdout(&place.run("grep -a needle oci:layout:v1").success());
    assert_eq!(text, "binary:\0needle\ntext:needle\n");
    place.run("grep --max-filesize 10 -c e oci:layout:v1").success().stdout_eq("text:1\n");
    // However late the byte comes, there is no part of a count.
    fs::write(place.path("mixed/late"), [b"needle\n".repeat(20_000).as_slice(), b"\0needle\n"].concat()).unwrap();
    place.run("push -q oci:layout:v2 mixed").success();
    for (shape, expected) in [("-c", "text:1\n"), ("-l", "text\n"), ("-N", "text:needle\n")] {
        place.run(&format!("grep {shape} needle oci:layout:v2")).success().stdout_eq(expected);
    }
    place.run("grep -c -a needle oci:layout:v2 late").success().stdout_eq("20001\n");
}

#[test]
fn exit_codes_are_those_of_grep() {
    let place = place();
    for (line, code) in [
        ("grep alpha oci:found:v1", 0),
        ("grep -q alpha oci:found:v1", 0),
        ("grep nowhere oci:found:v1", 1),
        ("grep -q nowhere oci:found:v1", 1),
        ("grep -o json nowhere oci:found:v1", 1),
        ("grep --files-without-match ^ oci:found:v1 z.log", 1),
        ("grep [ oci:found:v1", 2),
        ("grep a\\nb oci:found:v1", 2),
        ("grep -l -c alpha oci:found:v1", 2),
        ("grep alpha", 2),
        ("grep alpha oci:found:v9", 3),
        ("grep alpha oci:found:v1 nothing", 3),
    ] {
        let ended = place.run(line).code(code);
        assert!(!line.contains("-q") || stdout(&ended).is_empty(), "{line}");
        assert_eq!(stderr(&ended).is_empty(), code < 2, "{line}");
    }
    // Paths are what was asked for, and not what is said besides.
    place.run("grep -q -l Beta oci:found:v1").success().stdout_eq("a.txt\n");
}

#[test]
fn few_requests_are_sent_and_only_for_what_is_searched() {
    let place = Place::pushed();
    fs::create_dir(place.path("many")).unwrap();
    for number in 0..400 {
        fs::write(place.path(format!("many/{number:03}.txt")), format!("line {number}\n{}", "x".repeat(200))).unwrap();
    }
    place.run("push -q HOST/team/many:v1 many").success();
    let stats = |line: &str| {
        let ended = place.run(&format!("--no-cache grep --stats {line}")).success();
        let told = stderr(&ended);
        let numbers: Vec<u64> =
            told.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        (stdout(&ended), numbers[0], numbers[1])
    };
    let (found, requests, all) = stats("^line HOST/team/many:v1");
    assert_eq!(found.lines().count(), 400, "{found}");
    assert!(found.lines().map(|line| line.split(':').next().unwrap()).is_sorted(), "{found}");
    assert!(requests <= 6, "{requests} requests");
    let (found, _, part) = stats("^line HOST/team/many:v1 017.txt");
    assert_eq!(found, "line 17\n");
    assert!(part < all, "{part} bytes for one file, {all} for all");
}

#[test]
fn large_files_are_searched_as_they_come_and_verified() {
    let place = Place::offline();
    fs::create_dir(place.path("large")).unwrap();
    let mut text = "nothing to see here\n".repeat(500_000);
    text.insert_str(9_000_000, "the needle\n");
    fs::write(place.path("large/text"), &text).unwrap();
    place.run("push -q --compression none oci:layout:v1 large").success();
    let found = stdout(&place.run("grep -n needle oci:layout:v1").success());
    assert_eq!(found, "text:450001:the needle\n");
    place.run("grep -c nothing oci:layout:v1").success().stdout_eq("text:500000\n");
    // What was found is not to be trusted when the last byte is another one, also where the search has ended long before.
    flip(&data_blob(&place.path("layout")), text.len() - 1);
    for line in ["grep needle oci:layout:v1", "grep -l nothing oci:layout:v1", "grep -m1 nothing oci:layout:v1"] {
        place.run(line).code(7);
    }
}
