//! Interrupted commands: the exit code says so, and nothing of them stays.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

use blob_testkit::proxy::{Proxy, ProxyOptions};

use crate::support::{Place, Server, eventually, signal};

#[test]
fn a_command_that_waits_can_be_interrupted() {
    let place = Place::offline();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = format!("push {}/a/b:v1 project", silent.local_addr().unwrap());
        let mut child = place.command(&line).stderr(Stdio::piped()).spawn().unwrap();
        // It is at work when it has connected.
        let _connection = silent.accept().unwrap();
        signal(name, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
    }
}

#[test]
fn an_interrupted_pull_leaves_nothing_behind() {
    let place = Place::served();
    fs::write(place.path("project/large"), vec![7; 8 << 20]).unwrap();
    place.run("push -q -c none HOST/a/b:v1 project").success();
    let mut options = ProxyOptions::default();
    options.shape.bytes_per_second = Some(1 << 20);
    let proxy = Proxy::start(place.host().parse().unwrap(), options).unwrap();
    let files = || place.listing(".").into_iter().filter(|name| !name.starts_with("home/")).collect::<Vec<_>>();
    let before = files();
    let line = format!("pull {}/a/b:v1 out", proxy.addr());
    let mut child = place.command(&line).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    eventually("the beginning of the extraction", || files().len() > before.len());
    signal("INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(files(), before);
}

#[test]
fn whoever_asks_how_far_a_command_is_is_told_and_it_goes_on() {
    let place = Place::served();
    fs::write(place.path("project/large"), vec![7; 3 << 20]).unwrap();
    place.run("push -q -c none HOST/a/b:v1 project").success();
    place.run("cp -q HOST/a/b:v1:/README.md project/same").success();
    let files = || place.listing(".").into_iter().filter(|name| !name.starts_with("home/")).collect::<Vec<_>>();
    let before = files();
    for (line, stage) in [
        ("--no-cache -q pull SLOW/a/b:v1 out", "extracting: "),
        ("--no-cache --progress never export -f out.tar SLOW/a/b:v1", "exporting: "),
        ("--no-cache cat SLOW/a/b:v1 large", "fetching: "),
        ("--no-cache -o json check --read-data SLOW/a/b:v1", "checking: "),
        ("--no-cache --progress json -q pull SLOW/a/b:v1 out", "{\"progress\":{\"stage\":\"extracting\""),
    ] {
        let mut options = ProxyOptions::default();
        options.shape.bytes_per_second = Some(3 << 20);
        let proxy = Proxy::start(place.host().parse().unwrap(), options).unwrap();
        let line = line.replace("SLOW", &proxy.addr().to_string());
        let mut command = place.command(&line);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let moved = || proxy.requests().into_iter().map(|request| request.bytes_down).max().unwrap_or_default();
        eventually(&line, || moved() > 1 << 18 || child.try_wait().unwrap().is_some());
        signal("USR1", child.id());
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {told}");
        assert!(told.lines().any(|told| told.starts_with(stage)), "{line}: {told}");
        // What a command writes in large pieces it tells by what came.
        let pieces = ["exporting: ", "fetching: "].contains(&stage);
        assert!(!pieces || told.contains(" received"), "{line}: {told}");
        for made in ["out", "out.tar"] {
            let made = place.path(made);
            let _ = if made.is_dir() { fs::remove_dir_all(made) } else { fs::remove_file(made) };
        }
        assert_eq!(files(), before, "{line}");
    }
}

/// Commands that move data over `SLOW`, or to the empty registry at `FAR`: where blobs are, they are mounted.
const MOVERS: [&str; 7] = [
    "push -c none FAR/a/new:v1 project",
    "push -c none --from-tar FAR/a/new:v1 project.tar",
    "pull SLOW/a/b:v1 out",
    "copy SLOW/a/b:v1 oci:copied:v1",
    "copy HOST/a/b:v1 FAR/a/copied:v1",
    "export -f out.tar SLOW/a/b:v1",
    "cp SLOW/a/b:v1:/large SLOW/a/b:v1:/docs out/",
];

/// Whether a file belongs to a layout that was begun: whole blobs stay, and no tag points at them.
fn is_layout(file: &str) -> bool {
    let unfinished = |dir: &str| file.starts_with(dir) && file != dir;
    file.starts_with("copied/") && !unfinished("copied/.blob/tmp/") && !unfinished("copied/.blob/uploads/")
}

#[test]
fn whatever_moves_data_can_be_interrupted_and_leaves_nothing() {
    let (place, far) = (Place::served(), Place::served());
    fs::write(place.path("project/large"), vec![7; 1 << 20]).unwrap();
    fs::create_dir(place.path("tmp")).unwrap();
    place.run("push -q -c none HOST/a/b:v1 project").success();
    place.run("export -f project.tar HOST/a/b:v1").success();
    let files = || place.listing(".").into_iter().filter(|name| !name.starts_with("home/")).collect::<Vec<_>>();
    let before = files();
    for line in MOVERS {
        for (name, code) in [("INT", 130), ("TERM", 143)] {
            let mut options = ProxyOptions::default();
            options.shape.bytes_per_second = Some(1 << 15);
            let upstream = if line.contains("FAR") { far.host() } else { place.host() };
            let proxy = Proxy::start(upstream.parse().unwrap(), options).unwrap();
            // Nothing is remembered from the run before.
            let addr = proxy.addr().to_string();
            let line = line.replace("SLOW", &addr).replace("FAR", &addr);
            let mut command = place.command(&format!("--no-cache {line} --quiet"));
            command.env("TMPDIR", place.path("tmp")).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            // It is at work when more has come or gone than manifest and index have.
            let moved = |proxy: &blob_testkit::proxy::ProxyHandle| {
                let of_blobs = proxy.requests().into_iter().filter(|request| request.path.contains("/blobs/"));
                of_blobs.map(|request| request.bytes_up.max(request.bytes_down)).max().unwrap_or_default()
            };
            eventually(&line, || moved(&proxy) > 1 << 13 || child.try_wait().unwrap().is_some());
            signal(name, child.id());
            assert_eq!(child.wait().unwrap().code(), Some(code), "{line}");
            let mut now = files();
            now.retain(|file| !is_layout(file));
            assert_eq!(now, before, "{line}");
            let _ = fs::remove_dir_all(place.path("copied"));
        }
    }
    // No tag points at what was not pushed.
    for repository in ["new", "copied"] {
        far.run(&format!("ls HOST/a/{repository}:v1")).code(3);
    }
}

#[test]
fn a_command_that_has_hardly_begun_is_not_ended_by_a_question() {
    let place = Place::laid_out();
    let patterns = place.path("patterns");
    assert!(std::process::Command::new("mkfifo").arg(&patterns).status().unwrap().success());
    let mut command = place.command("ls --exclude-from patterns oci:layout:v1");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opened when the command reads what was typed, which is before it listens to anything.
    let writer = fs::File::options().write(true).open(&patterns).unwrap();
    signal("USR1", child.id());
    drop(writer);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(0), false), "{said}");
}

#[test]
fn a_writer_whose_reader_sleeps_can_be_interrupted() {
    let place = Place::offline();
    fs::write(place.path("project/large"), vec![7; 4 << 20]).unwrap();
    place.run("push -q oci:layout:v1 project").success();
    // Nobody reads the pipe, which is soon full.
    let mut command = place.command("cat oci:layout:v1 large large large large");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(child.try_wait().unwrap(), None, "the pipe took everything");
    signal("INT", child.id());
    let stuck = child.stdout.take();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stuck);
}

#[test]
fn a_server_ends_well_when_it_is_asked_to() {
    for name in ["INT", "TERM"] {
        let server = Server::start(&[]);
        // To be asked how it is ends nothing.
        signal("USR1", server.id());
        signal(name, server.id());
        assert_eq!(server.wait(), Some(0), "{name}");
    }
}

#[test]
fn a_server_keeps_its_directory_and_can_refuse_to_write() {
    let place = Place::offline();
    let root = place.path("registry");
    let root = root.to_str().unwrap();
    let server = Server::start(&["--root", root]);
    place.run(&format!("push -q --reproducible {}/team/project:v1 project", server.addr)).success();
    signal("TERM", server.id());
    assert_eq!(server.wait(), Some(0));
    let again = Server::start(&["--root", root, "--read-only"]);
    place.run(&format!("cat {}/team/project:v1 README.md", again.addr)).success().stdout_eq("# Sample\n");
    place.run(&format!("push {}/team/project:v2 project", again.addr)).failure();
    place.run(&format!("tags {}/team/project", again.addr)).success().stdout_eq("v1\n");
}

#[test]
fn an_address_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let place = Place::offline();
    let failed = place.run(&format!("serve --listen {address}")).code(1);
    let text = crate::support::stderr(&failed);
    assert!(text.starts_with(&format!("error: listening on {address}: Address already in use")), "{text}");
}
