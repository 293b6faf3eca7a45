//! `du --ncdu`: what ncdu makes of it.

use std::fs;

use blob_testkit::peers;
use serde_json::Value;

use crate::support::{Place, stderr, stdout};

/// Sums and names of a directory in ncdu's format: apparent and stored bytes, and the paths of everything.
fn sums(dir: &Value, above: &str, paths: &mut Vec<String>) -> (u64, u64) {
    let mut sum = (0, 0);
    let things = if let Some(list) = dir.as_array() { &list[1..] } else { return sum };
    for thing in things {
        let info = if thing.is_array() { &thing[0] } else { thing };
        let path = format!("{above}/{}", info["name"].as_str().unwrap());
        let below = sums(thing, &path, paths);
        paths.push(path);
        let of = |key: &str| info[key].as_u64().unwrap_or_default();
        sum = (sum.0 + below.0 + of("asize"), sum.1 + below.1 + of("dsize"));
    }
    sum
}

#[test]
fn sizes_are_those_of_du_and_ncdu_reads_them() {
    let place = Place::laid_out();
    fs::write(place.path("project/docs/again.md"), "guide\n").unwrap();
    fs::write(place.path("project/odd \u{1b}\"name\\"), "odd").unwrap();
    fs::create_dir_all(place.path("project/docs.d/a/b/c")).unwrap();
    fs::write(place.path("project/docs.d/a/b/c/deep"), "deep").unwrap();
    place.run("push -q oci:layout:v2 project").success();
    let written = stdout(&place.run("du --ncdu oci:layout:v2").success());
    assert_eq!(written, stdout(&place.run("du --ncdu -o json oci:layout:v2").success()), "it is the same each time");
    let document: Value = serde_json::from_str(&written).unwrap();
    assert_eq!((&document[0], &document[1], &document[3][0]["name"]), (&1.into(), &2.into(), &"oci:layout:v2".into()));
    let mut paths = Vec::new();
    let (apparent, stored) = sums(&document[3], "", &mut paths);
    let du: Value = serde_json::from_str(&stdout(&place.run("du -s -o json oci:layout:v2").success())).unwrap();
    let link = "config/app.yaml".len() as u64;
    assert_eq!(du["entries"][0]["size"], apparent - link);
    assert_eq!(du["entries"][0]["stored_size"], stored, "what two files have counts once");
    let odd = "/odd \u{1b}\"name\\";
    for wanted in ["/docs/again.md", "/docs/api/reference.md", "/docs.d/a/b/c/deep", "/empty", "/settings", odd] {
        assert!(paths.iter().any(|path| path == wanted), "{wanted}: {paths:?}");
    }
    assert!(stdout(&place.run("du --ncdu oci:layout:v2 docs").success()).contains("\"name\":\"oci:layout:v2:/docs\""));
    let only = stdout(&place.run("du --ncdu --include *.yaml oci:layout:v2").success());
    assert!(only.contains("app.yaml") && !only.contains("docs"), "{only}");
    for (line, wanted) in [
        ("du --ncdu oci:layout:v2 docs config", "shows one directory"),
        ("du --ncdu oci:layout:v2 run.sh", "is none that holds anything"),
        ("du --ncdu -s oci:layout:v2", "cannot be used with"),
        ("du --ncdu --format {{.x}} oci:layout:v2", "writes content"),
        ("ls --ncdu oci:layout:v2", "hint: `blob du --ncdu` writes what ncdu reads"),
    ] {
        let said = stderr(&place.run(line).code(2));
        assert!(said.contains(wanted), "{line}: {said}");
    }

    let Some(ncdu) = peers::require("ncdu", peers::find("ncdu")) else { return };
    fs::write(place.path("sizes.json"), &written).unwrap();
    let mut command = std::process::Command::new(ncdu);
    let read = command.args(["-e", "-f", "sizes.json", "-o", "-"]).current_dir(place.root.path()).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let theirs: Value = serde_json::from_slice(&read.stdout).unwrap();
    let mut read = Vec::new();
    assert_eq!(sums(&theirs[3], "", &mut read), (apparent, stored));
    read.sort();
    paths.sort();
    assert_eq!(read, paths);
}
