//! `--dry-run`: what would be done is said, also to programs, and nothing is done.

use std::fs;

use blob_testkit::sigstore::Person;
use serde_json::Value;
use snapbox::str;

use crate::keyless::Desk;
use crate::support::{Place, stderr, stdout};

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
    // Nothing was unused for a day, and everything for no time at all.
    for (age, freed) in [("1d", &Value::from(0)), ("0", &before["total_size"])] {
        assert_eq!(&json(&place, &format!("cache prune --older-than {age} --dry-run"))["freed"], freed);
    }
    place.run("cache prune -q --older-than 1d").success();
    assert_eq!(json(&place, "cache status"), before);
    let both = json(&place, "cache prune --older-than 1d --max 0 --dry-run");
    assert_eq!(both["freed"], before["total_size"]);
    place.run("cache prune -q --older-than 0").success();
    assert_eq!(json(&place, "cache status")["total_size"], 0);
    place.run("pull -q HOST/team/project:v1 again").success();
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

#[test]
fn signatures_are_planned() {
    let desk = Desk::new();
    let place = &desk.place;
    desk.run("generate-key-pair k").success();
    let plan = |line: &str| -> Value {
        serde_json::from_str(&stdout(&desk.run(&format!("{line} -o json")).success().stderr_eq(""))).unwrap()
    };
    let reference = format!("{}/team/project:v1", place.host());
    let (by_key, attested) = (
        format!("sign --dry-run --key k.key {reference}"),
        format!("attest --dry-run --key k.key --type spdx --predicate bom.json {reference}"),
    );
    fs::write(place.path("bom.json"), r#"{"name": "project"}"#).unwrap();
    let planned = plan(&by_key);
    assert_eq!((&planned["status"], &planned["plan"]["action"]), (&"dry_run".into(), &"sign".into()));
    assert_eq!((&planned["plan"]["equivalent"], &planned["plan"]["content"]), (&"missing".into(), &"statement".into()));
    assert_eq!(planned["plan"]["signer"]["key_file"], "k.key");
    assert_eq!(planned["predicate_type"], "https://sigstore.dev/cosign/sign/v1");
    let digest = planned["digest"].as_str().unwrap();
    assert!(planned["plan"]["attach_to"].as_str().unwrap().ends_with(&format!("@{digest}")), "{planned}");
    assert_eq!(plan(&attested)["predicate_type"], "https://spdx.dev/Document");
    assert_eq!(plan(&format!("{by_key} --message"))["plan"]["content"], "message");
    // Nobody is asked for a password: without it there is a plan all the same, which says what it cannot know.
    let locked = place.assert(place.command(&by_key).env_remove("BLOB_KEY_PASSWORD")).success();
    let text = stdout(&locked);
    assert!(text.contains("k.key, which is encrypted") && text.contains("not known before it is signed"), "{text}");
    // What the deed would refuse, the plan does.
    place.assert(place.command(&by_key).env("BLOB_KEY_PASSWORD", "wrong")).code(2);
    let odd = desk.run(&format!("attest --dry-run --key k.key --type what --predicate bom.json {reference}")).code(2);
    assert!(stderr(&odd).contains("known names are slsaprovenance1, "), "{}", stderr(&odd));
    desk.run(&format!("sign --dry-run --key k.key {}/team/project:none", place.host())).code(3);
    // Services are named, and not asked; a log shows to everybody what it is told.
    let token = desk.token(&Person::email("https://issuer.test", "ann@example.com"));
    let keyless =
        format!("sign --signing-config v1.json --trusted-root root.json --identity-token {token} {reference}");
    let planned = plan(&format!("{keyless} --dry-run"));
    assert_eq!(planned["plan"]["signer"]["identity"], "ann@example.com");
    let kinds: Vec<_> = planned["plan"]["services"].as_array().unwrap().iter().map(|asked| &asked["kind"]).collect();
    assert!(kinds.contains(&&"certificate authority".into()) && kinds.contains(&&"transparency log".into()));
    assert_eq!(desk.instance.requests(), Vec::<String>::new());
    let pushed = desk.run(&format!("push --dry-run --key k.key {}/team/other:v1 project", place.host())).success();
    assert!(stdout(&pushed).contains("Would be signed by: the key "), "{}", stdout(&pushed));
    assert_eq!(desk.referrers(), 0);
    // What is there already is found.
    desk.run(&format!("sign --key k.key {reference}")).success();
    desk.run(&keyless).success();
    for line in [by_key, format!("{keyless} --dry-run")] {
        let planned = plan(&line);
        assert_eq!((&planned["plan"]["action"], &planned["plan"]["equivalent"]), (&"keep".into(), &"found".into()));
        assert!(planned["signature_digest"].as_str().unwrap().starts_with("sha256:"), "{planned}");
        assert_eq!(plan(&format!("{line} --again"))["plan"]["action"], "sign");
    }
    assert_eq!(plan(&attested)["plan"]["action"], "sign", "a signature is no attestation");
    assert_eq!(desk.referrers(), 2);
}

#[test]
fn exports_are_planned() {
    let place = Place::pushed();
    place.run("export --dry-run -f out.tar HOST/team/project:v1 docs").success().stderr_eq("").stdout_eq(str![[r#"
Would export [HOST]/team/project:v1
  File: out.tar
  Files: 2
  Size: 16 (3.0K as tar)
  Fetched: [..]

"#]]);
    assert!(!place.path("out.tar").exists());
    let shown = |line: &str| {
        let plan = json(&place, line);
        let text = |name: &str| plan[name].as_str().map(str::to_owned);
        (text("action").unwrap(), text("file").unwrap(), plan["tar_size"].as_u64(), plan["zip_size"].as_u64())
    };
    let planned = shown("export --dry-run -f out.tar HOST/team/project:v1");
    let done = json(&place, "export -f out.tar HOST/team/project:v1");
    assert_eq!((planned.0.as_str(), planned.2), ("create", done["tar_size"].as_u64()));
    assert_eq!((&done["dry_run"], &done["action"]), (&Value::Null, &Value::Null));
    fs::write(place.path("out.tar"), "older").unwrap();
    assert_eq!(shown("export --dry-run -f out.tar HOST/team/project:v1").0, "replace");
    assert_eq!(fs::read(place.path("out.tar")).unwrap(), b"older");
    assert_eq!(shown("export --dry-run -f /dev/null HOST/team/project:v1").0, "write");
    assert_eq!(
        shown("export --dry-run -a zip HOST/team/project:v1"),
        ("write".into(), "-".into(), None, None),
        "the size of a ZIP file shows when it is written"
    );
    // A plan is of what quiet leaves, and fetches no content.
    let server = json(&place, "--no-cache export --dry-run -f out.zip HOST/team/project:v1");
    assert_eq!(server["traffic"]["requests"], 1, "{server}");
    assert!(stdout(&place.run("-q export --dry-run HOST/team/project:v1")).contains("  File: - (standard output)\n"));
}

#[test]
fn what_an_export_refuses_its_plan_refuses() {
    let place = Place::pushed();
    fs::create_dir(place.path("there")).unwrap();
    fs::create_dir(place.path("odd")).unwrap();
    fs::write(place.path("odd/back\\slash"), "x").unwrap();
    place.run("push -q HOST/team/odd:v1 odd").success();
    for (line, code, said) in [
        ("export -f none/out.tar HOST/team/project:v1", 3, "there is no directory none"),
        ("export -f there HOST/team/project:v1", 1, "that is a directory, expected the name of a file"),
        ("export -f there HOST/team/project:v1", 1, "name one in it, such as there/export.tar"),
        ("export -f new/ HOST/team/project:v1", 1, "that is a directory"),
        ("export -f README.md/x HOST/team/project:v1", 3, "there is no directory README.md"),
        ("export -f out.zip HOST/team/odd:v1", 1, "a ZIP file cannot hold the name"),
        ("export -f out.tar HOST/team/project:v1 none", 3, "path not found in archive"),
        ("export -f out.tar -g none HOST/team/project:v1", 3, "matches --include none"),
    ] {
        let plan = place.run(&format!("{line} --dry-run")).code(code).stdout_eq("");
        let deed = place.run(line).code(code).stdout_eq("");
        assert_eq!(stderr(&plan), stderr(&deed), "{line}");
        assert!(stderr(&deed).contains(said), "{line}: {}", stderr(&deed));
    }
    assert_eq!(place.listing("there"), Vec::<String>::new());
}

#[test]
fn keys_are_planned() {
    let place = Place::offline();
    // Nobody is asked for a password.
    place
        .assert(place.command("generate-key-pair --dry-run release").env_remove("BLOB_KEY_PASSWORD"))
        .success()
        .stdout_eq(str![[r#"
Would write
Private key: release.key
Public key: release.pub

"#]]);
    let plan = json(&place, "generate-key-pair --dry-run release");
    assert_eq!((&plan["dry_run"], &plan["id"]), (&true.into(), &Value::Null));
    assert!(!place.path("release.key").exists() && !place.path("release.pub").exists());
    fs::write(place.path("release.pub"), "older").unwrap();
    for (line, code, said) in [
        ("generate-key-pair release", 2, "release.pub exists, and a key is never overwritten"),
        ("generate-key-pair none/release", 3, "there is no directory none"),
    ] {
        for line in [line.to_owned(), format!("{line} --dry-run")] {
            let failed = place.assert(place.command(&line).env("BLOB_KEY_PASSWORD", "x")).code(code);
            assert!(stderr(&failed).contains(said), "{line}: {}", stderr(&failed));
        }
    }
}

#[test]
fn pages_are_planned() {
    let place = Place::offline();
    place.run("man --dry-run").code(2);
    let plan = json(&place, "man --dir pages --dry-run");
    assert!(!place.path("pages").exists());
    let steps = plan["plan"].as_array().unwrap().clone();
    assert_eq!(plan["pages"].as_u64(), Some(steps.len() as u64));
    assert!(steps.len() > 40 && steps.iter().all(|step| step["action"] == "create"), "{plan}");
    let done = json(&place, "man --dir pages");
    assert_eq!((&done["pages"], &done["plan"], &done["dry_run"]), (&plan["pages"], &Value::Null, &Value::Null));
    let mut names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(place.listing("pages"), names);
    fs::write(place.path("pages/blob-ls.1"), "older").unwrap();
    fs::remove_file(place.path("pages/blob-cat.1")).unwrap();
    let text = stdout(&place.run("man --dir pages --dry-run").success());
    for line in ["  replace blob-ls.1\n", "  create blob-cat.1\n", "  keep blob.1\n"] {
        assert!(text.contains(line), "{text}");
    }
    place.run("man --dir pages/blob.1 --dry-run").code(1);
    place.run("man --dir pages/blob.1").code(1);
}

#[test]
fn copies_to_standard_output_are_planned() {
    let place = Place::pushed();
    let one = place.run("cp --dry-run HOST/team/project:v1:/README.md -").success();
    one.stdout_eq("+ README.md\nWould create 1; 9 to write\n");
    let plan = json(&place, "cp --dry-run HOST/team/project:v1:/docs HOST/team/project:v1:/README.md -");
    assert_eq!((&plan["destination"], &plan["create_count"]), (&"-".into(), &3.into()), "{plan}");
    assert_eq!(plan["actions"][0]["target"], "-");
    for line in ["cp --recursive=false HOST/team/project:v1:/docs -", "cp --flat HOST/team/project:v1:/docs -"] {
        let (plan, deed) = (place.run(&format!("{line} --dry-run")).code(2), place.run(line).code(2));
        assert_eq!(stderr(&plan), stderr(&deed), "{line}");
    }
}
