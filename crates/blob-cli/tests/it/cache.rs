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
    // Who wants to hear less is asked all the same.
    assert_eq!(stderr(&place.run("-q cache clear").success()), "Canceled.\n");
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
    refused(&place, "--offline tags HOST/team/project", 5, "hint: this asks the registry itself");
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
    finds(&place, "cache verify --dry-run", &[": 1 damaged, which would be dropped\n"]);
    finds(&place, "cache verify --dry-run -q", &[": 1 damaged, which would be dropped\n"]);
    finds(&place, "cache verify --dry-run -o json", &["\"dropped\": 1", "\"dry_run\": true"]);
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

/// Every file below `root`, with its content and the time at which it was written.
fn contents(root: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>, std::time::SystemTime)> {
    let (mut pending, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let content = if meta.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        found.push((path, content, meta.modified().unwrap()));
    }
    found.sort();
    found
}

#[test]
fn the_cache_of_a_newer_program_is_left_alone_and_does_without() {
    let place = with_large();
    said(&place, "cat HOST/team/project:v1 README.md");
    let root = place.path("home/.cache/blob");
    fs::write(root.join("blob-cache.json"), "{\"format\":\"blob-cache\",\"version\":2}\n").unwrap();
    let before = contents(&root);
    let line = "cat HOST/team/project:v1 README.md";
    let lines = [
        line.to_owned(),
        format!("--cache-dir {} {line}", root.display()),
        "pull HOST/team/project:v1 out".to_owned(),
        "push HOST/team/project:v2 project".to_owned(),
        "cp HOST/team/project:v1:/README.md copied".to_owned(),
        "inspect HOST/team/project:v1".to_owned(),
    ];
    for line in lines {
        let done = place.run(&line).success();
        let told = stderr(&done);
        let warnings = told.lines().filter(|line| line.contains("has version 2, this program knows versions up to 1"));
        assert_eq!(warnings.count(), 1, "{line}: {told}");
        assert!(contents(&root) == before, "{line} changed the cache");
    }
    let mut command = place.command(line);
    let done = place.assert(command.env("BLOB_CACHE_DIR", &root)).success();
    assert!(stdout(&done).contains("# Sample"));
    // Looking after it is another matter.
    for line in ["cache status", "cache clear --force", "cache prune --max 0", "cache verify"] {
        refused(&place, line, 2, "cannot use the cache directory");
    }
    assert!(contents(&root) == before, "looking after it changed the cache");
}

#[test]
fn caps_layers_and_times_can_be_chosen() {
    let place = with_large();
    let requests = |line: &str| {
        let text = stderr(&place.run(line).success());
        text.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let cat = "cat --stats HOST/team/project:v1 README.md";
    assert!(requests(cat) > 0);
    // Only the tag is asked for: the manifest that it names is known.
    assert_eq!(requests(&format!("{cat} --tag-ttl 0")), 1);
    assert_eq!(requests(&format!("{cat} --cache-without refs")), 1);
    assert_eq!(requests(&format!("{cat} --tag-ttl 1h")), 0);
    assert!(requests(&format!("{cat} --cache-dir small --cache-max 0")) > 0);
    finds(&place, "cache status --cache-dir small", &["Total: 0 (0 files)"]);
    said(
        &place,
        "pull HOST/team/project:v1 out --cache-dir some --cache-without content,blocks --cache-layer-max refs=0",
    );
    let status = "--cache-max 1G --cache-layer-max content=1M --cache-without refs cache status";
    finds(
        &place,
        &format!("{status} --cache-dir some -o json"),
        &["\"max_size\": 1073741824", "\"max_size\": 1048576"],
    );
    let text = said(&place, &format!("{status} --cache-dir some"));
    for (kind, expected) in [("content", "0  "), ("blocks", "0  "), ("refs", "(disabled)"), ("manifests", "1 files")] {
        let line = text.lines().find(|line| line.trim_start().starts_with(kind)).unwrap();
        assert!(line.contains(expected), "{text}");
    }
    let mut command = place.command("cache status -o json");
    let variables = [("BLOB_CACHE_MAX", "2G"), ("BLOB_CACHE_LAYER_MAX", "blocks=3M,refs=4K"), ("BLOB_TAG_TTL", "1d")];
    let told = stdout(&place.assert(command.envs(variables)).success());
    for wanted in ["2147483648", "3145728", "4096"] {
        assert!(told.contains(&format!("\"max_size\": {wanted}")), "{told}");
    }
    refused(&place, "cache status --tag-ttl soon", 2, "is not a time");
    refused(&place, "cache status --cache-layer-max files=1G", 2, "none of content, blocks, refs, manifests, indexes");
    refused(&place, "cache status --cache-without tags", 2, "none of content");
}

#[test]
fn a_pull_links_to_the_cache_when_asked() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::pushed();
    said(&place, "pull HOST/team/project:v1 one");
    // What was written this very moment is served from memory.
    std::thread::sleep(std::time::Duration::from_millis(200));
    finds(&place, "pull HOST/team/project:v1 two --link-mode hardlink", &["  Linked: 5, read-only\n"]);
    let linked = fs::metadata(place.path("two/README.md")).unwrap();
    assert_eq!((linked.nlink(), linked.mode() & 0o222), (2, 0));
    finds(&place, "pull HOST/team/project:v1 three --link-mode hardlink", &["  Linked: 5, read-only\n"]);
    let script = fs::metadata(place.path("two/run.sh")).unwrap();
    assert_eq!((script.nlink(), script.mode() & 0o777), (1, 0o755), "what is executable is copied");
    // Somebody edits a linked file: the cache notices, and answers with what is right.
    fs::set_permissions(place.path("two/README.md"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(place.path("two/README.md"), "# Edited\n").unwrap();
    finds(&place, "cat HOST/team/project:v1 README.md", &["# Sample\n"]);
    refused(&place, "pull HOST/team/project:v1 two", 1, "1 file exists already and differs");
    let text = said(&place, "pull HOST/team/project:v1 two --update -o json");
    assert!(text.contains("\"file_count\": 1,") && text.contains("\"kept_count\": 8,"), "{text}");
    assert_eq!(fs::read_to_string(place.path("two/README.md")).unwrap(), "# Sample\n");
}

/// How many processes, and how often: a sample, or `BLOB_SWEEP=full` as `cargo xtask sweep` has it.
fn crowd() -> (usize, usize) {
    if std::env::var_os("BLOB_SWEEP").is_some_and(|sweep| sweep == "full") { (64, 100) } else { (6, 2) }
}

/// Requests and bytes of a command that printed them.
fn traffic(stderr: &[u8]) -> (u64, u64) {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().find(|line| line.contains(" bytes")).unwrap_or_else(|| panic!("{text}"));
    let numbers: Vec<u64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

#[test]
fn processes_that_want_the_same_fetch_it_once_and_share_a_destination() {
    let place = Place::served();
    let mut state = 7_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(length)
        .collect()
    };
    fs::write(place.path("project/large"), noise(9 << 20)).unwrap();
    for number in 0..40 {
        fs::write(place.path(format!("project/{number}")), noise(5000)).unwrap();
    }
    place.run("push -q HOST/team/project:v1 project").success();
    let alone = place.run("pull --stats --cache-dir alone HOST/team/project:v1 one").success();
    let (_, alone) = traffic(&alone.get_output().stderr);
    let (processes, rounds) = crowd();
    let (mut most, mut requests) = (0, 0);
    for round in 0..rounds {
        let line = format!("pull --stats --cache-dir crowd-{round} HOST/team/project:v1 all-{round}");
        let start = |_| place.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let children: Vec<_> = (0..processes).map(start).collect();
        let mut bytes = 0;
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
            let (asked, received) = traffic(&output.stderr);
            (bytes, requests) = (bytes + received, requests + asked);
        }
        assert!(bytes * 10 <= alone * 11, "round {round}: {bytes} bytes for {processes} processes, {alone} for one");
        most = most.max(bytes);
        assert_eq!(place.listing(&format!("all-{round}")), place.listing("one"));
        let same =
            fs::read(place.path(format!("all-{round}/large"))).unwrap() == fs::read(place.path("one/large")).unwrap();
        assert!(same, "round {round}");
        fs::remove_dir_all(place.path(format!("all-{round}"))).unwrap();
        fs::remove_dir_all(place.path(format!("crowd-{round}"))).unwrap();
    }
    let _ = writeln!(
        std::io::stdout(),
        "{processes} processes x {rounds} rounds: 0 failures, at most {most} bytes a round where one needs {alone}, {requests} requests"
    );
}

/// Deletes what is at `path` of the registry.
fn delete(place: &Place, path: &str) {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(place.host()).unwrap();
    write!(stream, "DELETE {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", place.host()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

#[test]
fn what_a_remembered_tag_named_may_be_gone_and_nothing_fails() {
    let place = Place::pushed();
    let inspected = || -> serde_json::Value {
        serde_json::from_str(&said(&place, "--no-cache inspect -o json HOST/team/project:v1")).unwrap()
    };
    let digests = |value: &serde_json::Value| {
        let text = |pointer: &str| value.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (text("/digest"), text("/data/digest"))
    };
    for (line, wanted) in [
        ("cat HOST/team/project:v1 README.md", "newer 0\n"),
        ("pull HOST/team/project:v1 copy", "Pulled"),
        ("cat --offline HOST/team/project:v1 README.md", "newer 1\n"),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, (line, wanted))| {
        // The tag is remembered; then somebody else moves it, and what it named is cleared away.
        if !line.contains("--offline") {
            said(&place, "ls HOST/team/project:v1");
            let (manifest, data) = digests(&inspected());
            fs::write(place.path("project/README.md"), format!("newer {at}\n")).unwrap();
            said(&place, "--no-cache push -q HOST/team/project:v1 project");
            said(&place, "cache clear content --force");
            said(&place, "cache clear blocks --force");
            delete(&place, &format!("/v2/team/project/manifests/{manifest}"));
            delete(&place, &format!("/v2/team/project/blobs/{data}"));
        }
        (line, wanted)
    }) {
        let done = place.run(line).success();
        assert!(stdout(&done).contains(wanted), "{line}: {}", stdout(&done));
        let gone = "what the cache remembers of the tag is gone";
        assert_eq!(stderr(&done).contains(gone), !line.contains("--offline"), "{line}: {}", stderr(&done));
    }
    assert_eq!(fs::read_to_string(place.path("copy/README.md")).unwrap(), "newer 1\n");
    // What may be out already must not come twice: that is said, and the next try is right.
    for (at, line) in ["export HOST/team/project:v1", "pull HOST/team/project:v1 copy"].into_iter().enumerate() {
        said(&place, "ls HOST/team/project:v1");
        let (manifest, data) = digests(&inspected());
        fs::write(place.path("project/README.md"), format!("last {at}\n")).unwrap();
        said(&place, "--no-cache push -q HOST/team/project:v1 project");
        said(&place, "cache clear content --force");
        said(&place, "cache clear blocks --force");
        delete(&place, &format!("/v2/team/project/manifests/{manifest}"));
        delete(&place, &format!("/v2/team/project/blobs/{data}"));
        let wanted = if at == 0 { line.to_owned() } else { format!("{line} --overwrite") };
        let failed = place.run(&wanted).code(3);
        assert!(stderr(&failed).contains("so try once more"), "{line}: {}", stderr(&failed));
        assert!(!stderr(&failed).contains("beginning anew"), "{line}: {}", stderr(&failed));
        place.run(&wanted).success();
    }
    assert_eq!(fs::read_to_string(place.path("copy/README.md")).unwrap(), "last 1\n");
}

#[test]
fn what_cannot_be_cleared_is_said_to_be_still_there() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::pushed();
    said(&place, "cat HOST/team/project:v1 README.md");
    let contents = place.path("home/.cache/blob/content-v1/sha256");
    let shard = fs::read_dir(&contents).unwrap().next().unwrap().unwrap().path();
    fs::set_permissions(&shard, fs::Permissions::from_mode(0o500)).unwrap();
    let mut command = place.command("cache clear content --force");
    if fs::metadata(&shard).unwrap().permissions().mode() & 0o200 == 0 && is_root(&shard) {
        // Root may do everything: somebody else asks, to whom the cache belongs then.
        let own = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(place.root.path()).status();
        assert!(own.unwrap().success());
        let copy = place.path("blob");
        assert!(std::process::Command::new("cp").arg(command.get_program()).arg(&copy).status().unwrap().success());
        let mut other = std::process::Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(copy).args(command.get_args());
        place.isolate(&mut other);
        command = other;
    }
    let failed = place.assert(&mut command).code(1);
    assert!(stderr(&failed).contains("1 files (4.0K) are still there"), "{}", stderr(&failed));
    fs::set_permissions(&shard, fs::Permissions::from_mode(0o700)).unwrap();
    finds(&place, "cache clear content --force", &["Cleared 4.0K (1 files)"]);
}

/// Whether modes mean nothing to who runs this.
fn is_root(locked: &std::path::Path) -> bool {
    let probe = locked.join("probe");
    fs::write(&probe, "").is_ok_and(|()| fs::remove_file(probe).is_ok())
}

#[test]
fn what_is_kept_beside_the_cache_is_no_reason_to_refuse_it() {
    let place = Place::pushed();
    // The trust root comes first, from a repository that does not answer.
    let line = "pull HOST/team/project:v1 out --tuf-url http://127.0.0.1:1/ --tuf-root root.json \
                --certificate-identity a@b.c --certificate-oidc-issuer https://issuer.example --retries 0";
    fs::write(place.path("root.json"), r#"{"signed":{"_type":"root"}}"#).unwrap();
    place.run(&line.split_whitespace().collect::<Vec<_>>().join(" ")).failure();
    let read = place.run("cat HOST/team/project:v1 README.md").success();
    assert_eq!(stderr(&read), "");
    assert!(place.path("home/.cache/blob/blob-cache.json").exists());
    // A large push is written down, so that it can go on where it was.
    let noise = (0..1_200_000_u64).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    fs::write(place.path("project/large"), noise.collect::<Vec<u8>>()).unwrap();
    said(&place, "push -q HOST/team/large:v1 project");
    assert!(place.path("home/.cache/blob/uploads-v1").is_dir());
    for damaged in ["blob-cache.json", "CACHEDIR.TAG", "blob-cache.json"] {
        fs::write(place.path("home/.cache/blob").join(damaged), "x").unwrap();
        let read = place.run("cat HOST/team/project:v1 README.md").success();
        assert_eq!(stderr(&read), "", "{damaged}");
    }
}
