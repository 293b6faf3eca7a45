//! `pull --sync --delete`, `--overwrite`, plans of extractions, and `check`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use snapbox::str;

use crate::support::{Place, stderr, stdout};

/// A place with `v1` pulled to `out`, and `v2` that differs in every way.
fn moved_on() -> Place {
    let place = Place::laid_out();
    place.run("pull -q oci:layout:v1 out").success();
    fs::write(place.path("project/README.md"), "# Better\n").unwrap();
    fs::remove_dir_all(place.path("project/docs/api")).unwrap();
    fs::write(place.path("project/docs/api"), "a file now").unwrap();
    fs::remove_file(place.path("project/config/database.json")).unwrap();
    fs::set_permissions(place.path("project/src/main.rs"), fs::Permissions::from_mode(0o755)).unwrap();
    place.run("push -q --reproducible oci:layout:v2 project").success();
    place
}

#[test]
fn a_tree_is_updated_and_only_what_differs_is_touched() {
    let place = moved_on();
    let kept = fs::metadata(place.path("out/run.sh")).unwrap().ino();
    fs::write(place.path("out/mine"), "extra").unwrap();
    place.run("pull --sync --delete --dry-run oci:layout:v2 out").success().stdout_eq(str![[r#"
~ README.md
+ docs/api
* src/main.rs
- config/database.json
- docs/api/
- mine
Would create 1, replace 1, delete 3, set the mode of 1, keep 5; 19 to write

"#]]);
    place.run("pull --sync --delete --dry-run -o json --include mine oci:layout:v2 out").success().stdout_eq(str![[
        r#"
{
  "schema_version": 1,
  "ref": "oci:layout:v2",
  "destination": "out",
  "dry_run": true,
  "create_count": 0,
  "replace_count": 0,
  "keep_count": 0,
  "mode_count": 0,
  "skip_count": 0,
  "refuse_count": 0,
  "delete_count": 1,
  "write_size": 0,
  "actions": [
    {
      "action": "delete",
      "path": "mine",
      "target": "out/mine",
      "size": 0
    }
  ]
}

"#
    ]]);
    assert!(place.path("out/mine").exists());
    place.run("pull --sync --delete oci:layout:v2 out").success().stderr_eq("").stdout_eq(str![[r#"
Pulled oci:layout:v2
  Destination: [ROOT]/out
  Files: 2
  Size: 19
  Kept: 5 equal already, and 1 with a new mode
  Deleted: 3

"#]]);
    assert_eq!(place.listing("out"), place.listing("project"));
    assert_eq!(fs::metadata(place.path("out/run.sh")).unwrap().ino(), kept, "an equal file was replaced");
    assert_eq!(fs::metadata(place.path("out/src/main.rs")).unwrap().mode() & 0o111, 0o111);
    place.run("check oci:layout:v2 out").success().stdout_eq(str![[r#"
Checked oci:layout:v2
  Digest: sha256:8a56702d034b34e52cd2faf7906010c91d4b82f6c670fcd8ddc0f3a0878f73a5
  Index: 6 files
  Data: 102 there
  out: the same

"#]]);
    place.run("pull --sync --delete oci:layout:v2 out").success().stdout_eq(str![[r#"
Pulled oci:layout:v2
  Destination: [ROOT]/out
  Files: 0
  Size: 0
  Kept: 8 equal already
  Deleted: 0

"#]]);
}

#[test]
fn a_pull_that_fails_deletes_nothing() {
    let place = moved_on();
    fs::write(place.path("out/mine"), "extra").unwrap();
    let before = place.listing("out");
    // The file that takes a directory's place is there before the damaged one is met, or not: either way all is back.
    let inspected = stdout(&place.run("inspect -o plain oci:layout:v2"));
    let digest = inspected.lines().find_map(|line| line.strip_prefix("data.digest\tsha256:")).unwrap().to_owned();
    let blob = place.path("layout/blobs/sha256").join(digest);
    let whole = fs::read(&blob).unwrap();
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    for content in ["# Better\n", "a file now"] {
        let mut bytes = whole.clone();
        let at = bytes.windows(content.len()).position(|window| window == content.as_bytes()).unwrap();
        bytes[at] ^= 1;
        fs::write(&blob, &bytes).unwrap();
        place.run("pull --sync --delete oci:layout:v2 out").code(7).stdout_eq("");
        assert_eq!(place.listing("out"), before, "{content}");
    }
    fs::write(&blob, &whole).unwrap();
    place.run("pull --sync --delete -q oci:layout:v2 out").success();
    assert_eq!(place.listing("out"), place.listing("project"));
}

#[test]
fn without_delete_everything_else_stays() {
    let place = moved_on();
    fs::remove_dir_all(place.path("out/docs/api")).unwrap();
    fs::write(place.path("out/mine"), "extra").unwrap();
    place.run("pull --sync -q oci:layout:v2 out").success();
    assert!(place.path("out/mine").exists() && place.path("out/config/database.json").exists());
    assert_eq!(fs::read_to_string(place.path("out/docs/api")).unwrap(), "a file now");
}

#[test]
fn what_is_in_the_way_stays_without_delete() {
    let place = moved_on();
    place.run("pull --sync oci:layout:v2 out").code(1).stdout_eq("").stderr_eq(str![[r#"
error: "[ROOT]/out/docs/api" is a directory, where the archive has a file or a link
hint: move away what stands there

"#]]);
    assert!(place.path("out/docs/api/reference.md").exists());
}

#[test]
fn excluded_things_and_places_outside_are_left_alone() {
    let place = moved_on();
    fs::remove_dir_all(place.path("out/docs/api")).unwrap();
    fs::create_dir(place.path("outside")).unwrap();
    fs::write(place.path("outside/precious"), "x").unwrap();
    symlink("../outside", place.path("out/link")).unwrap();
    fs::write(place.path("out/keep.log"), "log").unwrap();
    place.run("pull --sync --delete -q --exclude *.log oci:layout:v2 out").success();
    assert!(place.path("out/keep.log").exists() && !place.path("out/link").exists());
    assert!(place.path("outside/precious").exists(), "a link was followed");
    // What is excluded stays where the archive has no directory, too; and nothing outside the prefix goes.
    fs::create_dir(place.path("out/logs")).unwrap();
    fs::write(place.path("out/logs/a.log"), "log").unwrap();
    fs::write(place.path("out/logs/b.txt"), "text").unwrap();
    place.run("pull --sync --delete -q --exclude *.log oci:layout:v2 out").success();
    assert_eq!(place.listing("out/logs"), ["a.log"]);
    fs::write(place.path("out/config/more"), "x").unwrap();
    place.run("pull --sync --delete -q --prefix config oci:layout:v2 out").success();
    assert!(place.path("out/logs/a.log").exists() && !place.path("out/config/more").exists());
}

#[test]
fn what_is_in_the_way_goes_unless_something_in_it_is_excluded() {
    let place = Place::laid_out();
    for (inside, options, fine) in [
        ("", "--exclude *.log", true),
        ("mine", "--exclude *.log", true),
        ("below/deeper/mine", "--exclude *.log", true),
        ("below/a.log", "--exclude *.log", false),
        ("", "--include *.sh --include *.md", true),
        ("a.sh", "--include *.sh --include *.md", true),
        // What is in a directory that matches is included.
        ("mine", "--include *.sh --include *.md", true),
        ("a.log", "--include *.sh --include *.md --exclude *.log", false),
    ] {
        let _ = fs::remove_dir_all(place.path("out"));
        place.run("pull -q oci:layout:v1 out").success();
        fs::remove_file(place.path("out/run.sh")).unwrap();
        fs::create_dir(place.path("out/run.sh")).unwrap();
        if !inside.is_empty() {
            let file = place.path("out/run.sh").join(inside);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        for plan in ["--dry-run", ""] {
            let ended =
                place.run(&format!("pull -q --sync --delete {options} {plan} oci:layout:v1 out").replace("  ", " "));
            let code = ended.get_output().status.code();
            assert_eq!(code, Some(i32::from(!fine)), "{inside} {options} {plan}: {}", stderr(&ended));
        }
        assert_eq!(place.path("out/run.sh").is_file(), fine, "{inside} {options}");
    }
}

#[test]
fn deleting_in_the_wrong_place_is_refused() {
    let place = Place::laid_out();
    fs::create_dir_all(place.path("home/stuff")).unwrap();
    fs::write(place.path("home/stuff/thesis"), "x").unwrap();
    for dest in ["home", "home/stuff", "/"] {
        let failed = place.run(&format!("pull --sync --delete oci:layout:v1 {dest}")).code(1).stdout_eq("");
        assert!(stderr(&failed).contains("refusing to delete"), "{dest}: {}", stderr(&failed));
    }
    assert_eq!(place.listing("home/stuff"), ["thesis"]);
    place.run("pull -q --sync --delete --force-delete oci:layout:v1 home/stuff").success();
    assert_eq!(place.listing("home/stuff"), place.listing("project"));
    place.run("pull --delete oci:layout:v1 out").code(2);
}

#[test]
fn overwriting_has_three_ways() {
    let place = Place::laid_out();
    place.run("pull -q oci:layout:v1 out").success();
    let inode = |name: &str| fs::metadata(place.path("out").join(name)).unwrap().ino();
    let (readme, script) = (inode("README.md"), inode("run.sh"));
    fs::write(place.path("out/README.md"), "mine").unwrap();
    place.run("pull oci:layout:v1 --overwrite=never out").success().stdout_eq(str![[r#"
Pulled oci:layout:v1
  Destination: [ROOT]/out
  Files: 0
  Size: 0
  Kept: 1 equal already
  Skipped: 8

"#]]);
    assert_eq!(fs::read_to_string(place.path("out/README.md")).unwrap(), "mine");
    place.run("pull --dry-run oci:layout:v1 --overwrite=never out").success().stdout_eq(str![[r#"
Would keep 1, skip 8; 0 to write

"#]]);
    place
        .run("pull --dry-run oci:layout:v1 out")
        .code(1)
        .stdout_eq(str![[r#"
! README.md
Would keep 8, refuse 1; 0 to write

"#]])
        .stderr_eq(str![[r#"
error: 1 file exists already and differs from the archive
hint: pass --overwrite to replace them

"#]]);
    place.run("pull --dry-run --overwrite=if-changed oci:layout:v1 out").success().stdout_eq(str![[r#"
~ README.md
Would replace 1, keep 8; 9 to write

"#]]);
    place.run("pull --overwrite=if-changed oci:layout:v1 out").success().stdout_eq(str![[r#"
Pulled oci:layout:v1
  Destination: [ROOT]/out
  Files: 1
  Size: 9
  Kept: 8 equal already

"#]]);
    assert!(inode("README.md") != readme && inode("run.sh") == script);
    place.run("pull -q --overwrite oci:layout:v1 out").success();
    assert_ne!(inode("run.sh"), script);
    place.run("pull --overwrite=sometimes oci:layout:v1 out").code(2);
}

#[test]
fn a_plan_is_what_is_done_where_things_of_another_kind_stand() {
    type Change = fn(&Place);
    let place = Place::laid_out();
    let again = || {
        let _ = fs::remove_dir_all(place.path("out"));
        place.run("pull -q oci:layout:v1 out").success();
    };
    // A directory in the place of a link and of a file, and a file in the place of a directory.
    let changes: [(&str, Change); 3] = [
        ("settings", |place| {
            fs::remove_file(place.path("out/settings")).unwrap();
            fs::create_dir(place.path("out/settings")).unwrap();
            fs::write(place.path("out/settings/mine"), "").unwrap();
        }),
        ("run.sh", |place| {
            fs::remove_file(place.path("out/run.sh")).unwrap();
            fs::create_dir(place.path("out/run.sh")).unwrap();
        }),
        ("docs", |place| {
            fs::remove_dir_all(place.path("out/docs")).unwrap();
            fs::write(place.path("out/docs"), "").unwrap();
        }),
    ];
    for (changed, change) in changes {
        for options in ["--overwrite", "--overwrite=if-changed", "--overwrite=if-newer", "--sync", "--sync --delete"] {
            again();
            change(&place);
            let planned = place.run(&format!("pull --dry-run {options} oci:layout:v1 out"));
            let done = place.run(&format!("pull {options} oci:layout:v1 out"));
            let codes = [&planned, &done].map(|ran| ran.get_output().status.code());
            let (plan, said) = (stdout(&planned), stderr(&planned));
            assert_eq!(codes[0], codes[1], "{changed} {options}: {plan}{said}{}", stderr(&done));
            assert_eq!(said, stderr(&done), "{changed} {options}");
            let fine = options.contains("--delete");
            assert_eq!(codes[0], Some(i32::from(!fine)), "{changed} {options}: {said}");
            if fine {
                assert!(plan.contains(&format!("- {changed}")) && plan.contains("Would create "), "{changed}: {plan}");
                assert_eq!(place.listing("out"), place.listing("project"), "{changed}");
            }
        }
    }
}

#[test]
fn links_that_lead_out_are_all_named() {
    let place = Place::laid_out();
    for (link, target) in [("abs", "/etc/passwd"), ("up", "../.."), ("run", "run.sh")] {
        symlink(target, place.path("project").join(link)).unwrap();
    }
    place.run("push -q oci:layout:v2 project").success();
    let hint = "hint: --exclude leaves them out; pass --allow-external-symlinks if you trust the archive\n";
    let expected = "error: 2 symbolic links lead out of the destination; nothing was written\n  abs\n  up\n".to_owned();
    for line in ["pull oci:layout:v2 out", "pull --dry-run oci:layout:v2 out"] {
        assert_eq!(stderr(&place.run(line).code(1)), expected.clone() + hint, "{line}");
    }
    assert!(!place.path("out").exists());
    place.run("pull --exclude up oci:layout:v2 out").code(1).stderr_eq(
        "error: the symbolic link \"abs\" leads out of the destination, to \"/etc/passwd\"\n".to_owned() + hint,
    );
    place.run("pull -q --exclude up --exclude abs oci:layout:v2 out").success();
    assert!(place.path("out/run").is_symlink());
    let pulled = stdout(&place.run("pull --no-symlinks oci:layout:v2 without").success());
    assert!(pulled.contains("  Left out: 4 links\n"), "{pulled}");
    assert!(!place.path("without/run").is_symlink() && place.path("without/run.sh").exists());
    let told = stdout(&place.run("pull --clean --no-symlinks -o json oci:layout:v2 without").success());
    assert!(told.contains("\"symlinks_left_out\": 4"), "{told}");
}

#[test]
fn copies_are_planned() {
    let place = Place::laid_out();
    place.run("cp --dry-run oci:layout:v1:/config oci:layout:v1:/run.sh out").success().stdout_eq(str![[r#"
+ config/app.yaml
+ config/database.json
+ run.sh
Would create 3; 99 to write

"#]]);
    place.run("cp --dry-run oci:layout:v1:/run.sh ./here.sh").success().stdout_eq(str![[r#"
+ run.sh
Would create 1; 21 to write

"#]]);
    assert!(!place.path("out").exists() && !place.path("here.sh").exists());
    fs::write(place.path("here.sh"), "other").unwrap();
    place.run("cp --dry-run oci:layout:v1:/run.sh ./here.sh").code(1).stdout_eq(str![[r#"
! run.sh
Would refuse 1; 0 to write

"#]]);
    place.run("cp --dry-run -o plain --force oci:layout:v1:/run.sh ./here.sh").success().stdout_eq(str![[r#"
replace	21	run.sh

"#]]);
}

#[test]
fn links_are_followed_within_the_archive() {
    let place = Place::laid_out();
    let expected = fs::read_to_string(place.path("project/config/app.yaml")).unwrap();
    place.run("cat oci:layout:v1 settings").success().stdout_eq(expected);
    symlink("/etc/hostname", place.path("project/out")).unwrap();
    symlink("gone", place.path("project/dangling")).unwrap();
    place.run("push -q oci:layout:v2 project").success();
    for (link, code) in [("out", 1), ("dangling", 3)] {
        let failed = place.run(&format!("cat oci:layout:v2 {link}")).code(code).stdout_eq("");
        assert!(stderr(&failed).contains("cannot follow the symbolic link"), "{}", stderr(&failed));
    }
}

#[test]
fn whole_archives_are_found_whole() {
    let place = Place::pushed();
    place.run("check HOST/team/project:v1").success().stderr_eq("").stdout_eq(str![[r#"
Checked [HOST]/team/project:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Index: 7 files
  Data: 124 there

"#]]);
    place.run("check --read-data HOST/team/project:v1").success().stdout_eq(str![[r#"
Checked [HOST]/team/project:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Index: 7 files
  Data: 124 there
  Read: 7 files (124)

"#]]);
    place.run("check --read-data=50% -q HOST/team/project:v1").success().stdout_eq("");
    place.run("check -o json HOST/team/project:v1 project").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "[HOST]/team/project:v1",
  "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
  "verified": false,
  "files": 7,
  "data_size": 124,
  "read_files": 0,
  "read_size": 0,
  "whole": true,
  "damaged": [],
  "directory": {
    "path": "project",
    "identical": true,
    "missing": [],
    "extra": [],
    "changed": []
  }
}

"#]]);
    fs::write(place.path("project/README.md"), "other").unwrap();
    fs::remove_file(place.path("project/run.sh")).unwrap();
    fs::write(place.path("project/zzz"), "").unwrap();
    place.run("check HOST/team/project:v1 project").code(1).stderr_eq("").stdout_eq(str![[r#"
Checked [HOST]/team/project:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Index: 7 files
  Data: 124 there
  project: different
    missing: run.sh
    extra: zzz
    changed: README.md

"#]]);
    place.run("check HOST/team/project:none").code(3).stdout_eq("");
    place.run("check --read-data=0% HOST/team/project:v1").code(2).stdout_eq("").stderr_eq(str![[r#"
error: invalid value '0%' for '--read-data[=<N%|all>]': "0%" is no part: expected all, or a percentage as in 5%
hint: usage: blob check <REF> [DIR]

"#]]);
}

#[test]
fn damage_is_found_and_named() {
    let place = Place::offline();
    place.run("push -q --reproducible -c none oci:layout:v1 project").success();
    let inspected = stdout(&place.run("inspect -o plain oci:layout:v1"));
    let digest = inspected.lines().find_map(|line| line.strip_prefix("data.digest\tsha256:")).unwrap().to_owned();
    let blob = place.path("layout/blobs/sha256").join(digest);
    let mut bytes = fs::read(&blob).unwrap();
    let at = bytes.windows(6).position(|window| window == b"guide\n").unwrap();
    bytes[at] ^= 1;
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, &bytes).unwrap();
    place.run("check oci:layout:v1").success();
    place.run("check --read-data oci:layout:v1").code(7).stderr_eq(str![[r#"
error: 1 file of oci:layout:v1 damaged
hint: push the archive again, or copy it from elsewhere

"#]]).stdout_eq(str![[r#"
Checked oci:layout:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Index: 7 files
  Data: 124 there
  Read: 6 files (118)
  Damaged: docs/guide.md: content does not match its hash: expected sha256:90c390ec1de806bf945885cd0af51e90c3cd8cda0d0ff676051a56c20848c90f, got sha256:05002fdc38e528f32303afa8a9e1fa3816dc9db908ad92056151a0b879dc9a59

"#]]);
    fs::write(&blob, &bytes[1..]).unwrap();
    place.run("check oci:layout:v1").failure().stdout_eq("");
}

#[test]
fn a_reproducible_push_is_always_the_same() {
    let place = Place::offline();
    let mut digests = std::collections::HashSet::new();
    for _ in 0..100 {
        digests.insert(stdout(&place.run("push -q --reproducible oci:layout:v1 project").success()));
    }
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_replacement_says_what_goes_and_refuses_what_looks_like_a_mistake() {
    let place = Place::laid_out();
    fs::create_dir_all(place.path("foreign/deep")).unwrap();
    fs::write(place.path("foreign/deep/x"), "1").unwrap();
    let planned = place.run("pull --clean --dry-run oci:layout:v1 foreign").success();
    assert!(stdout(&planned).contains("- deep/\n"), "{}", stdout(&planned));
    assert!(stdout(&planned).contains("delete 1; "), "{}", stdout(&planned));
    let refused = |line: &str, cwd: &str, wanted: &str| {
        let failed = place.assert(place.command(line).current_dir(place.path(cwd))).code(1).stdout_eq("");
        let text = stderr(&failed);
        assert!(text.contains("refusing to delete ") && text.contains(wanted), "{line}: {text}");
        assert!(text.contains("pass --force-delete if that is meant"), "{line}: {text}");
    };
    refused("pull --clean oci:layout:v1 foreign", "", "it has nothing in common with the archive");
    assert!(place.path("foreign/deep/x").exists());
    // Where something is in common, the place itself may look like a mistake.
    for dir in ["home", "home/below"] {
        place.run(&format!("pull -q oci:layout:v1 {dir}")).success();
        fs::write(place.path(dir).join("mine"), "").unwrap();
    }
    refused("pull --clean oci:layout:v1 home", "", "it is your home directory, or one above it");
    refused("pull --clean oci:../layout:v1 ../home", "project", "it is your home directory");
    fs::create_dir_all(place.path("deploy/docs")).unwrap();
    fs::write(place.path("deploy/mine"), "").unwrap();
    refused("pull --clean oci:../../layout:v1 ../../deploy", "deploy/docs", "the current directory is in it");
    place.run("pull -q --clean oci:layout:v1 home/below").success();
    assert!(!place.path("home/below/mine").exists());
    place.run("pull -q --clean --force-delete oci:layout:v1 foreign").success();
    assert!(!place.path("foreign/deep").exists());
    for part in ["--force-delete", "--clean --include *.md", "--clean --prefix docs"] {
        place.run(&format!("pull {part} oci:layout:v1 out")).code(2).stdout_eq("");
    }
}
