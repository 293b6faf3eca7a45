//! `--dry-run`: what would be done is said, also to programs, and nothing is done.

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::support::{Place, stdout};

fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&stdout(&place.run(&format!("{line} -o json")).success().stderr_eq(""))).unwrap()
}

#[test]
fn tags_are_planned() {
    let place = Place::pushed();
    fs::write(place.path("project/README.md"), "# Other\n").unwrap();
    place.run("push -q --reproducible HOST/team/project:v2 project").success();
    place.run("tag --dry-run HOST/team/project:v1 latest v2 v1").success().stdout_eq(str![[r#"
Would create [HOST]/team/project:latest
Would move [HOST]/team/project:v2 from sha256:[..]
Would keep [HOST]/team/project:v1
Source: [HOST]/team/project:v1
Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9

"#]]);
    let plan = json(&place, "tag --dry-run HOST/team/project:v1 latest v2");
    assert_eq!((&plan["status"], &plan["plan"][0]["action"]), (&"dry_run".into(), &"create".into()));
    assert_eq!(plan["plan"][1]["action"], "move");
    assert!(plan["plan"][1]["previous_digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(stdout(&place.run("tags HOST/team/project")), "v1\nv2\n");
    place.run("tag --dry-run HOST/team/project:none latest").code(3);
}

#[test]
fn the_cache_is_not_touched() {
    let place = Place::pushed();
    place.run("pull -q HOST/team/project:v1 out").success();
    let before = json(&place, "cache status");
    let planned = json(&place, "cache clear --dry-run");
    assert_eq!((&planned["dry_run"], &planned["total_files_cleared"]), (&true.into(), &before["total_files"]));
    let text = stdout(&place.run("cache clear refs --dry-run").success());
    assert!(text.starts_with("Would clear ") && text.ends_with("\n  - refs\n"), "{text}");
    let planned = json(&place, "cache prune --max 0 --dry-run");
    assert_eq!((&planned["dry_run"], &planned["freed"]), (&true.into(), &before["total_size"]));
    let text = stdout(&place.run("cache prune --max 1G --dry-run").success());
    assert!(text.starts_with("Would free at least 0\n"), "{text}");
    assert_eq!(json(&place, "cache status"), before);
    place.run("cache prune -q --max 0").success();
    assert_eq!(json(&place, "cache status")["total_size"], 0);
}

#[test]
fn the_configuration_is_not_touched() {
    let place = Place::offline();
    place.run("alias add --dry-run a ghcr.io/org/a").success().stdout_eq("Would create alias \"a\" -> ghcr.io/org/a\n");
    place.run("config set --dry-run output json").success();
    assert!(!place.path("home/.config").exists());
    place.run("alias add a ghcr.io/org/a").success();
    let file = place.path("home/.config/blob/config.yaml");
    let before = fs::read_to_string(&file).unwrap();
    place.run("alias set --dry-run a ghcr.io/org/b").success().stdout_eq("Would update alias \"a\" -> ghcr.io/org/b\n");
    place.run("alias rm --dry-run a").success().stdout_eq("Would remove alias \"a\"\n");
    assert_eq!(json(&place, "alias rm --dry-run a")["dry_run"], true);
    place.run("alias rm --dry-run b").code(3);
    let set = json(&place, "config set --dry-run cache.max_size 20G");
    assert_eq!((&set["action"], &set["dry_run"]), (&"created".into(), &true.into()));
    // What would be refused is, and nothing that is not there can be unset.
    place.run("config set --dry-run cache.max_size much").code(2);
    place.run("config unset --dry-run output").code(3);
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}
