//! What scripts for the Go program's command rely on.

use std::fs;

use crate::support::{Place, stderr, stdout};

/// Runs `line` and finds each of `wanted` in what it writes.
fn finds(place: &Place, line: &str, wanted: &[&str]) {
    let text = stdout(&place.run(line).success());
    for wanted in wanted {
        assert!(text.contains(wanted), "{line}: {wanted:?} is not in {text}");
    }
}

fn equal(place: &Place, left: &str, right: &str) {
    assert_eq!(fs::read(place.path(left)).unwrap(), fs::read(place.path(right)).unwrap(), "{left} {right}");
}

#[test]
fn push_writes_to_standard_output_alone() {
    let place = Place::served();
    let pushed = place.run("--plain-http push HOST/push-basic:t1 project").success();
    assert!(stdout(&pushed).contains("Pushed"));
    assert_eq!(stderr(&pushed), "");
}

#[test]
fn pull_to_directories() {
    let place = Place::pushed();
    for dest in ["output", "custom-output"] {
        fs::create_dir(place.path(dest)).unwrap();
        finds(&place, &format!("--plain-http pull HOST/team/project:v1 {dest}"), &["Pulled"]);
        for file in ["README.md", "config/app.yaml", "config/database.json", "docs/guide.md"] {
            equal(&place, &format!("project/{file}"), &format!("{dest}/{file}"));
        }
    }
}

#[test]
fn cat_of_one_and_of_several() {
    let place = Place::pushed();
    let lines = ["name: sample-app", "version: 1.0.0", "environment: production"];
    finds(&place, "cat HOST/team/project:v1 /config/app.yaml", &lines);
    finds(&place, "cat HOST/team/project:v1 README.md config/app.yaml", &["# Sample", "name: sample-app"]);
}

#[test]
fn copies_keep_the_paths_of_the_archive() {
    let place = Place::pushed();
    place.run("cp HOST/team/project:v1:/config/app.yaml ./copied.yaml").success();
    equal(&place, "project/config/app.yaml", "copied.yaml");
    fs::create_dir(place.path("output")).unwrap();
    place.run("cp HOST/team/project:v1:/config/ output/").success();
    assert_eq!(place.listing("output"), ["config/", "config/app.yaml", "config/database.json"]);
    place.run("cp HOST/team/project:v1:/config/app.yaml HOST/team/project:v1:/config/database.json several/").success();
    assert_eq!(place.listing("several"), ["config/", "config/app.yaml", "config/database.json"]);
}

#[test]
fn errors_say_what_is_missing() {
    let place = Place::pushed();
    for (line, wanted) in [
        ("push", "accepts 2 arg"),
        ("cat HOST/nonexistent:v1 /file.txt", "not found"),
        ("cat HOST/team/project:v1 /nonexistent.txt", "file not found: /nonexistent.txt"),
    ] {
        let failed = place.run(line).failure();
        assert!(stderr(&failed).contains(wanted), "{line}: {}", stderr(&failed));
    }
}

#[test]
fn listings() {
    let place = Place::pushed();
    finds(&place, "ls HOST/team/project:v1", &["README.md", "config/", "src/", "docs/"]);
    finds(&place, "ls -lh HOST/team/project:v1", &["-rw", "README.md"]);
    finds(&place, "ls HOST/team/project:v1 /config", &["app.yaml", "database.json"]);
    finds(&place, "ls HOST/team/project:v1 --output json", &["\"entries\":"]);
    let json = ["\"root\":", "\"directory_count\":", "\"file_count\":"];
    finds(&place, "tree HOST/team/project:v1 --output json", &json);
    let names = ["config", "src", "docs", "api", "reference.md", "directories", "files"];
    finds(&place, "tree HOST/team/project:v1", &names);
    finds(&place, "tree --dirsfirst HOST/team/project:v1", &["config", "src", "docs"]);
    let shallow = stdout(&place.run("tree -L 1 HOST/team/project:v1").success());
    assert!(shallow.contains("README.md") && !shallow.contains("reference.md"), "{shallow}");
}

#[test]
fn inspections_and_annotations() {
    let place = Place::served();
    let annotated = "push --annotation version=1.0.0 --annotation author=test HOST/a/b:v1 project";
    finds(&place, annotated, &["Pushed"]);
    finds(&place, "inspect HOST/a/b:v1", &["Reference:", "Digest:", "Files:", "Size:", "Compression:"]);
    let json = ["\"ref\":", "\"digest\":", "\"files\":", "\"size\":", "\"version\": \"1.0.0\"", "\"author\": \"test\""];
    finds(&place, "inspect HOST/a/b:v1 --output json", &json);
    place.run("push --compression none HOST/a/c:v1 project").success();
    finds(&place, "inspect HOST/a/c:v1", &["Compression:  none"]);
    fs::write(place.path("project/long"), "again ".repeat(1000)).unwrap();
    place.run("push HOST/a/d:v1 project").success();
    finds(&place, "inspect HOST/a/d:v1", &["Compression:  zstd"]);
    finds(&place, "tag HOST/a/d:v1 HOST/a/d:latest", &["Tagged", "Digest:"]);
    finds(&place, "inspect HOST/a/d:latest", &["Digest:"]);
}

#[test]
fn archives_are_reached_by_digest_and_from_layouts() {
    let place = Place::pushed();
    let pinned = stdout(&place.run("push -q --reproducible HOST/team/project:v1 project").success());
    finds(&place, &format!("cat {} README.md", pinned.trim()), &["# Sample"]);
    let local = stdout(&place.run("push -q --reproducible oci:layout:v1 project").success());
    assert_eq!(local.trim().split_once('@').unwrap().1, pinned.trim().split_once('@').unwrap().1);
    finds(&place, &format!("cat {} README.md", local.trim()), &["# Sample"]);
    finds(&place, "tags oci:layout", &["v1"]);
}

#[test]
fn a_reproducible_push_ignores_times_and_owners() {
    let place = Place::served();
    let push = "push -q --reproducible oci:layout:v1 project";
    let first = stdout(&place.run(push).success());
    let touched = fs::File::options().write(true).open(place.path("project/README.md")).unwrap();
    touched.set_modified(std::time::SystemTime::now()).unwrap();
    assert_eq!(stdout(&place.run(push).success()), first);
}
