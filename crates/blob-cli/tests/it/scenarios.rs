//! What people do every day. What scripts for the Go program rely on is in [`crate::scripts`].

use std::fs;

use crate::support::{Place, stderr, stdout};

/// Runs `line` and finds each of `wanted` in what it writes.
fn finds(place: &Place, line: &str, wanted: &[&str]) {
    let text = stdout(&place.run(line).success());
    for wanted in wanted {
        assert!(text.contains(wanted), "{line}: {wanted:?} is not in {text}");
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

/// The command with the directories that the scripts of the Go program use.
fn at_home(place: &Place, line: &str) -> std::process::Command {
    let mut command = place.command(line);
    command.env("XDG_CONFIG_HOME", place.path(".config")).env("XDG_CACHE_HOME", place.path(".cache"));
    command
}

/// Runs `line` there and finds each of `wanted`, in this order, in what it writes.
fn shows(place: &Place, line: &str, wanted: &[&str]) -> String {
    let text = stdout(&place.assert(&mut at_home(place, line)).success());
    let mut rest = text.as_str();
    for wanted in wanted {
        let found = rest.split_once(wanted);
        rest = found.unwrap_or_else(|| panic!("{line}: {wanted:?} is not in {rest}, of {text}")).1;
    }
    text
}

#[test]
fn the_cache_is_configured() {
    let place = Place::served();
    fs::create_dir_all(place.path(".config/blob")).unwrap();
    fs::write(place.path(".config/blob/config.yaml"), "cache:\n  indexes:\n    enabled: false\n").unwrap();
    shows(&place, "cache status", &["indexes", "(disabled)"]);
    shows(&place, "cache status --output json", &["\"name\": \"indexes\"", "\"enabled\": false"]);
    // An index of this size is not embedded in the manifest.
    for number in 0..1500 {
        fs::write(place.path(format!("project/docs/file-{number:05}-with-a-long-name")), number.to_string()).unwrap();
    }
    shows(&place, "--plain-http push HOST/cache-test:t1 project", &["Pushed"]);
    shows(&place, "--plain-http pull HOST/cache-test:t1 out", &["Pulled"]);
    let json =
        shows(&place, "cache status --output json", &["\"name\": \"indexes\"", "\"files\": 0", "\"total_files\": "]);
    assert!(!json.contains("\"total_files\": 0"), "{json}");

    fs::write(place.path(".config/blob/config.yaml"), "cache:\n  dir: custom-cache-location\n").unwrap();
    for line in ["cache path", "cache status", "cache status --output json", "cache path --output json"] {
        shows(&place, line, &["custom-cache-location"]);
    }
    shows(&place, "--plain-http pull HOST/cache-test:t1 again", &["Pulled"]);
    assert!(place.path("custom-cache-location").is_dir());
}

#[test]
fn quiet_swallows_no_contents() {
    let place = Place::pushed();
    finds(&place, "-q cat HOST/team/project:v1 README.md", &["# Sample"]);
    finds(&place, "-q ls HOST/team/project:v1", &["README.md"]);
    finds(&place, "--output json -q pull HOST/team/project:v1 out", &["\"file_count\": 7"]);
}
