//! What is said of what cannot be done, and what helps.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::support::{Place, Server, stderr, stdout};

/// Runs `line`, which exits with `code` and says `wanted`.
fn says(place: &Place, line: &str, code: i32, wanted: &[&str]) {
    let failed = place.run(line).code(code).stdout_eq("");
    let said = stderr(&failed);
    for wanted in wanted {
        assert!(said.contains(wanted), "{line}: {wanted:?} is not in {said}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let place = Place::laid_out();
    for (line, wanted) in [
        ("push --compression none --level 5 oci:layout:v2 project", "nothing is compressed"),
        ("rm --yes --referrers oci:layout:v1", "hint: pass --manifest"),
        ("tags localhost:1/team/project:v1", "names v1, and all tags of a repository are listed"),
        ("cat --format {{.x}} oci:layout:v1 README.md", "this command writes content"),
        ("export --format zip oci:layout:v1", "is said by --archive tar or zip"),
        ("find --digest zz oci:layout:v1", "expected 1 to 64 digits"),
        ("alias add x foo", "neither a repository nor what references begin with"),
        ("alias add self self", "neither a repository nor what references begin with"),
        ("serve --listen nonsense:x", "hint: expected ADDRESS:PORT"),
    ] {
        says(&place, line, 2, &[wanted]);
    }
    // A template that asks for what is not there is noticed before anything is done.
    says(&place, "push --format {{.nope}} oci:layout:v9 project", 2, &["there is no field .nope"]);
    place.run("inspect oci:layout:v9").code(3);
    place.run("inspect --format x{{.resolved_ref}} oci:layout:v1").success().stdout_eq("x\n");
    place.run("pull --dry-run --format {{.create_count}} oci:layout:v1 copy").success().stdout_eq("9\n");
    place.run("export --format {{.tar_size}} -f out.tar oci:layout:v1").success();
    let pushed = stdout(&place.run("push -t b -t b -t v2 oci:layout:v2 project").success());
    assert_eq!(pushed.matches("Tagged: b\n").count(), 1, "{pushed}");
}

#[test]
fn directories_that_are_not_there_are_said_to_be_none() {
    let place = Place::laid_out();
    says(&place, "diff oci:layout:v1 nodir", 3, &["error: nodir is neither a directory nor a reference\n"]);
    says(&place, "check oci:layout:v1 nodir", 3, &["error: there is no directory nodir\n"]);
    symlink("nothing", place.path("project/dangling")).unwrap();
    place.run("push -q oci:layout:v1 project").success();
    says(&place, "cat oci:layout:v1 dangling", 3, &["cannot follow the symbolic link dangling: nothing"]);
    place.run("stat -o plain oci:layout:v1 config").success().stdout_eq("drwxr-xr-x\t78\t\t\t\tconfig/\n");
    let digests = stdout(&place.run("ls --digest -o plain oci:layout:v1").success());
    assert!(digests.lines().any(|line| line.split('\t').any(|cell| cell.len() == "sha256:".len() + 64)), "{digests}");
}

#[test]
fn what_only_the_registry_can_answer_is_not_in_a_cache() {
    let place = Place::pushed();
    for line in ["tags HOST/team/project", "referrers HOST/team/project:v1", "tag HOST/team/project:v1 v2"] {
        says(&place, &format!("--offline {line}"), 5, &["hint: this asks the registry itself"]);
    }
    says(&place, "--offline --no-cache ls HOST/team/project:v1", 2, &["leave nothing to answer from"]);
    place.run("push -q oci:layout:v1 project").success();
    place.run("--offline --no-cache ls oci:layout:v1").success();
}

#[test]
fn an_alias_may_be_meant_by_a_host_that_nobody_knows() {
    let place = Place::offline();
    place.run("alias add prod localhost:1/org").success();
    says(&place, "--retries 0 ls prodd/project:v1", 5, &["hint: did you mean the alias `prod`?\n"]);
}

#[test]
fn tags_that_stay_are_no_matter_of_logins() {
    let place = Place::offline();
    let server = Server::start(&["--immutable-tags"]);
    place.run(&format!("push -q {}/a/b:v1 project", server.addr)).success();
    fs::write(place.path("project/README.md"), "changed").unwrap();
    says(&place, &format!("push {}/a/b:v1 project", server.addr), 4, &["hint: tags are set once in this repository"]);
    says(&place, &format!("rm -y {}/a/b:v1", server.addr), 1, &["hint: this registry does not delete"]);
}

#[test]
fn a_server_listens_at_a_name() {
    let server = Server::at("localhost:0", &[]);
    let place = Place::offline();
    place.run(&format!("push -q {}/a/b:v1 project", server.addr)).success();
}

#[test]
fn what_is_piped_in_must_be_tar() {
    let place = Place::offline();
    let garbage: Vec<u8> = (0..100_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let gzip: Vec<u8> = [&b"\x1f\x8b\x08"[..], &garbage].concat();
    for (input, wanted) in [
        (garbage.as_slice(), "it does not begin as tar streams do"),
        (b"short", "cannot be read as tar"),
        (&gzip, "compressed by gzip"),
    ] {
        let mut command = place.command("push oci:layout:v1 -");
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It reads no more than it needs.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(wanted), "{said}");
    }
}

#[test]
fn an_editor_needs_a_terminal_unless_it_is_chosen() {
    let place = Place::offline();
    let mut command = place.command("config edit");
    command.env_remove("EDITOR").env_remove("VISUAL");
    let said = stderr(&place.assert(&mut command).code(2).stdout_eq(""));
    assert!(said.contains("there is no terminal for an editor"), "{said}");
}
