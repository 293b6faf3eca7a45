//! Layouts in a tar file: copied to, read where they are, and copied back.

use std::fs;

use snapbox::str;

use crate::support::{Place, stderr, stdout};

#[test]
fn a_file_takes_archives_and_gives_them_back() {
    let place = Place::pushed();
    place.run("copy HOST/team/project:v1 oci-archive:project.tar").success().stderr_eq("").stdout_eq(str![[r#"
Copied [HOST]/team/project:v1 to oci-archive:project.tar
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tagged: v1
  Sent: 3.2K (1 manifest, 3 blobs)

"#]]);
    place.run("copy oci-archive:project.tar:v1 HOST/other/name -t latest").success().stdout_eq(str![[r#"
Copied oci-archive:project.tar:v1 to [HOST]/other/name
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tagged: latest
  Sent: 3.2K (1 manifest, 3 blobs)

"#]]);
    place.run("cat HOST/other/name:latest README.md").success().stdout_eq("# Sample\n");
    // A second one does not drive out the first.
    place.run("copy -q HOST/team/project:v1 oci-archive:project.tar:again -t third").success();
    place.run("copy -n HOST/team/project:v1 oci-archive:project.tar:v1").success().stdout_eq(str![[r#"
Left alone [HOST]/team/project:v1: v1 exists at oci-archive:project.tar:v1

"#]]);
    place.run("tags oci-archive:project.tar").success().stdout_eq("again\nthird\nv1\n");
    assert_eq!(place.listing("."), {
        let mut expected = place.listing(".");
        expected.retain(|name| !name.contains(".blob-"));
        expected
    });
}

#[test]
fn commands_read_it_where_it_is() {
    let place = Place::offline();
    place.run("push -q --reproducible oci-archive:p.tar:v1 project").success();
    place.run("ls oci-archive:p.tar:v1 config").success().stdout_eq("app.yaml\ndatabase.json\n");
    place.run("cat oci-archive:p.tar:v1 run.sh").success().stdout_eq("#!/bin/sh\necho hello\n");
    place.run("cp oci-archive:p.tar:v1:/docs/guide.md copied.md").success();
    assert_eq!(fs::read_to_string(place.path("copied.md")).unwrap(), "guide\n");
    place.run("pull -q oci-archive:p.tar:v1 out").success();
    assert_eq!(place.listing("out"), place.listing("project"));
    place.run("diff oci-archive:p.tar:v1 project").success().stdout_eq("");
    place.run("check --read-data oci-archive:p.tar:v1").success();
    place.run("copy -q --dry-run oci-archive:p.tar:v1 oci-archive:new.tar").success();
    assert!(!place.path("new.tar").exists());
    // As a layout within a directory that is pushed, it is left out.
    place.run("push -q --reproducible oci-archive:project/own.tar:v1 project").success();
    let listed = stdout(&place.run("ls oci-archive:project/own.tar:v1"));
    assert!(!listed.contains("own.tar"), "{listed}");
    fs::remove_file(place.path("project/own.tar")).unwrap();
    // A push of what is there changes nothing.
    let before = fs::metadata(place.path("p.tar")).unwrap().modified().unwrap();
    place.run("push -q --reproducible oci-archive:p.tar:v1 project").success();
    assert_eq!(fs::metadata(place.path("p.tar")).unwrap().modified().unwrap(), before);
}

#[test]
fn every_tag_of_a_repository_goes_into_one_file() {
    let place = Place::pushed();
    place.run("tag HOST/team/project:v1 stable latest").success();
    place.run("push -q --reproducible --no-symlinks HOST/team/project:v2 project").success();
    let copied = stdout(&place.run("copy --all-tags -o json HOST/team/project oci-archive:all.tar").success());
    let report: serde_json::Value = serde_json::from_str(&copied).unwrap();
    // Of four tags three are one archive: its data is sent once.
    assert_eq!(report["blobs_copied"], 4, "{copied}");
    place.run("tags oci-archive:all.tar").success().stdout_eq("latest\nstable\nv1\nv2\n");
    place.run("copy -q --all-tags oci-archive:all.tar oci:back").success();
    place.run("check -q --read-data oci:back:v2").success();
}

#[test]
fn what_cannot_be_is_refused() {
    let place = Place::offline();
    place.run("push -q oci-archive:p.tar:v1 project").success();
    for (line, code, expected) in [
        ("ls oci-archive:none.tar:v1", 3, "there is no file none.tar"),
        ("ls oci-archive:p.tar:v2", 3, "archive not found: oci-archive:p.tar:v2"),
        ("ls oci-archive:project/README.md:v1", 1, "it is no tar file"),
        ("push oci-archive:project/README.md:v1 project", 1, "it is no tar file"),
        ("tag oci-archive:p.tar:v1 v2", 1, "is written as a whole"),
        ("tag --dry-run oci-archive:p.tar:v1 v2", 1, "is written as a whole"),
        ("rm --dry-run oci-archive:p.tar:v1", 1, "is written as a whole"),
        ("rm --yes --manifest oci-archive:p.tar:v1", 1, "is written as a whole"),
        ("sign --dry-run --key none oci-archive:p.tar:v1", 1, "is written as a whole"),
        ("copy oci-archive:p.tar:v1 oci-archive:project", 1, "expected a tar file"),
        ("alias add oci-archive localhost:5000/x", 2, "stand for image layouts"),
    ] {
        let failed = place.run(line);
        let text = stderr(&failed);
        assert!(text.contains(expected), "{line}: {text}");
        assert!(text.matches("opening the layout").count() < 2, "{line}: {text}");
        assert_eq!(failed.get_output().status.code(), Some(code), "{line}: {text}");
    }
}

#[test]
fn damaged_content_is_a_wrong_hash_wherever_it_is_copied_to() {
    let place = Place::served();
    fs::write(place.path("project/large"), "the quick brown fox ".repeat(100)).unwrap();
    place.run("push -q -c none oci-archive:p.tar:v1 project").success();
    let mut bytes = fs::read(place.path("p.tar")).unwrap();
    let at = bytes.windows(9).position(|found| found == b"brown fox").unwrap();
    bytes[at] ^= 1;
    fs::write(place.path("p.tar"), bytes).unwrap();
    for to in ["HOST/team/copied", "oci:copied", "oci-archive:copied.tar"] {
        let failed = place.run(&format!("copy -o json oci-archive:p.tar:v1 {to}:v1")).code(7);
        let said: serde_json::Value = serde_json::from_str(&stderr(&failed)).unwrap();
        assert_eq!(said["error"]["kind"], "hash_mismatch", "{to}: {said}");
    }
    place.run("ls HOST/team/copied:v1").code(3);
}

#[test]
fn several_are_saved_and_all_are_loaded() {
    let place = Place::laid_out();
    place.run("push -q --exclude docs oci:other:v2 project").success();
    let planned = stdout(&place.run("save --dry-run oci:layout:v1 oci:other:v2 all.tar").success());
    assert!(planned.contains("Would copy oci:other:v2 to oci-archive:all.tar\n"), "{planned}");
    assert!(!place.path("all.tar").exists());
    let digests = stdout(&place.run("save -q oci:layout:v1 oci:other:v2 all.tar").success());
    assert_eq!(digests.lines().count(), 2, "{digests}");
    place.run("tags oci-archive:all.tar").success().stdout_eq("v1\nv2\n");
    let loaded = stdout(&place.run("load -q oci-archive:all.tar oci:loaded").success());
    assert_eq!(loaded, digests);
    place.run("diff oci:loaded:v1 project").success();
    // What is there already stays, by the tag.
    place.run("push -q oci:loaded:v2 project").success();
    place.run("load -q --no-clobber all.tar oci:loaded").success();
    place.run("diff oci:loaded:v2 project").success();
    place.run("load -q all.tar oci:loaded").success();
    place.run("diff -q oci:loaded:v2 project").code(1);
    for (line, said) in [
        ("save oci:layout:v1 oci:loaded:v1 x.tar", "two archives with the tag v1"),
        ("save -t x oci:layout:v1 oci:other:v2 x.tar", "several are saved"),
        ("save oci:layout:v1 -", "no stream"),
        ("load all.tar oci:loaded:v1", "oci-archive:all.tar has 2 tags, and v1 is one"),
        ("save oci:layout:v1", ""),
    ] {
        let refused = stderr(&place.run(line).code(2));
        assert!(refused.contains(said), "{line}: {refused}");
    }
    assert!(!place.path("x.tar").exists() && !place.path("-").exists());
}

#[test]
fn one_is_saved_and_loaded_under_another_tag_with_its_signatures() {
    let place = Place::pushed();
    for line in ["generate-key-pair k", "sign -q --key k.key HOST/team/project:v1"] {
        place.assert(place.command(line).env("BLOB_KEY_PASSWORD", "secret")).success();
    }
    let digest = stdout(&place.run("inspect --format {{.digest}} HOST/team/project:v1"));
    // What is named by its digest needs a tag in the file; file names may have colons.
    let pinned = format!("HOST/team/project@{}", digest.trim());
    let refused = stderr(&place.run(&format!("save {pinned} one.tar")).code(2));
    assert!(refused.contains("--tag gives it one"), "{refused}");
    place.run(&format!("save -q -t kept {pinned} one:1.tar")).success().stdout_eq(digest.clone());
    place.run("load -q one:1.tar HOST/other/name:latest").success().stdout_eq(digest);
    place.run("verify -q --key k.pub --insecure-ignore-tlog HOST/other/name:latest").success();
    place.run("load -q --no-referrers one:1.tar oci:bare").success();
    place.run("verify -q --key k.pub --insecure-ignore-tlog oci:bare:kept").code(6);
    for (line, code, said) in [
        ("load none.tar oci:x", 3, "there is no file none.tar"),
        ("load project/README.md oci:x", 1, "it is no tar file"),
        ("load project oci:x", 1, ""),
        ("save HOST/team/project:v1 no/dir/x.tar", 3, "there is no directory no/dir"),
        ("save --dry-run HOST/team/project:v1 no/dir/x.tar", 3, "there is no directory no/dir"),
    ] {
        let refused = stderr(&place.run(line).code(code));
        assert!(refused.contains(said), "{line}: {refused}");
    }
}
