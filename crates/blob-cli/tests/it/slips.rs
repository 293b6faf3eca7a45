//! Slips that would destroy something, or go unnoticed.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::process::Command;

use crate::support::{Place, stderr, stdout};

#[test]
fn a_pipe_is_not_replaced_by_a_file() {
    let place = Place::laid_out();
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    for line in ["cp -f oci:layout:v1:/README.md pipe", "cp --dry-run oci:layout:v1:/README.md pipe"] {
        let text = stderr(&place.run(line).code(2).stdout_eq(""));
        assert!(
            text.contains("pipe is neither a file nor a directory") && text.contains("REF:/PATH - > pipe"),
            "{text}"
        );
    }
    assert!(fs::metadata(place.path("pipe")).unwrap().file_type().is_fifo());
    let text = stderr(&place.run("cp oci:layout:v1:/README.md oci:other:v1").code(2).stdout_eq(""));
    assert!(text.contains("`blob copy`"), "{text}");
    let text = stderr(&place.run("cp --flat oci:layout:v1:/docs -").code(2).stdout_eq(""));
    assert!(text.contains("--flat"), "{text}");
}

#[test]
fn garbage_is_collected_in_registries_alone() {
    let place = Place::laid_out();
    let text = stderr(&place.run("gc project").code(3).stdout_eq(""));
    assert!(text.contains("project is neither a layout nor a registry"), "{text}");
    place.run("gc layout").success();
}

#[test]
fn a_plan_names_every_tag_that_goes_with_a_manifest() {
    let place = Place::pushed();
    place.run("tag -q HOST/team/project:v1 latest stable").success();
    place.run("push -q HOST/team/project:other project/docs").success();
    let planned = stdout(&place.run("rm --dry-run -m HOST/team/project:latest").success());
    assert!(planned.contains("\n  Tag: latest\n  Tag: stable\n  Tag: v1\n"), "{planned}");
    assert!(!planned.contains("other"), "{planned}");
    let done = stdout(&place.run("rm -y -o json -m HOST/team/project:latest").success());
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["deleted"][0]["tags"], serde_json::json!(["latest", "stable", "v1"]));
    assert_eq!(stdout(&place.run("tags HOST/team/project").success()), "other\n");
}

/// A layout keeps its list of referrers under a tag, which anybody can write who can push one.
#[test]
fn what_a_list_says_to_refer_and_does_not_is_not_deleted() {
    let place = Place::laid_out();
    place.run("push -q oci:layout:innocent project/docs").success();
    let digest = |tag: &str| {
        let json = stdout(&place.run(&format!("inspect -o json oci:layout:{tag}")).success());
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["digest"].as_str().unwrap().to_owned()
    };
    let (subject, innocent) = (digest("v1"), digest("innocent"));
    let size = fs::metadata(place.path("layout/blobs").join(innocent.replace(':', "/"))).unwrap().len();
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"x/y","digest":"{innocent}","size":{size}}}]}}"#
    );
    let listed = place.sha256(list.as_bytes());
    fs::write(place.path("layout/blobs").join(listed.replace(':', "/")), &list).unwrap();
    let index = fs::read_to_string(place.path("layout/index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&index).unwrap();
    index["manifests"].as_array_mut().unwrap().push(serde_json::json!({
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": listed,
        "size": list.len(),
        "annotations": {"org.opencontainers.image.ref.name": subject.replace(':', "-")},
    }));
    fs::write(place.path("layout/index.json"), index.to_string()).unwrap();
    place.run("rm -y -m --referrers oci:layout:v1").success();
    place.run("ls oci:layout:innocent").success();
}

#[test]
fn options_may_stand_between_operands() {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    place.run("cp oci:layout:v1:/README.md -q one").success();
    place.run("cp oci:layout:v1:/README.md --flat oci:layout:v1:/run.sh -q two/").success();
    assert_eq!(place.listing("two"), ["README.md", "run.sh"]);
    place.run("save oci:layout:v1 -t a x.tar --dry-run").success();
    place.run("save oci:layout:v1 -t a x.tar").success();
    place.run("ls oci-archive:x.tar:a").success();
    for (line, missing) in [("cp -q oci:layout:v1:/README.md", "<DEST>"), ("save oci:layout:v1 -q", "<FILE>")] {
        let said = stderr(&place.run(line).code(2));
        assert!(said.contains(&format!("requires at least 2 arg(s), only received 1: missing {missing}")), "{said}");
    }
}
