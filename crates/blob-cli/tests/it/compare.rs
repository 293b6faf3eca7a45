//! `diff`, `find`, `du`, `stat`: what is told from indexes alone.

use std::fs;

use snapbox::str;

use crate::support::{Place, stderr, stdout};

/// A place whose archive `v1` differs from the directory `project` in every way.
fn changed() -> Place {
    let place = Place::laid_out();
    fs::write(place.path("project/README.md"), "# Sample, better\n").unwrap();
    fs::remove_file(place.path("project/config/database.json")).unwrap();
    fs::write(place.path("project/new\u{1b}[31m.txt"), "new").unwrap();
    fs::remove_file(place.path("project/settings")).unwrap();
    fs::write(place.path("project/settings"), "a file now").unwrap();
    fs::write(place.path("project/empty/full"), "").unwrap();
    place.run("push -q --reproducible oci:layout:v2 project").success();
    place
}

#[test]
fn equal_archives_have_no_differences() {
    let place = Place::laid_out();
    place.run("push -q --reproducible oci:other:v1 project").success();
    place.run("diff oci:layout:v1 oci:other:v1").success().stdout_eq("").stderr_eq("");
    place.run("diff oci:layout:v1 project").success().stdout_eq("").stderr_eq("");
    place.run("diff --stat oci:layout:v1 ./project").success().stdout_eq("no differences\n");
    place.run("diff -o json oci:layout:v1 oci:other:v1").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "from": "oci:layout:v1",
  "to": "oci:other:v1",
  "identical": true,
  "added": 0,
  "added_size": 0,
  "removed": 0,
  "removed_size": 0,
  "changed": 0,
  "changed_size_before": 0,
  "changed_size_after": 0,
  "differences": []
}

"#]]);
}

#[test]
fn differences_have_letters_and_an_exit_code() {
    let place = changed();
    place.run("diff oci:layout:v1 oci:layout:v2").code(1).stderr_eq("").stdout_eq(str![[r#"
M README.md
D config/database.json
A empty/full
A new\u{1b}[31m.txt
T settings

"#]]);
    place.run("diff oci:layout:v1 project").code(1).stderr_eq("").stdout_eq(str![[r#"
M README.md
D config/database.json
A empty/full
A new\u{1b}[31m.txt
T settings

"#]]);
    place.run("diff --stat oci:layout:v1 oci:layout:v2").code(1).stdout_eq(str![[r#"
2 added (3), 1 removed (22), 2 changed (24 before, 27 after)

"#]]);
    place.run("diff --name-only oci:layout:v2 oci:layout:v1").code(1).stdout_eq(str![[r#"
README.md
config/database.json
empty/full
new\u{1b}[31m.txt
settings

"#]]);
    let raw = place.run("diff --name-only -z -p config oci:layout:v1 oci:layout:v2").code(1);
    assert_eq!(stdout(&raw), "config/database.json\0");
    place.run("diff --exclude *.md --include new* --include *.md oci:layout:v1 oci:layout:v2").code(1).stdout_eq(str![
        [r#"
A new\u{1b}[31m.txt

"#]
    ]);
    place.run("diff -o jsonl -p README.md oci:layout:v1 oci:layout:v2").code(1).stdout_eq(str![[r#"
{"change":"changed","path":"README.md","changes":["content"],"before":{"path":"README.md","type":"file","mode":"-rw-r--r--","size":9,"mod_time":"2023-11-14T22:13:20Z","digest":"sha256:504c93c0602db99e83b1f46edb699375a33b3018c0a4f8b7c707a3a470539b31"},"after":{"path":"README.md","type":"file","mode":"-rw-r--r--","size":17,"mod_time":"2023-11-14T22:13:20Z","digest":"sha256:8e971934d153b46524f3506be1cc39f5e1b591274dbd4475523ff914955e8979"}}

"#]]);
    place.run("diff -o json -p config oci:layout:v1 oci:layout:v2").code(1).stdout_eq(str![[r#"
{
  "schema_version": 1,
  "from": "oci:layout:v1",
  "to": "oci:layout:v2",
  "identical": false,
  "added": 0,
  "added_size": 0,
  "removed": 1,
  "removed_size": 22,
  "changed": 0,
  "changed_size_before": 0,
  "changed_size_after": 0,
  "differences": [
    {
      "change": "removed",
      "path": "config/database.json",
      "before": {
        "path": "config/database.json",
        "type": "file",
        "mode": "-rw-------",
        "size": 22,
        "mod_time": "2023-11-14T22:13:20Z",
        "digest": "sha256:d3c98978362b9ca40241aca258eb45b6045c2e0a8b312e200391b81d391e9240"
      }
    }
  ]
}

"#]]);
}

#[test]
fn modes_and_times_are_compared_on_demand() {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    let touched = fs::File::options().write(true).open(place.path("project/run.sh")).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    place.run("diff oci:layout:v1 project").success().stdout_eq("");
    let told = stdout(&place.run("diff -m oci:layout:v1 project").code(1));
    assert_eq!(told, "m run.sh\n");
}

#[test]
fn what_fails_is_no_difference() {
    let place = Place::laid_out();
    for (line, code, wanted) in [
        ("diff oci:layout:v1 oci:layout:none", 3, "archive not found"),
        ("diff oci:layout:v1 ./nowhere", 3, "there is no directory"),
        ("diff -p nothing oci:layout:v1 project", 3, "path not found: nothing"),
        ("diff oci:layout:v1", 2, "accepts 2 arg(s), received 1"),
        ("diff -z oci:layout:v1 project", 2, "--name-only"),
        ("diff oci:layout:v1 project/README.md/x", 2, "invalid repository name"),
    ] {
        let failed = place.run(line).code(code).stdout_eq("");
        assert!(stderr(&failed).contains(wanted), "{line}: {}", stderr(&failed));
    }
    fs::write(place.path("layout/index.json"), "not JSON").unwrap();
    place.run("diff oci:layout:v1 project").code(2).stdout_eq("");
}

#[test]
fn found_by_name_size_time_and_kind() {
    let place = Place::laid_out();
    for (conditions, expected) in [
        ("--name *.md", "README.md\ndocs/api/reference.md\ndocs/guide.md\n"),
        ("docs --name *.md --size -6", "docs/guide.md\n"),
        ("--iname readme*", "README.md\n"),
        ("--type d", "config/\ndocs/\ndocs/api/\nempty/\nsrc/\n"),
        ("--type l", "settings\n"),
        ("--executable", "run.sh\n"),
        ("--size +50", "config/app.yaml\n"),
        ("--size 0", "src/main.rs\n"),
        ("--newer 2023-11-14 --name *.sh", "run.sh\n"),
        ("--older 2023-11-14 --type f", ""),
        ("--include docs/** --exclude api/", "docs/guide.md\n"),
        ("--digest sha256:e3b0c44298fc", "src/main.rs\n"),
        ("config docs/guide.md --type f", "config/app.yaml\nconfig/database.json\ndocs/guide.md\n"),
    ] {
        place.run(&format!("find oci:layout:v1 {conditions}")).success().stderr_eq("").stdout_eq(expected.to_owned());
    }
    assert_eq!(stdout(&place.run("find -0 oci:layout:v1 --type l")), "settings\0");
    place.run("find -l oci:layout:v1 config").success().stdout_eq(str![[r#"
drwxr-xr-x   0                    config/
-rw-r--r--  56  2023-11-14 22:13  config/app.yaml
-rw-------  22  2023-11-14 22:13  config/database.json

"#]]);
    place.run("find -o json oci:layout:v1 --type l").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "oci:layout:v1",
  "count": 1,
  "entries": [
    {
      "path": "settings",
      "type": "symlink",
      "mode": "lrwxrwxrwx",
      "size": 15,
      "mod_time": "2023-11-14T22:13:20Z",
      "target": "config/app.yaml"
    }
  ]
}

"#]]);
    place.run("find -o jsonl oci:layout:v1 --name *.sh").success().stdout_eq(str![[r#"
{"path":"run.sh","type":"file","mode":"-rwxr-xr-x","size":21,"mod_time":"2023-11-14T22:13:20Z","digest":"sha256:bfdeaeb08cffb6a36438bcd12dda25417e3cdd36f1e7e482a2849d539225288b"}

"#]]);
    place.run("find oci:layout:v1 dogs").code(3).stderr_eq(str![[r#"
error: path not found in archive: dogs
hint: did you mean docs?

"#]]);
    place.run("find oci:layout:v1 --size big").code(2).stderr_eq(str![[r#"
error: invalid value 'big' for '--size <SIZE>': "big" is not a size: expected a number of bytes, with K, M, G or T
hint: usage: blob find <REF> [PATH]...

"#]]);
    place.run("find oci:layout:v1 --newer yesterday").code(2).stdout_eq("");
}

#[test]
fn sizes_add_up() {
    let place = Place::laid_out();
    fs::write(place.path("project/copy"), fs::read(place.path("project/config/app.yaml")).unwrap()).unwrap();
    place.run("push -q --reproducible oci:layout:v2 project").success();
    place.run("du oci:layout:v1").success().stderr_eq("").stdout_eq(str![[r#"
 78  config/
 10  docs/api/
 16  docs/
  0  empty/
  0  src/
124  ./

"#]]);
    place.run("du -h -d 1 oci:layout:v1").success().stdout_eq(str![[r#"
 78  config/
 16  docs/
  0  empty/
  0  src/
124  ./

"#]]);
    place.run("du -s --stored oci:layout:v2 . config README.md").success().stdout_eq(str![[r#"
124  ./
 78  config/
  9  README.md

"#]]);
    place.run("du -a --exclude docs oci:layout:v1").success().stdout_eq(str![[r#"
  9  README.md
 56  config/app.yaml
 22  config/database.json
 78  config/
  0  empty/
 21  run.sh
  0  settings
  0  src/main.rs
  0  src/
108  ./

"#]]);
    place.run("du -s -o json oci:layout:v1").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "oci:layout:v1",
  "entries": [
    {
      "path": "",
      "is_dir": true,
      "size": 124,
      "stored_size": 124,
      "file_count": 7
    }
  ]
}

"#]]);
    place.run("du oci:layout:v1 nothing").code(3).stdout_eq("");
}

#[test]
fn everything_about_a_file() {
    let place = Place::laid_out();
    place.run("stat oci:layout:v1 run.sh settings empty docs").success().stderr_eq("").stdout_eq(str![[r#"
Path:         /run.sh
Type:         file
Mode:         -rwxr-xr-x
Size:         21
Stored:       21 at 103, none
Owner:        0:0
Modified:     2023-11-14T22:13:20Z
Digest:       sha256:bfdeaeb08cffb6a36438bcd12dda25417e3cdd36f1e7e482a2849d539225288b

Path:         /settings
Type:         symlink
Mode:         lrwxrwxrwx
Size:         15
Modified:     2023-11-14T22:13:20Z
Target:       config/app.yaml

Path:         /empty
Type:         directory
Mode:         drwxr-xr-x
Size:         0
Modified:     2023-11-14T22:13:20Z

Path:         /docs
Type:         directory
Mode:         drwxr-xr-x
Size:         16
Files:        2

"#]]);
    place.run("stat -o json oci:layout:v1 run.sh").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "oci:layout:v1",
  "entries": [
    {
      "path": "run.sh",
      "type": "file",
      "mode": "-rwxr-xr-x",
      "size": 21,
      "mod_time": "2023-11-14T22:13:20Z",
      "digest": "sha256:bfdeaeb08cffb6a36438bcd12dda25417e3cdd36f1e7e482a2849d539225288b",
      "compression": "none",
      "stored_size": 21,
      "data_offset": 103,
      "uid": 0,
      "gid": 0
    }
  ]
}

"#]]);
    place.run("stat -o table oci:layout:v1 run.sh docs").success().stdout_eq(str![[r#"
MODE        SIZE  STORED  MODIFIED              DIGEST                                                                   PATH
-rwxr-xr-x    21      21  2023-11-14T22:13:20Z  sha256:bfdeaeb08cffb6a36438bcd12dda25417e3cdd36f1e7e482a2849d539225288b  run.sh
drwxr-xr-x    16                                                                                                         docs/

"#]]);
    place.run("stat oci:layout:v1 runs.sh").code(3).stdout_eq("").stderr_eq(str![[r#"
error: path not found in archive: runs.sh
hint: did you mean run.sh?

"#]]);
}
