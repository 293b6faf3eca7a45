//! Aliases in all commands.

use std::fs;

use snapbox::str;

use crate::support::{Place, stderr, stdout};

#[test]
fn names_are_made_listed_and_forgotten() {
    let place = Place::offline();
    place.run("alias list").success().stdout_eq("No aliases configured.\n");
    place.run("alias list -o json").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "aliases": {}
}

"#]]);
    place
        .run("alias set mytest HOST/alias-test")
        .success()
        .stdout_eq("Created alias \"mytest\" -> [HOST]/alias-test\n");
    place.run("alias add mytest HOST/other").success().stdout_eq("Updated alias \"mytest\" -> [HOST]/other\n");
    place.run("alias add -o json v1.2 oci:./dir").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "action": "created",
  "name": "v1.2",
  "ref": "oci:./dir"
}

"#]]);
    place.run("alias list").success().stdout_eq(str![[r#"
Aliases
--------------------------------------------------
mytest  -> [HOST]/other
v1.2    -> oci:./dir

"#]]);
    place.run("alias list -o jsonl").success().stdout_eq(str![[r#"
{"name":"mytest","ref":"[HOST]/other"}
{"name":"v1.2","ref":"oci:./dir"}

"#]]);
    place.run("alias rm mytest").success().stdout_eq("Removed alias \"mytest\"\n");
    place.run("alias remove -o json v1.2").success();
    assert!(!stdout(&place.run("alias list").success()).contains("mytest"));
    for (line, code, wanted) in [
        ("alias rm nothing", 3, "error: alias \"nothing\" not found\n"),
        ("alias add oci h/r", 2, "stand for image layouts"),
        ("alias add a:b h/r", 2, "letters, digits"),
        ("alias add a https://h/r", 2, "is neither a repository nor what references begin with"),
        ("alias add ghcr.io/x h/r", 2, "looks like a repository"),
    ] {
        let said = stderr(&place.run(line).code(code));
        assert!(said.contains(wanted), "{line}: {said}");
    }
}

#[test]
fn every_command_knows_them() {
    let place = Place::served();
    place.run("alias add it HOST/team/project").success();
    place.run("alias add team HOST/team").success();
    place.run("push -q --reproducible it:v1 project").success();
    place.run("push -q --reproducible it project").success();
    for (line, wanted) in [
        ("tags it", "latest\nv1\n"),
        ("tags team/project", "latest\nv1\n"),
        ("cat it README.md", "# Sample\n"),
        ("cat it:v1 README.md", "# Sample\n"),
        ("cat team/project:v1 README.md", "# Sample\n"),
        ("cat team/project README.md", "# Sample\n"),
    ] {
        assert_eq!(stdout(&place.run(line).success()), wanted, "{line}");
    }
    for line in
        ["ls it", "tree it:v1", "inspect it", "pull it:v1 out", "cp it:v1:/docs copy", "tag it:v1 it:v2", "tag it v3"]
    {
        place.run(line).success();
    }
    assert_eq!(stdout(&place.run("tags it").success()), "latest\nv1\nv2\nv3\n");
    let pinned = stdout(&place.run("push -q --reproducible it:v1 project").success());
    let digest = pinned.trim().split_once('@').unwrap().1.to_owned();
    assert_eq!(stdout(&place.run(&format!("cat it@{digest} README.md")).success()), "# Sample\n");
    let log = stderr(&place.run("-v cat it README.md").success());
    assert!(log.contains("resolved an alias"), "{log}");
}

#[test]
fn what_a_name_means_is_said() {
    let place = Place::pushed();
    place.run("alias add it HOST/team/project:v1").success();
    let pulled = stdout(&place.run("pull it out").success());
    assert!(pulled.starts_with("Pulled it\n  Resolved: ") && pulled.contains("/team/project:v1\n"), "{pulled}");
    let inspected = stdout(&place.run("inspect it").success());
    assert!(inspected.starts_with("Reference:    it\nResolved:     "), "{inspected}");
    let document = stdout(&place.run("inspect it -o json").success());
    assert!(document.contains("\"ref\": \"it\",\n  \"resolved_ref\": \""), "{document}");
    let wrong = stderr(&place.run("cat itt README.md").code(2));
    assert!(wrong.contains("did you mean the alias `it`?"), "{wrong}");
}

#[test]
fn a_project_can_add_names_and_not_change_those_of_its_user() {
    let place = Place::laid_out();
    place.run("alias add mine oci:layout").success();
    fs::write(place.path(".blob.yaml"), "aliases:\n  mine: evil.example/x\n  ours: oci:layout\n").unwrap();
    for name in ["mine", "ours"] {
        assert_eq!(stdout(&place.run(&format!("cat {name}:v1 README.md")).success()), "# Sample\n", "{name}");
    }
    let said = stderr(&place.run("alias rm ours").code(3));
    assert!(said.contains(".blob.yaml, which is edited by hand"), "{said}");
}

#[test]
fn a_project_cannot_take_names_below_those_of_its_user() {
    let place = Place::offline();
    place.run("push -q oci:trusted:v1 project").success();
    place.run("alias add prod oci:trusted").success();
    fs::write(place.path(".blob.yaml"), "aliases:\n  prod/web: evil.example/web\n").unwrap();
    let said = stderr(&place.run("--offline cat prod/web:v1 README.md").code(2).stdout_eq(""));
    assert!(said.contains("leave out the slash"), "{said}");
    // What nobody else has said anything about is the project's, by a name that can be no repository.
    fs::write(place.path(".blob.yaml"), "aliases:\n  web: oci:trusted\n").unwrap();
    place.run("cat web:v1 README.md").success().stdout_eq("# Sample\n");
}
