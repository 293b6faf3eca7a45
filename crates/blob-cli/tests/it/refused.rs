//! Bad input of the file system: each is an error that says what, and nothing half-written stays.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use snapbox::str;

use crate::support::{BLOB, Place, stderr, stdout};

/// `sh -c script` with `$BLOB` and the environment of `place`.
fn shell(place: &Place, script: &str) -> Command {
    let mut command = Command::new("bash");
    place.isolate(&mut command);
    command.env("BLOB", BLOB).env("HOST", place.host()).args(["-c", script]);
    command
}

/// Copies the program to where everybody reaches it. Another process writes the copy: one that this process has open for
/// writing is busy as long as a child of another test has inherited it.
fn copy_program(place: &Place) {
    assert!(Command::new("cp").arg(BLOB).arg(place.path("blob")).status().unwrap().success());
}

#[test]
fn an_unreadable_file_is_named() {
    let place = Place::served();
    fs::set_permissions(place.path("project/docs/guide.md"), fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads everything, so somebody else has to try.
    let superuser = fs::read(place.path("project/docs/guide.md")).is_ok();
    let script = if superuser {
        for (path, mode) in [(".", 0o777), ("project/config/database.json", 0o644)] {
            fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        copy_program(&place);
        "setpriv --reuid 65534 --regid 65534 --clear-groups ./blob push $HOST/a/b:v1 project"
    } else {
        "$BLOB push $HOST/a/b:v1 project"
    };
    let failed = place.assert(&mut shell(&place, script)).code(1);
    let text = stderr(&failed);
    assert!(text.contains("docs/guide.md") && text.contains("Permission denied"), "{text}");
    place.run("ls HOST/a/b:v1").code(3);
}

/// After `su` the runtime directory is another user's: what is public can be read all the same.
#[test]
fn a_login_file_of_another_user_is_passed_over() {
    let place = Place::served();
    place.run("push -q HOST/a/b:v1 project").success();
    let runtime = place.path("runtime");
    fs::create_dir_all(runtime.join("containers")).unwrap();
    fs::write(runtime.join("containers/auth.json"), "{}").unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o000)).unwrap();
    let superuser = fs::read(runtime.join("containers/auth.json")).is_ok();
    let user = if superuser {
        fs::set_permissions(place.path("."), fs::Permissions::from_mode(0o777)).unwrap();
        copy_program(&place);
        "setpriv --reuid 65534 --regid 65534 --clear-groups ./blob"
    } else {
        "$BLOB"
    };
    let tags = |variable: &str, file: &str| {
        let script = format!("{variable}=$PWD/{file} {user} tags $HOST/a/b");
        place.assert(&mut shell(&place, &script))
    };
    let found = tags("XDG_RUNTIME_DIR", "runtime").success();
    assert_eq!(stdout(&found), "v1\n");
    assert!(stderr(&found).contains("logins in this file are not used"), "{}", stderr(&found));
    // Asked for by name it has to be there for us.
    let refused = tags("REGISTRY_AUTH_FILE", "runtime/containers/auth.json").failure();
    assert!(stderr(&refused).contains("Permission denied"), "{}", stderr(&refused));
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_empty_directory_is_an_archive_of_nothing() {
    let place = Place::served();
    fs::create_dir(place.path("nothing")).unwrap();
    place.run("push --reproducible HOST/a/b:v1 nothing").success().stdout_eq(str![[r#"
Pushed [HOST]/a/b:v1
  Digest: sha256:65382a8215cdbe11e958f9b73db84b398d0db7c310d423925611c10c675fd263
  Files: 0
  Size: 0 (0 uncompressed)
  Uploaded: 89

"#]]);
    place.run("ls HOST/a/b:v1").success().stdout_eq("");
    place.run("tree HOST/a/b:v1").success().stdout_eq(str![[r#"
./

0 directories, 0 files

"#]]);
    place.run("inspect HOST/a/b:v1").success().stdout_eq(str![[r#"
Reference:    [HOST]/a/b:v1
Digest:       sha256:65382a8215cdbe11e958f9b73db84b398d0db7c310d423925611c10c675fd263
Files:        0
Size:         0 (0 uncompressed)
Compression:  none
Created:      2023-11-14T22:13:20Z
Annotations:
  org.opencontainers.image.created: 2023-11-14T22:13:20Z

"#]]);
    place.run("pull -q HOST/a/b:v1 out").success();
    assert_eq!(place.listing("out"), Vec::<String>::new());
}

#[test]
fn a_name_that_is_not_utf_8_is_refused_or_left_out() {
    let place = Place::served();
    fs::write(place.path("project").join(OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
    place.run("push HOST/a/b:v1 project").code(1).stdout_eq("").stderr_eq(str![[r#"
error: creating an archive of project: 1 name cannot be stored (not UTF-8, or not portable): "caf�"
hint: leave these names out with --skip-non-utf8

"#]]);
    let pushed = place.run("push --skip-non-utf8 HOST/a/b:v1 project").success();
    assert!(stdout(&pushed).contains("Left out: 1 name: "), "{}", stdout(&pushed));
    place.run("push --skip-non-utf8 --strict HOST/a/c:v1 project").code(1);
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let place = Place::served();
    fs::write(place.path("project/large"), vec![7; 1 << 20]).unwrap();
    place.run("push -q -c none HOST/a/b:v1 project").success();
    let files = || place.listing(".").into_iter().filter(|name| !name.starts_with("home/")).collect::<Vec<_>>();
    let before = files();
    // Files may not grow beyond 64 KiB; the signal that would end the process is ignored, so writing fails instead.
    for (line, wanted) in [("pull HOST/a/b:v1 out", "large"), ("cp HOST/a/b:v1:/large out", "large")] {
        let script = format!("trap '' XFSZ; ulimit -f 64; $BLOB {}", line.replace("HOST", "$HOST"));
        let failed = place.assert(&mut shell(&place, &script)).code(1);
        let text = stderr(&failed);
        assert!(text.contains("File too large") && text.contains(wanted), "{text}");
        assert_eq!(files(), before, "{line}");
    }
    let script = "trap '' XFSZ; ulimit -f 64; $BLOB push -c none $HOST/a/c:v1 project";
    let failed = place.assert(&mut shell(&place, script)).code(1);
    assert!(stderr(&failed).contains("File too large"), "{}", stderr(&failed));
    place.run("ls HOST/a/c:v1").code(3);
}

#[test]
fn a_destination_in_the_way_is_named() {
    let place = Place::pushed();
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/docs"), "in the way").unwrap();
    place.run("pull HOST/team/project:v1 out").code(1).stderr_eq(str![[r#"
error: "[ROOT]/out/docs" is a symbolic link or a file, where the archive has a directory
hint: move away what stands there

"#]]);
    assert_eq!(place.listing("out"), ["docs"]);
}

#[test]
fn links_that_lead_out_are_refused() {
    let place = Place::served();
    std::os::unix::fs::symlink("/etc/passwd", place.path("project/out")).unwrap();
    place.run("push -q HOST/a/b:v1 project").success();
    place.run("pull HOST/a/b:v1 out").code(1).stderr_eq(str![[r#"
error: the symbolic link "out" leads out of the destination, to "/etc/passwd"
hint: --exclude leaves them out; pass --allow-external-symlinks if you trust the archive

"#]]);
    assert!(!place.path("out").exists());
    place.run("pull -q --allow-external-symlinks HOST/a/b:v1 out").success();
    assert_eq!(fs::read_link(place.path("out/out")).unwrap().to_str(), Some("/etc/passwd"));
}

#[test]
fn modes_and_times_are_kept_unless_nobody_wants_them() {
    let place = Place::laid_out();
    place.run("pull -q oci:layout:v1 kept").success();
    place.run("pull -q --no-preserve-mode --no-preserve-times oci:layout:v1 plain").success();
    let mode = |path: &str| fs::metadata(place.path(path)).unwrap().permissions().mode() & 0o777;
    let time = |path: &str| fs::metadata(place.path(path)).unwrap().modified().unwrap();
    assert_eq!((mode("kept/run.sh"), mode("kept/config/database.json")), (0o755, 0o600));
    assert_eq!(mode("plain/run.sh") & 0o111, 0);
    assert_eq!(time("kept/run.sh"), time("project/run.sh"));
    assert_ne!(time("plain/run.sh"), time("project/run.sh"));
}
