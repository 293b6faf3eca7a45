//! Files that share their blocks with the cache, on a file system that can do it: Btrfs in a file, mounted in a namespace
//! that ends, and is unmounted, with the test.

use std::fs;
use std::process::Command;

use blob_testkit::peers::{find, require};

use crate::support::Place;

/// Root, and a kernel that mounts Btrfs from a file: everybody else is told that the test did not run.
fn can_mount(place: &Place) -> bool {
    if require("mkfs.btrfs (Debian package btrfs-progs)", find("mkfs.btrfs")).is_none() {
        return false;
    }
    fs::write(place.path("image"), "").unwrap();
    fs::File::options().write(true).open(place.path("image")).unwrap().set_len(256 << 20).unwrap();
    fs::create_dir(place.path("mnt")).unwrap();
    let made = Command::new("mkfs.btrfs").arg("--quiet").arg(place.path("image")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let mounted = within(place, "true").output().unwrap();
    if !mounted.status.success() {
        let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("NOT RUN: a test of reflinks needs to mount Btrfs: {why}\n").as_bytes(),
        );
    }
    mounted.status.success()
}

/// A shell that has the file system mounted.
fn within(place: &Place, script: &str) -> Command {
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-ec"]);
    shell.arg(format!("mount -o loop image mnt\n{script}"));
    place.isolate(&mut shell);
    shell
}

#[test]
fn a_pull_shares_blocks_with_the_cache_where_the_file_system_can() {
    let place = Place::served();
    let noise = (0..400_000_u64).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    fs::write(place.path("project/large"), noise.collect::<Vec<u8>>()).unwrap();
    place.run("push -q HOST/team/project:v1 project").success();
    if !can_mount(&place) {
        return;
    }
    let blob = env!("CARGO_BIN_EXE_blob");
    let pull = |to: &str, mode: &str| {
        let host = place.command("HOST").get_args().next().unwrap().to_string_lossy().into_owned();
        format!("{blob} --cache-dir mnt/cache pull -q {host}/team/project:v1 mnt/{to} --link-mode {mode}")
    };
    // The large file alone counts: small ones are kept beside their names, and not in blocks that could be shared.
    let script = format!(
        "{}\nsync -f mnt; {}\n{}\nsync -f mnt
        for tree in one two three; do cmp mnt/$tree/large project/large; cmp mnt/$tree/README.md project/README.md; done
        for tree in two three; do echo $tree $(filefrag -v mnt/$tree/large | grep -c shared || true); done
        printf edited | dd of=mnt/two/large conv=notrunc status=none; sync -f mnt
        {blob} --cache-dir mnt/cache cache verify
        {}\ncmp mnt/four/large project/large",
        pull("one", "copy"),
        pull("two", "reflink"),
        pull("three", "copy"),
        pull("four", "reflink"),
    );
    let done = within(&place, &script).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    let shared = |tree: &str| said.lines().find_map(|line| line.strip_prefix(tree)?.trim().parse::<u32>().ok());
    assert!(shared("two").is_some_and(|extents| extents > 0), "{said}");
    assert_eq!(shared("three"), Some(0), "a copy shares nothing: {said}");
    assert!(said.contains(": 0 damaged and dropped"), "an edited reflink damaged the cache: {said}");
}
