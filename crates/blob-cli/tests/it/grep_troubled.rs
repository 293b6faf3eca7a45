//! `blob grep` where files cannot be searched: the others are, and what is wrong is told.

use std::fs;

use blob_testkit::proxy::{Action, Faults, Gate, Proxy, ProxyOptions, Rule, Shape};
use serde_json::Value;

use crate::errors::{data_blob, flip};
use crate::schema;
use crate::support::{Place, stderr, stdout};

/// `oci:found:v1` with `a`, `b` and `c`, of which `b` is damaged, and `d`, which is large and damaged in its last byte.
fn damaged() -> Place {
    let place = Place::offline();
    fs::create_dir(place.path("texts")).unwrap();
    fs::write(place.path("texts/a"), "needle of a\n").unwrap();
    fs::write(place.path("texts/b"), "needle of b\n").unwrap();
    fs::write(place.path("texts/c"), "needle of c\n").unwrap();
    fs::write(place.path("texts/d"), "needle of d\n".repeat(800_000)).unwrap();
    fs::write(place.path("texts/e"), "needle of e\n").unwrap();
    place.run("push -q -c none oci:found:v1 texts").success();
    let data = data_blob(&place.path("found"));
    let small = "needle of a\n".len();
    flip(&data, small);
    flip(&data, 3 * small + 800_000 * small - 1);
    place
}

#[test]
fn damaged_files_end_no_search() {
    let place = damaged();
    for (line, expected) in [
        ("grep -c needle oci:found:v1", "a:1\nc:1\ne:1\n"),
        ("grep -l -0 needle oci:found:v1", "a\0c\0e\0"),
        ("grep --files-without-match nowhere oci:found:v1", "a\nc\ne\n"),
        ("grep needle oci:found:v1 -g !d", "a:needle of a\nc:needle of c\ne:needle of e\n"),
        ("grep -U needle\\n oci:found:v1 a b c", ""),
        (
            "grep -o plain needle oci:found:v1",
            "a\t1\tneedle of a\tmatch\nc\t1\tneedle of c\tmatch\ne\t1\tneedle of e\tmatch\n",
        ),
    ] {
        let ended = place.run(line).code(7);
        assert_eq!(stdout(&ended), expected, "{line}");
        let told = stderr(&ended);
        let failed = if line.contains(" -g") || line.contains("a b c") { 1 } else { 2 };
        assert_eq!(told.matches("error: ").count(), failed + 1, "{line}: {told}");
        assert!(told.contains("error: reading \"b\": "), "{line}: {told}");
        assert!(
            told.contains(&format!("{failed} of ")) && told.ends_with(" files could not be searched\n"),
            "{line}: {told}"
        );
    }
    // One file alone needs no sum.
    let told = stderr(&place.run("grep needle oci:found:v1 b").code(7).stdout_eq(""));
    assert_eq!(told.matches("error: ").count(), 1, "{told}");
    // A file that has it is an answer, whatever the others have.
    place.run("grep -q needle oci:found:v1").success().stdout_eq("");
    place.run("grep -q needle oci:found:v1 b c").success();
    place.run("grep -q nowhere oci:found:v1").code(7);
}

#[test]
fn programs_are_told_as_well() {
    let place = damaged();
    let ended = place.run("grep -o json needle oci:found:v1").code(7);
    let document = stdout(&ended);
    schema::check("grep", &document);
    let document: Value = serde_json::from_str(&document).unwrap();
    let numbers = ["searched_files", "failed_files", "matched_files", "matched_lines"].map(|name| &document[name]);
    assert_eq!(numbers, [3, 2, 3, 3]);
    assert_eq!(document["lines"].as_array().unwrap().len(), 3);
    let told = stderr(&ended);
    assert_eq!(told.lines().count(), 3, "{told}");
    told.lines().for_each(|line| schema::check("error", line));
    assert!(told.lines().all(|line| line.contains("\"kind\":\"hash_mismatch\"")), "{told}");
    let ended = place.run("grep -o jsonl -g !d needle oci:found:v1").code(7);
    assert_eq!(stdout(&ended).lines().count(), 3);
    stderr(&ended).lines().for_each(|line| schema::check("error", line));
}

#[test]
fn a_line_without_end_is_told_and_left_out() {
    let place = damaged();
    let long = fs::File::create(place.path("texts/long [1]")).unwrap();
    long.set_len(65 << 20).unwrap();
    fs::write(place.path("texts/z"), "needle of z\n").unwrap();
    place.run("push -q oci:long:v1 texts").success();
    let ended = place.run("grep -a -g !d needle oci:long:v1").code(2);
    assert!(stdout(&ended).ends_with("e:needle of e\nz:needle of z\n"), "{}", stdout(&ended));
    let told = stderr(&ended);
    assert!(told.starts_with("error: searching long [1]: a line has more than 64 MiB\nhint: "), "{told}");
    assert!(told.ends_with("error: 1 of 6 files could not be searched\n"), "{told}");
    // The hint helps.
    let glob = told.split("-g '").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let mut command = place.command("grep -a -c needle oci:long:v1 -g");
    assert_eq!(stdout(&place.assert(command.arg(glob)).success()).lines().count(), 6);
    place.run("grep -a -c needle oci:long:v1 --max-filesize 10M").success();
    // As a whole it is too large, unless it is passed over as binary.
    let ended = place.run("grep -a -U -c needle[^x]of oci:long:v1").code(2);
    assert!(stderr(&ended).contains("long [1]: it has 65.0M, and --multiline"), "{}", stderr(&ended));
    place.run("grep -U -c needle[^x]of oci:long:v1").success();
}

#[test]
fn what_fails_for_all_is_told_once_with_what_was_found_before() {
    let mut place = Place::served();
    fs::create_dir(place.path("many")).unwrap();
    for number in 0..300 {
        fs::write(place.path(format!("many/{number:03}")), format!("needle {number}\n")).unwrap();
    }
    place.run("push -q HOST/team/many:v1 many").success();
    place.run("ls HOST/team/many:v1").success();
    place.stop_server();
    let ended = place.run("--retries 0 --timeout 5 --tag-ttl 1h grep needle HOST/team/many:v1").code(5);
    let told = stderr(&ended);
    assert_eq!(told.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{told}");
    assert!(!told.contains("could not be searched"), "{told}");
}

#[test]
fn what_was_found_before_all_failed_is_told() {
    let place = Place::served();
    fs::create_dir(place.path("texts")).unwrap();
    for name in ["a", "b", "y", "z"] {
        fs::write(place.path("texts").join(name), format!("needle of {name}\n")).unwrap();
    }
    fs::write(place.path("texts/c"), "needle of c\n".repeat(800_000)).unwrap();
    place.run("push -q -c none HOST/team/texts:v1 texts").success();
    for (shape, expected) in [("-N", "a:needle of a\nb:needle of b\n"), ("-l", "a\nb\n"), ("-c", "a:1\nb:1\n")] {
        // The small ones before the large one come by one request.
        let rules = vec![Rule::every("/blobs/", Action::Status(503)).after(1)];
        let options = ProxyOptions { shape: Shape::default(), faults: Faults::script(rules), gate: Gate::default() };
        let line = Proxy::start(place.host().parse().unwrap(), options).unwrap();
        let ended = place.run(&format!("--no-cache --retries 0 grep {shape} needle {}/team/texts:v1", line.addr()));
        assert_eq!(stdout(&ended.code(5)), expected, "{shape}");
    }
}

#[test]
fn brackets_of_one_pattern_do_not_close_those_of_another() {
    let place = Place::laid_out();
    for patterns in ["-e (foo -e )", "-e )|(", "-w -e x)|(", "-e [ -e ]"] {
        let refused = stderr(&place.run(&format!("grep {patterns} oci:layout:v1")).code(2).stdout_eq(""));
        assert!(refused.contains("is no pattern"), "{patterns}: {refused}");
    }
    place.run("grep -F -q -e )|( -e # oci:layout:v1").success();
}
