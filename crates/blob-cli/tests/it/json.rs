//! Every command as programs see it.

use serde_json::Value;
use snapbox::str;

use crate::support::{Place, stderr, stdout};

#[test]
fn documents() {
    let place = Place::served();
    let push = "push --reproducible -t latest -o json HOST/team/project:v1 project";
    place.run(push).success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("inspect -o json --referrers HOST/team/project:v1").success().stdout_eq(str![]);
    place.run("ls -o json HOST/team/project:v1 docs").success().stdout_eq(str![]);
    place.run("ls -lh -o json HOST/team/project:v1 settings").success().stdout_eq(str![]);
    place.run("tree --output json -L 1 HOST/team/project:v1 docs").success().stdout_eq(str![]);
    place.run("tree -o json HOST/team/project:v1 empty").success().stdout_eq(str![]);
    place.run("tag -o json HOST/team/project:v1 a b").success().stdout_eq(str![]);
    place.run("tags -o json HOST/team/project").success().stdout_eq(str![]);
    place.run("pull -o json HOST/team/project:v1 out").success().stdout_eq(str![]);
    place.run("cp -o json HOST/team/project:v1:/docs copy").success().stdout_eq(str![]);
}

#[test]
fn quiet_takes_no_data_away() {
    let place = Place::pushed();
    for line in [
        "inspect HOST/team/project:v1",
        "ls HOST/team/project:v1",
        "tree HOST/team/project:v1",
        "tags HOST/team/project",
        "cat HOST/team/project:v1 README.md",
        "version",
    ] {
        for format in ["text", "json"] {
            let loud = stdout(&place.run(&format!("-o {format} {line}")).success());
            assert!(!loud.is_empty(), "{line}");
            assert_eq!(stdout(&place.run(&format!("-q -o {format} {line}")).success()), loud, "{line}");
        }
    }
    assert!(stdout(&place.run("-q -o json push HOST/team/project:v1 project")).contains("\"digest\""));
}

#[test]
fn every_document_has_its_version() {
    let place = Place::pushed();
    for line in ["inspect HOST/team/project:v1", "ls HOST/team/project:v1", "tree HOST/team/project:v1", "version"] {
        let text = stdout(&place.run(&format!("{line} -o json")).success());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["schema_version"], 1, "{line}");
        assert!(text.ends_with("}\n") && text.starts_with("{\n  \""), "{line}");
    }
}

#[test]
fn errors_are_documents_too() {
    let place = Place::pushed();
    place.run("-o json cat HOST/team/project:v1 config/app.yml").code(3).stdout_eq(str![]).stderr_eq(str![]);
    place.run("-o json ls HOST/team/project:none").code(3).stdout_eq(str![]).stderr_eq(str![]);
    std::fs::create_dir(place.path("out")).unwrap();
    std::fs::write(place.path("out/run.sh"), "other").unwrap();
    place.run("-o json pull HOST/team/project:v1 out").code(1).stderr_eq(str![]);
    for line in ["-o json push", "push --output=json x", "-o json frob", "-o json ls not-a-reference"] {
        let failed = place.run(line).code(2);
        let value: Value = serde_json::from_str(&stderr(&failed)).unwrap();
        assert_eq!((&value["error"]["code"], &value["error"]["kind"]), (&2.into(), &"usage".into()), "{line}");
    }
}
