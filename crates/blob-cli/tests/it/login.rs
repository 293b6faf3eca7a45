//! `blob login` and `blob logout`: what is kept, what is asked, and what the registry says.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::Value;
use snapbox::cmd::OutputAssert;
use tokio::runtime::Runtime;

use crate::errors::guarded;
use crate::support::{BLOB, Place, stderr, stdout};

const PASSWORD: &str = "correct horse";

/// Runs `line` with `input` on standard input.
fn feed(place: &Place, line: &str, input: &str) -> OutputAssert {
    let mut child =
        place.command(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses its words does not wait for input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    OutputAssert::new(child.wait_with_output().unwrap())
}

#[test]
fn a_login_is_checked_kept_used_and_forgotten() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::offline());
    let host = server.local_addr().to_string();
    let file = place.path("home/.docker/config.json");
    let push = format!("push -q {host}/a/b:v1 project");
    let refused = place.run(&push).code(4);
    assert!(stderr(&refused).contains(&format!("`blob login {host}`")), "{}", stderr(&refused));

    let wrong = feed(&place, &format!("login {host} -u ann --password-stdin"), "nonsense\n").code(4);
    assert!(stderr(&wrong).contains("check the user and the password"), "{}", stderr(&wrong));
    assert!(!file.exists(), "what is refused is not kept");

    let right = feed(&place, &format!("login {host} -u ann --password-stdin"), &format!("{PASSWORD}\n")).success();
    let said = format!("Logged in to {host} as ann; the login is kept in {}\n", file.display());
    assert_eq!((stdout(&right), stderr(&right)), (said, String::new()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    place.run(&push).success();

    let gone = place.run(&format!("logout {host} -o json")).success();
    let value: Value = serde_json::from_str(&stdout(&gone)).unwrap();
    assert_eq!((&value["registry"], &value["removed"]), (&host.clone().into(), &true.into()));
    place.run(&push).code(4);
    assert_eq!(stdout(&place.run(&format!("logout {host}")).success()), format!("There was no login for {host}\n"));
}

#[test]
fn a_plan_of_a_login_keeps_nothing() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::offline());
    let host = server.local_addr().to_string();
    let file = place.path("home/.docker/config.json");
    let (login, password) = (format!("login {host} -u ann --password-stdin"), format!("{PASSWORD}\n"));
    let planned = feed(&place, &format!("{login} --dry-run"), &password).success();
    let said = format!("Would log in to {host} as ann; the login would be kept in {}\n", file.display());
    assert_eq!(stdout(&planned), said);
    assert!(!file.exists());
    feed(&place, &format!("{login} --dry-run"), "nonsense\n").code(4);
    assert_eq!(
        stdout(&place.run(&format!("logout --dry-run {host}")).success()),
        format!("There was no login for {host}\n")
    );
    feed(&place, &login, &password).success();
    let kept = fs::read(&file).unwrap();
    let planned = place.run(&format!("logout --dry-run -o json {host}")).success();
    let value: Value = serde_json::from_str(&stdout(&planned)).unwrap();
    assert_eq!((&value["removed"], &value["dry_run"]), (&true.into(), &true.into()));
    assert_eq!(fs::read(&file).unwrap(), kept);
}

#[test]
fn a_file_of_its_own_is_used_alone() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::offline());
    let host = server.local_addr().to_string();
    let own = format!("--registry-config {}", place.path("logins.json").display());
    let login = format!("{own} login https://{host}/ --username ann --password-stdin -o json");
    let value: Value = serde_json::from_str(&stdout(&feed(&place, &login, PASSWORD).success())).unwrap();
    assert_eq!((&value["verified"], &value["username"]), (&true.into(), &"ann".into()));
    place.run(&format!("push -q {host}/a/b:v1 project")).code(4);
    place.run(&format!("{own} push -q {host}/a/b:v1 project")).success();
    let kept =
        feed(&place, &format!("{own} login elsewhere.example -u bob --password-stdin --no-check"), "x").success();
    assert!(stdout(&kept).starts_with("Keeping an unchecked login for elsewhere.example as bob;"), "{}", stdout(&kept));
    place.run(&format!("{own} push -q {host}/a/b:v2 project")).success();
}

#[test]
fn what_cannot_be_a_login_is_wrong_usage() {
    let place = Place::served();
    for (line, wanted) in [
        ("login HOST -u ann", "there is no terminal"),
        ("login HOST", "there is no terminal"),
        ("login HOST --password-stdin", "the password of no user"),
        ("login HOST -u ann --password-stdin", "neither of them empty"),
        ("login HOST --identity-token-stdin", "does not hold the identity token"),
        ("login HOST/team -u ann --password-stdin", "`blob login HOST`"),
        ("logout a/b", "more than a registry"),
    ] {
        let text = stderr(&place.run(line).code(2));
        assert!(text.contains(&wanted.replace("HOST", place.host())), "{line}: {text}");
    }
    assert!(!place.path("home/.docker").exists());
    // Who lets everyone in cannot say whether a password is right.
    let open = feed(&place, "login HOST -u ann --password-stdin", PASSWORD).success();
    assert!(stdout(&open).starts_with("Keeping an unchecked login"), "{}", stdout(&open));
}

#[test]
fn a_password_is_for_one_registry() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::pushed());
    let host = server.local_addr().to_string();
    let run = |registry: Option<&str>, line: &str| {
        let mut command = place.command(line);
        command.env("BLOB_USERNAME", "ann").env("BLOB_PASSWORD", PASSWORD);
        registry.map(|registry| command.env("BLOB_REGISTRY", registry));
        place.assert(&mut command)
    };
    run(None, &format!("push -q {host}/a/b:v1 project")).success();
    run(Some(&host), &format!("ls {host}/a/b:v1")).success();
    // What was read a moment ago is in the cache, which needs no password.
    run(Some("other.example"), &format!("ls --no-cache {host}/a/b:v1")).code(4);
    let two = format!("cp {host}/a/b:v1:/README.md HOST/team/project:v1:/docs out");
    assert!(stderr(&run(None, &two).code(2)).contains("one password is not for two registries"));
    run(Some(&host), &two).success();
    // So it is with what is typed: the password is for the registry that is named, the other one is asked as ever.
    let mut typed = place.command(&format!("--username ann --password-stdin {two}2"));
    typed.env("BLOB_REGISTRY", &host).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = typed.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    OutputAssert::new(child.wait_with_output().unwrap()).success();
}

#[test]
fn a_terminal_is_asked_and_does_not_show_the_password() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::offline());
    let host = server.local_addr().to_string();
    let pty = native_pty_system().openpty(PtySize::default()).unwrap();
    let mut command = CommandBuilder::new(BLOB);
    command.args(["login", &host]);
    command.env_clear();
    command.env("HOME", place.path("home"));
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let (mut screen, mut keys) = (pty.master.try_clone_reader().unwrap(), pty.master.take_writer().unwrap());
    let mut shown = String::new();
    let mut until = |wanted: &str| {
        let mut bytes = [0; 256];
        while !shown.contains(wanted) {
            match screen.read(&mut bytes) {
                // A terminal whose last program has gone gives an error, not an end.
                Ok(0) | Err(_) => break,
                Ok(length) => shown += &String::from_utf8_lossy(&bytes[..length]),
            }
        }
        assert!(shown.contains(wanted), "{wanted:?} is not in {shown:?}");
        shown.clone()
    };
    until("Username: ");
    // Progress is drawn ten times a second, and over no question.
    std::thread::sleep(std::time::Duration::from_millis(600));
    keys.write_all(b"ann\n").unwrap();
    let asked = until("Password for ann: ");
    assert!(asked.matches("starting").count() < 2, "{asked:?}");
    keys.write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    let shown = until("the login is kept in");
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert!(child.wait().unwrap().success());
}
