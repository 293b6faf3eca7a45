//! `pack`, `unpack` and `pair:DIR`: archives as files, and no registry.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Stdio;

use crate::support::{Place, eventually, signal, stderr, stdout};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../blob-core/tests/fixtures/go-archives");

fn spoil(path: &Path, at: u64) {
    let mut file = fs::File::options().read(true).write(true).open(path).unwrap();
    file.seek(std::io::SeekFrom::Start(at)).unwrap();
    file.write_all(b"?").unwrap();
}

#[test]
fn what_is_packed_comes_out_again() {
    let place = Place::offline();
    place.run("pack --reproducible project packed").success().stderr_eq("");
    assert_eq!(place.listing("packed"), ["data.blob", "index.blob", "manifest.json"]);
    place.run("unpack --require-manifest packed out").success();
    assert_eq!(place.listing("out"), place.listing("project"));
    place.run("diff --metadata pair:packed out").success().stdout_eq("");
    // It is the archive that a push makes, and a copy pushes it.
    place.run("push -q --reproducible oci:layout:v1 project").success();
    let digest = |of: &str| stdout(&place.run(&format!("inspect --format {{{{.digest}}}} {of}")));
    assert_eq!(digest("pair:packed"), digest("oci:layout:v1"));
    assert_eq!(digest("pair:packed"), place.sha256(&fs::read(place.path("packed/manifest.json")).unwrap()) + "\n");
    place.run("copy -q pair:packed oci:other:v1").success();
    assert_eq!(digest("oci:other:v1"), digest("pair:packed"));
    // Whatever reads archives reads it.
    place.run("cat pair:packed README.md").success().stdout_eq("# Sample\n");
    place.run("cp -q pair:packed:/docs/guide.md copied.md").success();
    place.run("check -q --read-data pair:packed").success();
    place.run("tags pair:packed").success().stdout_eq("latest\n");
    place.run(&format!("ls -q pair:packed@{}", digest("pair:packed").trim())).success();
    place.run(&format!("ls pair:packed@sha256:{}", "0".repeat(64))).code(3);
}

#[test]
fn a_plan_is_what_is_done_and_nothing_is_replaced_unasked() {
    let place = Place::offline();
    let packed = |options: &str| stdout(&place.run(&format!("pack --reproducible {options} project packed")).success());
    let planned = packed("--dry-run");
    assert!(!place.path("packed").exists());
    assert_eq!(packed("--jobs 2"), planned.replace("Would pack", "Packed"));
    let before = fs::read(place.path("packed/index.blob")).unwrap();
    fs::write(place.path("project/new"), "new\n").unwrap();
    for line in ["pack project packed", "pack --dry-run project packed"] {
        let refused = stderr(&place.run(line).code(1));
        assert!(refused.contains("index.blob, data.blob, manifest.json exist in packed already"), "{refused}");
    }
    assert_eq!(fs::read(place.path("packed/index.blob")).unwrap(), before);
    place.run("pack -q --overwrite project packed").success();
    place.run("diff pair:packed project").success();
    // Packed into what is packed, it is no part of itself, the first time and later.
    place.run("pack -q --reproducible project project/own/pair").success();
    let first = fs::read(place.path("project/own/pair/manifest.json")).unwrap();
    place.run("pack -q --reproducible -f project project/own/pair").success();
    assert_eq!(fs::read(place.path("project/own/pair/manifest.json")).unwrap(), first);
    let listed = stdout(&place.run("find pair:project/own/pair"));
    assert!(!listed.contains("pair"), "{listed}");
}

#[test]
fn what_cannot_be_packed_leaves_nothing() {
    let place = Place::offline();
    for (line, code, said) in [
        ("pack nowhere packed", 3, "source path does not exist: nowhere"),
        ("pack project/README.md packed", 2, "source path is not a directory"),
        ("pack project project/README.md", 1, "not a directory"),
        ("pack --include none.such project packed", 1, "nothing of project"),
        ("pack --symlinks error project packed", 1, "settings is a symbolic link"),
        ("pack --max-files 1 project packed", 1, "more than 1"),
        ("push pair:packed project", 2, "`blob pack DIR OUTDIR` makes one"),
        ("push --dry-run pair:packed project", 2, "`blob pack DIR OUTDIR` makes one"),
        ("unpack nowhere out", 3, "there is no directory nowhere"),
        ("unpack project out", 3, "it has no file index.blob"),
        ("ls pair:", 2, "pair: names no directory, as in pair:DIR"),
        ("alias add pair localhost:5000/x", 2, "pair: for pairs of files"),
    ] {
        let refused = stderr(&place.run(line).code(code));
        assert!(refused.contains(said), "{line}: {refused}");
        assert!(!place.path("packed").exists() && !place.path("out").exists(), "{line}");
    }
    place.run("pack -q project packed").success();
    for line in ["tag pair:packed x", "rm --yes pair:packed", "sign --dry-run --key k pair:packed"] {
        let refused = stderr(&place.run(line).code(1));
        assert!(refused.contains("holds one archive, and nothing else"), "{line}: {refused}");
    }
    place.run("copy pair:packed pair:packed").code(2);
}

#[test]
fn nothing_stays_of_a_pack_that_is_interrupted() {
    let place = Place::offline();
    let content: Vec<u8> = (0..8_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for number in 0..8 {
        fs::write(place.path(format!("project/{number}")), &content[number..]).unwrap();
    }
    let mut command = place.command("pack --level 19 project packed");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually("the beginning of the archive", || place.path("packed").exists());
    signal("INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!place.path("packed").exists(), "{:?}", place.listing("packed"));
}

#[test]
fn pairs_of_other_programs_are_read_and_said_to_have_no_manifest() {
    let place = Place::offline();
    for (name, count) in
        [("basic-none", 2), ("empty", 0), ("sizes-zstd", 16), ("unsorted-none", 6), ("nonutf8-name", 5)]
    {
        let text = stdout(&place.run(&format!("unpack {FIXTURES}/{name} {name}")).success());
        assert!(text.contains(&format!("\n  Files: {count}\n")) && text.contains("\n  Manifest: none"), "{text}");
        let json = stdout(&place.run(&format!("-o json unpack --overwrite {FIXTURES}/{name} {name}")).success());
        assert!(json.contains("\"manifest\": false"), "{json}");
        let out = place.path(format!("refused-{name}"));
        place.run(&format!("unpack --require-manifest {FIXTURES}/{name} {}", out.display())).code(6);
        place.run(&format!("--require-signed unpack {FIXTURES}/{name} {}", out.display())).code(6);
        assert!(!out.exists());
    }
}

#[test]
fn damage_is_found_wherever_it_is() {
    let place = Place::offline();
    for (name, at) in [("index.blob", 100), ("data.blob", 1), ("manifest.json", 300)] {
        place.run("pack -q -f -c none project packed").success();
        spoil(&place.path("packed").join(name), at);
        let failed = place.run("unpack packed out");
        let code = failed.get_output().status.code();
        assert!(code == Some(7) || (name == "manifest.json" && code == Some(1)), "{name}: {code:?}");
        assert!(!place.path("out").exists(), "{name}");
    }
    place.run("pack -q -f project packed").success();
    let data = fs::File::options().write(true).open(place.path("packed/data.blob")).unwrap();
    data.set_len(3).unwrap();
    place.run("unpack packed out").code(7);
    // Another archive's manifest does not fit.
    place.run("pack -q --exclude docs project other").success();
    place.run("pack -q -f project packed").success();
    fs::copy(place.path("other/manifest.json"), place.path("packed/manifest.json")).unwrap();
    place.run("unpack packed out").code(7);
}

#[test]
fn pairs_that_are_made_at_once_do_not_mix() {
    let place = Place::offline();
    for number in 0..4 {
        fs::create_dir(place.path(format!("s{number}"))).unwrap();
        fs::write(place.path(format!("s{number}/file")), format!("content {number}")).unwrap();
    }
    for (round, options) in
        ["--level=3", "--overwrite", "--level=3", "--overwrite", "--level=3", "--overwrite"].into_iter().enumerate()
    {
        let codes: Vec<Option<i32>> = std::thread::scope(|scope| {
            let pack = |number: usize| {
                let mut command = place.command(&format!("pack -q {options} s{number} pair{round}"));
                scope.spawn(move || command.output().unwrap().status.code())
            };
            let running: Vec<_> = (0..4).map(pack).collect();
            running.into_iter().map(|running| running.join().unwrap()).collect()
        });
        let done = codes.iter().filter(|code| **code == Some(0)).count();
        assert_eq!(done, if options == "--overwrite" { 4 } else { 1 }, "{codes:?}");
        place.run(&format!("check --read-data pair:pair{round}")).success();
        assert_eq!(place.listing(&format!("pair{round}")), ["data.blob", "index.blob", "manifest.json"]);
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_keeps_nobody_waiting() {
    let place = Place::offline();
    place.run("pack -q project pair").success();
    for name in ["data.blob", "index.blob", "manifest.json"] {
        let file = place.path("pair").join(name);
        let content = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        let refused = stderr(&place.run("cat pair:pair README.md").code(1));
        assert!(refused.contains("regular file") || refused.contains("plain file"), "{name}: {refused}");
        fs::remove_file(&file).unwrap();
        fs::write(&file, content).unwrap();
    }
}
