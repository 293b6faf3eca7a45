//! What is said of what is not there, or is no such thing: which it is, once, and what was probably meant.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Place, stderr, stdout};

/// Runs each line, which exits with the code and says the text.
fn say(place: &Place, cases: &[(&str, i32, &str)]) {
    for (line, code, expected) in cases {
        let failed = place.run(line);
        let said = stderr(&failed);
        assert!(said.contains(expected), "{line}: {said}");
        assert_eq!(failed.get_output().status.code(), Some(*code), "{line}: {said}");
    }
}

#[test]
fn layouts_that_are_none_are_told_from_tags_that_are_not_there() {
    let place = Place::laid_out();
    place.run("copy -q oci:layout:v1 oci-archive:whole.tar").success();
    let whole = fs::read(place.path("whole.tar")).unwrap();
    fs::write(place.path("cut.tar"), &whole[..700]).unwrap();
    fs::create_dir(place.path("wrong")).unwrap();
    fs::write(place.path("wrong/oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap();
    say(
        &place,
        &[
            ("ls oci:nowhere:v1", 3, "error: there is no directory nowhere, so no layout in it\n"),
            ("ls oci:project:v1", 3, "error: the directory project is no image layout: it has no file oci-layout\n"),
            ("ls oci-archive:none.tar:v1", 3, "error: there is no file none.tar, so no layout in it\n"),
            (
                "push oci-archive:no/such/x.tar:v1 project",
                3,
                "error: there is no directory no/such for the file no/such/x",
            ),
            (
                "push --dry-run oci-archive:no/such/x.tar:v1 project",
                3,
                "error: there is no directory no/such for the file no/such/x",
            ),
            (
                "copy --dry-run oci:layout:v1 oci-archive:no/x.tar",
                3,
                "error: there is no directory no for the file no/x.tar\n",
            ),
            ("copy oci:layout:v1 oci-archive:no/x.tar", 3, "error: there is no directory no for the file no/x.tar\n"),
            ("copy oci:nowhere:v1 oci:layout", 3, "error: there is no directory nowhere, so no layout in it\n"),
            ("ls oci:layout:v9", 3, "error: archive not found: oci:layout:v9: MANIFEST_UNKNOWN"),
            // What two layers say is said once.
            ("ls oci-archive:cut.tar:v1", 1, "error: opening the layout in cut.tar: it ends within"),
            ("ls oci:wrong:v1", 1, "error: opening the layout wrong: expected imageLayoutVersion"),
            ("ls oci:", 2, "error: oci: names no directory, as in oci:DIR:TAG\n"),
            ("ls oci-archive:", 2, "error: oci-archive: names no file, as in oci-archive:FILE:TAG\n"),
            (
                "repos oci:layout",
                2,
                "oci:layout is a layout, and only registries have repositories\nhint: `blob tags oci:lay",
            ),
            ("repos oci-archive:whole.tar", 2, "is a layout, and only registries"),
            ("rm --yes oci-archive:whole.tar:v1", 1, "copy it to a directory, change it there, and copy it back\n"),
            (
                "push --max-files 1 oci:new:v1 project",
                1,
                "links and empty directories\nhint: raise the limit with --max-files\n",
            ),
            ("serve --file nowhere.yaml", 2, "reading the configuration nowhere.yaml"),
        ],
    );
    let said = stderr(&place.run("rm --yes --manifest oci-archive:whole.tar:v1").code(1));
    assert!(!said.contains("--manifest"), "{said}");
    assert_eq!(fs::read(place.path("whole.tar")).unwrap(), whole);
}

#[test]
fn what_was_probably_meant_is_named() {
    let place = Place::pushed();
    say(
        &place,
        &[
            ("ls oci-archiv:x.tar:v1", 2, "hint: did you mean `oci-archive:`?"),
            ("ls ocl:layout:v1", 2, "hint: did you mean `oci:`?"),
            ("ls HOST/team/projetc:v1", 3, "/team/project?\n"),
            ("ls HOST/nothing/like/it:v1", 3, "has no repository nothing/like/it"),
            ("config get cache.maxx", 2, "hint: did you mean `cache.max_size`?"),
            ("config get cache.zzz", 2, "hint: there are cache."),
            ("config get chache.enabled", 2, "hint: did you mean `cache.enabled`?"),
            ("inspect --raw --format {{.nope}} HOST/team/project:v1", 2, "hint: --raw writes the manifest as it is"),
        ],
    );
}

#[test]
fn patterns_that_match_nothing_are_a_slip() {
    let place = Place::laid_out();
    fs::write(place.path("none.txt"), "*.zip\n").unwrap();
    say(
        &place,
        &[
            (
                "pull --include *.zip oci:layout:v1 out",
                3,
                "error: nothing of oci:layout:v1 matches --include *.zip\nhint: `blob fi",
            ),
            (
                "pull --dry-run --include *.zip --include *.gz oci:layout:v1 out",
                3,
                "matches --include *.zip or --include *.gz",
            ),
            ("pull --include-from none.txt oci:layout:v1 out", 3, "nothing of oci:layout:v1 matches the patterns"),
            ("export --include *.zip -f out.tar oci:layout:v1", 3, "nothing of oci:layout:v1 matches"),
        ],
    );
    say(
        &place,
        &[
            ("cp oci:layout:v1:/docs out --include *.zip", 3, "nothing of oci:layout:v1 matches --include *.zip"),
            ("cp --dry-run oci:layout:v1:/docs out/ --include *.zip", 3, "nothing of oci:layout:v1 matches"),
        ],
    );
    assert!(!place.path("out").exists() && !place.path("out.tar").exists());
    // What is only left out may be everything, and what is deleted may be elsewhere alone.
    place.run("pull -q --exclude * oci:layout:v1 out").success();
    fs::write(place.path("out/mine.zip"), "").unwrap();
    place.run("pull -q --sync --delete --force-delete --include *.zip oci:layout:v1 out").success();
    assert!(!place.path("out/mine.zip").exists());
}

#[test]
fn directories_that_hold_nothing_that_matches_are_not_listed() {
    let place = Place::laid_out();
    for (line, expected) in [
        ("ls --include *.md oci:layout:v1", "README.md\ndocs/\n"),
        ("ls --include empty oci:layout:v1", ""),
        ("ls --exclude *.md oci:layout:v1", "config/\ndocs/\nempty/\nrun.sh\nsettings\nsrc/\n"),
        ("du -o plain --include guide.md oci:layout:v1", "6\tdocs/\n6\t./\n"),
        ("du -o plain --include *.zip oci:layout:v1", "0\t./\n"),
        (
            "find oci:layout:v1 docs/api config",
            "config/\nconfig/app.yaml\nconfig/database.json\ndocs/api/\ndocs/api/reference.md\n",
        ),
        ("find --type f oci:layout:v1 docs", "docs/api/reference.md\ndocs/guide.md\n"),
    ] {
        place.run(line).success().stdout_eq(expected);
    }
}

#[test]
fn patterns_and_lists_come_over_standard_input() {
    let place = Place::laid_out();
    let mut child = place.command("find --include-from - --type f oci:layout:v1");
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"# mine\n*.md\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        found,
        "README.md\ndocs/api/reference.md\ndocs/guide.md\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut child = place.command("find --exclude-from - oci:layout:v1");
    let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"fine\n[a-\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("standard input, line 2"), "{said}");
}

#[test]
fn programs_are_told_what_links_point_at_and_what_was_moved() {
    let place = Place::pushed();
    let plain = stdout(&place.run("ls -l -o plain HOST/team/project:v1").success());
    let link = plain.lines().find(|line| line.contains("settings")).unwrap();
    assert!(link.ends_with("\tsettings\tconfig/app.yaml"), "{plain}");
    let csv = stdout(&place.run("ls -o csv HOST/team/project:v1").success());
    assert!(csv.starts_with("MODE,SIZE,MODIFIED,NAME,TARGET\r\n"), "{csv}");
    assert!(csv.contains(",settings,config/app.yaml\r\n"), "{csv}");
    let differing = stdout(&place.run("diff -o csv HOST/team/project:v1 project/docs").code(1));
    assert!(differing.starts_with("STATUS,PATH\r\n"), "{differing}");
    let read = place.run("cat --stats -o json HOST/team/project:v1 README.md").success().stdout_eq("# Sample\n");
    let stats: serde_json::Value = serde_json::from_str(&stderr(&read)).unwrap();
    assert!(stats["stats"]["archive_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{stats}");
    assert!(stats["stats"]["cached_bytes"].is_u64() && stats["stats"]["requests"].is_u64(), "{stats}");
}
