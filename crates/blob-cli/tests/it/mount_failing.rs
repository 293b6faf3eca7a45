//! Reads of a mount that fail: whoever asks again is told so without another try, for a while.

use std::fs;
use std::io::ErrorKind;

use blob_testkit::proxy::{Action, ProxyHandle, Rule};

use crate::mount::{Mount, can_mount, line_to};
use crate::support::Place;

/// A large file and a small one as `HOST/team/files:v1`, and a line to it on which `action` happens to every blob.
fn place(action: Action) -> (Place, ProxyHandle) {
    let place = Place::served();
    fs::create_dir(place.path("files")).unwrap();
    fs::write(place.path("files/large"), vec![7; 9 << 20]).unwrap();
    fs::write(place.path("files/small"), vec![8; 100_000]).unwrap();
    place.run("push -q -c none HOST/team/files:v1 files").success();
    let line = line_to(&place, vec![Rule::every("/blobs/", action)]);
    (place, line)
}

#[test]
fn damaged_content_is_fetched_and_told_once() {
    if !can_mount() {
        return;
    }
    let (place, line) = place(Action::Flip(50_000));
    let mount = Mount::of(&place, &format!("{}/team/files:v1 --no-cache", line.addr()));
    drop(line.take());
    for name in ["large", "small"] {
        let size = fs::metadata(place.path("files").join(name)).unwrap().len();
        // The kernel asks again by itself, as it read ahead; then people do.
        for _ in 0..3 {
            assert!(fs::read(mount.path(name)).is_err(), "{name}");
        }
        let fetched: u64 = line.take().iter().map(|request| request.bytes_down).sum();
        assert!(fetched < size * 3 / 2, "{fetched} bytes were fetched for {size}");
    }
    let (_, text) = mount.end();
    for name in ["large", "small"] {
        assert_eq!(text.matches(&format!("cannot read {name}: ")).count(), 1, "{text}");
    }
}

#[test]
fn a_registry_that_comes_back_is_asked_again() {
    if !can_mount() {
        return;
    }
    let place = Place::served();
    fs::create_dir(place.path("files")).unwrap();
    fs::write(place.path("files/small"), "back again").unwrap();
    place.run("push -q HOST/team/files:v1 files").success();
    let line = line_to(&place, vec![Rule::first("/blobs/", Action::Status(503))]);
    let mount = Mount::of(&place, &format!("{}/team/files:v1 --no-cache --retries 0", line.addr()));
    // However slow this is: what failed is believed for a while, and asked for again after that.
    let mut tries = 0;
    let content = loop {
        match fs::read_to_string(mount.path("small")) {
            Ok(content) => break content,
            Err(error) if error.kind() == ErrorKind::NotFound || tries > 600 => panic!("{error}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
        tries += 1;
    };
    assert_eq!(content, "back again");
    assert!(tries > 0, "the first one failed");
    let (_, text) = mount.end();
    assert_eq!(text.matches("cannot read small: ").count(), 1, "{text}");
}
