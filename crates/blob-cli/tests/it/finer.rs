//! Finer choices: what is overwritten, which part is meant, what of a file is written.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use snapbox::str;

use crate::support::{Place, stderr, stdout};

fn set_time(place: &Place, path: &str, seconds: u64) {
    let file = File::options().write(true).open(place.path(path)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// A tree `out` in which three files differ: one is older than in the archive, one newer, one of the same time.
fn three_times() -> Place {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    place.run("pull -q oci:layout:v1 out").success();
    let written = 1_700_000_000;
    for (path, time) in [("README.md", written - 1), ("run.sh", written + 1), ("docs/guide.md", written)] {
        fs::write(place.path("out").join(path), "mine\n").unwrap();
        set_time(&place, &format!("out/{path}"), time);
    }
    place
}

#[test]
fn only_what_is_older_is_overwritten_if_newer_is_said() {
    let place = three_times();
    place.run("pull --overwrite=if-newer --dry-run oci:layout:v1 out").success().stdout_eq(str![[r#"
~ README.md
Would replace 1, keep 6, skip 2; 9 to write

"#]]);
    let pulled = stdout(&place.run("pull --overwrite=if-newer oci:layout:v1 out").success());
    assert!(pulled.contains("  Files: 1\n") && pulled.contains("  Skipped: 2\n"), "{pulled}");
    let read = |path: &str| fs::read_to_string(place.path("out").join(path)).unwrap();
    assert_eq!(
        (read("README.md"), read("run.sh"), read("docs/guide.md")),
        ("# Sample\n".into(), "mine\n".into(), "mine\n".into())
    );
}

#[test]
fn cp_updates_or_leaves_alone() {
    let place = three_times();
    let read = |path: &str| fs::read_to_string(place.path("out").join(path)).unwrap();
    place.run("cp -n oci:layout:v1:/README.md oci:layout:v1:/run.sh out").success().stdout_eq(str![[r#"
Copied 0 file(s) (0)
  oci:layout:v1:/README.md
  oci:layout:v1:/run.sh
  → [ROOT]/out
  Skipped: 2

"#]]);
    assert_eq!((read("README.md"), read("run.sh")), ("mine\n".into(), "mine\n".into()));
    place.run("cp -q -u oci:layout:v1:/README.md oci:layout:v1:/run.sh out").success();
    assert_eq!((read("README.md"), read("run.sh")), ("# Sample\n".into(), "mine\n".into()));
    place.run("cp -q -u oci:layout:v1:/run.sh out/run.sh").success();
    assert_eq!(read("run.sh"), "mine\n");
    place.run("cp -q --overwrite oci:layout:v1:/run.sh out/run.sh").success();
    assert_eq!(read("run.sh"), "#!/bin/sh\necho hello\n");
}

#[test]
fn a_mode_alone_is_set_and_not_written_anew() {
    let place = Place::laid_out();
    place.run("pull -q oci:layout:v1 out").success();
    let of = |path: &str| fs::metadata(place.path(path)).unwrap();
    for path in ["README.md", "docs/guide.md"] {
        fs::set_permissions(place.path("out").join(path), fs::Permissions::from_mode(0o606)).unwrap();
    }
    // Another name of a file keeps its mode.
    fs::hard_link(place.path("out/docs/guide.md"), place.path("elsewhere")).unwrap();
    let before = (of("out/README.md").ino(), of("out/run.sh").ino());
    place.run("pull --sync --dry-run oci:layout:v1 out").success().stdout_eq(str![[r#"
* README.md
~ docs/guide.md
Would replace 1, set the mode of 1, keep 7; 6 to write

"#]]);
    let pulled = stdout(&place.run("pull --sync oci:layout:v1 out").success());
    assert!(
        pulled.contains("  Files: 1\n") && pulled.contains("  Kept: 7 equal already, and 1 with a new mode\n"),
        "{pulled}"
    );
    assert_eq!((of("out/README.md").ino(), of("out/run.sh").ino()), before);
    let modes = ["out/README.md", "out/docs/guide.md", "elsewhere"].map(|path| of(path).mode() & 0o777);
    assert_eq!(modes, [of("project/README.md").mode() & 0o777, of("project/docs/guide.md").mode() & 0o777, 0o606]);
    place.run("pull --sync --dry-run oci:layout:v1 out").success().stdout_eq(str![[r#"
Would keep 9; 0 to write

"#]]);
}

#[test]
fn patterns_come_from_files_too() {
    let place = Place::laid_out();
    fs::write(place.path("out.txt"), "# what is not wanted\n\n*.md\n/config/\n").unwrap();
    fs::write(place.path("in.txt"), "*.md\r\n").unwrap();
    fs::write(place.path("none.txt"), "# nothing\n").unwrap();
    fs::write(place.path("bad.txt"), "fine\n[a-\n").unwrap();
    place
        .run("ls -R --exclude-from out.txt oci:layout:v1")
        .success()
        .stdout_eq("empty/\nrun.sh\nsettings\nsrc/main.rs\n");
    place.run("find --include-from in.txt --exclude docs oci:layout:v1").success().stdout_eq("README.md\n");
    place.run("find --include-from none.txt oci:layout:v1 --type f").success().stdout_eq("");
    place.run("push -q --exclude-from out.txt oci:layout:v2 project").success();
    place.run("find oci:layout:v2 --type f").success().stdout_eq("run.sh\nsrc/main.rs\n");
    let refused = stderr(&place.run("ls --exclude-from bad.txt oci:layout:v1").code(2));
    assert!(refused.contains("bad.txt, line 2"), "{refused}");
    let refused = stderr(&place.run("ls --exclude-from nowhere.txt oci:layout:v1").code(2));
    assert!(refused.contains("reading nowhere.txt"), "{refused}");
}

#[test]
fn links_are_kept_skipped_or_refused() {
    let place = Place::offline();
    place.run("push -q --symlinks keep oci:layout:keep project").success();
    place.run("push -q --symlinks skip oci:layout:skip project").success();
    place.run("find oci:layout:keep --type l").success().stdout_eq("settings\n");
    place.run("find oci:layout:skip --type l").success().stdout_eq("");
    place.run("push --symlinks error oci:layout:error project").code(1).stdout_eq("").stderr_eq(str![[r#"
error: settings is a symbolic link, and --symlinks error allows none

"#]]);
    place.run("ls oci:layout:error").code(3);
    place.run("push -q --symlinks error --exclude settings oci:layout:error project").success();
}

#[test]
fn links_are_followed_within_the_directory_or_anywhere() {
    let place = Place::offline();
    let tree = place.path("tree");
    for dir in ["tree/store/v1", "tree/bin", "far/deep"] {
        fs::create_dir_all(place.path(dir)).unwrap();
    }
    for (path, content) in [("store/v1/tool", "tool"), ("store/v1/x.log", "log"), ("../far/deep/f", "far")] {
        fs::write(tree.join(path), content).unwrap();
    }
    fs::write(tree.join("bin/.blobignore"), "*.log\n").unwrap();
    for (path, target) in
        [("bin/tool", "../store/v1/tool"), ("current", "store/v1"), ("store/v1/.blobignore", "../../bin/.blobignore")]
    {
        symlink(target, tree.join(path)).unwrap();
    }
    // The plan says what is then done.
    let push = "push --symlinks follow --reproducible oci:layout:v1 tree";
    let planned = stdout(&place.run(&format!("{push} --dry-run")).success());
    let pushed = stdout(&place.run(push).success());
    assert_eq!(planned.replace("Would push", "Pushed").replace("Would upload", "Uploaded"), pushed);
    assert!(pushed.contains("\n  Files: 3\n  Followed: 2 symbolic links\n"), "{pushed}");
    // Rules hold wherever links lead to, and may be links themselves.
    place.run("find --type f oci:layout:v1").success().stdout_eq("bin/tool\ncurrent/tool\nstore/v1/tool\n");
    let json = stdout(&place.run(&format!("{push} -o json")).success());
    assert!(json.contains("\"followed_symlink_count\": 2,\n"), "{json}");

    symlink("../far/deep", tree.join("out")).unwrap();
    place.run("push --symlinks follow oci:layout:v2 tree").code(1).stdout_eq("").stderr_eq(str![[r#"
error: creating an archive of tree: the symbolic link "out" to "../far/deep" cannot be followed: it leads out of the directory
hint: --symlinks follow-outside takes what is elsewhere, too; --exclude leaves the link out

"#]]);
    place.run("push -q --symlinks follow --exclude out oci:layout:v2 tree").success();
    fs::write(place.path("list"), "out/f\n").unwrap();
    place.run("push -q --symlinks follow-outside --files-from list oci:layout:v3 tree").success();
    place.run("find --type f oci:layout:v3").success().stdout_eq("out/f\n");
    symlink("gone", tree.join("dangling")).unwrap();
    place.run("push --symlinks follow-outside oci:layout:v4 tree").code(1).stdout_eq("").stderr_eq(str![[r#"
error: creating an archive of tree: the symbolic link "dangling" to "gone" cannot be followed: it leads nowhere
hint: --exclude leaves it out; --symlinks keep stores links as links

"#]]);
    place.run("ls oci:layout:v4").code(3);
    // The layout that is pushed to is no part of what is pushed, whatever leads to it.
    fs::remove_file(tree.join("dangling")).unwrap();
    symlink("../layout", tree.join("own")).unwrap();
    place.run("push -q --symlinks follow-outside oci:layout:v5 tree").success();
    place.run("ls oci:layout:v5").success().stdout_eq("bin/\ncurrent/\nout/\nstore/\n");
}

#[test]
fn rules_that_are_links_are_read_or_refused() {
    let place = Place::offline();
    fs::write(place.path("rules"), "secret\n").unwrap();
    fs::write(place.path("project/secret"), "secret").unwrap();
    let link = place.path("project/.blobignore");
    symlink("../rules", &link).unwrap();
    for (how, said) in [
        ("-q", "project/.blobignore is a symbolic link, and its rules are not heeded"),
        ("--symlinks skip", "project/.blobignore is a symbolic link, and its rules are not heeded"),
        ("--symlinks follow", "project/.blobignore is a symbolic link, and leads out of the directory"),
    ] {
        let refused = stderr(&place.run(&format!("push {how} oci:layout:v1 project")).code(2));
        assert!(refused.contains(said) && refused.contains("--no-ignore does without"), "{how}: {refused}");
    }
    place.run("push -q --symlinks follow-outside oci:layout:v1 project").success();
    place.run("ls oci:layout:v1 secret").code(3);
    place.run("push -q --no-ignore --exclude .blobignore oci:layout:v2 project").success();
    place.run("ls oci:layout:v2 secret").success();
    fs::remove_file(place.path("rules")).unwrap();
    let refused = stderr(&place.run("push --symlinks follow-outside oci:layout:v3 project").code(3));
    assert!(refused.contains("reading the rules in project/.blobignore"), "{refused}");
}

#[test]
fn links_in_tar_streams_are_not_followed() {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    place.run("export -f x.tar oci:layout:v1").success();
    for how in ["follow", "follow-outside"] {
        let refused = stderr(&place.run(&format!("push --symlinks {how} --from-tar oci:layout:v2 x.tar")).code(2));
        assert_eq!(
            refused,
            "error: links in a tar stream cannot be followed\nhint: `tar -h` stores what links lead to\n"
        );
    }
}

#[test]
fn parts_of_files_are_written_and_whole_files_verified() {
    let place = Place::offline();
    let large: Vec<u8> = (0..9_u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(place.path("project/large"), &large).unwrap();
    place.run("push -q -c none oci:layout:v1 project").success();
    for (options, expected) in [
        ("--head 5", &large[..5]),
        ("--tail 1K", &large[large.len() - 1024..]),
        ("--offset 8M --count 3", &large[8 << 20..(8 << 20) + 3]),
        ("--offset 1G", &[]),
    ] {
        let output = place.run(&format!("cat {options} oci:layout:v1 large")).success();
        assert_eq!(output.get_output().stdout, expected, "{options}");
    }
    place.run("cat --head 1 oci:layout:v1 README.md run.sh").success().stdout_eq("##");
    // A byte that is not even wanted is wrong.
    let data = stdout(&place.run("inspect --format {{.data.digest}} oci:layout:v1"));
    let blob = place.path("layout/blobs/sha256").join(data.trim().strip_prefix("sha256:").unwrap());
    let mut bytes = fs::read(&blob).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, bytes).unwrap();
    place.run("cat --head 5 oci:layout:v1 large").code(7);
}

#[test]
fn manifests_and_repositories_are_listed() {
    let place = Place::pushed();
    let raw = place.run("inspect --raw HOST/team/project:v1").success();
    let digest = stdout(&place.run("inspect --format {{.digest}} HOST/team/project:v1"));
    assert_eq!(place.sha256(&raw.get_output().stdout), digest.trim());
    for name in ["team/other", "alone"] {
        place.run(&format!("push -q HOST/{name}:v1 project")).success();
    }
    place.run("repos HOST").success().stdout_eq("alone\nteam/other\nteam/project\n");
    place.run("repos --filter team/* -o jsonl HOST").success().stdout_eq(str![[r#"
{"repository":"team/other","ref":"[HOST]/team/other"}
{"repository":"team/project","ref":"[HOST]/team/project"}

"#]]);
    let hinted = stderr(&place.run("tags HOST").failure());
    assert!(hinted.contains("`blob repos "), "{hinted}");
    place.run("ls -o csv oci:none").failure();
    assert_eq!(stdout(&place.run("config list -o plain")), stdout(&place.run("config show -o plain")));
}
