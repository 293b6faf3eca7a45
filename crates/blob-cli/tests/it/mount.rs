//! `blob mount`, with the kernel's own FUSE.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::Arc;

use blob::core::{Archive, ArchivePath, Compression, Digest, IndexBuilder, MemorySource, NewFile, ReadOptions};
use blob::{Client, Location, PushOptions};
use blob_testkit::peers::find;
use blob_testkit::proxy::{Action, Faults, Gate, Latch, Proxy, ProxyHandle, ProxyOptions, Rule, Shape};
use rustix::io::Errno;

use crate::support::{BLOB, Place, eventually, signal, stderr};

/// Over what is verified in memory, 8 MiB.
const LARGE: usize = 9 << 20;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Whether something can be mounted here: that is up to the kernel and to who runs the tests, and told where it cannot be.
pub(crate) fn can_mount() -> bool {
    let kernel = Path::new("/dev/fuse").exists();
    let rights = if is_root() {
        Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|ended| ended.success())
    } else {
        find("fusermount3").is_some()
    };
    if !(kernel && rights) {
        let message =
            format!("NOT RUN: mounts need /dev/fuse (there: {kernel}) and the right to mount (had: {rights})\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes());
    }
    kernel && rights
}

/// What the system has mounted on `directory`.
fn is_mounted(directory: &Path) -> bool {
    let on = format!(" {} ", directory.canonicalize().unwrap_or_else(|_| directory.to_owned()).display());
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| line.contains(&on))
}

/// A mount that ends with the test.
pub(crate) struct Mount {
    child: Child,
    directory: PathBuf,
    /// What it said when it was there.
    said: String,
}

impl Mount {
    /// Runs `blob mount` with these words behind it, and waits until it says that the archive is on `mnt`.
    pub(crate) fn of(place: &Place, line: &str) -> Self {
        let directory = place.path("mnt");
        fs::create_dir_all(&directory).unwrap();
        let mut command = place.command(&format!("mount {line} mnt"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let mut mount = Self { child, directory, said };
        assert!(!mount.said.is_empty(), "{line}: {}", mount.errors());
        mount
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().map(|mut errors: ChildStderr| errors.read_to_string(&mut text).unwrap());
        text
    }

    /// Asks it to end, and gives its exit code and what it wrote to standard error.
    pub(crate) fn end(self) -> (Option<i32>, String) {
        self.end_by("TERM")
    }

    fn end_by(mut self, name: &str) -> (Option<i32>, String) {
        signal(name, self.child.id());
        let text = self.errors();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if is_mounted(&self.directory) {
            let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
        }
    }
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&step()[..4]);
    }
    bytes.truncate(length);
    bytes
}

/// The project, with large files and odd names.
fn odd_project(place: &Place) {
    let project = place.path("project");
    fs::write(project.join("large.bin"), noise(LARGE, 1)).unwrap();
    fs::write(project.join("large.txt"), "all the same\n".repeat(LARGE / 13 + 1)).unwrap();
    fs::write(project.join("again.bin"), noise(LARGE, 1)).unwrap();
    fs::write(project.join("middle.bin"), noise(700_001, 2)).unwrap();
    fs::write(project.join("a\nb\x1b[31m \u{e4}\u{202e}"), "odd\n").unwrap();
    fs::create_dir_all(project.join("docs.d/deep/er")).unwrap();
    fs::write(project.join("docs.d/deep/er/file"), "deep\n").unwrap();
    fs::set_permissions(project.join("docs.d/deep/er/file"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("/etc/passwd", project.join("outside")).unwrap();
    symlink("../../../nowhere", project.join("docs/up")).unwrap();
}

/// Everything below a directory: path, kind and mode without the right to write, time, content or target.
fn tree(root: &Path) -> Vec<(PathBuf, u32, Option<i64>, Vec<u8>)> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let (mut mode, mut time) = (meta.mode() & !0o222, Some(meta.mtime() * 1_000_000_000 + meta.mtime_nsec()));
            let content = if meta.is_symlink() {
                (mode, time) = (0, None);
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else if meta.is_dir() {
                open.push(path.clone());
                // Archives have none for directories that hold something.
                if fs::read_dir(&path).unwrap().next().is_some() {
                    (mode, time) = (1, None);
                }
                Vec::new()
            } else {
                let content = fs::read(&path).unwrap();
                assert_eq!(meta.len(), content.len() as u64, "{}", path.display());
                content
            };
            found.push((path.strip_prefix(root).unwrap().to_owned(), mode, time, content));
        }
    }
    found.sort();
    found
}

/// A line to the server of `place` that counts, and on which things can go wrong.
pub(crate) fn line_to(place: &Place, rules: Vec<Rule>) -> ProxyHandle {
    let options = ProxyOptions { shape: Shape::default(), faults: Faults::script(rules), gate: Gate::default() };
    Proxy::start(place.host().parse().unwrap(), options).unwrap()
}

fn errno(error: &std::io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

#[test]
fn a_mount_is_the_tree_that_was_pushed() {
    if !can_mount() {
        return;
    }
    let place = Place::served();
    odd_project(&place);
    place.run("push -q oci:layout:v1 project").success();
    place.run("push -q HOST/team/project:v1 project").success();
    let expected = tree(&place.path("project"));
    // Who began the tests may have told them to ignore that the terminal is gone, and then mounts ignore it too.
    let ignored = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = ignored
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap()
        .trim()
        .ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']);
    let gone = if ignored { "TERM" } else { "HUP" };
    for (archive, name) in
        [("oci:layout:v1", "INT"), ("HOST/team/project:v1", gone), ("--no-cache HOST/team/project:v1", "TERM")]
    {
        let mount = Mount::of(&place, archive);
        assert_eq!(tree(&mount.directory), expected, "{archive}");
        let root = fs::metadata(&mount.directory).unwrap();
        let owner = fs::metadata("/proc/self").unwrap();
        assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (owner.uid(), owner.gid(), 0o555));
        // Numbers are the same whenever somebody looks, and of one thing each.
        let inode = |path: &str| fs::metadata(mount.path(path)).unwrap().ino();
        assert_eq!(inode("docs.d/deep/er"), inode("docs.d/../docs.d/deep/er"));
        assert_ne!(inode("large.bin"), inode("again.bin"));
        assert_eq!(inode("docs/.."), root.ino());
        assert_eq!(mount.end_by(name), (Some(0), String::new()), "{archive}");
        assert!(!is_mounted(&place.path("mnt")));
    }
}

#[test]
fn many_read_at_once_and_anywhere() {
    if !can_mount() {
        return;
    }
    let place = Place::served();
    odd_project(&place);
    place.run("push -q HOST/team/project:v1 project").success();
    let proxy = line_to(&place, Vec::new());
    let mount = Mount::of(&place, &format!("--no-cache {}/team/project:v1", proxy.addr()));
    let opening = proxy.requests().len();
    let names = ["large.bin", "large.txt", "middle.bin", "config/app.yaml"];
    std::thread::scope(|scope| {
        for reader in 0..8_u64 {
            let (mount, place) = (&mount, &place);
            scope.spawn(move || {
                for (turn, name) in names.iter().cycle().skip(reader as usize).take(40).enumerate() {
                    let expected = fs::read(place.path("project").join(name)).unwrap();
                    let file = File::open(mount.path(name)).unwrap();
                    let at = (reader + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(turn as u32) as usize;
                    let start = at % expected.len();
                    let mut got = vec![0; (1 + at % 70_000).min(expected.len() - start)];
                    file.read_exact_at(&mut got, start as u64).unwrap();
                    assert!(got == expected[start..start + got.len()], "{name} at {start}");
                    assert_eq!(file.read_at(&mut [0; 10], expected.len() as u64).unwrap(), 0, "behind its end");
                }
            });
        }
    });
    // Each file was fetched once, whoever wanted it and whatever part of it.
    let data = &proxy.requests()[opening..];
    assert!(data.len() <= names.len(), "{data:#?}");
}

#[test]
fn programs_run_from_a_mount() {
    if !can_mount() {
        return;
    }
    let place = Place::offline();
    // The loader maps it to memory.
    fs::copy("/bin/sh", place.path("project/sh")).unwrap();
    place.run("push -q oci:layout:v1 project").success();
    let mount = Mount::of(&place, "oci:layout:v1");
    let output = Command::new(mount.path("sh")).args(["-c", "echo hello"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n", "{output:?}");
    let output = Command::new(mount.path("run.sh")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n", "{output:?}");
}

#[test]
fn nothing_can_be_written() {
    if !can_mount() {
        return;
    }
    let place = Place::laid_out();
    let mount = Mount::of(&place, "oci:layout:v1");
    let path = mount.path("README.md");
    let attempts = [
        File::create(mount.path("new")).map(drop),
        File::options().write(true).open(&path).map(drop),
        File::options().append(true).open(&path).map(drop),
        fs::remove_file(&path),
        fs::rename(&path, mount.path("other")),
        fs::create_dir(mount.path("dir")),
        fs::remove_dir(mount.path("empty")),
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)),
        symlink("a", mount.path("link")),
    ];
    for (at, attempt) in attempts.into_iter().enumerate() {
        assert_eq!(attempt.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem, "attempt {at}");
    }
    assert_eq!(fs::read_to_string(path).unwrap(), "# Sample\n");
}

#[test]
fn attributes_say_which_content_it_is() {
    if !can_mount() {
        return;
    }
    let place = Place::laid_out();
    let mount = Mount::of(&place, "-o json oci:layout:v1");
    crate::schema::check("mount", &mount.said);
    let told: serde_json::Value = serde_json::from_str(&mount.said).unwrap();
    assert_eq!(told["directory"], mount.directory.to_str().unwrap());
    assert_eq!(told["verified"], false);
    let attribute = |path: &str, name: &str| {
        let mut value = vec![0; 200];
        let length = rustix::fs::getxattr(mount.path(path), name, &mut value)?;
        value.truncate(length);
        Ok::<_, Errno>(String::from_utf8(value).unwrap())
    };
    assert_eq!(attribute("README.md", "user.blob.digest"), Ok(place.sha256(b"# Sample\n")));
    assert_eq!(attribute("", "user.blob.manifest").as_deref(), Ok(told["digest"].as_str().unwrap()));
    assert_eq!(attribute("docs", "user.blob.digest"), Err(Errno::NODATA));
    assert_eq!(attribute("README.md", "security.capability"), Err(Errno::NODATA));
    let listed = |path: &str| {
        let mut names = vec![0; 200];
        let length = rustix::fs::listxattr(mount.path(path), &mut names).unwrap();
        String::from_utf8(names[..length].to_vec()).unwrap()
    };
    assert_eq!((listed("README.md"), listed("")), ("user.blob.digest\0".into(), "user.blob.manifest\0".into()));
    assert_eq!(listed("docs"), "");
    let space = rustix::fs::statvfs(&mount.directory).unwrap();
    assert_eq!((space.f_bfree, space.f_bavail, space.f_namemax), (0, 0, 255));
    assert!(space.f_blocks > 0 && space.f_files > 7);
}

/// Changes the last byte of what is stored for a file.
fn damage(place: &Place, path: &str) {
    let stat = place.run(&format!("stat -o json oci:layout:v1 {path}")).success();
    let stat: serde_json::Value = serde_json::from_slice(&stat.get_output().stdout).unwrap();
    let at = stat["entries"][0]["data_offset"].as_u64().unwrap() + stat["entries"][0]["stored_size"].as_u64().unwrap();
    let inspected = place.run("inspect -o json oci:layout:v1").success();
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.get_output().stdout).unwrap();
    let digest = inspected["data"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let blob = File::options().read(true).write(true).open(place.path("layout/blobs/sha256").join(digest)).unwrap();
    let mut byte = [0];
    blob.read_exact_at(&mut byte, at - 1).unwrap();
    blob.write_all_at(&[!byte[0]], at - 1).unwrap();
}

#[test]
fn what_is_damaged_cannot_be_read() {
    if !can_mount() {
        return;
    }
    let place = Place::offline();
    odd_project(&place);
    fs::remove_file(place.path("project/again.bin")).unwrap();
    place.run("push -q oci:layout:v1 project").success();
    for path in ["large.bin", "middle.bin"] {
        damage(&place, path);
    }
    let mount = Mount::of(&place, "oci:layout:v1");
    for path in ["large.bin", "middle.bin"] {
        // It is there, and not a byte of it is given to anybody, though only its end is wrong.
        assert!(fs::metadata(mount.path(path)).unwrap().len() > 0);
        let file = File::open(mount.path(path)).unwrap();
        for _ in 0..2 {
            let error = file.read_at(&mut [0; 16], 0).unwrap_err();
            assert_eq!(errno(&error), Some(Errno::IO), "{path}");
        }
    }
    assert_eq!(
        fs::read(mount.path("config/app.yaml")).unwrap(),
        fs::read(place.path("project/config/app.yaml")).unwrap()
    );
    let (code, text) = mount.end();
    assert_eq!(code, Some(0));
    for path in ["large.bin", "middle.bin"] {
        assert!(text.contains(&format!("cannot read {path}: ")), "{text}");
    }
    assert!(text.contains("sha256:"), "{text}");
}

#[test]
fn policies_decide_before_anything_is_mounted() {
    if !can_mount() {
        return;
    }
    let place = Place::pushed();
    let run = |line: &str| place.assert(place.command(line).env("BLOB_KEY_PASSWORD", "secret"));
    run("generate-key-pair k").success();
    run("generate-key-pair other").success();
    fs::create_dir(place.path("mnt")).unwrap();
    let refused = |line: &str| {
        let text = stderr(&place.run(line).code(6).stdout_eq(""));
        assert!(!is_mounted(&place.path("mnt")), "{text}");
        text
    };
    let text = refused("mount --require-signed HOST/team/project:v1 mnt");
    assert!(text.contains("not verified"), "{text}");
    run("sign --key k.key HOST/team/project:v1").success();
    refused("mount --key other.pub --insecure-ignore-tlog HOST/team/project:v1 mnt");
    let mut mount = Mount::of(&place, "-o json --key k.pub --insecure-ignore-tlog HOST/team/project:v1");
    assert!(mount.said.contains("\"verified\":true"), "{}", mount.said);
    assert_eq!(fs::read_to_string(mount.path("README.md")).unwrap(), "# Sample\n");
    // Whoever unmounts it ends it.
    assert!(Command::new("umount").arg(&mount.directory).status().unwrap().success());
    assert_eq!(mount.child.wait().unwrap().code(), Some(0), "{}", mount.errors());
    assert!(!is_mounted(&place.path("mnt")));
}

#[test]
fn what_was_read_once_is_read_offline() {
    if !can_mount() {
        return;
    }
    let mut place = Place::served();
    odd_project(&place);
    place.run("push -q HOST/team/project:v1 project").success();
    let proxy = line_to(&place, Vec::new());
    let archive = format!("{}/team/project:v1", proxy.addr());
    let read = ["large.bin", "middle.bin", "README.md"];
    let expected = read.map(|name| fs::read(place.path("project").join(name)).unwrap());
    let mount = Mount::of(&place, &archive);
    assert!(read.map(|name| fs::read(mount.path(name)).unwrap()) == expected);
    let before = proxy.take().len();
    assert!(before > 0);
    // The kernel has it now.
    assert!(read.map(|name| fs::read(mount.path(name)).unwrap()) == expected);
    assert_eq!(proxy.take().len(), 0);
    assert_eq!(mount.end(), (Some(0), String::new()));
    // What is on disk outlives the mount, and nothing else does.
    let mount = Mount::of(&place, &archive);
    assert!(read.map(|name| fs::read(mount.path(name)).unwrap()) == expected);
    assert_eq!(proxy.take().len(), 0);
    assert_eq!(mount.end().0, Some(0));
    place.stop_server();
    let mount = Mount::of(&place, &format!("--offline {archive}"));
    assert!(read.map(|name| fs::read(mount.path(name)).unwrap()) == expected);
    let error = fs::read(mount.path("large.txt")).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::IO));
    let (code, text) = mount.end();
    assert_eq!(code, Some(0));
    assert!(text.contains("cannot read large.txt: "), "{text}");
    let left: Vec<String> = place.listing("home/.cache/blob").into_iter().filter(|name| name.contains("tmp")).collect();
    assert!(left.iter().all(|name| name.ends_with('/')), "{left:?}");
}

#[test]
fn a_registry_that_hangs_holds_up_those_alone_who_want_its_bytes() {
    if !can_mount() {
        return;
    }
    let place = Place::served();
    odd_project(&place);
    place.run("push -q HOST/team/project:v1 project").success();
    let latch = Latch::new();
    let proxy = line_to(&place, vec![Rule::every("/blobs/", Action::Hold(latch.clone()))]);
    let mount = Mount::of(&place, &format!("{}/team/project:v1", proxy.addr()));
    let opening = proxy.requests().len();
    std::thread::scope(|scope| {
        // Also if something below fails: those who wait would wait for ever.
        let opened = Opened(latch);
        let waiting = ["large.bin", "middle.bin", "README.md"].map(|name| {
            let path = mount.path(name);
            scope.spawn(move || fs::read(path).unwrap())
        });
        // Requests are recorded as they come.
        eventually("a request", || proxy.requests().len() > opening);
        assert_eq!(fs::metadata(mount.path("config/app.yaml")).unwrap().len(), 56);
        assert_eq!(fs::read_dir(mount.path("docs")).unwrap().count(), 3);
        assert_eq!(fs::read_link(mount.path("settings")).unwrap(), Path::new("config/app.yaml"));
        assert!(waiting.iter().all(|thread| !thread.is_finished()));
        drop(opened);
        for (thread, name) in waiting.into_iter().zip(["large.bin", "middle.bin", "README.md"]) {
            assert!(thread.join().unwrap() == fs::read(place.path("project").join(name)).unwrap(), "{name}");
        }
    });
}

/// Opens a latch when it goes.
struct Opened(Latch);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[test]
fn who_waits_for_bytes_does_not_keep_the_mount_from_ending() {
    if !can_mount() {
        return;
    }
    let place = Place::served();
    odd_project(&place);
    place.run("push -q HOST/team/project:v1 project").success();
    let latch = Latch::new();
    let proxy = line_to(&place, vec![Rule::every("/blobs/", Action::Hold(latch.clone()))]);
    let mut mount = Mount::of(&place, &format!("{}/team/project:v1", proxy.addr()));
    let (path, opening, latch) = (mount.path("large.bin"), proxy.requests().len(), Opened(latch));
    let reader = std::thread::spawn(move || fs::read(path).map(|content| content.len()));
    eventually("a request", || proxy.requests().len() > opening);
    signal("TERM", mount.child.id());
    eventually("the mount is gone", || !is_mounted(&mount.directory));
    // It is in use; a second signal does not wait for that.
    signal("TERM", mount.child.id());
    assert_eq!(mount.child.wait().unwrap().code(), Some(0));
    assert!(reader.join().unwrap().is_err());
    drop(latch);
}

#[test]
fn who_has_a_file_open_is_served_when_the_directory_is_free_again() {
    if !can_mount() {
        return;
    }
    let place = Place::offline();
    odd_project(&place);
    place.run("push -q oci:layout:v1 project").success();
    let mut mount = Mount::of(&place, "oci:layout:v1");
    let file = File::open(mount.path("middle.bin")).unwrap();
    signal("INT", mount.child.id());
    eventually("the mount is gone", || !is_mounted(&mount.directory));
    assert_eq!(fs::read_dir(&mount.directory).unwrap().count(), 0);
    let mut content = Vec::new();
    (&file).read_to_end(&mut content).unwrap();
    assert!(content == noise(700_001, 2));
    drop(file);
    assert_eq!(mount.child.wait().unwrap().code(), Some(0));
    let text = mount.errors();
    assert!(text.contains("is unmounted, and still in use"), "{text}");
}

#[test]
fn a_mount_whose_program_was_killed_says_what_to_do() {
    if !can_mount() {
        return;
    }
    let place = Place::laid_out();
    let mut mount = Mount::of(&place, "oci:layout:v1");
    let text = stderr(&place.run("mount oci:layout:v1 mnt").code(2));
    assert!(text.contains("mnt has oci:layout:v1 mounted on it already"), "{text}");
    mount.child.kill().unwrap();
    mount.child.wait().unwrap();
    let text = stderr(&place.run("mount oci:layout:v1 mnt").code(2));
    assert!(text.contains("mnt is still mounted, by a program that is gone"), "{text}");
    assert!(text.contains("hint: `fusermount3 -u mnt` clears it"), "{text}");
    assert!(Command::new("umount").arg(&mount.directory).status().unwrap().success());
    drop(mount);
    Mount::of(&place, "oci:layout:v1");
}

/// Runs a mount with a command, whose words are separate.
fn with_command(place: &Place, line: &str, words: &[&str]) -> Output {
    let mut command = place.command(line);
    command.arg("--").args(words).output().unwrap()
}

#[test]
fn a_command_runs_while_it_is_mounted() {
    if !can_mount() {
        return;
    }
    let place = Place::laid_out();
    fs::create_dir(place.path("mnt")).unwrap();
    let run = |words: &[&str]| with_command(&place, "mount oci:layout:v1 mnt", words);
    let output = run(&["sh", "-c", "cat mnt/README.md; exit 7"]);
    assert_eq!((output.status.code(), &output.stdout[..], &output.stderr[..]), (Some(7), &b"# Sample\n"[..], &b""[..]));
    assert_eq!(run(&["true"]).status.code(), Some(0));
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let output = run(&["no-such-program"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: running no-such-program: "), "{output:?}");
    assert_eq!(run(&["./project/README.md"]).status.code(), Some(126));
    // Whoever terminates us means the command.
    let mut command = place.command("mount oci:layout:v1 mnt -- sleep 1000");
    let mut child = command.spawn().unwrap();
    eventually("it is mounted", || is_mounted(&place.path("mnt")));
    eventually("it runs", || has_child(child.id()));
    signal("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!is_mounted(&place.path("mnt")));
}

fn has_child(parent: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    // Which thread started it is not known.
    !children.is_empty()
        || fs::read_dir(format!("/proc/{parent}/task")).unwrap().any(|task| {
            fs::read_to_string(task.unwrap().path().join("children")).is_ok_and(|children| !children.trim().is_empty())
        })
}

#[test]
fn what_does_not_fit_on_disk_cannot_be_read() {
    if !can_mount() {
        return;
    }
    let place = Place::offline();
    odd_project(&place);
    place.run("push -q oci:layout:v1 project").success();
    let mount = Mount::of(&place, "--spool-size 1M oci:layout:v1");
    let error = fs::read(mount.path("large.bin")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read(mount.path("middle.bin")).unwrap().len(), 700_001);
    let (code, text) = mount.end();
    assert_eq!(code, Some(0));
    assert!(text.contains(&format!("it has {LARGE} bytes, and --spool-size allows {}", 1 << 20)), "{text}");
    // Of two that do not fit together, each makes room for the other.
    let mount = Mount::of(&place, "--spool-size 10M --spool-dir project oci:layout:v1");
    for name in ["large.bin", "large.txt", "large.bin"] {
        assert_eq!(fs::read(mount.path(name)).unwrap(), fs::read(place.path("project").join(name)).unwrap());
    }
    let text = stderr(&place.run("mount --spool-dir nowhere oci:layout:v1 empty").code(2));
    assert!(text.contains("does not exist"), "{text}");
}

/// An archive with these names, whose files hold the bytes of their own names, as `oci:layout:odd`.
fn push_names(place: &Place, names: &[Vec<u8>]) {
    let mut builder = IndexBuilder::new();
    let mut data = Vec::new();
    for name in names {
        builder.file(NewFile {
            path: ArchivePath::new(name).unwrap(),
            data_offset: data.len() as u64,
            data_size: name.len() as u64,
            original_size: name.len() as u64,
            hash: *Digest::sha256_of(name).as_bytes().first_chunk().unwrap(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: -1_500_000_000,
            compression: Compression::None,
        });
        data.extend_from_slice(name);
    }
    let index = builder.finish(data.len() as u64, &Digest::sha256_of(&data)).unwrap();
    let archive = Archive::open(Arc::new(index), Arc::new(MemorySource::new(data)), ReadOptions::default()).unwrap();
    let location: Location = format!("oci:{}:odd", place.path("layout").display()).parse().unwrap();
    let client = Client::builder().build().unwrap();
    let (runtime, options) = (tokio::runtime::Runtime::new().unwrap(), PushOptions::default());
    runtime.block_on(client.push_archive(&location, &archive, &options)).unwrap();
}

#[test]
fn names_that_no_directory_can_have_are_left_out() {
    if !can_mount() {
        return;
    }
    let place = Place::bare();
    let (longest, longer) = ("n".repeat(255), "n".repeat(256));
    let names =
        [longest.clone(), longer.clone(), format!("{longer}/below"), format!("dir/{longer}/a/b"), "dir/z".into()];
    // A file and a directory cannot have one name.
    let names: Vec<Vec<u8>> = names.into_iter().filter(|name| *name != longer).map(String::into_bytes).collect();
    push_names(&place, &names);
    let mount = Mount::of(&place, "oci:layout:odd");
    let listed = |path: &str| -> Vec<String> {
        let names = fs::read_dir(mount.path(path)).unwrap();
        let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!((listed(""), listed("dir")), (vec!["dir".to_owned(), longest.clone()], vec!["z".to_owned()]));
    assert_eq!(fs::read_to_string(mount.path(&longest)).unwrap(), longest);
    assert_eq!(errno(&fs::metadata(mount.path(&longer)).unwrap_err()), Some(Errno::NAMETOOLONG));
    assert_eq!(fs::metadata(mount.path("dir/z")).unwrap().mtime(), -2, "a second and a half before 1970");
    let (_, text) = mount.end();
    assert!(text.contains("left out: 2 of the archive's paths"), "{text}");
}

#[test]
fn large_directories_are_listed_whole() {
    if !can_mount() {
        return;
    }
    let place = Place::bare();
    let mut names: Vec<Vec<u8>> = (0..20_000).map(|number| format!("many/file-{number:05}").into_bytes()).collect();
    names.extend((0..500).map(|number| format!("dirs/{number}/x").into_bytes()));
    push_names(&place, &names);
    let mount = Mount::of(&place, "oci:layout:odd");
    for _ in 0..2 {
        assert_eq!(fs::read_dir(mount.path("many")).unwrap().count(), 20_000);
        assert_eq!(fs::read_dir(mount.path("dirs")).unwrap().count(), 500);
    }
    let all = Command::new("find").arg(&mount.directory).args(["-type", "f", "-size", "-100c"]).output().unwrap();
    assert_eq!(String::from_utf8(all.stdout).unwrap().lines().count(), names.len());
    assert_eq!(fs::read_to_string(mount.path("many/file-19999")).unwrap(), "many/file-19999");
}

/// What a plain user does, in a mount namespace where anybody may open the device, as on most systems.
fn as_nobody(place: &Place, script: &str) -> Output {
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c"]).arg(format!(
        "set -e; test -e device || mknod device c 10 229; chmod 666 device; mount --bind device /dev/fuse
        nobody='{nobody}'; blob='{BLOB}'
        blob() {{ $nobody $blob \"$@\"; }}
        mounted() {{ grep -q \" $(pwd)/mnt \" /proc/self/mountinfo; }}
        {script}"
    ));
    place.isolate(&mut shell);
    shell.output().unwrap()
}

#[test]
fn plain_users_mount_by_the_helper() {
    if !can_mount() || !is_root() {
        return;
    }
    let place = Place::laid_out();
    fs::create_dir(place.path("mnt")).unwrap();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(place.root.path()).status().unwrap();
    assert!(owned.success());
    // Welcome, and not needed: root can do without it.
    let has_rights = |helper: PathBuf| fs::metadata(helper).is_ok_and(|meta| meta.mode() & 0o4000 != 0);
    let helper = find("fusermount3").is_some_and(has_rights) && find("setpriv").is_some();
    if !helper || !as_nobody(&place, "blob --version").status.success() {
        let message =
            "NOT RUN: plain_users_mount_by_the_helper needs fusermount3 (Debian package fuse3), setpriv and unshare\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes());
        return;
    }
    let output = as_nobody(&place, "blob mount oci:layout:v1 mnt -- cat mnt/README.md; mounted && exit 9; exit 0");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"# Sample\n"[..]), "{output:?}");
    // Somebody stands in it when it is to end.
    let output = as_nobody(
        &place,
        "$nobody $blob mount -q oci:layout:v1 mnt & mount=$!
        until mounted; do sleep 0.05; done
        $nobody sh -c 'exec < mnt/README.md; touch in; while [ -e in ]; do sleep 0.05; done; cat' & user=$!
        until [ -e in ]; do sleep 0.05; done
        kill -TERM $mount
        while mounted; do sleep 0.05; done
        rm in; wait $user; wait $mount",
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"# Sample\n"[..]), "{text}");
    assert!(text.contains("is unmounted, and still in use"), "{text}");
    // Others are let in only where root allows it.
    if !fs::read_to_string("/etc/fuse.conf").is_ok_and(|text| text.lines().any(|line| line == "user_allow_other")) {
        let output = as_nobody(&place, "blob mount --allow-other oci:layout:v1 mnt -- true");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("hint: root allows --allow-other"), "{text}");
    }
    // Where the device is for root alone, that is said.
    let output = as_nobody(&place, "chmod 600 device; blob mount oci:layout:v1 mnt -- true");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("hint: /dev/fuse is for root alone"), "{text}");
}
