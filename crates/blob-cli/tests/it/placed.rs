//! Where `cp` and `pull` put things, and which command does what `cp` does not.

use std::fs;
use std::process::Command;

use crate::support::{Place, stderr, stdout};

#[test]
fn copies_are_placed_as_is_asked_for() {
    let place = Place::laid_out();
    let found = |dir: &str| -> Vec<String> {
        let output = Command::new("find").arg(".").arg("!").arg("-type").arg("d").current_dir(place.path(dir)).output();
        let mut names: Vec<String> =
            String::from_utf8(output.unwrap().stdout).unwrap().lines().map(|line| line[2..].to_owned()).collect();
        names.sort();
        names
    };
    // DEST is the name itself, whether it exists or not.
    for _ in 0..2 {
        place.run("cp -T oci:layout:v1:/docs named").success();
        assert_eq!(found("named"), ["api/reference.md", "guide.md"]);
    }
    place.run("cp -T oci:layout:v1:/ whole").success();
    assert!(place.path("whole/config/app.yaml").exists());
    place.run("cp -T oci:layout:v1:/run.sh renamed").success();
    place.run("cp -T oci:layout:v1:/empty hollow").success();
    assert!(place.path("renamed").is_file() && found("hollow").is_empty());
    for (line, wanted) in [
        ("cp -T oci:layout:v1:/run.sh named", "cannot copy the file run.sh to the directory named"),
        ("cp -T oci:layout:v1:/run.sh oci:layout:v1:/docs out", "gives one copy its name"),
        ("cp -T oci:layout:v1:/docs -", "are for destinations on disk"),
        ("cp -T --flat oci:layout:v1:/docs out", "cannot be used with"),
    ] {
        let said = stderr(&place.run(line).code(2));
        assert!(said.contains(wanted), "{line}: {said}");
    }
    // With whole paths a destination is a directory.
    place.run("cp --parents oci:layout:v1:/config/app.yaml below").success();
    assert_eq!(found("below"), ["config/app.yaml"]);
    // Without the first names of the paths.
    let copied =
        stdout(&place.run("cp --strip-components 1 oci:layout:v1:/docs oci:layout:v1:/run.sh short").success());
    assert_eq!(found("short"), ["api/reference.md", "guide.md"]);
    assert!(copied.contains("  Left out: 1 path without so many names above\n"), "{copied}");
    let planned =
        stdout(&place.run("cp -n --dry-run --strip-components 2 oci:layout:v1:/docs shorter -o json").success());
    assert!(planned.contains("shorter/reference.md") && !planned.contains("guide.md"), "{planned}");
    place.run("pull --strip-components 1 oci:layout:v1 pulled").success();
    assert_eq!(found("pulled"), ["api/reference.md", "app.yaml", "database.json", "guide.md", "main.rs"]);
    let pulled = stdout(&place.run("pull --strip-components 2 -o json oci:layout:v1 deep").success());
    assert!(found("deep") == ["reference.md"] && pulled.contains("\"paths_left_out\": 8"), "{pulled}");
    let said = stderr(&place.run("pull --strip-components 3 oci:layout:v1 nothing").code(3));
    assert!(
        said.contains("nothing is left without the first 3 names of each path") && said.contains("hint: "),
        "{said}"
    );
    assert!(!place.path("nothing").exists());
    place.run("pull --sync --delete --strip-components 1 oci:layout:v1 pulled").code(2);
    fs::create_dir(place.path("project/other")).unwrap();
    fs::write(place.path("project/other/guide.md"), "another\n").unwrap();
    place.run("push -q oci:layout:v2 project").success();
    let said = stderr(&place.run("pull --strip-components 1 oci:layout:v2 twins").code(1));
    assert!(said.contains("would be written to one place") && said.contains("--strip-components"), "{said}");
}

#[test]
fn other_commands_are_named_for_what_cp_does_not() {
    let place = Place::laid_out();
    for (line, wanted) in [
        ("cp oci:layout:v1 oci:layout:v2", "hint: `blob copy oci:layout:v1 oci:layout:v2` copies archives"),
        ("cp localhost:1/a:v1 localhost:1/b:v1", "hint: `blob copy localhost:1/a:v1 localhost:1/b:v1` copies archives"),
        ("cp project/run.sh oci:layout:v1", "hint: `blob push REF DIR` stores a directory"),
        ("cp oci:layout:v1 out", "hint: oci:layout:v1:/ is all of the archive"),
        ("cp oci:layout:v1:/docs localhost:1/b:v1", "is a place in a registry"),
        ("cp oci:layout:v1:/docs oci:layout:v1:/other", "is in an archive, and archives never change"),
        ("cp --target-directory out oci:layout:v1:/docs", "hint: the directory is the last operand"),
    ] {
        let said = stderr(&place.run(line).code(2));
        assert!(said.contains(wanted), "{line}: {said}");
    }
    // What is there is a path, whatever it looks like.
    fs::create_dir_all(place.path("localhost:1/b:v1")).unwrap();
    place.run("cp -q oci:layout:v1:/docs localhost:1/b:v1").success();
}
