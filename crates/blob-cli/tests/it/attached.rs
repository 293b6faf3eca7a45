//! `attach` and `download`: files beside an archive, and back.

use std::fs;

use serde_json::Value;

use crate::errors::flip;
use crate::support::{Place, stderr, stdout};

fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&stdout(&place.run(&format!("{line} -o json")).success().stderr_eq(""))).unwrap()
}

#[test]
fn files_are_attached_and_come_back() {
    let place = Place::pushed();
    place.run("push -q --reproducible oci:layout:v1 project").success();
    fs::create_dir(place.path("reports")).unwrap();
    fs::write(place.path("reports/sbom.spdx.json"), r#"{"spdxVersion":"SPDX-2.3"}"#).unwrap();
    fs::write(place.path("reports/log"), "all is well\n").unwrap();
    fs::write(place.path("empty"), "").unwrap();
    for reference in ["HOST/team/project:v1", "oci:layout:v1"] {
        let digest = json(&place, &format!("inspect {reference}"))["digest"].clone();
        let line = format!("attach --type application/spdx+json -a a=b=c {reference} reports/sbom.spdx.json");
        let planned = json(&place, &format!("{line} --dry-run"));
        assert_eq!(json(&place, &format!("referrers {reference}"))["referrers"], Value::Array(Vec::new()));
        let attached = json(&place, &line);
        assert_eq!((&attached["digest"], &attached["subject"]), (&planned["digest"], &digest), "the time is given");
        assert_eq!(attached["files"][0]["media_type"], "application/spdx+json", "which its name says");
        // The same again is the same.
        assert_eq!(json(&place, &line)["digest"], attached["digest"]);
        let listed = json(&place, &format!("referrers {reference}"));
        assert_eq!(listed["referrers"].as_array().unwrap().len(), 1);
        assert_eq!(listed["referrers"][0]["artifact_type"], "application/spdx+json");
        assert_eq!(json(&place, &format!("inspect {reference}"))["digest"], digest, "the archive stays what it is");

        // By being the only one, by type, by digest, by its beginning, and as itself.
        let (whole, hex) = (attached["digest"].as_str().unwrap(), &attached["digest"].as_str().unwrap()[7..15]);
        let itself = attached["artifact_ref"].as_str().unwrap();
        for line in [
            format!("download {reference} got.json"),
            format!("download --type application/spdx+json {reference} got.json"),
            format!("download --digest {whole} {reference} got.json"),
            format!("download --digest {hex} {reference} got.json"),
            format!("download {itself} got.json"),
        ] {
            place.run(&line).success().stderr_eq("");
            assert_eq!(
                fs::read(place.path("got.json")).unwrap(),
                fs::read(place.path("reports/sbom.spdx.json")).unwrap()
            );
            fs::remove_file(place.path("got.json")).unwrap();
        }
        place.run(&format!("download {reference} -")).success().stdout_eq("{\"spdxVersion\":\"SPDX-2.3\"}");

        // Several files are one artifact; what is attached can have something attached.
        let line = format!("attach -q --type text/x {reference} reports/log:text/plain empty reports/sbom.spdx.json");
        let second = stdout(&place.run(&line).success()).trim().to_owned();
        let both = stderr(&place.run(&format!("download {reference} out")).code(2));
        assert!(both.contains("2 artifacts fit at ") && both.contains("--digest"), "{both}");
        place.run(&format!("download --type text/x {reference} out/")).success();
        assert_eq!(fs::read_to_string(place.path("out/log")).unwrap(), "all is well\n");
        assert_eq!(
            (fs::read(place.path("out/empty")).unwrap().len(), fs::read_dir(place.path("out")).unwrap().count()),
            (0, 3)
        );
        fs::remove_dir_all(place.path("out")).unwrap();
        place.run(&format!("attach -q --type text/note {second} empty")).success();
        let tree = stdout(&place.run(&format!("referrers --tree {reference}")).success());
        let below = tree.lines().find(|line| line.ends_with("  text/note")).unwrap_or_default();
        assert!(below.starts_with("│   └── ") || below.starts_with("    └── "), "{tree}");
    }
    // Copies take it along.
    place.run("copy -q HOST/team/project:v1 oci:copied").success();
    place.run("download --type application/spdx+json oci:copied:v1 copied.json").success();
    assert_eq!(fs::read(place.path("copied.json")).unwrap(), fs::read(place.path("reports/sbom.spdx.json")).unwrap());
}

#[test]
fn what_stands_there_is_not_lost() {
    let place = Place::laid_out();
    place.run("attach -q --type text/x oci:layout:v1 project/README.md project/run.sh").success();
    place.run("download -q oci:layout:v1 out").success();
    fs::write(place.path("out/run.sh"), "mine").unwrap();
    fs::remove_file(place.path("out/README.md")).unwrap();
    let said = stderr(&place.run("download oci:layout:v1 out").code(1));
    assert!(said.contains("1 file exists already") && said.contains("--overwrite"), "{said}");
    assert!(!place.path("out/README.md").exists(), "nothing was written");
    let planned = json(&place, "download --dry-run --overwrite oci:layout:v1 out");
    assert_eq!((&planned["files"][0]["action"], &planned["files"][1]["action"]), (&"create".into(), &"replace".into()));
    assert_eq!(fs::read_to_string(place.path("out/run.sh")).unwrap(), "mine");
    let done = json(&place, "download --overwrite oci:layout:v1 out");
    assert_eq!(done["files"], planned["files"]);
    let again = stdout(&place.run("download oci:layout:v1 out").success());
    assert_eq!(again.matches(", there already").count(), 2, "{again}");
    for (line, code, wanted) in [
        ("download oci:layout:v1 -", 2, "one can be written to standard output"),
        ("download oci:layout:v1 project/README.md", 2, "destination is not a directory"),
        ("download --max-size 10 oci:layout:v1 other", 1, "raise the limit with --max-size"),
        ("download --type text/y oci:layout:v1 other", 3, "`blob referrers oci:layout:v1` lists what there is"),
        ("download --digest 00000000 oci:layout:v1 other", 3, "nothing like that is attached"),
        ("referrers --download x oci:layout:v1", 2, "`blob download --digest DIGEST REF` fetches one"),
        ("attach --type text/x oci-archive:x.tar:v1 project/run.sh", 1, "is written as a whole"),
        ("attach --type text/x oci:layout:v1 project", 2, "`blob push` stores a directory"),
        ("attach oci:layout:v1 project/run.sh", 2, "--type"),
    ] {
        let said = stderr(&place.run(line).code(code));
        assert!(said.contains(wanted), "{line}: {said}");
    }
    assert!(!place.path("other").exists());
    let none = Place::laid_out();
    let said = stderr(&none.run("download oci:layout:v1").code(3));
    assert!(said.contains("hint: `blob pull oci:layout:v1` extracts the archive itself"), "{said}");
}

#[test]
fn damaged_content_is_never_written() {
    let place = Place::laid_out();
    let attached = json(&place, "attach --type text/x oci:layout:v1 project/run.sh");
    let digest = attached["files"][0]["digest"].as_str().unwrap().replace(':', "/");
    flip(&place.path("layout/blobs").join(digest), 3);
    for dest in ["out", "dir/", "-"] {
        place.run(&format!("download oci:layout:v1 {dest}")).code(7).stdout_eq("");
    }
    assert!(!place.path("out").exists());
    let left = fs::read_dir(place.path("dir")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "no temporary file is left");
}

#[test]
fn what_nobody_judges_is_not_fetched_where_only_the_verified_is_wanted() {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    fs::write(place.path("note.txt"), "note").unwrap();
    place.run("attach --type text/x-note oci:layout:v1 note.txt").success();
    for line in ["download --require-signed oci:layout:v1 out", "download --require-signed --dry-run oci:layout:v1 out"]
    {
        let refused = place.run(line).code(6).stdout_eq("");
        assert!(stderr(&refused).contains("hint: --unverified fetches it all the same"), "{}", stderr(&refused));
    }
    let mut command = place.command("download oci:layout:v1 out");
    place.assert(command.env("BLOB_REQUIRE_SIGNED", "true").env("BLOB_DOWNLOAD_UNVERIFIED", "true")).code(6);
    assert!(!place.path("out").exists());
    place.run("download --require-signed --unverified oci:layout:v1 out").success();
    assert_eq!(fs::read(place.path("out")).unwrap(), b"note");
}

#[test]
fn what_cannot_come_back_is_not_attached_and_plans_see_what_is_in_the_way() {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    for dir in ["a", "b"] {
        fs::create_dir(place.path(dir)).unwrap();
        fs::write(place.path(dir).join("note.txt"), dir).unwrap();
    }
    let twice = stderr(&place.run("attach --type text/x-note oci:layout:v1 a/note.txt b/note.txt").code(2));
    assert!(twice.contains("two of the files are called note.txt"), "{twice}");
    let mut odd = place.command("attach --type text/x-note oci:layout:v1 a/note.txt");
    assert!(stderr(&place.assert(odd.env("SOURCE_DATE_EPOCH", "abc")).code(2)).contains("expected seconds since 1970"));
    place.run("attach --type text/x-note oci:layout:v1 a/note.txt").success();
    for dest in ["a/note.txt/below", "a/note.txt/below/"] {
        for plan in ["", " --dry-run"] {
            let refused = stderr(&place.run(&format!("download oci:layout:v1 {dest}{plan}")).code(1));
            assert!(refused.contains("a/note.txt is in the way: it is no directory"), "{refused}");
        }
    }
    assert!(std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    let refused = stderr(&place.run("download -f oci:layout:v1 pipe").code(2));
    assert!(refused.contains("pipe is neither a file nor a directory"), "{refused}");
    place.run("download --digest= oci:layout:v1 out").code(2);
    let long = format!("{}.txt", "n".repeat(230));
    fs::write(place.path(&long), "long").unwrap();
    place.run(&format!("attach --type text/x-long oci:layout:v1 {long}")).success();
    place.run("download --type text/x-long oci:layout:v1 got/").success();
    assert_eq!(place.listing("got").len(), 1);
}
