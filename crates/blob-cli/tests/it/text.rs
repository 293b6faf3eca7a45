//! Every command as people see it.

use std::fs;

use snapbox::str;

use crate::support::{Place, stdout};

#[test]
fn push() {
    let place = Place::served();
    let push = "push --reproducible HOST/team/project:v1 project";
    place.run(push).success().stderr_eq(str![]).stdout_eq(str![]);
    place.run(push).success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("push -q --reproducible HOST/team/project:v1 project").success().stdout_eq(str![]);
    place
        .run("push --reproducible -t latest -t stable --no-symlinks --no-empty-dirs HOST/team/project:v2 project")
        .success()
        .stdout_eq(str![]);
    place.run("tags HOST/team/project").success().stdout_eq(str![]);
    place.run("push --digest-file digest -q HOST/team/project:v3 project").success();
    let pinned = stdout(&place.run("push -q HOST/team/project:v3 project"));
    let digest = fs::read_to_string(place.path("digest")).unwrap();
    assert_eq!(pinned.trim().split_once('@').unwrap().1, digest.trim());
}

#[test]
fn what_is_left_out_is_said() {
    let place = Place::served();
    let made = std::process::Command::new("mkfifo").arg(place.path("project/pipe")).status().unwrap();
    assert!(made.success());
    place.run("push --reproducible HOST/team/project:v1 project").success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("push --strict HOST/team/project:v2 project").code(1).stdout_eq(str![]).stderr_eq(str![]);
}

#[test]
fn filters() {
    let place = Place::served();
    place.run("push -q --exclude docs/ --include *.md --include *.sh HOST/a/b:v1 project").success();
    place.run("ls -R HOST/a/b:v1").success().stdout_eq(str![]);
}

#[test]
fn pull() {
    let place = Place::pushed();
    place.run("pull HOST/team/project:v1 out").success().stderr_eq(str![]).stdout_eq(str![]);
    assert_eq!(place.listing("out"), place.listing("project"));
    fs::remove_file(place.path("out/README.md")).unwrap();
    place.run("pull HOST/team/project:v1 out").success().stdout_eq(str![]);
    fs::write(place.path("out/README.md"), "other").unwrap();
    fs::write(place.path("out/run.sh"), "other").unwrap();
    fs::remove_file(place.path("out/docs/guide.md")).unwrap();
    place.run("pull HOST/team/project:v1 out").code(1).stdout_eq(str![]).stderr_eq(str![]);
    assert!(!place.path("out/docs/guide.md").exists(), "something was written");
    place.run("pull --overwrite HOST/team/project:v1 out").success().stdout_eq(str![]);
    assert_eq!(fs::read_to_string(place.path("out/README.md")).unwrap(), "# Sample\n");
    fs::write(place.path("out/mine"), "gone soon").unwrap();
    place.run("pull --clean -q HOST/team/project:v1 out").success().stdout_eq(str![]).stderr_eq(str![]);
    assert_eq!(place.listing("out"), place.listing("project"));
}

#[test]
fn pull_of_a_part() {
    let place = Place::pushed();
    place.run("pull -p /docs/ HOST/team/project:v1 out").success().stdout_eq(str![]);
    assert_eq!(place.listing("out"), ["docs/", "docs/api/", "docs/api/reference.md", "docs/guide.md"]);
    place.run("pull -p dosc HOST/team/project:v1 out").code(3).stderr_eq(str![]);
}

#[test]
fn cat() {
    let place = Place::pushed();
    place.run("cat HOST/team/project:v1 config/app.yaml //README.md").success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("-q cat HOST/team/project:v1 README.md").success().stdout_eq("# Sample\n");
    place.run("cat --stats HOST/team/project:v1 README.md").success().stderr_eq(str![]);
}

#[test]
fn ls() {
    let place = Place::pushed();
    place.run("ls HOST/team/project:v1").success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("ls -lh HOST/team/project:v1").success().stdout_eq(str![]);
    place.run("ls -l --digest HOST/team/project:v1 /config/").success().stdout_eq(str![]);
    place.run("ls --digest HOST/team/project:v1 config").success().stdout_eq(str![]);
    place.run("ls HOST/team/project:v1 config/app.yaml").success().stdout_eq(str![]);
    place.run("ls HOST/team/project:v1 empty").success().stdout_eq(str![]);
    place.run("ls -R --sort size HOST/team/project:v1").success().stdout_eq(str![]);
    place.run("ls -r HOST/team/project:v1").success().stdout_eq(str![]);
    place.run("ls -o table HOST/team/project:v1").success().stdout_eq(str![]);
    place.run("ls -o plain -l HOST/team/project:v1 config").success().stdout_eq(str![]);
    let names = place.run("ls -0 HOST/team/project:v1 config").success();
    assert_eq!(stdout(&names), "app.yaml\0database.json\0");
}

#[test]
fn tree() {
    let place = Place::pushed();
    place.run("tree HOST/team/project:v1").success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("tree -L 1 --dirsfirst HOST/team/project:v1").success().stdout_eq(str![]);
    place.run("tree --dirs-only --depth 2 HOST/team/project:v1").success().stdout_eq(str![]);
    place.run("tree HOST/team/project:v1 docs").success().stdout_eq(str![]);
    place.run("tree HOST/team/project:v1 empty").success().stdout_eq(str![]);
    place.run("tree -o plain HOST/team/project:v1 docs").success().stdout_eq(str![]);
}

#[test]
fn cp() {
    let place = Place::pushed();
    place.run("cp HOST/team/project:v1:/config/app.yaml ./copied.yaml").success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("cp HOST/team/project:v1:/config/app.yaml out/").success();
    assert_eq!(place.listing("out"), ["config/", "config/app.yaml"]);
    place.run("cp HOST/team/project:v1:/docs/ HOST/team/project:v1:/README.md out").success().stdout_eq(str![]);
    place.run("cp --flat HOST/team/project:v1:/docs flat").success();
    assert_eq!(place.listing("flat"), ["guide.md", "reference.md"]);
    place.run("cp HOST/team/project:v1:/ all").success();
    assert_eq!(place.listing("all"), place.listing("project"));
    fs::write(place.path("copied.yaml"), "other").unwrap();
    place.run("cp HOST/team/project:v1:/config/app.yaml copied.yaml").code(1).stdout_eq(str![]).stderr_eq(str![]);
    place.run("cp -f HOST/team/project:v1:/config/app.yaml copied.yaml").success();
    assert!(fs::read_to_string(place.path("copied.yaml")).unwrap().starts_with("name:"));
}

#[test]
fn cp_from_two_archives_writes_nothing_when_one_differs() {
    let place = Place::pushed();
    place.run("push -q --reproducible oci:layout:v1 project").success();
    fs::create_dir_all(place.path("out/docs")).unwrap();
    fs::write(place.path("out/docs/guide.md"), "other").unwrap();
    place.run("cp HOST/team/project:v1:/run.sh oci:layout:v1:/docs out").code(1).stderr_eq(str![]);
    assert_eq!(place.listing("out"), ["docs/", "docs/guide.md"]);
    place.run("cp -f HOST/team/project:v1:/run.sh oci:layout:v1:/docs out").success().stdout_eq(str![]);
}

#[test]
fn inspect() {
    let place = Place::pushed();
    place.run("inspect HOST/team/project:v1").success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("push -q --reproducible -a version=1.0.0 -a author= oci:layout:v1 project").success();
    place.run("inspect --referrers oci:layout:v1").success().stdout_eq(str![]);
    place.run("inspect -o plain oci:layout:v1").success().stdout_eq(str![]);
    place.run("inspect -o table oci:layout:v1").success().stdout_eq(str![]);
}

#[test]
fn tag_and_tags() {
    let place = Place::pushed();
    place.run("tag HOST/team/project:v1 latest HOST/team/project:stable").success().stderr_eq(str![]).stdout_eq(str![]);
    place.run("tags HOST/team/project").success().stdout_eq(str![]);
    place.run("tags -o table HOST/team/project").success().stdout_eq(str![]);
    place.run("-q tag HOST/team/project:v1 quiet").success().stdout_eq("");
}

#[test]
fn version() {
    let place = Place::offline();
    place.run("version").success().stdout_eq(format!("blob {}\n", env!("CARGO_PKG_VERSION")));
    place.run("--version").success().stdout_eq(format!("blob {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn colour_is_for_terminals_and_those_who_ask() {
    let place = Place::pushed();
    assert!(!stdout(&place.run("ls HOST/team/project:v1")).contains('\x1b'));
    assert!(stdout(&place.run("ls --color always HOST/team/project:v1")).contains("\x1b[1;34mconfig/\x1b[0m\n"));
    assert!(!stdout(&place.run("ls --color always --no-color HOST/team/project:v1")).contains('\x1b'));
    assert!(!stdout(&place.run("ls --color always -o json HOST/team/project:v1")).contains('\x1b'));
    let mut forced = place.command("tree HOST/team/project:v1");
    assert!(stdout(&place.assert(forced.env("CLICOLOR_FORCE", "1"))).contains("\x1b[32mrun.sh\x1b[0m\n"));
}

#[test]
fn names_cannot_control_the_terminal() {
    let place = Place::served();
    fs::create_dir(place.path("odd")).unwrap();
    for name in ["\x1b[2Jx", "a\nb", "e\u{202e}vil"] {
        fs::write(place.path("odd").join(name), "x").unwrap();
    }
    place.run("push -q HOST/a/b:v1 odd").success();
    place.run("ls HOST/a/b:v1").success().stdout_eq(str![]);
    place.run("tree HOST/a/b:v1").success().stdout_eq(str![]);
    let raw = stdout(&place.run("ls -0 HOST/a/b:v1").success());
    assert_eq!(raw, "\x1b[2Jx\0a\nb\0e\u{202e}vil\0");
}
