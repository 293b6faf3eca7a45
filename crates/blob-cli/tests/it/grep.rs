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
    fs::write(place.path("words"), "beta\nfn\nnothing\n").unwrap();
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
        ("-e alpha -e nothing", "-e alpha -e nothing"),
        ("-i -e ALPHA -e -e", "-i -e ALPHA -e -e"),
        ("-F -e () -e #", "-F -e () -e #"),
        ("-w -e beta -e last", "-w -e beta -e last"),
        ("-x -e beta -e nothing", "-x -e beta -e nothing"),
        ("-c -e alpha -e beta", "-c -e alpha -e beta"),
        ("--invert-match -e a -e n", "-v -e a -e n"),
        ("--only-matching -e al -e et", "-o -e al -e et"),
        ("-f ../words", "-f ../words"),
        ("-F -f ../words -e gamma", "-F -f ../words -e gamma"),
        ("-x -f ../words", "-x -f ../words"),
        ("-r beta", "beta"),
        ("-R --recursive beta", "beta"),
        ("-U ^beta$", "^beta$"),
        ("-U -c ta.beta", "-c ta.beta"),
    ] {
        let ours = ours.replace("../", "");
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
        ("grep -f nowhere oci:found:v1", 2),
        ("grep -f /dev/null oci:found:v1", 1),
        ("grep -f /dev/null -i oci:found:v1", 1),
        ("grep -f /dev/null --invert-match oci:found:v1 z.log", 0),
        ("grep -e alpha", 2),
        ("grep -e nowhere -e alpha oci:found:v1", 0),
        ("grep -U --invert-match a oci:found:v1", 2),
        ("grep --replace x -l a oci:found:v1", 2),
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

#[test]
fn patterns_come_from_everywhere() {
    let place = place();
    fs::write(place.path("words"), "beta\r\nfn\n").unwrap();
    fs::write(place.path("odd"), b"fine\n\xff\n").unwrap();
    place.run("grep -c -f words -e gamma oci:found:v1 a.txt b/c").success().stdout_eq("a.txt:1\nb/c/three.rs:3\n");
    let mut piped = place.command("grep -F -f - oci:found:v1 z.log");
    let piped = piped.stdin(fs::File::open(place.path("words")).unwrap());
    place.assert(piped).success().stdout_eq("beta\n");
    for (line, words) in [
        ("grep -f odd oci:found:v1", "reading the patterns in odd: line 2 is not UTF-8"),
        ("grep -e fine -e a( oci:found:v1", "\"a(\" is no pattern: unclosed group"),
        ("grep a(?=b) oci:found:v1", "there is no look-around"),
        ("grep a\\nb oci:found:v1", "-U searches across them"),
        ("grep oci:found:v1 alpha", "the pattern comes first, then the archive"),
        ("grep -e alpha beta oci:found:v1", "a pattern more is one more -e"),
        ("grep -e alpha", "requires at least 1 arg(s), only received 0: missing <REF>"),
        ("grep alpha", "requires at least 2 arg(s), only received 1: missing <REF>"),
        ("grep", "requires at least 2 arg(s), only received 0: missing <PATTERN> <REF>"),
        ("grep -P alpha oci:found:v1", "no look-around"),
        ("grep -E alpha oci:found:v1", "extended regular expressions in any case"),
        ("grep -L alpha oci:found:v1", "did you mean `--files-without-match`?"),
    ] {
        let told = stderr(&place.run(line).code(2));
        assert!(told.contains(words), "{line}: {told}");
    }
}

#[test]
fn depth_is_counted_from_what_is_searched() {
    let place = place();
    for (line, expected) in [
        ("grep -l --max-depth 1 beta oci:found:v1", "latin1.txt\nwindows.txt\nz.log\n"),
        ("grep -l --max-depth 2 beta oci:found:v1 -g *.md", "b/one.md\n"),
        ("grep -l --max-depth 1 beta oci:found:v1 b", "b/one.md\n"),
        ("grep -l --max-depth 1 beta oci:found:v1 b/c/three.rs b", "b/c/three.rs\nb/one.md\n"),
    ] {
        place.run(line).success().stdout_eq(expected);
    }
}

#[test]
fn replacements_are_those_of_sed() {
    let place = place();
    for (pattern, ours, theirs) in
        [("beta", "[$0]", "[&]"), ("([a-z]+) ([a-z]+)", "$2-$1", r"\2-\1"), ("^", ">", ">"), ("a$", "", "")]
    {
        let mut command = place.command("grep -I");
        command.args([pattern, "oci:found:v1", "a.txt", "b", "--replace", ours]);
        let found = stdout(&place.assert(&mut command).success());
        let mut system = Command::new("sed");
        system.args(["-n", "-E", &format!("s/{pattern}/{theirs}/gp")]);
        system.args(["a.txt", "b/c/three.rs", "b/one.md", "b/two.md"]).env("LC_ALL", "C.UTF-8");
        let system = system.current_dir(place.path("texts")).output().unwrap();
        // sed adds no line break at the end of a file that has none.
        let expected = String::from_utf8(system.stdout).unwrap().replace("end#", "end\n#").replace("endfn", "end\nfn");
        let expected = expected.replace("end>", "end\n>");
        assert_eq!(found, expected, "{pattern}");
    }
    let line = stdout(&place.run("grep -o jsonl --replace <$1> (be)ta oci:found:v1 z.log").success());
    schema::check("grep-line", &line);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["text"], &line["matches"][0]["replacement"]), (&"beta".into(), &"<be>".into()));
    let mut parts = place.command("grep --only-matching --replace $1 (b)e|(l)a oci:found:v1 a.txt");
    place.assert(&mut parts).success().stdout_eq("b\n");
}

#[test]
fn matches_go_on_in_the_next_line() {
    let place = place();
    let found = |options: &[&str]| {
        let mut command = place.command("grep -n -U");
        stdout(&place.assert(command.args(options)).success())
    };
    let across = r"nothing\nbeta\nbeta";
    assert_eq!(found(&[across, "oci:found:v1"]), "b/one.md:2:nothing\nb/one.md:3:beta\nb/one.md:4:beta beta\n");
    assert_eq!(found(&[across, "oci:found:v1", "b/one.md", "--only-matching"]), "2:nothing\n3:beta\n4:beta\n");
    assert_eq!(found(&["-c", across, "oci:found:v1"]), "b/one.md:3\n");
    assert_eq!(found(&[r"(?s)Alpha.*beta", "-A1", "oci:found:v1", "b/one.md"]).lines().count(), 4);
    assert_eq!(
        found(&[r"a\r\nb", "-o", "plain", "--only-matching", "oci:found:v1"]),
        "windows.txt\t1\ta\\r\\nb\tmatch\n"
    );
    assert_eq!(
        found(&[r"nothing\n(beta)", "--replace", "$1 and", "oci:found:v1", "b/one.md", "-B1"]),
        "1-# Alpha\n2:beta and\n"
    );
    let line = found(&[r"Alpha\nno", "-o", "jsonl", "oci:found:v1"]);
    schema::check("grep-line", &line);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["line"], &line["text"]), (&1.into(), &"# Alpha\nnothing".into()));
    assert_eq!((&line["matches"][0]["start"], &line["matches"][0]["end"]), (&2.into(), &10.into()));
}

#[test]
fn rows_tell_matches_from_context() {
    let place = place();
    for (line, expected) in [
        (
            "grep -o plain -C1 ^beta$ oci:found:v1 b/one.md",
            "b/one.md\t2\tnothing\tcontext\nb/one.md\t3\tbeta\tmatch\nb/one.md\t4\tbeta beta\tcontext\n",
        ),
        (
            "grep -o csv --only-matching -C1 be.a oci:found:v1 b/one.md",
            "PATH,LINE,TEXT,TYPE\r\nb/one.md,3,beta,match\r\nb/one.md,4,beta,match\r\nb/one.md,4,beta,match\r\n",
        ),
        ("grep -o plain --replace x -m1 beta oci:found:v1 z.log", "z.log\t1\tx\tmatch\n"),
        ("grep -o plain -c beta oci:found:v1 z.log", "1\tz.log\n"),
    ] {
        let found = stdout(&place.run(line).success());
        assert_eq!(found.replace('\r', ""), expected.replace('\r', ""), "{line}");
    }
}
