//! `diff --patch`: lines that differ, which `patch` takes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use blob_testkit::peers::{find, require};
use snapbox::str;

use crate::support::{Place, stderr, stdout};

/// `v1` and `v2`, which differ in every way that files can.
fn two() -> Place {
    let place = Place::offline();
    let lines: Vec<String> = (1..=20).map(|number| format!("line {number}")).collect();
    let long = lines.join("\n") + "\n";
    fs::write(place.path("project/long.txt"), &long).unwrap();
    fs::write(place.path("project/binary"), [0, 1, 2]).unwrap();
    fs::write(place.path("project/huge"), vec![b'a'; (1 << 20) + 1]).unwrap();
    place.run("push -q --reproducible oci:layout:v1 project").success();
    fs::write(place.path("project/long.txt"), long.replace("line 10\n", "line ten\nand more\n")).unwrap();
    fs::write(place.path("project/binary"), [0, 1, 3]).unwrap();
    fs::write(place.path("project/huge"), vec![b'b'; (1 << 20) + 1]).unwrap();
    fs::write(place.path("project/new.txt"), "without an end").unwrap();
    fs::remove_file(place.path("project/docs/guide.md")).unwrap();
    fs::remove_file(place.path("project/settings")).unwrap();
    place.run("push -q --reproducible oci:layout:v2 project").success();
    place
}

#[test]
fn lines_are_shown_and_what_has_none_is_named() {
    let place = two();
    place.run("diff -U=1 oci:layout:v1 oci:layout:v2").code(1).stdout_eq(str![[r#"
diff --git a/docs/guide.md b/docs/guide.md
deleted file mode 100644
--- a/docs/guide.md
+++ /dev/null
@@ -1 +0,0 @@
-guide
Only in a: settings
Binary files a/binary and b/binary differ
Files a/huge and b/huge differ, too large for lines (1.0M)
diff --git a/long.txt b/long.txt
--- a/long.txt
+++ b/long.txt
@@ -9,3 +9,4 @@
 line 9
-line 10
+line ten
+and more
 line 11
diff --git a/new.txt b/new.txt
new file mode 100644
--- /dev/null
+++ b/new.txt
@@ -0,0 +1 @@
+without an end
\ No newline at end of file

"#]]);
    assert_eq!(stdout(&place.run("diff --patch oci:layout:v2 project").success()), "");
    let refused = stderr(&place.run("diff --patch --stat oci:layout:v1 oci:layout:v2").code(2));
    assert!(refused.contains("--patch"), "{refused}");
}

#[test]
fn a_patch_makes_one_tree_of_the_other() {
    let place = two();
    place.run("pull -q oci:layout:v1 out").success();
    let patch = place.run("diff --patch --include *.txt --include *.md oci:layout:v1 project").code(1);
    let Some(program) = require("patch", find("patch")) else { return };
    let mut command = Command::new(program);
    command.args(["-p1", "--silent"]).current_dir(place.path("out")).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&patch.get_output().stdout).unwrap();
    assert!(child.wait().unwrap().success());
    for path in ["long.txt", "new.txt"] {
        assert_eq!(
            fs::read(place.path("out").join(path)).unwrap(),
            fs::read(place.path("project").join(path)).unwrap()
        );
    }
    assert!(!place.path("out/docs/guide.md").exists());
}

/// Makes `files`, each with its content and whether it can be executed, in `tree`, and pushes them.
fn made(place: &Place, tree: &str, files: &[(&str, &str, bool)]) {
    for (path, content, executable) in files {
        let path = place.path(tree).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(if *executable { 0o755 } else { 0o644 })).unwrap();
    }
    place.run(&format!("push -q oci:layout:{tree} {tree}")).success();
}

#[test]
fn empty_files_odd_names_and_modes_are_patched_too() {
    let place = Place::bare();
    made(
        &place,
        "one",
        &[
            ("b", "b\n", false),
            ("gone", "", false),
            ("a name", "1\n", false),
            ("quo\"te", "1\n", false),
            ("script", "same\n", false),
            ("both", "1\n", true),
            ("blank ", "1\n", false),
        ],
    );
    made(
        &place,
        "two",
        &[
            ("b", "b\n", false),
            ("anew", "", true),
            ("d", "new\n", false),
            ("a name", "2\n", false),
            ("quo\"te", "2\n", false),
            ("tab\tesc\u{1b}[31m\\", "x\n", false),
            ("script", "same\n", true),
            ("both", "2\n", false),
            ("blank ", "2\n", false),
        ],
    );
    let patch = place.run("diff --patch oci:layout:one oci:layout:two").code(1);
    let text = stdout(&patch);
    assert!(text.contains("+++ \"b/tab\\tesc\\033[31m\\\\\"\n"), "{text}");
    for (name, arguments) in [("patch", &["-p1", "--silent"][..]), ("git", &["apply"])] {
        let Some(program) = require(name, find(name)) else { continue };
        place.run("pull -q --clean --force-delete oci:layout:one out").success();
        let mut command = Command::new(program);
        // What is not in a repository is patched as it lies.
        command.env("GIT_CEILING_DIRECTORIES", place.root.path());
        command.args(arguments).current_dir(place.path("out")).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&patch.get_output().stdout).unwrap();
        assert!(child.wait().unwrap().success(), "{name}: {text}");
        place.run("diff oci:layout:two out --name-only").success().stdout_eq("");
    }
}

#[test]
fn what_no_patch_can_say_is_named_and_moves_nothing() {
    let place = Place::bare();
    made(&place, "one", &[("b", "b\n", false), ("link", "a file\n", false), ("z", "1\n", false)]);
    fs::create_dir_all(place.path("two")).unwrap();
    symlink("b", place.path("two/link")).unwrap();
    symlink("b", place.path("two/other")).unwrap();
    made(&place, "two", &[("b", "b\n", false), ("z", "2\n", false)]);
    let patch = place.run("diff --patch oci:layout:one oci:layout:two").code(1);
    let text = stdout(&patch);
    for said in ["Kinds of a/link and b/link differ\n", "Only in b: other\n"] {
        assert!(text.contains(said), "{text}");
    }
    let Some(program) = require("patch", find("patch")) else { return };
    place.run("pull -q oci:layout:one out").success();
    let mut command = Command::new(program);
    command.args(["-p1", "--silent"]).current_dir(place.path("out")).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&patch.get_output().stdout).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    for (path, content) in [("b", "b\n"), ("link", "a file\n"), ("z", "2\n")] {
        assert_eq!(fs::read_to_string(place.path("out").join(path)).unwrap(), content, "{path}");
    }
}

#[test]
fn formats_that_are_none_are_refused() {
    let place = Place::laid_out();
    place.run("export --format zip oci:layout:v1").code(2).stdout_eq("").stderr_eq(str![[r#"
error: --format is a template over JSON, and this command writes content
hint: how an archive is written is said by --archive tar or zip

"#]]);
    let refused = stderr(&place.run("export --format {{.digest}} oci:layout:v1").code(2).stdout_eq(""));
    assert!(refused.contains("writes content"), "{refused}");
    let refused = stderr(&place.run("cat --format {{.digest}} oci:layout:v1 README.md").code(2).stdout_eq(""));
    assert!(refused.contains("writes content"), "{refused}");
}

#[test]
fn a_rate_is_kept_to() {
    let place = Place::served();
    let content = vec![7; 3 << 20];
    fs::write(place.path("project/large"), content).unwrap();
    let begun = std::time::Instant::now();
    place.run("push -q -c none --bwlimit 2M HOST/a/b:v1 project").success();
    // A second and a half at this rate; the last piece, of a mebibyte at most, need not be waited for.
    assert!(begun.elapsed() > std::time::Duration::from_millis(700), "{:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    place.run("--no-cache pull -q --bwlimit 2M HOST/a/b:v1 out").success();
    assert!(begun.elapsed() > std::time::Duration::from_millis(700), "{:?}", begun.elapsed());
    assert_eq!(place.listing("out"), place.listing("project"));
    for wrong in ["0", "fast"] {
        place.run(&format!("--bwlimit {wrong} ls HOST/a/b:v1")).code(2);
    }
}
