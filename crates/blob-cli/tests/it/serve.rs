//! `blob serve` with users, TLS and a description; `blob gc`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{Place, Server, stderr, stdout};

/// ann, whose password is `correct horse`.
const USERS: &str = "ann:$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n";

/// A child that is killed when the test ends.
pub(crate) struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server as `line` says, and gives what it says of itself.
pub(crate) fn started(place: &Place, line: &str) -> (Killed, String) {
    let mut command = place.command(&format!("serve --listen 127.0.0.1:0 {line}"));
    let mut child = Killed(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut text = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut text).unwrap();
    (child, text.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}: {text:?}")).to_owned())
}

#[test]
fn programs_are_told_where_it_listens() {
    let place = Place::offline();
    let mut command = place.command("serve --listen 127.0.0.1:0 -o json");
    let mut child = Killed(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    crate::schema::check("serve", &line);
}

#[test]
fn users_of_the_file_get_in_with_passwords_or_tokens() {
    let place = Place::offline();
    fs::write(place.path("htpasswd"), USERS).unwrap();
    for options in ["", " --tokens"] {
        let (_server, url) = started(&place, &format!("--htpasswd htpasswd{options}"));
        let host = url.strip_prefix("http://").unwrap();
        let line = format!("push -q {host}/team/project:v1 project");
        let known = |password: &str| {
            let mut command = place.command(&line);
            command.env("BLOB_USERNAME", "ann").env("BLOB_PASSWORD", password);
            place.assert(&mut command)
        };
        known("correct horse").success();
        known("wrong").code(4);
        place.run(&line).code(4);
    }
}

#[test]
fn anybody_reads_and_users_write() {
    let place = Place::offline();
    fs::write(place.path("htpasswd"), USERS).unwrap();
    let (_server, url) = started(&place, "--htpasswd htpasswd --anonymous-pull");
    let host = url.strip_prefix("http://").unwrap();
    let mut push = place.command(&format!("push -q {host}/team/project:v1 project"));
    push.env("BLOB_USERNAME", "ann").env("BLOB_PASSWORD", "correct horse");
    place.assert(&mut push).success();
    place.run(&format!("cat {host}/team/project:v1 README.md")).success().stdout_eq("# Sample\n");
    place.run(&format!("push -q {host}/team/project:v2 project")).code(4);
}

#[test]
fn a_description_composes_a_mirror_with_filters() {
    let place = Place::pushed();
    let origin = place.host().to_owned();
    let description = format!(
        "# a mirror\ndirectory: mirror\nread_only: true\nreads: race\nprefix: team\nupstream:\n  - host: {origin}\n    plain_http: true\n"
    );
    fs::write(place.path("registry.yaml"), description).unwrap();
    let (_server, url) = started(&place, "--file registry.yaml");
    let host = url.strip_prefix("http://").unwrap();
    place.run(&format!("cat {host}/project:v1 README.md")).success().stdout_eq("# Sample\n");
    place.run(&format!("push -q {host}/project:v2 project")).failure();
    assert!(place.path("mirror/team/project/_layout/oci-layout").exists(), "it keeps what was read");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let place = Place::offline();
    fs::write(place.path("plain"), "ann:secret\n").unwrap();
    for (content, wanted) in [
        ("listen: nowhere\n", "listen"),
        ("unknown: 1\n", "unknown field `unknown`"),
        ("auth: {}\n", "names no htpasswd file"),
        ("auth: {htpasswd: absent}\n", "absent"),
        ("auth: {htpasswd: plain}\n", "line 1: the hash is not bcrypt"),
        ("tls: {certificate: plain, key: plain}\n", "expected certificates in PEM form"),
        ("tls: {certificate: plain}\n", "key"),
        ("read_only: true\nlistne: 1\n", "registry.yaml:2:1: unknown field `listne`"),
        ("read_only: maybe\n", "registry.yaml:1:12: "),
        ("prefix: UPPER\n", "prefix \"UPPER\""),
        ("gc: {every_seconds: 60}\n", "gc needs a directory"),
        ("gc: {every_seconds: 0}\n", "every_seconds"),
        ("limits: {idle_seconds: 0}\n", "0 seconds"),
        ("auth: {anonymous_pull: true, rules: [{users: [], repositories: [], allow: []}]}\n", "names no users"),
    ] {
        fs::write(place.path("registry.yaml"), content).unwrap();
        let failed = place.run("serve --listen 127.0.0.1:0 --file registry.yaml").code(2);
        assert!(stderr(&failed).contains(wanted), "{content}: {}", stderr(&failed));
        assert!(!stderr(&failed).contains("secret"), "{}", stderr(&failed));
    }
    place.run("serve --file absent.yaml").failure();
    place.run("serve --tls-cert cert.pem").code(2);
}

#[test]
fn garbage_is_collected() {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    fs::write(place.path("project/README.md"), "# Changed\n").unwrap();
    place.run("push -q oci:layout:v1 project").success();
    // Both manifests are there, and each needs its blobs.
    place
        .run("gc oci:layout --grace 0s")
        .success()
        .stdout_eq("Removed 0 blobs, freed 0\n  Kept: 7, and 0 too young to go\n");
    let dry = stdout(&place.run("gc layout --grace 0s --untagged --dry-run -o json").success());
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!((dry["removed"].as_array().map(Vec::len), &dry["kept"]), (Some(3), &4.into()), "{dry}");
    let young = stdout(&place.run("gc layout --untagged").success());
    assert!(young.starts_with("Removed 0 blobs"), "{young}");
    let text = stdout(&place.run("gc layout --grace 0s --untagged").success());
    assert!(text.starts_with("Removed 3 blobs, freed "), "{text}");
    place.run("cat oci:layout:v1 README.md").success().stdout_eq("# Changed\n");
    place.run("gc absent").code(3);
    place.run("gc layout --grace 5").success();
    place.run("gc layout --grace 5w").code(2);
}

/// What a disk did is found, taken out of the way and mended; a repository that cannot be read does not keep the others.
#[test]
fn damage_in_a_registry_is_found_and_mended_and_others_are_collected() {
    let place = Place::offline();
    let store = place.path("store");
    let server = Server::start(&["--root", store.to_str().unwrap(), "--verify"]);
    let push = |name: &str| place.run(&format!("push -q --recheck --reproducible {}/{name}:v1 project", server.addr));
    push("team/a").success();
    push("zzz").success();
    place.run("gc store --verify").success();
    let blobs = store.join("team/a/_layout/blobs/sha256");
    let manifest = fs::read_dir(&blobs).unwrap().find_map(|entry| {
        let manifest: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).ok()?;
        manifest["layers"].is_array().then_some(manifest)
    });
    let digest = manifest.unwrap()["layers"][1]["digest"].as_str().unwrap().to_owned();
    let data = blobs.join(digest.strip_prefix("sha256:").unwrap());
    let mut bytes = fs::read(&data).unwrap();
    bytes[7] ^= 1;
    fs::write(&data, bytes).unwrap();
    let failed = place.run("gc store --verify").code(7);
    assert!(stdout(&failed).contains(&format!("Damaged: {digest}")), "{}", stdout(&failed));
    assert!(stderr(&failed).contains("1 blob of damaged content"), "{}", stderr(&failed));
    place.run(&format!("cat {}/team/a:v1 README.md", server.addr)).failure();
    push("team/a").success();
    place.run(&format!("pull -q {}/team/a:v1 out", server.addr)).success();

    fs::write(store.join("team/a/_layout/index.json"), "{").unwrap();
    let failed = place.run("gc store --grace 0s -o json").code(8);
    let report: Value = serde_json::from_str(&stdout(&failed)).unwrap();
    assert_eq!(report["uncollected"][0]["repository"], "team/a", "{report}");
    assert!(report["kept"].as_u64().unwrap() > 0, "the other one was looked at: {report}");
    assert!(stderr(&failed).contains("team/a"), "{}", stderr(&failed));
}

#[test]
fn a_served_directory_is_collected() {
    let place = Place::offline();
    let root = place.path("registry");
    let server = Server::start(&["--root", root.to_str().unwrap()]);
    place.run(&format!("push -q {}/team/project:v1 project", server.addr)).success();
    let text = stdout(&place.run("gc registry --grace 0s").success());
    assert!(text.starts_with("Removed 0 blobs"), "{text}");
    place.run(&format!("cat {}/team/project:v1 README.md", server.addr)).success().stdout_eq("# Sample\n");
}
