//! The cache of the command: what it saves, how it is looked after, and that it never stands in the way.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Place, stderr, stdout};

fn said(place: &Place, line: &str) -> String {
    stdout(&place.run(line).success())
}

fn finds(place: &Place, line: &str, wanted: &[&str]) {
    let text = said(place, line);
    for wanted in wanted {
        assert!(text.contains(wanted), "{line}: {wanted:?} is not in {text}");
    }
}

fn refused(place: &Place, line: &str, code: i32, wanted: &str) {
    let failed = place.run(line).code(code);
    assert!(stderr(&failed).contains(wanted), "{line}: {}", stderr(&failed));
}

/// The project with a file that is larger than what is fetched around a small one.
fn with_large() -> Place {
    let place = Place::served();
    let noise = (0..60_000_u64).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    fs::write(place.path("project/large"), noise.collect::<Vec<u8>>()).unwrap();
    place.run("push -q HOST/team/project:v1 project").success();
    place
}

const EMPTY: [&str; 2] = ["\"total_size\": 0", "\"total_files\": 0"];

#[test]
fn what_is_kept_is_listed_and_cleared() {
    let place = Place::served();
    finds(&place, "cache status", &["Cache directory: ", "0 files", "Total: 0 (0 files)"]);
    let kinds = ["/home/.cache/blob\n", "content:", "blocks:", "refs:", "manifests:", "indexes:"];
    finds(&place, "cache path", &kinds);
    let keys =
        ["\"root\": ", "\"paths\": ", "\"content\":", "\"blocks\":", "\"refs\":", "\"manifests\":", "\"indexes\":"];
    finds(&place, "cache path --output json", &keys);
    finds(&place, "cache status --output json", &["\"root\": ", "\"caches\": ", EMPTY[0], EMPTY[1]]);

    finds(&place, "push HOST/a/b:v1 project", &["Pushed"]);
    finds(&place, "pull HOST/a/b:v1 out", &["Pulled"]);
    let status = said(&place, "cache status --output json");
    assert!(status.contains("\"enabled\": true") && !status.contains(EMPTY[1]), "{status}");
    let order: Vec<usize> = ["content", "blocks", "refs", "manifests", "indexes"]
        .map(|name| status.find(&format!("\"name\": \"{name}\"")).unwrap())
        .into();
    assert!(order.is_sorted(), "{status}");
    finds(&place, "--no-cache cache status", &["(disabled)"]);

    for kind in ["indexes", "content", "manifests", "refs", "blocks"] {
        finds(&place, &format!("cache clear {kind} --force"), &["Cleared", &format!("  - {kind}\n")]);
        finds(&place, "cache status -o json", &[&format!("\"name\": \"{kind}\"")]);
    }
    finds(&place, "cache status", &["Total: 0 (0 files)"]);
    finds(&place, "pull HOST/a/b:v1 again", &["Pulled"]);
    finds(
        &place,
        "cache clear --force",
        &["Cleared", "  - content\n  - blocks\n  - refs\n  - manifests\n  - indexes\n"],
    );
    finds(&place, "cache status --output json", &EMPTY);
    let keys = ["\"cleared\": ", "\"total_size_cleared\": 0", "\"total_files_cleared\": 0"];
    finds(&place, "cache clear --force --output json", &keys);
}

#[test]
fn clearing_asks_unless_told_otherwise() {
    let place = Place::pushed();
    said(&place, "cat HOST/team/project:v1 README.md");
    refused(&place, "cache clear --output json", 2, "--force required when using --output json");
    let valid = "invalid cache type \"x\", valid types: content, blocks, refs, manifests, indexes, all";
    refused(&place, "cache clear x --force", 2, valid);
    // Nobody answers, or somebody does.
    let asked = place.run("cache clear").success();
    assert!(stdout(&asked).starts_with("Clear all caches? ("), "{}", stdout(&asked));
    assert_eq!(stderr(&asked), "Canceled.\n");
    assert!(!said(&place, "cache status").contains("Total: 0"));
    let mut child = place.command("cache clear").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"y\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("[y/N]: Cleared "), "{output:?}");
    finds(&place, "cache status", &["Total: 0 (0 files)"]);
}

#[test]
fn what_is_cached_costs_no_request() {
    let place = with_large();
    let requests = |line: &str| {
        let text = stderr(&place.run(line).success());
        text.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let cat = "cat --stats HOST/team/project:v1 README.md";
    assert!(requests(cat) > 0);
    assert_eq!(requests(cat), 0);
    for line in [&format!("{cat} --skip-cache"), &format!("--no-cache {cat}"), &format!("--cache-dir other {cat}")] {
        assert!(requests(line) > 0, "{line}");
    }
    assert!(place.path("other/blob-cache.json").exists());
    assert!(requests("pull --stats HOST/team/project:v1 one") > 0);
    assert_eq!(requests("pull --stats HOST/team/project:v1 two"), 0);
    assert_eq!(place.listing("one"), place.listing("two"));
    for line in ["ls --skip-cache HOST/team/project:v1", "tree --skip-cache HOST/team/project:v1"] {
        said(&place, line);
    }
    said(&place, "inspect --skip-cache HOST/team/project:v1");
    said(&place, "cp --skip-cache HOST/team/project:v1:/README.md copied");
}

#[test]
fn offline_answers_from_the_cache_or_says_what_is_missing() {
    let place = with_large();
    refused(&place, "--offline cat HOST/team/project:v2 README.md", 5, "offline: the cache does not have its manifest");
    said(&place, "cat HOST/team/project:v1 README.md");
    finds(&place, "--offline cat HOST/team/project:v1 README.md", &["# Sample"]);
    finds(&place, "--offline ls HOST/team/project:v1", &["README.md"]);
    refused(&place, "--offline pull HOST/team/project:v1 out", 5, "offline");
    assert!(!place.path("out").exists());
    refused(&place, "--offline tags HOST/team/project", 5, "hint: run it once without --offline");
    refused(&place, "--offline --no-cache ls HOST/team/project:v1", 2, "nothing to answer from");
}

#[test]
fn damage_is_found_and_the_cache_can_be_made_smaller() {
    let place = Place::pushed();
    said(&place, "pull HOST/team/project:v1 out");
    finds(&place, "cache verify", &[": 0 damaged and dropped"]);
    let shards = place.path("home/.cache/blob/content-v1/sha256");
    let entry = place.listing("home/.cache/blob/content-v1/sha256").into_iter().find(|name| !name.ends_with('/'));
    fs::write(shards.join(entry.unwrap()), "something else").unwrap();
    finds(&place, "cache verify -o json", &["\"dropped\": 1"]);
    finds(&place, "cache prune", &["Freed 0\n"]);
    finds(&place, "cache prune --max 0", &["Left: 0 (0 files)"]);
}

#[test]
fn a_directory_that_cannot_be_used_is_warned_about_or_refused() {
    let place = Place::pushed();
    let line = "cat HOST/team/project:v1 README.md";
    // The directory of somebody else.
    let mut command = place.command(line);
    fs::create_dir_all(place.path("theirs/blob")).unwrap();
    fs::write(place.path("theirs/blob/thesis.txt"), "three years").unwrap();
    let warned = place.assert(command.env("XDG_CACHE_HOME", place.path("theirs"))).success();
    assert!(stdout(&warned).contains("# Sample") && stderr(&warned).contains("going on without a cache"));
    assert_eq!(place.listing("theirs/blob"), ["thesis.txt"]);
    let mut command = place.command(line);
    let refused = place.assert(command.env("BLOB_CACHE_DIR", place.path("theirs/blob"))).code(2);
    assert!(stderr(&refused).contains("cannot use the cache directory"), "{}", stderr(&refused));
    assert_eq!(place.listing("theirs/blob"), ["thesis.txt"]);
}
