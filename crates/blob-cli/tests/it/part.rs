//! Parts of directories and archives: filters, lists, ignore files; and plans instead of deeds.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use snapbox::str;

use crate::support::{Place, stderr, stdout};

fn listed(place: &Place, reference: &str) -> Vec<String> {
    stdout(&place.run(&format!("ls -R {reference}")).success()).lines().map(str::to_owned).collect()
}

#[test]
fn ignore_files_are_heeded_and_not_stored() {
    let place = Place::offline();
    fs::write(place.path("project/.blobignore"), "*.md\n!docs/guide.md\n/src/\nempty/\n").unwrap();
    fs::write(place.path("project/docs/api/.blobignore"), "!reference.md\n").unwrap();
    place.run("push -q oci:layout:v1 project").success();
    let rest =
        ["config/app.yaml", "config/database.json", "docs/api/reference.md", "docs/guide.md", "run.sh", "settings"];
    assert_eq!(listed(&place, "oci:layout:v1"), rest);
    place.run("push -q --store-ignore-files oci:layout:v2 project").success();
    assert_eq!(listed(&place, "oci:layout:v2").len(), rest.len() + 2);
    place.run("push -q --no-ignore oci:layout:v3 project").success();
    assert_eq!(listed(&place, "oci:layout:v3").len(), 11);
    fs::write(place.path("project/docs/.blobignore"), "ok\n{a\n").unwrap();
    place.run("push oci:layout:v4 project").code(2).stdout_eq("").stderr_eq(str![[r#"
error: project/docs/.blobignore:2: error parsing glob '{a': unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)

"#]]);
    place.run("tags --filter v4 oci:layout").success().stdout_eq("");
}

#[test]
fn lists_of_files() {
    let place = Place::offline();
    fs::write(place.path("list"), "README.md\n./docs/api/\n").unwrap();
    place.run("push -q --files-from list oci:layout:v1 project").success();
    assert_eq!(listed(&place, "oci:layout:v1"), ["README.md", "docs/api/reference.md"]);
    let mut command = place.command("push -q --files-from - -0 oci:layout:v2 project");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"run.sh\0empty\0").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(listed(&place, "oci:layout:v2"), ["empty/", "run.sh"]);
    fs::write(place.path("list"), "missing\n").unwrap();
    place.run("push --files-from list oci:layout:v3 project").code(3).stderr_eq(str![[r#"
error: --files-from: missing is not in project

"#]]);
    fs::write(place.path("list"), "../x\n").unwrap();
    place.run("push --files-from list oci:layout:v3 project").code(2).stderr_eq(str![[r#"
error: --files-from: ../x is not below the directory

"#]]);
}

#[test]
fn parts_are_pulled_copied_and_listed() {
    let place = Place::laid_out();
    place.run("pull -q --include *.md --exclude docs/api/ oci:layout:v1 out").success();
    assert_eq!(place.listing("out"), ["README.md", "docs/", "docs/guide.md"]);
    place.run("cp -q --exclude *.json oci:layout:v1:/config copied").success();
    assert_eq!(place.listing("copied"), ["config/", "config/app.yaml"]);
    place.run("ls --exclude docs/ --exclude *.md oci:layout:v1").success().stdout_eq(str![[r#"
config/
empty/
run.sh
settings
src/

"#]]);
    place.run("ls -R --include *.yaml oci:layout:v1").success().stdout_eq("config/app.yaml\n");
    place.run("ls -R1 -o jsonl --include *.sh oci:layout:v1").success().stdout_eq(str![[r#"
{"name":"run.sh","path":"run.sh","is_dir":false,"type":"file","mode":"-rwxr-xr-x","size":21,"digest":"sha256:bfdeaeb08cffb6a36438bcd12dda25417e3cdd36f1e7e482a2849d539225288b","digest_short":"sha256:bfdeaeb08cff","mod_time":"2023-11-14T22:13:20Z"}

"#]]);
}

#[test]
fn a_push_is_planned() {
    let place = Place::served();
    let push = "push --reproducible --dry-run HOST/team/project:v1 project";
    place.run(push).success().stderr_eq("").stdout_eq(str![[r#"
Would push [HOST]/team/project:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Files: 7 and 1 symbolic link, 1 empty directory
  Size: 124 (124 uncompressed)
  Would upload: 1.2K

"#]]);
    place.run("tags HOST/team/project").code(3);
    place.run("push -q --reproducible HOST/team/project:v1 project").success();
    place.run(push).success().stdout_eq(str![[r#"
Would push [HOST]/team/project:v1 (unchanged)
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Files: 7 and 1 symbolic link, 1 empty directory
  Size: 124 (124 uncompressed)
  Would upload: 0

"#]]);
    let json = stdout(&place.run(&format!("{push} -o json")).success());
    assert!(json.contains("\"dry_run\": true") && json.contains("\"unchanged\": true"), "{json}");
    place.run("push --dry-run oci:layout:v1 project").success();
    assert!(!place.path("layout").exists());
}

#[test]
fn equal_files_are_stored_once_and_that_is_said() {
    let place = Place::offline();
    fs::copy(place.path("project/config/app.yaml"), place.path("project/config/copy.yaml")).unwrap();
    place.run("push --reproducible oci:layout:v1 project").success().stdout_eq(str![[r#"
Pushed oci:layout:v1
  Digest: sha256:85b2d134453c1b0a43bef85960c3493f06f8dfd987a5344ebf52657a73dc74cd
  Files: 8 and 1 symbolic link, 1 empty directory
  Size: 124 (180 uncompressed)
  Stored once: 1 file equal to others (56)
  Uploaded: 1.3K

"#]]);
}

#[test]
fn the_spool_directory_can_be_chosen() {
    let place = Place::offline();
    place.run("push --spool-dir nowhere oci:layout:v1 project").failure();
    let failed = place.run("push --spool-dir nowhere oci:layout:v1 project").failure();
    assert!(stderr(&failed).contains("nowhere"), "{}", stderr(&failed));
    fs::create_dir(place.path("spool")).unwrap();
    place.run("push -q --spool-dir spool oci:layout:v1 project").success();
    assert_eq!(place.listing("spool"), Vec::<String>::new());
}

#[test]
fn a_part_that_is_nothing_is_not_pushed() {
    let place = Place::laid_out();
    fs::write(place.path("none"), "").unwrap();
    fs::write(place.path("rules"), "run.sh\n").unwrap();
    for part in ["--include nothing*", "--include config --exclude config/", "--files-from none"] {
        let failed = place.run(&format!("push {part} oci:layout:v1 project")).code(1).stdout_eq("");
        assert!(
            stderr(&failed).starts_with("error: nothing of project is to be stored\nhint: "),
            "{}",
            stderr(&failed)
        );
    }
    assert_eq!(listed(&place, "oci:layout:v1").len(), 9);
    // A directory that is empty as a whole is what it is.
    fs::create_dir(place.path("hollow")).unwrap();
    place.run("push -q oci:layout:hollow hollow").success();
}

#[test]
fn directories_that_are_included_mean_what_is_in_them() {
    let place = Place::offline();
    for (pattern, expected) in [
        ("config/", &["config/app.yaml", "config/database.json"][..]),
        ("./docs/api", &["docs/api/reference.md"]),
        ("{run,nothing}.*", &["run.sh"]),
        ("[A-Z]*.md", &["README.md"]),
    ] {
        place.run(&format!("push -q --include {pattern} oci:layout:v1 project")).success();
        assert_eq!(listed(&place, "oci:layout:v1"), expected, "{pattern}");
    }
    for wrong in ["--exclude [", "--include !a", "--exclude {a", "--include ../a", "--exclude="] {
        place.run(&format!("push {wrong} oci:layout:v1 project")).code(2).stdout_eq("");
    }
}

#[test]
fn what_is_listed_by_name_is_not_ignored_and_what_is_left_out_is_counted() {
    let place = Place::offline();
    fs::write(place.path("project/.blobignore"), "*.md\nconfig/\n").unwrap();
    fs::write(place.path("list"), "docs/guide.md\nconfig/app.yaml\nrun.sh\n").unwrap();
    place.run("push -q --files-from list oci:layout:v1 project").success();
    assert_eq!(listed(&place, "oci:layout:v1"), ["config/app.yaml", "docs/guide.md", "run.sh"]);
    let pushed = stdout(&place.run("push --exclude run.sh oci:layout:v2 project").success());
    // README.md, config/, docs/api/reference.md, docs/guide.md and run.sh.
    assert!(pushed.contains("\n  Left out: 5 paths by patterns and rules\n"), "{pushed}");
    let pushed = stdout(&place.run("push -o json --exclude run.sh oci:layout:v2 project").success());
    assert!(pushed.contains("\"filtered\": 5"), "{pushed}");
}

#[test]
fn a_layout_in_the_directory_that_is_pushed_is_left_out() {
    let place = Place::offline();
    let first = stdout(&place.run("push -q --reproducible oci:project/layout:v1 project").success());
    assert_eq!(stdout(&place.run("push -q --reproducible oci:project/layout:v1 project").success()), first);
    assert!(listed(&place, "oci:project/layout:v1").iter().all(|path| !path.starts_with("layout")));
    let elsewhere = stdout(&place.run("push -q --reproducible --exclude /layout oci:other:v1 project").success());
    assert_eq!(elsewhere.rsplit_once('@').unwrap().1, first.rsplit_once('@').unwrap().1);
    let failed = place.run("push oci:project:v1 project").code(2).stdout_eq("");
    assert!(stderr(&failed).contains("project is the layout that is pushed to"), "{}", stderr(&failed));
}

#[test]
fn the_file_for_the_digest_is_found_out_about_before_anything_is_sent() {
    let place = Place::offline();
    place.run("push --digest-file nowhere/digest oci:layout:v1 project").code(1).stdout_eq("");
    place.run("tags oci:layout").code(3);
    place.run("push -q --digest-file digest oci:layout:v1 project").success();
    let digest = fs::read_to_string(place.path("digest")).unwrap();
    assert!(digest.starts_with("sha256:") && digest.ends_with('\n'), "{digest}");
    // What is no regular file is written to, not replaced; and what was pushed is told when that fails.
    let failed = place.run("push -q --digest-file /dev/full oci:layout:v1 project").code(8).stdout_eq("");
    assert!(stderr(&failed).starts_with("error: pushed oci:layout@sha256:"), "{}", stderr(&failed));
    let names = place.listing("");
    assert!(names.iter().all(|name| !name.starts_with(".tmp")), "{names:?}");
}
